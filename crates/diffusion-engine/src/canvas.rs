//! The pictures that a pass starts from, at its size: what is encoded of them, what is masked, and what goes around the result.

use std::sync::Arc;

use core_tensor::{Device, Tensor, tensor};

use crate::{
    Area, Error, Fill, FromPictures, Image, Inpaint, Raster, Resize, Size,
    raster::{Kernel, Region, feathered, filled, mixed, recoloured, resampled, resized},
};

/// Pictures to start from, as a pass of a size works on them.
#[derive(Debug)]
pub(crate) struct Canvas {
    from: Arc<FromPictures>,
    /// What is encoded: one for the whole batch, or one for each of it.
    pictures: Vec<Arc<Raster<3>>>,
    masked: Option<Masked>,
}

/// The part of the pictures that is drawn anew.
#[derive(Debug)]
struct Masked {
    /// At the size of the pass.
    work: Raster<1>,
    /// What of each result counts, over `around`.
    visible: Raster<1>,
    /// The pictures that results are put into.
    around: Vec<Arc<Raster<3>>>,
    /// Where in them, if it is a part.
    region: Option<Region>,
}

impl Canvas {
    /// # Errors
    /// [`Error::Picture`] for a mask of nothing, or of another size than the picture that it cuts a part of.
    pub(crate) fn of(from: Arc<FromPictures>, size: Size) -> Result<Self, Error> {
        let whole = |picture: &Arc<Raster<3>>| match from.resize {
            Resize::Latent => picture.clone(),
            how => Arc::new(resized(picture, size, how)),
        };
        let Some(inpaint) = &from.inpaint else {
            let pictures = from.pictures.iter().map(whole).collect();
            return Ok(Self { from, pictures, masked: None });
        };
        let mask = prepared(inpaint);
        let (around, masked): (Vec<_>, _) = match inpaint.area {
            Area::Whole => {
                let work = resized(&mask, size, from.resize);
                let visible = work.map(|[value]| [value.saturating_mul(2)]);
                (from.pictures.iter().map(whole).collect(), (work, visible, None))
            }
            Area::Masked { padding } => {
                let region = region(&mask, padding, size).ok_or_else(nothing_masked)?;
                if let Some(other) = from.pictures.iter().find(|picture| picture.size() != mask.size()) {
                    let (expected, found) = (format!("{} as the picture", other.size()), mask.size().to_string());
                    return Err(Error::Picture {
                        what: "the size of a mask of which a part is worked on",
                        expected,
                        found,
                    });
                }
                let work = resized(&mask.crop(region), size, Resize::Fill);
                (from.pictures.clone(), (work, mask, Some(region)))
            }
        };
        let (work, visible, region) = masked;
        let encoded = |picture: &Arc<Raster<3>>| {
            let part = region.map(|region| Arc::new(resized(&picture.crop(region), size, Resize::Fill)));
            let part = part.unwrap_or_else(|| picture.clone());
            if inpaint.fill == Fill::Original { part } else { Arc::new(filled(&part, &work)) }
        };
        let pictures = around.iter().map(encoded).collect();
        Ok(Self { from, pictures, masked: Some(Masked { work, visible, around, region }) })
    }

    pub(crate) fn from(&self) -> &FromPictures {
        &self.from
    }

    pub(crate) fn inpaint(&self) -> Option<&Inpaint> {
        self.from.inpaint.as_ref()
    }

    /// What is encoded, `[1, 3, h, w]` each, -1 to 1; sides are cut to multiples of a factor, of which there is one at least.
    pub(crate) fn pixels(&self, factor: usize, device: &Device) -> Result<Vec<Tensor<4>>, Error> {
        let pixels = |picture: &Arc<Raster<3>>| {
            let Size { width, height } = picture.size();
            let size = Size { width: width / factor * factor, height: height / factor * factor };
            if size.width == 0 || size.height == 0 {
                let (expected, found) = (format!("sides of {factor} at least"), picture.size().to_string());
                return Err(Error::Picture { what: "a picture to start from", expected, found });
            }
            Ok(as_tensor(&picture.crop(Region { left: 0, top: 0, size }), device))
        };
        self.pictures.iter().map(pixels).collect()
    }

