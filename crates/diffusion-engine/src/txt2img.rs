//! The main job, top to bottom: a request becomes a run, a run becomes pictures.
//!
//! [`start`] encodes the words, spaces the noise levels and draws the noise; each call of [`Run::next`] takes one step;
//! [`Run::images`] decodes. The caller drives the loop, so progress, preview, cancelling and checkpoints need no callback.

use std::fmt;

use core_tensor::{Latent, Tensor, is_finite, tensor};
use samplers::{
    Noise, Profile, Sampler, Schedule, Sigmas, Step, Stepper,
    noise::{Generator, NoiseSource},
};

use crate::{Checked, Conditioning, Error, Guided, Image, Model, Size, Stage, infotext};

/// What to draw, and how.
///
/// ```
/// use diffusion_engine::{Size, Txt2Img};
///
/// let request = Txt2Img::of("a lighthouse in a storm").seed(42).steps(4).size(Size { width: 768, height: 512 });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Txt2Img {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show; counts where `cfg` is above 1.
    pub negative: String,
    /// The noise of picture `i` of a batch is that of `seed + i`.
    pub seed: u64,
    /// Where the noise comes from.
    pub noise: NoiseSource,
    /// Steps from noise to picture, 1 to 1000.
    pub steps: usize,
    /// How steps are taken.
    pub sampler: &'static Sampler,
    /// How noise levels are spaced.
    pub schedule: &'static Schedule,
    /// Whose habits to follow where engines disagree.
    pub profile: Profile,
    /// Distilled guidance, for models that were trained with it.
    pub guidance: f32,
    /// Classifier-free guidance, from 1; above 1 each step calls the model twice.
    pub cfg: f32,
    /// The picture's size.
    pub size: Size,
    /// How many pictures, at once.
    pub batch: usize,
    /// T5 tokens that the prompt is padded to; `None` for the profile's and model's own.
    pub t5_length: Option<usize>,
}

impl Txt2Img {
    /// A request for one picture of 1024 × 1024 pixels in 20 Euler steps.
    pub fn of(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative: String::new(),
            seed: 0,
            noise: NoiseSource::Cpu,
            steps: 20,
            sampler: samplers::SAMPLERS[0],
            schedule: samplers::SCHEDULES[0],
            profile: Profile::default(),
            guidance: 3.5,
            cfg: 1.0,
            size: Size {
                width: 1024,
                height: 1024,
            },
            batch: 1,
            t5_length: None,
        }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of steps.
    pub fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }

    /// Sets the picture's size.
    pub fn size(self, size: Size) -> Self {
        Self { size, ..self }
    }

    /// Checks what can be checked without a model.
    fn checked(self) -> Result<Self, Error> {
        let wrong = |what, expected: &str, found: String| {
            Err(Error::Request {
                what,
                expected: expected.into(),
                found,
            })
        };
        match self {
            Self { cfg, .. } if !(1.0..=100.0).contains(&cfg) => wrong("cfg", "1 to 100", cfg.to_string()),
            Self { guidance, .. } if !(0.0..=100.0).contains(&guidance) => {
                wrong("guidance", "0 to 100", guidance.to_string())
            }
            Self { batch, .. } if !(1..=64).contains(&batch) => wrong("batch", "1 to 64", batch.to_string()),
            Self { t5_length: Some(n), .. } if !(1..=4096).contains(&n) => {
                wrong("t5_length", "1 to 4096", n.to_string())
            }
            request => Ok(request),
        }
    }
}

