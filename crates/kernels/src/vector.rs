//! Products of matrices on vectors: a block of rows times a panel of two vectors' width, sums in registers.
//!
//! The scheme is that of Goto and van de Geijn (2008): a block of inputs is rearranged so that the innermost loop reads both
//! factors in order, and chosen so large that the caches hold what is used again.

mod inputs;
mod whole;

pub(crate) use self::{
    inputs::{rearrange, tile_rows, tile_rows_of},
    whole::{linear, linear_kept},
};
use crate::{
    aligned::Scratch,
    epilogue::{Finish, Rows},
    output::{Done, Part},
    packed::{DEPTH, Panels, widen},
    pair::{PackedPair, ScaledPair, Up},
    simd::{Body, Simd, Stored},
    size::{filled_up, product},
};

/// Inputs of a block: a panel of that many steps stays in the first cache (256 · 32 · 4 bytes).
const BLOCK: usize = 512;

/// Panels of weights, and how a step over them is taken.
pub(crate) trait Weights: Copy + Send + Sync {
    /// What stands in a panel.
    type Value: Copy + Send + Sync;
    /// Inputs that one step takes.
    const PER_STEP: usize;
    /// Values that one place of a panel takes.
    fn values(&self) -> &[Self::Value];
    /// Steps for so many inputs.
    fn steps(d_in: usize) -> usize;
    /// A vector of a panel.
    ///
    /// # Safety
    /// `p` is good for reading a vector's worth of values.
    unsafe fn load<S: Simd>(s: S, p: *const Self::Value) -> S::V;
    /// `sum + a · b`.
    fn step<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V;
    /// What stands for `width` steps' inputs in a rearranged block, from step `step` of a row on.
    fn gather<S: Simd>(s: S, x: &[f32], step: usize, width: usize, to: &mut [f32; 16]);

    /// How a step over the ranks of a pair beside them is taken.
    type Also: Weights;
    /// A panel of `width` outputs of a pair's last factor; `room` is for as many values.
    fn also<'u, S: Simd>(
        s: S,
        pair: &'u PackedPair,
        panel: usize,
        room: &'u mut [f32],
    ) -> &'u [<Self::Also as Weights>::Value];
}

/// What a pair adds to a product: inputs that follow those of the matrix, and weights for them.
#[derive(Clone, Copy)]
pub(crate) struct Also<'a> {
    inner: Rows<'a>,
    pair: &'a PackedPair,
}

impl<'a> Also<'a> {
    /// Of what lies between the factors, `[rows, rank]`.
    pub(crate) fn of(scaled: ScaledPair<'a>, rows: usize, inner: &'a [f32]) -> Self {
        let rank = scaled.rank();
        Self { inner: Rows { x: inner, stride: rank, rows, d_in: rank }, pair: scaled.pair }
    }

    /// The inputs that follow those of the matrix.
    pub(crate) fn rows(self) -> Rows<'a> {
        self.inner
    }

    /// How many there are in a row.
    pub(crate) fn rank(self) -> usize {
        self.inner.d_in
    }

    /// Whether two of them are multiplied at a time, as bf16.
    pub(crate) fn is_in_pairs(self) -> bool {
        matches!(self.pair.up(), Up::Pairs(_))
    }

    /// The weights of a panel for them; `room` is for as many values.
    #[inline(always)]
    pub(crate) fn up<'u, W: Weights, S: Simd>(
        self,
        s: S,
        panel: usize,
        room: &'u mut [f32],
    ) -> &'u [<W::Also as Weights>::Value]
    where
        'a: 'u,
    {
        W::also(s, self.pair, panel, room)
    }
}

/// One input a step.
#[derive(Clone, Copy)]
pub(crate) struct Singles<'a, T>(pub(crate) &'a [T]);

impl<'a, T: Stored> Weights for Singles<'a, T> {
    type Value = T;
    const PER_STEP: usize = 1;

