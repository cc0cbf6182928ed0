//! Every kernel, at every level that this machine has, against its plain twin in f64.

use std::mem::MaybeUninit;

use half::{bf16, f16};
use kernels::{
    Activation, Affine, Bias, Compute, ConvEpilogue, Epilogue, Heads, Isa, MapOrder, Mask, Out, PackedConv,
    PackedMatrix, Scores, Values,
};
use proptest::prelude::*;

/// Relative error, of norms, that sums of f32 may have.
const F32: f64 = 2e-6;

/// The same where factors are rounded to bf16.
const BF16: f64 = 4e-3;

/// As many cases as `PROPTEST_CASES` says, where it says so.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.cases,
        None if cfg!(miri) => 2,
        None => 48,
    };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

/// Numbers between -1 and 1.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// What a kernel writes, on pools of one, two and three threads: the same bits, and all of the memory that it was given.
fn written(len: usize, kernel: impl for<'o> Fn(Out<'o>) -> &'o mut [f32] + Sync) -> Vec<f32> {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let mut out = Vec::<f32>::with_capacity(len);
        let out: &mut [MaybeUninit<f32>] = &mut out.spare_capacity_mut()[..len];
        let start = out.as_ptr().cast();
        let filled = pool.install(|| kernel(out));
        assert!(
            filled.len() == len && (len == 0 || filled.as_ptr() == start),
            "not the memory that the kernel was given"
        );
        filled.to_vec()
    };
    let one = on(1);
    for threads in if cfg!(miri) { vec![] } else { vec![2, 3] } {
        let several = on(threads);
        assert!(one.iter().zip(&several).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
    }
    one
}

fn error(found: &[f32], expected: &[f64]) -> f64 {
    error_of_sums(found, expected, expected)
}

/// The error where every result is a sum: its norm is measured by the `terms`, one root of summed squares for each result,
/// as a few sums that happen to cancel have no digits to measure by.
fn error_of_sums(found: &[f32], expected: &[f64], terms: &[f64]) -> f64 {
    assert_eq!((found.len(), terms.len()), (expected.len(), expected.len()));
    let norm: f64 = expected.iter().zip(terms).map(|(e, t)| (e * e).max(t * t)).sum();
    let error: f64 = found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).powi(2)).sum();
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

/// A factor as a kernel of this kind sees it: products of bf16 are exact in f32, so that nothing but the rounding of the factors
/// sets the two kinds apart.
fn factor(isa: Isa, compute: Compute, v: f32) -> f64 {
    if compute == Compute::Bf16 && isa.has_bf16() { bf16::from_f32(v).to_f64() } else { v.into() }
}

fn computes() -> Vec<(Isa, Compute, f64)> {
    let all = Isa::available().into_iter();
    all.flat_map(|isa| [(isa, Compute::F32, F32), (isa, Compute::Bf16, if isa.has_bf16() { BF16 } else { F32 })])
        .collect()
}

fn plain(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
    }
}

