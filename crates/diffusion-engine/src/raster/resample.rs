//! Pillow's resampling, bit for bit: Resample.c, 8 bits a channel, in whole numbers with 22 bits behind the point.

use std::ops::Range;

use super::Raster;
use crate::Size;

/// What pixels are weighted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Two pixels wide, `a = -0.5`.
    Bicubic,
    /// Three pixels wide.
    Lanczos,
}

impl Kernel {
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        };
        match self {
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// A raster of another size.
pub(crate) fn resampled<const C: usize>(raster: &Raster<C>, size: Size, kernel: Kernel) -> Raster<C> {
    let Size { width, height } = raster.size();
    part_resampled(raster, size, [0.0..width as f64, 0.0..height as f64], kernel)
}

/// The columns and rows of a raster, ends of pixels counted, in another size. A range without length is the colour at its place.
pub(super) fn part_resampled<const C: usize>(
    raster: &Raster<C>,
    size: Size,
    [columns, rows]: [Range<f64>; 2],
    kernel: Kernel,
) -> Raster<C> {
    let own = raster.size();
    let is_whole = |range: &Range<f64>, side: usize| range.start == 0.0 && range.end == side as f64;
    let across = (size.width != own.width || !is_whole(&columns, size.width))
        .then(|| horizontal(raster, &Weights::of(columns, own.width, size.width, kernel)));
    let raster = across.as_ref().unwrap_or(raster);
    if size.height == own.height && is_whole(&rows, size.height) {
        return raster.clone();
    }
    vertical(raster, &Weights::of(rows, own.height, size.height, kernel))
}

/// Bits behind the point.
const PRECISION: u32 = 32 - 8 - 2; // Resample.c: PRECISION_BITS

/// Where each pixel's weights begin, and the weights.
struct Weights(Vec<(usize, Vec<i32>)>);

impl Weights {
    fn of(range: Range<f64>, side: usize, out: usize, kernel: Kernel) -> Self {
        let scale = (range.end - range.start) / out as f64;
        let wide = scale.max(1.0);
        let support = kernel.support() * wide;
        let of_pixel = |at: usize| {
            let center = range.start + (at as f64 + 0.5) * scale;
            let first = ((center - support + 0.5) as isize).max(0) as usize;
            let end = ((center + support + 0.5) as isize).clamp(0, side as isize) as usize;
            let weight = |i: usize| kernel.at((i as f64 - center + 0.5) / wide);
            let weights: Vec<f64> = (first..end.max(first)).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let whole = |weight: f64| {
                let weight = if sum == 0.0 { weight } else { weight / sum } * f64::from(1u32 << PRECISION);
                (weight + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            (first, weights.into_iter().map(whole).collect())
        };
        Self((0..out).map(of_pixel).collect())
    }
}

fn byte(sum: i64) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const C: usize>(raster: &Raster<C>, Weights(weights): &Weights) -> Raster<C> {
    let of_row = |row: &[[u8; C]]| {
        let pixel = |(first, weights): &(usize, Vec<i32>)| {
            let mut sums = [1i64 << (PRECISION - 1); C];
            for (pixel, &weight) in row[*first..].iter().zip(weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += i64::from(value) * i64::from(weight));
            }
            sums.map(byte)
        };
        weights.iter().map(pixel).collect::<Vec<_>>()
    };
    let size = Size { width: weights.len(), height: raster.size.height };
    Raster { size, pixels: raster.rows().flat_map(of_row).collect() }
}

fn vertical<const C: usize>(raster: &Raster<C>, Weights(weights): &Weights) -> Raster<C> {
    let width = raster.size.width;
    let mut pixels = Vec::with_capacity(width * weights.len());
    for (first, weights) in weights {
        let mut sums = vec![[1i64 << (PRECISION - 1); C]; width];
        for (row, &weight) in raster.rows().skip(*first).zip(weights) {
            for (sums, pixel) in sums.iter_mut().zip(row) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += i64::from(value) * i64::from(weight));
            }
        }
        pixels.extend(sums.into_iter().map(|sums| sums.map(byte)));
    }
    Raster { size: Size { width, height: weights.len() }, pixels }
}