    fn values(&self) -> &[T] {
        self.0
    }
    fn steps(d_in: usize) -> usize {
        d_in
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const T) -> S::V {
        // SAFETY: passed on.
        unsafe { T::load(s, p) }
    }
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.fma(a, b, sum)
    }
    #[inline(always)]
    fn gather<S: Simd>(_: S, x: &[f32], step: usize, width: usize, to: &mut [f32; 16]) {
        match x[step..].first_chunk() {
            Some(all) => *to = *all,
            None => to[..width].copy_from_slice(&x[step..step + width]),
        }
    }

    type Also = Singles<'a, f32>;

    #[inline(always)]
    fn also<'u, S: Simd>(s: S, pair: &'u PackedPair, panel: usize, room: &'u mut [f32]) -> &'u [f32] {
        let Up::Singles(matrix) = pair.up() else { unreachable!("a pair is computed as its matrix") };
        let place = panel * room.len()..(panel + 1) * room.len();
        match matrix.panels() {
            Panels::F32(values) => return &values[place],
            Panels::F16(values) => widen(s, &values[place], room),
            Panels::Bf16(values) => widen(s, &values[place], room),
            Panels::Pairs(_) => unreachable!("pairs have a factor of their own"),
        }
        room
    }
}

/// Two inputs a step, as bf16.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'a>(pub(crate) &'a [u32]);

impl Weights for Pairs<'_> {
    type Value = u32;
    const PER_STEP: usize = 2;

    fn values(&self) -> &[u32] {
        self.0
    }
    fn steps(d_in: usize) -> usize {
        filled_up("inputs", d_in, DEPTH) / 2
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u32) -> S::V {
        // SAFETY: passed on; the bits are not looked at as numbers before `step` does.
        unsafe { s.load_ptr(p.cast()) }
    }
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, sum: S::V) -> S::V {
        s.dot_pairs(a, b, sum)
    }
    #[inline(always)]
    fn gather<S: Simd>(s: S, x: &[f32], step: usize, _: usize, to: &mut [f32; 16]) {
        let mut pairs = [0; 16];
        let x = &x[x.len().min(2 * step)..];
        match x.first_chunk::<DEPTH>() {
            Some(all) => s.round_to_pairs(all, &mut pairs),
            None => {
                let mut all = [0.0; DEPTH];
                all[..x.len()].copy_from_slice(x);
                s.round_to_pairs(&all, &mut pairs);
            }
        }
        *to = pairs.map(f32::from_bits);
    }

    type Also = Self;

    #[inline(always)]
    fn also<'u, S: Simd>(_: S, pair: &'u PackedPair, panel: usize, room: &'u mut [f32]) -> &'u [u32] {
        let Up::Pairs(words) = pair.up() else { unreachable!("a pair is computed as its matrix") };
        &words[panel * room.len()..][..room.len()]
    }
}

struct Task<'a, W> {
    weights: W,
    /// The column of the weights' first panel.
    first: usize,
    /// The weights' last panel, and how many outputs stand side by side in it.
    last: (usize, usize),
    input: Rows<'a>,
    also: Option<Also<'a>>,
    finish: Finish<'a>,
    out: Part<'a>,
}

