//! The states of bitsandbytes: matrices of four bits beside their scales, and LLM.int8.
//!
//! Reference: `QuantState.as_dict` and `_dequantize_4bit_compute` of bitsandbytes 0.50.

use std::sync::Arc;

use core_tensor::{Error as TensorError, Form, Format, Manifest, Round, Scaling, Stored, WeightSource};
use serde::Deserialize;

use super::{
    FP4, Found, INT8, NF4, Scales, Tensor, floats, refused,
    scalings::{self, Absmax},
};
use crate::{
    DecodeFault, Error,
    error::abridged,
    tables::{FP4_VALUES, NF4_VALUES},
};

/// How the scales of an LLM.int8 matrix are called.
const SCB: &str = ".SCB";

/// How the scales of a matrix of four bits are called.
const ABSMAX: &str = ".absmax";

/// How what belongs to a matrix of four bits is called, beside its state.
const BESIDE: [&str; 4] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];

/// The most dimensions that a matrix of four bits may have.
const MOST_DIMENSIONS: usize = 8;

/// The kinds of four bits: their name, how their state is called, their format and table.
const KINDS: [(&str, &str, Format, &[f32; 16]); 2] = [
    ("nf4", ".quant_state.bitsandbytes__nf4", NF4, &NF4_VALUES),
    ("fp4", ".quant_state.bitsandbytes__fp4", FP4, &FP4_VALUES),
];

/// Whether a tensor belongs to a matrix of bitsandbytes.
pub(super) fn is_part(name: &str) -> bool {
    KINDS.iter().map(|(_, end, ..)| *end).chain([SCB, ABSMAX]).any(|end| name.ends_with(end))
}

/// The longest state that is read, in bytes; they have less than 300.
const LONGEST_STATE: u64 = 1 << 16;

/// A tensor of scales: its name, how many there have to be, which formats do, and how these are called.
type Need = (String, usize, fn(Format) -> bool, &'static str);

/// How far a table's values may be from its kind's.
const TABLE: f32 = 1e-4;

/// What the JSON of a state says.
#[derive(Deserialize)]
struct Described {
    quant_type: String,
    blocksize: u64,
    dtype: String,
    shape: Vec<u64>,
    nested_blocksize: Option<u64>,
    nested_offset: Option<f32>,
}

/// A matrix of four bits.
#[derive(Clone, Debug)]
pub(super) struct State {
    weight: String,
    blocks: usize,
    size: usize,
    round: Round,
    /// The size of blocks of scales, and what is added to each, where those are nested.
    nested: Option<(usize, f32)>,
}

/// The scales of a matrix of LLM.int8.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    scb: String,
}

/// Finds the matrix that a tensor is the state or the scale of.
pub(super) fn find(source: &dyn WeightSource, name: &str, form: Form, found: &mut Found) -> Result<(), Error> {
    if let Some((weight, kind)) = KINDS.iter().find_map(|kind| Some((name.strip_suffix(kind.1)?, kind))) {
        let states = states_of(weight);
        if states.iter().all(|state| source.manifest().contains(state)) {
            return Err(refused(source, weight, DecodeFault::TwoStates { names: states }));
        }
        let tensor = four_bits(source, weight, name, form, *kind)?;
        found.hidden.insert(name.to_owned());
        found.hidden.extend(BESIDE.map(|part| format!("{weight}.{part}")));
        found.tensors.insert(weight.to_owned(), tensor);
    }
    if let Some(weight) = name.strip_suffix(ABSMAX).filter(|weight| source.manifest().contains(weight)) {
        let states = states_of(weight);
        if !states.iter().any(|state| source.manifest().contains(state)) {
            found.refuse(weight, DecodeFault::NoState { beside: name.to_owned(), states });
        }
    }
    if let Some(layer) = name.strip_suffix(SCB) {
        let weight = format!("{layer}.weight");
        if let Some(matrix) = source.manifest().get(&weight).filter(|form| form.format == Format::I8) {
            let order = format!("{layer}.weight_format");
            let tensor = int8(source, &weight, &order, matrix, (name, form))?;
            found.hidden.extend([name.to_owned(), order]);
            found.tensors.insert(weight, tensor);
        }
    }
    Ok(())
}

