//! Scaled dot-product attention with a streaming softmax.
//!
//! A task is a few queries of one head. Keys and values pass by in blocks of tokens; what has been summed of a row is scaled down
//! whenever a block brings a greater score (Milakov and Gimelshein 2018; Dao et al. 2022). No matrix of all scores is made.

mod softmax;

use rayon::prelude::*;

use self::softmax::{Place, Softmax};
#[cfg(target_arch = "x86_64")]
use crate::amx::{Offsets, SIDE, STEP_BYTES, Sums, Tiles, flat};
use crate::{
    aligned::{Aligned, Scratch, Word},
    epilogue::Rows,
    isa::{Isa, Level},
    output::{Done, Order, Out, Output, Part},
    packed::{Compute, DEPTH, width},
    rope::Heads,
    simd::{Body, Simd, vectorize},
    size::{filled_up, product, sum},
    vector::{Pairs, Singles, Weights, products, tile_rows, tile_rows_of},
};

/// Tokens of a block. A multiple of every panel's width.
const BLOCK: usize = 512;

/// The same on tiles: 32 queries' scores stay in the first cache.
#[cfg(target_arch = "x86_64")]
const TILED_BLOCK: usize = 256;

/// How scores become weights.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// What a product of query and key is multiplied with; usually `1 / √d`.
    pub scale: f32,
    /// Added to the scores of every batch entry.
    pub bias: Option<Bias<'a>>,
    /// Which keys a query sees.
    pub mask: Mask<'a>,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// All.
    None,
    /// Query `q` sees keys 0 to `q`.
    Causal,
    /// Every query of a batch entry sees the same ones, which are `true` in `[b, m]`: one of each entry at least.
    Keys(&'a [bool]),
}

/// What is added to a score, by head, query and key.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    /// A number for each, `[heads, n, m]` for `n` queries and `m` keys.
    Full(&'a [f32]),
    /// A number for each distance, `[heads, n + m - 1]`: query `q` and key `k` get number `k + n - 1 - q` of their head.
    Relative(&'a [f32]),
}

/// `softmax(q · kᵀ · scale + bias) · v`: queries `[b, heads, n, d]`, keys and values `[b, heads, m, d]`, to
/// `[b, n, heads, d]`, which is what the next layer reads. Scores below -1e30 count as -1e30.
///
/// # Panics
/// If the shapes don't fit each other, there is no key or none that is seen, or a shape has more values than can be counted.
pub fn attention<'o>(
    isa: Isa,
    compute: Compute,
    q: Heads,
    k: Heads,
    v: Heads,
    scores: Scores,
    out: Out<'o>,
) -> &'o mut [f32] {
    let [b, heads, n, d] = q.shape();
    let m = k.shape()[2];
    assert!(
        k.shape() == [b, heads, m, d] && v.shape() == k.shape(),
        "{:?}, {:?}, {:?}",
        q.shape(),
        k.shape(),
        v.shape()
    );
    assert_eq!(out.len(), product("results", [b, n, heads, d]), "results for {:?}", q.shape());
    if let Some(bias) = scores.bias {
        let (found, expected) = match bias {
            Bias::Full(all) => (all.len(), product("biases", [heads, n, m])),
            Bias::Relative(table) => {
                let distances = sum("distances", [n, m]).saturating_sub(1);
                (table.len(), product("biases", [heads, distances]))
            }
        };
        assert_eq!(found, expected, "biases for scores [{heads}, {n}, {m}]");
    }
    if out.is_empty() {
        return &mut [];
    }
    assert!(m > 0, "attention to no key");
    if let Mask::Keys(seen) = scores.mask {
        assert_eq!(seen.len(), product("keys", [b, m]), "a mask of the keys [{b}, {m}]");
        assert!(seen.chunks_exact(m).all(|entry| entry.contains(&true)), "attention to no key");
    }
    let out = Output::of(out, heads * d);
    match (compute.is_in_pairs(isa), isa.level()) {
        #[cfg(target_arch = "x86_64")]
        (true, Level::Amx) => all::<Pairs, true>(isa, q, k, v, scores, out),
        (true, _) => all::<Pairs, false>(isa, q, k, v, scores, out),
        _ => all::<Singles<f32>, false>(isa, q, k, v, scores, out),
    }
}