impl<W: Weights> Body for Task<'_, W> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        let Self { weights, first: first_column, last, input, also, finish, mut out } = self;
        let tile_rows = tile_rows::<S>();
        let width = 2 * S::LANES;
        let (rows, columns) = (out.rows(), out.columns());
        let panels = columns.start / width..columns.end.div_ceil(width);
        let steps = W::steps(input.d_in);
        let tiles = rows.len().div_ceil(tile_rows);
        let mut block = Scratch::of(product("inputs of a block", [tiles, tile_rows, BLOCK.min(steps)]));
        // Sums wait here for the next block, and not in the result, which is too large for the caches.
        let tile_sums = tile_rows * width;
        let waiting_tiles = if steps > BLOCK { tiles } else { 0 };
        let mut waiting = Scratch::of(product("waiting sums", [panels.len(), waiting_tiles, tile_sums]));
        let ranks = also.map_or(0, |also| also.inner.d_in.div_ceil(W::Also::PER_STEP));
        let mut inner = Scratch::of(product("inputs of a block", [tiles, tile_rows, ranks]));
        let mut room = Scratch::of(product("weights of a panel", [ranks, width]));
        if let Some(also) = also {
            rearrange::<W::Also, S>(s, &mut inner, also.inner, rows.clone(), 0..ranks);
        }
        for start in (0..steps.max(1)).step_by(BLOCK) {
            let end = steps.min(start + BLOCK);
            rearrange::<W, S>(s, &mut block, input, rows.clone(), start..end);
            for (i, panel) in panels.clone().enumerate() {
                let place = panel - first_column / width;
                let stride = if place == last.0 { last.1 } else { width };
                let place = place * steps * width + start * stride;
                let values = &weights.values()[place..][..(end - start) * stride + (width - stride)];
                let columns = panel * width..columns.end.min((panel + 1) * width);
                let up = also.filter(|_| end == steps).map(|also| W::also(s, also.pair, panel, &mut room));
                for tile in 0..tiles {
                    let first = rows.start + tile * tile_rows;
                    let count = tile_rows.min(rows.end - first);
                    let a = &block[tile * tile_rows * (end - start)..][..tile_rows * (end - start)];
                    let more = up.map(|up| (&inner[tile * tile_rows * ranks..][..tile_rows * ranks], up));
                    // The next panel comes into the second cache while this one is used, a part with each tile.
                    let ahead = values.as_ptr_range().end.wrapping_add(tile * values.len() / tiles).cast();
                    let waiting = waiting.get_mut((i * tiles + tile) * tile_sums..).unwrap_or_default();
                    let tile = Tile {
                        s,
                        waiting,
                        ahead,
                        ahead_step: (2 * size_of::<W::Value>() * S::LANES).div_ceil(tiles),
                        stride,
                        finish,
                        out: &mut out,
                        first,
                        count,
                        columns: columns.clone(),
                        is_first: start == 0,
                        is_last: end == steps,
                    };
                    match (tile_rows, count) {
                        (14, 9..) => tile.run::<W, 14>(a, values, more),
                        (14, 5..) => tile.run::<W, 8>(a, values, more),
                        (6, 5..) => tile.run::<W, 6>(a, values, more),
                        (8, 5..) => tile.run::<W, 8>(a, values, more),
                        (_, 2..) => tile.run::<W, 4>(a, values, more),
                        _ => tile.run::<W, 1>(a, values, more),
                    }
                }
            }
        }
        out.done()
    }
}

/// Sums of products of `M` rows, which stand side by side in `a`, with a panel. With each step, `ahead_step` bytes from `ahead` on
/// are brought into the second cache.
#[inline(always)]
pub(crate) fn products<S: Simd, W: Weights, const M: usize>(
    s: S,
    a: &[f32],
    b: &[W::Value],
    mut ahead: *const u8,
    ahead_step: usize,
) -> [[S::V; 2]; M] {
    let steps = a.len() / M;
    assert!(b.len() == steps * 2 * S::LANES);
    let mut sums = [[s.splat(0.0); 2]; M];
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    for _ in 0..steps {
        s.prefetch(ahead);
        ahead = ahead.wrapping_add(ahead_step);
        // SAFETY: `a` holds `M` and `b` two vectors of values for each step, as just checked.
        unsafe { step::<S, W, M>(s, a, b, &mut sums) };
        a = a.wrapping_add(M);
        b = b.wrapping_add(2 * S::LANES);
    }
    sums
}

