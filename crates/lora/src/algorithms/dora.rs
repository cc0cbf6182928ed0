//! DoRA: the changed weight's rows or columns get magnitudes of their own.

use std::ops::Range;

use core_tensor::{Change, Computed, Rule, Stored};

use super::{Delta, Dora, Scaled, Site};
use crate::{
    leaf::Leaf,
    misfit::Misfit,
    tensors::{Tensors, count, values},
};

/// What is added to a norm, so that none is 0: the least step of f32 at 1, as Forge and ComfyUI have it.
const EPS: f32 = f32::EPSILON;

/// Rows of the weight that are looked at at a time.
const PANEL: usize = 256;

/// Whether magnitudes are among a module's tensors.
pub(super) fn is_in(tensors: &Tensors) -> bool {
    tensors.has(Leaf::DoraScale) || tensors.has(Leaf::Magnitude)
}

/// `m · (W + Δ) / ‖…‖ - W`. Over outputs Forge and ComfyUI take the norm of `W` itself, over inputs that of `W + Δ`; the paper and PEFT
/// always the latter.
pub(super) fn changes(site: &Site, tensors: &Tensors, delta: Delta) -> Result<Vec<Scaled>, Misfit> {
    let [out, columns] = site.flat();
    let places = site.places();
    let (magnitudes, of_outputs, form) = match tensors.get(Leaf::Magnitude) {
        Some(magnitudes) => (magnitudes, true, Dora::Paper),
        None => {
            let magnitudes = tensors.need(Leaf::DoraScale, "dora_scale")?;
            (magnitudes, magnitudes.shape().first() == Some(&out), site.dora)
        }
    };
    let expected = if of_outputs { out } else { columns / places };
    if count(magnitudes.shape()) != expected {
        return Err(site.mismatch(magnitudes.shape()));
    }
    let magnitudes = values(magnitudes)?;
    let base = (site.base)()?;
    values(&base)?;
    let scaled = match (of_outputs, form) {
        (true, form) => Scales::Outputs { magnitudes, form },
        (false, _) => {
            let mut squares = vec![0.0f64; columns];
            for start in (0..out).step_by(PANEL) {
                let rows = changed(&base, &delta, start..out.min(start + PANEL)).0;
                for row in rows.chunks(columns) {
                    squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v) * f64::from(*v));
                }
            }
            let norms = squares.chunks(places).map(|channel| channel.iter().sum::<f64>().sqrt() as f32 + EPS);
            let scales = magnitudes.iter().zip(norms).map(|(magnitude, norm)| magnitude / norm);
            Scales::Columns(scales.flat_map(|scale| std::iter::repeat_n(scale, places)).collect())
        }
    };
    let rule = Decomposed { shape: site.shape.clone(), base, delta, scaled };
    Ok(vec![(Change::Computed(Computed::by(rule)), 1.0)])
}

/// What the changed weight is multiplied with.
enum Scales {
    Outputs { magnitudes: Vec<f32>, form: Dora },
    Columns(Vec<f32>),
}

struct Decomposed {
    shape: Vec<usize>,
    base: Stored,
    delta: Delta,
    scaled: Scales,
}

/// Rows of the changed weight, and of the weight.
fn changed(base: &Stored, delta: &Delta, rows: Range<usize>) -> (Vec<f32>, Vec<f32>) {
    let base = base.rows(rows.clone()).ok().and_then(|rows| rows.to_f32()).expect("the whole weight was read before");
    let mut changed = delta.rows(rows);
    changed.iter_mut().zip(&base).for_each(|(value, base)| *value += base);
    (changed, base)
}

impl Rule for Decomposed {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: Range<usize>, strength: f32) -> Vec<f32> {
        let columns = count(&self.shape[1..]);
        let (mut changed, base) = changed(&self.base, &self.delta, rows.clone());
        for ((row, value), base) in rows.zip(changed.chunks_mut(columns)).zip(base.chunks(columns)) {
            match &self.scaled {
                Scales::Outputs { magnitudes, form } => {
                    let of = match form {
                        Dora::Forge => base,
                        Dora::Paper => value,
                    };
                    let norm = of.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() as f32;
                    let scale = magnitudes[row] / (norm + EPS);
                    value.iter_mut().zip(base).for_each(|(value, base)| *value = strength * (*value * scale - base));
                }
                Scales::Columns(scales) => {
                    let columns = value.iter_mut().zip(base).zip(scales);
                    columns.for_each(|((value, base), scale)| *value = strength * (*value * scale - base));
                }
            }
        }
        changed
    }
}
