//! What a card's instructions for products of matrices compute, held against the host: each of the kernels that models take, in small.

use burn::tensor::DType;
use half::f16;
use kernels::{Compute, Values};

use super::super::{Scoring, View, attend, kernel::Args, matrix, product};
use crate::{Device, Tensor, in_f32, on_host};

/// Whether all of it is right.
pub(super) fn is_right(device: &Device) -> bool {
    // By each tile as a product and as a convolution, and by heads as Flux and Stable Diffusion have them.
    let products = [(128, false), (64, false), (128, true)];
    let is_right = |found: Option<Vec<f32>>, expected: Vec<f32>, allowed: f32| {
        let found = found.unwrap_or_default();
        found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= allowed)
    };
    let is_product_right = |(tile, is_conv)| {
        let (found, expected) = multiplied(device, tile, is_conv);
        is_right(found, expected, 0.0)
    };
    products.into_iter().all(is_product_right)
        && [128, 160].into_iter().all(|d| {
            let (found, expected) = attended(device, d);
            is_right(found, expected, 1e-2)
        })
}

/// Small whole numbers, whose products and sums f16 has.
fn whole(count: usize, by: usize) -> Vec<f32> {
    (0..count).map(|i| (i * by % 7) as f32 - 3.0).collect()
}

/// A product of more rows, outputs and inputs than a tile has; as a convolution one of 3 × 3 over a map of as many pixels.
fn multiplied(device: &Device, tile: usize, is_conv: bool) -> (Option<Vec<f32>>, Vec<f32>) {
    const SIDE: usize = 12;
    const CHANNELS: usize = 8;
    let (m, n, k) = (SIDE * SIDE, 132, if is_conv { 9 * CHANNELS } else { 40 });
    let (x, w) = (whole(m * if is_conv { CHANNELS } else { k }, 5), whole(n * k, 3));
    let found = || {
        let [x, w] = [(&x, m), (&w, n)].map(|(values, rows)| {
            let matrix = matrix(Values::F32(values), [rows, values.len() / rows], Compute::F16, device);
            matrix.and_then(|matrix| View::of(&matrix))
        });
        let (x, w) = (x?, w?);
        let out = x.empty([m, n], DType::F32);
        let args = Args::default().ints([m, n, k, if is_conv { CHANNELS } else { k }, n, n, m, 0, 0, 0]);
        let args = args.ints(if is_conv { [SIDE, SIDE, CHANNELS, SIDE, SIDE, 3, 1, 1] } else { [0; 8] });
        product::launch_in(tile, (&w, Compute::F16), &out, [m, n], is_conv, [&x, &w, &out, &out, &out, &out], args);
        on_host(&out.into_tensor::<2>()).ok()
    };
    let dot = |row: usize, output: usize| -> f32 {
        let w = &w[output * k..(output + 1) * k];
        if !is_conv {
            return x[row * k..(row + 1) * k].iter().zip(w).map(|(x, w)| x * w).sum();
        }
        let taps = (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))).enumerate();
        taps.map(|(tap, (dy, dx))| {
            let (y, x_at) = ((row / SIDE + dy).wrapping_sub(1), (row % SIDE + dx).wrapping_sub(1));
            if y >= SIDE || x_at >= SIDE {
                return 0.0;
            }
            let pixel = &x[(y * SIDE + x_at) * CHANNELS..][..CHANNELS];
            pixel.iter().zip(&w[tap * CHANNELS..]).map(|(x, w)| x * w).sum()
        })
        .sum()
    };
    let expected = (0..m).flat_map(|row| (0..n).map(move |output| (row, output)));
    (found(), expected.map(|(row, output)| dot(row, output)).collect())
}

/// Attention of a head to its own tokens, all of which are waves.
fn attended(device: &Device, d: usize) -> (Option<Vec<f32>>, Vec<f32>) {
    const TOKENS: usize = 70;
    const SCALE: f32 = 0.25;
    let wave = |by: f32| (0..TOKENS * d).map(|i| f16::from_f32((i as f32 * by).sin()).to_f32()).collect::<Vec<_>>();
    let values = [wave(0.37), wave(0.53), wave(0.71)];
    let found = || {
        let of = |values: &Vec<f32>| -> Option<Tensor<4>> {
            Some(matrix(Values::F32(values), [TOKENS, d], Compute::F16, device)?.reshape([1, 1, TOKENS, d]))
        };
        let [q, k, v] = values.each_ref().map(of);
        let scoring = Scoring { scale: SCALE.into(), relative: None, full: None, is_causal: false, seen: None };
        on_host(&in_f32(attend(&[q?, k?, v?], &scoring)?)).ok()
    };
    let [q, k, v] = values.each_ref().map(|x| x.chunks(d).collect::<Vec<_>>());
    let row = |q: &&[f32]| {
        let score = |k: &&[f32]| (SCALE * q.iter().zip(*k).map(|(q, k)| q * k).sum::<f32>()).exp();
        let weights: Vec<f32> = k.iter().map(score).collect();
        let sum: f32 = weights.iter().sum();
        (0..d).map(|c| weights.iter().zip(&v).map(|(w, v)| w * v[c]).sum::<f32>() / sum).collect::<Vec<_>>()
    };
    (found(), q.iter().flat_map(row).collect())
}
