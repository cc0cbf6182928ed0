//! Noise levels, samplers and schedules: one registry from which names, help, completions and infotext are derived.
//!
//! A [`Sampler`] starts a [`Stepper`], which takes a latent from one sigma to the next and knows of the model nothing but its
//! [`Denoiser`]. A [`Schedule`] spaces the sigmas over a [`SigmaSpace`], which is all it knows of the model. Adding either is
//! one file, its `mod`, and one line of the list in `samplers.rs` or `schedules.rs`; a program of its own adds them to its [`Registry`].

#![warn(missing_docs)]

mod ancestral;
mod churn;
mod ends;
mod error;
mod exploding;
mod interpolation;
pub mod noise;
mod options;
mod past_slopes;
mod phi;
mod prediction;
mod registry;
mod sampler;
mod samplers;
mod schedule;
mod schedules;
mod sigmas;
mod space;
mod spelling;
mod stepper;
mod stochastic;

pub use error::Error;
pub use options::{ENSD, Kind, Options, Param, Setting, Value};
pub use prediction::Prediction;
pub use registry::Registry;
pub use sampler::{Calls, Processes, Sampler, SamplerEntry, Start};
pub use samplers::{euler::sampler as euler, web_ui::WebUi};
pub use schedule::{End, Schedule, ScheduleEntry, Spaces};
pub use schedules::simple::schedule as simple;
pub use sigmas::Sigmas;
pub use space::{Process, SigmaSpace};
pub use stepper::{Denoised, Denoiser, Noise, Step, Stepper};
