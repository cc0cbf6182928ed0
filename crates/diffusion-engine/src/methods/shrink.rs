//! Deep shrink: a UNet's lower blocks see a smaller picture at first, so that what is larger than the network was trained for doesn't repeat
//! itself (kohya-ss 2023, "Kohya HR fix").
//!
//! Reference: ComfyUI comfy_extras/nodes_model_downscale.py, v0.3.64, which Forge's extension has too.

use std::sync::Arc;

use core_tensor::{Latent, Tensor};
use samplers::Denoiser;

use super::{Method, SHARE, SWITCH, Settings, Span, key};
use crate::{Around, Call, HookError, Hooks, Interpolation, Key, Kind, Site, Wrap};

pub(super) const METHOD: Method =
    Method { id: "shrink", keys: &[SHRINK, BLOCK, FROM, TO, AFTER_SKIP, DOWN, UP], networks: &["unet"], wraps };

const SHRINK: Key = key("shrink", Kind::Number { min: 0.0, max: 9.0 }, "off", "2.0")
    .about("Factor that a UNet's lower blocks see the picture smaller by at first")
    .docs(
        "deep shrink, or Kohya's HR fix: the factor by which the UNet's lower blocks see a smaller picture at first, \
         for pictures larger than it was trained for",
    )
    .flag("shrink")
    .label("kohya_hrfix_downscale_factor");

const BLOCK: Key = key("shrink_block", Kind::Whole { min: 1, max: 32, step: 1 }, "3", "3")
    .about("Input block behind which deep shrink begins")
    .docs("the block of the way down behind which the picture is smaller")
    .label("kohya_hrfix_block_number");

const FROM: Key = key("shrink_from", SHARE, "0", "0.0")
    .about("Where deep shrink begins")
    .docs("the share of the model's time behind which it begins")
    .label("kohya_hrfix_start_percent");

const TO: Key = key("shrink_to", SHARE, "0.35", "0.35")
    .about("Where deep shrink ends")
    .docs("the share of the model's time behind which it ends")
    .label("kohya_hrfix_end_percent");

const AFTER_SKIP: Key = key("shrink_after_skip", SWITCH, "on", "\"off\"")
    .about("Whether what goes across keeps its size")
    .docs("`on`: what goes across from that block to the way up keeps its size")
    .label("Shrink after skip");

const METHODS: Kind = Kind::Choice(&["bicubic", "nearest-exact", "bilinear", "area"]);

const DOWN: Key = key("shrink_down", METHODS, "bicubic", "\"area\"")
    .about("How deep shrink makes maps smaller")
    .docs("how maps are made smaller")
    .label("kohya_hrfix_downscale_method");

const UP: Key = key("shrink_up", METHODS, "bicubic", "\"nearest-exact\"")
    .about("How deep shrink makes maps larger again")
    .docs("how they are made larger again")
    .label("kohya_hrfix_upscale_method");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let method = |key| match settings.name(key) {
        Some("nearest-exact") => Interpolation::NearestExact,
        Some("bilinear") => Interpolation::Bilinear,
        Some("area") => Interpolation::Area,
        _ => Interpolation::Bicubic,
    };
    let site = Site::block("unet", "input_blocks", settings.number(&BLOCK).unwrap_or(3.0) as usize);
    let after_skip = settings.name(&AFTER_SKIP).is_none() || settings.is_on(&AFTER_SKIP);
    let span = Span::between(settings.number(&FROM).unwrap_or(0.0), settings.number(&TO).unwrap_or(0.35));
    vec![Arc::new(Shrink {
        by: settings.number(&SHRINK).unwrap_or(1.0),
        at: if after_skip { site.stream("onward") } else { site },
        down: method(&DOWN),
        up: method(&UP),
        span,
    })]
}

#[derive(Clone)]
struct Shrink {
    by: f32,
    /// What becomes smaller.
    at: Site,
    down: Interpolation,
    up: Interpolation,
    span: Span,
}

impl Wrap for Shrink {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        self.span.is_in(at.space);
        Ok(inner)
    }

    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self { span: self.span.fork(), ..self.clone() }))
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

impl Hooks for Shrink {
    fn after_map(&self, at: Site, call: Option<Call>, x: Tensor<4>) -> Result<Tensor<4>, HookError> {
        if at != self.at || !self.span.counts(call) {
            return Ok(x);
        }
        let [.., h, w] = x.dims();
        // As Python rounds: of two that are as near the even one.
        let smaller = |side: usize| (side as f64 / f64::from(self.by)).round_ties_even().max(1.0) as usize;
        resized(self.down, x, [smaller(h), smaller(w)])
    }

    fn join(&self, _: Site, _: Option<Call>, [h, skip]: [Tensor<4>; 2]) -> Result<[Tensor<4>; 2], HookError> {
        let ([.., rows, columns], [.., to_rows, to_columns]) = (h.dims(), skip.dims());
        if [rows, columns] == [to_rows, to_columns] {
            return Ok([h, skip]);
        }
        Ok([resized(self.up, h, [to_rows, to_columns])?, skip])
    }
}

fn resized(how: Interpolation, x: Tensor<4>, size: [usize; 2]) -> Result<Tensor<4>, HookError> {
    let dtype = x.dtype();
    Ok(how.resized(&Latent(x), size)?.0.cast(dtype))
}
