use std::sync::Arc;

use core_tensor::Latent;
use samplers::noise::NoiseSource;

use crate::{
    Applied, Error, ExtraNetwork, Hires, HiresSize, Origin, Pass, Refiner, Size, Txt2Img, Variation, Which, Wrap,
    prompt, request,
};

/// Pictures to draw: the seed, how many, and the passes that each goes through.
///
/// Whatever can be wrong with it without a model is found where it is made, so that one that exists is worth a start.
///
/// ```
/// use diffusion_engine::{Job, Size, Txt2Img};
///
/// let words = Txt2Img::of("a lighthouse in a storm").seed(42).steps(4).size(Size { width: 768, height: 512 });
/// let job = Job::of(words)?;
/// # Ok::<(), diffusion_engine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    seed: u64,
    batch: usize,
    noise: NoiseSource,
    variation: Option<Variation>,
    resized_from: Option<Size>,
    passes: Vec<Pass>,
    /// What the second pass was asked for by, for the pictures' texts.
    hires: Option<Hires>,
    /// What a refiner was asked for by, for them too.
    refiner: Option<Refiner>,
    given: Option<Latent>,
    /// Whether who draws it keeps the latent of every step.
    keeps_latents: bool,
    /// Bytes for the maps of autoencoders.
    room: Option<u64>,
}

impl Job {
    /// The job of a request: one pass from noise, and a second where [`Txt2Img::hires`] asks for it.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist; [`Error::Prompt`].
    pub fn of(request: Txt2Img) -> Result<Self, Error> {
        let request = request.checked()?;
        let prompts = [(false, &request.pass.prompt), (true, &request.pass.negative)].into_iter();
        let of_hires = request.hires.iter().flat_map(|hires| [(false, &hires.prompt), (true, &hires.negative)]);
        for (negative, prompt) in prompts.chain(of_hires) {
            prompt::checked(prompt, ExtraNetwork::is_lora).map_err(|source| Error::Prompt { negative, source })?;
        }
        let passes = request.passes()?;
        let Txt2Img { seed, batch, noise, variation, resized_from, pass: _, hires, refiner } = request;
        Ok(Self {
            seed,
            batch,
            noise,
            variation,
            resized_from,
            passes,
            hires,
            refiner,
            given: None,
            keeps_latents: false,
            room: None,
        })
    }

    /// The same job from noise that the caller made, `[batch, channels, height, width]` of the latent.
    pub fn given_noise(self, noise: Latent) -> Self {
        Self { given: Some(noise), ..self }
    }

    /// The same job, of which the caller keeps the latent after every step: that is counted in what it holds.
    pub fn keeping_latents(self) -> Self {
        Self { keeps_latents: true, ..self }
    }

    /// The same job, whose pictures are decoded and encoded with so many bytes for an autoencoder's maps, in overlapping tiles where they
    /// take more at once; tiles differ a little from the whole, and have 32 pixels of a latent at least. At once without a number.
    pub fn within(self, room: impl Into<Option<u64>>) -> Self {
        Self { room: room.into(), ..self }
    }

    /// The same job with one thing more around its model, in every pass.
    pub fn with(mut self, wrap: Arc<dyn Wrap>) -> Self {
        self.passes.iter_mut().for_each(|pass| pass.wraps.push(wrap.clone()));
        self
    }

    /// What its prompts name in angle brackets, each once, in their order.
    pub fn extra_networks(&self) -> Vec<ExtraNetwork> {
        let mut all = Vec::new();
        for network in self.passes.iter().flat_map(Pass::extra_networks) {
            if !all.contains(&network) {
                all.push(network);
            }
        }
        all
    }

    /// The same job for a model that has these LoRAs in it, by which the prompts may call them.
    pub fn applied(mut self, loras: Vec<Applied>) -> Self {
        self.passes.iter_mut().for_each(|pass| pass.loras.clone_from(&loras));
        self
    }

