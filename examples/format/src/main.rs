//! A number format that the engine does not have, in blocks of six-bit weights: the transformer runs in it unchanged.

use core_tensor::{
    BlockFormat, Device, Error, Format, Manifest, Residency, Stored, Unpack, WeightSource, Weights,
    safetensors::Safetensors, tensor, values,
};
use diffusion_engine::{Error as Failed, Inside};
use flux::{Inputs, Transformer, TransformerConfig};
use half::f16;

/// Blocks of 32 weights: a scale in half precision, and 6 bits for each weight, from -32 to 31 of it.
struct SixBit;

const SIX_BIT: Format = Format(&SixBit);

impl BlockFormat for SixBit {
    fn name(&self) -> &'static str {
        "six-bit"
    }

    fn weights(&self) -> usize {
        32
    }

    fn bytes(&self) -> usize {
        2 + 24
    }

    fn unpack(&self) -> Option<Unpack> {
        Some(unpack)
    }
}

fn unpack(blocks: &[u8], weights: &mut [f32]) {
    for (block, weights) in blocks.chunks_exact(26).zip(weights.chunks_exact_mut(32)) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (bytes, weights) in block[2..].chunks_exact(3).zip(weights.chunks_exact_mut(4)) {
            let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight = scale * ((bits >> (6 * i) & 63) as f32 - 32.0);
            }
        }
    }
}

fn pack(weights: &[f32]) -> Vec<u8> {
    let block = |weights: &[f32]| {
        let largest = weights.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        let scale = f16::from_f32(largest / 31.0);
        let code = |w: &f32| ((w / scale.to_f32().max(f32::MIN_POSITIVE)).round().clamp(-32.0, 31.0) + 32.0) as u32;
        let four = |w: &[f32]| w.iter().enumerate().fold(0, |bits, (i, w)| bits | code(w) << (6 * i)).to_le_bytes();
        scale
            .to_le_bytes()
            .into_iter()
            .chain(weights.chunks(4).flat_map(move |w| four(w).into_iter().take(3)))
            .collect()
    };
    weights.chunks(32).flat_map(|weights| -> Vec<u8> { block(weights) }).collect()
}

/// A source whose tensors were packed.
struct Packed {
    tensors: Vec<(String, Stored)>,
    manifest: Manifest,
}

impl Packed {
    /// The tensors of a file, in six bits or in the values that those have.
    fn of(file: &Safetensors, as_floats: bool) -> Result<Self, Error> {
        let packed = |name: &str| {
            let stored = file.read(name)?;
            let shape = stored.shape().to_vec();
            let values = stored.to_f32().expect("the file holds floats");
            let packed = Stored::of_bytes(SIX_BIT, shape.clone(), pack(&values))?;
            let floats = || Stored::of(&packed.to_f32().expect("the format unpacks"), shape);
            Ok((name.to_owned(), if as_floats { floats() } else { packed }))
        };
        let tensors = file.manifest().names().map(packed).collect::<Result<Vec<_>, Error>>()?;
        let manifest = tensors.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
        Ok(Self { tensors, manifest })
    }
}

impl WeightSource for Packed {
    fn label(&self) -> &str {
        "packed"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: "packed".to_owned() };
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, stored)| stored.clone()).ok_or_else(missing)
    }
}

fn velocity(source: &dyn WeightSource, residency: Residency) -> Result<Vec<f32>, Failed> {
    let device = Device::flex();
    let weights = Weights::of(source, &device, residency);
    let transformer = Transformer::load(&weights, &TransformerConfig::default())?;
    let d = transformer.dimensions();
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let pe = transformer.positions(5, 2, 3);
    let inputs = Inputs {
        img: tensor(wave(6 * d.in_channels), [1, 6, d.in_channels], &device),
        control: None,
        txt: tensor(wave(5 * d.context), [1, 5, d.context], &device),
        vec: tensor(wave(d.pooled), [1, d.pooled], &device),
        timestep: 0.7,
        guidance: 3.5,
        pe: &pe,
    };
    Ok(values(&transformer.forward(inputs, &Inside::default())?))
}

fn main() -> Result<(), Failed> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/tiny-dev/transformer.safetensors");
    let file = Safetensors::open(path.as_ref())?;
    let (packed, floats) = (Packed::of(&file, false)?, Packed::of(&file, true)?);
    let bytes = |source: &dyn WeightSource| source.manifest().iter().map(|(_, form)| form.bytes).sum::<u64>();
    println!("{} bytes in six bits, {} in f32", bytes(&packed), bytes(&floats));
    // Unpacked it is the same to the bit; left as it is and unpacked a panel at a time, it is what the values are in theirs.
    let expected = velocity(&floats, Residency::Unpacked)?;
    assert_eq!(velocity(&packed, Residency::Unpacked)?, expected);
    assert_eq!(velocity(&packed, Residency::Mapped)?, velocity(&floats, Residency::Mapped)?);
    assert_ne!(velocity(&file, Residency::Unpacked)?, expected, "six bits are fewer than the file's");
    Ok(())
}
