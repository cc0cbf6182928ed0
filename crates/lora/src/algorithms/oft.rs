//! OFT and BOFT: outputs are turned, in blocks.
//!
//! Reference: LyCORIS 4.1 `functional/diag_oft.py` and `functional/boft.py`.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use core_tensor::{Change, Computed, Rule, Stored};

use super::{Scaled, Site, delta::product};
use crate::{
    leaf::Leaf,
    misfit::Misfit,
    tensors::{Tensors, count, values},
};

/// Rotations of blocks of outputs, `[blocks, size, size]`: `R = (I + Q)(I - Q)⁻¹` of the skew-symmetric `Q = B - Bᵀ`, of which alpha is
/// the greatest norm for each output.
pub(super) fn rotation(site: &Site, tensors: &Tensors) -> Result<Vec<Scaled>, Misfit> {
    let blocks = tensors.need(Leaf::OftBlocks, "oft_blocks")?;
    let &[number, size, other] = blocks.shape() else { return Err(site.mismatch(blocks.shape())) };
    if size != other || size == 0 || number.checked_mul(size) != Some(site.shape[0]) {
        return Err(site.mismatch(blocks.shape()));
    }
    let turns = cayley(&values(blocks)?, size, most(site, tensors)?).ok_or(Misfit::NotFinite)?;
    // W' = Rᵀ W, block by block.
    let turns = turns.chunks(size * size).flat_map(|turn| super::delta::transposed(turn, [size; 2])).collect();
    let base = (site.base)()?;
    values(&base)?;
    let rule = Turned { shape: site.shape.clone(), base, turns, size, rescale: rescale(site, tensors)? };
    Ok(vec![(Change::Computed(Computed::by(rule)), 1.0)])
}

/// Rotations of blocks in several stages, `[stages, blocks, size, size]`, between which outputs change places.
pub(super) fn butterfly(site: &Site, tensors: &Tensors) -> Result<Vec<Scaled>, Misfit> {
    let blocks = tensors.need(Leaf::OftBlocks, "oft_blocks")?;
    let bad = || site.mismatch(blocks.shape());
    let &[stages, number, size, other] = blocks.shape() else { return Err(bad()) };
    let out = site.shape[0];
    // In the last stage outputs are exchanged that lie this far from each other.
    let stage = u32::try_from(stages).ok().and_then(|stages| stages.checked_sub(1));
    let reach = stage.and_then(|stage| size.checked_mul(1usize.checked_shl(stage)?));
    let fits = size == other && size >= 2 && size % 2 == 0 && number.checked_mul(size) == Some(out);
    if !fits || !reach.is_some_and(|reach| reach > 0 && out.is_multiple_of(reach)) {
        return Err(bad());
    }
    let turns = cayley(&values(blocks)?, size, most(site, tensors)?).ok_or(Misfit::NotFinite)?;
    let rule = Butterfly {
        shape: site.shape.clone(),
        base: values(&(site.base)()?)?,
        turns,
        stages,
        size,
        rescale: rescale(site, tensors)?,
        made: Mutex::new(None),
    };
    Ok(vec![(Change::Computed(Computed::by(rule)), 1.0)])
}

/// The greatest norm of `Q`, of which kohya's scripts and LyCORIS keep the share of one output.
fn most(site: &Site, tensors: &Tensors) -> Result<Option<f32>, Misfit> {
    let alpha = tensors.number(Leaf::Alpha)?;
    Ok(alpha.map(|alpha| alpha * site.shape[0] as f32))
}

fn rescale(site: &Site, tensors: &Tensors) -> Result<Option<Vec<f32>>, Misfit> {
    let Some(rescale) = tensors.get(Leaf::Rescale) else { return Ok(None) };
    match count(rescale.shape()) == site.shape[0] {
        true => values(rescale).map(Some),
        false => Err(site.mismatch(rescale.shape())),
    }
}

/// `(I + Q)(I - Q)⁻¹` of each block; `None` where that is no number.
fn cayley(blocks: &[f32], size: usize, constraint: Option<f32>) -> Option<Vec<f32>> {
    let skew: Vec<f64> = blocks
        .chunks(size * size)
        .flat_map(|block| {
            (0..size * size).map(move |at| {
                let (row, column) = (at / size, at % size);
                f64::from(block[at]) - f64::from(block[column * size + row])
            })
        })
        .collect();
    let norm = skew.iter().map(|q| q * q).sum::<f64>().sqrt() + 1e-8;
    let factor = match constraint.map(f64::from) {
        Some(most) if most > 0.0 && norm > most => most / norm,
        _ => 1.0,
    };
    let turns = skew.chunks(size * size).map(|q| turn(q, size, factor));
    let turns: Vec<Vec<f32>> = turns.collect::<Option<_>>()?;
    Some(turns.concat())
}

