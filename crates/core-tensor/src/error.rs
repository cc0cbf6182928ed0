mod pickle_fault;

use std::{io, ops::Range, path::PathBuf};

pub use self::pickle_fault::PickleFault;
use crate::Format;

/// What can be wrong with a file of weights, or with asking it for a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder or a device where a file belongs.
    #[error("`{}` is not a file", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// The file is shorter than what its own first bytes promise.
    #[error("`{}` is truncated: {what} ends at byte {expected}, the file has {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The part that is cut.
        what: &'static str,
        /// Where the part would end.
        expected: u64,
        /// The file's length.
        found: u64,
    },
    /// A header beyond the accepted length.
    #[error("`{}` has a header of {found} bytes, at most {limit} are accepted", path.display())]
    HeaderTooLong {
        /// The file.
        path: PathBuf,
        /// The length in the file.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The header is not the JSON that the format asks for.
    #[error("`{}` has no valid safetensors header", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A name that stands in the header twice, which readers resolve differently.
    #[error("`{}`: `{name}` occurs twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor of more dimensions than any model's.
    #[error("`{}`: tensor `{name}` has more than {limit} dimensions", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A tensor's name that is longer than any model's.
    #[error("`{}`: a tensor's name is longer than {limit} bytes, and begins with `{start}`", path.display())]
    LongName {
        /// The file.
        path: PathBuf,
        /// How the name begins.
        start: String,
        /// The limit.
        limit: usize,
    },
    /// A number format that safetensors does not have.
    #[error("`{}`: tensor `{name}` is stored as `{found}`, which is no number format of safetensors", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the header says, or how it begins.
        found: String,
    },
    /// A file that is not the tensors that PyTorch pickles, or contradicts itself.
    #[error("`{}`, byte {at}: {fault}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Where in the file it was found; 0 where it is a matter of the whole.
        at: u64,
        /// What is wrong.
        fault: PickleFault,
    },
    /// A tensor's byte range contradicts its shape, another tensor, or the file.
    #[error("`{}`: tensor `{name}` {problem}: expected {expected}, found {found}", path.display())]
    Extent {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: &'static str,
        /// What the rest of the header implies.
        expected: u64,
        /// What the header says.
        found: u64,
    },
    /// Shape times element size does not fit in 64 bits.
    #[error("`{}`: tensor `{name}` of shape {shape:?} is larger than any file", path.display())]
    Overflow {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its claimed shape.
        shape: Vec<usize>,
    },
    /// A tensor that the model needs is not there.
    #[error("tensor `{name}` is missing from {source_name}")]
    Missing {
        /// The tensor.
        name: String,
        /// Where it was looked for.
        source_name: String,
    },
    /// Tensors that make up another and can't be one.
    #[error(
        "`{name}` can't be made of {source_name}'s {}: they differ in more than their rows, or are no floats",
        listed(parts)
    )]
    Apart {
        /// The tensor that they make up.
        name: String,
        /// Where they lie.
        source_name: String,
        /// Their names, formats and shapes.
        parts: Vec<(String, Format, Vec<usize>)>,
    },
    /// A tensor has another shape than the model needs.
    #[error("tensor `{name}` of {source_name} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Where it was found.
        source_name: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
    /// A tensor has another number of dimensions than the model needs, or one of 0.
    #[error("tensor `{name}` of {source_name} has shape {found:?}, the model needs {expected} dimensions of 1 or more")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Where it was found.
        source_name: String,
        /// How many the model needs.
        expected: usize,
        /// What the file has.
        found: Vec<usize>,
    },
    /// A number format that is not supported for this tensor.
    #[error("tensor `{name}` of {source_name} is stored as {found}, expected F64, F32, F16 or BF16")]
    Format {
        /// The tensor.
        name: String,
        /// Where it was found.
        source_name: String,
        /// Its format.
        found: Format,
    },
    /// Bytes that are not those of a tensor of this shape.
    #[error("a tensor of shape {shape:?} in {format} takes {}, found {}",
        counted(format.size_of(shape), "no whole number of blocks"), counted(*found, "a range beyond the file"))]
    Size {
        /// The tensor's format.
        format: Format,
        /// Its shape.
        shape: Vec<usize>,
        /// How many bytes there are; `None` where they are not all in the file.
        found: Option<u64>,
    },
    /// A tensor whose rows are no whole number of its format's blocks, where they must be.
    #[error(
        "tensor `{name}` of {source_name} has rows of {weights} weights, which are no whole number of {format}'s blocks of \
         {per_block}"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Where it was found.
        source_name: String,
        /// Its format.
        format: Format,
        /// The weights of a row.
        weights: usize,
        /// The weights of a block.
        per_block: usize,
    },
    /// A branch that does not fit the tensor that it changes.
    #[error("rows {rows:?} of tensor `{name}`, of shape {shape:?}, can't be changed by {found:?}")]
    Branch {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The rows that would change.
        rows: Range<usize>,
        /// The shapes of what would be added.
        found: Vec<Vec<usize>>,
    },
    /// A layer asks for a tensor that its network's layout does not have, or has as another kind.
    #[error("the layout of the network does not have `{name}` as it is loaded")]
    Undeclared {
        /// The tensor.
        name: String,
    },
    /// A part of a tensor was asked for that begins or ends inside of a block.
    #[error("rows of {weights} weights can't be told apart in {format}, whose blocks hold {per_block}")]
    Rows {
        /// The tensor's format.
        format: Format,
        /// The weights of a row.
        weights: usize,
        /// The weights of a block.
        per_block: usize,
    },
    /// A device name that is not understood.
    #[error("no device is called `{name}`, expected `cpu`, `cuda:N`, `vulkan:N` or `vulkan:software`")]
    UnknownDevice {
        /// The name.
        name: String,
    },
    /// A device that this binary was built without.
    #[error("this build has no `{backend}` back end")]
    MissingBackend {
        /// The back end, also the name of the cargo feature that adds it.
        backend: &'static str,
    },
    /// A device that does not compute.
    #[error("the device `{name}` can't be used: {reason}")]
    Device {
        /// Its name.
        name: String,
        /// What its back end says.
        reason: String,
    },
    /// An adapter that computes on the CPU, slower than the CPU itself, and was not asked for as such.
    #[error("the device `{name}` can't be used: it is {adapter}, and no card")]
    SoftwareAdapter {
        /// What was asked for.
        name: String,
        /// What the adapter is.
        adapter: String,
    },
    /// A device whose memory ran out while it computed. It goes on with less.
    #[error("the device ran out of memory: {reason}")]
    DeviceMemory {
        /// What its back end says.
        reason: String,
    },
    /// A device that failed while it computed, such as one that was lost.
    #[error("the device failed while it computed: {reason}")]
    DeviceFault {
        /// What its back end says.
        reason: String,
    },
    /// A stack of more layers than any model has.
    #[error("{source_name} has more than {limit} layers under `{stack}`, the most that are read")]
    TooDeep {
        /// What stands before the layers' numbers.
        stack: String,
        /// Where it was found.
        source_name: String,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// What became of a device's work, as its back end tells it: the cause at the end of a chain.
    pub(crate) fn on_device(error: &dyn std::fmt::Debug) -> Self {
        let reason = cause(&format!("{error:?}"));
        // CubeCL tells some of CUDA's answers by their numbers alone; 2 is CUDA_ERROR_OUT_OF_MEMORY.
        let is_memory = reason.ends_with(" failed with status 2")
            || [
                "OUT_OF_MEMORY",
                "out of device memory",
                "OutOfMemory",
                "reserve pinned memory",
                "can't allocate buffer",
            ]
            .iter()
            .any(|words| reason.contains(words));
        if is_memory { Self::DeviceMemory { reason } } else { Self::DeviceFault { reason } }
    }

    /// Whether it is a device that could not compute, and nothing that was given to it.
    pub fn is_of_device(&self) -> bool {
        matches!(
            self,
            Self::Device { .. } | Self::SoftwareAdapter { .. } | Self::DeviceMemory { .. } | Self::DeviceFault { .. }
        )
    }
}

