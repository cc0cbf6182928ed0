//! What weights are multiplied with.

use core_tensor::{Round, Runs, Scaling, Stored};
use half::{bf16, f16};
use kernels::GROUP;

/// One scale for all.
#[derive(Debug)]
pub(super) struct Whole(pub(super) f32);

impl Scaling for Whole {
    fn scale(&self, _: usize, weights: &mut [f32]) {
        weights.iter_mut().for_each(|weight| *weight *= self.0);
    }

    fn runs(&self, width: usize) -> Option<Runs> {
        Some(Runs { weights: width, round: Round::No })
    }

    fn scales_of(&self, _: usize, _: usize, scales: &mut [f32]) {
        scales.fill(self.0);
    }
}

/// A scale for each row of so many weights, and one for all after it.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) width: usize,
    pub(super) scales: Vec<f32>,
    pub(super) then: f32,
}

impl Scaling for Rows {
    fn scale(&self, first: usize, weights: &mut [f32]) {
        each_run(first, weights, self.width, |row, weights| {
            weights.iter_mut().for_each(|weight| *weight = *weight * self.scales[row] * self.then);
        });
    }

    fn has_groups(&self) -> bool {
        self.width.is_multiple_of(GROUP)
    }

    fn scale_groups(&self, first: usize, scales: &mut [f32]) {
        each_run(first / GROUP, scales, self.width / GROUP, |row, scales| {
            scales.iter_mut().for_each(|scale| *scale *= self.scales[row] * self.then);
        });
    }

    fn runs(&self, width: usize) -> Option<Runs> {
        (width == self.width).then_some(Runs { weights: width, round: Round::No })
    }

    fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
        let of_rows = &self.scales[first / run..];
        scales.iter_mut().zip(of_rows).for_each(|(to, scale)| *to = scale * self.then);
    }
}

/// A scale for each square of a matrix.
#[derive(Debug)]
pub(super) struct Squares {
    pub(super) width: usize,
    pub(super) side: usize,
    pub(super) scales: Vec<f32>,
}

impl Squares {
    /// The scale of a weight by its number.
    fn of(&self, i: usize) -> f32 {
        let (row, column) = (i / self.width, i % self.width);
        self.scales[row / self.side * self.width.div_ceil(self.side) + column / self.side]
    }
}

impl Scaling for Squares {
    fn scale(&self, first: usize, weights: &mut [f32]) {
        each_run(first, weights, 1, |i, weight| weight[0] *= self.of(i));
    }

    fn runs(&self, width: usize) -> Option<Runs> {
        let are_whole = width == self.width && width.is_multiple_of(self.side);
        are_whole.then_some(Runs { weights: self.side, round: Round::No })
    }

    fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
        scales.iter_mut().zip((first..).step_by(run)).for_each(|(to, i)| *to = self.of(i));
    }
}

/// A scale for each block of so many weights, as floats in their file; the weights are then numbers of a format.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) size: usize,
    pub(super) absmax: Absmax,
    pub(super) round: Round,
}

/// The scales of blocks.
#[derive(Debug)]
pub(super) enum Absmax {
    /// Floats.
    Plain(Stored),
    /// Bytes, each of which stands for a value of a table; blocks of them have scales, and all a sum.
    Nested { bytes: Stored, table: Vec<f32>, scales: Vec<f32>, size: usize, offset: f32 },
}

impl Absmax {
    /// Those of some blocks from `first` on.
    fn read(&self, first: usize, to: &mut [f32]) {
        match self {
            Self::Plain(floats) => floats.read(first, to),
            Self::Nested { bytes, table, scales, size, offset } => {
                let bytes = bytes.bytes_of(first..first + to.len());
                for ((to, &byte), block) in to.iter_mut().zip(&*bytes).zip(first..) {
                    *to = table[usize::from(byte)] * scales[block / size] + offset;
                }
            }
        }
    }
}

