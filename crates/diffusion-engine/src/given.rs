//! What the pictures that a pass is given take of memory, which may be of any size.

use std::sync::Arc;

use crate::{Area, FromPictures, Origin, Pass, Raster, Resize, Size};

/// Bytes, at the sizes of the pictures themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// From the beginning to the end.
    pub(crate) kept: u64,
    /// Beside that while they are read, prepared and encoded.
    pub(crate) encoding: u64,
    /// Beside that while results are put back into them.
    pub(crate) decoding: u64,
}

impl Given {
    /// Of a pass of so many pictures. Colours are bytes; what is beside them was counted in `canvas.rs`.
    pub(crate) fn of(pass: &Pass, batch: usize) -> Self {
        let control = pass.control.as_ref().map_or(0, area);
        let none = Self { kept: bytes(3, control), encoding: bytes(4, control), decoding: 0 };
        let Origin::Pictures(from) = &pass.start else { return none };
        let pictures = from.pictures.iter().map(area).fold(0, u64::saturating_add);
        let mask = from.inpaint.as_ref().map_or(0, |inpaint| area(&inpaint.mask));
        let largest = from.pictures.iter().map(area).max().unwrap_or(0).max(control).max(mask);
        // One of them is read with an opacity, or later a mask inverted and feathered in copies.
        let read = sum([bytes(4, largest), bytes(4, mask)]);
        let kept = sum([none.kept, bytes(3, pictures), bytes(4, mask)]);
        match from.inpaint.as_ref().map(|inpaint| inpaint.area) {
            // The canvas has the mask; results are laid over a picture that grows by what is mixed, and are as large.
            Some(Area::Masked { .. }) => Self {
                kept: sum([kept, bytes(1, mask)]),
                encoding: sum([read, bytes(6, pictures)]),
                decoding: bytes(11, largest).saturating_add(bytes(3, largest).saturating_mul(batch as u64)),
            },
            // In f32, cut to multiples of the factor.
            Some(Area::Whole) | None if from.resize == Resize::Latent => {
                Self { kept, encoding: sum([read, bytes(15, pictures)]), decoding: 0 }
            }
            Some(Area::Whole) | None => Self { kept, encoding: read, decoding: 0 },
        }
    }

    /// The most of several passes.
    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            kept: self.kept.max(other.kept),
            encoding: self.encoding.max(other.encoding),
            decoding: self.decoding.max(other.decoding),
        }
    }
}

impl FromPictures {
    /// The largest of them, where they are encoded at their own sizes.
    pub(crate) fn own_size(&self) -> Option<Size> {
        let is_part = matches!(self.inpaint.as_ref().map(|inpaint| inpaint.area), Some(Area::Masked { .. }));
        let largest = self.pictures.iter().max_by_key(|picture| area(*picture)).map(|picture| picture.size());
        largest.filter(|_| self.resize == Resize::Latent && !is_part)
    }
}

fn area<const N: usize>(raster: &Arc<Raster<N>>) -> u64 {
    let Size { width, height } = raster.size();
    (width as u64).saturating_mul(height as u64)
}

fn bytes(each: u64, pixels: u64) -> u64 {
    pixels.saturating_mul(each)
}

fn sum<const N: usize>(bytes: [u64; N]) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}
