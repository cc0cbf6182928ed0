//! What a branch adds, as values.

use rayon::prelude::*;

use super::{Branch, Change, Stored, stored::FLOATS};
use crate::Error;

/// A convolution's parameters, or a matrix as one of 1 × 1: `[out, in, places]`.
struct Factor {
    values: Vec<f32>,
    shape: [usize; 3],
}

impl Factor {
    fn of(stored: &Stored) -> Self {
        let shape = stored.shape();
        let places = shape[2..].iter().product();
        Self { values: stored.to_f32().expect(FLOATS), shape: [shape[0], shape[1], places] }
    }

    /// Both as one, of which at most one has more than one place.
    fn after(&self, first: &Self) -> Self {
        let [out, inner, places] = self.shape;
        let [_, d_in, first_places] = first.shape;
        let (all, width) = (places.max(first_places), d_in * places.max(first_places));
        let mut values = vec![0.0; out * width];
        values.par_chunks_mut(width.max(1)).enumerate().for_each(|(o, row)| {
            for m in 0..inner {
                let by = &self.values[(o * inner + m) * places..][..places];
                let of = &first.values[m * d_in * first_places..][..d_in * first_places];
                match by {
                    [by] => row.iter_mut().zip(of).for_each(|(sum, value)| *sum += by * value),
                    _ => row.chunks_mut(places).zip(of).for_each(|(sums, value)| {
                        sums.iter_mut().zip(by).for_each(|(sum, by)| *sum += by * value);
                    }),
                }
            }
        });
        Self { values, shape: [out, d_in, all] }
    }
}

impl Branch {
    /// Adds its change, as much as it counts now, to the values of a tensor `name` of this shape.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Branch`] where it does not fit the tensor.
    ///
    /// # Panics
    /// If `values` does not fill the shape.
    pub fn add_to(&self, values: &mut [f32], name: &str, shape: &[usize]) -> Result<(), Error> {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values for shape {shape:?}");
        self.check(name)?;
        let width = shape.get(1..).unwrap_or_default().iter().product::<usize>();
        let (change, factor) = match &self.change {
            Change::LowRank { .. } => {
                self.factors(name, shape)?;
                let mut factors = self.tensors().map(Factor::of);
                let first = factors.next().expect("a change of low rank has factors");
                (factors.fold(first, |first, last| last.after(&first)).values, self.factor())
            }
            Change::Difference(_) => (self.difference(name, shape)?.to_f32().expect(FLOATS), self.factor()),
            Change::Computed(computed) => {
                self.factors(name, shape)?;
                // The strength is in it.
                (computed.values(self.strength.get()), self.scale)
            }
        };
        let rows = &mut values[self.rows.start * width..self.rows.end * width];
        rows.iter_mut().zip(change).for_each(|(value, change)| *value += factor * change);
        Ok(())
    }
}
