//! The product with integers: tiles of rows times panels of outputs, with sums of integers in registers.

mod inputs;

use std::{marker::PhantomData, ops::Range};

use self::inputs::Inputs;
use crate::{
    aligned::{Scratch, Word},
    epilogue::{Finish, Rows},
    integers::{Factors, GROUP, IntegerMatrix},
    output::{Done, Order, Output, Part},
    packed::width,
    shares::{at_once, tasks},
    simd::{Body, Simd, vectorize},
    size::product,
    vector::{Also, Pairs, Singles, add_products, rearrange, tile_rows, tile_rows_of},
};

/// Groups of a block: a panel of that many stays in the first cache or close to it (24 · 10 · 32 · 4 bytes), and its sums go there seldom.
const BLOCK: usize = 24;

/// Rows of a task: its inputs of a block stay in the second cache (168 · 24 · 76 bytes at most). A multiple of every tile's rows.
const TASK_ROWS: usize = 168;

/// Panels of a task.
const TASK_PANELS: usize = 8;

/// Panels that are made at a time, and the most where that gives each thread as many.
const PANELS: usize = 48;
const MOST_PANELS: usize = 64;

/// `input · matrixᵀ`, finished and written.
pub(crate) fn linear<'o>(
    matrix: IntegerMatrix,
    input: Rows,
    also: Option<Also>,
    finish: Finish,
    mut out: Output<'o>,
) -> &'o mut [f32] {
    let isa = matrix.isa();
    let inputs = Inputs::of(matrix, input);
    let (width, all) = (width(isa), out.width().div_ceil(width(isa)));
    let at_once = at_once(PANELS, MOST_PANELS);
    for first in (0..all).step_by(at_once) {
        let last = all.min(first + at_once);
        let weights = matrix.panels(first..last);
        let most = [TASK_ROWS, TASK_PANELS];
        let [rows, columns] = tasks((input.rows, tile_rows_of(isa)), (first..last, width, out.width()), most);
        out.each_part_of(&rows, &columns, Order::ByRows, |out| {
            let task = Task { matrix, weights: &weights, first, inputs: &inputs, also, finish, out };
            match (matrix.group(), matrix.factors()) {
                (GROUP, Factors::Words) => vectorize(isa, Of::<Words<16>>(task, PhantomData)),
                (GROUP, Factors::Bytes { exact: 8, .. }) => vectorize(isa, Of::<Bytes<8, 8>>(task, PhantomData)),
                (GROUP, Factors::Bytes { .. }) => vectorize(isa, Of::<Bytes<8, 4>>(task, PhantomData)),
                (_, Factors::Words) => vectorize(isa, Of::<Words<8>>(task, PhantomData)),
                (_, Factors::Bytes { exact: 4, .. }) => vectorize(isa, Of::<Bytes<4, 4>>(task, PhantomData)),
                (_, Factors::Bytes { .. }) => vectorize(isa, Of::<Bytes<4, 2>>(task, PhantomData)),
            }
        });
    }
    // SAFETY: all columns are written, group by group.
    unsafe { out.filled() }
}

/// A task whose sums are made by `F`.
struct Of<'a, 'w, F>(Task<'a, 'w>, PhantomData<F>);

struct Task<'a, 'w> {
    matrix: IntegerMatrix<'w>,
    weights: &'a [u32],
    /// The panel that the weights begin with.
    first: usize,
    inputs: &'a Inputs,
    also: Option<Also<'a>>,
    finish: Finish<'a>,
    out: Part<'a>,
}

