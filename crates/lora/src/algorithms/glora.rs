//! GLoRA: `W · A + B`, which is two low-rank changes once `W` has met the first factor of `A`.

use core_tensor::{Change, Stored};

use super::{Scaled, Site, delta::product};
use crate::{
    leaf::Leaf,
    misfit::Misfit,
    scale::Scale,
    tensors::{Tensors, count, values},
};

/// LyCORIS 4.1 `modules/glora.py`, and the other way round as its first versions had the factors.
pub(super) fn changes(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Vec<Scaled>, Misfit> {
    let [a1, a2] = [tensors.need(Leaf::A1, "a1")?, tensors.need(Leaf::A2, "a2")?];
    let [b1, b2] = [tensors.need(Leaf::B1, "b1")?, tensors.need(Leaf::B2, "b2")?];
    let (out, d_in, places) = (site.shape[0], site.shape[1], site.places());
    let bad = || site.mismatch(&[b1.shape(), b2.shape()].concat());
    let is = |stored: &Stored, rows: usize, columns: usize| {
        stored.shape().first() == Some(&rows) && rows.checked_mul(columns) == Some(count(stored.shape()))
    };
    let flat = d_in * places;
    let of_rank = |[a_up, a_down, b_up, b_down]: [&Stored; 4], rank: usize| {
        rank > 0 && is(a_up, d_in, rank) && is(a_down, rank, d_in) && is(b_up, out, rank) && (is(b_down, rank, flat))
    };
    let ranks = [a2, a1].map(|stored| stored.shape().first().copied().unwrap_or(0));
    let [a_up, a_down, b_up, b_down] = match ranks {
        [rank, _] if of_rank([a1, a2, b1, b2], rank) => [a1, a2, b1, b2],
        [_, rank] if of_rank([a2, a1, b2, b1], rank) => [a2, a1, b2, b1],
        _ => return Err(bad()),
    };
    let rank = a_down.shape()[0];
    let scale = scale.of(Some(rank));
    let shaped = |rows: usize, columns: usize, wide: bool| match (site.shape.len(), wide) {
        (2, _) => vec![rows, columns],
        (_, true) => [&[rows, columns], &site.shape[2..]].concat(),
        (_, false) => vec![rows, columns, 1, 1],
    };
    let base = values(&(site.base)()?)?;
    let met = met(&base, &values(a_up)?, [out, d_in, places, rank]);
    let of_weight = Change::LowRank {
        down: a_down.clone().reshape(shaped(rank, d_in, false)),
        mid: None,
        up: Stored::of(&met, shaped(out, rank, true)),
    };
    let beside = Change::LowRank {
        down: b_down.clone().reshape(shaped(rank, d_in, true)),
        mid: None,
        up: b_up.clone().reshape(shaped(out, rank, false)),
    };
    Ok(vec![(of_weight, scale), (beside, scale)])
}

/// A weight `[out, in, places]` whose inputs meet `[in, rank]`: `[out, rank, places]`.
fn met(base: &[f32], up: &[f32], [out, d_in, places, rank]: [usize; 4]) -> Vec<f32> {
    use super::delta::transposed;
    if places == 1 {
        return product(base, up, [out, d_in, rank]);
    }
    let turned: Vec<f32> = base.chunks(d_in * places).flat_map(|row| transposed(row, [d_in, places])).collect();
    let made = product(&turned, up, [out * places, d_in, rank]);
    made.chunks(places * rank).flat_map(|row| transposed(row, [places, rank])).collect()
}
