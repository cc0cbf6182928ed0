//! Tensors that layers don't multiply with: added, scaled with, or looked up.

use std::ops::Range;

use super::{
    Branch, Stored, Strength,
    stored::{FLOATS, WHOLE_ROWS},
    weight::add_rows,
};
use crate::{Device, Error, Tensor, tensor};

/// A bias, a norm's scale or another tensor that a layer reads whole, f32: `value + Σ strength · scale · difference`.
#[derive(Clone, Debug)]
pub struct Parameter<const D: usize> {
    value: Tensor<D>,
    differences: Vec<Difference<D>>,
}

#[derive(Clone, Debug)]
struct Difference<const D: usize> {
    rows: Range<usize>,
    values: Tensor<D>,
    scale: f32,
    strength: Strength,
}

impl<const D: usize> Parameter<D> {
    /// A tensor `name` of a format whose values can be read, under branches.
    pub(super) fn under(
        stored: &Stored,
        branches: &[Branch],
        (name, shape): (&str, [usize; D]),
        device: &Device,
    ) -> Result<Self, Error> {
        let difference = |branch: &Branch| {
            let difference = branch.difference(name, &shape)?;
            let mut part = shape;
            part[0] = branch.rows.len();
            let values = tensor(difference.to_f32().expect(FLOATS), part, device);
            let Branch { rows, scale, strength, .. } = branch.clone();
            Ok::<_, Error>(Difference { rows, values, scale, strength })
        };
        let differences = branches.iter().map(difference).collect::<Result<_, _>>()?;
        Ok(Self { value: tensor(stored.to_f32().expect(FLOATS), shape, device), differences })
    }

    /// What it is now.
    pub fn value(&self) -> Tensor<D> {
        let value = self.value.clone();
        self.differences.iter().fold(value, |value, difference| match difference.scale * difference.strength.get() {
            0.0 => value,
            factor => add_rows(value, 0, difference.rows.clone(), difference.values.clone().mul_scalar(factor)),
        })
    }
}

/// An embedding table, `[rows, columns]`, which stays as it is stored.
#[derive(Clone, Debug)]
pub struct Table {
    stored: Stored,
    /// Differences of rows, checked.
    branches: Vec<(Branch, Stored)>,
    device: Device,
}

impl Table {
    /// A table `name` of a format whose values can be read, under branches.
    pub(super) fn under(stored: Stored, branches: Vec<Branch>, name: &str, device: &Device) -> Result<Self, Error> {
        let checked = |branch: Branch| {
            let difference = branch.difference(name, stored.shape())?.clone();
            difference.rows(0..0)?;
            Ok((branch, difference))
        };
        let branches = branches.into_iter().map(checked).collect::<Result<_, Error>>()?;
        Ok(Self { stored, branches, device: device.clone() })
    }

    /// One row for each id, `[ids.len(), columns]`.
    ///
    /// # Panics
    /// If an id is not below the number of rows.
    pub fn rows(&self, ids: &[usize]) -> Tensor<2> {
        let shape = [ids.len(), self.stored.shape()[1]];
        tensor(ids.iter().flat_map(|&id| self.row(id)).collect(), shape, &self.device)
    }

    fn row(&self, id: usize) -> Vec<f32> {
        let of = |stored: &Stored, row: usize| stored.rows(row..row + 1).expect(WHOLE_ROWS).to_f32().expect(FLOATS);
        let mut values = of(&self.stored, id);
        for (branch, difference) in &self.branches {
            let factor = branch.factor();
            if factor != 0.0 && branch.rows.contains(&id) {
                let difference = of(difference, id - branch.rows.start);
                values.iter_mut().zip(difference).for_each(|(value, difference)| *value += factor * difference);
            }
        }
        values
    }

    /// How many rows there are.
    pub fn height(&self) -> usize {
        self.stored.shape()[0]
    }
}
