//! Inputs that are the same on every machine, and results by a number of threads.

#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::mem::MaybeUninit;

use kernels::Out;
use proptest::prelude::ProptestConfig;

/// As many cases as `PROPTEST_CASES` says, or else so many; fewer where they are interpreted.
pub(crate) fn cases(or_else: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.cases,
        None if cfg!(miri) => 2,
        None => or_else,
    };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

/// Numbers from -1 to 1.
pub(crate) fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// What a kernel writes on a pool of so many threads.
pub(crate) fn on(threads: usize, len: usize, kernel: impl for<'o> Fn(Out<'o>) -> &'o mut [f32] + Sync) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut out = vec![MaybeUninit::new(f32::NAN); len];
    pool.install(|| kernel(&mut out)).to_vec()
}
