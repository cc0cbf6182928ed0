//! A piece of a tensor: blocks in one place of a file, and the scales that belong to them.

use std::{fmt, ops::Range, sync::Arc};

use kernels::{GROUP, Integers, Isa};
use rayon::prelude::*;

use super::format::{Format, IntegerForm, Unpack};
use crate::{Mapped, bits::Runs};

/// Scales that lie elsewhere than the weights which they belong to.
pub trait Scaling: Send + Sync + fmt::Debug {
    /// Scales weights, of which the first is number `first` of the tensor, row-major.
    fn scale(&self, first: usize, weights: &mut [f32]);

    /// Whether all weights of each [`kernels::GROUP`] of a row have one scale.
    fn has_groups(&self) -> bool {
        false
    }

    /// Scales the scales of groups, of which the first weight is number `first` of the tensor, where [`Scaling::has_groups`] says that
    /// this can be done.
    fn scale_groups(&self, first: usize, scales: &mut [f32]) {
        let _ = (first, scales);
        unreachable!("only of scalings with groups")
    }

    /// Weights that have a scale in common, in rows of so many; `None` where they are not one after the other.
    fn runs(&self, width: usize) -> Option<Runs> {
        let _ = width;
        None
    }

    /// The scales of such runs, from the one on that begins with weight number `first`, where [`Scaling::runs`] says how long they are.
    fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
        let _ = (first, run, scales);
        unreachable!("only of scalings with runs")
    }
}

/// Why the values of a tensor that was looked at can be read.
pub(super) const FLOATS: &str = "the format was checked when the tensor was looked at";

/// Bytes of whole blocks that lie one after the other.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The format of these bytes.
    pub(super) format: Format,
    pub(super) bytes: Mapped,
    pub(super) range: Range<usize>,
    pub(super) scaling: Option<Scaled>,
}

/// Weights of a tensor with scales, by the number of the first.
#[derive(Clone, Debug)]
pub(super) struct Scaled {
    pub(super) by: Arc<dyn Scaling>,
    pub(super) first: usize,
}

/// Weights that are unpacked by one thread, one after the other.
pub(super) const AT_ONCE: usize = 1 << 15;

impl Segment {
    /// As they are stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// How many weights it has.
    pub(super) fn weights(&self) -> usize {
        self.range.len() / self.format.bytes() * self.format.weights()
    }

    /// Some of its weights; `None` where they do not begin and end with a block.
    pub(super) fn part(&self, weights: Range<usize>) -> Option<Self> {
        let per_block = self.format.weights();
        if !(weights.start.is_multiple_of(per_block) && weights.end.is_multiple_of(per_block)) {
            return None;
        }
        let at = |weight: usize| self.range.start + weight / per_block * self.format.bytes();
        let from = |Scaled { by, first }: Scaled| Scaled { by, first: first + weights.start };
        Some(Self {
            format: self.format,
            bytes: self.bytes.clone(),
            range: at(weights.start)..at(weights.end),
            scaling: self.scaling.clone().map(from),
        })
    }

    /// Whether it is made of rows of so many weights, each of whole groups with a scale of its own.
    pub(super) fn has_groups_of(&self, width: usize) -> bool {
        let weights = self.weights();
        let is_scaled_by_groups = |Scaled { by, first }: &Scaled| by.has_groups() && first.is_multiple_of(GROUP);
        weights.is_multiple_of(width) && self.scaling.as_ref().is_none_or(is_scaled_by_groups)
    }

    /// All weights; on several threads where there are many.
    pub(super) fn unpack(&self, to: &mut [f32]) {
        let (format, unpack) = (self.format, self.unpacking());
        let part = |first: usize, bytes: &[u8], to: &mut [f32]| {
            unpack(bytes, to);
            if let Some(scaled) = &self.scaling {
                scaled.by.scale(scaled.first + first, to);
            }
        };
        if to.len() <= AT_ONCE {
            return part(0, self.bytes(), to);
        }
        let blocks = (AT_ONCE / format.weights()).max(1);
        let weights = blocks * format.weights();
        let parts = to.par_chunks_mut(weights).zip(self.bytes().par_chunks(blocks * format.bytes()));
        parts.enumerate().for_each(|(i, (to, bytes))| part(i * weights, bytes, to));
    }

    /// How its blocks become weights.
    fn unpacking(&self) -> Unpack {
        self.format.unpack().expect(FLOATS)
    }

