//! Operations on maps that lie pixel by pixel, against plain arithmetic in f64 and against those on planes.

use std::mem::MaybeUninit;

use kernels::{Activation, Affines, Compute, ConvEpilogue, Isa, MapOrder, Out, PackedConv, Prologue, Values};
use proptest::prelude::*;

/// Numbers between -1 and 1.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let next = |state: &u64| Some(state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    let states = std::iter::successors(Some(seed.wrapping_mul(2) + 1), next).skip(1);
    states.take(n).map(|state| (state >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// What a kernel writes, on pools of one and three threads: the same bits.
fn written(len: usize, kernel: impl for<'o> Fn(Out<'o>) -> &'o mut [f32] + Sync) -> Vec<f32> {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| kernel(&mut vec![MaybeUninit::uninit(); len]).to_vec())
    };
    let (one, three) = (on(1), on(if cfg!(miri) { 1 } else { 3 }));
    assert!(one.iter().zip(&three).all(|(a, b)| a.to_bits() == b.to_bits()));
    one
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 2 } else { 32 }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_group_is_brought_to_mean_zero_and_variance_one(
        b in 0usize..3, pixels in 0usize..90, groups in 1usize..5, per_group in 1usize..20, mean in -30f32..30.0, seed: u64,
    ) {
        let channels = groups * per_group;
        let x: Vec<f32> = numbers(b * pixels * channels, seed).iter().map(|v| v + mean).collect();
        let (weight, bias) = (numbers(channels, seed ^ 1), numbers(channels, seed ^ 2));
        let eps = 1e-5f32;
        let of_group = |entry: usize, group: usize| {
            let all = (0..pixels).flat_map(move |p| (0..per_group).map(move |c| (entry * pixels + p) * channels + group * per_group + c));
            let n = (pixels * per_group) as f64;
            let mean = all.clone().map(|i| f64::from(x[i])).sum::<f64>() / n;
            (mean, (all.map(|i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / n + f64::from(eps)).sqrt())
        };
        let moments: Vec<(f64, f64)> = (0..b * groups).map(|i| of_group(i / groups, i % groups)).collect();
        for isa in Isa::available() {
            let shape = [b, pixels, channels];
            let affines = Affines::of_groups(isa, &x, shape, groups, &weight, &bias, eps);
            let y = written(x.len(), |out| affines.apply(isa, &x, shape, None, out));
            let silu = written(x.len(), |out| affines.apply(isa, &x, shape, Some(Activation::Silu), out));
            for (i, (&y, &silu)) in y.iter().zip(&silu).enumerate() {
                let (entry, channel) = (i / channels / pixels, i % channels);
                let (mean, deviation) = moments[entry * groups + channel / per_group];
                // A difference of a few numbers may vanish: what is left of a mean of 30 in f32 is then no longer small.
                let allowed = 1e-5 + 1e-5 / deviation;
                let expected = (f64::from(x[i]) - mean) / deviation * f64::from(weight[channel]) + f64::from(bias[channel]);
                prop_assert!((f64::from(y) - expected).abs() < allowed, "{isa:?} {y} {expected}");
                let expected = expected / (1.0 + (-expected).exp());
                prop_assert!((f64::from(silu) - expected).abs() < 2.0 * allowed, "{isa:?} {silu} {expected}");
            }
        }
    }

    #[test]
    fn a_convolution_reads_what_its_prologue_makes_of_the_pixels_and_a_border_of_zeros(
        batch in 0usize..3, c_in in 1usize..70, c_out in 1usize..40, h in 1usize..8, w in 1usize..20, stride in 1usize..3, seed: u64,
    ) {
        for isa in Isa::available() {
            let weights = numbers(c_out * c_in * 9, seed);
            let conv = PackedConv::pack(isa, Compute::Bf16, [c_out, c_in, 3], Values::F32(&weights));
            if conv.order() == MapOrder::Planes {
                continue;
            }
            let x = numbers(batch * h * w * c_in, seed ^ 1);
            let (scale, shift) = (numbers(batch * c_in, seed ^ 2), numbers(batch * c_in, seed ^ 3));
            let affines = Affines { scale: scale.clone(), shift: shift.clone() };
            let activation = (seed % 2 == 0).then_some(Activation::Silu);
            let [oh, ow] = conv.size([h, w], stride);
            let before = written(x.len(), |out| affines.apply(isa, &x, [batch, h * w, c_in], activation, out));
            let (len, epilogue) = (batch * c_out * oh * ow, ConvEpilogue::default());
            let expected = written(len, |out| kernels::conv2d(&conv, &before, batch, [h, w], stride, epilogue, out));
            let prologue = Prologue { scale: &scale, shift: &shift, activation };
            let found = written(len, |out| {
                kernels::conv2d_after(&conv, prologue, &x, batch, [h, w], stride, epilogue, out)
            });
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn pixels_are_repeated_and_joined_with_all_of_their_channels(
        rows in 0usize..5, w in 1usize..9, first in 1usize..20, second in 1usize..20, seed: u64,
    ) {
        let x = numbers(rows * w * first, seed);
        let y = written(4 * x.len(), |out| kernels::upsample_pixels_2x(&x, [w, first], out));
        for (i, &v) in y.iter().enumerate() {
            let (row, column, channel) = (i / first / (2 * w), i / first % (2 * w), i % first);
            prop_assert_eq!(v, x[(row / 2 * w + column / 2) * first + channel]);
        }
        let other = numbers(rows * w * second, seed ^ 1);
        let y = written(x.len() + other.len(), |out| kernels::join_channels(&x, &other, [first, second], out));
        for (i, &v) in y.iter().enumerate() {
            let (pixel, channel) = (i / (first + second), i % (first + second));
            let expected = if channel < first { x[pixel * first + channel] } else { other[pixel * second + channel - first] };
            prop_assert_eq!(v, expected);
        }
    }
}
