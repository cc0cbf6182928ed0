//! Rows of inputs in the order of tiles, and what the first factors of pairs make of them: a block of rows meets them while it is still in
//! the caches.

use std::{arch::asm, mem::MaybeUninit};

use rayon::prelude::*;

use super::{More, SIDE, STEP_BYTES, Sums, Tiles};
use crate::{
    aligned::{Aligned, Scratch},
    epilogue::Rows,
    isa::Isa,
    norm::RowNorm,
    packed::DEPTH,
    pair::{PackedPair, ScaledPair},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Words of a step of a block of rows.
const WORDS: usize = STEP_BYTES / 4;

/// Ranks that a block of rows meets at a time.
const RANKS: usize = 16;

/// Steps of a block's rows that stay in the first cache while ranks pass by.
const INNER: usize = 16;

/// Rows as tiles read them: for [`SIDE`] rows at a time, [`DEPTH`] values of every row after the other.
#[derive(Debug)]
pub(crate) struct Rearranged {
    pub(crate) words: Aligned<u32>,
    /// What lies between the factors of every pair, in the same order: for [`SIDE`] rows those of all pairs.
    inner: Aligned<u32>,
    /// Words of a block of it, and where each pair's begin.
    apart: usize,
    starts: Vec<usize>,
}

impl Rearranged {
    /// Rows of inputs, of what becomes of each by `norm`.
    pub(crate) fn of<'p>(
        isa: Isa,
        input: Rows,
        norm: Option<RowNorm>,
        pairs: impl IntoIterator<Item = Option<ScaledPair<'p>>>,
    ) -> Self {
        let blocks = input.rows.div_ceil(SIDE);
        let size = product("words of a block", [input.d_in.div_ceil(DEPTH), WORDS]);
        let all = product("words of rearranged inputs", [blocks, size]);
        let pairs: Vec<_> = pairs.into_iter().collect();
        let (mut inner, apart, starts) = between(blocks, &pairs);
        let rearrange = |block: usize, to: &mut [MaybeUninit<u32>]| {
            vectorize(isa, Rearrange { input, norm, block, to });
        };
        // SAFETY: each block's words are those of `SIDE` rows in all steps, and `Rearrange` writes them all.
        let words = unsafe {
            Aligned::<u32>::written(all, |to| match apart {
                _ if size == 0 => {}
                0 => to.par_chunks_mut(size).enumerate().for_each(|(block, to)| rearrange(block, to)),
                _ => (to.par_chunks_mut(size).zip(inner.par_chunks_mut(apart)).enumerate()).for_each(
                    |(block, (to, inner))| {
                        rearrange(block, to);
                        vectorize(isa, Between { isa, words: to.assume_init_ref(), pairs: &pairs, to: inner });
                    },
                ),
            })
        };
        Self { words, inner, apart, starts }
    }

    /// Rows that are in order, so many words of each block.
    pub(crate) fn with<'p>(
        isa: Isa,
        words: Aligned<u32>,
        size: usize,
        pairs: impl IntoIterator<Item = Option<ScaledPair<'p>>>,
    ) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let (mut inner, apart, starts) = between(words.len() / size.max(1), &pairs);
        if apart > 0 {
            (inner.par_chunks_mut(apart).zip(words.par_chunks(size)))
                .for_each(|(to, words)| vectorize(isa, Between { isa, words, pairs: &pairs, to }));
        }
        Self { words, inner, apart, starts }
    }

    /// What the pair of this place adds to a product.
    pub(super) fn also<'a>(&'a self, which: usize, pair: Option<ScaledPair<'a>>) -> Option<Also<'a>> {
        let pair = pair?;
        let start = self.starts[which];
        Some(Also {
            inner: self.inner.get(start..).unwrap_or_default(),
            apart: self.apart,
            steps: pair.rank().div_ceil(DEPTH),
            pair: pair.pair,
        })
    }
}

/// What a pair adds to a product: steps that follow those of the matrix.
#[derive(Clone, Copy)]
pub(super) struct Also<'a> {
    inner: &'a [u32],
    apart: usize,
    steps: usize,
    pair: &'a PackedPair,
}

impl<'a> Also<'a> {
    /// For a block of rows and a panel of outputs.
    #[inline(always)]
    pub(super) fn of(self, block: usize, panel: usize) -> More<'a> {
        let Self { inner, apart, steps, pair } = self;
        More { a: &inner[block * apart..][..steps * WORDS], b: pair.up_from(panel), steps }
    }
}

/// Room for what lies between the factors of pairs, words of a block of it, and where each pair's begin.
fn between(blocks: usize, pairs: &[Option<ScaledPair>]) -> (Aligned<u32>, usize, Vec<usize>) {
    let (mut starts, mut apart) = (Vec::new(), 0);
    for pair in pairs {
        starts.push(apart);
        apart += pair.map_or(0, |pair| pair.rank().div_ceil(DEPTH) * WORDS);
    }
    (Aligned::zeros(product("words between factors", [blocks, apart])), apart, starts)
}

/// Rounds [`SIDE`] rows to bf16, [`DEPTH`] values of every row after the other.
struct Rearrange<'a> {
    input: Rows<'a>,
    norm: Option<RowNorm<'a>>,
    block: usize,
    to: &'a mut [MaybeUninit<u32>],
}

