//! Networks that make pictures larger: ESRGAN's dense blocks, Real-ESRGAN's compact network and SwinIR, from the files that people have.
//!
//! [`Upscaler::load`] finds out from a file's names what it holds; [`Upscaler::upscale`] makes a picture larger, in tiles where
//! memory asks for that.

#![warn(missing_docs)]

mod architecture;
mod budgeted;
mod compact;
mod error;
mod lanczos;
mod names;
mod network;
mod rearranged;
mod rrdb;
mod swin_ir;
mod tiles;
mod upscaler;
mod windows;

pub use budgeted::Budgeted;
pub use error::Error;
pub use lanczos::{lanczos, lanczos_bytes};
pub use tiles::{Cost, Lie, Tiles};
pub use upscaler::{Outline, Upscaler};
