//! Random numbers, fast.

/// How many normal numbers are drawn from: enough for 16 bits to choose one.
pub(super) const NORMALS: usize = 1 << 16;

/// A stream of random numbers, the same for a seed.
pub(super) struct Numbers {
    state: u64,
    /// Of a standard normal distribution.
    normals: Vec<f32>,
}

impl Numbers {
    pub(super) fn of(seed: u64) -> Self {
        let mut numbers = Self { state: seed, normals: Vec::with_capacity(NORMALS) };
        while numbers.normals.len() < NORMALS {
            // Box and Muller 1958.
            let [radius, angle] = [numbers.uniform(), numbers.uniform()];
            let radius = (-2.0 * radius.ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * angle).sin_cos();
            numbers.normals.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        numbers
    }

    pub(super) fn normals(&self) -> &[f32] {
        &self.normals
    }

    /// Four places of [`Numbers::normals`].
    #[inline]
    pub(super) fn places(&mut self) -> [usize; 4] {
        let bits = self.next();
        [bits, bits >> 16, bits >> 32, bits >> 48].map(|bits| bits as usize % NORMALS)
    }

    /// Any bits.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for bytes in bytes.chunks_mut(8) {
            bytes.copy_from_slice(&self.next().to_le_bytes()[..bytes.len()]);
        }
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// SplitMix64, Steele, Lea and Flood 2014.
    #[inline]
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_normal_and_the_next_place_is_any() {
        let mut numbers = Numbers::of(3);
        let moment = |power: i32| {
            numbers.normals.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / numbers.normals.len() as f64
        };
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.1);
        assert!(numbers.normals.iter().all(|v| v.is_finite()));
        let mean = (0..10_000).flat_map(|_| numbers.places()).sum::<usize>() as f64 / 40_000.0;
        assert!((mean / NORMALS as f64 - 0.5).abs() < 0.01);
    }
}