/// `2/√π · e^(-x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!`, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / (2 * n + 1) as f64;
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
fn swapped(x: &[f32], [batch, rows, columns]: [usize; 3]) -> Vec<f32> {
    let place = |i: usize| (i / (rows * columns), i % (rows * columns) / rows, i % rows);
    (0..batch * rows * columns).map(place).map(|(b, c, r)| x[(b * rows + r) * columns + c]).collect()
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::GeluTanh, Activation::GeluErf, Activation::QuickGelu, Activation::Silu];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_linear_layer_is_a_product_and_its_epilogue(
        rows in 0usize..70, d_in in 0usize..90, d_out in 1usize..80, gap in 0usize..40, batch in 1usize..3, parts in 0u8..16,
        seed: u64,
    ) {
        let rows = rows * batch;
        let stride = d_in + gap;
        let x = numbers((rows * stride).max(1), seed);
        let w = numbers(d_out * d_in, seed ^ 1);
        let (bias, gate) = (numbers(d_out, seed ^ 2), numbers(batch * d_out, seed ^ 3));
        let residual = numbers(rows * d_out, seed ^ 4);
        let has = |bit: u8| parts >> bit & 1 == 1;
        let epilogue = Epilogue {
            bias: has(0).then_some(&bias[..]),
            activation: has(1).then_some(Activation::GeluTanh),
            gate: has(2).then_some(&gate[..]),
            residual: has(3).then_some(&residual[..]),
        };
        let half: Vec<f16> = w.iter().map(|&v| f16::from_f32(v)).collect();
        let brain: Vec<bf16> = w.iter().map(|&v| bf16::from_f32(v)).collect();
        for (values, is) in [
            (Values::F32(&w), w.clone()),
            (Values::F16(&half), half.iter().map(|v| v.to_f32()).collect()),
            (Values::Bf16(&brain), brain.iter().map(|v| v.to_f32()).collect()),
        ] {
            for (isa, compute, _) in computes() {
                let (mut expected, mut terms) = (Vec::new(), Vec::new());
                for r in 0..rows { for o in 0..d_out {
                    let factor = |v| factor(isa, compute, v);
                    let products = (0..d_in).map(|i| factor(x[r * stride + i]) * factor(is[o * d_in + i]));
                    let bias = if has(0) { f64::from(bias[o]) } else { 0.0 };
                    let gate = if has(2) { f64::from(gate[r / (rows / batch) * d_out + o]) } else { 1.0 };
                    let sum = products.clone().sum::<f64>() + bias;
                    terms.push(products.map(|p| p * p).sum::<f64>().sqrt() * gate);
                    let y = if has(1) { plain(Activation::GeluTanh, sum) } else { sum } * gate;
                    expected.push(y + if has(3) { f64::from(residual[r * d_out + o]) } else { 0.0 });
                } }
                let packed = PackedMatrix::pack(isa, compute, d_out, d_in, values);
                let y = written(rows * d_out, |out| kernels::linear(&packed, &x, rows, stride, epilogue, out));
                let error = error_of_sums(&y, &expected, &terms);
                prop_assert!(error <= F32, "{isa:?} {compute:?}: {error}");
                if compute == Compute::F32 {
                    prop_assert_eq!(packed.unpack(), is.clone());
                }
            }
        }
    }

    #[test]
    fn attention_is_a_mean_of_values_weighted_by_a_softmax(
        b in 1usize..3, heads in 1usize..4, n in 0usize..40, m in 1usize..70, d in 1usize..70, mask in 0u8..3,
        biased: bool, seed: u64,
    ) {
        let causal = mask == 1;
        let n = if causal { n.min(m) } else { n };
        // Some keys are hidden, but not all.
        let seen: Vec<bool> = numbers(b * m, seed ^ 4).iter().enumerate().map(|(i, v)| *v < 0.3 || i % m == m / 2).collect();
        // Laid out as [b, tokens, heads, d], as a linear layer leaves them.
        let (q, k, v) = (numbers(b * n * heads * d, seed), numbers(b * m * heads * d, seed ^ 1), numbers(b * m * heads * d, seed ^ 2));
        let bias = numbers(heads * n * m, seed ^ 3);
        let scale = 1.0 / (d as f32).sqrt();
        let view = |x, tokens: usize| Heads::new(x, [b, heads, tokens, d], [tokens * heads * d, d, heads * d]).expect("in bounds");
        let at = |x: &[f32], tokens: usize, i: [usize; 4]| f64::from(x[((i[0] * tokens + i[2]) * heads + i[1]) * d + i[3]]);
        let (mut expected, mut terms) = (Vec::new(), Vec::new());
        for batch in 0..b { for token in 0..n { for head in 0..heads {
            let score = |j: usize| {
                let dot: f64 = (0..d).map(|c| at(&q, n, [batch, head, token, c]) * at(&k, m, [batch, head, j, c])).sum();
                dot * f64::from(scale) + if biased { f64::from(bias[(head * n + token) * m + j]) } else { 0.0 }
            };
            let weight = |j: usize| if mask == 2 && !seen[batch * m + j] { 0.0 } else { score(j).exp() };
            let weights: Vec<f64> = (0..if causal { token + 1 } else { m }).map(weight).collect();
            let total: f64 = weights.iter().sum();
            let part = |j: usize, c| weights[j] * at(&v, m, [batch, head, j, c]) / total;
            expected.extend((0..d).map(|c| (0..weights.len()).map(|j| part(j, c)).sum::<f64>()));
            // An error of the scores is one of every weight, and the weights' errors may agree.
            terms.extend((0..d).map(|c| (0..weights.len()).map(|j| part(j, c).abs()).sum::<f64>()));
        } } }
        for (isa, compute, most) in computes() {
            let mask = [Mask::None, Mask::Causal, Mask::Keys(&seen)][usize::from(mask)];
            let scores = Scores { scale, bias: biased.then_some(Bias::Full(&bias)), mask };
            let y = written(expected.len(), |out| kernels::attention(isa, compute, view(&q, n), view(&k, m), view(&v, m), scores, out));
            let error = error_of_sums(&y, &expected, &terms);
            // Queries, keys, weights and values are rounded: each adds its part.
            prop_assert!(error <= 2.0 * most, "{isa:?} {compute:?}: {error}");
        }
    }

    #[test]
    fn biases_by_distance_are_bit_for_bit_those_of_every_pair(
        b in 1usize..3, heads in 1usize..4, n in 0usize..70, m in 1usize..70, d in 1usize..40, causal: bool, seed: u64,
    ) {
        let n = if causal { n.min(m) } else { n };
        let tokens = [numbers(b * heads * n * d, seed), numbers(b * heads * m * d, seed ^ 1), numbers(b * heads * m * d, seed ^ 2)];
        let view = |i: usize, n| Heads::new(&tokens[i], [b, heads, n, d], [heads * n * d, n * d, d]).expect("in bounds");
        let distances = n + m - 1;
        let table: Vec<f32> = numbers(heads * distances, seed ^ 3).iter().map(|v| 9.0 * v).collect();
        let pairs = (0..heads).flat_map(|h| (0..n).flat_map(move |q| (0..m).map(move |k| h * distances + k + n - 1 - q)));
        let all: Vec<f32> = pairs.map(|i| table[i]).collect();
        for (isa, compute, _) in computes() {
            let y = |bias| written(b * n * heads * d, |out| {
                let scores = Scores { scale: 0.3, bias: Some(bias), mask: if causal { Mask::Causal } else { Mask::None } };
                kernels::attention(isa, compute, view(0, n), view(1, m), view(2, m), scores, out)
            });
            let (full, relative) = (y(Bias::Full(&all)), y(Bias::Relative(&table)));
            prop_assert!(full.iter().zip(&relative).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} {compute:?}");
        }
    }

    #[test]
    fn a_convolution_is_a_sum_over_patches(
        batch in 0usize..3, c_in in 0usize..70, c_out in 0usize..40, h in 0usize..12, w in 0usize..36, kernel in 1usize..6,
        stride in 1usize..8, seed: u64,
    ) {
        let half = kernel / 2;
        let x = numbers(batch * c_in * h * w, seed);
        let weights = numbers(c_out * c_in * kernel * kernel, seed ^ 1);
        let bias = numbers(if seed % 2 == 0 { c_out } else { batch * c_out }, seed ^ 2);
        for (isa, compute, _) in computes() {
            let conv = PackedConv::pack(isa, compute, [c_out, c_in, kernel], Values::F32(&weights));
            let [oh, ow] = conv.size([h, w], stride);
            let residual = numbers(batch * c_out * oh * ow, seed ^ 3);
            let slopes = numbers(c_out, seed ^ 4);
            let slopes = (seed % 3 == 0).then_some(&*slopes);
            let (expected, terms): (Vec<f64>, Vec<f64>) = (0..residual.len()).map(|i| {
                let (b, o, y, column) = (i / ow / oh / c_out, i / ow / oh % c_out, i / ow % oh, i % ow);
                let bias = bias[if bias.len() == c_out { o } else { b * c_out + o }];
                let (mut sum, mut squares) = (f64::from(bias) + f64::from(residual[i]), 0.0);
                for c in 0..c_in { for ky in 0..kernel { for kx in 0..kernel {
                    let (y, column) = ((y * stride + ky).wrapping_sub(half), (column * stride + kx).wrapping_sub(half));
                    if y < h && column < w {
                        let weight = weights[((o * c_in + c) * kernel + ky) * kernel + kx];
                        let value = x[((b * c_in + c) * h + y) * w + column];
                        let product = factor(isa, compute, value) * factor(isa, compute, weight);
                        sum += product;
                        squares += product * product;
                    }
                } } }
                let slope = slopes.filter(|_| sum < 0.0).map_or(1.0, |slopes| f64::from(slopes[o]));
                (slope * sum, squares.sqrt())
            }).unzip();
            let ordered = |map: &[f32], channels, pixels| match conv.order() {
                MapOrder::Planes => map.to_vec(),
                MapOrder::Pixels => swapped(map, [batch, channels, pixels]),
            };
            let (x, residual) = (ordered(&x, c_in, h * w), ordered(&residual, c_out, oh * ow));
            let epilogue = ConvEpilogue { bias: Some(&bias), activation: None, residual: Some(&residual), slopes };
            let y = written(expected.len(), |out| kernels::conv2d(&conv, &x, batch, [h, w], stride, epilogue, out));
            let y = if conv.order() == MapOrder::Planes { y } else { swapped(&y, [batch, oh * ow, c_out]) };
            let error = error_of_sums(&y, &expected, &terms);
            prop_assert!(error <= F32, "{isa:?} {compute:?}: {error}");
        }
    }

    #[test]
    fn activations_and_sums_of_any_length(n in 0usize..200, scale in 0.1f32..30.0, seed: u64) {
        // Far below zero results vanish: one that does not keeps the norm from vanishing with them.
        let n = n + 1;
        let mut x: Vec<f32> = numbers(n, seed).iter().map(|v| v * scale).collect();
        x[0] = scale;
        let mut other = numbers(n, seed ^ 1);
        other[0] = 1.0;
        for isa in Isa::available() {
            for activation in ACTIVATIONS {
                let expected: Vec<f64> = x.iter().map(|&x| plain(activation, x.into())).collect();
                let y = written(n, |out| kernels::activate(isa, activation, &x, out));
                prop_assert!(error(&y, &expected) <= F32, "{isa:?} {activation:?}: {}", error(&y, &expected));
                let mut same = x.clone();
                kernels::activate_in_place(isa, activation, &mut same);
                prop_assert_eq!(&same, &y);
                let expected: Vec<f64> = expected.iter().zip(&other).map(|(e, &o)| e * f64::from(o)).collect();
                let y = written(n, |out| kernels::gated(isa, activation, &other, &x, out));
                prop_assert!(error(&y, &expected) <= F32, "{isa:?} {activation:?}");
            }
            let y = written(n, |out| kernels::add(isa, &x, &other, out));
            prop_assert!(y.iter().zip(x.iter().zip(&other)).all(|(y, (a, b))| *y == a + b));
        }
    }

    #[test]
    fn norms_of_rows_and_groups(rows in 0usize..6, d in 1usize..150, mean in -100f32..100.0, seed: u64) {
        let x: Vec<f32> = numbers(rows * d, seed).iter().map(|v| v + mean).collect();
        let (scale, shift) = (numbers(rows * d, seed ^ 1), numbers(rows * d, seed ^ 2));
        let (weight, bias) = (numbers(d, seed ^ 3), numbers(d, seed ^ 4));
        let eps = 1e-5f32;
        let normal: Vec<f64> = x.chunks(d).flat_map(|row| {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
            let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / d as f64;
            row.iter().map(move |&v| (f64::from(v) - mean) / (variance + f64::from(eps)).sqrt()).collect::<Vec<_>>()
        }).collect();
        let most = F32;
        for isa in Isa::available() {
            let y = written(x.len(), |out| kernels::layer_norm(isa, &x, d, eps, Affine::None, out));
            prop_assert!(d == 1 || error(&y, &normal) <= most, "{isa:?}: {}", error(&y, &normal));
            let modulated: Vec<f64> = normal.iter().enumerate().map(|(i, n)| n * (1.0 + f64::from(scale[i])) + f64::from(shift[i])).collect();
            let affine = Affine::Modulated { scale: &scale, shift: &shift, rows: 1 };
            let y = written(x.len(), |out| kernels::layer_norm(isa, &x, d, eps, affine, out));
            prop_assert!(d == 1 || error(&y, &modulated) <= most, "{isa:?}: {}", error(&y, &modulated));
            let affine = Affine::Columns { weight: &weight, bias: Some(&bias) };
            let expected: Vec<f64> = normal.iter().enumerate().map(|(i, n)| n * f64::from(weight[i % d]) + f64::from(bias[i % d])).collect();
            let y = written(x.len(), |out| kernels::layer_norm(isa, &x, d, eps, affine, out));
            prop_assert!(d == 1 || error(&y, &expected) <= most, "{isa:?}: {}", error(&y, &expected));
            let expected: Vec<f64> = x.chunks(d).flat_map(|row| {
                let mean_square = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / d as f64;
                row.iter().zip(&weight).map(move |(&v, &w)| f64::from(v) / (mean_square + f64::from(eps)).sqrt() * f64::from(w)).collect::<Vec<_>>()
            }).collect();
            let y = written(x.len(), |out| kernels::rms_norm(isa, &x, d, &weight, eps, out));
            prop_assert!(error(&y, &expected) <= F32, "{isa:?}: {}", error(&y, &expected));
            // A group of one channel is a row.
            let channel = |values: &[f32]| values[..1].repeat(rows);
            let (w, b) = (channel(&weight), channel(&bias));
            let expected: Vec<f64> = normal.iter().map(|n| plain(Activation::Silu, n * f64::from(w[0]) + f64::from(b[0]))).collect();
            if rows > 0 {
                let silu = Some(Activation::Silu);
                let y = written(x.len(), |out| kernels::group_norm(isa, &x, [1, rows, d], rows, &w, &b, eps, silu, out));
                prop_assert!(d == 1 || error(&y, &expected) <= most, "{isa:?}: {}", error(&y, &expected));
            }
        }
    }

    #[test]
    fn a_rotation_turns_pairs_of_channels(heads in 1usize..4, n in 0usize..20, half in 1usize..40, seed: u64) {
        let d = 2 * half;
        let x = numbers(n * 3 * heads * d, seed);
        let angles = numbers(n * half, seed ^ 1);
        let scale = numbers(d, seed ^ 2);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let view = Heads::new(&x, [1, heads, n, d], [n * 3 * heads * d, d, 3 * heads * d]).expect("in bounds");
        for norm in [None, Some((&scale[..], 1e-6f32))] {
            let mut expected = Vec::new();
            for head in 0..heads { for token in 0..n {
                let row: Vec<f64> = view.row(0, head, token).iter().map(|&v| f64::from(v)).collect();
                let mean_square = row.iter().map(|v| v * v).sum::<f64>() / d as f64;
                let row: Vec<f64> = row.iter().enumerate().map(|(c, v)| match norm {
                    Some((scale, eps)) => v / (mean_square + f64::from(eps)).sqrt() * f64::from(scale[c]),
                    None => *v,
                }).collect();
                for i in 0..half {
                    let (cos, sin) = (f64::from(cos[token * half + i]), f64::from(sin[token * half + i]));
                    expected.push(row[2 * i] * cos - row[2 * i + 1] * sin);
                    expected.push(row[2 * i] * sin + row[2 * i + 1] * cos);
                }
            } }
            for isa in Isa::available() {
                let y = written(expected.len(), |out| kernels::rope(isa, view, norm, &cos, &sin, out));
                prop_assert!(error(&y, &expected) <= F32, "{isa:?}: {}", error(&y, &expected));
            }
        }
    }
}

