//! Matrices in blocks of ggml, of random numbers, in GGUF files.
//!
//! A block's numbers are any bits, and its scales are what gives the weights the spread that they are to have: nothing is rounded, and the
//! file is written as fast as a disk takes it. Layouts: ggml's `ggml-common.h`, as of GGUF version 3.

use std::io::{self, Write};

use half::f16;

use super::{CHUNK, numbers::Numbers};

/// A type of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    Q4_0,
    Q8_0,
    Q4K,
    Q6K,
}

impl Blocks {
    const ALL: [(&str, Self); 4] =
        [("q4_0", Self::Q4_0), ("q8_0", Self::Q8_0), ("q4_k", Self::Q4K), ("q6_k", Self::Q6K)];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, blocks)| blocks)
    }

    /// All names, for a message.
    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The number of the type in a file (ggml.h, `enum ggml_type`), and the weights and bytes of a block.
    pub(crate) fn layout(self) -> (u32, usize, usize) {
        match self {
            Self::Q4_0 => (2, 32, 18),
            Self::Q8_0 => (8, 32, 34),
            Self::Q4K => (12, 256, 144),
            Self::Q6K => (14, 256, 210),
        }
    }

    /// Puts scales into a block of random bytes, so that its weights have this spread around 0.
    fn scale(self, block: &mut [u8], spread: f32) {
        /// Number `levels` equally likely levels have this spread.
        fn of(levels: f32) -> f32 {
            ((levels * levels - 1.0) / 12.0).sqrt()
        }
        // There is one level more below 0 than above: in every second block, by chance, the sides change places.
        let turned = if block.last().is_some_and(|byte| byte & 1 == 1) { -spread } else { spread };
        let mut put = |at: usize, d: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        match self {
            Self::Q4_0 => put(0, turned / of(16.0)),
            Self::Q8_0 => put(0, turned / of(256.0)),
            Self::Q4K => {
                // Scales and minima of six bits, all 32: of four parts in a byte each, of the others in halves and quarters of bytes.
                let d = spread / of(16.0) / 32.0;
                put(0, d);
                put(2, d * 7.5);
                block[4..12].fill(32 | 2 << 6);
                block[12..16].fill(0);
            }
            Self::Q6K => {
                put(208, turned / of(64.0) / 64.0);
                block[192..208].fill(64);
            }
        }
    }

    /// Writes so many weights of a normal tensor's spread.
    pub(super) fn write(
        self,
        weights: usize,
        spread: f32,
        numbers: &mut Numbers,
        to: &mut impl Write,
    ) -> io::Result<()> {
        let (_, per_block, bytes) = self.layout();
        let mut left = weights / per_block;
        let mut chunk = vec![0; CHUNK / bytes * bytes];
        while left > 0 {
            let blocks = left.min(chunk.len() / bytes);
            let chunk = &mut chunk[..blocks * bytes];
            numbers.fill(chunk);
            chunk.chunks_mut(bytes).for_each(|block| self.scale(block, spread));
            to.write_all(chunk)?;
            left -= blocks;
        }
        Ok(())
    }
}

/// A tensor in the list of a file.
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) number: u32,
    pub(crate) bytes: u64,
}

/// What tensors begin at a multiple of.
pub(crate) const ALIGNMENT: u64 = 32;

/// The beginning of a GGUF file; the tensors follow, each at the next multiple of [`ALIGNMENT`].
pub(crate) fn header(architecture: Option<&str>, tensors: &[Listed]) -> Vec<u8> {
    const TEXT: u32 = 8;
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let [count, entries] = [tensors.len(), usize::from(architecture.is_some())].map(|n| (n as u64).to_le_bytes());
    let mut header = [&b"GGUF"[..], &3u32.to_le_bytes(), &count, &entries].concat();
    if let Some(architecture) = architecture {
        header.extend(text("general.architecture"));
        header.extend(TEXT.to_le_bytes());
        header.extend(text(architecture));
    }
    let mut offset = 0u64;
    for Listed { name, shape, number, bytes } in tensors {
        header.extend(text(name));
        header.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|dim| header.extend((*dim as u64).to_le_bytes()));
        header.extend(number.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += bytes.next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
    header
}

#[cfg(test)]
mod tests {
    use core_tensor::Stored;
    use quant::formats;

    use super::*;

    #[test]
    fn weights_of_every_type_are_read_with_the_spread_that_they_were_to_have() {
        for (format, (name, blocks)) in
            [formats::Q4_0, formats::Q8_0, formats::Q4_K, formats::Q6_K].into_iter().zip(Blocks::ALL)
        {
            let mut bytes = Vec::new();
            blocks.write(64 * 256, 0.02, &mut Numbers::of(1), &mut bytes).unwrap();
            let weights = Stored::of_bytes(format, vec![64, 256], bytes).unwrap().to_f32().unwrap();
            let mean = weights.iter().sum::<f32>() / weights.len() as f32;
            let spread = (weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32).sqrt();
            assert!((spread / 0.02 - 1.0).abs() < 0.05 && mean.abs() < 0.001, "{name}: {spread} around {mean}");
        }
    }
}
