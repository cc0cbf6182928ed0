//! A matrix in any format, with the scales that belong to it.

use core_tensor::{Format, Memory, Stored, WeightSource};
use quant::{
    Decoded,
    encode::{BLOCK, EightBits, FourBits, packed},
};

/// `l.weight` `[rows, width]` in a format, read from what a file would have; `None` where nothing here makes the format.
pub(super) fn matrix(
    format: Format,
    weights: &[f32],
    shape: [usize; 2],
) -> Result<Option<Box<dyn WeightSource>>, quant::Error> {
    let of = |format, shape: Vec<usize>, bytes| Stored::of_bytes(format, shape, bytes);
    let floats = |values: &[f32]| Stored::of(values, vec![values.len()]);
    if let Some(bytes) = packed(format, weights) {
        return Ok(Some(Box::new(Memory::of([("l.weight", of(format, shape.to_vec(), bytes)?)]))));
    }
    let most = |weights: &[f32]| weights.iter().fold(0.0, |most: f32, weight| most.max(weight.abs()));
    let tensors = match format.name() {
        name @ ("NF4" | "FP4") => {
            let kind = if name == "NF4" { FourBits::Nf4 } else { FourBits::Fp4 };
            let state = serde_json::json!({
                "quant_type": kind.name(), "blocksize": BLOCK, "dtype": "float32", "shape": shape,
            });
            let (state, (bytes, absmax)) = (state.to_string().into_bytes(), kind.packed(weights));
            vec![
                ("l.weight".to_owned(), of(Format::U8, vec![bytes.len(), 1], bytes)?),
                ("l.weight.absmax".to_owned(), floats(&absmax)),
                ("l.weight.quant_map".to_owned(), floats(&kind.values())),
                (
                    format!("l.weight.quant_state.bitsandbytes__{}", kind.name()),
                    of(Format::U8, vec![state.len()], state)?,
                ),
            ]
        }
        "INT8" => {
            let rows = weights.chunks(shape[1]);
            let bytes =
                rows.clone().flat_map(|row| row.iter().map(|weight| (weight / most(row) * 127.0).round() as i8));
            let bytes = bytes.map(i8::cast_unsigned).collect();
            vec![
                ("l.weight".to_owned(), of(Format::I8, shape.to_vec(), bytes)?),
                ("l.SCB".to_owned(), floats(&rows.map(most).collect::<Vec<_>>())),
            ]
        }
        name @ ("F8_E4M3" | "F8_E5M2") => {
            let (kind, stored) = match name {
                "F8_E4M3" => (EightBits::E4m3, Format::F8_E4M3),
                _ => (EightBits::E5m2, Format::F8_E5M2),
            };
            let scale = most(weights) / kind.largest();
            vec![
                ("l.weight".to_owned(), of(stored, shape.to_vec(), kind.packed(weights, scale))?),
                ("l.scale_weight".to_owned(), floats(&[scale])),
            ]
        }
        _ => return Ok(None),
    };
    Ok(Some(Box::new(Decoded::over(Memory::of(tensors))?)))
}

#[cfg(test)]
mod tests {
    use quant::operators::computed;

    use super::*;

    #[test]
    fn a_matrix_is_read_as_about_the_weights_that_it_was_made_of_in_every_format_that_is_made() {
        let shape = [8, 512];
        let weights: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut made = Vec::new();
        for format in computed() {
            let Some(source) = matrix(format, &weights, shape).unwrap() else { continue };
            let stored = source.read("l.weight").unwrap();
            assert_eq!((stored.format(), stored.shape()), (format, &shape[..]));
            let found = stored.to_f32().unwrap();
            let off = weights.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / weights.len() as f32;
            // Two values for each weight are the least that there are.
            assert!(off.sqrt() < 0.5, "{format}: {}", off.sqrt());
            made.push(format.name());
        }
        for name in ["F8_E4M3", "F8_E5M2", "Q4_K", "NF4", "FP4", "INT8"] {
            assert!(made.contains(&name), "{name} of {made:?}");
        }
    }
}
