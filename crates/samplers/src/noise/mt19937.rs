//! MT19937, the Mersenne Twister: the bits under torch's CPU generator.
//!
//! Reference: Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998, with the seeding
//! of their 2002 revision (`init_genrand`), which torch uses for its 32-bit seeds.

/// A stream of uniform 32-bit words.
#[derive(Clone, Debug)]
pub(super) struct Mt19937 {
    state: [u32; N],
    /// The next word of `state` to hand out; `N` when the block is spent.
    next: usize,
}

impl Mt19937 {
    /// The stream that starts from `seed`.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        let mut previous = seed;
        for (j, word) in (0u32..).zip(&mut state).skip(1) {
            previous = (previous ^ (previous >> 30)).wrapping_mul(SEED_MULTIPLIER).wrapping_add(j);
            *word = previous;
        }
        Self { state, next: N }
    }

    /// The next 32 bits.
    pub(super) fn random(&mut self) -> u32 {
        if self.next == N {
            self.twist();
            self.next = 0;
        }
        let y = self.state[self.next];
        self.next += 1;
        let y = y ^ (y >> 11);
        let y = y ^ ((y << 7) & TEMPERING_B);
        let y = y ^ ((y << 15) & TEMPERING_C);
        y ^ (y >> 18)
    }

    /// The next 64 bits, the earlier word on top as in torch.
    pub(super) fn random64(&mut self) -> u64 {
        let high = self.random();
        let low = self.random();
        u64::from(high) << 32 | u64::from(low)
    }

    fn twist(&mut self) {
        for j in 0..N {
            let y = (self.state[j] & UPPER_MASK) | (self.state[(j + 1) % N] & LOWER_MASK);
            let feedback = if y & 1 == 0 { 0 } else { MATRIX_A };
            self.state[j] = self.state[(j + M) % N] ^ (y >> 1) ^ feedback;
        }
    }
}

// Matsumoto and Nishimura (1998), table II.
const N: usize = 624;
const M: usize = 397;
const MATRIX_A: u32 = 0x9908_b0df;
const UPPER_MASK: u32 = 0x8000_0000;
const LOWER_MASK: u32 = 0x7fff_ffff;
const TEMPERING_B: u32 = 0x9d2c_5680;
const TEMPERING_C: u32 = 0xefc6_0000;
/// Knuth, TAOCP volume 2, 3rd edition, page 106, through `init_genrand` of 2002.
const SEED_MULTIPLIER: u32 = 1_812_433_253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_thousandth_word_of_seed_5489_is_the_one_the_cpp_standard_names() {
        // given the default seed of std::mt19937
        let mut engine = Mt19937::new(5489);
        // when 10 000 words are drawn
        let last = (0..10_000).map(|_| engine.random()).last();
        // then the last is the value of C++11 [rand.predef]
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn a_64_bit_word_is_two_words_the_earlier_on_top() {
        let mut words = Mt19937::new(1);
        let mut wide = words.clone();
        let (high, low) = (words.random(), words.random());
        assert_eq!(wide.random64(), u64::from(high) << 32 | u64::from(low));
    }
}