impl<F: Sums> Body for Of<'_, '_, F> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        if !F::are_at::<S>() {
            unreachable!("how codes are multiplied is chosen by the level");
        }
        let Task { matrix, weights, first: first_panel, inputs, also, finish, mut out } = self.0;
        let (tile_rows, width) = (tile_rows::<S>(), 2 * S::LANES);
        let (rows, columns) = (out.rows(), out.columns());
        let panels = columns.start / width..columns.end.div_ceil(width);
        let (groups, record) = (matrix.d_in() / matrix.group(), matrix.group_rows() * width);
        let tiles = rows.len().div_ceil(tile_rows);
        let tile_of = Tile::<S, F> { s, has_shifts: matrix.has_shifts(), products: PhantomData };
        // Sums wait here for the next block, and not in the result, which is too large for the caches.
        let tile_sums = tile_rows * width;
        let mut waiting = Scratch::of(product("waiting sums", [panels.len(), tiles, tile_sums]));
        let in_pairs = also.is_some_and(Also::is_in_pairs);
        let ranks = also.map_or(0, |also| if in_pairs { also.rank().div_ceil(2) } else { also.rank() });
        let mut inner = Scratch::of(product("inputs of a block", [tiles, tile_rows, ranks]));
        let mut room = Scratch::of(product("weights of a panel", [ranks, width]));
        match also {
            Some(also) if in_pairs => rearrange::<Pairs, S>(s, &mut inner, also.rows(), rows.clone(), 0..ranks),
            Some(also) => rearrange::<Singles<f32>, S>(s, &mut inner, also.rows(), rows.clone(), 0..ranks),
            None => {}
        }
        for start in (0..groups.max(1)).step_by(BLOCK) {
            let block = start..groups.min(start + BLOCK);
            let is_last = block.end == groups;
            for (i, panel) in panels.clone().enumerate() {
                let place = (panel - first_panel) * groups;
                let values = u32::as_numbers(&weights[(place + block.start) * record..(place + block.end) * record]);
                let columns = panel * width..columns.end.min((panel + 1) * width);
                let up = also.filter(|_| is_last).map(|also| match in_pairs {
                    true => Up::Pairs(also.up::<Pairs, S>(s, panel, &mut room)),
                    false => Up::Singles(also.up::<Singles<f32>, S>(s, panel, &mut room)),
                });
                for tile in 0..tiles {
                    let first = rows.start + tile * tile_rows;
                    let sums = &mut waiting[(i * tiles + tile) * tile_sums..][..tile_sums];
                    if start == 0 {
                        sums.fill(0.0);
                    }
                    let a = u32::as_numbers(inputs.tile(first / tile_rows, block.clone()));
                    let more = up.map(|up| (&inner[tile * tile_rows * ranks..][..tile_rows * ranks], up));
                    let count = tile_rows.min(rows.end - first);
                    match (tile_rows, count) {
                        // With the sums of half of a tile there are registers for those of a group.
                        (14, 5..) => {
                            tile_of.run::<7>(0, a, values, more, sums);
                            if count > 7 {
                                tile_of.run::<7>(7, a, values, more, sums);
                            }
                        }
                        (6, 5..) => tile_of.run::<6>(0, a, values, more, sums),
                        (8, 5..) => tile_of.run::<8>(0, a, values, more, sums),
                        (_, 2..) => tile_of.run::<4>(0, a, values, more, sums),
                        _ => tile_of.run::<1>(0, a, values, more, sums),
                    }
                    if is_last {
                        write(s, &waiting[(i * tiles + tile) * tile_sums..], first, count, &columns, finish, &mut out);
                    }
                }
            }
        }
        out.done()
    }
}

/// Finishes the sums of `count` rows from `first` on.
#[inline(always)]
fn write<S: Simd>(
    s: S,
    sums: &[f32],
    first: usize,
    count: usize,
    columns: &Range<usize>,
    finish: Finish,
    out: &mut Part,
) {
    for (r, sums) in sums.chunks_exact(2 * S::LANES).enumerate().take(count) {
        let out = out.row(first + r, columns.start, columns.len());
        finish.write(s, &[s.load(sums), s.load(&sums[S::LANES..])], first + r, columns.start, out);
    }
}

