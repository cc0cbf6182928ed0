use std::{fmt, path::Path, sync::Arc};

use core_tensor::{Latent, Tensor};
use diffusion_engine::{
    Cancel, Encoded, Error as RunError, Event, Image, Ingredient, Job, Origin, Snapshot, family::work,
};
use memory::{MemoryReport, Plan};

use crate::{MemoryWatch, ModelHash, Result, Threads, loras::Strengths, open::Opened};

/// One job in progress: an iterator of events that the caller drives, from any thread. It computes in its `Forge`'s pool.
pub struct Run {
    run: diffusion_engine::Run,
    /// What the model was opened from.
    opened: Arc<Opened>,
    threads: Threads,
    /// The file name of the autoencoder, where it is not the model's own.
    vae: Option<String>,
    /// How much the LoRAs in its models count in each pass.
    loras: Vec<Vec<Strengths>>,
    memory: MemoryWatch,
    /// The report of a stage that has just ended.
    report: Option<MemoryReport>,
}

impl Iterator for Run {
    type Item = Result<Event>;

    /// Encodes the words, or takes one step, or tells what a stage held of memory that the event before has ended; `None` when there is
    /// nothing left, or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let of_pass = self.run.next_is_of();
        let report = self.report.take().map(|report| Ok(Event::Memory(report)));
        let event = report.or_else(|| self.advance())?;
        self.report = match &event {
            Ok(Event::Encoded { .. }) if of_pass > 0 => Some(self.memory.report(work::ENLARGE)),
            Ok(Event::Encoded { .. }) => Some(self.memory.report(work::ENCODE)),
            Ok(Event::Step(step)) if step.step == step.steps => Some(self.memory.report(work::SAMPLE)),
            Ok(_) | Err(_) => None,
        };
        self.memory.at += 1;
        Some(event)
    }
}

impl Run {
    /// Encodes the words, or takes one step.
    fn advance(&mut self) -> Option<Result<Event>> {
        let Self { run, opened, threads, loras, .. } = self;
        let step = run.next_step();
        let turns: Vec<_> = loras[run.next_is_of()].iter().map(|strengths| strengths.set(step)).collect();
        let event = threads.compute(|| run.next());
        drop(turns);
        if let Some(Ok(Event::Encoded { .. })) = &event {
            // Text encoders stay in their files, and the next prompt may never come.
            opened.give_back();
        }
        Some(event?.map_err(|error| opened.explained(error)))
    }

    pub(crate) fn new(
        mut run: diffusion_engine::Run,
        opened: Arc<Opened>,
        threads: Threads,
        loras: Vec<Vec<Strengths>>,
        plan: Plan,
    ) -> Self {
        let vae = opened.vae().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        vae.iter().for_each(|name| run.set_vae(Ingredient::named(name)));
        let (model, device) = (opened.name().to_owned(), opened.own_memory());
        let memory = MemoryWatch { plan, model, at: 0, device };
        Self { run, opened, threads, vae, loras, memory, report: None }
    }

    /// The same of a run that has just begun, which is when pictures to start from are encoded.
    pub(crate) fn begun(mut self) -> Self {
        let starts = self.job().passes().iter().any(|pass| matches!(pass.start, Origin::Pictures(_)));
        self.report = starts.then(|| self.memory.report(work::PICTURES));
        self
    }

    /// What tells how much memory the run holds, for after its pictures are decoded: decoding is no event of the run.
    pub fn memory(&self) -> MemoryWatch {
        self.memory.clone()
    }

    /// The pictures, decoded: one for each of the batch.
    ///
    /// # Errors
    /// [`RunError::Unfinished`] while steps are left, [`RunError::NotFinite`] if the decoder fails, [`RunError::Stopped`].
    pub fn images(&mut self) -> Result<Vec<Image>> {
        self.compute(diffusion_engine::Run::images)
    }