    /// Some weights from number `first` of the segment on as integers; both are whole blocks and groups.
    pub(super) fn read_integers(&self, form: IntegerForm, first: usize, to: Integers) {
        let (per_block, size) = (self.format.weights(), self.format.bytes());
        let blocks = first / per_block..(first + to.codes.len()) / per_block;
        let Integers { codes, scales, shifts } = to;
        let to = Integers { codes, scales: &mut *scales, shifts };
        let (read, next) = self.bytes()[blocks.start * size..].split_at(blocks.len() * size);
        ahead(read, next);
        (form.read)(read, to);
        if let Some(scaled) = &self.scaling {
            scaled.by.scale_groups(scaled.first + first, scales);
        }
    }

    /// Some weights from number `first` of the segment on.
    pub(super) fn read(&self, first: usize, to: &mut [f32]) {
        let (per_block, size, unpack) = (self.format.weights(), self.format.bytes(), self.unpacking());
        let bytes = |blocks: Range<usize>| &self.bytes()[blocks.start * size..blocks.end * size];
        let end = first + to.len();
        // Whole blocks become weights in their place, the others beside it.
        let whole = first.div_ceil(per_block)..end / per_block;
        let beside = |block: usize, to: &mut [f32]| {
            let mut all = vec![0.0; per_block];
            unpack(bytes(block..block + 1), &mut all);
            let from = first.max(block * per_block);
            to.copy_from_slice(&all[from - block * per_block..][..to.len()]);
        };
        if whole.start > whole.end {
            beside(whole.end, to);
        } else {
            let (head, rest) = to.split_at_mut(whole.start * per_block - first);
            let (middle, tail) = rest.split_at_mut(whole.len() * per_block);
            if !head.is_empty() {
                beside(whole.start - 1, head);
            }
            let (read, next) = self.bytes()[whole.start * size..].split_at(whole.len() * size);
            ahead(read, next);
            unpack(read, middle);
            if !tail.is_empty() {
                beside(whole.end, tail);
            }
        }
        if let Some(scaled) = &self.scaling {
            scaled.by.scale(scaled.first + first, to);
        }
    }
}

