//! One Brownian path for a picture: the noise of a step is what the path gains over it.
//!
//! The same seed gives the same path whatever steps are taken over it, so more steps refine a picture instead of changing it. The
//! values are those of torchsde 0.2.6 `BrownianTree` (tol 1e-6, pool_size 24) as k-diffusion uses it: the path is known at the ends
//! and halved down to the asked time, each half by a bridge whose noise has a seed of its own. The gains are torchsde's to the bit; the
//! root of a step's length, by which they are divided, is rounded correctly here and by MKL there.

use std::collections::BTreeMap;

use super::{Generator, NoiseSource, seed_sequence::generate};

/// A path over an interval of sigma, for as many values as a picture's latent has.
#[derive(Clone, Debug)]
pub struct Brownian {
    source: NoiseSource,
    seed: u64,
    top: Node,
    whole: Vec<f32>,
    /// What the first half of a node gains: for the nodes that the last call asked.
    halves: BTreeMap<(u32, u32), Vec<f32>>,
}

/// A part of the path: an interval and its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    start: f64,
    end: f64,
    depth: u32,
    key: u32,
}

impl Node {
    fn middle(self) -> f64 {
        rounded(0.5 * (self.end + self.start))
    }

    fn halves(self) -> [Self; 2] {
        let (depth, key) = (self.depth + 1, self.key.wrapping_mul(2));
        [
            Self { end: self.middle(), depth, key, ..self },
            Self { start: self.middle(), depth, key: key.wrapping_add(1), ..self },
        ]
    }
}

/// The finest interval (torchsde `BrownianTree`: tol).
fn rounded(t: f64) -> f64 {
    // Decimal rounding of the exact value, halves to even, as Python's `round(t, 6)`.
    format!("{t:.6}").parse().unwrap_or(t)
}

impl Brownian {
    /// The path of a seed over `first` to `last`, for `len` values.
    pub fn new(source: NoiseSource, seed: u64, len: usize, first: f32, last: f32) -> Self {
        let (start, end) = (f64::from(first.min(last)), f64::from(first.max(last)));
        let spread = (end - start).sqrt() as f32;
        let noise = Generator::new(source, first_word(seed, &[])).randn(len);
        Self {
            source,
            seed,
            top: Node { start: rounded(start), end: rounded(end), depth: 0, key: 0 },
            whole: noise.into_iter().map(|x| x * spread).collect(),
            halves: BTreeMap::new(),
        }
    }

    /// Unit noise for the step from `sigma` to `sigma_next`: what the path gains over it, divided by the root of its length.
    /// Zeros for a step of no length; what lies outside the interval does not count.
    pub fn between(&mut self, sigma: f32, sigma_next: f32) -> Vec<f32> {
        let within = |t: f32| rounded(f64::from(t).clamp(self.top.start, self.top.end));
        let (a, b) = (within(sigma.min(sigma_next)), within(sigma.max(sigma_next)));
        let mut gain = vec![0.0; self.whole.len()];
        if a < b {
            let mut asked = BTreeMap::new();
            let mut first = true;
            let whole = std::mem::take(&mut self.whole);
            self.add(self.top, &whole, [a, b], &mut asked, &mut |part| {
                let add = |(sum, x): (&mut f32, &f32)| *sum = if first { *x } else { *sum + *x };
                gain.iter_mut().zip(part).for_each(add);
                first = false;
            });
            self.whole = whole;
            self.halves = asked;
        }
        let sign = if sigma > sigma_next { -1.0 } else { 1.0 };
        let length = (sigma_next - sigma).abs().sqrt();
        gain.into_iter().map(|w| if length > 0.0 { w * sign / length } else { 0.0 }).collect()
    }

    /// Gives `sum` the parts of `node` that make up `[a, b]`, in order.
    fn add(
        &mut self,
        node: Node,
        gain: &[f32],
        [a, b]: [f64; 2],
        asked: &mut BTreeMap<(u32, u32), Vec<f32>>,
        sum: &mut dyn FnMut(&[f32]),
    ) {
        if a == node.start && b == node.end {
            return sum(gain);
        }
        let middle = node.middle();
        if middle <= node.start || middle >= node.end {
            // Too short to be halved, so what is asked of it is nothing.
            return;
        }
        let place = (node.depth, node.key);
        let left = self.halves.remove(&place).unwrap_or_else(|| self.first_half(node, gain));
        let [first, second] = node.halves();
        if a < middle {
            self.add(first, &left, [a, b.min(middle)], asked, sum);
        }
        if b > middle {
            let right: Vec<f32> = gain.iter().zip(&left).map(|(whole, left)| whole - left).collect();
            self.add(second, &right, [a.max(middle), b], asked, sum);
        }
        asked.insert(place, left);
    }

    /// What the path gains over the first half of a node: its share of the whole, and the noise of a bridge.
    fn first_half(&self, node: Node, gain: &[f32]) -> Vec<f32> {
        let (left, right) = (node.middle() - node.start, node.end - node.middle());
        let per_length = 1.0 / (node.end - node.start);
        let spread = (left * right * per_length).sqrt() as f32;
        let seed = first_word(self.seed, &[node.key, node.depth]);
        let noise = Generator::new(self.source, seed).randn(gain.len());
        let half = |(w, x): (&f32, f32)| left as f32 * w * per_length as f32 + spread * x;
        gain.iter().zip(noise).map(half).collect()
    }
}

/// The first seed that torchsde takes of a node: that of its bridge.
fn first_word(seed: u64, place: &[u32]) -> u64 {
    const POOL: usize = 24; // torchsde BrownianTree: pool_size
    generate::<POOL>(seed, place).next().map_or(0, u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_does_not_depend_on_the_steps_over_it() {
        let path = Brownian::new(NoiseSource::Cpu, 3, 16, 0.03, 14.6);
        let gain = |path: &mut Brownian, a: f32, b: f32| -> Vec<f64> {
            path.between(a, b).into_iter().map(|x| f64::from(x) * f64::from((a - b).abs()).sqrt()).collect()
        };
        let whole = gain(&mut path.clone(), 14.6, 0.5);
        let mut parts = path.clone();
        let (first, second) = (gain(&mut parts, 14.6, 2.0), gain(&mut parts, 2.0, 0.5));
        for i in 0..16 {
            assert!((whole[i] - first[i] - second[i]).abs() < 1e-5, "{i}");
        }
        // and asking again, after other steps, gives the same bits
        let mut other = path.clone();
        other.between(7.0, 6.0);
        assert_eq!(parts.between(2.0, 0.5), other.between(2.0, 0.5));
    }

    #[test]
    fn steps_of_no_length_and_beyond_the_ends_are_harmless() {
        let mut path = Brownian::new(NoiseSource::Cpu, 0, 4, 0.03, 14.6);
        assert_eq!(path.between(1.0, 1.0), [0.0; 4]);
        assert_eq!(path.between(20.0, 15.0), [0.0; 4]);
        for (a, b) in [(14.6, 0.0), (100.0, 0.0), (0.5, 0.499_999_9), (0.030_000_1, 0.03)] {
            assert!(path.between(a, b).iter().all(|x| x.is_finite()), "{a} {b}");
        }
    }

    #[test]
    fn the_noise_of_a_step_has_unit_variance() {
        let noise = Brownian::new(NoiseSource::Cpu, 1, 65_536, 0.03, 14.6).between(3.0, 2.9);
        let variance = noise.iter().map(|x| f64::from(x * x)).sum::<f64>() / noise.len() as f64;
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / noise.len() as f64).sqrt(), "{variance}");
    }
}
