//! How much of a result counts where it is mixed softly with the picture that it started from: by how far its latent has moved.

use crate::{Raster, Size, SoftSettings, raster};

/// What of a result counts, at the size of the pass, of latents `[c, h, w]` before and after.
///
/// Forge extensions-builtin/soft-inpainting `apply_adaptive_masks`, dfdcbab.
pub(crate) fn changed(
    soft: SoftSettings,
    [before, after]: [&[f32]; 2],
    mask: &[f32],
    [height, width]: [usize; 2],
    size: Size,
) -> Raster<1> {
    let area = height * width;
    let moved = |place: usize| {
        let differences = before[place..].iter().step_by(area).zip(after[place..].iter().step_by(area));
        differences.map(|(before, after)| (after - before).powi(2)).sum::<f32>().sqrt()
    };
    let distances: Vec<f32> = (0..area).map(moved).collect();
    let kernel = kernel();
    let most = ranked(&distances, width, &kernel, [0.9, 1.0]);
    let middle = ranked(&most, width, &kernel, [0.25, 0.75]);
    let opacity = |(distance, mask): (f32, &f32)| {
        let hidden = 1.0 - mask.clamp(0.0, 1.0).powf(soft.preservation / 2.0);
        let weight = 0.5 * (1.0 - soft.mask_influence) + hidden * soft.mask_influence;
        let half = soft.threshold * (weight / (1.000_01 - weight));
        // Where both are nothing, nothing has changed.
        let far = if distance == 0.0 { 0.0 } else { distance / half };
        let kept = 1.0 / (1.0 + far.powf(soft.threshold_contrast));
        let kept = kept * kept * kept * (kept * (6.0 * kept - 15.0) + 10.0);
        [(255.0 * (1.0 - kept)) as u8]
    };
    let small = middle.into_iter().zip(mask).map(opacity).collect();
    let small = Raster::new(Size { width, height }, small).expect("a latent has sides and as many places as they say");
    raster::softened(&raster::resized(&small, size, crate::Resize::Fill))
}

/// Places on each side of the middle of the kernel.
const REACH: usize = 2;

/// A Gauss curve that ends right behind the kernel's edge.
fn kernel() -> [[f32; 2 * REACH + 1]; 2 * REACH + 1] {
    const RADIUS: f64 = 1.5;
    let gauss = |square: f64| (-square / (RADIUS * RADIUS)).exp();
    let end = gauss((REACH as f64 + 1.0).powi(2));
    let away = |i: usize| (i as f64 - REACH as f64).powi(2);
    std::array::from_fn(|y| std::array::from_fn(|x| ((gauss(away(x) + away(y)) - end) / (1.0 - end)).max(0.0) as f32))
}

/// At each place the mean of those around it, of which in their order only a range of all weight counts, one weight wide at least. Around
/// the whole there is nothing.
fn ranked(values: &[f32], width: usize, kernel: &[[f32; 2 * REACH + 1]; 2 * REACH + 1], range: [f32; 2]) -> Vec<f32> {
    let height = values.len() / width;
    let of_place = |place: usize| {
        let (x, y) = (place % width, place / width);
        let at = |dx: usize, dy: usize| {
            let (x, y) = ((x + dx).checked_sub(REACH)?, (y + dy).checked_sub(REACH)?);
            (x < width && y < height).then(|| values[y * width + x])
        };
        let side = 0..2 * REACH + 1;
        let mut around: Vec<(f32, f32)> = side
            .clone()
            .flat_map(|dy| side.clone().map(move |dx| (dx, dy)))
            .map(|(dx, dy)| (at(dx, dy).unwrap_or(0.0), kernel[dy][dx]))
            .collect();
        around.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let all: f32 = around.iter().map(|(_, weight)| weight).sum();
        let [mut start, mut end] = range.map(|share| (all * share).clamp(0.0, all));
        if end - start < 1.0 {
            let middle = (start + end) / 2.0;
            (start, end) = ((middle - 0.5).max(0.0), (middle + 0.5).min(all));
        }
        let (mut before, mut sum, mut counted) = (0.0f32, 0.0, 0.0);
        for (value, weight) in around {
            let overlap = (end.min(before + weight) - start.max(before)).max(0.0);
            sum += value * overlap;
            counted += overlap;
            before += weight;
        }
        if counted > 0.0 { sum / counted } else { 0.0 }
    };
    (0..values.len()).map(of_place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_moved_is_kept_and_what_has_moved_far_counts() {
        let (before, mask) = (vec![0.0; 4 * 64], vec![1.0; 64]);
        let after: Vec<f32> = (0..4 * 64).map(|i| if i % 8 < 4 { 0.0 } else { 9.0 }).collect();
        let size = Size { width: 64, height: 64 };
        let found = changed(SoftSettings::default(), [&before, &after], &mask, [8, 8], size);
        let [unmoved, moved] = [0, 32 * 64 + 50].map(|at: usize| found.pixels()[at][0]);
        assert!(unmoved < 16 && moved > 240, "{unmoved} {moved}");
        let nothing = changed(SoftSettings::default(), [&before, &before], &mask, [8, 8], size);
        assert!(nothing.pixels().iter().all(|&pixel| pixel == [0]));
    }
}
