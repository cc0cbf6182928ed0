//! Noise levels, samplers and schedules: one registry from which names, help, completions and infotext are derived.
//!
//! A [`Sampler`] starts a [`Stepper`], which takes a latent from one sigma to the next and knows of the model nothing but its
//! [`Denoiser`]. A [`Schedule`] spaces the sigmas over a [`SigmaSpace`], which is all it knows of the model. Adding either is
//! one file, its `mod`, and one line of [`SAMPLERS`] or [`SCHEDULES`].

#![warn(missing_docs)]

mod error;
pub mod noise;
mod profile;
mod registry;
mod sampler;
mod schedule;
mod sigmas;

mod euler;
mod euler_ancestral;

mod flux;
mod simple;

pub use error::Error;
pub use euler::SAMPLER as EULER;
pub use flux::mu;
pub use profile::Profile;
pub use registry::{SAMPLERS, SCHEDULES, sampler, schedule};
pub use sampler::{Denoiser, Noise, Process, Sampler, Step, Stepper};
pub use schedule::Schedule;
pub use sigmas::{SigmaSpace, Sigmas};
pub use simple::SCHEDULE as SIMPLE;
