/// What can be wrong with a name, a schedule or a model call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No registry entry has this name.
    #[error("no {kind} is called `{name}`")]
    UnknownName {
        /// `sampler`, `schedule` or `profile`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Every name that exists, for the nearest match.
        known: Vec<&'static str>,
    },
    /// A number of steps that no schedule can make.
    #[error("{steps} steps were asked for, expected 1 to {max}")]
    Steps {
        /// The number.
        steps: usize,
        /// The most that are accepted.
        max: usize,
    },
    /// A schedule that does not fit the model's noise levels.
    #[error("schedule `{schedule}` is not made for the noise levels of this model ({space})")]
    Unsuited {
        /// The schedule.
        schedule: &'static str,
        /// The model's [`SigmaSpace`](crate::SigmaSpace).
        space: &'static str,
        /// A schedule that fits.
        instead: &'static str,
    },
    /// The model failed in a way of its own.
    #[error("the model failed at sigma {sigma}")]
    Model {
        /// The noise level of the call.
        sigma: f32,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model returned NaN or infinity.
    #[error("the model returned a value that is not a number at sigma {sigma}")]
    NotFinite {
        /// The noise level of the call.
        sigma: f32,
    },
}