#[test]
fn long_sums_are_within_the_error_of_their_kind() {
    let (rows, d_in, d_out) = if cfg!(miri) { (2, 600, 3) } else { (45, 3333, 70) };
    let (x, w) = (numbers(rows * d_in, 1), numbers(d_out * d_in, 2));
    let mut expected = Vec::new();
    for r in 0..rows {
        for o in 0..d_out {
            expected.push((0..d_in).map(|i| f64::from(x[r * d_in + i]) * f64::from(w[o * d_in + i])).sum());
        }
    }
    for (isa, compute, most) in computes() {
        let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&w));
        let y = written(rows * d_out, |out| kernels::linear(&packed, &x, rows, d_in, Epilogue::default(), out));
        assert!(error(&y, &expected) <= most, "{isa:?} {compute:?}: {}", error(&y, &expected));
    }
}

#[test]
fn far_from_zero_an_activation_is_its_limit_and_nan_stays() {
    for isa in Isa::available() {
        for activation in ACTIVATIONS {
            let mut x = [1e4, -1e4, 1e30, -1e30, f32::NAN, 0.0];
            kernels::activate_in_place(isa, activation, &mut x);
            assert_eq!((x[0], x[2], x[5]), (1e4, 1e30, 0.0), "{isa:?} {activation:?}");
            assert!(x[1].abs() < 1e-30 && x[3].abs() < 1e-3 && x[4].is_nan(), "{isa:?} {activation:?} {x:?}");
        }
    }
}