/// How the states of a matrix of four bits are called, of which there is one.
fn states_of(weight: &str) -> [String; 2] {
    KINDS.map(|(_, end, ..)| format!("{weight}{end}"))
}

/// Finds the integers that lack the scales which others of the file have.
pub(super) fn without_scales(manifest: &Manifest, found: &mut Found) {
    if !manifest.names().any(|name| name.ends_with(SCB)) {
        return;
    }
    for (name, _) in manifest.iter().filter(|(_, form)| form.format == Format::I8) {
        if let Some(layer) = name.strip_suffix(".weight").filter(|_| !found.tensors.contains_key(name)) {
            found.refuse(name, DecodeFault::Missing { name: format!("{layer}{SCB}") });
        }
    }
}

fn four_bits(
    source: &dyn WeightSource,
    weight: &str,
    name: &str,
    form: Form,
    (kind, _, format, table): (&'static str, &str, Format, &[f32; 16]),
) -> Result<Tensor, Error> {
    let wrong = |fault| refused(source, weight, fault);
    if form.bytes > LONGEST_STATE {
        let (name, found) = (name.to_owned(), form.bytes);
        return Err(wrong(DecodeFault::TooLong { name, found, limit: LONGEST_STATE }));
    }
    let json = source.read(name)?.to_bytes();
    let described = serde_json::from_slice(&json);
    let described: Described = described.map_err(|why| wrong(DecodeFault::Json { name: name.to_owned(), why }))?;
    let Described { quant_type, blocksize, dtype, shape, nested_blocksize, nested_offset } = described;
    if quant_type != kind {
        return Err(wrong(DecodeFault::Kind { expected: kind, found: abridged(&quant_type) }));
    }
    let round = match &*dtype {
        "float32" => Round::No,
        "float16" => Round::F16,
        "bfloat16" => Round::Bf16,
        _ => return Err(wrong(DecodeFault::Dtype { found: abridged(&dtype) })),
    };
    let block_size = |found: u64| {
        let fits = found.is_power_of_two() && (32..=4096).contains(&found);
        fits.then_some(found as usize).ok_or_else(|| wrong(DecodeFault::BlockSize { found }))
    };
    let size = block_size(blocksize)?;
    let nested = match nested_blocksize {
        Some(size) => {
            let offset = nested_offset.ok_or_else(|| wrong(DecodeFault::NoOffset { name: name.to_owned() }))?;
            Some((block_size(size)?, offset))
        }
        None => None,
    };
    let manifest = source.manifest();
    let packed = manifest.get(weight).ok_or_else(|| wrong(DecodeFault::Missing { name: weight.to_owned() }))?;
    if shape.len() > MOST_DIMENSIONS {
        return Err(wrong(DecodeFault::Rank { found: shape.len(), limit: MOST_DIMENSIONS }));
    }
    // The bytes are there, so that none of these is larger than a file.
    let dims: Option<Vec<usize>> = shape.iter().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect();
    let weights = dims.as_ref().and_then(|dims| dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64)));
    if weights.is_some_and(|weights| weights % 2 == 1 && weights.div_ceil(2) == packed.bytes) {
        return Err(wrong(DecodeFault::Odd { shape }));
    }
    let bytes = dims.as_ref().and_then(|dims| format.size_of(dims));
    let Some(dims) = dims.filter(|_| bytes == Some(packed.bytes)) else {
        let expected = bytes.map_or_else(|| "another number of".to_owned(), |bytes| bytes.to_string());
        return Err(wrong(DecodeFault::Packed { shape, expected, found: packed.bytes }));
    };
    let blocks = (packed.bytes as usize * 2).div_ceil(size);
    let state = State { weight: weight.to_owned(), blocks, size, round, nested };
    state.check(source)?;
    let map = format!("{weight}.quant_map");
    if manifest.contains(&map) {
        let values = floats(source, &map)?;
        if !(values.len() == 16 && values.iter().zip(table).all(|(a, b)| (a - b).abs() <= TABLE)) {
            return Err(wrong(DecodeFault::Table { name: map, kind }));
        }
    }
    Ok(Tensor { format, shape: dims, scales: Scales::FourBits(state) })
}

