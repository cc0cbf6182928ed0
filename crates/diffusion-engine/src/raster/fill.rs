use super::{Raster, blur::gauss};

/// Radii of the blurs that are laid over each other, the widest below, and how often each.
const BLURS: [(f32, usize); 6] = [(256.0, 1), (64.0, 1), (16.0, 2), (4.0, 4), (2.0, 2), (0.0, 1)];

/// A picture whose masked part has the colours of what lies around it.
///
/// Forge modules/masking.py `fill`, dfdcbab, with Pillow's arithmetic of colours that are multiplied with their opacity.
pub(crate) fn filled(picture: &Raster<3>, mask: &Raster<1>) -> Raster<3> {
    let kept = picture.with(mask, |[r, g, b], [masked]| {
        let kept = 255 - masked;
        [part(r, kept), part(g, kept), part(b, kept), kept]
    });
    let mut out = Raster::plain(picture.size(), [0u8; 4]);
    for (radius, times) in BLURS {
        let blurred = gauss(&kept, radius).map(whole);
        for _ in 0..times {
            out = out.with(&blurred, over);
        }
    }
    out.map(|[r, g, b, _]| [r, g, b])
}

/// A share of 255.
fn part(value: u8, of: u8) -> u8 {
    let product = u32::from(value) * u32::from(of) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// A colour that was multiplied with its opacity, as it is.
fn whole([r, g, b, a]: [u8; 4]) -> [u8; 4] {
    if a == 0 || a == 255 {
        return [r, g, b, a];
    }
    let divided = |value: u8| (255 * u32::from(value) / u32::from(a)).min(255) as u8;
    [divided(r), divided(g), divided(b), a]
}

/// One colour over another (AlphaComposite.c).
fn over(lower: [u8; 4], upper: [u8; 4]) -> [u8; 4] {
    const BITS: u32 = 7;
    let opacity = u32::from(upper[3]);
    if opacity == 0 {
        return lower;
    }
    let below = u32::from(lower[3]) * (255 - opacity);
    let both = opacity * 255 + below;
    let share = opacity * 255 * 255 * (1 << BITS) / both;
    let divided = |value: u32| ((value >> 8) + value) >> 8;
    let colour = |i: usize| {
        let sum = u32::from(upper[i]) * share + u32::from(lower[i]) * ((255 << BITS) - share);
        (divided(sum + (0x80 << BITS)) >> BITS) as u8
    };
    [colour(0), colour(1), colour(2), divided(both + 0x80) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn a_hole_takes_the_colours_around_it_and_the_rest_stays() {
        let size = Size { width: 32, height: 32 };
        let is_hole = |i: usize| (8..24).contains(&(i % 32)) && (8..24).contains(&(i / 32));
        let picture = (0..1024).map(|i| if is_hole(i) { [0, 0, 0] } else { [200, 100, 50] }).collect();
        let mask = (0..1024).map(|i| [if is_hole(i) { 255 } else { 0 }]).collect();
        let filled = filled(&Raster { size, pixels: picture }, &Raster { size, pixels: mask });
        for (i, pixel) in filled.pixels().iter().enumerate() {
            let near = pixel.iter().zip([200u8, 100, 50]).all(|(&found, expected)| found.abs_diff(expected) <= 12);
            assert!(near && (is_hole(i) || *pixel == [200, 100, 50]), "{i} {pixel:?}");
        }
    }
}
