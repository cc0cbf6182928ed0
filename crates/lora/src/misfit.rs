use std::fmt;

/// Why a module's tensors can't be added to a model's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// The model has no such module.
    NoModule {
        /// The module of the model's whose name is the most like it.
        nearest: Option<String>,
    },
    /// A tensor that no algorithm has a use for.
    Unknown,
    /// A tensor that the algorithm needs beside it is missing.
    Incomplete {
        /// Which one.
        missing: &'static str,
    },
    /// It has another shape than the module.
    Shape {
        /// The module of the model.
        module: String,
        /// Its shape.
        expected: Vec<usize>,
        /// That of what would be added.
        found: Vec<usize>,
    },
    /// A tensor beside those of the algorithm that is no part of it.
    Beside {
        /// What of the change the algorithm is.
        algorithm: &'static str,
        /// What the tensor is.
        found: &'static str,
    },
    /// Factors whose product is not the module's.
    Factors {
        /// The module of the model.
        module: String,
        /// Its shape.
        expected: Vec<usize>,
        /// Those of the first factor and of the last.
        found: [Vec<usize>; 2],
    },
    /// A difference of a bias, where the module has none.
    NoBias {
        /// The module of the model.
        module: String,
    },
    /// An `alpha` that is not one number.
    Alpha {
        /// Its shape.
        found: Vec<usize>,
    },
    /// It widens the input of the model, for a control picture.
    Widens {
        /// Inputs that the model has.
        expected: usize,
        /// Inputs that it would have.
        found: usize,
    },
    /// A value that is no number.
    NotFinite,
    /// A number format that nothing can be computed with.
    Format {
        /// Its name.
        found: &'static str,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NoModule { nearest: Some(near) } => {
                write!(f, "the model has no such module; the nearest is `{near}`")
            }
            Self::NoModule { nearest: None } => f.write_str("the model has no such module"),
            Self::Unknown => f.write_str("no tensor of a LoRA that is known"),
            Self::Incomplete { missing } => write!(f, "its `{missing}` is missing"),
            Self::Shape { module, expected, found } => {
                write!(f, "it changes {found:?}, and `{module}` is {expected:?}")
            }
            Self::Beside { algorithm, found } => {
                write!(f, "it has a `{found}` beside {algorithm}, which is no part of that")
            }
            Self::Factors { module, expected, found: [down, up] } => {
                write!(f, "its factors are {down:?} and {up:?}, and `{module}` is {expected:?}")
            }
            Self::NoBias { module } => write!(f, "it changes a bias, and `{module}` has none"),
            Self::Alpha { found } => write!(f, "its `alpha` is {found:?} and not one number"),
            Self::Widens { expected, found } => write!(
                f,
                "it is made for a model with {found} inputs, of which a control picture takes some, and this one has {expected}"
            ),
            Self::NotFinite => f.write_str("it holds a value that is no number"),
            Self::Format { found } => {
                write!(f, "it is stored as {found}, which is no number that a model is computed with")
            }
        }
    }
}
