//! numpy's `SeedSequence`: many independent seeds from one number and a place in a tree.
//!
//! The hash and its constants are those of numpy/random/bit_generator.pyx (numpy 2), after O'Neill's `seed_seq_fe`.

/// The words that `SeedSequence(entropy, spawn_key=spawn_key, pool_size=POOL)` generates, from the first.
pub(super) fn generate<const POOL: usize>(entropy: u64, spawn_key: &[u32]) -> impl Iterator<Item = u32> {
    let pool = pool::<POOL>(entropy, spawn_key);
    let mut hash: u32 = 0x8b51_f9dd;
    pool.into_iter().cycle().map(move |word| {
        let word = word ^ hash;
        hash = hash.wrapping_mul(0x58f3_8ded);
        let word = word.wrapping_mul(hash);
        word ^ (word >> 16)
    })
}

fn pool<const POOL: usize>(entropy: u64, spawn_key: &[u32]) -> [u32; POOL] {
    let mut words = vec![entropy as u32];
    if entropy > u64::from(u32::MAX) {
        words.push((entropy >> 32) as u32);
    }
    // The key of a child comes after the whole pool, so that it can't be mistaken for entropy.
    if !spawn_key.is_empty() {
        words.resize(POOL.max(words.len()), 0);
        words.extend(spawn_key);
    }

    let mut hash: u32 = 0x43b0_d7e5;
    let mut hashed = |word: u32| {
        let word = word ^ hash;
        hash = hash.wrapping_mul(0x931e_8875);
        let word = word.wrapping_mul(hash);
        word ^ (word >> 16)
    };
    let mixed = |x: u32, y: u32| {
        let word = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        word ^ (word >> 16)
    };
    let mut pool = [0; POOL];
    for (i, word) in pool.iter_mut().enumerate() {
        *word = hashed(words.get(i).copied().unwrap_or(0));
    }
    for source in 0..POOL {
        for target in (0..POOL).filter(|&target| target != source) {
            pool[target] = mixed(pool[target], hashed(pool[source]));
        }
    }
    for &word in words.iter().skip(POOL) {
        for target in &mut pool {
            *target = mixed(*target, hashed(word));
        }
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.SeedSequence(entropy, spawn_key=key, pool_size=24).generate_state(4)`, numpy 2.4.6.
    #[test]
    fn the_words_are_numpys() {
        let words = |entropy, key: &[u32]| generate::<24>(entropy, key).take(4).collect::<Vec<_>>();
        assert_eq!(words(0, &[]), NUMPY[0]);
        assert_eq!(words(42, &[0, 0]), NUMPY[1]);
        assert_eq!(words((1 << 33) + 5, &[5, 3]), NUMPY[2]);
    }

    const NUMPY: [[u32; 4]; 3] = [
        [4_025_752_534, 2_687_548_107, 2_326_983_537, 1_576_567_101],
        [2_102_017_995, 2_891_809_698, 2_144_110_403, 379_559_146],
        [3_050_412_274, 4_008_431_636, 2_593_217_570, 2_551_962_883],
    ];
}