#[test]
fn nan_comes_through_products_and_softmax() {
    for (isa, compute, _) in computes() {
        let w = PackedMatrix::pack(isa, compute, 3, 40, Values::F32(&[0.5; 120]));
        let mut x = numbers(80, 1);
        x[7] = f32::NAN;
        let y = written(6, |out| kernels::linear(&w, &x, 2, 40, Epilogue::default(), out));
        assert!(y[..3].iter().all(|v| v.is_nan()) && y[3..].iter().all(|v| v.is_finite()), "{isa:?} {compute:?} {y:?}");
        let view = |x| Heads::new(x, [1, 1, 2, 40], [80, 80, 40]).expect("in bounds");
        let scores = Scores { scale: 0.1, bias: None, mask: Mask::None };
        let other = numbers(80, 2);
        let y = written(80, |out| kernels::attention(isa, compute, view(&x), view(&other), view(&other), scores, out));
        assert!(
            y[..40].iter().all(|v| v.is_nan()) && y[40..].iter().all(|v| v.is_finite()),
            "{isa:?} {compute:?} {y:?}"
        );
    }
}

#[test]
fn a_view_that_leaves_its_data_is_none() {
    let data = [0.0; 24];
    assert!(Heads::new(&data, [1, 2, 3, 4], [24, 12, 4]).is_some());
    assert!(Heads::new(&data, [1, 2, 3, 4], [24, 13, 4]).is_none());
    assert!(Heads::new(&data, [usize::MAX, 2, 3, 4], [usize::MAX, 12, 4]).is_none());
    assert!(Heads::new(&data, [1, 2, 0, 4], [usize::MAX; 3]).is_some());
}