    /// The same job with another pass behind the last, which is like that one but for what `change` makes of it: it starts from the
    /// clean latent, of which the share `strength` becomes noise again. The noise begins anew with the pictures' seeds.
    ///
    /// Where the size changes, [`Pass::upscaler`] makes the latent larger, and all of the pass's steps are taken. The images and the text
    /// are the last pass's and the first one's.
    ///
    /// # Errors
    /// [`Error::Request`] unless the strength is above 0 and at most 1; [`Error::Sampling`] for an option that does not exist.
    pub fn then(mut self, strength: f64, change: impl FnOnce(&mut Pass)) -> Result<Self, Error> {
        let start = Origin::again(strength)?;
        let mut pass = self.last().clone();
        let size = pass.size;
        change(&mut pass);
        pass.start = start;
        pass.all_steps |= pass.size != size;
        pass.check()?;
        self.passes.push(pass);
        Ok(self)
    }

    /// The same job, whose second pass has sides that its model takes where they follow from others; `multiple` is what a model's sides are
    /// multiples of.
    ///
    /// # Errors
    /// As [`HiresSize::of`].
    pub fn suited(mut self, multiple: impl Fn(Which) -> usize) -> Result<Self, Error> {
        if let (Some(hires), [first, second, ..]) = (&self.hires, &mut *self.passes) {
            let (enlarged, kept) = hires.size.of(first.size, multiple(second.model).max(HiresSize::MULTIPLE))?;
            (second.size, second.enlarged_to) = (kept, Some(enlarged));
        }
        Ok(self)
    }

    /// The seed of the first picture.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The seed of each picture, as [`Txt2Img::seeds`].
    pub fn seeds(&self) -> Vec<u64> {
        request::seeds(self.seed, self.batch, self.variation)
    }

    /// Another seed whose noise that of the pictures is moved towards.
    pub fn variation(&self) -> Option<Variation> {
        self.variation
    }

    /// The size of a picture whose noise is carried over.
    pub fn resized_from(&self) -> Option<Size> {
        self.resized_from
    }

    /// How many pictures.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Where the noise comes from.
    pub fn noise(&self) -> NoiseSource {
        self.noise
    }

    /// The passes, at least one.
    pub fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// The models that it is drawn with, each once.
    pub fn models(&self) -> Vec<Which> {
        let of_pass = |pass: &Pass| [Some(pass.model), pass.refined_from.map(|_| Which::Refiner)];
        let mut all: Vec<Which> = self.passes.iter().flat_map(of_pass).flatten().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same job with those of its passes alone that a model has a part in; the first pass where there is none.
    pub fn of_model(&self, which: Which) -> Self {
        let is_its = |pass: &&Pass| pass.model == which || (pass.refined_from.is_some() && which == Which::Refiner);
        let mut passes: Vec<Pass> = self.passes.iter().filter(is_its).cloned().collect();
        if passes.is_empty() {
            passes.push(self.passes[0].clone());
        }
        Self { passes, ..self.clone() }
    }

    /// Bytes that the networks between its passes take at most, beside what they hold.
    pub fn upscaling_bytes(&self) -> u64 {
        let of = |two: &[Pass]| two[1].upscaler.working_bytes(two[0].size, two[1].enlarged_to.unwrap_or(two[1].size));
        self.passes.windows(2).map(of).max().unwrap_or(0)
    }

    /// Bytes that the networks between its passes hold, once they were called.
    pub fn upscaler_bytes(&self) -> u64 {
        self.passes.iter().skip(1).map(|pass| pass.upscaler.bytes()).max().unwrap_or(0)
    }

    /// Whether a pass of it starts from pictures, which have to be encoded.
    pub fn encodes_pictures(&self) -> bool {
        self.passes.iter().any(Pass::encodes)
    }

    /// Whether the caller keeps the latent after every step.
    pub fn keeps_latents(&self) -> bool {
        self.keeps_latents
    }

    /// Bytes that the maps of an autoencoder may take; as many as they take without.
    pub fn room(&self) -> Option<u64> {
        self.room
    }

    /// The noise that the caller made.
    pub(crate) fn given(&self) -> Option<&Latent> {
        self.given.as_ref()
    }

    /// What an infotext says of one picture of the batch.
    pub(crate) fn request(&self, picture: usize) -> Txt2Img {
        let Self { seed, batch, noise, variation, resized_from, .. } = *self;
        let (pass, hires, refiner) = (self.passes[0].clone(), self.hires.clone(), self.refiner.clone());
        Txt2Img { seed, batch, noise, variation, resized_from, pass, hires, refiner }.picture(picture)
    }

    fn last(&self) -> &Pass {
        self.passes.last().expect("a job has at least one pass")
    }
}
