//! Lanczos' resampling, for the sizes between a network's factors.

use core_tensor::{Error, Tensor, into_host, tensor};

/// Pixels on either side that count, of the coarser picture.
const LOBES: f64 = 3.0; // Pillow's LANCZOS

/// `[1, c, h, w]` in another height and width. Where it becomes smaller, every pixel counts for what it covers.
///
/// # Errors
/// Those of a device that could not compute what is given.
pub fn lanczos(x: Tensor<4>, [height, width]: [usize; 2]) -> Result<Tensor<4>, Error> {
    let [b, c, h, w] = x.dims();
    let device = x.device();
    let rows = along(into_host(x)?, w, &shares(w, width)); // b c h width
    let columns = turned(rows, [b * c, h, width]);
    let columns = along(columns, h, &shares(h, height)); // b c width height
    Ok(tensor(turned(columns, [b * c, width, height]), [b, c, height, width], &device))
}

/// The most bytes that resampling holds of `[1, c, h, w]` of this height and width, what is given and what is made included.
pub fn lanczos_bytes(channels: u64, [h, w]: [u64; 2], [height, width]: [u64; 2]) -> u64 {
    let all = |height: u64, width: u64| channels.saturating_mul(4).saturating_mul(height).saturating_mul(width);
    let [given, rows, made] = [all(h, w), all(h, width), all(height, width)];
    // From each list to the next.
    let steps = [[given, rows], [rows, rows], [rows, made], [made, made]];
    steps.into_iter().map(|[from, to]| from.saturating_add(to)).max().unwrap_or(0)
}

/// Where the pixels begin that count for each new one, and how much each does.
fn shares(old: usize, new: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = old as f64 / new as f64;
    let wide = scale.max(1.0);
    let of = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let first = ((centre - LOBES * wide).floor().max(0.0)) as usize;
        let end = ((centre + LOBES * wide).ceil() as usize).min(old);
        let weights: Vec<f64> = (first..end).map(|i| kernel((i as f64 + 0.5 - centre) / wide)).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|weight| weight / sum).collect())
    };
    (0..new).map(of).collect()
}

fn kernel(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
    if x.abs() < LOBES { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

/// Rows of so many values, each resampled.
fn along(x: Vec<f32>, row: usize, shares: &[(usize, Vec<f64>)]) -> Vec<f32> {
    let resampled = |row: &[f32], (first, weights): &(usize, Vec<f64>)| {
        weights.iter().zip(&row[*first..]).map(|(weight, value)| weight * f64::from(*value)).sum::<f64>() as f32
    };
    let mut all = Vec::with_capacity(x.len() / row * shares.len());
    x.chunks_exact(row).for_each(|row| all.extend(shares.iter().map(|share| resampled(row, share))));
    all
}

/// `[n, h, w]` to `[n, w, h]`.
fn turned(x: Vec<f32>, [n, h, w]: [usize; 3]) -> Vec<f32> {
    (0..n * w * h).map(|i| x[(i / (w * h) * h + i % h) * w + i / h % w]).collect()
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, values};

    use super::*;

    #[test]
    fn a_plain_picture_stays_plain_and_the_same_size_changes_nothing() {
        let plain = Tensor::<4>::full([1, 3, 7, 5], 0.25, &Device::flex());
        for size in [[1, 1], [3, 9], [14, 10], [70, 2]] {
            let resampled = lanczos(plain.clone(), size).unwrap();
            assert_eq!(resampled.dims(), [1, 3, size[0], size[1]]);
            assert!(values(&resampled).iter().all(|value| (value - 0.25).abs() < 1e-6));
        }
        let x = tensor((0..30).map(|i| (i as f32).sin()).collect(), [1, 1, 6, 5], &Device::flex());
        assert!(values(&lanczos(x.clone(), [6, 5]).unwrap()).iter().zip(values(&x)).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn other_sizes_are_what_pillow_makes() {
        // Pillow 13, Image.fromarray(…, mode="F").resize(…, Image.LANCZOS)
        let x = vec![0.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.25, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let expected = [
            [0.474_457_95, 0.330_238, -0.179_259],
            [0.439_191_64, 0.110_569, 0.259_833_07],
            [0.293_719_3, -0.034_543_42, 0.713_319_66],
            [0.078_894_705, 0.349_832_77, 0.314_893_75],
            [-0.026_117_384, 0.662_656_96, -0.102_760_926],
        ];
        let found = lanczos(tensor(x, [1, 1, 3, 5], &Device::flex()), [5, 3]).unwrap();
        for (found, expected) in values(&found).iter().zip(expected.as_flattened()) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
