//! Stable Diffusion 1.x, 2.x and XL: a UNet over latents of four channels, told what to draw by CLIP text encoders.
//!
//! [`StableDiffusion`] puts the parts together as the engine's [`Model`](diffusion_engine::Model); [`Unet`] is the network.
//! Dimensions and depths are read from the tensors, so that one network runs all of them.

#![warn(missing_docs)]

mod blocks;
mod conditioning;
mod dimensions;
mod edition;
mod family;
mod habits;
mod knobs;
mod model;
mod names;
mod preview;
mod settings;
mod spellings;
mod times;
mod trained;
mod unet;
mod unet_config;
mod unet_memory;

pub use conditioning::TextEncoders;
pub use dimensions::UnetDimensions;
pub use edition::Edition;
pub use family::StableDiffusionFamily;
pub use knobs::{
    AESTHETIC_SCORE, CLIP_SKIP, CROP_LEFT, CROP_TOP, NEGATIVE_AESTHETIC_SCORE, ORIGINAL_HEIGHT, ORIGINAL_WIDTH,
    PREDICTION, TARGET_HEIGHT, TARGET_WIDTH, ZERO_SNR, knobs,
};
pub use model::StableDiffusion;
pub use names::LdmUnetNames;
pub use trained::{ToldBy, Trained, TrainingConfig};
pub use unet::Unet;
pub use unet_config::{PerLevel, UnetConfig};
