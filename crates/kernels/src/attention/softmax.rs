//! The softmax of some rows of scores, which come in blocks.

use super::{Bias, Mask, Scores};
use crate::{
    exp::exp,
    output::{Done, Part},
    simd::Simd,
};

/// A score that is as good as none: `e` to its power is 0 next to any other.
const LEAST: f32 = -1e30;

/// Which queries a task has, and among how many.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    /// Queries and keys.
    pub(super) n: usize,
    pub(super) m: usize,
    /// Added to the scores of the entry's keys: minus infinity where one is hidden. Empty where none is.
    pub(super) hidden: &'a [f32],
}

/// What has been seen of some rows of scores.
pub(super) struct Softmax<'a, const M: usize> {
    scores: Scores<'a>,
    place: Place<'a>,
    greatest: [f32; M],
    totals: [f32; M],
}

impl<'a, const M: usize> Softmax<'a, M> {
    pub(super) fn new(scores: Scores<'a>, place: Place<'a>) -> Self {
        Self { scores, place, greatest: [LEAST; M], totals: [0.0; M] }
    }

    /// Keys from the first to the last that any of the rows sees.
    pub(super) fn seen(&self) -> usize {
        let Place { first, count, m, hidden, .. } = self.place;
        match self.scores.mask {
            Mask::None => m,
            Mask::Causal => m.min(first + count),
            Mask::Keys(_) => hidden.iter().rposition(|&hidden| hidden == 0.0).map_or(0, |last| last + 1),
        }
    }

    /// Turns a block's products into weights relative to the greatest score so far, and gives the factors for what was summed up
    /// before. Rows of `width` weights stand in panels of `M`; what is no token or is hidden weighs 0.
    #[inline(always)]
    pub(super) fn weigh<S: Simd>(
        &mut self,
        s: S,
        weights: &mut [f32],
        start: usize,
        panels: usize,
        width: usize,
    ) -> [f32; M] {
        let Place { head, first, count, n, m, hidden } = self.place;
        let mut factors = [1.0; M];
        let scale = s.splat(self.scores.scale);
        for r in 0..count {
            let end = match self.scores.mask {
                Mask::Causal => m.min(first + r + 1),
                Mask::None | Mask::Keys(_) => m,
            };
            let bias = match self.scores.bias {
                None => &[],
                Some(Bias::Full(all)) => &all[(head * n + first + r) * m..][..m],
                // The last query's row is the table's first; each one before begins one distance later.
                Some(Bias::Relative(table)) => &table[head * (n + m - 1) + (n - 1 - first - r)..][..m],
            };
            // Panels in which every key is seen and nothing is added.
            let clear = if bias.is_empty() && hidden.is_empty() { end.saturating_sub(start) / width } else { 0 };
            let clear = clear.min(panels);
            // Two of them, so that one comparison need not wait for the other; which is greatest does not depend on the order.
            let mut most = [s.splat(self.greatest[r]); 2];
            for row in weights[r * width..].chunks_mut(M * width).take(clear) {
                let row = &mut row[..width];
                for at in (0..width).step_by(2 * S::LANES) {
                    let low = s.max(s.splat(LEAST), s.mul(s.load(&row[at..]), scale));
                    let high = s.max(s.splat(LEAST), s.mul(s.load(&row[at + S::LANES..]), scale));
                    s.store(&mut row[at..], low);
                    s.store(&mut row[at + S::LANES..], high);
                    most = [s.max(most[0], low), s.max(most[1], high)];
                }
            }
            let mut most = s.max(most[0], most[1]);
            for panel in clear..panels {
                let row = &mut weights[(panel * M + r) * width..][..width];
                for at in (0..width).step_by(S::LANES) {
                    let token = start + panel * width + at;
                    let visible = end.saturating_sub(token).min(S::LANES);
                    let mut v = s.mul(s.load(&row[at..]), scale);
                    if !bias.is_empty() && visible > 0 {
                        v = s.add(v, s.load_part(&bias[token..token + visible], 0.0));
                    }
                    if !hidden.is_empty() && visible > 0 {
                        v = s.add(v, s.load_part(&hidden[token..token + visible], 0.0));
                    }
                    v = s.max(s.splat(LEAST), v);
                    s.store(&mut row[at..], v);
                    if visible < S::LANES {
                        row[at + visible..at + S::LANES].fill(LEAST);
                        v = s.load(&row[at..]);
                    }
                    most = s.max(most, v);
                }
            }
            let greatest = s.greatest(most);
            factors[r] = (self.greatest[r] - greatest).exp();
            self.greatest[r] = greatest;
            let greatest = s.splat(greatest);
            let mut total = s.splat(0.0);
            for row in weights[r * width..].chunks_mut(M * width).take(panels) {
                let row = &mut row[..width];
                for at in (0..width).step_by(S::LANES) {
                    let e = exp(s, s.sub(s.load(&row[at..]), greatest));
                    s.store(&mut row[at..], e);
                    total = s.add(total, e);
                }
            }
            self.totals[r] = self.totals[r] * factors[r] + s.sum(total);
        }
        factors
    }

    /// Writes sums of weighted values, divided by the sums of the weights. Rows of `width` sums stand in panels of `M`.
    #[inline(always)]
    pub(super) fn write<S: Simd>(&self, s: S, sums: &[f32], width: usize, mut out: Part) -> Done {
        let (first, columns) = (out.rows().start, out.columns());
        let d = columns.len();
        for r in 0..self.place.count {
            let out = out.row(first + r, columns.start, d);
            let factor = s.splat(1.0 / self.totals[r]);
            for at in (0..d).step_by(S::LANES) {
                let v = s.mul(s.load(&sums[(at / width * M + r) * width + at % width..]), factor);
                let to = &mut out[at..d.min(at + S::LANES)];
                if to.len() == S::LANES { s.write(to, v) } else { s.write_part(to, v) }
            }
        }
        out.done()
    }
}
