//! Noise levels, samplers and schedules: one registry from which names, help, completions and infotext are derived.
//!
//! A [`Sampler`] starts a [`Stepper`], which takes a latent from one sigma to the next and knows of the model nothing but its
//! [`Denoiser`]. A [`Schedule`] spaces the sigmas over a [`SigmaSpace`], which is all it knows of the model. Adding either is
//! one file, its `mod`, and one line of [`SAMPLERS`] or [`SCHEDULES`].

#![warn(missing_docs)]

mod ancestral;
mod churn;
mod error;
mod exploding;
mod interpolation;
pub mod noise;
mod options;
mod past_slopes;
mod phi;
mod prediction;
mod profile;
mod registry;
mod sampler;
mod samplers;
mod schedule;
mod schedules;
mod sigmas;
mod spelling;
mod stochastic;

pub use error::Error;
pub use options::{ENSD, Kind, Options, Param, Value};
pub use prediction::Prediction;
pub use profile::Profile;
pub use registry::{Registry, sampler, sampler_and_schedule, schedule};
pub use sampler::{Calls, Denoised, Denoiser, Noise, OwnLevels, Process, Processes, Sampler, Start, Step, Stepper};
pub use samplers::{ALL as SAMPLERS, euler::SAMPLER as EULER};
pub use schedule::{End, Schedule, Spaces};
pub use schedules::{ALL as SCHEDULES, flux::mu, simple::SCHEDULE as SIMPLE};
pub use sigmas::{SigmaSpace, Sigmas};
