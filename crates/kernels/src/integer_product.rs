//! The product with integers: tiles of rows times panels of outputs, with sums of integers in registers.

mod inputs;

use std::{marker::PhantomData, ops::Range};

use self::inputs::Inputs;
use crate::{
    aligned::{Scratch, Word},
    epilogue::{Finish, Rows},
    integers::{Factors, GROUP, IntegerMatrix},
    output::{Done, Order, Output, Part, cuts},
    packed::width,
    simd::{Body, Simd, vectorize},
    size::product,
    vector::{Also, Singles, add_products, rearrange, tile_rows},
};

/// Groups of a block: a panel of that many stays in the first cache, beside the inputs of a tile (16 · 18 · 16 · 4 bytes).
const BLOCK: usize = 16;

/// Rows of a task: its inputs of a block stay in the second cache (168 · 16 · 72 bytes). A multiple of every tile's rows.
const TASK_ROWS: usize = 168;

/// Panels of a task.
const TASK_PANELS: usize = 8;

/// Panels that are made at a time.
const PANELS: usize = 48;

/// `input · matrixᵀ`, finished and written.
pub(crate) fn linear<'o>(
    matrix: IntegerMatrix,
    input: Rows,
    also: Option<Also>,
    finish: Finish,
    mut out: Output<'o>,
) -> &'o mut [f32] {
    let (isa, factors) = (matrix.isa(), matrix.factors());
    let inputs = Inputs::of(isa, factors, input);
    let (width, all) = (width(isa), out.width().div_ceil(width(isa)));
    let rows = cuts(input.rows, TASK_ROWS);
    for first in (0..all).step_by(PANELS) {
        let last = all.min(first + PANELS);
        let weights = matrix.panels(first..last);
        let ends = (first..last).step_by(TASK_PANELS).map(|panel| panel * width);
        let columns: Vec<usize> = ends.chain([out.width().min(last * width)]).collect();
        out.each_part_of(&rows, &columns, Order::ByRows, |out| {
            let task = Task { matrix, weights: &weights, first, inputs: &inputs, also, finish, out };
            match factors {
                Factors::Words => vectorize(isa, Of::<Words>(task, PhantomData)),
                Factors::Bytes { steps: 8, .. } => vectorize(isa, Of::<Bytes<8>>(task, PhantomData)),
                Factors::Bytes { .. } => vectorize(isa, Of::<Bytes<4>>(task, PhantomData)),
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
        let (groups, record) = (matrix.d_in() / GROUP, matrix.group_rows() * width);
        let tiles = rows.len().div_ceil(tile_rows);
        // Sums wait here for the next block, and not in the result, which is too large for the caches.
        let tile_sums = tile_rows * width;
        let mut waiting = Scratch::of(product("waiting sums", [panels.len(), tiles, tile_sums]));
        let ranks = also.map_or(0, Also::rank);
        let mut inner = Scratch::of(product("inputs of a block", [tiles, tile_rows, ranks]));
        let mut room = Scratch::of(product("weights of a panel", [ranks, width]));
        if let Some(also) = also {
            rearrange::<Singles<f32>, S>(s, &mut inner, also.rows(), rows.clone(), 0..ranks);
        }
        for start in (0..groups.max(1)).step_by(BLOCK) {
            let block = start..groups.min(start + BLOCK);
            let is_last = block.end == groups;
            for (i, panel) in panels.clone().enumerate() {
                let place = (panel - first_panel) * groups;
                let values = u32::as_numbers(&weights[(place + block.start) * record..(place + block.end) * record]);
                let columns = panel * width..columns.end.min((panel + 1) * width);
                let up = also.filter(|_| is_last).map(|also| also.up::<Singles<f32>, S>(s, panel, &mut room));
                for tile in 0..tiles {
                    let first = rows.start + tile * tile_rows;
                    let sums = &mut waiting[(i * tiles + tile) * tile_sums..][..tile_sums];
                    if start == 0 {
                        sums.fill(0.0);
                    }
                    let tile_of = Tile::<S, F> { s, sums, has_shifts: matrix.has_shifts(), products: PhantomData };
                    let a = u32::as_numbers(inputs.tile(first / tile_rows, block.clone()));
                    let more = up.map(|up| (&inner[tile * tile_rows * ranks..][..tile_rows * ranks], up));
                    let count = tile_rows.min(rows.end - first);
                    match (tile_rows, count) {
                        (14, 9..) => tile_of.run::<14>(a, values, more),
                        (14, 5..) => tile_of.run::<8>(a, values, more),
                        (6, 5..) => tile_of.run::<6>(a, values, more),
                        (8, 5..) => tile_of.run::<8>(a, values, more),
                        (_, 2..) => tile_of.run::<4>(a, values, more),
                        _ => tile_of.run::<1>(a, values, more),
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

/// One tile's sums, row after row.
struct Tile<'a, S, F> {
    s: S,
    sums: &'a mut [f32],
    has_shifts: bool,
    products: PhantomData<F>,
}

impl<S: Simd, F: Sums> Tile<'_, S, F> {
    /// Adds a block's products for the first `M` rows, and those of `more` inputs and weights.
    #[inline(always)]
    fn run<const M: usize>(self, a: &[f32], b: &[f32], more: Option<(&[f32], &[f32])>) {
        let Self { s, sums, has_shifts, products: _ } = self;
        let (tile_rows, width) = (tile_rows::<S>(), 2 * S::LANES);
        let records = a.chunks_exact((F::STEPS + 2) * tile_rows);
        match has_shifts {
            false => {
                for (a, b) in records.zip(b.chunks_exact((F::STEPS + 1) * width)) {
                    group::<S, F, M, false>(s, a, b, sums);
                }
            }
            true => {
                for (a, b) in records.zip(b.chunks_exact((F::STEPS + 2) * width)) {
                    group::<S, F, M, true>(s, a, b, sums);
                }
            }
        }
        if let Some((a, b)) = more {
            let mut all = [[s.splat(0.0); 2]; M];
            add_products::<S, Singles<f32>, M>(s, a, b, &mut all);
            for r in 0..M {
                for half in 0..2 {
                    let sums = &mut sums[r * width + half * S::LANES..];
                    s.store(sums, s.add(s.load(sums), all[r][half]));
                }
            }
        }
    }
}

/// How the exact sums of a group's products are made.
trait Sums {
    /// Words of a row or of an output.
    const STEPS: usize;

    /// Whether a level has instructions for it.
    fn are_at<S: Simd>() -> bool;

    /// For each of `M` rows two vectors of integers.
    ///
    /// # Safety
    /// Of `a` as many rows of a tile can be read as there are steps, and of `b` as many rows of two vectors.
    unsafe fn of<S: Simd, const M: usize>(s: S, a: *const f32, b: *const f32) -> [[S::V; 2]; M];
}

/// Sums of products of words, two at a time.
struct Words;

impl Sums for Words {
    const STEPS: usize = Factors::Words.group_steps();

    #[inline(always)]
    fn are_at<S: Simd>() -> bool {
        true
    }

    #[inline(always)]
    unsafe fn of<S: Simd, const M: usize>(s: S, a: *const f32, b: *const f32) -> [[S::V; 2]; M] {
        let mut sums = [[s.splat(0.0); 2]; M];
        for step in 0..Self::STEPS {
            // SAFETY: the caller's promise.
            unsafe {
                let b = b.add(step * 2 * S::LANES);
                let (b0, b1) = (s.load_ptr(b), s.load_ptr(b.add(S::LANES)));
                for r in 0..M {
                    let x = s.splat(*a.add(step * tile_rows::<S>() + r));
                    sums[r][0] = s.dot_integers(x, b0, sums[r][0]);
                    sums[r][1] = s.dot_integers(x, b1, sums[r][1]);
                }
            }
        }
        sums
    }
}

/// Sums of products of bytes, four at a time, of which those of so many steps are exact.
struct Bytes<const EXACT: usize>;

impl<const EXACT: usize> Sums for Bytes<EXACT> {
    const STEPS: usize = Factors::Bytes { least: 0, steps: EXACT }.group_steps();

    #[inline(always)]
    fn are_at<S: Simd>() -> bool {
        S::BITS_OF_BYTES == 16 || S::BITS_OF_BYTES == 32 && EXACT == Self::STEPS
    }

    #[inline(always)]
    unsafe fn of<S: Simd, const M: usize>(s: S, a: *const f32, b: *const f32) -> [[S::V; 2]; M] {
        let mut sums = [[s.splat(0.0); 2]; M];
        for first in (0..Self::STEPS).step_by(EXACT) {
            let mut parts = [[s.splat(0.0); 2]; M];
            for step in first..first + EXACT {
                // SAFETY: the caller's promise.
                unsafe {
                    let b = b.add(step * 2 * S::LANES);
                    let (b0, b1) = (s.load_ptr(b), s.load_ptr(b.add(S::LANES)));
                    for r in 0..M {
                        let x = s.splat(*a.add(step * tile_rows::<S>() + r));
                        parts[r][0] = s.dot_bytes(b0, x, parts[r][0]);
                        parts[r][1] = s.dot_bytes(b1, x, parts[r][1]);
                    }
                }
            }
            for r in 0..M {
                for half in 0..2 {
                    sums[r][half] = s.whole_sum(parts[r][half], sums[r][half]);
                }
            }
        }
        sums
    }
}

/// Adds the products of a group: its exact sum of integers, as much as the row's scale and the output's scale say, and where there are
/// shifts the sum of the inputs times those.
#[inline(always)]
fn group<S: Simd, F: Sums, const M: usize, const SHIFTS: bool>(s: S, a: &[f32], b: &[f32], sums: &mut [f32]) {
    let (tile_rows, width) = (tile_rows::<S>(), 2 * S::LANES);
    assert!(M <= tile_rows && a.len() == (F::STEPS + 2) * tile_rows && sums.len() == tile_rows * width);
    assert!(b.len() == (F::STEPS + 1 + usize::from(SHIFTS)) * width);
    // SAFETY: both have as many rows and more, as just checked.
    let integers = unsafe { F::of::<S, M>(s, a.as_ptr(), b.as_ptr()) };
    let (scales, of_inputs) = (&b[F::STEPS * width..], &a[F::STEPS * tile_rows..]);
    for half in 0..2 {
        let scale = s.load(&scales[half * S::LANES..]);
        let shift = if SHIFTS { s.load(&scales[width + half * S::LANES..]) } else { scale };
        for r in 0..M {
            let sums = &mut sums[r * width + half * S::LANES..];
            let both = s.mul(s.splat(of_inputs[r]), scale);
            let mut sum = s.fma(s.of_integers(integers[r][half]), both, s.load(sums));
            if SHIFTS {
                sum = s.fma(s.splat(of_inputs[tile_rows + r]), shift, sum);
            }
            s.store(sums, sum);
        }
    }
}
