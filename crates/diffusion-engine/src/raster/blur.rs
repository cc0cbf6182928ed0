//! Two blurs: Pillow's of many pixels, bit for bit, and that of masks.

use super::Raster;
use crate::Size;

/// A mask with soft edges, each direction by a Gauss curve of this deviation in pixels, cut off at two and a half of them; 0 leaves it.
///
/// Forge modules/processing.py `StableDiffusionProcessingImg2Img.init`, dfdcbab, which has OpenCV round between both directions too.
pub(crate) fn feathered(mask: &Raster<1>, deviation: f32) -> Raster<1> {
    let radius = (2.5 * deviation + 0.5) as isize;
    if deviation <= 0.0 || radius == 0 {
        return mask.clone();
    }
    let weight = |x: isize| (-0.5 * (x as f32 / deviation).powi(2)).exp();
    let sum: f32 = (-radius..=radius).map(weight).sum();
    let kernel: Vec<f32> = (-radius..=radius).map(|x| weight(x) / sum).collect();
    let line = |line: &[u8]| {
        let blurred = |x: usize| {
            let at = |i: usize| f32::from(line[mirrored(x as isize + i as isize - radius, line.len())]);
            kernel.iter().enumerate().map(|(i, weight)| weight * at(i)).sum::<f32>().round_ties_even() as u8
        };
        (0..line.len()).map(blurred).collect()
    };
    by_channel(&by_channel(mask, &line).turned(), &line).turned()
}

/// The place inside that mirrors one outside, where the edge itself stands once.
fn mirrored(at: isize, len: usize) -> usize {
    let last = len as isize - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    (if at > last { 2 * last - at } else { at }) as usize
}

/// A mask without steps: a Gauss curve of four pixels (Forge extensions-builtin/soft-inpainting, dfdcbab).
pub(crate) fn softened(mask: &Raster<1>) -> Raster<1> {
    gauss(mask, 4.0)
}

/// Pillow's `GaussianBlur`: three passes of a box in each direction (BoxBlur.c).
pub(super) fn gauss<const C: usize>(raster: &Raster<C>, radius: f32) -> Raster<C> {
    if radius == 0.0 {
        return raster.clone();
    }
    let edge = box_radius(radius);
    let line = |line: &[u8]| (0..PASSES).fold(line.to_vec(), |line, _| boxed(&line, edge));
    let across = by_channel(raster, &line);
    by_channel(&across.turned(), &line).turned()
}

const PASSES: usize = 3;

/// The radius of the boxes that come to a Gauss curve of this deviation.
///
/// Gwosdek et al. 2011, "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering", equations 7, 11 and 14.
fn box_radius(deviation: f32) -> f32 {
    let variance = deviation * deviation / PASSES as f32;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((length - 1.0) / 2.0).floor();
    let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    whole + part / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)))
}

/// A line averaged over a box of a radius that need not be whole, in whole numbers with 24 bits behind the point.
fn boxed(line: &[u8], radius: f32) -> Vec<u8> {
    const ONE: u32 = 1 << 24;
    let whole = radius as usize;
    let inner = (ONE as f32 / (radius * 2.0 + 1.0)) as u32;
    let outer = (ONE - (2 * whole as u32 + 1) * inner) / 2;
    let at = |x: isize| u64::from(line[x.clamp(0, line.len() as isize - 1) as usize]);
    let reach = whole as isize;
    let mut sum: u64 = (-reach - 1..reach).map(at).sum();
    let blurred = |x: usize| {
        let x = x as isize;
        sum = sum + at(x + reach) - at(x - reach - 1);
        let ends = at(x - reach - 1) + at(x + reach + 1);
        ((sum * u64::from(inner) + ends * u64::from(outer) + (1 << 23)) >> 24) as u8
    };
    (0..line.len()).map(blurred).collect()
}

fn by_channel<const C: usize>(raster: &Raster<C>, line: &dyn Fn(&[u8]) -> Vec<u8>) -> Raster<C> {
    let mut pixels = raster.pixels.clone();
    for (row, out) in raster.rows().zip(pixels.chunks_exact_mut(raster.size.width)) {
        for channel in 0..C {
            let values: Vec<u8> = row.iter().map(|pixel| pixel[channel]).collect();
            out.iter_mut().zip(line(&values)).for_each(|(pixel, value)| pixel[channel] = value);
        }
    }
    Raster { size: raster.size, pixels }
}

impl<const C: usize> Raster<C> {
    /// With rows for columns.
    fn turned(&self) -> Self {
        let Size { width, height } = self.size;
        let pixels = (0..width * height).map(|i| self.pixels[i % height * width + i / height]).collect();
        Self { size: Size { width: height, height: width }, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_raster_stays_as_it_is_and_an_edge_becomes_a_slope() {
        let size = Size { width: 40, height: 3 };
        for radius in [0.0, 0.3, 2.0, 4.0, 256.0] {
            let plain = Raster::plain(size, [200u8]);
            let off = |blurred: &Raster<1>| blurred.pixels.iter().any(|[value]| value.abs_diff(200) > 1);
            assert!(!off(&gauss(&plain, radius)) && !off(&feathered(&plain, radius)), "{radius}");
        }
        let edge = Raster { size, pixels: (0..120).map(|i| [if i % 40 < 20 { 0 } else { 255 }]).collect() };
        for blurred in [gauss(&edge, 4.0), feathered(&edge, 4.0)] {
            let row = &blurred.pixels[40..80];
            assert!(row.is_sorted() && row[0] == [0] && row[39] == [255] && row[19][0] > 100 && row[20][0] < 155);
        }
    }
}
