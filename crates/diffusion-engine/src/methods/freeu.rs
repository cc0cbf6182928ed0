//! FreeU: what comes up a UNet's two lowest stretches is strengthened in half of its channels, and the coarsest waves of what comes across
//! to it are weakened (Si et al. 2023, FreeU: Free Lunch in Diffusion U-Net).
//!
//! Reference: ComfyUI comfy_extras/nodes_freelunch.py, v0.3.64, which Forge's extension has too.

use std::sync::Arc;

use core_tensor::{Device, Tensor, in_f32, in_format_of, ops::matmul, tensor};

use super::{Method, SHARE, Settings, Span, key};
use crate::{Around, Call, HookError, Hooks, Key, Kind, Memory, Site, Wrap};

pub(super) const METHOD: Method =
    Method { id: "freeu", keys: &[FREEU, B1, B2, S1, S2, FROM, TO], networks: &["unet"], wraps };

const FREEU: Key = key("freeu", Kind::Choice(&["off", "v1", "v2"]), "off", "\"v2\"")
    .about("FreeU, in its first or its second version")
    .docs(
        "FreeU: strengthens what comes up a UNet and weakens the coarse waves of what comes across, \
         as its first version (`v1`) or its second (`v2`) does",
    )
    .flag("freeu")
    .label("FreeU");

const FACTOR: Kind = Kind::Number { min: 0.0, max: 10.0 };

const B1: Key = key("freeu_b1", FACTOR, "1.3, with `v1` 1.1", "1.3")
    .about("FreeU's factor of what comes up from the lowest blocks")
    .docs("the factor of what comes up where it has four times the channels of the first layer")
    .label("freeu_b1");

const B2: Key = key("freeu_b2", FACTOR, "1.4, with `v1` 1.2", "1.4")
    .about("FreeU's factor of what comes up above those")
    .docs("the same where it has twice the channels")
    .label("freeu_b2");

const S1: Key = key("freeu_s1", FACTOR, "0.9", "0.9")
    .about("FreeU's factor of coarse waves across to the lowest blocks")
    .docs("the factor of the coarsest waves of what comes across to where there are four times the channels")
    .label("freeu_s1");

const S2: Key = key("freeu_s2", FACTOR, "0.2", "0.2")
    .about("FreeU's factor of coarse waves across to those above")
    .docs("the same where there are twice the channels")
    .label("freeu_s2");

const FROM: Key = key("freeu_from", SHARE, "0", "0.0")
    .about("Where FreeU begins")
    .docs("the share of the model's time behind which it begins")
    .label("freeu_start");

const TO: Key = key("freeu_to", SHARE, "1", "1.0")
    .about("Where FreeU ends")
    .docs("the share of the model's time behind which it ends")
    .label("freeu_end");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let second = settings.name(&FREEU) == Some("v2");
    let number = |key, default| settings.number(key).unwrap_or(default);
    let (b1, b2) = if second { (1.3, 1.4) } else { (1.1, 1.2) };
    vec![Arc::new(FreeU {
        second,
        four: Factors { below: number(&B1, b1), skip: number(&S1, 0.9) },
        two: Factors { below: number(&B2, b2), skip: number(&S2, 0.2) },
        span: Span::of(settings, [&FROM, &TO]),
        width: Memory::default(),
    })]
}

#[derive(Clone)]
struct FreeU {
    second: bool,
    /// Where there are four times the first layer's channels.
    four: Factors,
    /// Where there are twice as many.
    two: Factors,
    span: Span,
    /// The first layer's channels.
    width: Memory<usize>,
}

#[derive(Clone, Copy)]
struct Factors {
    below: f32,
    skip: f32,
}

impl Wrap for FreeU {
    fn around(
        &self,
        inner: Box<dyn samplers::Denoiser>,
        at: &Around,
    ) -> Result<Box<dyn samplers::Denoiser>, crate::Error> {
        self.span.is_in(at.space);
        Ok(inner)
    }

    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self { span: self.span.fork(), width: self.width.fork(), ..self.clone() }))
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

impl Hooks for FreeU {
    fn after_map(&self, at: Site, _: Option<Call>, x: Tensor<4>) -> Result<Tensor<4>, HookError> {
        if at == Site::block("unet", "input_blocks", 0) {
            *self.width.hold() = x.dims()[1];
        }
        Ok(x)
    }

    fn join(&self, _: Site, call: Option<Call>, [h, skip]: [Tensor<4>; 2]) -> Result<[Tensor<4>; 2], HookError> {
        let width = *self.width.hold();
        let factors = match h.dims()[1] {
            _ if !self.span.counts(call) || width == 0 => return Ok([h, skip]),
            channels if channels == 4 * width => self.four,
            channels if channels == 2 * width => self.two,
            _ => return Ok([h, skip]),
        };
        Ok([self.strengthened(h, factors.below), waves_scaled(skip, factors.skip)])
    }
}

impl FreeU {
    /// The first half of the channels times a factor: of each pixel its own in the second version, the more the brighter the mean of all
    /// channels is there.
    fn strengthened(&self, h: Tensor<4>, by: f32) -> Tensor<4> {
        let [_, c, ..] = h.dims();
        let (half, other) = (h.clone().narrow(1, 0, c / 2), h.clone().narrow(1, c / 2, c - c / 2));
        let half =
            if self.second { half.clone() * in_format_of(bright(h) * (by - 1.0) + 1.0, &half) } else { half * by };
        Tensor::cat(vec![half, other], 1)
    }
}

/// The mean of all channels, from 0 where it is the least to 1 where it is the most, `[b, 1, h, w]`.
fn bright(h: Tensor<4>) -> Tensor<4> {
    let mean = in_f32(h.mean_dim(1));
    let (most, least) = (mean.clone().max_dim(2).max_dim(3), mean.clone().min_dim(2).min_dim(3));
    (mean - least.clone()) / (most - least).clamp_min(f32::MIN_POSITIVE)
}

/// A map with its waves of the frequencies 0 and -1 in both directions times a factor: those that the reference's window of two by two has.
fn waves_scaled(x: Tensor<4>, by: f32) -> Tensor<4> {
    let [.., h, w] = x.dims();
    let dtype = x.dtype();
    let x = in_f32(x);
    let ([rows, odd_rows], [columns, odd_columns]) = (waves(h, &x.device()), waves(w, &x.device()));
    // The real part of what is left of the map by both, which are symmetric but for the sign of the odd ones.
    let even = matmul(matmul(rows, x.clone()), columns);
    let odd = matmul(matmul(odd_rows, x.clone()), odd_columns);
    (x + (even + odd) * (by - 1.0)).cast(dtype)
}

/// What keeps the waves of frequencies 0 and -1 of a side, its real and its imaginary part, `[1, 1, side, side]`.
fn waves(side: usize, device: &Device) -> [Tensor<4>; 2] {
    let matrix = |of: &dyn Fn(f64) -> f64| {
        let angle = |i: usize, j: usize| std::f64::consts::TAU * (i as f64 - j as f64) / side as f64;
        let values = (0..side * side).map(|at| (of(angle(at / side, at % side)) / side as f64) as f32).collect();
        tensor(values, [1, 1, side, side], device)
    };
    // Of a side of one pixel both are the same.
    if side == 1 { [matrix(&|_| 1.0), matrix(&|_| 0.0)] } else { [matrix(&|a| 1.0 + a.cos()), matrix(&|a| -a.sin())] }
}
