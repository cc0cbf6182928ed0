/// What can be wrong with a name, a schedule or a model call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No registry entry has this name.
    #[error("no {kind} is called `{name}`")]
    UnknownName {
        /// `sampler`, `schedule`, `option`, or what another crate names.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Every name that exists, for the nearest match.
        known: Vec<String>,
    },
    /// A new registry entry with a name that another has.
    #[error("another {kind} is called `{name}`")]
    TakenName {
        /// `sampler` or `schedule`.
        kind: &'static str,
        /// The name.
        name: String,
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
        schedule: String,
        /// The model's [`SigmaSpace`](crate::SigmaSpace).
        space: &'static str,
        /// A schedule that fits.
        instead: String,
    },
    /// A sampler that is not made for the model's process.
    #[error("sampler `{sampler}` is not made for the noise levels of this model ({space})")]
    UnsuitedSampler {
        /// The sampler.
        sampler: String,
        /// The model's [`SigmaSpace`](crate::SigmaSpace).
        space: &'static str,
        /// A sampler that fits.
        instead: String,
    },
    /// An option's value that is of the wrong kind or out of range.
    #[error("option `{name}`: expected {expected}, found `{found}`")]
    Option {
        /// The option.
        name: String,
        /// What it may be.
        expected: String,
        /// The value that it was given.
        found: String,
    },
    /// Noise levels that do not descend from a model's highest to 0 or above.
    #[error("sigmas: expected {expected}, found {found}")]
    Levels {
        /// What they should be.
        expected: &'static str,
        /// What they are.
        found: String,
    },
    /// A sampler asked for the model without its prompt, and nobody said what that is.
    #[error("the sampler needs the model's answer to the negative prompt")]
    NoNegative,
    /// The model was told to stop.
    #[error("cancelled")]
    Cancelled,
    /// A sampler that chooses its own steps came to no end.
    #[error("sampler `{sampler}` asked the model {max} times and is not done")]
    TooManyCalls {
        /// The sampler.
        sampler: String,
        /// The most that it may ask for one picture.
        max: usize,
    },
    /// A sampler's step returned a latent of another shape than it was given.
    #[error("sampler `{sampler}` made a latent of shape {found:?} from one of {expected:?}")]
    Shape {
        /// The sampler.
        sampler: String,
        /// The shape that went in.
        expected: [usize; 4],
        /// The shape that came out.
        found: [usize; 4],
    },
    /// A sampler failed in a way of its own.
    #[error("sampler `{sampler}` failed")]
    Sampler {
        /// The sampler.
        sampler: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A schedule failed in a way of its own.
    #[error("schedule `{schedule}` failed")]
    Schedule {
        /// The schedule.
        schedule: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
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
