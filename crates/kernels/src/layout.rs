//! The same values in another order: what lies between layers that see pixels and layers that see tokens.

use rayon::prelude::*;

use crate::{
    isa::Isa,
    output::{Out, filled},
    simd::{Body, Simd, vectorize},
    size::product,
};

/// Rows and columns that change places together, which fill as many cache lines.
const SIDE: usize = 16;

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
///
/// # Panics
/// If `x` or `out` does not fit the shape, or it has more values than can be counted.
pub fn transpose<'o>(isa: Isa, x: &[f32], [batch, rows, columns]: [usize; 3], out: Out<'o>) -> &'o mut [f32] {
    let size = product("values", [batch, rows, columns]);
    assert!(x.len() == size && x.len() == out.len(), "{} values for [{batch}, {rows}, {columns}]", x.len());
    if x.is_empty() {
        return &mut [];
    }
    let entries = out.chunks_exact_mut(rows * columns).zip(x.chunks_exact(rows * columns));
    entries.for_each(|(out, x)| {
        (out.par_chunks_mut(SIDE * rows).enumerate())
            .for_each(|(i, out)| vectorize(isa, Columns { x, rows, columns, first: i * SIDE, out }));
    });
    // SAFETY: `Columns` fills the rows that it is given, which are those of all columns of each entry.
    unsafe { filled(out) }
}

/// Some columns from `first` on, which become rows.
struct Columns<'a> {
    x: &'a [f32],
    rows: usize,
    columns: usize,
    first: usize,
    out: Out<'a>,
}

impl Body for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, rows, columns, first, out } = self;
        let across = out.len() / rows;
        for start in (0..rows).step_by(SIDE) {
            let down = SIDE.min(rows - start);
            let mut square = [[0.0; SIDE]; SIDE];
            for (r, to) in square.iter_mut().enumerate().take(down) {
                let row = &x[(start + r) * columns + first..][..across];
                match row.first_chunk() {
                    Some(all) => *to = *all,
                    None => to[..across].copy_from_slice(row),
                }
            }
            s.transpose(&mut square);
            for (c, from) in square.iter().enumerate().take(across) {
                let to = &mut out[c * rows + start..][..down];
                match down {
                    SIDE => to.write_copy_of_slice(from),
                    _ => to.write_copy_of_slice(&from[..down]),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32 + 0.5).collect()
    }

    fn written(n: usize, write: impl for<'o> FnOnce(Out<'o>) -> &'o mut [f32]) -> Vec<f32> {
        write(&mut vec![MaybeUninit::uninit(); n]).to_vec()
    }

    #[test]
    fn rows_become_columns_on_every_level() {
        for isa in Isa::available() {
            for [batch, rows, columns] in
                [[1, 1, 1], [1, 16, 16], [2, 5, 7], [3, 33, 16], [1, 48, 50], [2, 1, 40], [0, 3, 4]]
            {
                let x = numbers(batch * rows * columns);
                let found = written(x.len(), |out| transpose(isa, &x, [batch, rows, columns], out));
                let expected: Vec<f32> = (0..x.len())
                    .map(|i| (i / (rows * columns), i % (rows * columns)))
                    .map(|(b, i)| x[b * rows * columns + i % rows * columns + i / rows])
                    .collect();
                assert_eq!(found, expected, "{isa:?} [{batch}, {rows}, {columns}]");
            }
        }
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let isa = Isa::best();
        let is_refused = |write: &dyn Fn(Out)| {
            let write = std::panic::AssertUnwindSafe(|| write(&mut [MaybeUninit::new(0.0); 6]));
            std::panic::catch_unwind(write).is_err()
        };
        assert!(is_refused(&|out| _ = transpose(isa, &[0.0; 6], [1, 2, 2], out)));
        assert!(is_refused(&|out| _ = transpose(isa, &[0.0; 4], [1, 2, 2], out)));
        assert!(is_refused(&|out| _ = transpose(isa, &[0.0; 6], [usize::MAX, 2, 3], out)));
    }
}
