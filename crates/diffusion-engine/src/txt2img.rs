//! The main job, top to bottom: a request becomes a run, a run becomes pictures.
//!
//! [`start`] encodes the words, spaces the noise levels and draws the noise; each call of [`Run::next`] takes one step;
//! [`Run::images`] decodes. The caller drives the loop, so progress, preview, cancelling and checkpoints need no callback.

use std::{cell::OnceCell, fmt};

use core_tensor::{Latent, Tensor, is_finite};
use samplers::{Denoiser, SigmaSpace, Sigmas, Start, Step, Stepper};

use crate::{Checked, Conditioning, Error, Guided, Image, Model, Stage, Txt2Img, host_noise::HostNoise, infotext};

/// Begins a run. `noise` replaces the seed's own, `[batch, channels, height / 8, width / 8]`.
///
/// # Errors
/// A request that the model can't do, or words that it can't encode.
pub fn start<'m>(model: &'m dyn Model, request: Txt2Img, noise: Option<Latent>) -> Result<Run<'m>, Error> {
    let request = request.checked()?;
    request.size.checked(model.size_multiple())?;

    let space = model.sigma_space(&request);
    let (sigmas, stepper) = begin(&request, space)?;
    let mut source = HostNoise::of(&request, &sigmas);
    let [c, h, w] = model.latent_shape(request.size);
    // Drawn in any case, so that what stochastic samplers draw later does not depend on whether the start was given.
    let drawn = source.draw([request.batch, c, h, w], model.device());
    source.begin_steps(&request);
    let given = noise.is_some();
    let noise = match noise {
        None => drawn,
        Some(noise) if noise.0.dims() == drawn.0.dims() => Latent(noise.0.to_device(model.device())),
        Some(noise) => {
            let (found, expected) = (format!("{:?}", noise.0.dims()), format!("{:?}", drawn.0.dims()));
            return Err(Error::Request { what: "the given noise's shape", expected, found });
        }
    };
    finite(Stage::Noise, &noise.0)?;

    let positive = encode(model, &request.prompt, &request, Stage::Prompt)?;
    let mut denoiser = model.denoiser(&positive, &request);
    let mut negative = None;
    if request.cfg > 1.0 || request.sampler.needs_negative {
        let prompt = encode(model, &request.negative, &request, Stage::NegativePrompt)?;
        let away = model.denoiser(&prompt, &request);
        denoiser = Box::new(Guided { positive: denoiser, negative: away, cfg: request.cfg });
        negative = Some(prompt);
    }

    Ok(Run {
        stepper,
        latent: Latent(noise.0.clone() * sigmas[0]),
        denoiser: Checked(denoiser),
        done: 0,
        failed: false,
        pixels: OnceCell::new(),
        model,
        request,
        sigmas,
        source,
        noise,
        given,
        positive,
        negative,
    })
}

/// One job in progress: an iterator of steps that the caller drives.
pub struct Run<'m> {
    model: &'m dyn Model,
    request: Txt2Img,
    positive: Conditioning,
    negative: Option<Conditioning>,
    denoiser: Checked<'m>,
    sigmas: Sigmas,
    stepper: Box<dyn Stepper>,
    source: HostNoise,
    noise: Latent,
    /// Whether the caller made the noise; then the seed alone does not tell how the picture was made.
    given: bool,
    latent: Latent,
    done: usize,
    failed: bool,
    pixels: OnceCell<Tensor<4>>,
}

impl Iterator for Run<'_> {
    type Item = Result<StepReport, Error>;

    /// Takes one step; `None` when there is none left, or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let at = Step::of(&self.sigmas, self.done)?;
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        self.denoiser.begin(&at);
        let stepped = self.stepper.step(at, self.latent.clone(), &mut self.denoiser, &mut self.source);
        let report =
            self.accept(stepped).map(|step| StepReport { step, steps: self.sigmas.steps(), sigma, sigma_next });
        self.failed = report.is_err();
        Some(report)
    }
}

