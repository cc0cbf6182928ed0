//! Changes whose rows are computed from small tensors.

use std::ops::Range;

use core_tensor::{Device, Stored, tensor};

use super::Site;
use crate::{
    leaf::Leaf,
    misfit::Misfit,
    scale::Scale,
    tensors::{Tensors, count, values},
};

/// A change `[out, columns]` with its own scale in it.
pub(crate) enum Delta {
    /// `scale · up · down`.
    Product { factors: Factors, scale: f32 },
    /// `scale · (up₁ · down₁) ∘ (up₂ · down₂)`.
    Hadamard { factors: [Factors; 2], scale: f32 },
    /// `scale · first ⊗ second`.
    Kronecker { first: Block, second: Block, scale: f32 },
}

/// `up` `[out, rank]` and `down` `[rank, columns]`.
pub(crate) struct Factors {
    up: Vec<f32>,
    down: Vec<f32>,
    rank: usize,
    columns: usize,
}

/// A matrix of so many rows.
pub(crate) struct Block {
    values: Vec<f32>,
    rows: usize,
}

impl Block {
    fn columns(&self) -> usize {
        self.values.len() / self.rows
    }

    fn row(&self, row: usize) -> &[f32] {
        let columns = self.columns();
        &self.values[row * columns..][..columns]
    }
}

impl Delta {
    /// Rows of the change, row-major.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        let (mut values, scale) = match self {
            Self::Product { factors, scale } => (factors.rows(rows), *scale),
            Self::Hadamard { factors: [first, second], scale } => {
                let mut values = first.rows(rows.clone());
                values.iter_mut().zip(second.rows(rows)).for_each(|(value, other)| *value *= other);
                (values, *scale)
            }
            Self::Kronecker { first, second, scale } => {
                let row = |row: usize| {
                    let other = second.row(row % second.rows);
                    first.row(row / second.rows).iter().flat_map(move |a| other.iter().map(move |b| a * b))
                };
                (rows.flat_map(row).collect(), *scale)
            }
        };
        if scale != 1.0 {
            values.iter_mut().for_each(|value| *value *= scale);
        }
        values
    }
}

impl Factors {
    /// Factors of a change of a weight of these outputs and columns; `None` where they are no such factors.
    pub(super) fn of(up: Vec<f32>, down: Vec<f32>, rank: usize, [out, columns]: [usize; 2]) -> Option<Self> {
        let fits = rank > 0 && rank.checked_mul(out) == Some(up.len()) && rank.checked_mul(columns) == Some(down.len());
        fits.then_some(Self { up, down, rank, columns })
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        let up = &self.up[rows.start * self.rank..rows.end * self.rank];
        product(up, &self.down, [rows.len(), self.rank, self.columns])
    }
}

/// `a · b` of `a` `[n, k]` and `b` `[k, m]`.
pub(super) fn product(a: &[f32], b: &[f32], [n, k, m]: [usize; 3]) -> Vec<f32> {
    let device = Device::flex();
    let (a, b) = (tensor(a.to_vec(), [n, k], &device), tensor(b.to_vec(), [k, m], &device));
    core_tensor::values(&a.matmul(b))
}

/// A matrix `[n, m]` turned round.
pub(super) fn transposed(values: &[f32], [n, m]: [usize; 2]) -> Vec<f32> {
    (0..m).flat_map(|column| (0..n).map(move |row| values[row * m + column])).collect()
}

/// A core `[i, j, places]` whose second side meets `down` `[j, columns]`: `[i, columns, places]`.
fn inner(core: &[f32], down: &[f32], [i, j, columns, places]: [usize; 4]) -> Vec<f32> {
    // i places j, and then columns.
    let turned: Vec<f32> = core.chunks(j * places).flat_map(|of_i| transposed(of_i, [j, places])).collect();
    let made = product(&turned, down, [i * places, j, columns]);
    made.chunks(places * columns).flat_map(|of_i| transposed(of_i, [places, columns])).collect()
}

/// `up` and `down` of half a product: with a core in the middle, Tucker's form, they are stored `[rank, out]` and `[rank, in]`.
fn half(
    site: &Site,
    (a, b, core): (&Stored, &Stored, Option<&Stored>),
    [out, columns]: [usize; 2],
) -> Result<Factors, Misfit> {
    let bad = || site.mismatch(&[a.shape(), b.shape()].concat());
    let Some(core) = core else {
        let rank = b.shape().first().copied().ok_or_else(bad)?;
        return Factors::of(values(a)?, values(b)?, rank, [out, columns]).ok_or_else(bad);
    };
    let (&[i, j], places) = (core.shape().get(..2).and_then(|s| s.first_chunk()).ok_or_else(bad)?, places_of(core));
    let &[of_a, a_out] = a.shape() else { return Err(bad()) };
    let &[of_b, b_in] = b.shape() else { return Err(bad()) };
    let wide = b_in.checked_mul(places).filter(|&wide| wide == columns && places > 0);
    if of_a != i || of_b != j || a_out != out || i == 0 || j == 0 || wide.is_none() {
        return Err(bad());
    }
    let down = inner(&values(core)?, &values(b)?, [i, j, b_in, places]);
    Factors::of(transposed(&values(a)?, [i, out]), down, i, [out, columns]).ok_or_else(bad)
}

