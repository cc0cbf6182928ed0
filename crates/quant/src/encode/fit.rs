//! The search for the scale of a few weights that loses least of them.
//!
//! Numbers are rounded under several scales around the one that the largest weight asks for; for each rounding the best scale
//! follows by least squares, and the one with the smallest sum of squared errors is taken.

/// Sums are kept in so many lanes, so that they can be added at once.
const LANES: usize = 8;

/// The nearest integer, of two as near the even one. Right below 2^22.
#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
    /// 1.5 · 2^23: behind it floats are integers.
    const INTEGERS: f32 = 12_582_912.0;
    (x + INTEGERS) - INTEGERS
}

#[inline(always)]
fn between(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// The nearest integer of a range.
#[inline(always)]
pub(super) fn level(x: f32, low: f32, high: f32) -> f32 {
    nearest(between(x, low, high))
}

/// Sums over the weights of what `of` gives for each.
#[inline(always)]
fn sums<const N: usize>(weights: &[f32], of: impl Fn(f32) -> [f32; N]) -> [f32; N] {
    let mut sums = [[0.0; LANES]; N];
    for weights in weights.as_chunks::<LANES>().0 {
        for (lane, x) in weights.iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(of(*x)) {
                sum[lane] += value;
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// The weight that is largest without its sign, with it.
pub(super) fn extreme(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

/// The largest weights that are fitted. No format whose scales are f16 holds larger ones: they come to less than 65,504 · 128 · 128 in
/// all of them. The squares of these have room in f32, and so have sums of them.
const LARGEST: f32 = 1e12;

/// The scale under which `scale · level` is nearest to the weights, where `level` gives the nearest level to a number, and
/// `ends` are the lowest and the highest level. Infinite for weights that no format holds.
pub(super) fn scale(weights: &[f32], [low, high]: [f32; 2], level: impl Fn(f32) -> f32 + Copy) -> f32 {
    /// How far the largest weight is put beside the last level, in levels or in hundredths of the range.
    const STEPS: i32 = 9;
    let most = extreme(weights);
    if most.abs() < f32::MIN_POSITIVE {
        return 0.0;
    }
    // What no scale holds becomes no number, so that nobody takes it for what it was.
    if most.abs() > LARGEST {
        return f32::INFINITY;
    }
    let step = (high - low) / 160.0;
    let step = if step < 0.1 { 0.1 } else { step };
    let (mut best, mut scale) = (0.0, 0.0);
    for end in [low, high] {
        for i in -STEPS..=STEPS {
            let inverse = (end + i as f32 * step) / most;
            let [xq, qq] = sums(weights, |x| {
                let q = level(x * inverse);
                [x * q, q * q]
            });
            // What is lost is the sum of squares less this.
            if qq > 0.0 && xq * xq > best * qq {
                (best, scale) = (xq * xq / qq, xq / qq);
            }
        }
    }
    scale
}

/// What is lost of weights under a scale, as a sum of squares.
pub(super) fn loss(weights: &[f32], scale: f32, level: impl Fn(f32) -> f32) -> f32 {
    let inverse = super::inverse(scale);
    let [loss] = sums(weights, |x| {
        let off = x - scale * level(x * inverse);
        [off * off]
    });
    loss
}

/// A scale and a minimum below zero, without its sign: weights are `scale · level - min`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// The line on which levels from 0 to `top` are nearest to the weights. Infinite for weights that no format holds.
pub(super) fn line(weights: &[f32], top: f32) -> Line {
    /// How far the largest weight is put beside the last level, in tenths of a level.
    const STEPS: i32 = 10;
    let low = weights.iter().fold(0.0f32, |low, x| if *x < low { *x } else { low });
    let high = weights.iter().fold(low, |high, x| if *x > high { *x } else { high });
    let spread = high - low;
    if spread > LARGEST {
        return Line { scale: f32::INFINITY, min: f32::INFINITY };
    }
    if spread < f32::MIN_POSITIVE {
        return Line { scale: 0.0, min: -low };
    }
    let mut lines = Lines::over(weights, low, top);
    (-STEPS..=STEPS).for_each(|i| lines.see(-low, (top + i as f32 * 0.1) / spread));
    // Numbers that were rounded under another line may be nearer to other levels of this one.
    for _ in 0..2 {
        let Line { scale, min } = lines.best;
        lines.see(min, super::inverse(scale));
    }
    lines.best
}

/// What a line has to lose less than another, as a share of the sum of squares above the lowest weight.
const TIE: f32 = 1e-6;

/// The search for a line. Sums are of the weights above the lowest, so that nothing is lost where all of them are far from 0.
struct Lines<'w> {
    weights: &'w [f32],
    low: f32,
    top: f32,
    sum: f32,
    squares: f32,
    best: Line,
    least: f32,
}

impl<'w> Lines<'w> {
    fn over(weights: &'w [f32], low: f32, top: f32) -> Self {
        let [sum, squares] = sums(weights, |x| [x - low, (x - low) * (x - low)]);
        Self { weights, low, top, sum, squares, best: Line::default(), least: f32::INFINITY }
    }

    /// Rounds under a line, and keeps the best one for these levels if it loses less than all before.
    #[inline(always)]
    fn see(&mut self, min: f32, inverse: f32) {
        let (n, low, top) = (self.weights.len() as f32, self.low, self.top);
        let [q1, q2, xq] = sums(self.weights, |x| {
            let q = level((x + min) * inverse, 0.0, top);
            [q, q * q, (x - low) * q]
        });
        if q2 <= 0.0 {
            return;
        }
        let determinant = n * q2 - q1 * q1;
        let mut scale = (n * xq - self.sum * q1) / determinant;
        let mut offset = (q2 * self.sum - q1 * xq) / determinant;
        // Weights of one level lie on many lines.
        if determinant <= 0.0 || offset + low > 0.0 {
            (scale, offset) = ((xq + low * q1) / q2, -low);
        }
        let loss =
            self.squares + scale * (scale * q2 - 2.0 * xq + 2.0 * offset * q1) + offset * (n * offset - 2.0 * self.sum);
        // Where weights lie on many lines, rounding would choose one for each part of a block, and the parts have a factor in common.
        if scale > 0.0 && loss < self.least - self.squares * TIE {
            (self.least, self.best) = (loss, Line { scale, min: -(offset + low) });
        }
    }
}

/// What is lost of weights on a line, as a sum of squares.
pub(super) fn loss_on(weights: &[f32], Line { scale, min }: Line, top: f32) -> f32 {
    let inverse = super::inverse(scale);
    let [loss] = sums(weights, |x| {
        let off = x + min - scale * level((x + min) * inverse, 0.0, top);
        [off * off]
    });
    loss
}

/// Of an integer and its neighbours in a range the one for which `loss` is least.
pub(super) fn beside(start: f32, [low, high]: [f32; 2], loss: impl Fn(f32) -> f32) -> f32 {
    let start = level(start, low, high);
    let mut best = (loss(start), start);
    for other in [start - 1.0, start + 1.0] {
        if (low..=high).contains(&other) {
            let lost = loss(other);
            if lost < best.0 {
                best = (lost, other);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights on a wave, so many, around a number.
    fn wave(n: usize, around: f32) -> Vec<f32> {
        (0..n).map(|i| around + (i as f32 * 2.3).sin()).collect()
    }

    #[test]
    fn no_scale_of_many_loses_much_less_than_the_one_that_is_found() {
        for (ends, n) in [([-32.0, 31.0], 16), ([-4.0, 3.0], 16)] {
            let weights = wave(n, 0.1);
            let round = |x: f32| level(x, ends[0], ends[1]);
            let found = loss(&weights, scale(&weights, ends, round), round);
            let all = (1..4000).flat_map(|i| [-1.0, 1.0].map(|sign| loss(&weights, sign * i as f32 * 1e-4, round)));
            let least = all.fold(f32::INFINITY, f32::min);
            assert!(found <= least * 1.1, "{ends:?}: {found}, possible {least}");
        }
    }

    #[test]
    fn no_line_of_many_loses_much_less_than_the_one_that_is_found() {
        for (top, around) in [(3.0, 0.0), (15.0, 0.0), (31.0, 0.5), (15.0, 100.0), (15.0, -100.0)] {
            let weights = wave(32, around);
            let line = line(&weights, top);
            assert!(line.scale > 0.0 && line.min >= 0.0);
            let found = loss_on(&weights, line, top);
            let low = weights.iter().fold(0.0f32, |low, x| low.min(*x));
            let of = |i: u32| (0..60).map(move |j| (i as f32 * 0.005 + 0.7, j as f32 * 0.01 - 0.3));
            let lines = (0..120).flat_map(of).map(|(stretch, shift)| {
                let high = weights.iter().fold(low, |high, x| high.max(*x));
                let scale = (high - low) / top * stretch;
                Line { scale, min: (-low - shift * scale).max(0.0) }
            });
            let least = lines.map(|line| loss_on(&weights, line, top)).fold(f32::INFINITY, f32::min);
            assert!(found <= least * 1.25, "{top} around {around}: {found}, possible {least}");
        }
    }

    #[test]
    fn equal_weights_are_kept_and_none_are_lost_to_a_scale_of_none() {
        assert_eq!(line(&[0.0; 32], 15.0), Line { scale: 0.0, min: 0.0 });
        assert_eq!(line(&[-2.0; 32], 15.0).min, 2.0);
        assert_eq!(scale(&[0.0; 16], [-32.0, 31.0], |x| level(x, -32.0, 31.0)), 0.0);
    }
}
