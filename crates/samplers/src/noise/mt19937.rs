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
        let mut word = 0;
        self.each(&mut [()], |(), next| word = next);
        word
    }

    /// Gives each of `values` the next 32 bits.
    pub(super) fn each<T>(&mut self, mut values: &mut [T], mut take: impl FnMut(&mut T, u32)) {
        while !values.is_empty() {
            if self.next == N {
                self.twist();
                self.next = 0;
            }
            let words = &self.state[self.next..];
            let (now, later) = values.split_at_mut(words.len().min(values.len()));
            self.next += now.len();
            now.iter_mut().zip(words).for_each(|(value, &word)| take(value, tempered(word)));
            values = later;
        }
    }

    /// The next 64 bits, the earlier word on top as in torch.
    pub(super) fn random64(&mut self) -> u64 {
        let high = self.random();
        let low = self.random();
        u64::from(high) << 32 | u64::from(low)
    }

    /// The next words, in three runs without an index that goes round, so that each is computed many words at once.
    fn twist(&mut self) {
        let state = &mut self.state;
        for j in 0..N - M {
            state[j] = state[j + M] ^ fed_back(state[j], state[j + 1]);
        }
        for j in N - M..N - 1 {
            state[j] = state[j + M - N] ^ fed_back(state[j], state[j + 1]);
        }
        state[N - 1] = state[M - 1] ^ fed_back(state[N - 1], state[0]);
    }
}

fn fed_back(upper: u32, lower: u32) -> u32 {
    let y = (upper & UPPER_MASK) | (lower & LOWER_MASK);
    (y >> 1) ^ ((y & 1).wrapping_neg() & MATRIX_A)
}

fn tempered(y: u32) -> u32 {
    let y = y ^ (y >> 11);
    let y = y ^ ((y << 7) & TEMPERING_B);
    let y = y ^ ((y << 15) & TEMPERING_C);
    y ^ (y >> 18)
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
