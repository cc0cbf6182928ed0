//! From words to a picture: the story of a job, and the parts that every family of models shares.
//!
//! The story is [`run`]; read that file first. A family implements [`Family`], by which its models are found in files and opened, and
//! [`Model`]; the caller drives the [`Run`] that [`start`] returns, one event at a time.

#![warn(missing_docs)]

mod again;
mod cancel;
mod canvas;
mod catalog;
mod changed;
mod clock;
mod conditioned;
mod conditioning;
mod conditions;
mod encoded;
mod encodings;
mod enlarged;
mod error;
mod event;
pub mod family;
mod finite;
mod from_pictures;
mod given;
mod hires;
mod holds;
mod hooks;
mod host_noise;
mod image;
mod infotext;
mod interpolation;
mod job;
mod keys;
mod method;
pub mod methods;
mod model;
mod models;
mod noise_ahead;
mod per_step;
mod picture_text;
mod places;
mod predictor;
mod prepared;
mod preview;
mod profile;
mod profiles;
mod prompt;
mod prompt_syntax;
mod provenance;
mod raster;
mod refiner;
mod remembered;
mod request;
mod resample;
pub mod run;
mod scripts;
mod site;
mod size;
mod snapshot;
mod start_pictures;
mod text;
mod text_fault;
mod tiff;
mod tiny_names;
mod unwritable;
mod upscaler;
mod vae;
mod vae_names;
mod which;
mod whole_file;
pub mod wrap;
mod writer;

pub use again::{Again, Whose};
pub use cancel::Cancel;
pub use catalog::Catalog;
pub use clock::{Clock, Moment};
pub use conditioned::Conditioned;
pub use conditions::Conditions;
pub use encoded::{Cut, Encoded, Stream};
pub use encodings::Encodings;
pub use error::{Error, Stage};
pub use event::{Event, StepReport};
pub use family::{Family, OpenedModel};
pub use from_pictures::{Area, Fill, FromPictures, Inpaint, Soft, SoftSettings};
pub use hires::{Hires, HiresSize};
pub use holds::Holds;
pub use hooks::{Call, Hooks, Inside, Look};
pub use image::{Image, Likeness, Picture, PictureFormat};
pub use infotext::{Infotext, Reading, parse, render};
pub use interpolation::Interpolation;
pub use job::Job;
pub use keys::{Fallback, Key, Kind, Value};
pub use method::{Method, Settings};
pub use model::{Autoencoder, Card, LatentRgb, Model, Shown};
pub use models::Models;
pub use per_step::{NotPerStep, PerStep, Shape};
pub use picture_text::read_infotext;
pub use predictor::Predictor;
pub use preview::Preview;
pub use profile::{KeptNoise, Profile, ProfileEntry};
pub use prompt::{
    Emphasis, ExtraNetwork, Piece, Prompt, PromptFault, Style, Styles, UnknownEmphasis, Wildcards, chosen, end_weight,
    extra_networks, has_choices,
};
pub use prompt_syntax::{PlainWords, Syntax};
pub use provenance::{Ingredient, Provenance};
pub use raster::{Raster, Resize, read_picture, read_picture_within};
pub use refiner::{RefinedPasses, Refiner};
pub use remembered::Memory;
pub use request::{Txt2Img, Variation};
pub use resample::Filter;
pub use run::{Run, start, start_with};
pub use site::{HookError, Site};
pub use size::Size;
pub use snapshot::Snapshot;
pub use text::{
    Activation, Chunk, Clip, ClipConfig, ClipDimensions, ClipProjection, ClipTokenizer, Embedding, Embeddings, Filling,
    LentEmbeddings, LlamaNames, OpenClipNames, PANEL_ROWS, Row, T5, T5Dimensions, T5Tokenizer, Tokens, chunked,
    filled_heads, joined, tokenizing_bytes, weighted, weighted_together,
};
pub use text_fault::TextFault;
pub use tiny_names::TinyNames;
pub use unwritable::Unwritable;
pub use upscaler::{PixelUpscaler, UnknownUpscaler, Upscaler};
pub use vae::{
    AnyVae, AnyVaeDimensions, AutoencoderKl, LatentScaling, Maps, Posterior, TileCost, TilePlan, TinyAutoencoder,
    TinyDimensions, VaeConfig, VaeDimensions,
};
pub use vae_names::LdmNames;
pub use which::Which;
pub use whole_file::{Abandoned, abandon_begun, check_writable, sweep, write_new, write_passing, write_whole};
pub use wrap::{Applied, Around, Guidance, Origin, Pass, Place, Wrap};
pub use writer::Writer;
