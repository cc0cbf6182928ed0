//! Pixels on the host, eight bits a channel: what is read of picture files, and what is done to them before and after a model.

mod blur;
mod colours;
mod file;
mod fill;
mod resample;
mod resize;

use std::fmt;

use crate::Size;

pub(crate) use self::file::{Room, read_turned};
pub(crate) use self::{
    blur::{feathered, softened},
    colours::recoloured,
    fill::filled,
};
pub use self::{
    file::{read_picture, read_picture_within},
    resize::Resize,
};
pub(crate) use self::{
    resample::{Kernel, resampled},
    resize::resized,
};

/// Pixels of `C` bytes each, row by row: a mask (1), colours (3) or colours with their opacity (4).
#[derive(Clone, PartialEq, Eq)]
pub struct Raster<const C: usize> {
    size: Size,
    pixels: Vec<[u8; C]>,
}

/// A rectangle of a raster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) size: Size,
}

impl<const C: usize> Raster<C> {
    /// Rows of pixels, as many as the size says; `None` where they are not, or where a side is 0 or above [`Size::MAX`].
    pub fn new(size: Size, pixels: Vec<[u8; C]>) -> Option<Self> {
        let sides = 1..=Size::MAX;
        let fits = sides.contains(&size.width) && sides.contains(&size.height);
        (fits && size.width.checked_mul(size.height) == Some(pixels.len())).then_some(Self { size, pixels })
    }

    /// One colour all over.
    pub(crate) fn plain(size: Size, pixel: [u8; C]) -> Self {
        Self { size, pixels: vec![pixel; size.width * size.height] }
    }

    /// Its width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Its pixels, row by row.
    pub fn pixels(&self) -> &[[u8; C]] {
        &self.pixels
    }

    pub(crate) fn map<const D: usize>(&self, pixel: impl Fn([u8; C]) -> [u8; D]) -> Raster<D> {
        Raster { size: self.size, pixels: self.pixels.iter().map(|&at| pixel(at)).collect() }
    }

    /// What becomes of each pixel and the one in its place of another raster of the same size.
    pub(crate) fn with<const D: usize, const E: usize>(
        &self,
        other: &Raster<D>,
        pixel: impl Fn([u8; C], [u8; D]) -> [u8; E],
    ) -> Raster<E> {
        let pixels = self.pixels.iter().zip(&other.pixels).map(|(&own, &other)| pixel(own, other)).collect();
        Raster { size: self.size, pixels }
    }

    fn rows(&self) -> impl Iterator<Item = &[[u8; C]]> {
        self.pixels.chunks_exact(self.size.width)
    }

    /// A part of it, which must lie inside.
    pub(crate) fn crop(&self, Region { left, top, size }: Region) -> Self {
        let mut pixels = Vec::with_capacity(size.width * size.height);
        let rows = self.rows().skip(top).take(size.height);
        rows.for_each(|row| pixels.extend_from_slice(&row[left..left + size.width]));
        Self { size, pixels }
    }

    /// Puts another one over it; what lies outside is left out.
    pub(crate) fn paste(&mut self, other: &Self, left: isize, top: isize) {
        let Size { width, height } = self.size;
        let inside = |at: isize, side: usize| usize::try_from(at).ok().filter(|&at| at < side);
        for (row, y) in other.rows().zip(top..) {
            let Some(y) = inside(y, height) else { continue };
            for (&pixel, x) in row.iter().zip(left..) {
                if let Some(x) = inside(x, width) {
                    self.pixels[y * width + x] = pixel;
                }
            }
        }
    }
}

impl Raster<4> {
    /// Its colours over a background, by their opacity.
    ///
    /// Forge modules/images.py `flatten`, dfdcbab.
    pub fn over(&self, background: [u8; 3]) -> Raster<3> {
        self.map(|[r, g, b, a]| {
            let [red, green, blue] = background;
            [mixed(r, red, a), mixed(g, green, a), mixed(b, blue, a)]
        })
    }

    /// What it says as a mask: its opacity where not all of it is opaque, and otherwise its brightness.
    ///
    /// Forge modules/processing.py `create_binary_mask`, dfdcbab; `round` has half an opacity count as all or none of it.
    pub(crate) fn as_mask(&self, round: bool) -> Raster<1> {
        let is_opaque = self.pixels.iter().all(|pixel| pixel[3] == 255);
        self.map(|[r, g, b, a]| match (is_opaque, round) {
            (true, _) => [brightness([r, g, b])],
            (false, true) => [if a > 128 { 255 } else { 0 }],
            (false, false) => [a],
        })
    }
}

