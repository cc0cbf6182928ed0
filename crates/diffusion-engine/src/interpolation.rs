//! Latents of another size, as PyTorch's `interpolate` makes them.

use core_tensor::{Latent, on_host, tensor};

use crate::Error;

/// How a latent of another size is made; pixels are areas, as with `align_corners=False`.
///
/// Reference: PyTorch 2.15, aten/src/ATen/native/cpu/UpSampleKernel.cpp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// Between the two nearest in each direction.
    #[default]
    Bilinear,
    /// The same, over as many as become one where the latent becomes smaller.
    BilinearAntialiased,
    /// Between the four nearest in each direction.
    Bicubic,
    /// The same, over as many as become one where the latent becomes smaller, and with a softer curve.
    BicubicAntialiased,
    /// The one below, by the corners of pixels.
    Nearest,
    /// The nearest, by the middles of pixels.
    NearestExact,
    /// The mean of all that a pixel lies over, each of them whole.
    Area,
}

/// What one pixel of a side is made of: pixels of the side before, with weights.
type Taps = Vec<(usize, f32)>;

impl Interpolation {
    /// A latent, `[b, c, h, w]`, of this height and width.
    ///
    /// # Errors
    /// [`Error::Weights`] for a device that could not compute the latent.
    pub fn resized(self, latent: &Latent, [height, width]: [usize; 2]) -> Result<Latent, Error> {
        let [b, c, h, w] = latent.0.dims();
        let (rows, columns) = (self.taps(h, height), self.taps(w, width));
        let given = on_host(&latent.0)?;
        let across = given.chunks_exact(w).flat_map(|row| columns.iter().map(|taps| sum(taps, |at| row[at])));
        let across: Vec<f32> = across.collect();
        let down = across.chunks_exact(h * width).flat_map(|map| {
            let of_row =
                move |taps: &Taps| -> Vec<f32> { (0..width).map(|x| sum(taps, |at| map[at * width + x])).collect() };
            rows.iter().flat_map(of_row)
        });
        Ok(Latent(tensor(down.collect(), [b, c, height, width], &latent.0.device())))
    }

    /// What each of `to` pixels in a row is made of, where there were `from`.
    fn taps(self, from: usize, to: usize) -> Vec<Taps> {
        // The reference computes places in f32 too: which pixel is the nearest depends on it.
        let scale = from as f32 / to as f32;
        let middle = |i: usize| scale * (i as f32 + 0.5) - 0.5;
        let last = from - 1;
        let within = |at: f32| (at.max(0.0) as usize).min(last);
        let of_pixel = |i: usize| match self {
            Self::Nearest => vec![(within((i as f32 * scale).floor()), 1.0)],
            Self::NearestExact => vec![(within(((i as f32 + 0.5) * scale).floor()), 1.0)],
            Self::Area => {
                let (first, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
                (first..end).map(|at| (at, 1.0 / (end - first) as f32)).collect()
            }
            Self::Bilinear => {
                let at = middle(i).max(0.0);
                let below = within(at);
                let share = (at - below as f32).clamp(0.0, 1.0);
                vec![(below, 1.0 - share), ((below + 1).min(last), share)]
            }
            Self::Bicubic => {
                let at = middle(i);
                let share = at - at.floor();
                let tap = |k: f32| (within(at.floor() + k), cubic(share - k, SHARP));
                vec![tap(-1.0), tap(0.0), tap(1.0), tap(2.0)]
            }
            Self::BilinearAntialiased => spread(i, scale, from, 1.0, |x| (1.0 - x.abs()).max(0.0)),
            Self::BicubicAntialiased => spread(i, scale, from, 2.0, |x| cubic(x, SOFT)),
        };
        (0..to).map(of_pixel).collect()
    }
}

const SHARP: f32 = -0.75; // aten/src/ATen/native/UpSample.h: get_cubic_upsample_coefficients
const SOFT: f32 = -0.5; // UpSampleKernel.cpp: HelperInterpCubic::aa_filter, which is Pillow's

fn sum(taps: &Taps, value: impl Fn(usize) -> f32) -> f32 {
    taps.iter().map(|&(at, weight)| weight * value(at)).sum()
}

/// What a filter that reaches `reach` pixels of the coarser side gives each pixel, as shares of 1.
fn spread(i: usize, scale: f32, from: usize, reach: f32, filter: impl Fn(f32) -> f32) -> Taps {
    let (stretch, centre) = (scale.max(1.0), scale * (i as f32 + 0.5));
    let reach = reach * stretch;
    let first = (centre - reach + 0.5).max(0.0) as usize;
    let end = ((centre + reach + 0.5) as usize).min(from);
    let taps = (first..end).map(|at| (at, filter((at as f32 - centre + 0.5) / stretch)));
    let taps: Taps = taps.collect();
    let total: f32 = taps.iter().map(|(_, weight)| weight).sum();
    taps.into_iter().map(|(at, weight)| (at, weight / total)).collect()
}

/// The cubic convolution of Keys (1981) at a distance, with its free parameter.
fn cubic(x: f32, a: f32) -> f32 {
    match x.abs() {
        x if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, values};

    use super::*;

    #[test]
    fn a_stretched_latent_is_that_of_torch() {
        // torch.nn.functional.interpolate(torch.arange(6.).reshape(1, 1, 2, 3), size=(3, 2), mode="bilinear")
        let latent = Latent(tensor((0..6).map(|x| x as f32).collect(), [1, 1, 2, 3], &Device::flex()));
        let stretched = |size| values(&Interpolation::Bilinear.resized(&latent, size).unwrap().0);
        let found = stretched([3, 2]);
        let expected = [0.25, 1.75, 1.75, 3.25, 3.25, 4.75];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        assert_eq!(stretched([2, 3]), values(&latent.0));
    }
}
