//! Models whose numbers are all 0: what is launched, and what memory is taken, does not depend on them.

use std::{collections::BTreeMap, fs::File, io::Write, path::Path};

use serde_json::{Map, json};

use crate::{
    Done,
    synth::blocks::{ALIGNMENT, Blocks, Listed, header},
};

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

/// Writes the same in a GGUF: matrices whose rows are whole blocks in these blocks, all else in bf16.
pub(super) fn write_gguf(shapes: &BTreeMap<String, Vec<usize>>, blocks: Blocks, to: &Path) -> Done {
    const BF16: (u32, usize, usize) = (30, 1, 2);
    let listed: Vec<_> = shapes
        .iter()
        .map(|(name, shape)| {
            let is_whole = |&(_, per_block, _): &(u32, usize, usize)| {
                shape.len() == 2 && shape.last().is_some_and(|width| width.is_multiple_of(per_block))
            };
            let (number, per_block, size) = Some(blocks.layout()).filter(is_whole).unwrap_or(BF16);
            let bytes = (shape.iter().product::<usize>() / per_block * size) as u64;
            Listed { name, shape, number, bytes }
        })
        .collect();
    let header = header(Some("flux"), &listed);
    let end = listed.iter().map(|listed| listed.bytes.next_multiple_of(ALIGNMENT)).sum::<u64>();
    let mut file = File::create(to)?;
    file.write_all(&header)?;
    file.set_len(header.len() as u64 + end)?;
    Ok(())
}
