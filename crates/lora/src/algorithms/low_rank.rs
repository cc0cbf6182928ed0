//! LoRA and LoCon: `up · mid · down`.

use core_tensor::{Change, Stored};

use super::{
    Scaled, Site,
    delta::{Delta, Factors, of_factors, through},
};
use crate::{
    leaf::Leaf,
    misfit::Misfit,
    scale::Scale,
    tensors::{Tensors, count, values},
};

/// The factors of a change, each in the shape in which the weight's own kind has it.
struct Fitting {
    down: Stored,
    mid: Option<Stored>,
    up: Stored,
    scale: f32,
}

impl Fitting {
    fn of(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Self, Misfit> {
        let (down, up) = (tensors.need(Leaf::Down, "lora_down")?, tensors.need(Leaf::Up, "lora_up")?);
        let mid = tensors.get(Leaf::Mid);
        let found = [up.shape().first(), down.shape().get(1)].map(|d| d.copied().unwrap_or(0));
        let bad = || Misfit::Factors {
            module: site.module.to_owned(),
            expected: site.shape.clone(),
            found: [down, up].map(|factor| factor.shape().to_vec()),
        };
        let (out, d_in, places) = (site.shape[0], site.shape[1], site.places());
        let (Some(&rank), Some(&height)) = (down.shape().first(), up.shape().first()) else { return Err(bad()) };
        if height == out && found[1] > d_in && site.module == "img_in" {
            return Err(Misfit::Widens { expected: d_in, found: found[1] });
        }
        if rank == 0 || height != out {
            return Err(bad());
        }
        let kernel = |rows: usize, columns: usize, wide: bool| match (site.shape.len(), wide) {
            (2, _) => vec![rows, columns],
            (_, true) => [&[rows, columns], &site.shape[2..]].concat(),
            (_, false) => vec![rows, columns, 1, 1],
        };
        let fits = |stored: &Stored, shape: Vec<usize>| {
            let fits = stored.shape().first() == shape.first() && count(stored.shape()) == count(&shape);
            fits.then(|| stored.clone().reshape(shape))
        };
        let scale = scale.of(Some(rank));
        if let Some(mid) = mid {
            let outer = mid.shape().first().copied().unwrap_or(0);
            let (up, down) = (fits(up, kernel(out, outer, false)), fits(down, kernel(rank, d_in, false)));
            let mid = fits(mid, kernel(outer, rank, true));
            return match (down, mid, up) {
                (Some(down), Some(mid), Some(up)) => Ok(Self { down, mid: Some(mid), up, scale }),
                _ => Err(bad()),
            };
        }
        // The kernel is the first factor's, or of some programs the last one's.
        let narrow = || Some((fits(down, kernel(rank, d_in, false))?, fits(up, kernel(out, rank, true))?));
        let wide = || Some((fits(down, kernel(rank, d_in, true))?, fits(up, kernel(out, rank, false))?));
        let (down, up) = wide().or_else(|| narrow().filter(|_| places > 1)).ok_or_else(bad)?;
        Ok(Self { down, mid: None, up, scale })
    }
}

/// What is added beside the weight.
pub(super) fn changes(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Vec<Scaled>, Misfit> {
    let Fitting { down, mid, up, scale } = Fitting::of(site, tensors, scale)?;
    Ok(vec![(Change::LowRank { down, mid, up }, scale)])
}

/// The change itself, for what is computed of it.
pub(super) fn delta(site: &Site, tensors: &Tensors, scale: Scale) -> Result<Delta, Misfit> {
    let Fitting { down, mid, up, scale } = Fitting::of(site, tensors, scale)?;
    let [out, columns] = site.flat();
    let bad = || site.mismatch(up.shape());
    let (rank, down) = match &mid {
        None => (down.shape()[0], values(&down)?),
        Some(mid) => {
            let [outer, rank] = [mid.shape()[0], mid.shape()[1]];
            (outer, through(&values(mid)?, &values(&down)?, [outer, rank, site.shape[1], site.places()]))
        }
    };
    let factors = Factors::of(values(&up)?, down, rank, [out, columns]).ok_or_else(bad)?;
    Ok(of_factors(factors, scale))
}
