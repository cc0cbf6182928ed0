//! A product that a number format brings of its own.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{
    BlockFormat, Device, Error, Format, Layout, Manifest, Product, Residency, Stored, Unpack, WeightSource, Weights,
    layers::Linear, tensor, values,
};

/// Halves in pairs: the value of a byte is half of it. Its product adds 1,000, which tells it from one of unpacked weights.
struct Halves;

impl BlockFormat for Halves {
    fn name(&self) -> &'static str {
        "HALVES"
    }

    fn weights(&self) -> usize {
        2
    }

    fn bytes(&self) -> usize {
        2
    }

    fn unpack(&self) -> Option<Unpack> {
        Some(|blocks, weights| weights.iter_mut().zip(blocks).for_each(|(weight, byte)| *weight = half(*byte)))
    }

    fn product(&self) -> Option<Product> {
        Some(|matrix, d_in, x, out| {
            let rows: Vec<&[u8]> = matrix.chunks(d_in).collect();
            for (x, out) in x.chunks(d_in).zip(out.chunks_mut(rows.len())) {
                for (row, out) in rows.iter().zip(out) {
                    *out = 1000.0 + row.iter().zip(x).map(|(byte, x)| half(*byte) * x).sum::<f32>();
                }
            }
        })
    }
}

fn half(byte: u8) -> f32 {
    f32::from(byte) / 2.0
}

/// One matrix.
struct One(Stored, Manifest);

impl WeightSource for One {
    fn label(&self) -> &str {
        "memory"
    }

    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn read(&self, _: &str) -> Result<Stored, Error> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_matrix_that_stays_in_its_format_is_multiplied_by_the_formats_own_product() {
    const OUT: usize = 3;
    const IN: usize = 4;
    let bytes: Vec<u8> = (1..=(OUT * IN) as u8).collect();
    let stored = Stored::of_bytes(Format(&Halves), vec![OUT, IN], bytes.clone()).unwrap();
    let source = One(stored, [("l.weight", Format(&Halves), vec![OUT, IN])].into_iter().collect());
    let x: Vec<f32> = (0..2 * IN).map(|i| i as f32 - 2.0).collect();
    let dot = |x: &[f32], row: &[u8]| row.iter().zip(x).map(|(byte, x)| half(*byte) * x).sum::<f32>();
    let plain: Vec<f32> = x.chunks(IN).flat_map(|x| bytes.chunks(IN).map(move |row| dot(x, row))).collect();
    for (residency, more) in [(Residency::Mapped, 1000.0), (Residency::Unpacked, 0.0)] {
        let w = Weights::of(&source, &Device::flex(), residency).laid_out(Layout::of(|l| l.unbiased("l", IN, OUT)));
        let layer = Linear::load(&w.at("l")).unwrap();
        let found = values(&layer.forward(tensor(x.clone(), [1, 2, IN], &Device::flex())));
        // sums of a few halves are exact
        assert_eq!(found, plain.iter().map(|sum| sum + more).collect::<Vec<_>>(), "{residency:?}");
    }
}