/// One step of a panel, for `M` rows.
///
/// # Safety
/// `a` is good for reading `M` values and `b` for two vectors' worth.
#[inline(always)]
unsafe fn step<S: Simd, W: Weights, const M: usize>(
    s: S,
    a: *const f32,
    b: *const W::Value,
    sums: &mut [[S::V; 2]; M],
) {
    // SAFETY: the caller's promises.
    unsafe {
        let b0 = W::load(s, b);
        let b1 = W::load(s, b.add(S::LANES));
        for r in 0..M {
            let x = s.splat(*a.add(r));
            sums[r][0] = W::step(s, x, b0, sums[r][0]);
            sums[r][1] = W::step(s, x, b1, sums[r][1]);
        }
    }
}

/// Adds the products of a tile's inputs, of which `M` rows from `first` on count, with a panel.
#[inline(always)]
pub(crate) fn add_products<S: Simd, W: Weights, const M: usize>(
    s: S,
    first: usize,
    a: &[f32],
    b: &[W::Value],
    sums: &mut [[S::V; 2]; M],
) {
    let tile_rows = tile_rows::<S>();
    assert!(first + M <= tile_rows && a.len() / tile_rows * 2 * S::LANES == b.len());
    for (a, b) in a.chunks_exact(tile_rows).zip(b.chunks_exact(2 * S::LANES)) {
        // SAFETY: `a` holds `tile_rows` and `b` two vectors of values.
        unsafe { step::<S, W, M>(s, a[first..].as_ptr(), b.as_ptr(), sums) };
    }
}

/// One tile's place in the result.
struct Tile<'a, 'o, S> {
    s: S,
    /// The sums of the blocks before, row after row.
    waiting: &'a mut [f32],
    /// What will be read next, and how many bytes of it are fetched at each step.
    ahead: *const u8,
    ahead_step: usize,
    /// From the values of one step to those of the next.
    stride: usize,
    finish: Finish<'a>,
    out: &'a mut Part<'o>,
    first: usize,
    count: usize,
    columns: std::ops::Range<usize>,
    is_first: bool,
    is_last: bool,
}

/// Further inputs, and the weights that they are multiplied with.
type More<'a, W> = (&'a [f32], &'a [<W as Weights>::Value]);

impl<S: Simd> Tile<'_, '_, S> {
    /// Sums the block's products for the first `M` rows, on top of those of the blocks before, and those of `more` inputs and weights.
    #[inline(always)]
    fn run<W: Weights, const M: usize>(self, a: &[f32], b: &[W::Value], more: Option<More<W::Also>>) {
        let Self { s, waiting, mut ahead, ahead_step, stride, finish, out, first, count, columns, is_first, is_last } =
            self;
        let tile_rows = tile_rows::<S>();
        let steps = a.len() / tile_rows;
        assert!(M <= tile_rows && stride <= 2 * S::LANES && b.len() == steps * stride + (2 * S::LANES - stride));
        let mut sums = [[s.splat(0.0); 2]; M];
        let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
        for _ in 0..steps {
            s.prefetch(ahead);
            ahead = ahead.wrapping_add(ahead_step);
            // SAFETY: `a` holds `tile_rows` values for each step, and two vectors lie in `b` from each step's `stride` on, as just
            // checked.
            unsafe { step::<S, W, M>(s, a, b, &mut sums) };
            a = a.wrapping_add(tile_rows);
            b = b.wrapping_add(stride);
        }
        if let Some((a, b)) = more {
            add_products::<S, W::Also, M>(s, 0, a, b, &mut sums);
        }
        for r in 0..count {
            let [mut low, mut high] = sums[r];
            let at = r * 2 * S::LANES;
            if !is_first {
                low = s.add(s.load(&waiting[at..]), low);
                high = s.add(s.load(&waiting[at + S::LANES..]), high);
            }
            if is_last {
                let out = out.row(first + r, columns.start, columns.len());
                finish.write(s, &[low, high], first + r, columns.start, out);
            } else {
                s.store(&mut waiting[at..], low);
                s.store(&mut waiting[at + S::LANES..], high);
            }
        }
    }
}
