//! What a card's instructions for products of matrices compute, held against the host, in small: products in both tiles, as such and as convolutions, and attention with heads as
//! models have them, whose scores grow so that the sums have to be scaled on the way. What follows a product, biases and masks are the same text in any case.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use burn::tensor::DType;
use half::f16;
use kernels::{Compute, Values};

use super::{
    Scoring, View, attend,
    kernel::Args,
    matrix, product,
    units::{Trial, known},
};
use crate::{Device, Error, Tensor, in_f32, on_host};

/// Has a device compute by those instructions, if nobody had yet: wgpu calls them experimental, and what naga makes of a text leaves it to drivers in which
/// order threads see what others of their group have written. Whether results are right; kernels do without them where they are not.
///
/// # Errors
/// [`Error::DeviceMemory`] where there was none to try them in.
pub(crate) fn try_out(device: &Device) -> Result<bool, Error> {
    let Some(View(own)) = View::on(device) else { return Ok(true) };
    let set =
        |trial: Trial| known().iter_mut().filter(|(other, ..)| *other == own.device).for_each(|known| known.2 = trial);
    if !known().iter().any(|(other, _, trial)| *other == own.device && *trial == Trial::None) {
        return Ok(true);
    }
    set(Trial::Now(thread::current().id()));
    let is_right = match catch_unwind(AssertUnwindSafe(|| is_right(device))) {
        Ok(Err(memory @ Error::DeviceMemory { .. })) => {
            set(Trial::None);
            return Err(memory);
        }
        told => told.is_ok_and(|told| told.unwrap_or(false)),
    };
    match is_right {
        true => set(Trial::Passed),
        false => known().retain(|(other, ..)| *other != own.device),
    }
    Ok(is_right)
}

/// Whether all of it is right.
///
/// # Errors
/// What the device failed of.
fn is_right(device: &Device) -> Result<bool, Error> {
    for tile in [64, 128] {
        for (is_conv, dtype) in [(false, DType::F16), (true, DType::F32)] {
            let (found, expected) = multiplied(device, tile, is_conv, dtype)?;
            if found != expected {
                return Ok(false);
            }
        }
    }
    for d in [64, 128, 160] {
        let (found, expected) = attended(device, d)?;
        let is_near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-2);
        if found.len() != expected.len() || !is_near {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Small whole numbers.
fn whole(count: usize, by: usize) -> Vec<f32> {
    (0..count).map(|i| (i * by % 7) as f32 - 3.0).collect()
}

/// A matrix on the device, in f16.
fn held(values: &[f32], columns: usize, device: &Device) -> Tensor<2> {
    let shape = [values.len() / columns, columns];
    matrix(Values::F32(values), shape, Compute::F16, device).expect("a device with kernels of ours")
}

/// A product of more rows, outputs and inputs than a tile has, whose sums f16 has; as a convolution one of 3 × 3 over a map of as many pixels.
fn multiplied(device: &Device, tile: usize, is_conv: bool, dtype: DType) -> Result<(Vec<f32>, Vec<f32>), Error> {
    const SIDE: usize = 12;
    const CHANNELS: usize = 8;
    let (m, n, k) = (SIDE * SIDE, 132, if is_conv { 9 * CHANNELS } else { 40 });
    let row = if is_conv { CHANNELS } else { k };
    let (x, w) = (whole(m * row, 5), whole(n * k, 3));
    let [a, b] = [held(&x, row, device), held(&w, k, device)].map(|matrix| View::ours(&matrix));
    let out = a.empty([m, n], dtype);
    let args = Args::default().ints([m, n, k, row, n, n, m, 0, 0, 0]);
    let args = args.ints(if is_conv { [SIDE, SIDE, CHANNELS, SIDE, SIDE, 3, 1, 1] } else { [0; 8] });
    product::launch_in(tile, (&b, Compute::F16), &out, [m, n], is_conv, [&a, &b, &out, &out, &out, &out], args);
    let found = on_host(&in_f32(out.into_tensor::<2>()))?;
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    let sum = |at: usize, output: usize| -> f32 {
        let w = &w[output * k..(output + 1) * k];
        if !is_conv {
            return dot(&x[at * k..(at + 1) * k], w);
        }
        let tap = |(tap, (dy, dx)): (usize, (usize, usize))| {
            let (y, column) = ((at / SIDE + dy).wrapping_sub(1), (at % SIDE + dx).wrapping_sub(1));
            let is_inside = y < SIDE && column < SIDE;
            let pixel = || &x[(y * SIDE + column) * CHANNELS..][..CHANNELS];
            if is_inside { dot(pixel(), &w[tap * CHANNELS..][..CHANNELS]) } else { 0.0 }
        };
        (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))).enumerate().map(tap).sum()
    };
    let expected = (0..m).flat_map(|at| (0..n).map(move |output| (at, output)));
    Ok((found, expected.map(|(at, output)| sum(at, output)).collect()))
}

/// Attention of a head to its own tokens. Scores are whole numbers of quarters, so that f16 has all that is multiplied, and each token's is half above that of
/// the one before it.
fn attended(device: &Device, d: usize) -> Result<(Vec<f32>, Vec<f32>), Error> {
    const TOKENS: usize = 70;
    const SCALE: f32 = 0.25;
    let ones = |by: usize| (0..TOKENS * d).map(move |i| (i * by % 3) as f32 - 1.0);
    let first = |i: usize| (i.is_multiple_of(d)).then_some(i / d);
    let q: Vec<f32> = ones(5).enumerate().map(|(i, x)| first(i).map_or(x, |_| 2.0)).collect();
    let k: Vec<f32> = ones(7).enumerate().map(|(i, x)| first(i).map_or(x, |token| token as f32)).collect();
    let v: Vec<f32> = (0..TOKENS * d).map(|i| f16::from_f32((i as f32 * 0.71).sin()).to_f32()).collect();
    let heads = [&q, &k, &v].map(|x| held(x, d, device).reshape([1, 1, TOKENS, d]));
    let scoring = Scoring { scale: SCALE.into(), relative: None, full: None, is_causal: false, seen: None };
    let found = on_host(&in_f32(attend(&heads, &scoring).expect("heads that kernels of ours take")))?;
    let row = |q: &[f32]| {
        let scores = k.chunks(d).map(|k| SCALE * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>());
        let scores: Vec<f32> = scores.collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f32 = weights.iter().sum();
        (0..d).map(|c| weights.iter().zip(v.chunks(d)).map(|(w, v)| w * v[c]).sum::<f32>() / sum).collect::<Vec<_>>()
    };
    Ok((found, q.chunks(d).flat_map(row).collect()))
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "vulkan")]
    use super::*;
    #[cfg(feature = "vulkan")]
    use crate::device;

    #[cfg(feature = "vulkan")]
    #[test]
    fn software_computes_every_tile_rightly_with_such_instructions_or_without() {
        let _alone = crate::vulkan::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let device = device("vulkan:software").expect("Mesa's software driver");
        assert!(is_right(&device).unwrap());
        for (tile, is_conv, dtype) in
            [(32, false, DType::F16), (32, true, DType::F32), (64, true, DType::F16), (128, true, DType::F16)]
        {
            let (found, expected) = multiplied(&device, tile, is_conv, dtype).unwrap();
            assert_eq!(found, expected, "{tile} {is_conv} {dtype:?}");
        }
    }
}
