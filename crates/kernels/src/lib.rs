//! The arithmetic that diffusion models spend their time in, on a CPU.
//!
//! Everything here takes slices, shapes and strides, and knows neither tensors nor models. Every operation
//! - takes the [`Isa`] that it shall use first: [`Isa::best`] but in tests, which go through [`Isa::available`];
//! - runs on the current rayon pool, and gives the same bits for any number of threads;
//! - writes each output once, into memory that need not be initialised, and returns that memory as the values it now holds;
//! - looks at every size first, and panics before it writes where a shape has more values than can be counted;
//! - lets NaN through.

#![warn(missing_docs)]
// An index here is a row of registers, of a tile and of memory at once; iterators over one of them would hide the others.
#![allow(clippy::needless_range_loop)]

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod blocks;
mod conv;
mod elementwise;
mod epilogue;
mod exp;
mod huge_pages;
mod integer_product;
mod integers;
mod isa;
mod kept;
mod layout;
mod linear;
mod norm;
mod normal;
mod output;
mod packed;
mod pair;
pub mod peaks;
mod pixels;
mod rope;
mod rows;
mod shares;
mod simd;
mod size;
mod vector;

pub use attention::{Bias, Mask, Scores, attention};
pub use blocks::{Numbers, ReadIntegers, UnpackBlock, choose, each_block, each_integer_block, read_ahead, widen_f16};
pub use conv::{ConvEpilogue, MapOrder, PackedConv, Prologue, conv2d, conv2d_after};
pub use elementwise::{Activation, activate, activate_in_place, add, gated, is_finite, upsample_nearest_2x};
pub use epilogue::Epilogue;
pub use huge_pages::HugePages;
pub use integers::{GROUP, HALF_GROUP, INTEGER_COLUMNS, IntegerMatrix, IntegerSource, Integers, MOST_CODE};
pub use isa::{Isa, Level};
pub use kept::{KEPT_COLUMNS, KeptMatrix, MatrixRef, RowSource};
pub use layout::transpose;
pub use linear::linear;
pub use norm::{Affine, RowNorm, group_norm, layer_norm, rms_norm};
pub use normal::{NORMAL_BLOCK, box_muller};
pub use output::Out;
pub use packed::{Compute, PackedMatrix, Values};
pub use pair::{PackedPair, ScaledPair, WithPair};
pub use pixels::{Affines, join_channels, upsample_pixels_2x};
pub use rope::{Heads, rope};
pub use rows::PackedRows;
