//! Tensors that layers don't multiply with: added, scaled with, or looked up.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use super::{
    Branch, Socket, Stored, Strength,
    stored::{FLOATS, WHOLE_ROWS},
    weight::add_rows,
};
use crate::{Device, Error, Tensor, device::lasting, tensor};

/// A bias, a norm's scale or another tensor that a layer reads whole, f32: `value + Σ strength · scale · difference`. Clones share what
/// is added.
#[derive(Clone, Debug)]
pub struct Parameter<const D: usize> {
    value: Tensor<D>,
    differences: Arc<Differences<D>>,
}

/// What is added to rows of a stored tensor, by the adapters that it is of.
#[derive(Debug)]
struct Differences<const D: usize> {
    /// The stored tensor's name and shape, and the rows of it.
    of: (String, Vec<usize>, Range<usize>),
    shape: [usize; D],
    device: Device,
    all: RwLock<BTreeMap<String, Vec<Difference<D>>>>,
}

#[derive(Clone, Debug)]
struct Difference<const D: usize> {
    rows: Range<usize>,
    values: Tensor<D>,
    scale: f32,
    strength: Strength,
}

impl<const D: usize> Parameter<D> {
    /// Rows of a tensor of a format whose values can be read, under branches of the whole: its name, its shape and the rows.
    pub(super) fn under(
        stored: &Stored,
        branches: &[Branch],
        of: (String, Vec<usize>, Range<usize>),
        shape: [usize; D],
        device: &Device,
    ) -> Result<Self, Error> {
        let differences = Differences { of, shape, device: device.clone(), all: RwLock::default() };
        differences.put("", branches)?;
        let value = lasting(device, || tensor(stored.to_f32().expect(FLOATS), shape, device));
        Ok(Self { value, differences: Arc::new(differences) })
    }

    /// Where further branches are put in.
    pub(super) fn socket(&self) -> Weak<dyn Socket> {
        let differences: Arc<dyn Socket> = self.differences.clone();
        Arc::downgrade(&differences)
    }

    /// What it is now.
    pub fn value(&self) -> Tensor<D> {
        let all = self.differences.all.read().unwrap_or_else(PoisonError::into_inner);
        let value = self.value.clone();
        all.values().flatten().fold(value, |value, difference| match difference.scale * difference.strength.get() {
            0.0 => value,
            factor => add_rows(value, 0, difference.rows.clone(), difference.values.clone().mul_scalar(factor)),
        })
    }
}

impl<const D: usize> Differences<D> {
    fn difference(&self, branch: &Branch) -> Result<Option<Difference<D>>, Error> {
        let (name, shape, rows) = &self.of;
        branch.check(name)?;
        branch.difference(name, shape)?;
        let Some(part) = branch.within(rows.clone())? else { return Ok(None) };
        let difference = part.difference(name, &self.shape)?;
        let mut shape = self.shape;
        shape[0] = part.rows.len();
        let values = tensor(difference.to_f32().expect(FLOATS), shape, &self.device);
        let Branch { rows, scale, strength, .. } = part;
        Ok(Some(Difference { rows, values, scale, strength }))
    }
}

impl<const D: usize> Socket for Differences<D> {
    fn put(&self, adapter: &str, branches: &[Branch]) -> Result<(), Error> {
        let new = branches.iter().filter_map(|branch| self.difference(branch).transpose());
        replace(&self.all, adapter, new.collect::<Result<_, _>>()?);
        Ok(())
    }
}

/// Puts an adapter's own in place of what was there.
fn replace<T>(all: &RwLock<BTreeMap<String, Vec<T>>>, adapter: &str, new: Vec<T>) {
    let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
    match new.is_empty() {
        true => all.remove(adapter),
        false => all.insert(adapter.to_owned(), new),
    };
}

/// An embedding table, `[rows, columns]`, which stays as it is stored. Clones share what is added.
#[derive(Clone, Debug)]
pub struct Table {
    stored: Stored,
    differences: Arc<RowDifferences>,
    device: Device,
}

/// What is added to rows of a table, by the adapters that it is of.
#[derive(Debug)]
struct RowDifferences {
    name: String,
    shape: Vec<usize>,
    /// Checked.
    all: RwLock<BTreeMap<String, Vec<(Branch, Stored)>>>,
}

impl Socket for RowDifferences {
    fn put(&self, adapter: &str, branches: &[Branch]) -> Result<(), Error> {
        let checked = |branch: &Branch| {
            branch.check(&self.name)?;
            let difference = branch.difference(&self.name, &self.shape)?.clone();
            difference.rows(0..0)?;
            Ok((branch.clone(), difference))
        };
        replace(&self.all, adapter, branches.iter().map(checked).collect::<Result<_, Error>>()?);
        Ok(())
    }
}

impl Table {
    /// A table `name` of a format whose values can be read, under branches.
    pub(super) fn under(stored: Stored, branches: &[Branch], name: &str, device: &Device) -> Result<Self, Error> {
        let (name, shape) = (name.to_owned(), stored.shape().to_vec());
        let differences = RowDifferences { name, shape, all: RwLock::default() };
        differences.put("", branches)?;
        Ok(Self { stored, differences: Arc::new(differences), device: device.clone() })
    }

    /// Where further branches are put in.
    pub(super) fn socket(&self) -> Weak<dyn Socket> {
        let differences: Arc<dyn Socket> = self.differences.clone();
        Arc::downgrade(&differences)
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
        let all = self.differences.all.read().unwrap_or_else(PoisonError::into_inner);
        for (branch, difference) in all.values().flatten() {
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
