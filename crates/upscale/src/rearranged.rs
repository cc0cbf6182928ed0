//! Pixels as channels, and channels as pixels.

use core_tensor::Tensor;

/// Squares of `factor` pixels a side as channels: `[b, c, h, w]` to `[b, c · factor², h / factor, w / factor]`, rounded up; beyond the
/// last rows and columns those before them are repeated, the nearest first.
pub(crate) fn pixels_as_channels(x: Tensor<4>, factor: usize) -> Tensor<4> {
    if factor == 1 {
        return x;
    }
    let x = mirrored(mirrored(x, 2, factor), 3, factor);
    let [b, c, h, w] = x.dims();
    let x = x.reshape([b, c, h / factor, factor, w / factor, factor]); // b c h fh w fw
    x.permute([0, 1, 3, 5, 2, 4]).reshape([b, c * factor * factor, h / factor, w / factor])
}

/// The other way: `[b, c · factor², h, w]` to `[b, c, h · factor, w · factor]`.
pub(crate) fn channels_as_pixels(x: Tensor<4>, factor: usize) -> Tensor<4> {
    if factor == 1 {
        return x;
    }
    let [b, c, h, w] = x.dims();
    let c = c / (factor * factor);
    let x = x.reshape([b, c, factor, factor, h, w]); // b c fh fw h w
    x.permute([0, 1, 4, 2, 5, 3]).reshape([b, c, h * factor, w * factor])
}

/// Each pixel `factor` times in both directions.
pub(crate) fn repeated(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let x = x.reshape([b, c, h, 1, w, 1]).expand([b, c, h, factor, w, factor]);
    x.reshape([b, c, h * factor, w * factor])
}

/// A multiple of `factor` rows or columns: behind the last come those before it, as in a mirror.
pub(crate) fn mirrored(x: Tensor<4>, dim: usize, factor: usize) -> Tensor<4> {
    let count = x.dims()[dim];
    let lacking = count.div_ceil(factor) * factor - count;
    // One that is alone is repeated.
    let of = |i: usize| x.clone().narrow(dim, (count - 1).saturating_sub(1 + i), 1);
    match lacking {
        0 => x,
        lacking => {
            let behind = (0..lacking).map(of);
            Tensor::cat(std::iter::once(x.clone()).chain(behind).collect(), dim)
        }
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, tensor, values};

    use super::*;

    fn counted(shape: [usize; 4]) -> Tensor<4> {
        tensor((0..shape.iter().product()).map(|i: usize| i as f32).collect(), shape, &Device::flex())
    }

    #[test]
    fn pixels_that_became_channels_become_pixels_again() {
        for factor in [1, 2, 4] {
            let x = counted([2, 3, 2 * factor, 3 * factor]);
            let channels = pixels_as_channels(x.clone(), factor);
            assert_eq!(channels.dims(), [2, 3 * factor * factor, 2, 3]);
            assert_eq!(values(&channels_as_pixels(channels, factor)), values(&x));
        }
    }

    #[test]
    fn what_lacks_rows_is_filled_up_as_in_a_mirror() {
        let rows = |x: Tensor<4>| values(&channels_as_pixels(pixels_as_channels(x, 4), 4).narrow(3, 0, 1));
        assert_eq!(rows(counted([1, 1, 5, 1])), [0.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(rows(counted([1, 1, 2, 1])), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(rows(counted([1, 1, 1, 1])), [0.0; 4]);
    }
}