impl Body for Rearrange<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { input, norm, block, to } = self;
        let first = block * SIDE;
        let mut normal = Scratch::<f32>::of(if norm.is_some() { input.d_in } else { 0 });
        for r in 0..SIDE {
            let mut row = if first + r < input.rows { input.row(first + r) } else { &[] };
            if let Some(norm) = norm
                && !row.is_empty()
            {
                norm.apply(s, row, &mut normal);
                row = &normal;
            }
            for step in 0..to.len() / WORDS {
                let x = &row[row.len().min(step * DEPTH)..row.len().min((step + 1) * DEPTH)];
                let mut pairs = [0; DEPTH / 2];
                if x.len() == DEPTH {
                    s.round_to_pairs(x, &mut pairs);
                } else {
                    let mut all = [0.0; DEPTH];
                    all[..x.len()].copy_from_slice(x);
                    s.round_to_pairs(&all, &mut pairs);
                }
                to[(step * SIDE + r) * DEPTH / 2..][..DEPTH / 2].write_copy_of_slice(&pairs);
            }
        }
    }
}

/// Multiplies a block of rows with the first factors of pairs, and has it as inputs for the last ones.
struct Between<'a> {
    isa: Isa,
    words: &'a [u32],
    pairs: &'a [Option<ScaledPair<'a>>],
    to: &'a mut [u32],
}

impl Body for Between<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { isa, words, pairs, to } = self;
        let panels = || pairs.iter().flatten().flat_map(|scaled| scaled.pair.downs());
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); panels().count()];
        let tiles = Tiles::configure(isa);
        for (i, words) in words.chunks(INNER * WORDS).enumerate() {
            for ((down, ranks), sums) in panels().zip(&mut sums) {
                let down = &down[i * INNER * (DEPTH / 2) * ranks..];
                tiles.multiply_narrow(words, down, ranks, sums, i == 0);
            }
        }
        let (mut sums, mut to) = (&sums[..], to.chunks_exact_mut(WORDS));
        for ScaledPair { pair, scales } in pairs.iter().flatten() {
            let (own, others) = sums.split_at(scales.len().div_ceil(RANKS));
            sums = others;
            let [_, rank, _] = pair.shape();
            for (step, (sums, to)) in own.chunks(DEPTH / RANKS).zip(to.by_ref()).enumerate() {
                let scales = &scales[step * DEPTH..rank.min((step + 1) * DEPTH)];
                for (r, to) in to.chunks_exact_mut(DEPTH / 2).enumerate() {
                    // What a panel's last tile has beside its ranks is not theirs.
                    let mut values = [0.0; DEPTH];
                    for (o, (value, scale)) in values.iter_mut().zip(scales).enumerate() {
                        let (even, odd) = sums[o / RANKS].0.split_at(SIDE * RANKS);
                        let at = r * RANKS + o % RANKS;
                        *value = (even[at] + odd[at]) * scale;
                    }
                    s.round_to_pairs(&values, to);
                }
            }
        }
    }
}

impl Tiles {
    /// `sums = a · b`, or `sums += a · b` where they aren't fresh, of a block's rows and a narrow panel of `width` columns, [`RANKS`] at
    /// most, whose pairs of inputs lie side by side. Even steps' sums are the first half, `[SIDE, RANKS]`, odd ones' the second; columns
    /// from `width` on are of no use.
    ///
    /// # Panics
    /// If `b` has not all of the tiles.
    #[inline(always)]
    fn multiply_narrow(&self, a: &[u32], b: &[u32], width: usize, sums: &mut Sums, is_fresh: bool) {
        let steps = a.len() / WORDS;
        let rows = steps * (DEPTH / 2);
        // Each row of a tile is read whole.
        assert!(width > 0 && width <= RANKS && rows > 0 && (rows - 1) * width + RANKS <= b.len());
        // SAFETY: reads tiles that `a` and `b` have, as just checked, and writes `sums` alone; the tiles are configured while `self`
        // lives, which is on this thread.
        unsafe {
            asm!(
                "test {fresh:e}, {fresh:e}",
                "jz 3f",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "jmp 2f",
                "3:",
                "tileloadd tmm0, [{c} + {half}]",
                "tileloadd tmm1, [{c} + {half} + 1024]",
                "tileloadd tmm2, [{c} + {half} + 2048]",
                "tileloadd tmm3, [{c} + {half} + 3072]",
                "2:",
                "test {twos}, {twos}",
                "jz 5f",
                "4:",
                "tileloadd tmm4, [{a} + {half}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a} + {half} + 1024]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "add {b}, {step}",
                "tileloadd tmm4, [{a} + {half} + 2048]",
                "tileloadd tmm7, [{b} + {row}]",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {half} + 3072]",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {b}, {step}",
                "add {a}, 4096",
                "dec {twos}",
                "jnz 4b",
                "5:",
                "test {one}, {one}",
                "jz 6f",
                "tileloadd tmm4, [{a} + {half}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a} + {half} + 1024]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "6:",
                "tilestored [{c} + {half}], tmm0",
                "tilestored [{c} + {half} + 1024], tmm1",
                "tilestored [{c} + {half} + 2048], tmm2",
                "tilestored [{c} + {half} + 3072], tmm3",
                fresh = in(reg) u32::from(is_fresh), c = in(reg) sums.0.as_mut_ptr(), half = in(reg) 64usize,
                row = in(reg) width * 4, step = in(reg) width * (DEPTH / 2 * 4),
                a = inout(reg) a.as_ptr() => _, b = inout(reg) b.as_ptr() => _,
                twos = inout(reg) steps / 2 => _, one = in(reg) steps % 2,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
