use core_tensor::Format;

/// Why a quantised tensor can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// A description that is not the JSON which it should be.
    #[error("`{name}` is not the JSON that it should be: {why}")]
    Json {
        /// The tensor that holds it.
        name: String,
        /// What the JSON reader says.
        why: serde_json::Error,
    },
    /// A description that is longer than any.
    #[error("`{name}` has {found} bytes, at most {limit} are read")]
    TooLong {
        /// The tensor that holds it.
        name: String,
        /// Its length.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A kind of four bits that its own description contradicts.
    #[error("its state is of `{found}`, and its name says `{expected}`")]
    Kind {
        /// By the name.
        expected: &'static str,
        /// In the description.
        found: String,
    },
    /// A size of blocks that bitsandbytes does not have.
    #[error("its blocks have {found} weights, expected a power of two from 32 to 4096")]
    BlockSize {
        /// The size.
        found: u64,
    },
    /// A number format that nothing is computed in.
    #[error("its weights are to be `{found}`, expected `float32`, `float16` or `bfloat16`")]
    Dtype {
        /// The format.
        found: String,
    },
    /// Packed weights that are not those of their shape.
    #[error("its shape {shape:?} takes {expected} bytes, and {found} are there")]
    Packed {
        /// The shape in the description.
        shape: Vec<u64>,
        /// Bytes that it takes.
        expected: String,
        /// Bytes that are there.
        found: u64,
    },
    /// A shape in a description of more dimensions than any model's.
    #[error("its state gives it {found} dimensions, at most {limit} are read")]
    Rank {
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A tensor that belongs to it and is not there.
    #[error("`{name}` is missing")]
    Missing {
        /// The tensor.
        name: String,
    },
    /// Scales of four bits without what tells their kind.
    #[error("`{beside}` is there, and of `{}` neither", states.join("` and `"))]
    NoState {
        /// What belongs to it and is there.
        beside: String,
        /// The tensors of which one has to be there.
        states: [String; 2],
    },
    /// Two scales where one belongs.
    #[error("it has two scales, `{}` and `{}`, expected one", names[0], names[1])]
    TwoScales {
        /// The scales.
        names: [String; 2],
    },
    /// A description of another format than its numbers have.
    #[error(
        "`{name}` says that its format is `{found}`, of eight-bit floats `float8_e4m3fn` and `float8_e5m2` are read"
    )]
    Described {
        /// The tensor that holds the description.
        name: String,
        /// The format.
        found: String,
    },
    /// A description of another format than that of the numbers which it describes.
    #[error("`{name}` says that its format is `{said}`, and it is of {found}")]
    Contradicted {
        /// The tensor that holds the description.
        name: String,
        /// The format that it says.
        said: String,
        /// The format of the numbers.
        found: Format,
    },
    /// States of both kinds of four bits.
    #[error("it has two states, `{}` and `{}`, expected one", names[0], names[1])]
    TwoStates {
        /// The states.
        names: [String; 2],
    },
    /// Nested scales without what is added to each.
    #[error("`{name}` has a `nested_blocksize` and no `nested_offset`")]
    NoOffset {
        /// The tensor that holds the state.
        name: String,
    },
    /// A matrix whose last byte is half empty.
    #[error("its shape {shape:?} has an odd number of weights, expected two for each byte")]
    Odd {
        /// The shape in the description.
        shape: Vec<u64>,
    },
    /// A tensor that belongs to it and does not fit.
    #[error("`{name}` is {shape:?} of {format}, expected {expected}")]
    Companion {
        /// The tensor.
        name: String,
        /// Its format.
        format: Format,
        /// Its shape.
        shape: Vec<usize>,
        /// What fits.
        expected: String,
    },
    /// A table of values that is not its kind's.
    #[error("`{name}` is another table than that of {kind}")]
    Table {
        /// The tensor.
        name: String,
        /// The kind.
        kind: &'static str,
    },
    /// Integers in an order for one generation of GPUs.
    #[error("its integers are laid out for one kind of GPU (weight format {found}), expected rows (0)")]
    Layout {
        /// The number of the layout.
        found: u8,
    },
}