    /// The same of a run that is done with, which lets the model go first: where the [`Forge`](crate::Forge) is gone too, its network makes
    /// room for the decoder.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn into_images(self) -> Result<Vec<Image>> {
        let Self { run, opened, threads, loras, .. } = self;
        drop(loras);
        threads.compute(|| run.into_images()).map_err(|error| opened.explained(error))
    }

    /// The first picture; the others of a batch are not decoded.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn image(&mut self) -> Result<Image> {
        self.compute(diffusion_engine::Run::image)
    }

    /// The decoded pixels before rounding, `[batch, 3, height, width]`, -1 to 1.
    ///
    /// # Errors
    /// As [`Run::images`].
    pub fn pixels(&mut self) -> Result<Tensor<4>> {
        self.compute(diffusion_engine::Run::pixels)
    }

    fn compute<T: Send>(&mut self, work: fn(&diffusion_engine::Run) -> std::result::Result<T, RunError>) -> Result<T> {
        let Self { run, opened, threads, .. } = self;
        threads.compute(move || work(run)).map_err(|error| opened.explained(error))
    }

    /// What stops the run when it is asked to, from any thread: within a block of a network.
    pub fn cancel(&self) -> Cancel {
        self.run.cancel()
    }

    /// A look at the picture in the making, for any thread, while the run goes on.
    pub fn preview(&self) -> Preview {
        let preview = self.run.preview();
        let preview = match self.opened.preview() {
            Some(decoder) => preview.decoded_by(decoder),
            None => preview,
        };
        Preview { preview, threads: self.threads.clone() }
    }

    /// Where the run stands, to go on from with [`Forge::resume`](crate::Forge::resume).
    ///
    /// # Errors
    /// [`RunError::Unsettled`] where the last step failed or was stopped in its midst.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.run.snapshot()?)
    }

    /// Has the infotext of the pictures name the model's file by its hash, as A1111 does. It may come at any time before the pictures, so that
    /// a large file is read while the model computes.
    pub fn set_model_hash(&mut self, hash: &ModelHash) {
        self.run.set_model_hash(hash.short());
    }

    /// The same for the file of the model that takes over, where the job has one.
    pub fn set_refiner_hash(&mut self, hash: &ModelHash) {
        self.run.set_refiner_hash(hash.short());
    }

    /// The same for the autoencoder's file, where that is not the model's own.
    pub fn set_vae_hash(&mut self, hash: &ModelHash) {
        if let Some(name) = self.vae.clone() {
            self.run.set_vae(Ingredient { name: Some(name), hash: Some(hash.short()) });
        }
    }

    /// What was asked for.
    pub fn job(&self) -> &Job {
        self.run.job()
    }

    /// The encoded prompts, the positive one first; none before they are encoded.
    pub fn prompts(&self) -> &[Arc<Encoded>] {
        self.run.prompts()
    }

    /// The noise levels, one more than there are steps.
    pub fn sigmas(&self) -> &samplers::Sigmas {
        self.run.sigmas()
    }

    /// The unit noise that the run started from.
    pub fn noise(&self) -> &Latent {
        self.run.noise()
    }

    /// Where the run is now.
    pub fn latent(&self) -> &Latent {
        self.run.latent()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Run").field("job", self.job()).field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// A look at the picture of a run in the making. Clones share it.
#[derive(Clone)]
pub struct Preview {
    preview: diffusion_engine::Preview,
    threads: Threads,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Preview").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Preview {
    /// The first picture of the batch as it looks now; `None` before the model was called.
    ///
    /// It is decoded by the config's tiny decoder; without one it has a pixel for each of the latent's where the model says how its channels
    /// look, and is decoded as pictures are otherwise. It has its turn in the `Forge`'s pool: behind the step that is computed now.
    ///
    /// # Errors
    /// A picture in the making that holds NaN.
    pub fn image(&self) -> Result<Option<Image>> {
        let Self { preview, threads } = self;
        Ok(threads.compute(|| preview.image())?)
    }

    /// A corner of that picture, and its share of the whole: for who wants to know what [`Preview::image`] takes before it is asked for one.
    ///
    /// # Errors
    /// As [`Preview::image`].
    pub fn corner(&self) -> Result<Option<(Image, f64)>> {
        let Self { preview, threads } = self;
        Ok(threads.compute(|| preview.corner())?)
    }
}
