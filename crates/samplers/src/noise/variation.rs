/// A noise on the way from one to another, as variation seeds have it: `[channels, height, width]` of one picture.
///
/// Each column of each channel turns along the arc between the two (spherical interpolation). Where all of them point the same way the
/// weights are linear and the other way round, as in A1111 and Forge (modules/rng.py `slerp`, dfdcbab).
///
/// # Panics
/// If a noise does not fill the shape.
pub fn varied(noise: &[f32], other: &[f32], strength: f32, [channels, height, width]: [usize; 3]) -> Vec<f32> {
    assert!([noise, other].iter().all(|noise| noise.len() == channels * height * width), "noise of another shape");
    let columns = || (0..channels).flat_map(move |c| (0..width).map(move |x| c * height * width + x));
    let along = |start: usize| (0..height).map(move |y| start + y * width);
    let length = |of: &[f32], start| along(start).map(|at| of[at] * of[at]).sum::<f32>().sqrt();
    let cosine = |start: usize| {
        let lengths = [length(noise, start), length(other, start)];
        along(start).map(|at| (noise[at] / lengths[0]) * (other[at] / lengths[1])).sum::<f32>()
    };
    let cosines: Vec<f32> = columns().map(cosine).collect();
    if cosines.iter().sum::<f32>() / cosines.len() as f32 > 0.9995 {
        return noise.iter().zip(other).map(|(a, b)| a * strength + b * (1.0 - strength)).collect();
    }
    let mut varied = vec![0.0; noise.len()];
    for (start, cosine) in columns().zip(cosines) {
        let angle = cosine.acos();
        let weights = [((1.0 - strength) * angle).sin() / angle.sin(), (strength * angle).sin() / angle.sin()];
        for at in along(start) {
            varied[at] = weights[0] * noise[at] + weights[1] * other[at];
        }
    }
    varied
}

/// Noise of one size with the middle of another's put into its middle, as far as both reach: the same picture, roughly, at another size
/// (A1111 and Forge: "seed resize", modules/rng.py `ImageRNG.first`, dfdcbab). Shapes are `[channels, height, width]`.
///
/// # Panics
/// If a noise does not fill its shape, or the channels differ.
pub fn resized(noise: Vec<f32>, shape: [usize; 3], from: &[f32], from_shape: [usize; 3]) -> Vec<f32> {
    let volume = |shape: [usize; 3]| shape.iter().product::<usize>();
    let ([channels, height, width], [from_channels, from_height, from_width]) = (shape, from_shape);
    assert!(channels == from_channels, "noise of {from_channels} channels in place of {channels}");
    assert!(noise.len() == volume(shape) && from.len() == volume(from_shape), "noise of another shape");
    // Half the difference rounded towards minus infinity, as Python divides; what is cut off is then twice that.
    let span = |size: usize, from: usize| {
        let before = (size as isize - from as isize).div_euclid(2);
        let skipped = before.min(0).unsigned_abs();
        (before.max(0).unsigned_abs(), skipped, from.saturating_sub(2 * skipped).min(size))
    };
    let ((top, skipped_rows, rows), (left, skipped_columns, columns)) =
        (span(height, from_height), span(width, from_width));
    let mut noise = noise;
    for c in 0..channels {
        for y in 0..rows {
            let to = (c * height + top + y) * width + left;
            let at = (c * from_height + skipped_rows + y) * from_width + skipped_columns;
            noise[to..to + columns].copy_from_slice(&from[at..at + columns]);
        }
    }
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Generator, NoiseSource};

    fn noise(seed: u64, shape: [usize; 3]) -> Vec<f32> {
        Generator::new(NoiseSource::Cpu, seed).randn(shape.iter().product())
    }

    #[test]
    fn a_variation_of_no_strength_is_the_noise_and_of_full_strength_the_other() {
        let shape = [4, 8, 6];
        let (a, b) = (noise(1, shape), noise(2, shape));
        let near = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-5);
        assert!(near(&varied(&a, &b, 0.0, shape), &a));
        assert!(near(&varied(&a, &b, 1.0, shape), &b));
        let half = varied(&a, &b, 0.5, shape);
        assert!(!near(&half, &a) && !near(&half, &b));
    }

    #[test]
    fn a_variation_towards_itself_is_itself_at_any_strength() {
        let shape = [1, 4, 4];
        let a = noise(1, shape);
        let same = varied(&a, &a, 0.3, shape);
        assert!(same.iter().zip(&a).all(|(x, y)| (x - y).abs() < 1e-6));
    }

    #[test]
    fn the_arc_is_that_of_the_same_formula_in_torch() {
        // torch 2.15: the arc at 0.3 between torch.randn((2, 3, 4)) of seeds 1 and 2, rows 0 and 3 of six.
        let torch = [[-1.561_286_4, -0.249_163_69, -1.187_513], [0.059_224_8, -1.409_802_3, -0.518_619_06]];
        let shape = [2, 3, 4];
        let ours = varied(&noise(1, shape), &noise(2, shape), 0.3, shape);
        for (row, start) in torch.iter().zip([0, 12]) {
            assert!(row.iter().zip(&ours[start..]).all(|(x, y)| (x - y).abs() < 1e-5), "{ours:?}");
        }
    }

    #[test]
    fn a_smaller_noise_lies_in_the_middle_and_of_a_larger_one_the_middle_is_kept() {
        let (zeros, ones) = (vec![0.0; 24], vec![1.0; 6]);
        let inside = resized(zeros, [1, 4, 6], &ones, [1, 2, 3]);
        let rows: Vec<&[f32]> = inside.chunks(6).collect();
        assert_eq!(rows[0], [0.0; 6]);
        assert_eq!(rows[1], [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(rows[2], rows[1]);
        assert_eq!(rows[3], [0.0; 6]);
        let count = |h: usize, w: usize| (0..h * w).map(|i| 100.0 + i as f32).collect::<Vec<f32>>();
        // As Python's floor division has it where the difference is odd.
        let wider = resized(vec![0.0; 24], [1, 4, 6], &count(3, 9), [1, 3, 9]);
        assert_eq!(wider[..12], [102.0, 103.0, 104.0, 105.0, 106.0, 0.0, 111.0, 112.0, 113.0, 114.0, 115.0, 0.0]);
        let higher = resized(vec![0.0; 12], [1, 3, 4], &count(8, 7), [1, 8, 7]);
        assert_eq!(higher, [123.0, 124.0, 125.0, 0.0, 130.0, 131.0, 132.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
