//! Where a config's run starts: from noise, or from a picture of which a part may be drawn anew.

use std::{path::Path, sync::Arc};

use diffusion_engine::{Area, FromPictures, Inpaint, Origin, Raster, Size, Soft, SoftSettings};

use super::{Config, InpaintArea, SoftInpainting, tables};
use crate::{Error, Result};

/// The sides of a run are multiples of so many pixels, where they follow a picture's: every model takes them.
const MULTIPLE: usize = 16;

impl Config {
    /// Where the run starts, and the size that it has.
    ///
    /// # Errors
    /// [`Error::Run`] for a picture or a mask that can't be read, [`Error::PictureMemory`] for one that there is no room for, [`Error::Value`]
    /// for a mask without a picture, and for a picture that comes to no size.
    pub(super) fn start(&self) -> Result<(Origin, Size)> {
        let own = Size { width: self.image.width, height: self.image.height };
        let Some(image) = &self.img2img.image else {
            if self.inpaint.mask.is_some() {
                let expected = "a picture, as `inpaint.mask` says what of it is drawn anew".into();
                return Err(Error::Value { key: "img2img.image".into(), expected, found: "nothing".into() });
            }
            return Ok((Origin::Noise, own));
        };
        let picture = self.read_once.colours(image, || self.host_ceiling())?;
        let size = if self.img2img.scale == 0.0 { own } else { self.scaled(picture.size())? };
        let tables::Img2img { strength, exact_steps, resize, noise_multiplier, sampled, colour_correction, .. } =
            self.img2img;
        let inpaint = self.inpaint.mask.as_deref().map(|mask| self.inpaint(mask)).transpose()?;
        let from = FromPictures {
            strength,
            exact_steps,
            resize,
            noise_multiplier,
            sampled,
            recoloured: colour_correction,
            inpaint,
            ..FromPictures::of(picture)
        };
        Ok((Origin::Pictures(Arc::new(from)), size))
    }

    /// The picture that says what goes where, where there is one.
    ///
    /// # Errors
    /// [`Error::Run`] for one that can't be read, [`Error::PictureMemory`].
    pub(crate) fn control_picture(&self) -> Result<Option<Arc<Raster<3>>>> {
        let read = |path: &Path| self.read_once.colours(path, || self.host_ceiling());
        self.control.image.as_deref().map(read).transpose()
    }

    /// The size of a run that is so many times as large as its picture.
    fn scaled(&self, picture: Size) -> Result<Size> {
        let scale = self.img2img.scale;
        let side = |side: usize| (side as f64 * scale) as usize / MULTIPLE * MULTIPLE;
        let size = Size { width: side(picture.width), height: side(picture.height) };
        let sides = MULTIPLE..=Size::MAX;
        if sides.contains(&size.width) && sides.contains(&size.height) {
            return Ok(size);
        }
        Err(Error::Value {
            key: "img2img.scale".into(),
            expected: format!("one that makes sides of {MULTIPLE} to {} of the picture's {picture}", Size::MAX),
            found: scale.to_string(),
        })
    }

    fn inpaint(&self, mask: &Path) -> Result<Inpaint> {
        let table = &self.inpaint;
        let mask = self.read_once.mask(mask, || self.host_ceiling())?;
        let settings = SoftSettings {
            schedule_bias: table.soft_schedule_bias,
            preservation: table.soft_preservation,
            contrast: table.soft_contrast,
            mask_influence: table.soft_mask_influence,
            threshold: table.soft_threshold,
            threshold_contrast: table.soft_threshold_contrast,
        };
        Ok(Inpaint {
            mask,
            blur: table.blur,
            round: table.round,
            invert: table.invert,
            fill: table.fill,
            area: match table.area {
                InpaintArea::Whole => Area::Whole,
                InpaintArea::Masked => Area::Masked { padding: table.padding },
            },
            hidden: table.hidden,
            soft: match table.soft {
                SoftInpainting::Off => None,
                SoftInpainting::Blended => Some(Soft::Blended(settings)),
                SoftInpainting::Differential => Some(Soft::Differential),
            },
        })
    }
}
