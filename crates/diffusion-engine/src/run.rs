//! The main job, top to bottom: a job becomes a run, a run becomes pictures.
//!
//! [`start`] finds out what speaks against the job, spaces the noise levels, encodes pictures to start from and draws the noise; the first call of [`Run::next`]
//! encodes the words, each further one takes a step; [`Run::images`] decodes. The caller drives the loop, so progress, preview,
//! cancelling and snapshots need no callback.

use std::{cell::OnceCell, sync::Arc};

use core_tensor::{Latent, Tensor, give_back_freed};
use samplers::{Denoiser, Step};

use crate::{
    Again, Autoencoder, Cancel, Encoded, Encodings, Error, Event, Image, Ingredient, Inside, Job, Key, Model, Models,
    Preview, Provenance, Snapshot, Stage, StepReport, Which,
    conditioning::{Conditioning, Next, Ready, Turns},
    enlarged::Enlarged,
    finite::finite,
    host_noise::HostNoise,
    infotext, methods,
    models::{Current, Only},
    prepared::Prepared,
    wrap::{Finite, Watch},
};

/// Begins a run. It stops when `cancel` is asked to, and takes prompts that were encoded before from `encodings`.
///
/// # Errors
/// A job that the model can't do, such as one that asks for another beside it.
pub fn start(model: Arc<dyn Model>, job: Job, encodings: Arc<Encodings>, cancel: Cancel) -> Result<Run, Error> {
    let job = job.suited(|_| model.card().size_multiple)?;
    let only = Only { model, encodings };
    for which in job.models() {
        only.model(which, 0)?;
    }
    start_with(Arc::new(only), job, cancel)
}

/// Begins a run of a job that may ask for several models.
///
/// # Errors
/// A job that its models can't do.
pub fn start_with(models: Arc<dyn Models>, job: Job, cancel: Cancel) -> Result<Run, Error> {
    let first = job.passes()[0].model;
    let model = models.model(first, 0)?;
    let keys = methods::keys_of(&*model);
    for pass in job.passes() {
        pass.check_knobs(&keys)?;
        pass.size.checked(model.card().size_multiple)?;
    }
    let mut source = HostNoise::of(&job);
    let begun = Prepared::first(&model, &job, &mut source, &Inside::until(&cancel).within(job.room()))?;
    Ok(Run::standing((models, first, model), job, cancel, source, begun))
}

/// One job in progress: an iterator of events that the caller drives, from any thread.
pub struct Run {
    models: Arc<dyn Models>,
    /// The one of them that the run computes with now.
    current: Current,
    /// What can be set of the first one's family.
    knobs: Vec<Key>,
    job: Job,
    cancel: Cancel,
    inside: Inside,
    source: HostNoise,
    /// The pass that the run is in.
    at: Prepared,
    /// The model as the pass's steps call it, from when the words are encoded.
    denoiser: Option<Box<dyn Denoiser>>,
    watch: Watch,
    finite: Finite,
    failed: bool,
    /// What the pictures are made with.
    made: Provenance,
    /// Each picture, once it is decoded.
    pixels: Vec<OnceCell<Tensor<4>>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Run").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Iterator for Run {
    type Item = Result<Event, Error>;

    /// Encodes the words of a pass, or takes one of its steps; `None` when there is none left, or after an error. On a device other than the CPU
    /// a step is asked for when its event comes; whether its values are numbers is told with the next one, and with the last step of a pass.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.advance().transpose()?;
        self.failed = event.is_err();
        Some(event.map_err(|error| told(error, self.place())))
    }
}

impl Run {
    /// The next thing to do, until there is none.
    fn advance(&mut self) -> Result<Option<Event>, Error> {
        self.inside.go_on()?;
        let Some(denoiser) = &mut self.denoiser else {
            return self.encode().map(Some);
        };
        let Some(at) = Step::of(&self.at.sigmas, self.at.done) else {
            return self.next_pass();
        };
        denoiser.begin(&at);
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        let stepped = self.at.stepper.step(at, self.at.latent.clone(), &mut **denoiser, &mut self.source);
        let (step, steps) = (self.at.done + 1, self.at.sigmas.steps());
        let latent = stepped.and_then(|latent| self.in_shape(latent));
        let latent = latent.map_err(|source| Error::Step { step, steps, source })?;
        self.finite.ask(step, &latent)?;
        // Behind the last step there is nothing that a device could begin with.
        self.finite.before(if step == steps { step + 1 } else { step }, steps)?;
        self.at.latent = self.at.completed(latent);
        self.at.done = step;
        Ok(Some(Event::Step(StepReport { step, steps, sigma, sigma_next })))
    }