fn places_of(core: &Stored) -> usize {
    count(&core.shape()[2..])
}

/// LoHa. Reference: LyCORIS 4.1 `functional/loha.py`.
pub(super) fn hadamard(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Delta, Misfit> {
    let of = |a: (Leaf, &'static str), b: (Leaf, &'static str), core| {
        half(site, (tensors.need(a.0, a.1)?, tensors.need(b.0, b.1)?, tensors.get(core)), site.flat())
    };
    let first = of((Leaf::Hada1A, "hada_w1_a"), (Leaf::Hada1B, "hada_w1_b"), Leaf::Hada1T)?;
    let second = of((Leaf::Hada2A, "hada_w2_a"), (Leaf::Hada2B, "hada_w2_b"), Leaf::Hada2T)?;
    let scale = scale.of(tensors.need(Leaf::Hada1B, "hada_w1_b")?.shape().first().copied());
    Ok(Delta::Hadamard { factors: [first, second], scale })
}

/// LoKr. Reference: LyCORIS 4.1 `functional/lokr.py`; an alpha counts where a half is low-rank, by the second half's rank before the first's.
pub(super) fn kronecker(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Delta, Misfit> {
    let [out, columns] = site.flat();
    let mut rank = None;
    let first = match tensors.get(Leaf::Lokr1) {
        Some(whole) => Block { rows: whole.shape().first().copied().unwrap_or(0), values: values(whole)? },
        None => {
            let (a, b) = (tensors.need(Leaf::Lokr1A, "lokr_w1_a")?, tensors.need(Leaf::Lokr1B, "lokr_w1_b")?);
            rank = b.shape().first().copied();
            low_rank(site, (a, b, None))?
        }
    };
    let second = match tensors.get(Leaf::Lokr2) {
        Some(whole) => Block { rows: whole.shape().first().copied().unwrap_or(0), values: values(whole)? },
        None => {
            let (a, b) = (tensors.need(Leaf::Lokr2A, "lokr_w2_a")?, tensors.need(Leaf::Lokr2B, "lokr_w2_b")?);
            rank = b.shape().first().copied();
            low_rank(site, (a, b, tensors.get(Leaf::Lokr2T)))?
        }
    };
    let fits = first.rows > 0
        && second.rows > 0
        && first.rows.checked_mul(second.rows) == Some(out)
        && first.columns().checked_mul(second.columns()) == Some(columns);
    if !fits {
        return Err(site.mismatch(&[first.rows.saturating_mul(second.rows)]));
    }
    let scale = scale.of(rank);
    Ok(Delta::Kronecker { first, second, scale })
}

/// The product that half of a Kronecker product is.
fn low_rank(site: &Site, (a, b, core): (&Stored, &Stored, Option<&Stored>)) -> Result<Block, Misfit> {
    let bad = || site.mismatch(&[a.shape(), b.shape()].concat());
    let rows = match core {
        Some(_) => a.shape().get(1),
        None => a.shape().first(),
    };
    let rows = rows.copied().filter(|&rows| rows > 0 && rows <= site.shape[0]).ok_or_else(bad)?;
    let columns = match core {
        Some(core) if core.shape().len() >= 2 => {
            b.shape().get(1).and_then(|columns| columns.checked_mul(places_of(core)))
        }
        Some(_) => None,
        None => b.shape().first().filter(|&&rank| rank > 0).map(|rank| count(b.shape()) / rank),
    };
    let columns = columns.filter(|&columns| columns > 0 && columns <= site.flat()[1]).ok_or_else(bad)?;
    let factors = half(site, (a, b, core), [rows, columns])?;
    Ok(Block { values: factors.rows(0..rows), rows })
}

/// `up · mid · down` of a LoRA as a change.
pub(super) fn of_factors(factors: Factors, scale: f32) -> Delta {
    Delta::Product { factors, scale }
}

/// `down` behind a core of a convolution, `[rank, in · places]`.
pub(super) fn through(core: &[f32], down: &[f32], [i, j, columns, places]: [usize; 4]) -> Vec<f32> {
    inner(core, down, [i, j, columns, places])
}