/// The last cause of those that CubeCL lists one below the other, without the backtraces that it asks for in vain.
fn cause(told: &str) -> String {
    let told = told.replace("\\n", "\n");
    let last = told.rsplit("Caused by:").next().unwrap_or(&told);
    let line = last.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it gives no reason");
    let end = line.char_indices().nth(LONGEST_CAUSE).map_or(line.len(), |(at, _)| at);
    line[..end].to_owned()
}

/// Characters of a cause that are told.
const LONGEST_CAUSE: usize = 300;

/// Tensors as a message shows them.
fn listed(parts: &[(String, Format, Vec<usize>)]) -> String {
    let shown: Vec<_> = parts.iter().map(|(name, format, shape)| format!("`{name}` {format} {shape:?}")).collect();
    shown.join(", ")
}

fn counted(bytes: Option<u64>, otherwise: &str) -> String {
    bytes.map_or_else(|| otherwise.to_owned(), |bytes| format!("{bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_failed_of_is_the_last_of_the_causes_that_its_back_end_lists() {
        let told = |text: &str| Error::on_device(&text.to_owned());
        let chain = |last: &str| {
            format!(
                "Execution(An error happened\nCaused by:\n  Several failures\n  skipped `Kernel`\nCaused by:\n  {last}\nBacktrace:\nNo \
                 backtrace available)"
            )
        };
        for memory in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"x\")",
            "out of device memory allocating 7 bytes",
            "cuEventCreate failed with status 2",
            "Unable to reserve pinned memory",
        ] {
            let Error::DeviceMemory { reason } = told(&chain(memory)) else { panic!("{memory}") };
            assert!(reason.starts_with(&memory[..12]) && !reason.contains("Backtrace"), "{reason}");
        }
        let lost = told(&chain("cuLaunchKernel failed with status 700"));
        assert_eq!(lost.to_string(), "the device failed while it computed: cuLaunchKernel failed with status 700");
        assert!(matches!(told(""), Error::DeviceFault { .. }));
        assert!(told(&"é".repeat(9999)).to_string().chars().count() < 400);
    }
}