/// A panel of a pair's last factor.
#[derive(Clone, Copy)]
enum Up<'a> {
    Singles(&'a [f32]),
    Pairs(&'a [u32]),
}

/// How a tile's sums are made.
#[derive(Clone, Copy)]
struct Tile<S, F> {
    s: S,
    has_shifts: bool,
    products: PhantomData<F>,
}

impl<S: Simd, F: Sums> Tile<S, F> {
    /// Adds a block's products for `M` rows of the tile from `first` on, and those of `more` inputs and weights.
    #[inline(always)]
    fn run<const M: usize>(self, first: usize, a: &[f32], b: &[f32], more: Option<(&[f32], Up)>, sums: &mut [f32]) {
        let Self { s, has_shifts, products: _ } = self;
        let (tile_rows, width) = (tile_rows::<S>(), 2 * S::LANES);
        let mut all = [[s.splat(0.0); M]; 2];
        for half in 0..2 {
            for r in 0..M {
                all[half][r] = s.load(&sums[(first + r) * width + half * S::LANES..]);
            }
        }
        let records = a.chunks_exact((F::STEPS + 2) * tile_rows);
        match has_shifts {
            false => {
                for (a, b) in records.zip(b.chunks_exact((F::STEPS + 1) * width)) {
                    all = group::<S, F, M, false>(s, first, a, b, all);
                }
            }
            true => {
                for (a, b) in records.zip(b.chunks_exact((F::STEPS + 2) * width)) {
                    all = group::<S, F, M, true>(s, first, a, b, all);
                }
            }
        }
        if let Some((a, up)) = more {
            let mut added = [[s.splat(0.0); 2]; M];
            match up {
                Up::Singles(b) => add_products::<S, Singles<f32>, M>(s, first, a, b, &mut added),
                Up::Pairs(b) => add_products::<S, Pairs, M>(s, first, a, b, &mut added),
            }
            for half in 0..2 {
                for r in 0..M {
                    all[half][r] = s.add(all[half][r], added[r][half]);
                }
            }
        }
        for half in 0..2 {
            for r in 0..M {
                s.store(&mut sums[(first + r) * width + half * S::LANES..], all[half][r]);
            }
        }
    }
}

/// How the exact sums of a group's products are made.
trait Sums: Copy {
    /// Words of a row or of an output.
    const STEPS: usize;

    /// Whether a level has instructions for it.
    fn are_at<S: Simd>() -> bool;

    /// `sum + inputs · weights`, a word of each in every lane.
    fn dot<S: Simd>(s: S, inputs: S::V, weights: S::V, sum: S::V) -> S::V;

    /// For each half of a panel a vector of integers for each of `M` rows, which begin with the row's of `starts`, or with 0.
    ///
    /// # Safety
    /// Of `a` as many rows of a tile can be read as there are steps, of `b` as many rows of two vectors, and of `starts` `M` integers.
    unsafe fn of<S: Simd, const M: usize>(
        s: S,
        a: *const f32,
        b: *const f32,
        starts: Option<*const f32>,
    ) -> [[S::V; M]; 2];
}

/// What the sums of `M` rows begin with, one integer for each.
///
/// # Safety
/// `starts` is good for reading them.
#[inline(always)]
unsafe fn begun<S: Simd, const M: usize>(s: S, starts: Option<*const f32>) -> [[S::V; M]; 2] {
    let mut sums = [[s.splat(0.0); M]; 2];
    if let Some(starts) = starts {
        for r in 0..M {
            // SAFETY: the caller's promise.
            let start = s.splat(unsafe { *starts.add(r) });
            (sums[0][r], sums[1][r]) = (start, start);
        }
    }
    sums
}

/// `sums` and the products of some steps of a group.
///
/// # Safety
/// As [`Sums::of`].
#[inline(always)]
unsafe fn add_steps<S: Simd, F: Sums, const M: usize>(
    s: S,
    a: *const f32,
    b: *const f32,
    steps: Range<usize>,
    mut sums: [[S::V; M]; 2],
) -> [[S::V; M]; 2] {
    for step in steps {
        // SAFETY: the caller's promise.
        unsafe {
            let b = b.add(step * 2 * S::LANES);
            let (b0, b1) = (s.load_ptr(b), s.load_ptr(b.add(S::LANES)));
            for r in 0..M {
                let x = s.splat(*a.add(step * tile_rows::<S>() + r));
                sums[0][r] = F::dot(s, x, b0, sums[0][r]);
                sums[1][r] = F::dot(s, x, b1, sums[1][r]);
            }
        }
    }
    sums
}

/// Sums of products of words, two at a time.
#[derive(Clone, Copy)]
struct Words<const STEPS: usize>;

impl<const STEPS: usize> Sums for Words<STEPS> {
    const STEPS: usize = STEPS;

    #[inline(always)]
    fn are_at<S: Simd>() -> bool {
        true
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, inputs: S::V, weights: S::V, sum: S::V) -> S::V {
        s.dot_integers(inputs, weights, sum)
    }

    #[inline(always)]
    unsafe fn of<S: Simd, const M: usize>(
        s: S,
        a: *const f32,
        b: *const f32,
        starts: Option<*const f32>,
    ) -> [[S::V; M]; 2] {
        // SAFETY: the caller's promise.
        unsafe { add_steps::<S, Self, M>(s, a, b, 0..STEPS, begun::<S, M>(s, starts)) }
    }
}

/// Sums of products of bytes, four at a time, of which those of `EXACT` steps are exact.
#[derive(Clone, Copy)]
struct Bytes<const STEPS: usize, const EXACT: usize>;

impl<const STEPS: usize, const EXACT: usize> Sums for Bytes<STEPS, EXACT> {
    const STEPS: usize = STEPS;

    #[inline(always)]
    fn are_at<S: Simd>() -> bool {
        S::BITS_OF_BYTES == 16 || S::BITS_OF_BYTES == 32 && EXACT == STEPS
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, inputs: S::V, weights: S::V, sum: S::V) -> S::V {
        s.dot_bytes(weights, inputs, sum)
    }

    #[inline(always)]
    unsafe fn of<S: Simd, const M: usize>(
        s: S,
        a: *const f32,
        b: *const f32,
        starts: Option<*const f32>,
    ) -> [[S::V; M]; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            if S::BITS_OF_BYTES == 32 {
                return add_steps::<S, Self, M>(s, a, b, 0..STEPS, begun::<S, M>(s, starts));
            }
            let none = [[s.splat(0.0); M]; 2];
            let mut sums = none;
            for first in (0..STEPS).step_by(EXACT) {
                let parts = add_steps::<S, Self, M>(s, a, b, first..first + EXACT, none);
                if first == 0 {
                    sums = begun::<S, M>(s, starts);
                }
                for r in 0..M {
                    sums[0][r] = s.whole_sum(parts[0][r], sums[0][r]);
                    sums[1][r] = s.whole_sum(parts[1][r], sums[1][r]);
                }
            }
            sums
        }
    }
}