    /// What a step made, if it is a latent of this pass.
    fn in_shape(&self, latent: Latent) -> Result<Latent, samplers::Error> {
        let (expected, found) = (self.at.latent.0.dims(), latent.0.dims());
        if expected == found {
            return Ok(latent);
        }
        let sampler = self.job.passes()[self.at.pass].sampler.id.clone();
        Err(samplers::Error::Shape { sampler, expected, found })
    }

    /// Encodes the words of the pass, and puts around the model what stands around it.
    fn encode(&mut self) -> Result<Event, Error> {
        let (index, pass) = (self.at.pass, &self.job.passes()[self.at.pass]);
        let hooks = self.at.wraps.iter().filter_map(|wrap| wrap.hooks());
        let inside = hooks.fold(self.inside.clone(), Inside::with);
        let (scripts, clock) = (self.at.scripts.clone(), self.at.clock.clone());
        let (wraps, pictures) = (self.at.wraps.clone(), self.at.pictures.clone());
        let conditioning = Conditioning { pass: pass.clone(), wraps, scripts, clock, inside, pictures };
        let (which, refined_from) = self.at.turn(pass);
        let model = self.current.become_one(which, index, &*self.models)?;
        let Ready { conditioned, under, cut } = conditioning.ready(&model, &self.models.encodings(which, index))?;
        let (models, current) = (self.models.clone(), self.current.clone());
        let next = refined_from.map(|from| Next { from, index, conditioning, models, current });
        let again = Again::of(Turns::of(conditioned, next));
        self.denoiser = Some(self.at.wrapped(pass, &again, model.predicts(pass), [&self.watch, &self.finite])?);
        self.at.under = under;
        Ok(Event::Encoded { cut })
    }

    /// Goes on with the pass behind the one that is done, if there is one.
    fn next_pass(&mut self) -> Result<Option<Event>, Error> {
        if self.at.pass + 1 == self.job.passes().len() {
            return Ok(None);
        }
        let (index, model) = (self.at.pass + 1, self.model()?);
        let pass = &self.job.passes()[index];
        let (card, vae) = (model.card().clone(), model.vae());
        if pass.upscaler.takes_pixels() {
            // As before the last picture.
            give_back_freed(&self.at.latent.0.device());
        }
        let enlarged = Enlarged::of(pass, &card, &*vae, self.at.latent.clone(), &self.inside)?;
        drop(vae);
        self.denoiser = None;
        let model = self.current.become_one(pass.model, index, &*self.models)?;
        let clean = enlarged.cut(pass, &card, &*model.clone().vae(), &self.inside)?;
        // What is kept of them has their size.
        let pictures = self.at.pictures.take().filter(|_| pass.size == self.job.passes()[index - 1].size);
        let further = Prepared::further(&*model, &self.job, index, clean, &mut self.source)?;
        self.at = further.over(pictures, pass, &*model, &self.source);
        self.encode().map(Some)
    }

