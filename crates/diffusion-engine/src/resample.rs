//! Pictures of bytes in another size, byte for byte as Pillow resizes them.
//!
//! Reference: Pillow 12, src/libImaging/Resample.c and Geometry.c.

/// How a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A windowed sinc over six pixels of the coarser picture.
    Lanczos,
    /// The nearest pixel.
    Nearest,
}

/// Channels of a pixel.
const CHANNELS: usize = 3;
/// Bits behind the point of a weight.
const BITS: u32 = 32 - 8 - 2;
/// How far the sinc reaches.
const REACH: f64 = 3.0;

/// The pixels that one is made of: where they begin, and their weights.
type Taps = (usize, Vec<i64>);

impl Filter {
    /// Rows of red, green and blue in another height and width.
    ///
    /// # Panics
    /// Unless there are `height · width · 3` bytes, and every side has a pixel.
    pub fn resized(self, rgb: &[u8], [height, width]: [usize; 2], [to_height, to_width]: [usize; 2]) -> Vec<u8> {
        assert!(rgb.len() == height * width * CHANNELS, "a picture of {height} x {width}");
        assert!([height, width, to_height, to_width].iter().all(|side| *side > 0), "a picture without pixels");
        match self {
            Self::Nearest => {
                let (rows, columns) = (nearest(height, to_height), nearest(width, to_width));
                let places = rows.iter().flat_map(|row| columns.iter().map(move |column| row * width + column));
                places.flat_map(|at| &rgb[at * CHANNELS..][..CHANNELS]).copied().collect()
            }
            Self::Lanczos => {
                // Across first; a side that stays as it is has no pass of its own.
                let across = match width == to_width {
                    true => rgb.to_vec(),
                    false => across(rgb, width, &taps(width, to_width)),
                };
                match height == to_height {
                    true => across,
                    false => down(&across, to_width * CHANNELS, &taps(height, to_height)),
                }
            }
        }
    }
}

fn nearest(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    (0..to).map(|i| (((i as f64 + 0.5) * scale) as usize).min(from - 1)).collect()
}

fn across(rgb: &[u8], width: usize, columns: &[Taps]) -> Vec<u8> {
    let of_row = |row: &[u8]| -> Vec<u8> {
        let of_pixel = |(first, weights): &Taps| {
            [0, 1, 2].map(|channel| summed(weights, |tap| row[(first + tap) * CHANNELS + channel]))
        };
        columns.iter().flat_map(of_pixel).collect()
    };
    rgb.chunks_exact(width * CHANNELS).flat_map(of_row).collect()
}

fn down(rgb: &[u8], stride: usize, rows: &[Taps]) -> Vec<u8> {
    let of_row = |(first, weights): &Taps| -> Vec<u8> {
        (0..stride).map(|at| summed(weights, |tap| rgb[(first + tap) * stride + at])).collect()
    };
    rows.iter().flat_map(of_row).collect()
}

fn summed(weights: &[i64], value: impl Fn(usize) -> u8) -> u8 {
    let sum = weights.iter().enumerate().map(|(tap, weight)| weight * i64::from(value(tap))).sum::<i64>();
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = REACH * stretch;
    let of_pixel = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|at| lanczos((at as f64 - centre + 0.5) / stretch)).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / total * f64::from(1 << BITS)).round() as i64;
        (first, weights.iter().map(fixed).collect())
    };
    (0..to).map(of_pixel).collect()
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| match x * std::f64::consts::PI {
        0.0 => 1.0,
        x => x.sin() / x,
    };
    if (-REACH..REACH).contains(&x) { sinc(x) * sinc(x / REACH) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use fixtures::Golden;

    use super::*;

    #[test]
    fn a_picture_of_another_size_is_that_of_pillow_byte_for_byte() {
        let golden = Golden::open("resample.safetensors");
        let bytes = |name: &str| golden.floats(name).into_iter().map(|x| x as u8).collect::<Vec<_>>();
        let sides = |name: &str| [golden.shape(name)[0], golden.shape(name)[1]];
        let (x, from) = (bytes("x"), sides("x"));
        let mut compared = 0;
        for name in golden.names().iter().filter(|name| *name != "x") {
            let filter = if name.starts_with("lanczos") { Filter::Lanczos } else { Filter::Nearest };
            assert!(filter.resized(&x, from, sides(name)) == bytes(name), "{name}");
            compared += 1;
        }
        assert_eq!(compared, 14);
    }
}
