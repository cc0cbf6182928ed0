mod decode_fault;
mod gguf_fault;

use std::path::PathBuf;

pub use self::{decode_fault::DecodeFault, gguf_fault::GgufFault};

/// What can be wrong with a quantised file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read, or is of a kind that [`core_tensor`] reads and has something against.
    #[error(transparent)]
    Tensor(#[from] core_tensor::Error),
    /// A GGUF file that contradicts the format or itself.
    #[error("`{}`, byte {at}: {fault}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where in the file it was found.
        at: u64,
        /// What is wrong.
        fault: Box<GgufFault>,
    },
    /// A quantised tensor that contradicts what belongs to it.
    #[error("tensor `{tensor}` of {source_name} can't be read: {fault}")]
    Decode {
        /// The tensor.
        tensor: String,
        /// Where it lies.
        source_name: String,
        /// What is wrong.
        fault: Box<DecodeFault>,
    },
}

/// A name or another text from a file as a message shows it: whole, or what of a long one tells it from others.
pub(crate) fn abridged(text: &str) -> String {
    const WHOLE: usize = 160;
    const ENDS: [usize; 2] = [100, 50];
    if text.chars().count() <= WHOLE {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(ENDS[0]).collect();
    let end = text.char_indices().rev().nth(ENDS[1] - 1).map_or(text, |(at, _)| &text[at..]);
    format!("{beginning}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_at_either_end_differ_when_they_are_cut() {
        let cases = ["", "double_blocks.0.img_attn.qkv.weight", &"é".repeat(160)];
        cases.iter().for_each(|name| assert_eq!(abridged(name), **name));
        let long = "é".repeat(5_000);
        let names = [long.clone(), format!("a{long}"), format!("{long}a")];
        let shown = names.each_ref().map(|name| abridged(name));
        for (i, name) in shown.iter().enumerate() {
            assert!(name.contains('…') && name.chars().count() == 151, "{name}");
            assert!(!shown[..i].contains(name), "{name}");
        }
    }
}
