//! The guided answer with the contrast of the positive one (Lin et al. 2023, Common Diffusion Noise Schedules and Sample Steps are Flawed,
//! section 3.4; diffusers calls it `guidance_rescale`).

use std::sync::Arc;

use core_tensor::{Latent, Tensor};
use samplers::{Denoised, Denoiser, Error, Prediction, Step};

use super::{Method, SHARE, Settings, each, key};
use crate::{Around, Holds, Key, Memory, Place, Wrap};

pub(super) const METHOD: Method = Method { id: "rescale", keys: &[RESCALE], networks: &[], wraps };

const RESCALE: Key = key("rescale", SHARE, "off", "0.7").about("Share of contrast taken back from guidance, 0 to 1")
    .docs("how far the guided answer is brought back to the standard deviation of the one to the prompt, as `guidance_rescale` of diffusers")
    .flag("cfg-rescale")
    .label("CFG rescale")
    .aliases(&["Guidance rescale", "CFG Rescale phi", "RescaleCFG multiplier"]);

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let share = settings.number(&RESCALE).unwrap_or(0.0);
    let positive = Memory::default();
    vec![Arc::new(Seen(positive.clone())), Arc::new(Rescale { share, positive })]
}

/// Keeps the answer to the prompt for [`Rescale`]: from call to call, so that nothing has to be kept longer.
struct Seen(Memory<Option<Latent>>);

struct Rescale {
    share: f32,
    positive: Memory<Option<Latent>>,
}

impl Wrap for Seen {
    fn place(&self) -> Place {
        Place::Inside
    }

    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        Ok(Box::new(Seeing { inner, positive: self.0.clone() }))
    }
}

impl Wrap for Rescale {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        let Self { share, positive } = self;
        Ok(Box::new(Rescaling { inner, share: *share, positive: positive.clone(), predicts: at.predicts }))
    }

    fn holds(&self) -> Holds {
        // The answer to the prompt, that in the network's own terms, and the guided one in both.
        Holds { latents: 4, ..Holds::default() }
    }
}

struct Seeing {
    inner: Box<dyn Denoiser>,
    positive: Memory<Option<Latent>>,
}

impl Denoiser for Seeing {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let denoised = self.inner.denoise(x, sigma)?;
        *self.positive.hold() = denoised.negative.is_some().then(|| denoised.latent.clone());
        Ok(denoised)
    }
}

struct Rescaling {
    inner: Box<dyn Denoiser>,
    share: f32,
    positive: Memory<Option<Latent>>,
    predicts: Option<Prediction>,
}

impl Denoiser for Rescaling {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent, negative } = self.inner.denoise(x, sigma)?;
        let Some(positive) = self.positive.hold().take() else { return Ok(Denoised { latent, negative }) };
        let of_picture = |[x, guided, positive]: [Tensor<4>; 3]| {
            let output = |denoised: Tensor<4>| match self.predicts {
                Some(prediction) => prediction.output(x.clone(), denoised, sigma),
                None => denoised,
            };
            let (guided, positive) = (output(guided), output(positive));
            let factor = deviation(positive) / deviation(guided.clone()).clamp_min(f32::MIN_POSITIVE);
            let rescaled = guided * (factor * self.share + (1.0 - self.share));
            Ok(match self.predicts {
                Some(prediction) => prediction.denoised(x, rescaled, sigma).0,
                None => rescaled,
            })
        };
        Ok(Denoised { latent: each([x, &latent, &positive], of_picture)?, negative })
    }
}

/// The standard deviation of all values but for a factor that depends on their number alone, `[1, 1, 1, 1]`.
pub(super) fn deviation(x: Tensor<4>) -> Tensor<4> {
    let mean = x.clone().mean().reshape([1, 1, 1, 1]);
    let centered = x - mean;
    super::dot(centered.clone(), centered).sqrt()
}
