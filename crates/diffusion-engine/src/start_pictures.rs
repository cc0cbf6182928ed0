//! The pictures that a pass starts from, encoded.

use std::sync::Arc;

use core_tensor::{Device, Latent, Tensor, on_host, tensor};
use samplers::Process;

use crate::{
    Error, Fill, FromPictures, Image, Inside, Interpolation, Model, Origin, Pass, Raster, Shown, Size, Soft, Stage,
    canvas::Canvas,
    changed::changed,
    finite::finite,
    host_noise::HostNoise,
    wrap::{Mask, mixed},
};

/// Pictures to start from, as the model denoises them.
#[derive(Clone, Debug)]
pub(crate) struct StartPictures {
    canvas: Arc<Canvas>,
    size: Size,
    /// `[batch, channels, height, width]`
    clean: Latent,
    /// How much of each pixel of a latent is drawn anew, row by row, 0 to 1; everything without it.
    share: Option<Arc<[f32]>>,
}

impl StartPictures {
    /// Encodes the pictures of a batch at the size of a pass.
    ///
    /// # Errors
    /// A mask that can't be worked with, and those of [`Autoencoder::encode`](crate::Autoencoder::encode).
    pub(crate) fn of(
        model: &Arc<dyn Model>,
        from: &Arc<FromPictures>,
        (size, batch): (Size, usize),
        source: &mut HostNoise,
        inside: &Inside,
    ) -> Result<Self, Error> {
        let canvas = Arc::new(Canvas::of(from.clone(), size)?);
        let (card, device, vae) = (model.card(), model.device(), model.clone().vae());
        let [c, h, w] = card.latent_shape(size);
        let pixels = canvas.pixels(card.factor, device)?;
        let encode = |pixels: &Tensor<4>, noise| {
            let latent = vae.encode(pixels.clone(), noise, inside)?;
            finite(Stage::Start, &latent)?;
            if latent.dims()[2..] == [h, w] {
                return Ok(latent);
            }
            Ok::<_, Error>(Interpolation::Bilinear.resized(&Latent(latent), [h, w])?.0)
        };
        let latents: Vec<Tensor<4>> = match from.sampled {
            false => pixels.iter().map(|pixels| encode(pixels, None)).collect::<Result<_, _>>()?,
            true => {
                let of_picture = |picture: usize| {
                    let pixels = pixels.get(picture).or(pixels.first()).ok_or_else(none_given)?;
                    let [_, _, height, width] = pixels.dims();
                    let shape = [1, c, height / card.factor, width / card.factor];
                    encode(pixels, Some(source.draw_one(picture, shape, device)))
                };
                (0..batch).map(of_picture).collect::<Result<_, _>>()?
            }
        };
        let of_picture = |picture: usize| latents.get(picture).or(latents.first()).cloned().ok_or_else(none_given);
        let clean = Tensor::cat((0..batch).map(of_picture).collect::<Result<_, Error>>()?, 0);
        let share: Option<Arc<[f32]>> = canvas.latent_mask([h, w]).map(Into::into);
        let fill = canvas.inpaint().map_or(Fill::Original, |inpaint| inpaint.fill);
        let clean = match (fill, &share) {
            (Fill::Noise, Some(share)) => {
                mixed(clean, source.anew([batch, c, h, w], device).0, &one_map(share, [h, w], device))
            }
            (Fill::Nothing, Some(share)) => clean * (one_map(share, [h, w], device).neg() + 1.0),
            (Fill::Fill | Fill::Original | Fill::Noise | Fill::Nothing, _) => clean,
        };
        Ok(Self { canvas, size, clean: Latent(clean), share })
    }

    /// How the latent begins, over noise of unit variance, which without a picture is multiplied with `scale`.
    ///
    /// Forge backend/modules/k_prediction.py `noise_scaling`, dfdcbab.
    pub(crate) fn begun(&self, noise: &Latent, (sigma, scale): (f32, f32), process: Process, pass: &Pass) -> Latent {
        match Self::is_noise_alone(process, pass) {
            true => Latent(self.multiplied(noise) * scale),
            false => noised(self.clean.0.clone(), self.multiplied(noise), sigma, process),
        }
    }

