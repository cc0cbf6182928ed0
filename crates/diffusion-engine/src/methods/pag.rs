//! Perturbed-attention guidance: away from what the model sees where some of its pixels attend to themselves alone (Ahn et al. 2024,
//! Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance, equation 14).
//!
//! References: ComfyUI comfy_extras/nodes_pag.py, v0.3.64, for a UNet; diffusers 0.42 guiders/perturbed_attention_guidance.py and
//! hooks/layer_skip.py (`AttentionScoreSkipFunctionMode`) for a transformer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use core_tensor::{Latent, Tensor};
use samplers::Error;

use super::{
    Method, SHARE, Settings, Span,
    asks::{self, Asking, Asks},
    key,
};
use crate::{Around, Call, HookError, Hooks, Key, Kind, Site, Whose, Wrap};

pub(super) const METHOD: Method =
    Method { id: "pag", keys: &[PAG, BLOCKS, LAYERS, FROM, TO], networks: &["unet", "transformer"], wraps };

const PAG: Key = key("pag", Kind::Number { min: 0.0, max: 100.0 }, "off", "3.0")
    .about("Scale of perturbed-attention guidance")
    .docs("perturbed-attention guidance: how far it goes away from what the model sees without attention among pixels; costs one call more")
    .flag("pag")
    .label("pagi_scale");

const BLOCKS: Key = key(
    "pag_blocks",
    Kind::Choice(&["middle_block", "input_blocks", "output_blocks", "double_blocks", "single_blocks"]),
    "`middle_block` of a UNet, `double_blocks` of a Flux",
    "\"middle_block\"",
)
.about("Stack of blocks whose attention is perturbed")
.docs("the stack of blocks whose attention is perturbed")
.label("PAG blocks");

const LAYERS: Key = key("pag_layers", Kind::Places, "all of a UNet's, 7 to 9 of a Flux", "\"7-9\"")
    .about("Which blocks of that stack, from 0")
    .docs("which blocks of that stack, from 0: numbers and ranges with commas between them")
    .label("PAG layers");

const FROM: Key = key("pag_from", SHARE, "0", "0.0")
    .about("Where perturbed-attention guidance begins")
    .docs("the share of the model's time behind which it begins")
    .label("PAG from");

const TO: Key = key("pag_to", SHARE, "1", "1.0")
    .about("Where perturbed-attention guidance ends")
    .docs("the share of the model's time behind which it ends")
    .label("PAG to");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    asks::wraps(Pag {
        scale: settings.number(&PAG).unwrap_or(0.0),
        perturbs: Perturbs {
            block: settings.name(&BLOCKS).map(str::to_owned),
            layers: settings.places(&LAYERS),
            found: AtomicBool::new(false),
        },
        span: Span::of(settings, [&FROM, &TO]),
    })
}

struct Pag {
    scale: f32,
    perturbs: Perturbs,
    span: Span,
}

/// Which attention is perturbed.
#[derive(Debug, Default)]
struct Perturbs {
    block: Option<String>,
    layers: Option<Vec<usize>>,
    /// Whether the model has any of it.
    found: AtomicBool,
}

impl Clone for Perturbs {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), layers: self.layers.clone(), found: AtomicBool::new(false) }
    }
}

/// The layers of a transformer that are perturbed where nothing is said: ComfyUI comfy_extras/nodes_slg.py, v0.3.64.
const OF_TRANSFORMER: [usize; 3] = [7, 8, 9];

impl Perturbs {
    /// Whether the attention at a place is perturbed.
    fn is_at(&self, at: Site) -> bool {
        let of_unet = at.stream == Some("attn1");
        let block = if of_unet { "middle_block" } else { "double_blocks" };
        if at.block != self.block.as_deref().unwrap_or(block) || (at.stream.is_some() && !of_unet) {
            return false;
        }
        match (&self.layers, at.index) {
            (Some(layers), Some(index)) => layers.contains(&index),
            (None, Some(index)) => of_unet || OF_TRANSFORMER.contains(&index),
            (_, None) => true,
        }
    }
}

impl Hooks for Perturbs {
    /// Where every query sees itself alone, values are what attention makes.
    fn attend(&self, at: Site, _: Option<Call>, [_, _, v]: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, HookError> {
        let is_at = self.is_at(at);
        self.found.fetch_or(is_at, Relaxed);
        Ok(is_at.then(|| v.clone()))
    }
}

impl Asks for Pag {
    fn begins(&self, at: &Around) {
        self.span.is_in(at.space);
    }

    fn counts(&self, sigma: f32) -> bool {
        self.span.holds(sigma)
    }

    fn added(&self, asking: &Asking, guided: Latent) -> Result<Latent, Error> {
        let perturbs = Arc::new(self.perturbs.clone());
        let hooks: Arc<dyn Hooks> = perturbs.clone();
        let perturbed = asking.again.ask(asking.x, asking.sigma, Whose::Positive, &[hooks])?;
        if !perturbs.found.load(Relaxed) {
            return Err(asking.failed("`pag` finds none of the blocks in the model whose attention it is to perturb"));
        }
        Ok(Latent(guided.0 + (asking.answers.latent.0.clone() - perturbed.0) * self.scale))
    }

    fn fork(&self) -> Arc<dyn Asks> {
        Arc::new(Self { scale: self.scale, perturbs: self.perturbs.clone(), span: self.span.fork() })
    }
}
