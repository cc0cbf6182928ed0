//! What this machine can do at most, measured: the numbers that a kernel's speed is a share of.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::{
    aligned::Aligned,
    amx::{Offsets, SIDE, STEP_BYTES, Sums, Tiles},
};
use crate::{
    isa::{Isa, Level},
    packed::Compute,
    simd::{Body, Simd, vectorize},
};

/// Floating-point operations a second, of all threads of the current pool together, when nothing but multiplying and adding is done
/// and everything is in registers or the first cache. The factors are not constants, as some CPUs slow down for others.
pub fn arithmetic(isa: Isa, compute: Compute) -> f64 {
    let once = || -> f64 {
        match (compute.is_in_pairs(isa), isa.level()) {
            #[cfg(target_arch = "x86_64")]
            (true, Level::Amx) => tiles(isa),
            (pairs, _) => vectorize(isa, Multiply { pairs }),
        }
    };
    best(|| {
        let start = Instant::now();
        let done: f64 = (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).map(|_| once()).sum();
        done / start.elapsed().as_secs_f64()
    })
}

/// The same for sums of four products of 8-bit whole numbers, where the CPU has an instruction for them.
pub fn int8(isa: Isa) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa.level() >= Level::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni") {
        return Some(best(|| {
            let start = Instant::now();
            // SAFETY: the CPU has been asked.
            let done: f64 =
                (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).map(|_| unsafe { bytes() }).sum();
            done / start.elapsed().as_secs_f64()
        }));
    }
    let _ = isa;
    None
}

/// Products of bytes in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn bytes() -> f64 {
    use std::arch::x86_64::{_mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8};
    let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
    let mut sums = [b; SUMS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    let mut total = sums[0];
    for sum in &sums[1..] {
        total = _mm512_add_epi32(total, *sum);
    }
    black_box(_mm512_reduce_add_epi32(total));
    (STEPS * SUMS * 64 * 2) as f64
}

/// Bytes read and written a second, of all threads together, when as many values as an inner layer of Flux has (48 MB) are
/// copied, with ordinary stores or past the caches, whichever is faster. The median, as other programs of the machine take their part
/// of this at any time.
pub fn bandwidth(isa: Isa) -> f64 {
    let from = vec![0.5f32; 12 << 20];
    let mut to = from.clone();
    let mut copy = |is_streamed| {
        median(|| {
            let start = Instant::now();
            (to.par_chunks_mut(1 << 14).zip(from.par_chunks(1 << 14)))
                .for_each(|(to, from)| vectorize(isa, Copied { from, to, is_streamed }));
            2.0 * size_of_val(from.as_slice()) as f64 / start.elapsed().as_secs_f64()
        })
    };
    copy(false).max(copy(true))
}

/// The greatest of what is measured again and again.
fn best(measure: impl FnMut() -> f64) -> f64 {
    measured(measure).into_iter().fold(0.0, f64::max)
}

/// The middle one.
fn median(measure: impl FnMut() -> f64) -> f64 {
    let mut all = measured(measure);
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What is measured again and again for a third of a second; once at least.
fn measured(mut measure: impl FnMut() -> f64) -> Vec<f64> {
    let start = Instant::now();
    let mut all = vec![measure()];
    while start.elapsed() < Duration::from_millis(300) {
        all.push(measure());
    }
    all
}

/// Steps of one measurement.
const STEPS: usize = 1 << 20;

/// Enough sums that none waits for the one before: four cycles on each of two units, with room.
const SUMS: usize = 12;

struct Multiply {
    pairs: bool,
}

impl Body for Multiply {
    /// Operations done.
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut sums = [s.splat(0.0); SUMS];
        let (a, b) = (s.splat(black_box(1.000_1)), s.splat(black_box(0.999_9)));
        for _ in 0..STEPS {
            for i in 0..SUMS {
                sums[i] = if self.pairs { s.dot_pairs(a, b, sums[i]) } else { s.fma(a, b, sums[i]) };
            }
        }
        let mut total = sums[0];
        for i in 1..SUMS {
            total = s.add(total, sums[i]);
        }
        black_box(s.sum(total));
        (STEPS * SUMS * S::LANES * if self.pairs { 4 } else { 2 }) as f64
    }
}

struct Copied<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    is_streamed: bool,
}

impl Body for Copied<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, is_streamed } = self;
        let aligned = to.as_ptr().addr().is_multiple_of(size_of::<f32>() * S::LANES);
        for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
            let v = s.load(from);
            if is_streamed && aligned {
                // SAFETY: a vector's worth of places, which starts at a multiple of its size.
                unsafe { s.stream_ptr(to.as_mut_ptr(), v) }
            } else {
                s.store(to, v);
            }
        }
        s.fence();
    }
}

/// Products of tiles that stay in the first cache, in steps as long as a linear layer's.
#[cfg(target_arch = "x86_64")]
fn tiles(isa: Isa) -> f64 {
    const IN_CACHE: usize = 8;
    let tiles = Tiles::configure(isa);
    let offsets = [0; 64];
    let mut sums = Sums([0.0; SIDE * SIDE]);
    let mut factors = Aligned::<u32>::zeros(STEP_BYTES / 4 * IN_CACHE);
    factors.fill(0.999f32.to_bits());
    let calls = 1 << 10;
    for _ in 0..calls {
        for part in offsets.chunks(IN_CACHE) {
            tiles.multiply(&factors, Offsets::of(part), &factors, &mut sums, true, true, factors.as_ptr());
        }
    }
    black_box(&sums);
    (calls * offsets.len() * 4 * 16 * 16 * 32 * 2) as f64
}