    /// Whether the pass starts from noise alone, and with nothing of the pictures in it.
    fn is_noise_alone(process: Process, pass: &Pass) -> bool {
        let is_all = matches!(&pass.start, Origin::Pictures(from) if from.inpaint.is_some() && from.strength == 1.0);
        is_all && pass.profile.parts_from_noise && process == Process::Diffusion
    }

    fn multiplied(&self, noise: &Latent) -> Tensor<4> {
        match self.canvas.from().noise_multiplier {
            1.0 => noise.0.clone(),
            multiplier => noise.0.clone() * multiplier,
        }
    }

    /// What keeps the rest of the pictures as it is, where a part of them is drawn anew.
    pub(crate) fn mask(&self, noise: &Latent, process: Process, pass: &Pass, source: &HostNoise) -> Option<Mask> {
        Some(Mask {
            is_noise_first: Self::is_noise_alone(process, pass),
            clean: self.clean.clone(),
            noise: Latent(self.multiplied(noise)),
            share: self.share.as_ref()?.to_vec(),
            soft: self.soft(),
            kept: pass.profile.kept,
            source: source.source(),
            seeds: source.seeds().to_vec(),
        })
    }

    fn soft(&self) -> Option<Soft> {
        self.canvas.inpaint()?.soft
    }

    /// What a model sees of them that is shown them.
    pub(crate) fn shown(&self, factor: usize, device: &Device) -> Result<Shown, Error> {
        let hidden = self.canvas.inpaint().map_or(1.0, |inpaint| inpaint.hidden);
        Ok(Shown {
            pictures: self.canvas.pixels(factor, device)?,
            mask: self.canvas.mask(device),
            hidden,
            control: None,
        })
    }

    /// The last latent of a pass, with the rest of the pictures around what was drawn.
    pub(crate) fn completed(&self, latent: Latent) -> Latent {
        let Some(share) = &self.share else { return latent };
        if let Some(Soft::Blended(_)) = self.soft() {
            return latent;
        }
        let [_, _, h, w] = latent.0.dims();
        let share = one_map(share, [h, w], &latent.0.device());
        Latent(mixed(self.clean.0.clone(), latent.0, &share))
    }

    /// A decoded picture of the batch as it is saved.
    ///
    /// # Errors
    /// [`Error::Weights`] for a device that could not compute the latents.
    pub(crate) fn finished(&self, picture: usize, image: Image, last: &Latent) -> Result<Image, Error> {
        Ok(self.canvas.finished(picture, image, self.changed(picture, last)?))
    }

    fn changed(&self, picture: usize, last: &Latent) -> Result<Option<Raster<1>>, Error> {
        let (Some(Soft::Blended(soft)), Some(share)) = (self.soft(), &self.share) else { return Ok(None) };
        let [_, _, h, w] = last.0.dims();
        let [before, after] = [&self.clean, last].map(|latent| on_host(&latent.0.clone().narrow(0, picture, 1)));
        Ok(Some(changed(soft, [&before?, &after?], share, [h, w], self.size)))
    }
}

/// Data under so much noise.
pub(crate) fn noised(clean: Tensor<4>, noise: Tensor<4>, sigma: f32, process: Process) -> Latent {
    let kept = match process {
        Process::Diffusion => 1.0,
        Process::Flow => 1.0 - sigma,
    };
    Latent(clean * kept + noise * sigma)
}

fn none_given() -> Error {
    Error::Request { what: "the number of pictures to start from", expected: "1 at least".into(), found: "0".into() }
}

/// `[1, 1, h, w]`
fn one_map(share: &[f32], [h, w]: [usize; 2], device: &Device) -> Tensor<4> {
    tensor(share.to_vec(), [1, 1, h, w], device)
}
