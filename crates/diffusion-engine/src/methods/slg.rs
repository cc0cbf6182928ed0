//! Skip-layer guidance: away from what a transformer sees without some of its blocks.
//!
//! Reference: ComfyUI comfy_extras/nodes_slg.py `SkipLayerGuidanceDiT`, v0.3.64, after Stability's sd3.5.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use core_tensor::{Latent, Tensor};
use samplers::Error;

use super::{
    Method, SHARE, Settings, Span,
    asks::{self, Asking, Asks},
    each, key,
    rescale::deviation,
};
use crate::{Around, Call, HookError, Hooks, Key, Kind, Site, Whose, Wrap};

pub(super) const METHOD: Method =
    Method { id: "slg", keys: &[SLG, DOUBLE, SINGLE, FROM, TO, RESCALE], networks: &["transformer"], wraps };

const SLG: Key = key("slg", Kind::Number { min: 0.0, max: 10.0 }, "off", "3.0")
    .about("Scale of skip-layer guidance")
    .docs("skip-layer guidance: how far it goes away from what the transformer sees without some of its blocks; costs one call more")
    .flag("slg")
    .label("Skip layer guidance");

const DOUBLE: Key = key("slg_double", Kind::Places, "7-9", "\"7-9\"")
    .about("Double blocks that skip-layer guidance skips, from 0")
    .docs("which of `double_blocks` it skips, from 0: numbers and ranges with commas between them, or nothing")
    .label("SLG double layers");

const SINGLE: Key = key("slg_single", Kind::Places, "7-9", "\"7-9\"")
    .about("Single blocks that skip-layer guidance skips, from 0")
    .docs("which of `single_blocks` it skips")
    .label("SLG single layers");

const FROM: Key = key("slg_from", SHARE, "0.01", "0.01")
    .about("Where skip-layer guidance begins")
    .docs("the share of the model's time behind which it begins")
    .label("SLG from");

const TO: Key = key("slg_to", SHARE, "0.15", "0.15")
    .about("Where skip-layer guidance ends")
    .docs("the share of the model's time behind which it ends")
    .label("SLG to");

const RESCALE: Key = key("slg_rescale", SHARE, "0", "0.2")
    .about("Share of contrast taken back from skip-layer guidance")
    .docs("how far the answer is brought back to the standard deviation of the one to the prompt")
    .label("SLG rescale");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let layers = |key| settings.places(key).unwrap_or_else(|| vec![7, 8, 9]);
    asks::wraps(Slg {
        scale: settings.number(&SLG).unwrap_or(0.0),
        skips: Skips { double: layers(&DOUBLE), single: layers(&SINGLE), found: AtomicBool::new(false) },
        span: Span::between(settings.number(&FROM).unwrap_or(0.01), settings.number(&TO).unwrap_or(0.15)),
        rescale: settings.number(&RESCALE).unwrap_or(0.0),
    })
}

struct Slg {
    scale: f32,
    skips: Skips,
    span: Span,
    rescale: f32,
}

struct Skips {
    double: Vec<usize>,
    single: Vec<usize>,
    /// Whether the model has any of them.
    found: AtomicBool,
}

impl Clone for Skips {
    fn clone(&self) -> Self {
        Self { double: self.double.clone(), single: self.single.clone(), found: AtomicBool::new(false) }
    }
}

impl Hooks for Skips {
    fn skips(&self, at: Site, _: Option<Call>) -> Result<bool, HookError> {
        let layers = match at.block {
            "double_blocks" => &self.double,
            "single_blocks" => &self.single,
            _ => return Ok(false),
        };
        let skips = at.index.is_some_and(|index| layers.contains(&index));
        self.found.fetch_or(skips, Relaxed);
        Ok(skips)
    }
}

impl Asks for Slg {
    fn begins(&self, at: &Around) {
        self.span.is_in(at.space);
    }

    fn counts(&self, sigma: f32) -> bool {
        self.span.holds(sigma)
    }

    fn added(&self, asking: &Asking, guided: Latent) -> Result<Latent, Error> {
        let skips = Arc::new(self.skips.clone());
        let hooks: Arc<dyn Hooks> = skips.clone();
        let skipped = asking.again.ask(asking.x, asking.sigma, Whose::Positive, &[hooks])?;
        if !skips.found.load(Relaxed) {
            return Err(asking.failed("`slg` finds none of the blocks in the model that it is to skip"));
        }
        let positive = &asking.answers.latent;
        let latent = Latent(guided.0 + (positive.0.clone() - skipped.0) * self.scale);
        if self.rescale == 0.0 {
            return Ok(latent);
        }
        each([&latent, positive], |[latent, positive]: [Tensor<4>; 2]| {
            let factor = deviation(positive) / deviation(latent.clone()).clamp_min(f32::MIN_POSITIVE);
            Ok(latent * (factor * self.rescale + (1.0 - self.rescale)))
        })
    }

    fn fork(&self) -> Arc<dyn Asks> {
        Arc::new(Self { skips: self.skips.clone(), span: self.span.fork(), ..*self })
    }
}
