//! A pass made ready: its noise levels, its noise, and what takes its steps.

use std::sync::Arc;

use core_tensor::Latent;
use samplers::{Denoiser, Prediction, Sampler, SigmaSpace, Sigmas, Start, Stepper};

use crate::{
    Again, Around, Clock, Encoded, Error, Guidance, Inside, Job, Model, Moment, Origin, Pass, Place, Stage, Which,
    Wrap,
    finite::finite,
    host_noise::HostNoise,
    methods,
    scripts::Scripts,
    start_pictures::{StartPictures, noised},
    wrap::{Count, Mask, exact_steps, only_where},
};

/// A pass of a job, and where it stands.
pub(crate) struct Prepared {
    /// Which pass, from 0.
    pub(crate) pass: usize,
    pub(crate) space: SigmaSpace,
    pub(crate) sigmas: Sigmas,
    pub(crate) stepper: Box<dyn Stepper>,
    /// The unit noise that it started from.
    pub(crate) noise: Latent,
    pub(crate) latent: Latent,
    /// Steps done.
    pub(crate) done: usize,
    pub(crate) clock: Clock,
    pub(crate) scripts: Scripts,
    /// The pictures that it started from.
    pub(crate) pictures: Option<StartPictures>,
    /// What keeps the rest of them, where a part is drawn anew.
    mask: Option<Arc<Mask>>,
    /// The prompts, once they are encoded.
    pub(crate) under: Vec<Arc<Encoded>>,
    /// What stands around the model, with what it remembers of this pass.
    pub(crate) wraps: Vec<Arc<dyn Wrap>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// The first pass of a job, from the noise that the job brings or that its seed stands for, alone or over pictures.
    pub(crate) fn first(
        model: &Arc<dyn Model>,
        job: &Job,
        source: &mut HostNoise,
        inside: &Inside,
    ) -> Result<Self, Error> {
        let pass = &job.passes()[0];
        let scripts = Scripts::of(job, 0)?;
        let space = model.sigma_space(pass);
        let Spaced { sigmas, stepper, sampler, scale, .. } = Spaced::of(pass, &**model)?;
        source.over(&sigmas);
        let [c, h, w] = model.card().latent_shape(pass.size);
        let pictures = match &pass.start {
            Origin::Noise | Origin::Last(_) => None,
            Origin::Pictures(from) => Some(StartPictures::of(model, from, (pass.size, job.batch()), source, inside)?),
        };
        // Drawn in any case, so that what stochastic samplers draw later does not depend on whether the start was given.
        let drawn = source.start(job, [job.batch(), c, h, w], model.card().factor, model.device());
        source.begin_steps(pass, &sampler);
        let noise = match job.given() {
            None => drawn,
            Some(noise) if noise.0.dims() == drawn.0.dims() => Latent(noise.0.clone().to_device(model.device())),
            Some(noise) => {
                let (found, expected) = (format!("{:?}", noise.0.dims()), format!("{:?}", drawn.0.dims()));
                return Err(Error::Request { what: "the given noise's shape", expected, found });
            }
        };
        finite(Stage::Noise, &noise.0)?;
        let latent = match &pictures {
            None => Latent(noise.0.clone() * scale),
            Some(pictures) => pictures.begun(&noise, (sigmas[0], scale), space.process(), pass),
        };
        let wraps = methods::wraps(&**model, pass)?;
        let begun = Self::begun(0, space, (sigmas, stepper), (noise, latent), scripts, wraps);
        Ok(begun.over(pictures, pass, &**model, source))
    }

    /// A further pass, from the clean latent of the one before in this one's size. Its noise begins anew with the pictures' seeds.
    pub(crate) fn further(
        model: &dyn Model,
        job: &Job,
        index: usize,
        clean: Latent,
        source: &mut HostNoise,
    ) -> Result<Self, Error> {
        let pass = &job.passes()[index];
        let scripts = Scripts::of(job, index)?;
        let space = model.sigma_space(pass);
        let Spaced { sigmas, stepper, sampler, path, .. } = Spaced::of(pass, model)?;
        *source = HostNoise::of(job);
        source.over(path.as_deref().unwrap_or(&sigmas));
        let noise = source.start(job, clean.0.dims(), model.card().factor, model.device());
        source.begin_steps(pass, &sampler);
        let latent = noised(clean.0, noise.0.clone(), sigmas[0], space.process());
        let wraps = methods::wraps(model, pass)?;
        Ok(Self::begun(index, space, (sigmas, stepper), (noise, latent), scripts, wraps))
    }