/// Begins a run. `noise` replaces the seed's own, `[batch, channels, height / 8, width / 8]`.
///
/// # Errors
/// A request that the model can't do, or words that it can't encode.
pub fn start<'m>(model: &'m dyn Model, request: Txt2Img, noise: Option<Latent>) -> Result<Run<'m>, Error> {
    let request = request.checked()?;
    request.size.checked(model.size_multiple())?;

    let sigmas = request.schedule.sigmas(&model.sigma_space(&request), request.steps)?;
    let mut source = HostNoise::of(&request);
    let [c, h, w] = model.latent_shape(request.size);
    let noise = match noise {
        Some(given) if given.0.dims() == [request.batch, c, h, w] => given,
        Some(given) => {
            let (found, expected) = (
                format!("{:?}", given.0.dims()),
                format!("{:?}", [request.batch, c, h, w]),
            );
            return Err(Error::Request {
                what: "the given noise's shape",
                expected,
                found,
            });
        }
        None => source.draw([request.batch, c, h, w], model.device()),
    };
    finite(Stage::Noise, &noise.0)?;

    let positive = encode(model, &request.prompt, &request, Stage::Prompt)?;
    let mut denoiser = model.denoiser(&positive, &request);
    let mut negative = None;
    if request.cfg > 1.0 {
        let prompt = encode(model, &request.negative, &request, Stage::NegativePrompt)?;
        let away = model.denoiser(&prompt, &request);
        denoiser = Box::new(Guided {
            positive: denoiser,
            negative: away,
            cfg: request.cfg,
        });
        negative = Some(prompt);
    }

    Ok(Run {
        stepper: (request.sampler.start)(model.process()),
        latent: Latent(noise.0.clone() * sigmas[0]),
        denoiser: Checked(denoiser),
        done: 0,
        model,
        request,
        sigmas,
        source,
        noise,
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
    latent: Latent,
    done: usize,
}

impl Iterator for Run<'_> {
    type Item = Result<StepReport, Error>;

    /// Takes one step; `None` when there is none left. After an error the run stays where it was.
    fn next(&mut self) -> Option<Self::Item> {
        let steps = self.sigmas.steps();
        let &[sigma, sigma_next] = self.sigmas.get(self.done..self.done + 2)? else {
            return None;
        };
        let at = Step {
            index: self.done,
            sigma,
            sigma_next,
        };
        let stepped = self
            .stepper
            .step(at, self.latent.clone(), &mut self.denoiser, &mut self.source);
        Some(
            stepped
                .map_err(|source| Error::Step {
                    step: at.index + 1,
                    steps,
                    source,
                })
                .and_then(|latent| {
                    finite(Stage::Step(at.index + 1), &latent.0)?;
                    self.latent = latent;
                    self.done += 1;
                    Ok(StepReport {
                        step: self.done,
                        steps,
                        sigma,
                        sigma_next,
                    })
                }),
        )
    }
}

impl Run<'_> {
    /// The pictures, decoded: one for each of the batch.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while steps are left, [`Error::NotFinite`] if the decoder fails.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let pixels = self.pixels()?;
        Ok((0..self.request.batch)
            .map(|i| {
                let one = Txt2Img {
                    batch: 1,
                    seed: self.request.seed.wrapping_add(i as u64),
                    ..self.request.clone()
                };
                Image::of(
                    pixels.clone().narrow(0, i, 1),
                    infotext::render(&one, self.model.name()),
                )
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
        let pixels = self.model.decode(&self.latent);
        finite(Stage::Image, &pixels)?;
        Ok(pixels.clamp(-1.0, 1.0))
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
        write!(
            f,
            "{}/{}  sigma {:.2} -> {:.2}",
            self.step, self.steps, self.sigma, self.sigma_next
        )
    }
}

/// Noise made on the host: one stream for each picture, so that a picture does not depend on its place in a batch.
struct HostNoise(Vec<Generator>);

impl HostNoise {
    fn of(request: &Txt2Img) -> Self {
        let stream = |i| Generator::new(request.noise, request.seed.wrapping_add(i as u64));
        Self((0..request.batch).map(stream).collect())
    }

    fn draw(&mut self, shape: [usize; 4], device: &core_tensor::Device) -> Latent {
        let len = shape[1..].iter().product();
        Latent(tensor(
            self.0.iter_mut().flat_map(|stream| stream.randn(len)).collect(),
            shape,
            device,
        ))
    }
}

impl Noise for HostNoise {
    fn next(&mut self, like: &Latent) -> Latent {
        self.draw(like.0.dims(), &like.0.device())
    }
}

fn encode(model: &dyn Model, prompt: &str, request: &Txt2Img, stage: Stage) -> Result<Conditioning, Error> {
    let conditioning = model.encode(prompt, request)?;
    finite(stage, &conditioning.txt)?;
    finite(stage, &conditioning.vec)?;
    Ok(conditioning)
}

fn finite<const D: usize>(stage: Stage, values: &Tensor<D>) -> Result<(), Error> {
    if is_finite(values) {
        Ok(())
    } else {
        Err(Error::NotFinite { stage })
    }
}
