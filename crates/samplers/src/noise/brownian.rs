//! One Brownian path for a picture: the noise of a step is what the path gains over it.
//!
//! The same seed gives the same path whatever steps are taken over it, so more steps refine a picture instead of changing it. The
//! values are those of torchsde 0.2.6 `BrownianTree` (tol 1e-6, pool_size 24) as k-diffusion uses it: the path is known at the ends
//! and halved down to the asked time, each half by a bridge whose noise has a seed of its own. The gains are torchsde's to the bit; the
//! root of a step's length, by which they are divided, is rounded correctly here and by MKL there.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Generator, NoiseSource, seed_sequence::generate};

/// A path over an interval of sigma, for as many values as a picture's latent has.
#[derive(Clone, Debug)]
pub struct Brownian {
    source: NoiseSource,
    seed: u64,
    top: Node,
    whole: Vec<f32>,
    /// The first halves of the nodes that the last call asked, by the nodes' places.
    halves: Halves,
}

/// A node's depth and key.
type Place = (u32, u32);
type Halves = BTreeMap<Place, Half>;

/// The first half of a node.
#[derive(Clone, Debug)]
enum Half {
    /// Unit noise of its bridge.
    Drawn(Vec<f32>),
    /// What the path gains over it.
    Gain(Vec<f32>),
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

    fn place(self) -> Place {
        (self.depth, self.key)
    }

    /// Finds out which nodes are to be halved for `[a, b]`. Those that are too short for it are not: what is asked of them is nothing.
    fn asked(self, [a, b]: [f64; 2], places: &mut Vec<Place>) {
        let middle = self.middle();
        if (a == self.start && b == self.end) || middle <= self.start || middle >= self.end {
            return;
        }
        places.push(self.place());
        let [first, second] = self.halves();
        if a < middle {
            first.asked([a, b.min(middle)], places);
        }
        if b > middle {
            second.asked([a.max(middle), b], places);
        }
    }

    /// Gives `sum` the parts that make up `[a, b]`, in order, and keeps the halves that it goes through.
    fn add(self, gain: &[f32], [a, b]: [f64; 2], asked: &mut Halves, kept: &mut Halves, sum: &mut dyn FnMut(&[f32])) {
        if a == self.start && b == self.end {
            return sum(gain);
        }
        let left = match asked.remove(&self.place()) {
            Some(Half::Drawn(noise)) => self.bridged(gain, noise),
            Some(Half::Gain(left)) => left,
            // Too short to be halved.
            None => return,
        };
        let (middle, [first, second]) = (self.middle(), self.halves());
        if a < middle {
            first.add(&left, [a, b.min(middle)], asked, kept, sum);
        }
        if b > middle {
            let right: Vec<f32> = gain.iter().zip(&left).map(|(whole, left)| whole - left).collect();
            second.add(&right, [a.max(middle), b], asked, kept, sum);
        }
        kept.insert(self.place(), Half::Gain(left));
    }

    /// What the path gains over the first half: its share of the whole, and the noise of a bridge.
    fn bridged(self, gain: &[f32], mut noise: Vec<f32>) -> Vec<f32> {
        let (left, right) = (self.middle() - self.start, self.end - self.middle());
        let per_length = 1.0 / (self.end - self.start);
        let spread = (left * right * per_length).sqrt() as f32;
        let (left, per_length) = (left as f32, per_length as f32);
        noise.iter_mut().zip(gain).for_each(|(x, w)| *x = left * w * per_length + spread * *x);
        noise
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
            let (mut asked, mut first) = (self.drawn([a, b]), true);
            self.top.add(&self.whole, [a, b], &mut asked, &mut self.halves, &mut |part| {
                let add = |(sum, x): (&mut f32, &f32)| *sum = if first { *x } else { *sum + *x };
                gain.iter_mut().zip(part).for_each(add);
                first = false;
            });
        }
        let sign = if sigma > sigma_next { -1.0 } else { 1.0 };
        let length = (sigma_next - sigma).abs().sqrt();
        if length > 0.0 {
            gain.iter_mut().for_each(|w| *w = *w * sign / length);
        } else {
            gain.fill(0.0);
        }
        gain
    }

    /// The halves that `[a, b]` asks, as far as they are known. Each has a seed of its own, so that the threads of a pool draw those which are
    /// not. Whoever is in no pool draws alone: Rayon would start one of all cores for it.
    fn drawn(&mut self, [a, b]: [f64; 2]) -> Halves {
        let mut asked = Vec::new();
        self.top.asked([a, b], &mut asked);
        let (known, fresh): (Vec<_>, Vec<_>) = asked.into_iter().partition(|place| self.halves.contains_key(place));
        let mut halves: Halves = known.into_iter().filter_map(|place| self.halves.remove_entry(&place)).collect();
        // The others go before there are new ones.
        self.halves.clear();
        let draw = |place| (place, Half::Drawn(self.noise(place)));
        let fresh: Vec<_> = match rayon::current_thread_index() {
            Some(_) => fresh.into_par_iter().map(draw).collect(),
            None => fresh.into_iter().map(draw).collect(),
        };
        halves.extend(fresh);
        halves
    }

    /// Unit noise of a node's bridge.
    fn noise(&self, (depth, key): Place) -> Vec<f32> {
        Generator::new(self.source, first_word(self.seed, &[key, depth])).randn(self.whole.len())
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
    fn no_more_is_kept_than_the_halves_on_both_ways_down() {
        // given the widest range of levels, halved 34 times down to a millionth
        let mut path = Brownian::new(NoiseSource::Cpu, 3, 2, 0.0, 1e4);
        for (a, b) in [(9_999.3, 4_517.1), (4_517.1, 77.7), (77.7, 0.3), (0.3, 0.1), (9_000.1, 0.1)] {
            path.between(a, b);
            assert!((1..=68).contains(&path.halves.len()), "{a} {b}: {}", path.halves.len());
        }
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