impl Scaling for Blocks {
    fn scale(&self, first: usize, weights: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut absmax = [0.0; AT_ONCE];
        let (mut at, mut weights) = (first, weights);
        while !weights.is_empty() {
            let (start, end) = (at / self.size, (at + weights.len()).div_ceil(self.size));
            let blocks = start..end.min(start + AT_ONCE);
            self.absmax.read(start, &mut absmax[..blocks.len()]);
            let (part, rest) = weights.split_at_mut((blocks.end * self.size - at).min(weights.len()));
            each_run(at, part, self.size, |block, weights| {
                let absmax = absmax[block - start];
                weights.iter_mut().for_each(|weight| *weight *= absmax);
                round(self.round, weights);
            });
            at += part.len();
            weights = rest;
        }
    }

    fn has_groups(&self) -> bool {
        self.size.is_multiple_of(GROUP)
    }

    /// Of groups nothing is rounded to what their weights are rounded to.
    fn scale_groups(&self, first: usize, scales: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let per_block = self.size / GROUP;
        let mut first = first / GROUP;
        for scales in scales.chunks_mut(AT_ONCE) {
            let blocks = first / per_block..(first + scales.len()).div_ceil(per_block);
            // A block has at least one group; the first and the last may be cut.
            let mut absmax = [0.0; AT_ONCE + 1];
            self.absmax.read(blocks.start, &mut absmax[..blocks.len()]);
            for (scale, group) in scales.iter_mut().zip(first..) {
                *scale *= absmax[group / per_block - blocks.start];
            }
            first += scales.len();
        }
    }

    fn runs(&self, _: usize) -> Option<Runs> {
        Some(Runs { weights: self.size, round: self.round })
    }

    fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
        self.absmax.read(first / run, scales);
    }
}

/// Rounds scaled weights as they would be where they were computed with.
fn round(to: Round, weights: &mut [f32]) {
    match to {
        Round::No => {}
        Round::F16 => weights.iter_mut().for_each(|weight| *weight = f16::from_f32(*weight).to_f32()),
        Round::Bf16 => weights.iter_mut().for_each(|weight| *weight = bf16::from_f32(*weight).to_f32()),
    }
}

/// Calls `scale` for the weights of each run of `size`, with its number.
fn each_run(first: usize, mut weights: &mut [f32], size: usize, mut scale: impl FnMut(usize, &mut [f32])) {
    let mut at = first;
    while !weights.is_empty() {
        let (run, rest) = weights.split_at_mut((size - at % size).min(weights.len()));
        scale(at / size, run);
        at += run.len();
        weights = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_runs_are_those_of_their_weights() {
        let numbers = |count: usize| (0..count).map(|i| 0.5 + i as f32 / 8.0).collect::<Vec<_>>();
        let blocks = |absmax, round| Blocks { size: 32, absmax, round };
        let bytes = Stored::of_bytes(core_tensor::Format::U8, vec![16], (0..16).collect()).unwrap();
        let nested = Absmax::Nested { bytes, table: numbers(256), scales: numbers(4), size: 4, offset: 0.25 };
        let scalings: [&dyn Scaling; 5] = [
            &Whole(0.75),
            &Rows { width: 64, scales: numbers(8), then: 0.5 },
            &Squares { width: 64, side: 16, scales: numbers(8) },
            &blocks(Absmax::Plain(Stored::of(&numbers(16), vec![16])), Round::No),
            &blocks(nested, Round::No),
        ];
        for scaling in scalings {
            let Runs { weights: run, .. } = scaling.runs(64).unwrap();
            for first in [0, 64, 192] {
                let mut expected = vec![1.0; 128];
                scaling.scale(first, &mut expected);
                let mut scales = vec![0.0; 128 / run];
                scaling.scales_of(first, run, &mut scales);
                let found: Vec<f32> = scales.iter().flat_map(|&scale| vec![scale; run]).collect();
                assert_eq!(found, expected, "{scaling:?} from {first}");
            }
        }
        assert_eq!(scalings[1].runs(32), None);
        assert_eq!(Squares { width: 24, side: 16, scales: numbers(8) }.runs(24), None);
    }
}
