//! Stable Diffusion 1.x, 2.x and XL: a UNet over latents of four channels, told what to draw by CLIP text encoders.
//!
//! Dimensions and depths are read from the tensors, so that one network runs all of them.

#![warn(missing_docs)]

mod blocks;
mod dimensions;
mod names;
mod unet;
mod unet_config;
mod unet_memory;

pub use dimensions::UnetDimensions;
pub use names::LdmUnetNames;
pub use unet::Unet;
pub use unet_config::{PerLevel, UnetConfig};
