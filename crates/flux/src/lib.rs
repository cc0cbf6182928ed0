//! Flux: a rectified-flow transformer over packed latents, told what to draw by T5 (every token) and CLIP (the whole prompt).
//!
//! [`FluxFamily`] is what Flux is in files, as the engine's [`Family`](diffusion_engine::Family). [`Flux`] puts the parts together as its
//! [`Model`](diffusion_engine::Model); [`Transformer`] is the network.
//! Dimensions and depths are read from the tensors, so the same code runs ten million parameters and twelve billion.

#![warn(missing_docs)]

mod bfl_names;
mod blocks;
mod dimensions;
mod family;
mod habits;
mod knobs;
mod model;
mod preview;
mod schedules;
mod shift;
mod spellings;
mod transformer;
mod work;

pub use bfl_names::BflNames;
pub use dimensions::Dimensions;
pub use family::FluxFamily;
pub use knobs::{GUIDANCE, T5_LENGTH, knobs};
pub use model::{Flux, LATENT_SCALING, PATCH, pack, unpack};
pub use schedules::{mu, register, schedules};
pub use shift::{Line, Shift};
pub use transformer::{Inputs, Transformer, TransformerConfig};
