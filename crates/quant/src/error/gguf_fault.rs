/// What is wrong with a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufFault {
    /// Other first bytes than those of the format.
    #[error("the file begins with {found:02x?} and not with `GGUF`")]
    Magic {
        /// The bytes.
        found: [u8; 4],
    },
    /// A file for machines that have the upper byte first.
    #[error("its numbers are big-endian, which is not read")]
    BigEndian,
    /// A version that does not exist, or is no longer written.
    #[error("it has version {found} of GGUF; 2 and 3 are read")]
    Version {
        /// The version.
        found: u32,
    },
    /// One file of several that are a model together.
    #[error("it is file {number} of {of} that are a model together, which `llama-gguf-split --merge` joins")]
    Part {
        /// Which of them, from 1 on.
        number: u64,
        /// How many there are.
        of: u64,
    },
    /// The file ends too early.
    #[error("the file is truncated: {what} needs {needs} bytes, {left} are left")]
    Cut {
        /// What is cut.
        what: &'static str,
        /// Bytes that it takes.
        needs: u64,
        /// Bytes of the file that are left for it.
        left: u64,
    },
    /// More of something than any file has.
    #[error("it claims {found} {what}, at most {limit} are read")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many it claims.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// More of something than the rest of the file has room for.
    #[error("it claims {found} {what}, where there is room for {most}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many it claims.
        found: u64,
        /// How many there can be.
        most: u64,
    },
    /// A text that is not UTF-8.
    #[error("{what} is no text in UTF-8")]
    NotText {
        /// Which text.
        what: &'static str,
    },
    /// A key or a tensor without a name.
    #[error("{what} is empty")]
    NoName {
        /// Which name.
        what: &'static str,
    },
    /// A name longer than any model's.
    #[error("{what} has more than {limit} bytes: `{name}`")]
    LongName {
        /// Which name.
        what: &'static str,
        /// The name, cut.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A type of metadata that does not exist.
    #[error("the metadata `{key}` has type {found}, which does not exist")]
    ValueType {
        /// The key.
        key: String,
        /// The number of the type.
        found: u32,
    },
    /// Lists in lists in lists.
    #[error("the metadata `{key}` has lists inside of lists, more than {limit} deep")]
    Depth {
        /// The key.
        key: String,
        /// The limit.
        limit: u32,
    },
    /// A truth value that is neither.
    #[error("the metadata `{key}` is a truth value of {found}; 0 and 1 are")]
    Truth {
        /// The key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// A key that stands in the metadata twice.
    #[error("the metadata has `{key}` twice")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// Metadata of another type than its key has.
    #[error("the metadata `{key}` is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// An alignment that nothing can be aligned to.
    #[error("`general.alignment` is {found}, expected a power of two from 1 to {limit}")]
    Alignment {
        /// The alignment.
        found: u64,
        /// The largest that is taken.
        limit: u64,
    },
    /// A tensor of more dimensions than any model's.
    #[error("tensor `{name}` has {found} dimensions, at most {limit} are read")]
    Rank {
        /// The tensor.
        name: String,
        /// How many.
        found: u32,
        /// The limit.
        limit: u32,
    },
    /// A tensor of a type that does not exist, or that nothing is read from.
    #[error("tensor `{name}` has type {found}{}", called(*found))]
    Type {
        /// The tensor.
        name: String,
        /// The number of the type.
        found: u32,
    },
    /// A tensor without values.
    #[error("tensor `{name}` of shape {shape:?} has no values")]
    Empty {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Shape times size does not fit in 64 bits.
    #[error("tensor `{name}` of shape {shape:?} is larger than any file")]
    Overflow {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor whose rows are no whole number of blocks.
    #[error(
        "tensor `{name}` has rows of {weights} weights, which are no whole number of {format}'s blocks of {per_block}"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Its format.
        format: &'static str,
        /// The weights of a row.
        weights: u64,
        /// The weights of a block.
        per_block: u64,
    },
    /// A tensor that begins at no multiple of the alignment.
    #[error("tensor `{name}` begins at {offset}, which is no multiple of {alignment}")]
    Unaligned {
        /// The tensor.
        name: String,
        /// Where it begins, behind the header.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor that leaves the file.
    #[error("the file is truncated: tensor `{name}` has {needs} bytes from {offset} on, and {available} are there")]
    Outside {
        /// The tensor.
        name: String,
        /// Where it begins, behind the header.
        offset: u64,
        /// Its size.
        needs: u64,
        /// Bytes behind the header.
        available: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors `{first}` and `{second}` overlap")]
    Overlap {
        /// The one that begins earlier.
        first: String,
        /// The other.
        second: String,
    },
    /// Two tensors of one name.
    #[error("tensor `{name}` occurs twice")]
    TensorTwice {
        /// The tensor.
        name: String,
    },
    /// A shape in the metadata that is not the tensor's.
    #[error("tensor `{name}` has {weights} weights, and `comfy.gguf.orig_shape` says that its shape is {shape:?}")]
    OriginalShape {
        /// The tensor.
        name: String,
        /// Its weights.
        weights: u64,
        /// The shape in the metadata.
        shape: Vec<i128>,
    },
}

/// What a type is called that is known and not read.
fn called(number: u32) -> &'static str {
    match number {
        4 | 5 => ", which ggml no longer has (Q4_2, Q4_3)",
        9 => " (Q8_1), in which no weights are stored",
        31..=33 | 36..=38 => ", weights repacked for one processor, which ggml no longer has",
        41 => " (Q1_0), which is not supported",
        _ => ", which is not known",
    }
}