    /// The mask at the size of the pass, `[1, 1, h, w]`, 1 where it is drawn anew.
    pub(crate) fn mask(&self, device: &Device) -> Option<Tensor<4>> {
        let (work, round) = (&self.masked.as_ref()?.work, self.rounds());
        let Size { width, height } = work.size();
        let value = |&[value]: &[u8; 1]| share(value, round);
        Some(tensor(work.pixels().iter().map(value).collect(), [1, 1, height, width], device))
    }

    /// The mask over a latent of this height and width, row by row, 1 where it is drawn anew.
    ///
    /// Forge modules/processing.py `StableDiffusionProcessingImg2Img.init`, dfdcbab: `latmask`.
    pub(crate) fn latent_mask(&self, [height, width]: [usize; 2]) -> Option<Vec<f32>> {
        let (work, round) = (&self.masked.as_ref()?.work, self.rounds());
        let small = resampled(work, Size { width, height }, Kernel::Bicubic);
        Some(small.pixels().iter().map(|&[value]| share(value, round)).collect())
    }

    fn rounds(&self) -> bool {
        // What is mixed softly has no hard edge.
        self.inpaint().is_some_and(|inpaint| inpaint.round && inpaint.soft.is_none())
    }

    /// A result as it is saved: with the colours of the picture that it started from where that is wanted, and with what is not masked around
    /// it, bit by bit. `changed` is how much of it counts, at the size of the pass, in the place of the mask's own.
    pub(crate) fn finished(&self, picture: usize, image: Image, changed: Option<Raster<1>>) -> Image {
        let Image { width, height, pixels, infotext } = image;
        let pixels = pixels.as_chunks::<3>().0.to_vec();
        let drawn = Raster::new(Size { width, height }, pixels).expect("an image has as many pixels as its size says");
        let own = |of: &'_ [Arc<Raster<3>>]| of.get(picture).or(of.first()).cloned();
        let drawn = match own(&self.pictures).filter(|_| self.from.recoloured) {
            Some(like) => recoloured(&drawn, &like),
            None => drawn,
        };
        let result = match self.masked.as_ref().and_then(|masked| Some((masked, own(&masked.around)?))) {
            Some((masked, around)) => masked.within(&around, &drawn, changed),
            None => drawn,
        };
        let Size { width, height } = result.size();
        Image { width, height, pixels: result.pixels().as_flattened().to_vec(), infotext }
    }
}

impl Masked {
    fn within(&self, around: &Raster<3>, drawn: &Raster<3>, changed: Option<Raster<1>>) -> Raster<3> {
        let drawn = placed(around, drawn, self.region);
        let visible = match changed {
            // What the mask leaves alone stays as it is.
            Some(changed) => placed(&Raster::plain(around.size(), [0]), &changed, self.region)
                .with(&self.visible, |[changed], [masked]| [if masked > 0 { changed } else { 0 }]),
            None => self.visible.clone(),
        };
        let both = drawn.with(around, |[r, g, b], [red, green, blue]| [r, g, b, red, green, blue]);
        both.with(&visible, |[r, g, b, red, green, blue], [share]| {
            [mixed(r, red, share), mixed(g, green, share), mixed(b, blue, share)]
        })
    }
}

/// A result in its place in a picture.
fn placed<const C: usize>(base: &Raster<C>, part: &Raster<C>, region: Option<Region>) -> Raster<C> {
    let Some(Region { left, top, size }) = region else { return part.clone() };
    let mut out = base.clone();
    out.paste(&resized(part, size, Resize::Crop), left as isize, top as isize);
    out
}