    fn begun(
        pass: usize,
        space: SigmaSpace,
        (sigmas, stepper): (Sigmas, Box<dyn Stepper>),
        (noise, latent): (Latent, Latent),
        scripts: Scripts,
        wraps: Vec<Arc<dyn Wrap>>,
    ) -> Self {
        let (clock, under) = (Clock::default(), Vec::new());
        let (pictures, mask) = (None, None);
        Self { pass, space, sigmas, stepper, noise, latent, done: 0, clock, scripts, pictures, mask, under, wraps }
    }

    /// Which model goes on with the pass, and from which call on the refiner does, where it is still to come.
    pub(crate) fn turn(&self, pass: &Pass) -> (Which, Option<usize>) {
        match pass.refined_from_call(self.sigmas.steps()) {
            None => (pass.model, None),
            Some(from) if from > self.clock.at(0.0).call => (pass.model, Some(from)),
            // A run that goes on from a snapshot may be the refiner's already.
            Some(_) => (Which::Refiner, None),
        }
    }

    /// The same from pictures, of which a mask may keep a part.
    pub(crate) fn over(
        self,
        pictures: Option<StartPictures>,
        pass: &Pass,
        model: &dyn Model,
        source: &HostNoise,
    ) -> Self {
        let keeps = pass.profile.keeps_shown || !model.is_shown_pictures();
        let mask = pictures.as_ref().filter(|_| keeps);
        let mask = mask.and_then(|pictures| pictures.mask(&self.noise, self.space.process(), pass, source));
        let mask = mask.map(Arc::new);
        Self { pictures, mask, ..self }
    }

    /// What a step made, with the rest of the pictures around it if it is the last one.
    pub(crate) fn completed(&self, latent: Latent) -> Latent {
        match &self.pictures {
            Some(pictures) if self.mask.is_some() && self.done + 1 == self.sigmas.steps() => pictures.completed(latent),
            Some(_) | None => latent,
        }
    }

    /// The same pass in the same state.
    pub(crate) fn fork(&self) -> Self {
        let Self { pass, space, sigmas, stepper, noise, latent, done, clock, scripts, under, wraps, .. } = self;
        let Self { pictures, mask, .. } = self;
        Self {
            pass: *pass,
            space: *space,
            sigmas: sigmas.clone(),
            stepper: stepper.fork(),
            noise: noise.clone(),
            latent: latent.clone(),
            done: *done,
            clock: clock.fork(),
            scripts: scripts.clone(),
            pictures: pictures.clone(),
            mask: mask.clone(),
            under: under.clone(),
            wraps: wraps.iter().map(|wrap| wrap.fork().unwrap_or_else(|| wrap.clone())).collect(),
        }
    }

    /// A model's answers as the steps of this pass get them: through the pass's own wraps, guided, and looked at by these.
    pub(crate) fn wrapped(
        &self,
        pass: &Pass,
        again: &Again,
        predicts: Option<Prediction>,
        looks: [&dyn Wrap; 2],
    ) -> Result<Box<dyn Denoiser>, Error> {
        let Self { space, sigmas, latent, clock, wraps, .. } = self;
        let around = Around { pass, space: *space, sigmas, shape: latent.0.dims(), clock, predicts, again };
        let at = |place| wraps.iter().map(|wrap| &**wrap).filter(move |wrap| wrap.place() == place);
        let wrap = |inner, wrap: &dyn Wrap| wrap.around(inner, &around);
        let inside = at(Place::Inside).try_fold(again.denoiser(), wrap)?;
        let asking = Asking::of(pass, wraps);
        let guided =
            only_where(inside, clock, move |at| asking.guides(at), |inner| guidance(wraps).around(inner, &around))?;
        let mask = self.mask.iter().map(|mask| &**mask as &dyn Wrap);
        let last = looks.into_iter().chain([&Count as &dyn Wrap]);
        mask.chain(at(Place::Outside)).chain(last).try_fold(guided, wrap)
    }
}

