//! Results: memory that need not be initialised before a kernel has run, and is when it returns.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use crate::size::product;

/// Where results are written: memory that need not be initialised. A kernel returns the same memory, all of it written.
pub type Out<'a> = &'a mut [MaybeUninit<f32>];

/// A result as values.
///
/// # Safety
/// All of them have been written.
pub(crate) unsafe fn filled(out: Out<'_>) -> &mut [f32] {
    // SAFETY: the caller's promise.
    unsafe { out.assume_init_mut() }
}

/// A result `[rows, width]` that several threads write, each its own part.
pub(crate) struct Output<'a> {
    start: *mut MaybeUninit<f32>,
    rows: usize,
    width: usize,
    borrow: PhantomData<Out<'a>>,
}

// SAFETY: threads get at the memory through the parts of `each_part`, which have no place in common.
unsafe impl Sync for Output<'_> {}

/// Which of a result's parts are taken one after the other.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// Those of the same rows.
    ByRows,
    /// Those of the same columns.
    ByColumns,
}

impl<'a> Output<'a> {
    /// Rows of `width` values.
    ///
    /// # Panics
    /// If `out` is not made of such rows.
    pub(crate) fn of(out: Out<'a>, width: usize) -> Self {
        assert!(width > 0 && out.len().is_multiple_of(width), "{} values in rows of {width}", out.len());
        Self { start: out.as_mut_ptr(), rows: out.len() / width, width, borrow: PhantomData }
    }

    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Gives every part between neighbouring cuts to `write`, on the threads of the pool. Cuts go from 0 to the count of rows or
    /// columns.
    ///
    /// # Panics
    /// If the cuts don't cover the result.
    ///
    /// # Safety
    /// `write` fills all places that [`Part::row`] gives it.
    pub(crate) unsafe fn each_part(
        mut self,
        rows: &[usize],
        columns: &[usize],
        order: Order,
        write: impl Fn(Part) -> Done + Sync,
    ) -> &'a mut [f32] {
        assert!(columns.first() == Some(&0) && columns.last() == Some(&self.width), "{columns:?} for {}", self.width);
        self.each_part_of(rows, columns, order, write);
        // SAFETY: the parts cover the result, each was given out whole, as its `Done` says, and was written by the caller's promise.
        unsafe { self.filled() }
    }

    /// The same for the columns between the first cut and the last.
    ///
    /// # Panics
    /// If the cuts leave the result, or don't cover its rows.
    pub(crate) fn each_part_of(
        &mut self,
        rows: &[usize],
        columns: &[usize],
        order: Order,
        write: impl Fn(Part) -> Done + Sync,
    ) {
        let are_cuts = |cuts: &[usize], end: usize| cuts.is_sorted() && cuts.last().is_some_and(|&last| last <= end);
        assert!(
            are_cuts(rows, self.rows) && rows.first() == Some(&0) && rows.last() == Some(&self.rows),
            "{rows:?} for {}",
            self.rows
        );
        assert!(are_cuts(columns, self.width), "{columns:?} for {}", self.width);
        let (down, across) = (rows.len() - 1, columns.len() - 1);
        // Nobody else has parts of it meanwhile.
        let output = &*self;
        (0..product("parts", [down, across])).into_par_iter().for_each(|i| {
            let (row, column) = match order {
                Order::ByRows => (i / across, i % across),
                Order::ByColumns => (i % down, i / down),
            };
            let part = output.part([row, column], rows[row]..rows[row + 1], columns[column]..columns[column + 1]);
            if part.size() > 0 {
                let Done(()) = write(part);
            }
        });
    }

    /// The result as values.
    ///
    /// # Safety
    /// All of them have been written.
    pub(crate) unsafe fn filled(self) -> &'a mut [f32] {
        // SAFETY: this is the memory that `self` has borrowed, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.rows * self.width) }
    }

    fn part(&self, index: [usize; 2], rows: Range<usize>, columns: Range<usize>) -> Part<'_> {
        Part { start: self.start, width: self.width, index, rows, columns, given: 0, borrow: PhantomData }
    }
}

/// Some columns of some rows of a result, which nobody else has.
pub(crate) struct Part<'a> {
    start: *mut MaybeUninit<f32>,
    width: usize,
    index: [usize; 2],
    rows: Range<usize>,
    columns: Range<usize>,
    given: usize,
    borrow: PhantomData<Out<'a>>,
}

/// That all places of a part were given out to be written.
pub(crate) struct Done(());

impl Part<'_> {
    /// Which of the rows' and which of the columns' parts this is.
    pub(crate) fn index(&self) -> [usize; 2] {
        self.index
    }

    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// `len` places of row `row` of the result from column `column` on, to be written.
    ///
    /// # Panics
    /// If the part has not all of them.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize, column: usize, len: usize) -> &mut [MaybeUninit<f32>] {
        let Range { start, end } = self.columns;
        assert!(self.rows.contains(&row) && start <= column && column <= end && len <= end - column);
        self.given += len;
        // SAFETY: as just checked, the places are in this part, which lies inside the result and has them to itself.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + column), len) }
    }

    /// Ends the work on a part.
    ///
    /// # Panics
    /// If not as many places were given out as there are.
    pub(crate) fn done(self) -> Done {
        assert_eq!(self.given, self.size(), "places that were written");
        Done(())
    }

    fn size(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// Cuts of `0..n` into parts of `step`, of which the last may be smaller.
pub(crate) fn cuts(n: usize, step: usize) -> Vec<usize> {
    (0..n).step_by(step).chain([n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result of three rows and five columns in which `write` has filled every part.
    fn written(rows: &[usize], columns: &[usize], order: Order, write: impl Fn(Part) -> Done + Sync) -> Vec<f32> {
        let mut out = vec![MaybeUninit::new(0.0); 15];
        // SAFETY: initialised just now.
        unsafe { Output::of(&mut out, 5).each_part(rows, columns, order, write) }.to_vec()
    }

    fn number(mut part: Part) -> Done {
        let (index, rows, columns) = (part.index(), part.rows(), part.columns());
        for row in rows {
            for place in part.row(row, columns.start, columns.len()) {
                // SAFETY: these tests write to memory that holds 0.
                let before = unsafe { place.assume_init() };
                place.write(before + (10 * index[0] + index[1] + 1) as f32);
            }
        }
        part.done()
    }

    #[test]
    fn parts_are_all_of_a_result_and_each_place_belongs_to_one() {
        for order in [Order::ByRows, Order::ByColumns] {
            let found = written(&[0, 1, 3], &[0, 2, 2, 5], order, number);
            let (first, second) = ([1., 1., 3., 3., 3.], [11., 11., 13., 13., 13.]);
            assert_eq!(found, [first, second, second].concat());
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_part_has_no_place_of_another() {
        written(&[0, 3], &[0, 2, 5], Order::ByRows, |mut part| {
            part.row(0, 1, 2);
            part.done()
        });
    }

    #[test]
    #[should_panic(expected = "places that were written")]
    fn a_part_of_which_a_row_is_forgotten_is_not_done() {
        written(&[0, 3], &[0, 5], Order::ByRows, |mut part| {
            part.row(0, 0, 5);
            part.row(2, 0, 5);
            part.done()
        });
    }

    #[test]
    #[should_panic(expected = "for 5")]
    fn cuts_that_leave_something_out_are_refused() {
        written(&[0, 3], &[0, 4], Order::ByRows, number);
    }

    #[test]
    fn the_last_cut_is_the_end() {
        assert_eq!(cuts(7, 3), [0, 3, 6, 7]);
        assert_eq!(cuts(6, 3), [0, 3, 6]);
    }
}
