//! Floats of eight bits, and the scales that they may have, in the spellings of all converters.

use std::{collections::BTreeSet, sync::Arc};

use core_tensor::{Error as TensorError, Form, Format, Manifest, Scaling, WeightSource};
use serde::Deserialize;

use super::{
    Found, Scales, Tensor, floats,
    numbers::{E4M3, E5M2},
    refused,
    scalings::{Rows, Squares, Whole},
};
use crate::{DecodeFault, Error, error::abridged};

/// The marker of files whose matrices have scales.
const MARKER: &str = "scaled_fp8";

/// The side of the squares that have a scale of their own (DeepSeek-V3, `weight_block_size`).
const SIDE: usize = 128;

/// The longest description of a layer that is read, in bytes.
const LONGEST: u64 = 1 << 16;

/// Whether a format is one of eight-bit floats whose values are not read as they are.
pub(super) fn is(format: Format) -> bool {
    decoded(format).is_some() && !format.is_float()
}

fn decoded(format: Format) -> Option<Format> {
    [E4M3, E5M2].into_iter().find(|known| *known == format)
}

/// Whether rows of a matrix are looked up, by its name.
pub(super) fn is_table(name: &str) -> bool {
    name.contains("embed") || name.ends_with("shared.weight")
}

/// A matrix's scale.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    name: String,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Whole,
    Rows,
    Squares,
}

/// What ComfyUI writes beside a layer.
#[derive(Deserialize)]
struct Described {
    format: String,
}

/// Finds what belongs to a tensor of eight-bit floats.
pub(super) fn find(source: &dyn WeightSource, name: &str, form: Form, found: &mut Found) -> Result<(), Error> {
    let Some(format) = decoded(form.format).filter(|_| is(form.format) && !is_marker(name)) else { return Ok(()) };
    let manifest = source.manifest();
    let layer = name.strip_suffix("weight").unwrap_or("");
    let beside = |part: &str| (!layer.is_empty()).then(|| format!("{layer}{part}"));
    let comfy = beside("comfy_quant").filter(|name| manifest.contains(name));
    if let Some(described) = &comfy {
        let said = format_in(source, name, described)?;
        let Some((_, named)) = FORMATS.iter().find(|(name, _)| *name == said) else {
            found.refuse(name, DecodeFault::Described { name: described.clone(), found: abridged(&said) });
            return Ok(());
        };
        if *named != format {
            let (said, found) = (abridged(&said), form.format);
            let fault = DecodeFault::Contradicted { name: described.clone(), said, found };
            return Err(refused(source, name, fault));
        }
    }
    let scales = [beside("scale_weight"), Some(format!("{name}_scale")), Some(format!("{name}_scale_inv"))];
    let scales = scales.into_iter().flatten().filter_map(|scale| manifest.get(&scale).map(|form| (scale, form)));
    let scales = match &scales.collect::<Vec<_>>()[..] {
        [(scale, of)] if of.format.is_float() => {
            found.hidden.insert(scale.clone());
            Scales::Fp8(Scale::of(source, name, form, (scale.clone(), *of))?)
        }
        // Scales of other formats belong to other schemes.
        [(scale, of)] => {
            let (format, shape, expected) = (of.format, of.shape.to_vec(), "floats".to_owned());
            found.refuse(name, DecodeFault::Companion { name: scale.clone(), format, shape, expected });
            return Ok(());
        }
        [(one, _), (other, _), ..] => {
            found.refuse(name, DecodeFault::TwoScales { names: [one.clone(), other.clone()] });
            return Ok(());
        }
        [] if comfy.is_some() => {
            return Err(refused(source, name, DecodeFault::Missing { name: format!("{name}_scale") }));
        }
        [] => Scales::None,
    };
    found.hidden.extend([beside("scale_input"), beside("input_scale"), comfy].into_iter().flatten());
    found.tensors.insert(name.to_owned(), Tensor { format, shape: form.shape.to_vec(), scales });
    Ok(())
}

/// What ComfyUI calls the formats that are read.
const FORMATS: [(&str, Format); 2] = [("float8_e4m3fn", E4M3), ("float8_e5m2", E5M2)];

/// The format that a description says.
fn format_in(source: &dyn WeightSource, weight: &str, name: &str) -> Result<String, Error> {
    let found = source.manifest().get(name).map_or(0, |form| form.bytes);
    if found > LONGEST {
        let name = name.to_owned();
        return Err(refused(source, weight, DecodeFault::TooLong { name, found, limit: LONGEST }));
    }
    let json = source.read(name)?.to_bytes();
    let described: Described = serde_json::from_slice(&json)
        .map_err(|why| refused(source, weight, DecodeFault::Json { name: name.to_owned(), why }))?;
    Ok(described.format)
}

impl Scale {
    fn of(source: &dyn WeightSource, weight: &str, matrix: Form, (name, scale): (String, Form)) -> Result<Self, Error> {
        let (rows, width) =
            (matrix.shape.first().copied().unwrap_or(1), matrix.shape.iter().skip(1).product::<usize>());
        let of = match scale.shape {
            shape if shape.iter().all(|&dim| dim == 1) => Of::Whole,
            [n, ones @ ..] if *n == rows && ones.iter().all(|&dim| dim == 1) => Of::Rows,
            &[down, across] if [down, across] == [rows.div_ceil(SIDE), width.div_ceil(SIDE)] => Of::Squares,
            shape => {
                let expected = format!("one scale, {rows}, or one for each square of {SIDE} of {:?}", matrix.shape);
                let (format, shape) = (scale.format, shape.to_vec());
                return Err(refused(source, weight, DecodeFault::Companion { name, format, shape, expected }));
            }
        };
        Ok(Self { name, of })
    }

    pub(super) fn read(&self, source: &dyn WeightSource, shape: &[usize]) -> Result<Arc<dyn Scaling>, TensorError> {
        let (scales, width) = (floats(source, &self.name)?, shape.iter().skip(1).product());
        Ok(match self.of {
            Of::Whole => Arc::new(Whole(scales.first().copied().unwrap_or(1.0))),
            Of::Rows => Arc::new(Rows { width, scales, then: 1.0 }),
            Of::Squares => Arc::new(Squares { width, side: SIDE, scales }),
        })
    }
}

fn is_marker(name: &str) -> bool {
    name.rsplit('.').next() == Some(MARKER)
}

/// How the names of tensors begin that markers stand for: those under a marker's own prefix, or all where there are none.
pub(super) fn marked(manifest: &Manifest, hidden: &mut BTreeSet<String>) -> Vec<String> {
    let markers: Vec<&str> = manifest.names().filter(|name| is_marker(name)).collect();
    hidden.extend(markers.iter().map(|name| (*name).to_owned()));
    let prefix = |marker: &&str| {
        let prefix = marker.strip_suffix(MARKER).unwrap_or("");
        let has_tensors = manifest.under(prefix).any(|(rest, _)| rest != MARKER);
        if has_tensors { prefix.to_owned() } else { String::new() }
    };
    let mut prefixes: Vec<String> = markers.iter().map(prefix).collect();
    prefixes.sort();
    // Those that begin with another stand behind it.
    prefixes.dedup_by(|later, kept| later.starts_with(&**kept));
    prefixes
}
