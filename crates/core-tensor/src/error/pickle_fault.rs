//! What can be wrong with a file of pickled tensors.

/// Why a file of pickled tensors is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleFault {
    /// The zip archive has no directory that can be read.
    #[error("the archive's directory can't be read: {0}")]
    Directory(rawzip::Error),
    /// The archive's directory counts other entries than it holds.
    #[error("the archive's directory counts {expected} entries and holds {found}")]
    EntryCount {
        /// As counted.
        expected: u64,
        /// As listed.
        found: u64,
    },
    /// Bytes behind what is read.
    #[error("bytes follow the end at {end}")]
    BytesBehind {
        /// Where what is read ends.
        end: u64,
    },
    /// An entry of the archive that is compressed, which PyTorch never writes.
    #[error("entry `{entry}` is compressed by method {method}, and only stored ones are read")]
    Compressed {
        /// Its name.
        entry: String,
        /// As the archive numbers it.
        method: u16,
    },
    /// An encrypted entry.
    #[error("entry `{entry}` is encrypted")]
    Encrypted {
        /// Its name.
        entry: String,
    },
    /// A stored entry of two sizes.
    #[error("entry `{entry}` is stored in {stored} bytes and has {size}")]
    EntrySize {
        /// Its name.
        entry: String,
        /// As they lie in the archive.
        stored: u64,
        /// As they would be unpacked.
        size: u64,
    },
    /// An entry whose name is no path below the archive.
    #[error("entry `{entry}` has a name that is no plain path below the archive")]
    EntryPath {
        /// Its name.
        entry: String,
    },
    /// An entry that has another name where it lies than in the directory.
    #[error("entry `{entry}` is called `{found}` where it lies")]
    EntryRenamed {
        /// As in the directory.
        entry: String,
        /// As before its bytes.
        found: String,
    },
    /// Two entries of one name.
    #[error("entry `{entry}` occurs twice")]
    EntryTwice {
        /// Its name.
        entry: String,
    },
    /// An entry that shares bytes with the next, or with the directory.
    #[error("entry `{entry}` ends at {end}, beyond {limit}, where something else begins")]
    Overlap {
        /// Its name.
        entry: String,
        /// Where it ends.
        end: u64,
        /// Where the next begins.
        limit: u64,
    },
    /// An archive without exactly one `data.pkl` in a folder.
    #[error("the archive has {found} entries called `data.pkl`, expected one")]
    Pickles {
        /// How many there are.
        found: usize,
    },
    /// A model that was saved with its program.
    #[error("it is a TorchScript program, which is never run; save the model's `state_dict`")]
    TorchScript,
    /// Numbers of the other byte order.
    #[error("its numbers are not little-endian")]
    BigEndian,
    /// A pickle beyond the accepted length.
    #[error("the pickle has {found} bytes, at most {limit} are read")]
    TooLong {
        /// Its length.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// No file of `torch.save`, neither of today's format nor of the one before.
    #[error("it is a pickle, but none that `torch.save` writes")]
    NotTorch,
    /// A version of the old format that does not exist.
    #[error("the format's version is not 1001, the only one")]
    Version,
    /// A protocol that is not read.
    #[error("pickle protocol {found}, expected 2 to 5")]
    Protocol {
        /// The number.
        found: u8,
    },
    /// The pickle ends in the middle of something.
    #[error("{needed} bytes are needed, {left} are left")]
    Truncated {
        /// What the next part takes.
        needed: u64,
        /// What is there.
        left: u64,
    },
    /// An opcode that writers of checkpoints have no use for.
    #[error("opcode {byte:#04x}{} is not allowed", name.map_or_else(String::new, |name| format!(" ({name})")))]
    Opcode {
        /// The opcode.
        byte: u8,
        /// Its name, if there is such an opcode.
        name: Option<&'static str>,
    },
    /// A function or class that is not on the list of those that a checkpoint may name.
    #[error("`{module}.{name}` is not allowed; a checkpoint is data, and nothing in it is run")]
    Global {
        /// The Python module, or how it begins.
        module: String,
        /// The name in it, or how it begins.
        name: String,
    },
    /// A class that may be named, and is called here.
    #[error("`{name}` may be named and not called")]
    Called {
        /// Its name.
        name: &'static str,
    },
    /// More is taken from the stack than is on it since the last mark.
    #[error("{opcode} takes more from the stack than there is")]
    Stack {
        /// The opcode.
        opcode: &'static str,
    },
    /// A mark that was never set.
    #[error("{opcode} looks for a mark that is not there")]
    Mark {
        /// The opcode.
        opcode: &'static str,
    },
    /// The pickle ends with more on the stack than its value.
    #[error("the pickle ends with {found} values, expected one")]
    Unfinished {
        /// How many there are.
        found: usize,
    },
    /// A value that was never remembered, or a place that no writer would come to.
    #[error("value {index} was never remembered")]
    Memo {
        /// The place.
        index: u32,
    },
    /// A value of the wrong kind.
    #[error("{opcode} takes {expected}, found {found}")]
    Operand {
        /// The opcode, or what is called.
        opcode: &'static str,
        /// The kind of value that belongs there.
        expected: &'static str,
        /// The kind that is there.
        found: &'static str,
    },
    /// A text that is no UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A whole number that no count of a checkpoint comes to.
    #[error("a whole number of {bytes} bytes, at most 8 are read")]
    LongNumber {
        /// How many.
        bytes: u64,
    },
    /// More values than a checkpoint has.
    #[error("the pickle builds more than {limit} bytes of values")]
    Room {
        /// The limit.
        limit: u64,
    },
    /// A tensor of more dimensions than any model's.
    #[error("a tensor has {found} dimensions, at most {limit} are read")]
    Rank {
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A tensor with as many dimensions as not strides.
    #[error("a tensor has {dims} dimensions and {strides} strides")]
    Strides {
        /// The dimensions.
        dims: usize,
        /// The strides.
        strides: usize,
    },
    /// A dimension, stride or place that is below 0.
    #[error("a tensor's {what} is {found}")]
    Negative {
        /// Which.
        what: &'static str,
        /// The number.
        found: i64,
    },
    /// A tensor that does not lie in its storage.
    #[error(
        "a tensor of shape {shape:?}, strides {strides:?}, from {offset} on leaves its storage of {storage} values"
    )]
    Outside {
        /// Its dimensions.
        shape: Vec<u64>,
        /// Its strides.
        strides: Vec<u64>,
        /// Its first value's place.
        offset: u64,
        /// How many values the storage holds.
        storage: u64,
    },
    /// A tensor of another number format than its storage.
    #[error("a tensor of {tensor} lies in a storage of {storage}")]
    Format {
        /// The tensor's.
        tensor: &'static str,
        /// The storage's.
        storage: &'static str,
    },
    /// A storage of bytes for a tensor that does not say what they are.
    #[error("a tensor has no number format")]
    NoFormat,
    /// A storage that is a part of another, as PyTorch wrote before 1.0.
    #[error("storage `{key}` is a part of another, which is not supported")]
    View {
        /// Its name.
        key: String,
    },
    /// A storage that is not in the file.
    #[error("storage `{key}` is not in the file")]
    NoStorage {
        /// Its name.
        key: String,
    },
    /// A storage that has another size than its tensors say.
    #[error("storage `{key}` has {found} bytes, its tensors say {expected}")]
    StorageSize {
        /// Its name.
        key: String,
        /// As the tensors say.
        expected: u64,
        /// As the file has it.
        found: u64,
    },
    /// A storage whose size is said twice and differently.
    #[error("storage `{key}` has two sizes or number formats")]
    StorageConflict {
        /// Its name.
        key: String,
    },
    /// A storage that occurs twice.
    #[error("storage `{key}` occurs twice")]
    StorageTwice {
        /// Its name.
        key: String,
    },
    /// A name that is longer than any model's.
    #[error("a tensor's name is longer than {limit} bytes, and begins with `{start}`")]
    LongName {
        /// How it begins.
        start: String,
        /// The limit.
        limit: usize,
    },
    /// Dictionaries in dictionaries beyond any model's.
    #[error("dictionaries lie in each other more than {limit} deep")]
    Depth {
        /// The limit.
        limit: usize,
    },
    /// Dictionaries that are shared until they have more entries than the file has bytes.
    #[error("its dictionaries have more than {limit} entries")]
    Entries {
        /// The limit.
        limit: usize,
    },
    /// Something else than a dictionary of tensors.
    #[error("it holds {found}, expected a dictionary of tensors")]
    NoTensors {
        /// What it holds.
        found: &'static str,
    },
}