/// `(I + Q)(I - Q)⁻¹`, which is `X` of `X (I - Q) = I + Q`; by elimination of columns.
fn turn(q: &[f64], size: usize, factor: f64) -> Option<Vec<f32>> {
    let identity = |at: usize| if at / size == at % size { 1.0 } else { 0.0 };
    let mut left: Vec<f64> = (0..size * size).map(|at| identity(at) - factor * q[at]).collect();
    let mut right: Vec<f64> = (0..size * size).map(|at| identity(at) + factor * q[at]).collect();
    // Transposed, so that rows are eliminated: (I - Q)ᵀ Xᵀ = (I + Q)ᵀ, and the transpose of Q is -Q.
    for matrix in [&mut left, &mut right] {
        for row in 0..size {
            for column in row + 1..size {
                matrix.swap(row * size + column, column * size + row);
            }
        }
    }
    for column in 0..size {
        let pivot =
            (column..size).max_by(|&a, &b| left[a * size + column].abs().total_cmp(&left[b * size + column].abs()))?;
        if left[pivot * size + column].abs() < 1e-12 {
            return None;
        }
        if pivot != column {
            for at in 0..size {
                left.swap(pivot * size + at, column * size + at);
                right.swap(pivot * size + at, column * size + at);
            }
        }
        let by = 1.0 / left[column * size + column];
        for matrix in [&mut left, &mut right] {
            matrix[column * size..][..size].iter_mut().for_each(|value| *value *= by);
        }
        let (of_left, of_right) = (left[column * size..][..size].to_vec(), right[column * size..][..size].to_vec());
        for row in (0..size).filter(|row| *row != column) {
            let by = left[row * size + column];
            let minus = |matrix: &mut [f64], of: &[f64]| {
                matrix[row * size..][..size].iter_mut().zip(of).for_each(|(value, of)| *value -= by * of);
            };
            minus(&mut left, &of_left);
            minus(&mut right, &of_right);
        }
    }
    let turned: Vec<f32> = (0..size * size).map(|at| right[at % size * size + at / size] as f32).collect();
    turned.iter().all(|value| value.is_finite()).then_some(turned)
}

struct Turned {
    shape: Vec<usize>,
    base: Stored,
    /// Of each block `[size, size]`, rows first.
    turns: Vec<f32>,
    size: usize,
    rescale: Option<Vec<f32>>,
}

impl Rule for Turned {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: Range<usize>, strength: f32) -> Vec<f32> {
        let (columns, size) = (count(&self.shape[1..]), self.size);
        let mut out = Vec::with_capacity(rows.len() * columns);
        for block in rows.start / size..rows.end.div_ceil(size) {
            let base = self.base.rows(block * size..(block + 1) * size).ok().and_then(|rows| rows.to_f32());
            let base = base.expect("the whole weight was read before");
            let (first, last) = (rows.start.max(block * size), rows.end.min((block + 1) * size));
            let turn = &self.turns[first * size..last * size];
            let turned = product(turn, &base, [last - first, size, columns]);
            let of_rows = base.chunks(columns).skip(first - block * size);
            for ((row, turned), base) in (first..last).zip(turned.chunks(columns)).zip(of_rows) {
                let rescale = self.rescale.as_ref().map_or(1.0, |rescale| rescale[row]);
                out.extend(turned.iter().zip(base).map(|(turned, base)| strength * (rescale * turned - base)));
            }
        }
        out
    }
}

/// A change all of whose rows depend on all of the weight's. What it is at the last strength is kept.
struct Butterfly {
    shape: Vec<usize>,
    base: Vec<f32>,
    turns: Vec<f32>,
    stages: usize,
    size: usize,
    rescale: Option<Vec<f32>>,
    made: Mutex<Option<(f32, Arc<Vec<f32>>)>>,
}

impl Butterfly {
    fn whole(&self, strength: f32) -> Vec<f32> {
        let (out, columns, size) = (self.shape[0], count(&self.shape[1..]), self.size);
        let of_stage = out * size;
        let mut rows = self.base.clone();
        for stage in 0..self.stages {
            let turns = &self.turns[stage * of_stage..][..of_stage];
            let half = (1 << stage) * (size / 2);
            // Of 2 · half rows behind each other, each of the first half stands beside its partner of the second.
            let order: Vec<usize> = (0..out)
                .map(|row| {
                    let (group, within) = (row / (2 * half), row % (2 * half));
                    group * 2 * half + (within % 2) * half + within / 2
                })
                .collect();
            let gathered: Vec<f32> =
                order.iter().flat_map(|&from| rows[from * columns..][..columns].to_vec()).collect();
            for (block, (turn, of_block)) in turns.chunks(size * size).zip(gathered.chunks(size * columns)).enumerate()
            {
                let turn: Vec<f32> = turn
                    .iter()
                    .enumerate()
                    .map(|(at, r)| strength * r + if at / size == at % size { 1.0 - strength } else { 0.0 })
                    .collect();
                let turned = product(&turn, of_block, [size, size, columns]);
                for (i, row) in turned.chunks(columns).enumerate() {
                    rows[order[block * size + i] * columns..][..columns].copy_from_slice(row);
                }
            }
        }
        if let Some(rescale) = &self.rescale {
            for (row, by) in rows.chunks_mut(columns).zip(rescale) {
                row.iter_mut().for_each(|value| *value *= by);
            }
        }
        rows.iter_mut().zip(&self.base).for_each(|(value, base)| *value -= base);
        rows
    }
}

impl Rule for Butterfly {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: Range<usize>, strength: f32) -> Vec<f32> {
        let columns = count(&self.shape[1..]);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, whole) = match made.take().filter(|(of, _)| *of == strength) {
            Some(known) => made.insert(known),
            None => made.insert((strength, Arc::new(self.whole(strength)))),
        };
        whole[rows.start * columns..rows.end * columns].to_vec()
    }
}
