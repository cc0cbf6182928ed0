//! The list of tensors, and where their bytes lie.

use core_tensor::{Format, Manifest, safetensors::NAME_LIMIT};

use super::{MOST_DIMENSIONS, cursor::Cursor, fault::Placed, metadata::Metadata};
use crate::{GgufFault, error::abridged, formats as f};

/// The least that a tensor takes in the list: the length of its name and a letter, no dimension, type and place.
pub(super) const LEAST: u64 = 8 + 1 + 4 + 4 + 8;

/// The formats that are read, by the numbers of their types (ggml.h, `enum ggml_type`).
const TYPES: [(u32, Format); 32] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, f::Q4_0),
    (3, f::Q4_1),
    (6, f::Q5_0),
    (7, f::Q5_1),
    (8, f::Q8_0),
    (10, f::Q2_K),
    (11, f::Q3_K),
    (12, f::Q4_K),
    (13, f::Q5_K),
    (14, f::Q6_K),
    (15, f::Q8_K),
    (16, f::IQ2_XXS),
    (17, f::IQ2_XS),
    (18, f::IQ3_XXS),
    (19, f::IQ1_S),
    (20, f::IQ4_NL),
    (21, f::IQ3_S),
    (22, f::IQ2_S),
    (23, f::IQ4_XS),
    (24, Format::I8),
    (25, Format::I16),
    (26, Format::I32),
    (27, Format::I64),
    (28, Format::F64),
    (29, f::IQ1_M),
    (30, Format::BF16),
    (34, f::TQ1_0),
    (35, f::TQ2_0),
    (39, f::MXFP4),
    (40, f::NVFP4),
];

/// The format of a type's number; `None` for one that is not read.
fn format(number: u32) -> Option<Format> {
    TYPES.iter().find(|(known, _)| *known == number).map(|(_, format)| *format)
}

/// The number of a format's type; `None` for one that no such file holds.
pub(crate) fn type_number(format: Format) -> Option<u32> {
    TYPES.iter().find(|(_, known)| *known == format).map(|(number, _)| *number)
}

/// A tensor as the list has it.
struct Listed<'b> {
    name: &'b str,
    /// Outermost dimension first, as everywhere here; in the file the innermost is.
    shape: Vec<u64>,
    format: Format,
    /// Behind the header.
    offset: u64,
    size: u64,
    /// Where the list has it.
    at: u64,
}

impl<'b> Listed<'b> {
    fn read(cursor: &mut Cursor<'b>) -> Result<Self, Placed> {
        let at = cursor.at();
        let name = cursor.name("a tensor's name", NAME_LIMIT)?;
        let shown = || abridged(name);
        let rank = cursor.u32("a number of dimensions")?;
        if rank > MOST_DIMENSIONS {
            return Err(GgufFault::Rank { name: shown(), found: rank, limit: MOST_DIMENSIONS }.at(at));
        }
        let mut shape = (0..rank).map(|_| cursor.u64("a dimension")).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let number = cursor.u32("a tensor's type")?;
        let format = format(number).ok_or_else(|| GgufFault::Type { name: shown(), found: number }.at(at))?;
        let offset = cursor.u64("a tensor's place")?;
        if shape.contains(&0) {
            return Err(GgufFault::Empty { name: shown(), shape }.at(at));
        }
        let (row, per_block) = (shape.last().copied().unwrap_or(1), format.weights() as u64);
        if !row.is_multiple_of(per_block) {
            return Err(GgufFault::Blocks { name: shown(), format: format.name(), weights: row, per_block }.at(at));
        }
        let weights = shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        match weights.and_then(|weights| format.size(weights)) {
            Some(size) => Ok(Self { name, shape, format, offset, size, at }),
            None => Err(GgufFault::Overflow { name: shown(), shape }.at(at)),
        }
    }

    /// The shape that the metadata gives back to a tensor that was laid in other rows.
    fn original(&self, metadata: &Metadata, bytes: &[u8]) -> Result<Option<Vec<u64>>, Placed> {
        let Some((shape, at)) = metadata.original_shape(bytes, self.name)? else { return Ok(None) };
        let weights: u64 = self.shape.iter().product();
        let dims: Option<Vec<u64>> = shape.iter().map(|&dim| u64::try_from(dim).ok().filter(|&dim| dim > 0)).collect();
        let is_same = |dims: &Vec<u64>| {
            dims.len() <= MOST_DIMENSIONS as usize
                && dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)) == Some(weights)
        };
        let dims = dims
            .filter(is_same)
            .ok_or_else(|| GgufFault::OriginalShape { name: abridged(self.name), weights, shape }.at(at))?;
        Ok(Some(dims))
    }
}

/// Reads so many tensors, of whose names and dimensions the cursor stands before the first.
pub(super) fn read(list: Cursor, count: u64, alignment: u64, metadata: &Metadata) -> Result<Manifest, Placed> {
    let (bytes, start) = (list.bytes(), list.at() as usize);
    // Twice: first for the room that they take, which can't be told from their number.
    let (mut names, mut dims) = (0, 0);
    let mut cursor = Cursor::starting(bytes, start);
    for _ in 0..count {
        let listed = Listed::read(&mut cursor)?;
        names += listed.name.len();
        dims += listed.shape.len().max(MOST_DIMENSIONS as usize / 2);
    }
    let data = cursor.at().next_multiple_of(alignment);
    let available = (bytes.len() as u64).saturating_sub(data);
    let mut manifest = Manifest::with_room(count as usize, names, dims);
    let mut cursor = Cursor::starting(bytes, start);
    for _ in 0..count {
        let listed = Listed::read(&mut cursor)?;
        let Listed { name, offset, size, at, .. } = listed;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufFault::Unaligned { name: abridged(name), offset, alignment }.at(at));
        }
        if offset.checked_add(size).is_none_or(|end| end > available) {
            return Err(GgufFault::Outside { name: abridged(name), offset, needs: size, available }.at(at));
        }
        let original = listed.original(metadata, bytes)?;
        let (shape, format) = (original.unwrap_or(listed.shape), listed.format);
        // No dimension is larger than the file, as there are bytes for each.
        let shape: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
        manifest.push(name, format, &shape, [data + offset, data + offset + size]);
    }
    if let Some(name) = manifest.close() {
        return Err(GgufFault::TensorTwice { name: abridged(name) }.at(start as u64));
    }
    let mut last: Option<(&str, u64)> = None;
    for (name, _, [from, to]) in manifest.by_range() {
        if let Some((first, _)) = last.filter(|(_, end)| from < *end) {
            let (first, second) = (abridged(first), abridged(name));
            return Err(GgufFault::Overlap { first, second }.at(from));
        }
        last = Some((name, to));
    }
    Ok(manifest)
}