/// Panels of keys and values that are made anew in each call.
trait Streamed: Weights<Value: Word> {
    /// A value of the bits that [`Weights::gather`] gives.
    fn value(bits: f32) -> Self::Value;
    /// What stands for some channels of `PER_STEP` tokens.
    fn join<S: Simd>(s: S, one: S::V, other: S::V) -> S::V;
}

impl Streamed for Singles<'_, f32> {
    #[inline(always)]
    fn value(bits: f32) -> f32 {
        bits
    }
    #[inline(always)]
    fn join<S: Simd>(_: S, one: S::V, _: S::V) -> S::V {
        one
    }
}

impl Streamed for Pairs<'_> {
    #[inline(always)]
    fn value(bits: f32) -> u32 {
        bits.to_bits()
    }
    #[inline(always)]
    fn join<S: Simd>(s: S, one: S::V, other: S::V) -> S::V {
        s.join(one, other)
    }
}

fn all<'o, W: Streamed, const TILED: bool>(
    isa: Isa,
    q: Heads,
    k: Heads,
    v: Heads,
    scores: Scores,
    out: Output<'o>,
) -> &'o mut [f32] {
    let [b, heads, n, d] = q.shape();
    let m = k.shape()[2];
    let width = width(isa);
    // Keys are panels of tokens and values panels of channels, each filled up with zeros.
    let (steps, tokens) = (W::steps(d), filled_up("keys", m, DEPTH));
    let (key_panels, value_panels) = (tokens.div_ceil(width), d.div_ceil(width));
    let key_panel = product("values of a panel", [steps, width]);
    let value_panel = product("values of a panel", [tokens / W::PER_STEP, width]);
    let mut keys = Aligned::<W::Value>::zeros(product("values of keys", [b, heads, key_panels, key_panel]));
    let mut values = Aligned::<W::Value>::zeros(product("values", [b, heads, value_panels, value_panel]));
    keys.par_chunks_mut(key_panel).enumerate().for_each(|(i, to)| {
        let (head, panel) = (i / key_panels, i % key_panels);
        vectorize(isa, PackKeys::<W> { rows: k.rows(head / heads, head % heads), first: panel * width, to });
    });
    values.par_chunks_mut(value_panel).enumerate().for_each(|(i, to)| {
        let (head, panel) = (i / value_panels, i % value_panels);
        vectorize(isa, PackValues::<W> { rows: v.rows(head / heads, head % heads), first: panel * width, to });
    });
    let rows = if TILED { 32 } else { tile_rows_of(isa) };
    let queries: Vec<usize> =
        (0..b).flat_map(|b| (0..n).step_by(rows).map(move |q| b * n + q)).chain([b * n]).collect();
    // Added to the scores of an entry's keys.
    let hidden: Vec<f32> = match scores.mask {
        Mask::None | Mask::Causal => Vec::new(),
        Mask::Keys(seen) => seen.iter().map(|&seen| if seen { 0.0 } else { f32::NEG_INFINITY }).collect(),
    };
    let channels: Vec<usize> = (0..=heads).map(|head| head * d).collect();
    // SAFETY: every task ends in `Softmax::write`, which fills all channels of its queries.
    unsafe {
        out.each_part(&queries, &channels, Order::ByColumns, |out| {
            let (entry, head) = (out.rows().start / n, out.index()[1]);
            let at = entry * heads + head;
            let keys = &keys[at * key_panels * key_panel..][..key_panels * key_panel];
            let values = &values[at * value_panels * value_panel..][..value_panels * value_panel];
            let hidden = if hidden.is_empty() { &[] } else { &hidden[entry * m..][..m] };
            let place = Place { head, first: out.rows().start % n, count: out.rows().len(), n, m, hidden };
            vectorize(
                isa,
                Task::<W, TILED> { isa, queries: q.rows(entry, head), keys, values, tokens, scores, place, out },
            )
        })
    }
}

/// A panel of keys: for each step the tokens side by side.
struct PackKeys<'a, W: Weights> {
    rows: Rows<'a>,
    first: usize,
    to: &'a mut [W::Value],
}

