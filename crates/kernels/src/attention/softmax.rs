//! The softmax of some rows of scores, which come in blocks.

use std::f32::consts::LOG2_E;

use super::{Bias, Mask, Scores};
use crate::{
    aligned::Word,
    exp::{coarse_exp2, exp},
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
        let mut factors = [1.0; M];
        for r in 0..self.place.count {
            factors[r] = self.weigh_row(s, weights, r, start, panels, width);
        }
        factors
    }

    /// Keys that a row sees the first of.
    #[inline(always)]
    fn end(&self, r: usize) -> usize {
        let Place { first, m, .. } = self.place;
        match self.scores.mask {
            Mask::Causal => m.min(first + r + 1),
            Mask::None | Mask::Keys(_) => m,
        }
    }

    #[inline(always)]
    fn weigh_row<S: Simd>(
        &mut self,
        s: S,
        weights: &mut [f32],
        r: usize,
        start: usize,
        panels: usize,
        width: usize,
    ) -> f32 {
        let Place { head, first, n, m, hidden, .. } = self.place;
        let scale = s.splat(self.scores.scale);
        let end = self.end(r);
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
        let factor = (self.greatest[r] - greatest).exp();
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
        self.totals[r] = self.totals[r] * factor + s.sum(total);
        factor
    }

    /// [`Softmax::weigh`], and the weights rounded to bf16, two to a word: a row of `width` weights becomes one of half as many
    /// words of `rounded`. Of `weights` nothing can be told afterwards.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    #[inline(always)]
    pub(super) fn weigh_in_pairs<S: Simd>(
        &mut self,
        s: S,
        weights: &mut [f32],
        start: usize,
        panels: usize,
        width: usize,
        rounded: &mut [u32],
    ) -> [f32; M] {
        let mut factors = [1.0; M];
        let rounded = u32::as_floats(rounded);
        let Scores { scale, bias, .. } = self.scores;
        let is_plain = bias.is_none() && self.place.hidden.is_empty() && scale > 0.0;
        for r in 0..self.place.count {
            let clear = (self.end(r).saturating_sub(start) / width).min(panels);
            for panel in clear..panels {
                let visible = self.end(r).saturating_sub(start + panel * width).min(width);
                weights[(panel * M + r) * width + visible..][..width - visible].fill(f32::NEG_INFINITY);
            }
            let mut most = [s.splat(f32::NEG_INFINITY); 2];
            for row in weights[r * width..].chunks(M * width).take(panels) {
                for at in (0..width).step_by(2 * S::LANES) {
                    most[0] = s.max(s.load(&row[at..]), most[0]);
                    most[1] = s.max(s.load(&row[at + S::LANES..]), most[1]);
                }
            }
            let greatest = self.greatest[r].max(s.greatest(s.max(most[0], most[1])) * scale);
            if is_plain && greatest > LEAST {
                let factor = (self.greatest[r] - greatest).exp();
                (factors[r], self.greatest[r]) = (factor, greatest);
                let (scale, shift) = (s.splat(scale * LOG2_E), s.splat(-greatest * LOG2_E));
                let least = s.splat(-150.0);
                let mut totals = [s.splat(0.0); 2];
                let rows =
                    weights[r * width..].chunks(M * width).zip(rounded[r * width / 2..].chunks_mut(M * width / 2));
                for (row, to) in rows.take(panels) {
                    for at in (0..width).step_by(2 * S::LANES) {
                        let low = s.max(least, s.fma(s.load(&row[at..]), scale, shift));
                        let high = s.max(least, s.fma(s.load(&row[at + S::LANES..]), scale, shift));
                        let (low, high) = (coarse_exp2(s, low), coarse_exp2(s, high));
                        totals = [s.add(totals[0], low), s.add(totals[1], high)];
                        s.store(&mut to[at / 2..], s.narrow(low, high));
                    }
                }
                self.totals[r] = self.totals[r] * factor + s.sum(s.add(totals[0], totals[1]));
            } else {
                factors[r] = self.weigh_row(s, weights, r, start, panels, width);
                for panel in 0..panels {
                    let at = (panel * M + r) * width;
                    for at in (at..at + width).step_by(2 * S::LANES) {
                        let pairs = s.narrow(s.load(&weights[at..]), s.load(&weights[at + S::LANES..]));
                        s.store(&mut rounded[at / 2..], pairs);
                    }
                }
            }
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