/// 0 to 1, or one of both.
fn share(value: u8, round: bool) -> f32 {
    let share = f32::from(value) / 255.0;
    if round { share.round_ties_even() } else { share }
}

/// `[1, 3, h, w]`, -1 to 1.
pub(crate) fn as_tensor(raster: &Raster<3>, device: &Device) -> Tensor<4> {
    let Size { width, height } = raster.size();
    let plane = |channel: usize| raster.pixels().iter().map(move |pixel| f32::from(pixel[channel]) / 255.0 * 2.0 - 1.0);
    let mut values = Vec::with_capacity(3 * width * height);
    values.extend((0..3).flat_map(plane));
    tensor(values, [1, 3, height, width], device)
}

/// The mask of a request as it is worked with.
fn prepared(inpaint: &Inpaint) -> Raster<1> {
    let mask = inpaint.mask.as_mask(inpaint.round && inpaint.soft.is_none());
    let mask = if inpaint.invert { mask.map(|[value]| [255 - value]) } else { mask };
    feathered(&mask, inpaint.blur)
}

fn nothing_masked() -> Error {
    Error::Picture {
        what: "the mask of which a part is worked on",
        expected: "white somewhere".into(),
        found: "black".into(),
    }
}

/// What is masked, with so many pixels around it, widened to the shape of a size as far as there is room; `None` where nothing is.
///
/// Forge modules/masking.py `get_crop_region_v2` and `expand_crop_region`, dfdcbab.
fn region(mask: &Raster<1>, padding: usize, size: Size) -> Option<Region> {
    let Size { width, height } = mask.size();
    let is_masked = |(i, _): &(usize, &[u8; 1])| mask.pixels()[*i][0] > 0;
    let places = || mask.pixels().iter().enumerate().filter(is_masked).map(|(i, _)| (i % width, i / width));
    let (left, right) = (places().map(|(x, _)| x).min()?, places().map(|(x, _)| x).max()?);
    let (top, bottom) = (places().map(|(_, y)| y).min()?, places().map(|(_, y)| y).max()?);
    let padded = |from: usize, to: usize, side: usize| [from.saturating_sub(padding), (to + 1 + padding).min(side)];
    let (mut across, mut down) = (padded(left, right, width), padded(top, bottom, height));
    let wanted = size.width as f64 / size.height as f64;
    let [own_width, own_height] = [across, down].map(|[start, end]| (end - start) as f64);
    if own_width / own_height > wanted {
        down = widened(down, (own_width / wanted - own_height) as usize, height);
    } else {
        across = widened(across, (own_height * wanted - own_width) as usize, width);
    }
    let size = Size { width: across[1] - across[0], height: down[1] - down[0] };
    Some(Region { left: across[0], top: down[0], size })
}