impl<W: Streamed> Body for PackKeys<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, first, to } = self;
        let width = 2 * S::LANES;
        let steps = to.len() / width;
        for start in (0..steps).step_by(16) {
            let count = 16.min(steps - start);
            for side in (0..width).step_by(16) {
                let mut square = [[0.0f32; 16]; 16];
                let tokens = 16.min(width - side).min(rows.rows.saturating_sub(first + side));
                for t in 0..tokens {
                    W::gather(s, rows.row(first + side + t), start, count, &mut square[t]);
                }
                s.transpose(&mut square);
                for i in 0..count {
                    let to = &mut to[(start + i) * width + side..];
                    for t in 0..16.min(width - side) {
                        to[t] = W::value(square[i][t]);
                    }
                }
            }
        }
    }
}

/// A panel of values: for each step some channels of its tokens side by side.
struct PackValues<'a, W: Weights> {
    rows: Rows<'a>,
    first: usize,
    to: &'a mut [W::Value],
}

impl<W: Streamed> Body for PackValues<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, first, to } = self;
        let width = 2 * S::LANES;
        let channels = width.min(rows.d_in - first);
        let to = W::Value::as_floats(to);
        for step in 0..rows.rows.div_ceil(W::PER_STEP) {
            let token = step * W::PER_STEP;
            for at in (0..channels).step_by(S::LANES) {
                let part = first + at..first + channels.min(at + S::LANES);
                let one = s.load_part(&rows.row(token)[part.clone()], 0.0);
                let is_last = token + 1 == rows.rows;
                let other = if is_last { s.splat(0.0) } else { s.load_part(&rows.row(token + 1)[part.clone()], 0.0) };
                s.store_part(&mut to[step * width + at..][..part.len()], W::join(s, one, other));
            }
        }
    }
}

struct Task<'a, W: Weights, const TILED: bool> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    isa: Isa,
    queries: Rows<'a>,
    keys: &'a [W::Value],
    values: &'a [W::Value],
    tokens: usize,
    scores: Scores<'a>,
    place: Place<'a>,
    out: Part<'a>,
}

impl<W: Streamed, const TILED: bool> Body for Task<'_, W, TILED> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        #[cfg(target_arch = "x86_64")]
        if TILED {
            return self.tiled(s);
        }
        match tile_rows::<S>() {
            14 => self.in_vectors::<S, 14>(s),
            6 => self.in_vectors::<S, 6>(s),
            _ => self.in_vectors::<S, 8>(s),
        }
    }
}

