use super::{
    Raster,
    resample::{Kernel, part_resampled, resampled},
};
use crate::Size;

/// How a picture of another shape is brought to a size.
///
/// Forge modules/images.py `resize_image`, dfdcbab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// Stretched.
    #[default]
    Just,
    /// As large as it has to be to cover the size; what stands out is cut off.
    Crop,
    /// As large as it can be inside the size; what is left is filled with the colours of its edges.
    Fill,
    /// Encoded as it is, and stretched as a latent.
    Latent,
}

impl Resize {
    /// What configs call them.
    pub const IDS: [&str; 4] = ["just", "crop", "fill", "latent"];

    /// All of them, in the same order.
    pub const ALL: [Self; 4] = [Self::Just, Self::Crop, Self::Fill, Self::Latent];
}

/// A raster brought to a size; as a latent is stretched, a raster is filled.
pub(crate) fn resized<const C: usize>(raster: &Raster<C>, size: Size, how: Resize) -> Raster<C> {
    let Size { width, height } = size;
    let own = raster.size();
    // Of the ratios of both, the other sides as whole numbers say which is larger.
    let is_wider = width * own.height > own.width * height;
    let scaled = |fixed_width: bool| match fixed_width {
        true => Size { width, height: (own.height * width / own.width).max(1) },
        false => Size { width: (own.width * height / own.height).max(1), height },
    };
    let is_same = width * own.height == own.width * height;
    let inner = match how {
        Resize::Just => return resampled(raster, size, Kernel::Lanczos),
        _ if is_same => return resampled(raster, size, Kernel::Lanczos),
        Resize::Crop => scaled(is_wider),
        Resize::Fill | Resize::Latent => scaled(!is_wider),
    };
    let scaled = resampled(raster, inner, Kernel::Lanczos);
    let offset = |whole: usize, part: usize| (whole / 2) as isize - (part / 2) as isize;
    let (left, top) = (offset(width, inner.width), offset(height, inner.height));
    let mut out = Raster::plain(size, [0; C]);
    out.paste(&scaled, left, top);
    if how == Resize::Crop {
        return out;
    }
    let edge = |size: Size, columns: [usize; 2], rows: [usize; 2]| {
        let range = |[start, end]: [usize; 2]| start as f64..end as f64;
        part_resampled(&scaled, size, [range(columns), range(rows)], Kernel::Bicubic)
    };
    if inner.height < height {
        // What is left of an odd number is below, where the reference leaves a black line; it goes on with the edge here.
        for (depth, at, row) in
            [(top as usize, 0, 0), (height - inner.height - top as usize, top as usize + inner.height, inner.height)]
        {
            if depth > 0 {
                out.paste(&edge(Size { width, height: depth }, [0, width], [row, row]), 0, at as isize);
            }
        }
    }
    if inner.width < width {
        for (depth, at, column) in
            [(left as usize, 0, 0), (width - inner.width - left as usize, left as usize + inner.width, inner.width)]
        {
            if depth > 0 {
                out.paste(&edge(Size { width: depth, height }, [column, column], [0, height]), at as isize, 0);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: usize, height: usize) -> Size {
        Size { width, height }
    }

    #[test]
    fn any_shape_is_brought_to_any_size_and_no_place_stays_empty() {
        for own in [size(1, 1), size(1, 900), size(900, 1), size(17, 31), size(64, 64), size(31, 17)] {
            for wanted in [size(64, 64), size(16, 48), size(48, 16), size(33, 17), size(1, 1)] {
                for how in [Resize::Just, Resize::Crop, Resize::Fill, Resize::Latent] {
                    let plain = resized(&Raster::plain(own, [7u8, 200, 90]), wanted, how);
                    assert_eq!(plain, Raster::plain(wanted, [7, 200, 90]), "{own} {wanted} {how:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_cropped_and_what_is_filled_is_where_the_picture_is_not() {
        let halves = Raster::new(size(40, 20), (0..800).map(|i| [if i % 40 < 20 { 10u8 } else { 240 }]).collect());
        let halves = halves.unwrap();
        let filled = resized(&halves, size(40, 60), Resize::Fill);
        assert!(filled.rows().all(|row| row[0] == [10] && row[39] == [240]));
        let cropped = resized(&halves, size(20, 20), Resize::Crop);
        assert_eq!((cropped.pixels()[0], cropped.pixels()[19]), ([10], [240]));
    }
}