/// A range that grows in both directions, inside a side.
fn widened([start, end]: [usize; 2], by: usize, side: usize) -> [usize; 2] {
    let (mut start, mut end, side) = (start as isize - (by / 2) as isize, (end + by - by / 2) as isize, side as isize);
    if end >= side {
        start -= end - side;
        end = side;
    }
    if start < 0 {
        end = (end - start).min(side);
        start = 0;
    }
    [start as usize, end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: usize, height: usize) -> Size {
        Size { width, height }
    }

    fn mask(side: usize, masked: impl Fn(usize, usize) -> bool) -> Raster<1> {
        let value = |i: usize| [if masked(i % side, i / side) { 255 } else { 0 }];
        Raster::new(size(side, side), (0..side * side).map(value).collect()).unwrap()
    }

    #[test]
    fn a_region_holds_what_is_masked_in_the_shape_of_the_pass_and_stays_inside() {
        let found = |masked: fn(usize, usize) -> bool, padding, wanted| {
            let Region { left, top, size } = region(&mask(100, masked), padding, wanted).unwrap();
            [left, top, size.width, size.height]
        };
        // expected values: get_crop_region_v2 and expand_crop_region of Forge, dfdcbab
        assert_eq!(found(|x, y| (40..60).contains(&x) && (45..50).contains(&y), 0, size(512, 512)), [40, 38, 20, 20]);
        assert_eq!(found(|x, y| (40..60).contains(&x) && (45..50).contains(&y), 8, size(512, 512)), [32, 30, 36, 36]);
        assert_eq!(found(|x, y| x < 5 && y > 90, 4, size(64, 128)), [0, 82, 9, 18]);
        assert_eq!(found(|x, y| x == 99 && y == 0, 0, size(128, 64)), [98, 0, 2, 1]);
        assert_eq!(found(|_, _| true, 32, size(512, 512)), [0, 0, 100, 100]);
        assert_eq!(region(&mask(10, |_, _| false), 4, size(64, 64)), None);
    }

    fn inpaint(mask: Raster<1>, area: Area) -> Inpaint {
        let mask = Arc::new(mask.map(|[value]| [value, value, value, 255]));
        let (fill, soft) = (Fill::Original, None);
        Inpaint { mask, blur: 2.0, round: true, invert: false, fill, area, hidden: 1.0, soft }
    }

    #[test]
    fn what_is_not_masked_is_bit_for_bit_that_of_the_picture() {
        let noisy = |i: usize| [(i * 7 % 256) as u8, (i * 31 % 256) as u8, (i * 101 % 256) as u8];
        let picture = Raster::new(size(64, 64), (0..4096).map(noisy).collect()).unwrap();
        let is_masked = |x: usize, y: usize| (20..40).contains(&x) && (24..44).contains(&y);
        for (area, wanted) in [
            (Area::Whole, size(64, 64)),
            (Area::Masked { padding: 4 }, size(64, 64)),
            (Area::Masked { padding: 0 }, size(32, 64)),
        ] {
            let from =
                FromPictures { inpaint: Some(inpaint(mask(64, is_masked), area)), ..FromPictures::of(picture.clone()) };
            let canvas = Canvas::of(Arc::new(from), wanted).unwrap();
            let pixels = vec![255; wanted.width * wanted.height * 3];
            let drawn = Image { width: wanted.width, height: wanted.height, pixels, infotext: "a".into() };
            for changed in [None, Some(Raster::plain(wanted, [255]))] {
                let result = canvas.finished(0, drawn.clone(), changed);
                assert_eq!((result.width, result.height), (64, 64));
                let is_far = |i: usize| {
                    let (x, y) = (i % 64, i / 64);
                    !(13..47).contains(&x) || !(17..51).contains(&y)
                };
                for (i, pixel) in result.pixels.as_chunks::<3>().0.iter().enumerate() {
                    assert!(!is_far(i) || *pixel == noisy(i), "{area:?} {i}");
                }
                assert_eq!(result.pixels[3 * (34 * 64 + 30)..][..3], [255; 3], "{area:?}");
            }
        }
    }

    #[test]
    fn a_mask_of_nothing_or_of_another_size_has_no_part_to_work_on() {
        let picture = Raster::plain(size(64, 64), [9; 3]);
        let canvas = |mask: Raster<1>, area| {
            let from = FromPictures { inpaint: Some(inpaint(mask, area)), ..FromPictures::of(picture.clone()) };
            Canvas::of(Arc::new(from), size(32, 32))
        };
        let part = Area::Masked { padding: 0 };
        assert!(matches!(canvas(mask(64, |_, _| false), part), Err(Error::Picture { .. })));
        assert!(matches!(canvas(mask(32, |x, _| x == 3), part), Err(Error::Picture { .. })));
        let nothing = canvas(mask(32, |_, _| false), Area::Whole).unwrap();
        assert!(nothing.latent_mask([4, 4]).unwrap().iter().all(|&share| share == 0.0));
    }
}
