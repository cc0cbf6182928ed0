//! Files that are all header: the tensors of a published model, whose numbers nobody reads.

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use core_tensor::WeightSource;
use fixtures::Listed;
use serde_json::{Map, json};

/// A file of a list of `fixtures/keys`, as long as the model's, of which the system stores no more than the header.
pub(crate) fn sparse(list: &str, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    sparse_of(list, folder, |_| true)
}

/// The same with the first block of each kind alone, which holds what any other does.
pub(crate) fn shallow(list: &str, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    const BLOCKS: [&str; 3] = ["double_blocks.", "single_blocks.", "encoder.block."]; // Flux's and T5's
    sparse_of(list, folder, |name| {
        let block = BLOCKS.iter().find_map(|blocks| name.strip_prefix(blocks));
        block.is_none_or(|block| block.starts_with("0."))
    })
}

fn sparse_of(list: &str, folder: &Path, keeps: fn(&str) -> bool) -> Result<PathBuf, Box<dyn Error>> {
    let path = folder.join(format!("{list}.safetensors"));
    if path.exists() {
        return Ok(path);
    }
    let listed = Listed::open(list);
    let mut entries = Map::new();
    let mut end = 0u64;
    // The widest numbers first, so that each begins at a multiple of its own width.
    for bytes in [8, 4, 2, 1] {
        let kept = listed.manifest().iter().filter(|(name, _)| keeps(name));
        for (name, form) in kept.filter(|(_, form)| form.format.0.bytes() as u64 == bytes) {
            let start = end;
            end += form.shape.iter().map(|&n| n as u64).product::<u64>() * bytes;
            entries.insert(
                name.to_owned(),
                json!({ "dtype": form.format.0.name(), "shape": form.shape, "data_offsets": [start, end] }),
            );
        }
    }
    let mut header = serde_json::to_vec(&entries)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create_new(&path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    file.set_len(8 + header.len() as u64 + end)?;
    Ok(path)
}