/// Adds the products of a group for `M` rows from `first` on: its exact sum of integers, as much as the row's scale and the output's
/// scale say, and where there are shifts the sum of the inputs times those.
#[inline(always)]
fn group<S: Simd, F: Sums, const M: usize, const SHIFTS: bool>(
    s: S,
    first: usize,
    a: &[f32],
    b: &[f32],
    mut sums: [[S::V; M]; 2],
) -> [[S::V; M]; 2] {
    let (tile_rows, width) = (tile_rows::<S>(), 2 * S::LANES);
    assert!(first + M <= tile_rows && a.len() == (F::STEPS + 2) * tile_rows);
    assert!(b.len() == (F::STEPS + 1 + usize::from(SHIFTS)) * width);
    let (of_inputs, of_outputs) = (&a[F::STEPS * tile_rows + first..], &b[F::STEPS * width..]);
    // Codes are told from the least one on: what that makes is part of the shifts where there are any.
    let starts = if SHIFTS { None } else { Some(of_inputs[tile_rows..].as_ptr()) };
    // SAFETY: both have as many rows and more, as just checked.
    let integers = unsafe { F::of::<S, M>(s, a.as_ptr().add(first), b.as_ptr(), starts) };
    for half in 0..2 {
        let of_outputs = &of_outputs[half * S::LANES..];
        let scale = s.load(of_outputs);
        let shift = if SHIFTS { s.load(&of_outputs[width..]) } else { scale };
        for r in 0..M {
            let both = s.mul(s.splat(of_inputs[r]), scale);
            let sum = s.fma(s.of_integers(integers[half][r]), both, sums[half][r]);
            sums[half][r] = if SHIFTS { s.fma(s.splat(of_inputs[tile_rows + r]), shift, sum) } else { sum };
        }
    }
    sums
}