#[test]
fn upsampling_repeats_each_value_in_both_directions() {
    let y = written(24, |out| kernels::upsample_nearest_2x(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, out));
    let row = |a: f32, b: f32, c: f32| [a, a, b, b, c, c];
    assert_eq!(y, [row(1., 2., 3.), row(1., 2., 3.), row(4., 5., 6.), row(4., 5., 6.)].concat());
}

#[test]
fn a_row_that_begins_far_from_its_mean_is_normalised_as_well_as_any() {
    let d = 1000;
    let x: Vec<f32> = numbers(d, 5).iter().enumerate().map(|(i, v)| if i < 70 { 3000.0 + v } else { *v }).collect();
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
    let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / d as f64;
    let expected: Vec<f64> = x.iter().map(|&v| (f64::from(v) - mean) / (variance + 1e-6).sqrt()).collect();
    for isa in Isa::available() {
        let y = written(d, |out| kernels::layer_norm(isa, &x, d, 1e-6, Affine::None, out));
        assert!(error(&y, &expected) <= F32, "{isa:?}: {}", error(&y, &expected));
    }
}

#[test]
fn a_key_that_is_hidden_has_no_say_however_many_blocks_of_them_there_are() {
    // given more keys than a block has, of which one in the middle is seen
    let (m, d) = if cfg!(miri) { (520, 3) } else { (1300, 40) };
    let (q, keys) = (numbers(5 * d, 1), numbers(m * d, 2));
    let view = |x, n| Heads::new(x, [1, 1, n, d], [n * d, n * d, d]).expect("in bounds");
    for (isa, compute, most) in computes() {
        for shown in [0, 1, 513, m - 1] {
            let seen: Vec<bool> = (0..m).map(|key| key == shown).collect();
            let scores = Scores { scale: 1.0, bias: None, mask: Mask::Keys(&seen) };
            // when queries attend to them
            let y = written(5 * d, |out| {
                kernels::attention(isa, compute, view(&q, 5), view(&keys, m), view(&keys, m), scores, out)
            });
            // then each gets the value of that key
            let expected: Vec<f64> = keys[shown * d..][..d].iter().map(|&v| v.into()).collect::<Vec<_>>().repeat(5);
            assert!(error(&y, &expected) <= most, "{isa:?} {compute:?} {shown}");
        }
    }
}