/// What makes one answer of several.
fn guidance(wraps: &[Arc<dyn Wrap>]) -> &dyn Wrap {
    let last = wraps.iter().rfind(|wrap| wrap.place() == Place::Guidance);
    last.map_or(&Guidance, |wrap| &**wrap)
}

/// Who asks the model in a pass.
pub(crate) struct Asking {
    pass: Pass,
    wraps: Vec<Arc<dyn Wrap>>,
}

impl Asking {
    pub(crate) fn of(pass: &Pass, wraps: &[Arc<dyn Wrap>]) -> Self {
        Self { pass: pass.clone(), wraps: wraps.to_vec() }
    }

    /// Whether a call needs the answer to the negative prompt.
    pub(crate) fn wants_negative(&self, at: &Moment) -> bool {
        let guided = || self.guides(at) && guidance(&self.wraps).wants_negative(&self.pass, at);
        self.pass.sampler.needs_negative || guided()
    }

    /// Whether nothing around guidance speaks against it in a call.
    fn guides(&self, at: &Moment) -> bool {
        let mut around = self.wraps.iter().filter(|wrap| wrap.place() != Place::Guidance);
        around.all(|wrap| wrap.wants_negative(&self.pass, at))
    }
}

/// The noise levels of a pass, and what steps from one to the next.
struct Spaced {
    sigmas: Sigmas,
    stepper: Box<dyn Stepper>,
    /// What the profile means by the pass's sampler.
    sampler: Sampler,
    /// What noise of unit variance is multiplied by to start.
    scale: f32,
    /// The levels that the noise of steps is on a path over, where they are not those of the steps.
    path: Option<Sigmas>,
}

impl Spaced {
    fn of(pass: &Pass, model: &dyn Model) -> Result<Self, Error> {
        let Pass { profile, .. } = pass;
        let space = model.sigma_space(pass);
        let sampler = match &pass.sigmas {
            // What has levels of its own would not take those that are given.
            Some(_) => pass.sampler.clone(),
            None => profile.sampler(&pass.sampler, &space),
        };
        let schedule = profile.variant(&pass.schedule.resolved(&sampler, &space));
        // With this model `automatic` stands for one schedule alone.
        pass.options.checked(&[&sampler.params[..], &schedule.params].concat())?;
        let options = pass.options.clone().or(&model.schedule_options(), &schedule.params);
        // Given levels make one step less than they are, whatever number is asked for.
        let asked = pass.sigmas.as_ref().map_or(pass.steps, |levels| levels.len().saturating_sub(1));
        let taken = |(steps, taken): (usize, usize)| (steps, Some(taken));
        let (steps, taken) = match &pass.start {
            Origin::Noise => (pass.steps, None),
            Origin::Last(strength) => taken(pass.spaced_for(space.process(), *strength)),
            Origin::Pictures(from) if from.exact_steps => taken(exact_steps(asked, from.strength)),
            Origin::Pictures(from) => taken(profile.img2img_steps(space.process(), asked, from.strength)),
        };
        let start = Start { space, steps, options: &options };
        let levels = match &pass.sigmas {
            Some(levels) => Sigmas::literal(levels)?,
            None => profile.levels(&schedule, &sampler, &start)?,
        };
        let (levels, path) = match taken {
            Some(taken) => {
                let path = profile.whole_path.then(|| levels.clone());
                (levels.last_steps(taken), path)
            }
            None => (levels, None),
        };
        let (sigmas, stepper) = sampler.begin(&start, levels.clone())?;
        Ok(Self { scale: sampler.starts_with(&levels, &sigmas), sigmas, stepper, sampler, path })
    }
}
