//! Products with weights that stay as they are stored, at the shapes of Flux and of T5-XXL, next to the same with packed ones.

use core_tensor::{
    Compute, Device, Error, Format, Layout, Manifest, Residency, Stored, WeightSource, Weights, layers::Linear,
};
use quant::{Decoded, formats};

use crate::{blocks::random, report::Report};

/// Rows, outputs and inputs.
const SHAPES: [[usize; 3]; 3] = [[1024, 3072, 3072], [1536, 3072, 3072], [512, 10_240, 4096]];

/// A way of storing a matrix.
#[derive(Clone, Copy)]
enum Storage {
    /// In a format.
    As(Format),
    /// As bitsandbytes does, with a float for each 64.
    Nf4,
}

impl Storage {
    fn has_integers(self) -> bool {
        match self {
            Self::As(format) => format.integers().is_some(),
            Self::Nf4 => true,
        }
    }
}

pub(crate) fn products(report: &mut Report) -> Result<(), Box<dyn std::error::Error>> {
    let plain = [Format::BF16, Format::F16, Format::F8_E4M3];
    let blocks = [formats::Q8_0, formats::Q4_0, formats::Q4_K, formats::Q5_K, formats::Q6_K, formats::IQ4_NL];
    let all = plain.into_iter().chain(blocks).map(Storage::As).chain([Storage::Nf4]);
    for [rows, d_out, d_in] in SHAPES {
        let x = random([1, rows, d_in]);
        let work = 2.0 * (rows * d_out * d_in) as f64;
        let mut measure = |name: &str, storage, residency, compute| -> Result<(), Box<dyn std::error::Error>> {
            let case = format!("kept {rows}x{d_out}x{d_in} {name}");
            if !report.wants(&case) {
                return Ok(());
            }
            let source = Decoded::over(One::of(storage, [d_out, d_in])?)?;
            let weights = Weights::of(&source, &Device::flex(), residency).computed_in(compute);
            let layer = Linear::load(&weights.laid_out(Layout::of(|l| l.unbiased("", d_in, d_out))))?;
            report.case(&case, Some(compute), work, || drop(layer.forward(x.clone())));
            Ok(())
        };
        for compute in [Compute::F32, Compute::Bf16] {
            measure("packed", Storage::As(Format::BF16), Residency::Unpacked, compute)?;
            measure("Q8_0", Storage::As(formats::Q8_0), Residency::Mapped, compute)?;
        }
        for storage in all.clone() {
            let name = match storage {
                Storage::As(format) => format.name(),
                Storage::Nf4 => "NF4",
            };
            measure(name, storage, Residency::Mapped, Compute::Bf16)?;
            if storage.has_integers() {
                measure(&format!("{name} as integers"), storage, Residency::Mapped, Compute::Integers)?;
            }
        }
    }
    Ok(())
}

/// A matrix of arbitrary bytes, and what belongs to it.
struct One {
    manifest: Manifest,
    tensors: Vec<(&'static str, Stored)>,
}

impl One {
    fn of(storage: Storage, [d_out, d_in]: [usize; 2]) -> Result<Self, Error> {
        let size = |format: Format| format.size_of(&[d_out, d_in]).and_then(|size| usize::try_from(size).ok());
        let tensors = match storage {
            Storage::As(format) => {
                let bytes = bytes(size(format).unwrap_or_default());
                vec![("weight", Stored::of_bytes(format, vec![d_out, d_in], bytes)?)]
            }
            Storage::Nf4 => {
                let (bytes, blocks) = (bytes(d_out * d_in / 2), d_out * d_in / 64);
                let state =
                    format!(r#"{{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[{d_out},{d_in}]}}"#);
                let state = state.into_bytes();
                vec![
                    ("weight", Stored::of_bytes(Format::U8, vec![bytes.len(), 1], bytes)?),
                    ("weight.absmax", Stored::of(&vec![0.1; blocks], vec![blocks])),
                    ("weight.quant_state.bitsandbytes__nf4", Stored::of_bytes(Format::U8, vec![state.len()], state)?),
                ]
            }
        };
        let manifest = tensors.iter().map(|(name, stored)| (*name, stored.format(), stored.shape().to_vec())).collect();
        Ok(Self { manifest, tensors })
    }
}

/// Bytes whose two upper bits are 0, so that no float made of them is infinite or no number.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

impl WeightSource for One {
    fn label(&self) -> &str {
        "arbitrary bytes"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let found = self.tensors.iter().find(|(own, _)| *own == name);
        found.map(|(_, stored)| stored.clone()).ok_or_else(missing)
    }
}
