//! Self-attention guidance: away from what the model sees in a picture that is blurred where its own attention lies (Hong et al. 2022,
//! Improving Sample Quality of Diffusion Models Using Self-Attention Guidance).
//!
//! Reference: ComfyUI comfy_extras/nodes_sag.py, v0.3.64, which Forge's extension has too; without a negative prompt as diffusers has it.

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Latent, Tensor, in_f32, on_host, ops::matmul, tensor};
use samplers::{Denoised, Error};

use super::{
    Method, SHARE, Settings, Span,
    asks::{self, Asking, Asks},
    key,
};
use crate::{Around, Call, Holds, HookError, Hooks, Key, Kind, Memory, Site, Whose, Wrap};

pub(super) const METHOD: Method =
    Method { id: "sag", keys: &[SAG, BLUR, THRESHOLD, FROM, TO], networks: &["unet"], wraps };

const SAG: Key = key("sag", Kind::Number { min: -2.0, max: 5.0 }, "off", "0.5")
    .about("Scale of self-attention guidance")
    .docs("self-attention guidance: how far it goes away from what the model sees where its attention is blurred; costs one call more")
    .flag("sag")
    .label("sag_scale");

const BLUR: Key = key("sag_blur", Kind::Number { min: 0.1, max: 10.0 }, "2", "2.0")
    .about("Standard deviation of self-attention guidance's blur")
    .docs("the standard deviation of the blur, in the latent's pixels")
    .label("sag_blur_sigma");

const THRESHOLD: Key = key("sag_threshold", Kind::Number { min: 0.0, max: 100.0 }, "1", "1.0")
    .about("Attention above which self-attention guidance blurs")
    .docs("how much attention a pixel gets where it is blurred; on the mean it is 1")
    .label("sag_threshold");

const FROM: Key = key("sag_from", SHARE, "0", "0.0")
    .about("Where self-attention guidance begins")
    .docs("the share of the model's time behind which it begins")
    .label("SAG from");

const TO: Key = key("sag_to", SHARE, "1", "1.0")
    .about("Where self-attention guidance ends")
    .docs("the share of the model's time behind which it ends")
    .label("SAG to");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    asks::wraps(Sag {
        scale: settings.number(&SAG).unwrap_or(0.0),
        blur: settings.number(&BLUR).unwrap_or(2.0),
        threshold: settings.number(&THRESHOLD).unwrap_or(1.0),
        seen: Seen { span: Span::of(settings, [&FROM, &TO]), kept: Memory::default() },
    })
}

struct Sag {
    scale: f32,
    blur: f32,
    threshold: f32,
    seen: Seen,
}

/// How much attention each token of the middle gets.
#[derive(Clone)]
struct Seen {
    /// Where anybody wants to know.
    span: Span,
    /// Of the prompt, or the negative one, and of each picture, in the call that was last.
    kept: Memory<BTreeMap<(bool, usize), Vec<f32>>>,
}

/// Whose attention counts: diffusers' `mid_block.attentions[0].transformer_blocks[0].attn1`.
const ATTENTION: Site = Site::layer("unet", "middle_block").inner(0).stream("attn1");

impl Hooks for Seen {
    fn attend(&self, at: Site, call: Option<Call>, [q, k, v]: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, HookError> {
        let asked = call.filter(|call| at == ATTENTION && !call.again && self.span.holds(call.sigma));
        let Some(call) = asked else { return Ok(None) };
        if call.part > 0 {
            return Err("`sag` can't be where pictures are drawn in tiles: it blurs the whole".into());
        }
        let dtype = q.dtype();
        let [_, _, _, d] = q.dims();
        let scores = matmul(in_f32(q.clone()), in_f32(k.clone()).swap_dims(2, 3)) * (d as f32).powf(-0.5);
        let above = (scores.clone() - scores.max_dim(3)).exp();
        let shares = above.clone() / above.sum_dim(3); // b heads queries keys
        let tokens = on_host(&shares.clone().mean_dim(1).sum_dim(2))?;
        self.kept.hold().insert((call.negative, call.picture), tokens);
        Ok(Some(matmul(shares, in_f32(v.clone())).cast(dtype)))
    }
}

/// The side below which there is no room for the blur's edge.
const LEAST: usize = 5; // nodes_sag.py: min(cfg_result.shape[2:]) <= 4
const KERNEL: usize = 9; // the same file: kernel_size

impl Asks for Sag {
    fn begins(&self, at: &Around) {
        self.seen.span.is_in(at.space);
    }