    /// The pictures, decoded: one for each of the batch.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while steps are left, [`Error::NotFinite`] if the decoder fails, [`Error::Stopped`].
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        (0..self.job.batch()).map(|picture| self.picture(picture)).collect()
    }

    /// The same of a run that is done with: its hold on the model is let go first, so that a network that nobody else holds makes room
    /// for the decoder.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn into_images(self) -> Result<Vec<Image>, Error> {
        let end = self.sampled()?;
        let texts: Vec<_> = (0..self.job.batch()).map(|picture| self.text(picture)).collect();
        let vae = self.model()?.vae();
        let Self { models, current, denoiser, at, inside, pixels, .. } = self;
        let (latent, pictures) = (at.latent, at.pictures);
        drop((models, current.take(), denoiser, at.stepper, at.under, at.wraps));
        give_back_freed(&latent.0.device());
        let image = |(picture, (text, known)): (usize, (String, OnceCell<_>))| {
            let pixels = known.into_inner().map_or_else(|| decoded(&*vae, &latent, picture, &inside), Ok);
            let image = Image::of(pixels.map_err(|error| told(error, end))?, text)?;
            match &pictures {
                Some(pictures) => pictures.finished(picture, image, &latent),
                None => Ok(image),
            }
        };
        texts.into_iter().zip(pixels).enumerate().map(image).collect()
    }

    /// The first picture; the others of a batch are not decoded.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn image(&self) -> Result<Image, Error> {
        self.picture(0)
    }

    fn picture(&self, picture: usize) -> Result<Image, Error> {
        let image = Image::of(self.decoded(picture)?, self.text(picture))?;
        match &self.at.pictures {
            Some(pictures) => pictures.finished(picture, image, &self.at.latent),
            None => Ok(image),
        }
    }

    /// The infotext of a picture.
    fn text(&self, picture: usize) -> String {
        infotext::render(&self.job.request(picture), &self.made, &self.knobs, self.job.given().is_some())
    }

    /// The decoded pixels before rounding, `[batch, 3, height, width]`, -1 to 1.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn pixels(&self) -> Result<Tensor<4>, Error> {
        let pictures = (0..self.job.batch()).map(|picture| self.decoded(picture)).collect::<Result<_, _>>()?;
        Ok(Tensor::cat(pictures, 0))
    }

    /// The pixels of one picture, `[1, 3, height, width]`; each is decoded once.
    fn decoded(&self, picture: usize) -> Result<Tensor<4>, Error> {
        let end = self.sampled()?;
        if let Some(pixels) = self.pixels[picture].get() {
            return Ok(pixels.clone());
        }
        if self.pixels.iter().all(|pixels| pixels.get().is_none()) {
            // The decoder's maps have other sizes than the network's: what those have left would be kept beside them.
            give_back_freed(&self.at.latent.0.device());
        }
        let vae = self.model()?.vae();
        let pixels = decoded(&*vae, &self.at.latent, picture, &self.inside).map_err(|error| told(error, end))?;
        Ok(self.pixels[picture].get_or_init(|| pixels).clone())
    }

    /// The steps of the last pass, all of which are done.
    fn sampled(&self) -> Result<[usize; 2], Error> {
        let [step, steps] = self.place();
        if self.at.pass + 1 < self.job.passes().len() || step < steps {
            return Err(Error::Unfinished { step, steps });
        }
        Ok([step, steps])
    }

    /// Steps of the pass that are done, and all of them.
    fn place(&self) -> [usize; 2] {
        [self.at.done, self.at.sigmas.steps()]
    }

    /// What stops the run when it is asked to: within a block of a network.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// A look at the pictures in the making, for any thread, while the run goes on.
    pub fn preview(&self) -> Preview {
        Preview::new(self.current.clone(), self.watch.clone(), self.inside.room())
    }

    /// Where the run stands, to go on from with [`Run::resume`].
    ///
    /// # Errors
    /// [`Error::Unsettled`] where the last step failed or was stopped in its midst.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        if self.failed {
            return Err(Error::Unsettled { step: self.at.done + 1 });
        }
        let (job, source, at) = (self.job.clone(), self.source.clone(), self.at.fork());
        Ok(Snapshot { job, source, at, name: self.made.model.name.clone() })
    }

    /// Goes on from a snapshot, of a run of the same model: the pixels are those that the run itself would have made.
    ///
    /// Wraps have in mind what they had, if they [fork](crate::Wrap::fork). Its first event is that the words are encoded.
    pub fn resume(model: Arc<dyn Model>, snapshot: Snapshot, encodings: Arc<Encodings>, cancel: Cancel) -> Self {
        Self::resumed(Arc::new(Only { model: model.clone(), encodings }), (Which::First, model), snapshot, cancel)
    }

    /// The same of a run of several models.
    ///
    /// # Errors
    /// As those of [`Models::model`].
    pub fn resume_with(models: Arc<dyn Models>, snapshot: Snapshot, cancel: Cancel) -> Result<Self, Error> {
        let Snapshot { job, at, .. } = &snapshot;
        let (which, _) = at.turn(&job.passes()[at.pass]);
        let model = models.model(which, at.pass)?;
        Ok(Self::resumed(models, (which, model), snapshot, cancel))
    }

    fn resumed(
        models: Arc<dyn Models>,
        (which, model): (Which, Arc<dyn Model>),
        snapshot: Snapshot,
        cancel: Cancel,
    ) -> Self {
        let Snapshot { job, source, at, name } = snapshot;
        let mut run = Self::standing((models, which, model), job, cancel, source, at);
        run.made.model = Ingredient { name, hash: None };
        run
    }

    /// A run that has come this far.
    fn standing(
        (models, which, model): (Arc<dyn Models>, Which, Arc<dyn Model>),
        job: Job,
        cancel: Cancel,
        source: HostNoise,
        at: Prepared,
    ) -> Self {
        let inside = Inside::until(&cancel).within(job.room());
        let made = Provenance { model: Ingredient::named(model.card().name.clone()), ..Provenance::default() };
        let pixels = (0..job.batch()).map(|_| OnceCell::new()).collect();
        Self {
            models,
            knobs: methods::keys_of(&*model),
            current: Current::of(which, model),
            job,
            cancel,
            inside,
            source,
            at,
            denoiser: None,
            watch: Watch::default(),
            finite: Finite::default(),
            failed: false,
            made,
            pixels,
        }
    }

    /// The model that it computes with now.
    fn model(&self) -> Result<Arc<dyn Model>, Error> {
        self.current.get().ok_or(Error::Unsettled { step: self.at.done + 1 })
    }

    /// The pass that the next event is of, from 0.
    pub fn next_is_of(&self) -> usize {
        let is_through = self.denoiser.is_some() && self.at.done >= self.at.sigmas.steps();
        if is_through && self.at.pass + 1 < self.job.passes().len() { self.at.pass + 1 } else { self.at.pass }
    }

    /// The step that the next event is, from 1; `None` where the words are to be encoded.
    pub fn next_step(&self) -> Option<usize> {
        (self.denoiser.is_some() && self.next_is_of() == self.at.pass).then_some(self.at.done + 1)
    }

    /// Has the infotext of the pictures say by what the model's file is known, as programs compare it: the first ten digits of its SHA-256.
    /// It may come at any time before the pictures.
    pub fn set_model_hash(&mut self, hash: String) {
        self.made.model.hash = Some(hash);
    }

    /// The same of the model that takes over.
    pub fn set_refiner_hash(&mut self, hash: String) {
        self.made.refiner.hash = Some(hash);
    }

    /// Has the infotext of the pictures name the autoencoder, where it is not the model's own. As [`Run::set_model_hash`].
    pub fn set_vae(&mut self, vae: Ingredient) {
        self.made.vae = vae;
    }

    /// How many steps of the pass that it is in are done.
    pub fn done(&self) -> usize {
        self.at.done
    }

    /// What was asked for.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The encoded prompts of the pass that the run is in, each that it has for some of its steps once, the positive ones first; none
    /// before they are encoded.
    pub fn prompts(&self) -> &[Arc<Encoded>] {
        &self.at.under
    }

    /// The noise levels of the pass, one more than there are steps.
    pub fn sigmas(&self) -> &samplers::Sigmas {
        &self.at.sigmas
    }

    /// The unit noise that the pass started from.
    pub fn noise(&self) -> &Latent {
        &self.at.noise
    }

    /// Where the run is now.
    pub fn latent(&self) -> &Latent {
        &self.at.latent
    }
}

/// The pixels of one picture of a batch, `[1, 3, height, width]`, -1 to 1.
fn decoded(vae: &dyn Autoencoder, latent: &Latent, picture: usize, inside: &Inside) -> Result<Tensor<4>, Error> {
    let pixels = vae.decode(latent.0.clone().narrow(0, picture, 1), inside)?;
    finite(Stage::Image, &pixels)?;
    Ok(pixels.clamp(-1.0, 1.0))
}

/// An error as it is told: where somebody asked to stop, that is what happened.
fn told(error: Error, [step, steps]: [usize; 2]) -> Error {
    match error {
        Error::Cancelled | Error::Step { source: samplers::Error::Cancelled, .. } => Error::Stopped { step, steps },
        error => error,
    }
}
