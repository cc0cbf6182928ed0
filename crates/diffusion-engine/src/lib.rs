//! From words to a picture: the txt2img story and the parts that every family of models shares.
//!
//! The story is [`txt2img`]; read that file first. A family (Flux, and later Stable Diffusion) implements [`Model`], and the
//! caller drives the [`Run`] that [`start`] returns, one step at a time.

#![warn(missing_docs)]

mod error;
mod guidance;
mod host_noise;
mod image;
mod infotext;
mod model;
mod picture_text;
mod prompt_syntax;
mod request;
mod text;
pub mod txt2img;
mod vae;
mod vae_names;
mod whole_file;

pub use error::{Error, Stage};
pub use guidance::{Checked, Guided};
pub use image::Image;
pub use infotext::{Infotext, Reading, TextFault, Writer, parse, render};
pub use model::{Conditioning, Cut, Model, Size, Tap, no_tap};
pub use picture_text::read_infotext;
pub use prompt_syntax::{PlainWords, Syntax};
pub use request::Txt2Img;
pub use text::{Clip, ClipHints, ClipTokenizer, T5, T5Dimensions, T5Tokenizer};
pub use txt2img::{Run, StepReport, start};
pub use vae::{AutoencoderKl, VaeHints};
pub use vae_names::LdmNames;
pub use whole_file::{Unwritable, check_writable, sweep, write_whole};