    fn counts(&self, sigma: f32) -> bool {
        self.seen.span.holds(sigma)
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.seen.clone()))
    }

    fn added(&self, asking: &Asking, guided: Latent) -> Result<Latent, Error> {
        let [.., h, w] = guided.0.dims();
        if h.min(w) < LEAST {
            return Ok(guided);
        }
        let Denoised { latent, negative } = &asking.answers;
        let (clean, whose) = match negative {
            Some(negative) => (negative, Whose::Negative),
            None => (latent, Whose::Positive),
        };
        let seen = std::mem::take(&mut *self.seen.kept.hold());
        let blurred = clean.one_by_one(|picture, clean| {
            let attention = seen.get(&(negative.is_some(), picture)).ok_or("`sag` finds no attention in the middle")?;
            self.blurred(clean, attention)
        });
        let blurred = blurred.map_err(|error: HookError| asking.failed(error))?;
        let noised = Latent(blurred.0.clone() + asking.x.0.clone() - clean.0.clone());
        let seen = asking.again.ask(&noised, asking.sigma, whose, &[])?;
        Ok(Latent(guided.0 + (blurred.0 - seen.0) * self.scale))
    }

    fn holds(&self) -> Holds {
        // The picture blurred, and that as noisy as what the model was shown.
        Holds { latents: 2, scores: true, ..Holds::default() }
    }

    fn fork(&self) -> Arc<dyn Asks> {
        Arc::new(Self { seen: Seen { span: self.seen.span.fork(), kept: Memory::default() }, ..*self })
    }
}

impl Sag {
    /// A picture's latent, blurred where its tokens get much attention.
    fn blurred(&self, clean: Tensor<4>, attention: &[f32]) -> Result<Tensor<4>, HookError> {
        let [_, c, h, w] = clean.dims();
        let [rows, columns] =
            grid(attention.len(), [h, w]).ok_or("`sag` can't tell where the tokens of the middle lie")?;
        let values = on_host(&clean)?;
        let blurred: Vec<f32> = values.chunks_exact(h * w).flat_map(|map| blur(map, [h, w], self.blur)).collect();
        let is_seen = |y: usize, x: usize| attention[y * rows / h * columns + x * columns / w] > self.threshold;
        let of_pixel = |at: usize| if is_seen(at / w % h, at % w) { blurred[at] } else { values[at] };
        Ok(tensor((0..c * h * w).map(of_pixel).collect(), [1, c, h, w], &clean.device()))
    }
}

/// Rows and columns of so many tokens over a latent of this height and width: as near as can be to its shape.
fn grid(tokens: usize, [h, w]: [usize; 2]) -> Option<[usize; 2]> {
    let near = (h as f64 / w as f64 * tokens as f64).sqrt().round_ties_even() as usize;
    let away = 0..((tokens as f64).sqrt() / 2.0).floor() as usize;
    // The reference looks no further; a map of less than four tokens has no neighbours to look at.
    let tried = away.flat_map(|i| [near + i, near.saturating_sub(i).max(1)]).chain([near, 1]);
    let rows = tried.filter(|rows| *rows > 0).find(|rows| tokens.is_multiple_of(*rows))?;
    Some([rows, tokens / rows])
}

/// A map blurred by a Gaussian over nine pixels, beyond whose edges it is mirrored.
fn blur(map: &[f32], [h, w]: [usize; 2], sigma: f32) -> Vec<f32> {
    let reach = KERNEL / 2;
    let bell = |i: usize| (-0.5 * ((i as f32 - reach as f32) / sigma).powi(2)).exp();
    let total: f32 = (0..KERNEL).map(bell).sum();
    let weights: Vec<f32> = (0..KERNEL).map(|i| bell(i) / total).collect();
    let mirrored = |at: usize, tap: usize, side: usize| {
        let place = (at + tap).abs_diff(reach);
        if place < side { place } else { 2 * (side - 1) - place }
    };
    let sum = |value: &dyn Fn(usize) -> f32| (0..KERNEL).map(|tap| weights[tap] * value(tap)).sum::<f32>();
    let across: Vec<f32> = (0..h * w).map(|at| sum(&|tap| map[at / w * w + mirrored(at % w, tap, w)])).collect();
    (0..h * w).map(|at| sum(&|tap| across[mirrored(at / w, tap, h) * w + at % w])).collect()
}
