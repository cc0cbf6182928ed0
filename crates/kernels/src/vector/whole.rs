//! A product as a whole: its tasks, and panels that are made for it.

use std::ops::Range;

use rayon::prelude::*;

use super::{Also, Pairs, Singles, Task, Weights, tile_rows_of};
use crate::{
    aligned::Number,
    epilogue::{Finish, Rows},
    isa::Isa,
    output::{Order, Output},
    packed::{each_panel, width},
    shares::{at_once, tasks},
    simd::vectorize,
};

/// Panels that are made at a time of a matrix that stays as it is stored, and the most where that gives each thread as many.
const KEPT_PANELS: usize = 24;
const MOST_KEPT: usize = 32;

/// Rows of a task: its block of inputs stays in the second cache (168 · 256 · 4 bytes). A multiple of every tile's rows.
const TASK_ROWS: usize = 168;

/// Panels of a task; more would leave threads without work at the end, fewer would rearrange the inputs too often.
const TASK_PANELS: usize = 24;

/// `input · weightᵀ`, finished and written. In the last panel `tail` outputs stand side by side.
pub(crate) fn linear<'o, W: Weights>(
    isa: Isa,
    weights: W,
    tail: usize,
    input: Rows,
    also: Option<Also>,
    finish: Finish,
    mut out: Output<'o>,
) -> &'o mut [f32] {
    let all = 0..out.width();
    columns(isa, weights, tail, input, also, finish, &mut out, all);
    // SAFETY: all columns are written.
    unsafe { out.filled() }
}

/// The same with panels that are made a few at a time, each of `size` values, which `make` writes.
pub(crate) fn linear_kept<'o, T: Made>(
    isa: Isa,
    size: usize,
    make: impl Fn(usize, &mut [T]) + Sync,
    input: Rows,
    also: Option<Also>,
    finish: Finish,
    mut out: Output<'o>,
) -> &'o mut [f32] {
    let (width, all) = (width(isa), out.width().div_ceil(width(isa)));
    let at_once = at_once(KEPT_PANELS, MOST_KEPT).min(all);
    let mut room = each_panel(at_once, size, |_, _| ());
    for first in (0..all).step_by(at_once) {
        let made = &mut room[..at_once.min(all - first) * size];
        if size > 0 {
            made.par_chunks_mut(size).enumerate().for_each(|(i, panel)| make(first + i, panel));
        }
        let of = first * width..out.width().min((first + at_once) * width);
        columns(isa, T::weights(made), width, input, also, finish, &mut out, of);
    }
    // SAFETY: all columns are written, group by group.
    unsafe { out.filled() }
}

/// What panels that are made consist of.
pub(crate) trait Made: Number {
    /// How they are multiplied with.
    type Weights<'a>: Weights
    where
        Self: 'a;

    fn weights(panels: &[Self]) -> Self::Weights<'_>;
}

impl Made for u32 {
    type Weights<'a> = Pairs<'a>;

    fn weights(panels: &[u32]) -> Pairs<'_> {
        Pairs(panels)
    }
}

impl Made for f32 {
    type Weights<'a> = Singles<'a, f32>;

    fn weights(panels: &[f32]) -> Singles<'_, f32> {
        Singles(panels)
    }
}

/// Writes all places of some columns of the result, the panels of which are all of `weights`.
#[expect(clippy::too_many_arguments, reason = "a product's sides, each used once")]
fn columns<W: Weights>(
    isa: Isa,
    weights: W,
    tail: usize,
    input: Rows,
    also: Option<Also>,
    finish: Finish,
    out: &mut Output,
    of: Range<usize>,
) {
    let width = width(isa);
    let panels = of.start / width..of.end.div_ceil(width);
    let last = (panels.len() - 1, tail);
    let most = [TASK_ROWS, TASK_PANELS];
    let [rows, columns] = tasks((input.rows, tile_rows_of(isa)), (panels, width, of.end), most);
    out.each_part_of(&rows, &columns, Order::ByRows, |out| {
        vectorize(isa, Task { weights, first: of.start, last, input, also, finish, out })
    });
}
