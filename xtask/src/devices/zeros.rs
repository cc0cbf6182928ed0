//! Models whose numbers are all 0: what is launched, and what memory is taken, does not depend on them.

use std::{collections::BTreeMap, fs::File, io::Write, path::Path};

use serde_json::{Map, json};

use crate::Done;

/// Writes tensors of these shapes in bf16, which take no room on a disk.
pub(super) fn write(shapes: &BTreeMap<String, Vec<usize>>, to: &Path) -> Done {
    let (mut header, mut at) = (Map::new(), 0);
    for (name, shape) in shapes {
        let end = at + 2 * shape.iter().product::<usize>() as u64;
        header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = File::create(to)?;
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    file.set_len(8 + text.len() as u64 + at)?;
    Ok(())
}
