//! A picture with the distribution of another's colours.

use super::Raster;

/// A picture whose colours are spread as those of another, in CIE Lab, and whose brightness stays.
///
/// Forge modules/processing.py `apply_color_correction`, dfdcbab: scikit-image's `match_histograms` in OpenCV's Lab of eight bits, and the
/// blend mode "luminosity".
pub(crate) fn recoloured(picture: &Raster<3>, like: &Raster<3>) -> Raster<3> {
    let (own, wanted) = (picture.map(lab), like.map(lab));
    let tables = [0, 1, 2].map(|channel| matched(&counts(&own, channel), &counts(&wanted, channel)));
    let recoloured = own.map(|at| rgb([0, 1, 2].map(|channel: usize| tables[channel][usize::from(at[channel])])));
    recoloured.with(picture, as_bright)
}

fn counts(raster: &Raster<3>, channel: usize) -> [f64; 256] {
    let mut counts = [0.0; 256];
    raster.pixels().iter().for_each(|pixel| counts[usize::from(pixel[channel])] += 1.0);
    counts
}

/// What each value becomes so that as many are below it as in the other distribution.
fn matched(own: &[f64; 256], wanted: &[f64; 256]) -> [u8; 256] {
    let shares = |counts: &[f64; 256]| {
        let all: f64 = counts.iter().sum();
        let sums = counts.iter().scan(0.0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        sums.map(|sum| sum / all).collect::<Vec<f64>>()
    };
    let (own, ends) = (shares(own), shares(wanted));
    let known: Vec<(f64, f64)> =
        (0..256).filter(|&value| wanted[value] > 0.0).map(|value| (ends[value], value as f64)).collect();
    std::array::from_fn(|value| {
        let share = own[value];
        let above = known.partition_point(|(end, _)| *end < share);
        let at = match (above.checked_sub(1).map(|below| known[below]), known.get(above)) {
            (None, Some((_, first))) => *first,
            (Some((_, last)), None) => last,
            (Some((start, low)), Some(&(end, high))) => low + (high - low) * (share - start) / (end - start),
            (None, None) => value as f64,
        };
        at as u8
    })
}

/// D65, as OpenCV has it.
const WHITE: [f32; 3] = [0.950_456, 1.0, 1.088_754];

/// sRGB to L·255/100, a + 128, b + 128.
fn lab(colour: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = colour.map(|value| {
        let value = f32::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    let xyz = [
        0.412_453 * r + 0.357_580 * g + 0.180_423 * b,
        0.212_671 * r + 0.715_160 * g + 0.072_169 * b,
        0.019_334 * r + 0.119_193 * g + 0.950_227 * b,
    ];
    let root = |at: usize| {
        let t = xyz[at] / WHITE[at];
        if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 }
    };
    let [x, y, z] = [root(0), root(1), root(2)];
    [(116.0 * y - 16.0) * 2.55, 500.0 * (x - y) + 128.0, 200.0 * (y - z) + 128.0].map(byte)
}

fn rgb([l, a, b]: [u8; 3]) -> [u8; 3] {
    let y = (f32::from(l) / 2.55 + 16.0) / 116.0;
    let roots = [y + (f32::from(a) - 128.0) / 500.0, y, y - (f32::from(b) - 128.0) / 200.0];
    let cube = |at: usize| {
        let root = roots[at];
        let value = if root > 0.206_893 { root.powi(3) } else { (root - 16.0 / 116.0) / 7.787 };
        value * WHITE[at]
    };
    let [x, y, z] = [cube(0), cube(1), cube(2)];
    let linear = [
        3.240_479 * x - 1.537_15 * y - 0.498_535 * z,
        -0.969_256 * x + 1.875_991 * y + 0.041_556 * z,
        0.055_648 * x - 0.204_043 * y + 1.057_311 * z,
    ];
    linear.map(|value| {
        let value = value.clamp(0.0, 1.0);
        byte(255.0 * if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 })
    })
}

/// A colour with the brightness of another: the blend mode "luminosity" of the PDF specification, 11.3.5.3.
fn as_bright(colour: [u8; 3], like: [u8; 3]) -> [u8; 3] {
    let luminosity = |colour: [f32; 3]| 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
    let (colour, like) = (colour.map(f32::from), like.map(f32::from));
    let moved = colour.map(|value| value + luminosity(like) - luminosity(colour));
    let (light, least) = (luminosity(moved), moved.iter().copied().fold(f32::INFINITY, f32::min));
    let most = moved.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let clipped = moved.map(|value| match () {
        () if least < 0.0 => light + (value - light) * light / (light - least),
        () => value,
    });
    let clipped = clipped.map(|value| match () {
        () if most > 255.0 => light + (value - light) * (255.0 - light) / (most - light),
        () => value,
    });
    clipped.map(byte)
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn every_colour_survives_the_way_to_lab_and_back_nearly() {
        for i in 0..4096u32 {
            let colour = [(i * 37 % 256) as u8, (i * 101 % 256) as u8, (i * 211 % 256) as u8];
            let back = rgb(lab(colour));
            let off = colour.iter().zip(back).map(|(&a, b)| a.abs_diff(b)).max();
            assert!(off <= Some(12), "{colour:?} {back:?}");
        }
        assert_eq!([lab([255, 255, 255]), lab([0, 0, 0])], [[255, 128, 128], [0, 128, 128]]);
    }

    #[test]
    fn a_picture_takes_the_colours_of_another_and_keeps_its_own() {
        let size = Size { width: 16, height: 16 };
        let raster = |tint: u8| {
            let grey = |i: u32| [(i * 7 % 200) as u8 + tint, (i * 7 % 200) as u8, (i * 7 % 200) as u8];
            Raster::new(size, (0..256).map(grey).collect()).unwrap()
        };
        let mean = |raster: &Raster<3>, channel: usize| {
            raster.pixels().iter().map(|pixel| f32::from(pixel[channel])).sum::<f32>() / 256.0
        };
        let red = |raster: &Raster<3>| mean(raster, 0) - mean(raster, 1);
        let changed = recoloured(&raster(0), &raster(50));
        assert!(red(&raster(0)) < 1.0 && red(&changed) > 25.0, "{}", red(&changed));
        let same = recoloured(&raster(50), &raster(50));
        let off = |(a, b): (&[u8; 3], &[u8; 3])| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(same.pixels().iter().zip(raster(50).pixels()).map(off).max() <= Some(12));
    }
}
