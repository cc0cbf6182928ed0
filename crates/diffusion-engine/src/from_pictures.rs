use std::sync::Arc;

use crate::{Error, Raster, Resize};

/// Pictures that a pass starts from, and what of them is drawn anew.
///
/// ```
/// use std::sync::Arc;
/// use diffusion_engine::{FromPictures, Origin, Raster, Size, Txt2Img};
///
/// let grey = Raster::new(Size { width: 64, height: 64 }, vec![[128; 3]; 64 * 64]).expect("as many pixels as the size says");
/// let start = FromPictures { strength: 0.6, ..FromPictures::of(grey) };
/// let request = Txt2Img::of("a cat").with(|pass| pass.start = Origin::Pictures(Arc::new(start)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FromPictures {
    /// One for all pictures of the batch, or one for each of them, of any size.
    pub pictures: Vec<Arc<Raster<3>>>,
    /// How much of them becomes noise, above 0, to 1.
    pub strength: f64,
    /// Whether all steps are taken that are asked for, of a longer schedule; else the strength says how many, as the profile has it.
    pub exact_steps: bool,
    /// How they are brought to the size of the pass.
    pub resize: Resize,
    /// What the noise that is added to them is multiplied with, 0 to 10; 1 leaves it.
    pub noise_multiplier: f32,
    /// Whether latents are picked by noise from what the autoencoder knows of a picture, and not its means. That noise is the first that is
    /// drawn of the seed, as in diffusers.
    pub sampled: bool,
    /// Whether the colours of what is drawn are spread as those of the picture.
    pub recoloured: bool,
    /// What of them is drawn anew; everything without it.
    pub inpaint: Option<Inpaint>,
}

/// The part of a picture that is drawn anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Inpaint {
    /// Where it is not opaque everywhere its opacity counts, else its brightness: white is drawn anew.
    pub mask: Arc<Raster<4>>,
    /// How far its edges are feathered: the deviation of a Gauss curve, in pixels, 0 to 64.
    pub blur: f32,
    /// Whether each pixel of a latent is drawn anew or not; else those in between are mixed in every step.
    pub round: bool,
    /// Whether it is the rest that is drawn anew.
    pub invert: bool,
    /// What is under the mask at first.
    pub fill: Fill,
    /// What is worked on.
    pub area: Area,
    /// How much of what is under the mask is hidden from models that are shown the picture, 0 to 1.
    pub hidden: f32,
    /// How it is mixed with the rest, where there is no hard edge between them.
    pub soft: Option<Soft>,
}

/// What is under a mask at first.
#[expect(clippy::enum_variant_names, reason = "A1111's name of one of them")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// The colours of what lies around it.
    Fill,
    /// The picture itself.
    #[default]
    Original,
    /// Noise in the place of the latent.
    Noise,
    /// Nothing in the place of the latent.
    Nothing,
}

/// What of a picture is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Area {
    /// All of it.
    #[default]
    Whole,
    /// The masked part, which is brought to the size of the pass and put back into the picture.
    Masked {
        /// Pixels around it that are worked on with it, 0 to 256.
        padding: usize,
    },
}

/// How what is drawn is mixed with the rest of a picture, as far as the mask says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Soft {
    /// In every step, the more of the picture the lower the noise, and in the end by how far each place has changed.
    Blended(SoftSettings),
    /// Each place joins in as soon as the noise is as low as the mask says (Levin and Fried 2023, differential diffusion).
    Differential,
}

/// What soft inpainting is set by.
///
/// Forge extensions-builtin/soft-inpainting, dfdcbab.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftSettings {
    /// How much earlier the picture is kept, 0 to 8: the power of the noise level in the mask's exponent.
    pub schedule_bias: f32,
    /// How strongly what is masked in part is kept, 0 to 8: the factor of the mask's exponent.
    pub preservation: f32,
    /// How much contrast is given back where both are mixed, 1 to 32: the power in which lengths of latents are mixed.
    pub contrast: f32,
    /// How much the mask counts for what is kept in the end, 0 to 1.
    pub mask_influence: f32,
    /// How far a place may change until half of it is kept, 0 to 8.
    pub threshold: f32,
    /// How sharp the edge between what is kept and what is not is, 0 to 8.
    pub threshold_contrast: f32,
}

impl Default for SoftSettings {
    fn default() -> Self {
        Self {
            schedule_bias: 1.0,
            preservation: 0.5,
            contrast: 4.0,
            mask_influence: 0.0,
            threshold: 0.5,
            threshold_contrast: 2.0,
        }
    }
}

impl Fill {
    /// What configs call them.
    pub const IDS: [&str; 4] = ["fill", "original", "noise", "nothing"];

    /// All of them, in the same order.
    pub const ALL: [Self; 4] = [Self::Fill, Self::Original, Self::Noise, Self::Nothing];

    /// What A1111's texts call it; nothing for the picture itself.
    pub(crate) fn label(self) -> Option<&'static str> {
        match self {
            Self::Fill => Some("fill"),
            Self::Original => None,
            Self::Noise => Some("latent noise"),
            Self::Nothing => Some("latent nothing"),
        }
    }
}

impl FromPictures {
    /// From one picture, of which three quarters become noise.
    pub fn of(picture: impl Into<Arc<Raster<3>>>) -> Self {
        Self {
            pictures: vec![picture.into()],
            strength: 0.75,
            exact_steps: false,
            resize: Resize::default(),
            noise_multiplier: 1.0,
            sampled: false,
            recoloured: false,
            inpaint: None,
        }
    }

    /// The same for one picture of the batch.
    pub(crate) fn picture(&self, picture: usize) -> Self {
        let own = self.pictures.get(picture).or(self.pictures.first()).cloned();
        Self { pictures: own.into_iter().collect(), ..self.clone() }
    }

    /// Finds what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let in_range = |what, value: f64, [min, max]: [f64; 2]| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(Error::Request { what, expected: format!("{min} to {max}"), found: value.to_string() }),
        };
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            let (expected, found) = ("above 0, to 1".into(), self.strength.to_string());
            return Err(Error::Request { what: "the strength of a start from a picture", expected, found });
        }
        in_range("the noise multiplier", self.noise_multiplier.into(), [0.0, 10.0])?;
        let Some(inpaint) = &self.inpaint else { return Ok(()) };
        in_range("the blur of the mask", inpaint.blur.into(), [0.0, 64.0])?;
        in_range("what is hidden under the mask", inpaint.hidden.into(), [0.0, 1.0])?;
        if let Area::Masked { padding } = inpaint.area {
            in_range("the padding of the mask", padding as f64, [0.0, 256.0])?;
        }
        if let Some(Soft::Blended(soft)) = inpaint.soft {
            in_range("soft inpainting's schedule bias", soft.schedule_bias.into(), [0.0, 8.0])?;
            in_range("soft inpainting's preservation", soft.preservation.into(), [0.0, 8.0])?;
            in_range("soft inpainting's contrast", soft.contrast.into(), [1.0, 32.0])?;
            in_range("soft inpainting's mask influence", soft.mask_influence.into(), [0.0, 1.0])?;
            in_range("soft inpainting's threshold", soft.threshold.into(), [0.0, 8.0])?;
            in_range("soft inpainting's threshold contrast", soft.threshold_contrast.into(), [0.0, 8.0])?;
        }
        if self.resize == Resize::Latent {
            let (expected, found) = ("`just`, `crop` or `fill` with a mask".into(), "`latent`".into());
            return Err(Error::Request { what: "how pictures are resized", expected, found });
        }
        Ok(())
    }
}