/// Hints that as much will be read of what is next of a row, after as much of other rows.
fn ahead(read: &[u8], next: &[u8]) {
    kernels::read_ahead(Isa::best(), &next[..next.len().min(read.len())]);
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;
    use crate::{BlockFormat, Stored};

    #[test]
    fn rows_of_a_stack_run_across_its_parts() {
        let part = |from: i32, rows: usize| {
            Stored::of(&(from..from + 2 * rows as i32).map(|v| v as f32).collect::<Vec<_>>(), vec![rows, 2])
        };
        let stack = Stored::stacked(&[part(0, 2), part(4, 1), part(6, 3)]).unwrap();
        assert_eq!(stack.shape(), [6, 2]);
        for start in 0..=6 {
            for end in start..=6 {
                let expected: Vec<f32> = (2 * start..2 * end).map(|v| v as f32).collect();
                assert_eq!(stack.rows(start..end).unwrap().to_f32().unwrap(), expected, "{start}..{end}");
            }
        }
        assert_eq!(stack.rows(1..5).unwrap().rows(1..3).unwrap().to_f32().unwrap(), [4.0, 5.0, 6.0, 7.0]);
        assert!(Stored::stacked(&[part(0, 1), Stored::of(&[0.0; 3], vec![1, 3])]).is_none());
    }

    #[test]
    fn parts_of_several_formats_are_floats_together_and_each_is_read_in_its_own() {
        // given halves, halves with scales and blocks of three, one below the other
        let halves: Vec<u8> = [0x3c00u16, 0xc000, 0x3800].iter().flat_map(|half| half.to_le_bytes()).collect();
        let halves = Stored::of_bytes(Format::F16, vec![1, 3], halves).unwrap();
        let ones = [0x3c00u16; 6].iter().flat_map(|half| half.to_le_bytes()).collect();
        let scaled = Stored::of_bytes(Format::F16, vec![2, 3], ones).unwrap().scaled(Arc::new(Numbered));
        let blocks = Stored::of_bytes(Format(&Threes), vec![2, 3], vec![1, 2, 3, 4]).unwrap();
        let stack = Stored::stacked(&[halves, scaled, blocks.clone()]).unwrap();
        let expected = [1.0, -2.0, 0.5, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 3.0, 4.0, 7.0];
        // then they are F32 to whoever reads them, by values and by bytes, as a whole and cut anywhere
        let is = |stack: &Stored, expected: &[f32]| {
            let bytes: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!((stack.format(), &*stack.to_f32().unwrap()), (Format::F32, expected));
            assert_eq!((stack.to_bytes(), stack.byte_len()), (bytes.clone(), bytes.len()));
            let cut = bytes.len() / 3..bytes.len() / 2;
            assert_eq!(*stack.bytes_of(cut.clone()), bytes[cut]);
            let mut budget = usize::MAX;
            assert!(!stack.is_plain() && stack.is_finite() && !stack.is_zero(&mut budget));
            let passed_on = stack.with_values(|v| matches!(v, kernels::Values::F32(values) if values == expected));
            assert_eq!(passed_on, Some(true));
        };
        is(&stack, &expected);
        for start in 0..5 {
            for end in start + 1..=5 {
                is(&stack.rows(start..end).unwrap(), &expected[3 * start..3 * end]);
            }
        }
        for first in 0..expected.len() {
            let mut found = vec![0.0; expected.len() - first];
            stack.read(first, &mut found);
            assert_eq!(found, expected[first..]);
        }
        // and rows can be cut only where every part's blocks end
        let wide = Stored::of_bytes(Format(&Threes), vec![3, 1], vec![1, 2]).unwrap();
        let stack = Stored::stacked(&[Stored::of(&[1.0, 2.0], vec![2, 1]), wide]).unwrap();
        assert_eq!(stack.rows(1..5).unwrap().to_f32().unwrap(), [2.0, 1.0, 2.0, 3.0]);
        assert!(matches!(stack.rows(0..3), Err(crate::Error::Rows { per_block: 3, .. })));
        // and what is no number is put together with nothing of another format
        let integers = Stored::of_bytes(Format::I8, vec![1, 3], vec![1; 3]).unwrap();
        assert!(Stored::stacked(&[integers, blocks]).is_none());
    }

    /// Weights become their own numbers in the tensor.
    #[derive(Debug)]
    struct Numbered;

    impl Scaling for Numbered {
        fn scale(&self, first: usize, weights: &mut [f32]) {
            weights.iter_mut().enumerate().for_each(|(i, weight)| *weight *= (first + i) as f32);
        }
    }

    #[test]
    fn scales_are_those_of_a_weights_place_in_its_tensor_whatever_is_cut_and_stacked() {
        let rows = 3 * AT_ONCE / 4;
        let ones = Stored::of(&vec![1.0; rows * 4], vec![rows, 4]).scaled(Arc::new(Numbered));
        let expected: Vec<f32> = (0..rows * 4).map(|i| i as f32).collect();
        assert!(ones.is_scaled() && ones.to_f32().unwrap() == expected);
        let part = ones.rows(5..rows - 7).unwrap();
        assert_eq!(part.to_f32().unwrap(), expected[20..4 * (rows - 7)]);
        let stack = Stored::stacked(&[part.rows(1..3).unwrap(), ones.rows(0..1).unwrap()]).unwrap();
        assert_eq!(stack.to_f32().unwrap(), [&expected[24..32], &expected[..4]].concat());
        assert_eq!(stack.with_values(|v| matches!(v, kernels::Values::F32([24.0, ..]))), Some(true));
    }

    /// Three weights in two bytes.
    struct Threes;

    impl BlockFormat for Threes {
        fn name(&self) -> &'static str {
            "THREES"
        }

        fn weights(&self) -> usize {
            3
        }

        fn bytes(&self) -> usize {
            2
        }

        fn unpack(&self) -> Option<Unpack> {
            Some(|blocks, weights| {
                for (block, weights) in blocks.as_chunks::<2>().0.iter().zip(weights.as_chunks_mut::<3>().0) {
                    let [a, b] = block.map(f32::from);
                    *weights = [a, b, a + b];
                }
            })
        }
    }

    #[test]
    fn any_part_is_read_as_it_is_in_the_whole_wherever_blocks_and_parts_end() {
        let part = |blocks: usize, seed: u8| {
            let bytes = (0..2 * blocks as u8).map(|i| i.wrapping_mul(37).wrapping_add(seed)).collect();
            Stored::of_bytes(Format(&Threes), vec![blocks, 3], bytes).unwrap()
        };
        let stack = Stored::stacked(&[part(4, 1).scaled(Arc::new(Numbered)), part(1, 2), part(3, 3)]).unwrap();
        let all = stack.to_f32().unwrap();
        for first in 0..=all.len() {
            for end in first..=all.len() {
                let mut found = vec![f32::NAN; end - first];
                stack.read(first, &mut found);
                assert_eq!(found, all[first..end], "{first}..{end}");
            }
        }
        let beyond = std::panic::catch_unwind(AssertUnwindSafe(|| stack.read(all.len() - 1, &mut [0.0; 2])));
        assert!(beyond.is_err());
    }
}
