//! Files in GGUF, of tensors that are quantised here.

use half::f16;

use super::Tensors;

/// How a tensor is stored in GGUF.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    F32,
    Q8_0,
}

/// The file: what `kind` says of tensors by their names and shapes. Rows that are no whole blocks are laid in others, as
/// ComfyUI-GGUF does it.
pub(crate) fn gguf(tensors: &[(String, Vec<u64>, Vec<f32>)], kind: impl Fn(&str, &[u64]) -> Kind) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let (mut metadata, mut infos, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut entries = 0u64;
    for (name, shape, values) in tensors {
        let kind = kind(name, shape);
        let mut dims = shape.clone();
        if kind == Kind::Q8_0 && shape.last().is_some_and(|row| row % 32 != 0) {
            metadata.extend(text(&format!("comfy.gguf.orig_shape.{name}")));
            // A list of 32-bit integers.
            metadata.extend([9u32, 5].iter().flat_map(|n| n.to_le_bytes()));
            metadata.extend((shape.len() as u64).to_le_bytes());
            metadata.extend(shape.iter().flat_map(|&dim| (dim as i32).to_le_bytes()));
            entries += 1;
            dims = vec![values.len() as u64 / 32, 32];
        }
        infos.extend(text(name));
        infos.extend((dims.len() as u32).to_le_bytes());
        infos.extend(dims.iter().rev().flat_map(|dim| dim.to_le_bytes()));
        infos.extend((if kind == Kind::F32 { 0u32 } else { 8 }).to_le_bytes());
        infos.extend((data.len() as u64).to_le_bytes());
        match kind {
            Kind::F32 => data.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Kind::Q8_0 => data.extend(values.chunks(32).flat_map(q8_0)),
        }
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let counts = [&(tensors.len() as u64).to_le_bytes()[..], &entries.to_le_bytes()].concat();
    let mut file = [&b"GGUF\x03\0\0\0"[..], &counts, &metadata, &infos].concat();
    file.resize(file.len().next_multiple_of(32), 0);
    [file, data].concat()
}

fn q8_0(values: &[f32]) -> Vec<u8> {
    let scale = f16::from_f32(values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0);
    let number = |value: &f32| (value / scale.to_f32().max(1e-9)).round().clamp(-127.0, 127.0) as i8 as u8;
    scale.to_le_bytes().into_iter().chain(values.iter().map(number)).collect()
}

/// The tensors of a file as floats.
pub(crate) fn floats(tensors: &Tensors) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let value = |dtype: &str, bytes: &[u8]| match dtype {
        "F16" => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        "BF16" => f32::from_le_bytes([0, 0, bytes[0], bytes[1]]),
        "F32" => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        other => panic!("{other}"),
    };
    let width = |dtype: &str| if dtype == "F32" { 4 } else { 2 };
    let of = |entry: &super::Entry| {
        let values = entry.bytes.chunks(width(&entry.dtype)).map(|bytes| value(&entry.dtype, bytes)).collect();
        (entry.name.clone(), entry.shape.clone(), values)
    };
    tensors.0.iter().map(of).collect()
}