impl<W: Streamed, const TILED: bool> Task<'_, W, TILED> {
    #[inline(always)]
    fn in_vectors<S: Simd, const M: usize>(self, s: S) -> Done {
        let Self { queries, keys, values, tokens, scores, place, out, .. } = self;
        let width = 2 * S::LANES;
        let d = queries.d_in;
        let steps = W::steps(d);
        let mut query = Scratch::<f32>::of(product("values of queries", [steps, M]));
        for r in 0..place.count {
            let mut sixteen = [0.0; 16];
            for start in (0..steps).step_by(16) {
                let count = 16.min(steps - start);
                W::gather(s, queries.row(place.first + r), start, count, &mut sixteen);
                for i in 0..count {
                    query[(start + i) * M + r] = sixteen[i];
                }
            }
        }
        let mut weights = Scratch::<f32>::of(BLOCK * M);
        let mut rearranged = Scratch::<f32>::of(BLOCK / W::PER_STEP * M);
        let mut sums = Scratch::<f32>::of(product("sums", [d.div_ceil(width), M, width]));
        sums.fill(0.0);
        let mut softmax = Softmax::<M>::new(scores, place);
        let value_panel = tokens / W::PER_STEP * width;
        for start in (0..softmax.seen()).step_by(BLOCK) {
            let block = BLOCK.min(tokens - start);
            for panel in 0..block.div_ceil(width) {
                let keys = &keys[(start / width + panel) * steps * width..][..steps * width];
                let products = products::<S, W, M>(
                    s,
                    &query,
                    keys,
                    keys.as_ptr_range().end.cast(),
                    size_of_val(keys) / steps.max(1),
                );
                for r in 0..M {
                    let to = &mut weights[(panel * M + r) * width..][..width];
                    s.store(to, products[r][0]);
                    s.store(&mut to[S::LANES..], products[r][1]);
                }
            }
            let factors = softmax.weigh(s, &mut weights, start, block.div_ceil(width), width);
            let block_steps = block / W::PER_STEP;
            let in_panel = width / W::PER_STEP;
            for begin in (0..block_steps).step_by(in_panel.min(16)) {
                let (panel, column) = (begin / in_panel, begin % in_panel);
                let count = 16.min(in_panel - column).min(block_steps - begin);
                let mut square = [[0.0; 16]; 16];
                for (r, to) in square.iter_mut().enumerate().take(M) {
                    W::gather(s, &weights[(panel * M + r) * width..][..width], column, count, to);
                }
                s.transpose(&mut square);
                for (i, rows) in square.iter().enumerate().take(count) {
                    rearranged[(begin + i) * M..][..M].copy_from_slice(&rows[..M]);
                }
            }
            for panel in 0..d.div_ceil(width) {
                let values = &values[panel * value_panel + start / W::PER_STEP * width..][..block_steps * width];
                let products =
                    products::<S, W, M>(s, &rearranged[..block_steps * M], values, values.as_ptr_range().end.cast(), 0);
                for r in 0..M {
                    let sums = &mut sums[(panel * M + r) * width..][..width];
                    let factor = s.splat(factors[r]);
                    let low = s.fma(s.load(sums), factor, products[r][0]);
                    let high = s.fma(s.load(&sums[S::LANES..]), factor, products[r][1]);
                    s.store(sums, low);
                    s.store(&mut sums[S::LANES..], high);
                }
            }
        }
        softmax.write(s, &sums, width, out)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn tiled<S: Simd>(self, s: S) -> Done {
        let Self { isa, queries, keys, values, tokens, scores, place, out } = self;
        const WORDS: usize = STEP_BYTES / 4;
        let (keys, values) = (W::Value::as_bits(keys), W::Value::as_bits(values));
        let d = queries.d_in;
        let steps = d.div_ceil(DEPTH);
        let tiles = Tiles::configure(isa);
        let mut query = Aligned::<u32>::zeros(product("words of queries", [steps, WORDS]));
        for r in 0..place.count {
            for (step, x) in queries.row(place.first + r).chunks(DEPTH).enumerate() {
                let mut all = [0.0; DEPTH];
                all[..x.len()].copy_from_slice(x);
                s.round_to_pairs(&all, &mut query[(step * SIDE + r) * DEPTH / 2..][..DEPTH / 2]);
            }
        }
        // A block is no longer than there are tokens: where there are few, room for more would take longer to clear than they take.
        let most = TILED_BLOCK.min(tokens) / SIDE;
        let offsets: Vec<u64> = (0..most.max(steps)).map(|step| (step * STEP_BYTES) as u64).collect();
        let mut weights = vec![Sums([0.0; SIDE * SIDE]); most];
        let mut rounded = Aligned::<u32>::zeros(most * WORDS);
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); d.div_ceil(SIDE)];
        let mut softmax = Softmax::<SIDE>::new(scores, place);
        let value_panel = tokens / DEPTH * WORDS;
        for start in (0..softmax.seen()).step_by(TILED_BLOCK) {
            let panels = TILED_BLOCK.min(tokens - start) / SIDE;
            for (panel, weights) in weights.iter_mut().enumerate().take(panels) {
                let keys = &keys[(start / SIDE + panel) * steps * WORDS..][..steps * WORDS];
                tiles.multiply(&query, Offsets::of(&offsets[..steps]), keys, weights, true, true, keys.as_ptr());
            }
            let factors = softmax.weigh_in_pairs(s, flat(&mut weights), start, panels, SIDE, &mut rounded);
            let is_scaled = start > 0 && factors.iter().any(|&factor| factor != 1.0);
            for (panel, sums) in sums.iter_mut().enumerate() {
                if is_scaled {
                    for r in 0..SIDE {
                        let factor = s.splat(factors[r]);
                        for at in (0..SIDE).step_by(S::LANES) {
                            let row = &mut sums.0[r * SIDE + at..];
                            let scaled = s.mul(s.load(row), factor);
                            s.store(row, scaled);
                        }
                    }
                }
                let values = &values[panel * value_panel + start / DEPTH * WORDS..][..panels * WORDS];
                let offsets = Offsets::of(&offsets[..panels]);
                tiles.multiply(&rounded, offsets, values, sums, start == 0, true, values.as_ptr());
            }
        }
        softmax.write(s, flat(&mut sums), SIDE, out)
    }
}