/// Pillow's grey of a colour, ITU-R 601-2 (Convert.c `L24`).
pub(crate) fn brightness([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// One value over another, by the upper one's opacity of 255; either stays as it is where the other does not count.
pub(crate) fn mixed(upper: u8, lower: u8, opacity: u8) -> u8 {
    let (upper, lower, opacity) = (u32::from(upper), u32::from(lower), u32::from(opacity));
    ((2 * (upper * opacity + lower * (255 - opacity)) + 255) / 510) as u8
}

impl<const C: usize> fmt::Debug for Raster<C> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Raster<{C}>({})", self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raster_has_as_many_pixels_as_its_size_says() {
        let new = |width, height, pixels| Raster::new(Size { width, height }, vec![[0u8]; pixels]).is_some();
        assert!(new(3, 2, 6) && new(Size::MAX, 1, Size::MAX));
        assert!(!new(3, 2, 5) && !new(0, 2, 0) && !new(Size::MAX + 1, 1, Size::MAX + 1) && !new(usize::MAX, 2, 6));
    }

    #[test]
    fn what_counts_wholly_or_not_at_all_keeps_every_bit() {
        for value in 0..=255 {
            for other in [0, 1, 127, 255] {
                assert_eq!((mixed(value, other, 255), mixed(other, value, 0)), (value, value));
                assert_eq!(mixed(value, value, other), value);
            }
        }
        assert_eq!((mixed(255, 0, 128), mixed(0, 255, 128)), (128, 127));
    }

    #[test]
    fn what_is_resampled_blurred_and_filled_is_that_of_pillow_bit_for_bit() {
        let golden = fixtures::Golden::open("rasters/expected.safetensors");
        let bytes = |name: &str| golden.floats(name).into_iter().map(|value| value as u8).collect::<Vec<u8>>();
        let size = Size { width: 41, height: 29 };
        let picture = Raster::new(size, bytes("picture").as_chunks::<3>().0.to_vec()).unwrap();
        let mask = Raster::new(size, bytes("mask").into_iter().map(|value| [value]).collect()).unwrap();
        let mut compared = 0;
        for name in golden.names() {
            let Some((of, how)) = name.split_once('.') else { continue };
            let sides = || how.split_once('x').map(|(width, height)| [width, height].map(|side| side.parse().unwrap()));
            let found = match of {
                "lanczos" | "bicubic" => {
                    let [width, height] = sides().unwrap();
                    let kernel = if of == "lanczos" { Kernel::Lanczos } else { Kernel::Bicubic };
                    resampled(&picture, Size { width, height }, kernel)
                }
                "gauss" => blur::gauss(&picture, how.parse().unwrap()),
                _ => continue,
            };
            assert!(found.pixels.as_flattened() == bytes(&name), "{name}");
            compared += 1;
        }
        assert_eq!(compared, 12);
        assert!(filled(&picture, &mask).pixels.as_flattened() == bytes("filled"));
    }

    #[test]
    fn what_is_pasted_over_an_edge_is_cut_off_there() {
        let size = |width, height| Size { width, height };
        let mut raster = Raster::plain(size(3, 2), [0u8]);
        raster.paste(&Raster::plain(size(2, 2), [1]), -1, -1);
        raster.paste(&Raster::plain(size(2, 2), [2]), 2, 1);
        assert_eq!(raster.pixels.as_flattened(), [1, 0, 0, 0, 0, 2]);
        assert_eq!(raster.crop(Region { left: 1, top: 1, size: size(2, 1) }).pixels.as_flattened(), [0, 2]);
    }

    #[test]
    fn a_mask_is_the_opacity_of_what_is_not_opaque_and_else_its_brightness() {
        let mask = |pixels: Vec<[u8; 4]>, round| {
            let raster = Raster::new(Size { width: 2, height: 1 }, pixels).unwrap();
            raster.as_mask(round).pixels.as_flattened().to_vec()
        };
        assert_eq!(mask(vec![[255, 255, 255, 255], [255, 0, 0, 255]], true), [255, 76]);
        assert_eq!(mask(vec![[255, 255, 255, 128], [0, 0, 0, 129]], true), [0, 255]);
        assert_eq!(mask(vec![[255, 255, 255, 128], [0, 0, 0, 129]], false), [128, 129]);
    }
}