fn int8(
    source: &dyn WeightSource,
    weight: &str,
    order: &str,
    matrix: Form,
    (scb, scales): (&str, Form),
) -> Result<Tensor, Error> {
    let wrong = |fault| refused(source, weight, fault);
    if matrix.shape.first() != Some(&scales.shape.iter().product()) || !scales.format.is_float() {
        let expected = format!("a float for each of the rows of {:?}", matrix.shape);
        return Err(wrong(companion(scb, scales, expected)));
    }
    // A number of any format, which is 0 for rows.
    if let Some(form) = source.manifest().get(order) {
        if form.bytes > LONGEST_STATE {
            let (name, found) = (order.to_owned(), form.bytes);
            return Err(wrong(DecodeFault::TooLong { name, found, limit: LONGEST_STATE }));
        }
        if let Some(&found) = source.read(order)?.to_bytes().iter().find(|&&byte| byte != 0) {
            return Err(wrong(DecodeFault::Layout { found }));
        }
    }
    let rows = Rows { scb: scb.to_owned() };
    Ok(Tensor { format: INT8, shape: matrix.shape.to_vec(), scales: Scales::Int8(rows) })
}

impl State {
    /// Whether the scales are there, one for each block.
    fn check(&self, source: &dyn WeightSource) -> Result<(), Error> {
        let outer = self.nested.map(|(size, _)| self.blocks.div_ceil(size));
        let is_byte = |format: Format| format == Format::U8;
        let needs: Vec<Need> = match outer {
            None => vec![(self.named("absmax"), self.blocks, Format::is_float, "floats")],
            Some(outer) => vec![
                (self.named("absmax"), self.blocks, is_byte, "bytes"),
                (self.named("nested_absmax"), outer, Format::is_float, "floats"),
                (self.named("nested_quant_map"), 256, Format::is_float, "floats"),
            ],
        };
        for (name, count, fits, what) in needs {
            let wrong = |fault| refused(source, &self.weight, fault);
            let Some(form) = source.manifest().get(&name) else { return Err(wrong(DecodeFault::Missing { name })) };
            if !fits(form.format) || form.shape.iter().product::<usize>() != count {
                return Err(wrong(companion(&name, form, format!("{count} {what}"))));
            }
        }
        Ok(())
    }

    fn named(&self, part: &str) -> String {
        format!("{}.{part}", self.weight)
    }

    pub(super) fn read(&self, source: &dyn WeightSource) -> Result<Arc<dyn Scaling>, TensorError> {
        let list = |stored: Stored| stored.reshape(vec![self.blocks]);
        let absmax = list(source.read(&self.named("absmax"))?);
        let absmax = match self.nested {
            None => Absmax::Plain(absmax),
            Some((size, offset)) => {
                let table = floats(source, &self.named("nested_quant_map"))?;
                let scales = floats(source, &self.named("nested_absmax"))?;
                Absmax::Nested { bytes: absmax, table, scales, size, offset }
            }
        };
        Ok(Arc::new(scalings::Blocks { size: self.size, absmax, round: self.round }))
    }
}

impl Rows {
    /// Each row is `integer · scale / 127`, in bitsandbytes' order of roundings.
    pub(super) fn read(&self, source: &dyn WeightSource, shape: &[usize]) -> Result<Arc<dyn Scaling>, TensorError> {
        const OF_127: f32 = 7.874_016e-3; // bitsandbytes/_ops.py, int8_vectorwise_dequant
        let scales = floats(source, &self.scb)?;
        Ok(Arc::new(scalings::Rows { width: shape.iter().skip(1).product(), scales, then: OF_127 }))
    }
}

fn companion(name: &str, form: Form, expected: String) -> DecodeFault {
    DecodeFault::Companion { name: name.to_owned(), format: form.format, shape: form.shape.to_vec(), expected }
}