impl Run<'_> {
    /// Goes on from the latent that a step made, if all is well with it.
    fn accept(&mut self, stepped: Result<Latent, samplers::Error>) -> Result<usize, Error> {
        let (step, steps) = (self.done + 1, self.sigmas.steps());
        let latent = stepped.map_err(|source| Error::Step { step, steps, source })?;
        finite(Stage::Step(step), &latent.0)?;
        self.latent = latent;
        self.done = step;
        Ok(step)
    }

    /// The pictures, decoded: one for each of the batch.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while steps are left, [`Error::NotFinite`] if the decoder fails.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let pixels = self.pixels()?;
        Ok((0..self.request.batch)
            .map(|i| {
                let one = Txt2Img { batch: 1, seed: self.request.seed.wrapping_add(i as u64), ..self.request.clone() };
                Image::of(pixels.clone().narrow(0, i, 1), infotext::render(&one, self.model.name(), self.given))
            })
            .collect())
    }

    /// The first picture.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn image(&self) -> Result<Image, Error> {
        Ok(self.images()?.swap_remove(0))
    }

    /// The decoded pixels before rounding, `[batch, 3, height, width]`, -1 to 1.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn pixels(&self) -> Result<Tensor<4>, Error> {
        let steps = self.sigmas.steps();
        if self.done < steps {
            return Err(Error::Unfinished { step: self.done, steps });
        }
        if let Some(pixels) = self.pixels.get() {
            return Ok(pixels.clone());
        }
        let pixels = self.model.decode(&self.latent);
        finite(Stage::Image, &pixels)?;
        Ok(self.pixels.get_or_init(|| pixels.clamp(-1.0, 1.0)).clone())
    }

    /// What was asked for.
    pub fn request(&self) -> &Txt2Img {
        &self.request
    }

    /// The encoded positive prompt.
    pub fn positive(&self) -> &Conditioning {
        &self.positive
    }

    /// The encoded negative prompt, where there is one.
    pub fn negative(&self) -> Option<&Conditioning> {
        self.negative.as_ref()
    }

    /// The noise levels, one more than there are steps.
    pub fn sigmas(&self) -> &Sigmas {
        &self.sigmas
    }

    /// The unit noise that the run started from.
    pub fn noise(&self) -> &Latent {
        &self.noise
    }

    /// Where the run is now.
    pub fn latent(&self) -> &Latent {
        &self.latent
    }
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps of the run.
    pub steps: usize,
    /// The noise level before.
    pub sigma: f32,
    /// The noise level after.
    pub sigma_next: f32,
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}  sigma {:.2} -> {:.2}", self.step, self.steps, self.sigma, self.sigma_next)
    }
}

/// The run's noise levels, and what steps from one to the next.
fn begin(request: &Txt2Img, space: SigmaSpace) -> Result<(Sigmas, Box<dyn Stepper>), Error> {
    let Txt2Img { sampler, profile, steps, options, .. } = request;
    let schedule = profile.variant(request.schedule.resolved(sampler, &space));
    // With this model `automatic` stands for one schedule alone.
    options.checked(&[sampler.params, schedule.params].concat())?;
    let start = Start { space, steps: *steps, options };
    let levels = match &request.sigmas {
        Some(levels) => Sigmas::literal(levels)?,
        None => profile.levels(schedule, sampler, &start)?,
    };
    Ok(sampler.begin(&start, levels)?)
}

fn encode(model: &dyn Model, prompt: &str, request: &Txt2Img, stage: Stage) -> Result<Conditioning, Error> {
    let conditioning = model.encode(prompt, request)?;
    finite(stage, &conditioning.txt)?;
    finite(stage, &conditioning.vec)?;
    Ok(conditioning)
}

fn finite<const D: usize>(stage: Stage, values: &Tensor<D>) -> Result<(), Error> {
    if is_finite(values) { Ok(()) } else { Err(Error::NotFinite { stage }) }
}
