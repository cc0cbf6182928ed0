use std::sync::Arc;

use core_tensor::Latent;
use samplers::noise::NoiseSource;

use crate::{Applied, Error, ExtraNetwork, Origin, Pass, Size, Txt2Img, Variation, Wrap, prompt, request};

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
    given: Option<Latent>,
}

impl Job {
    /// The job of a request: one pass from noise.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist; [`Error::Prompt`].
    pub fn of(request: Txt2Img) -> Result<Self, Error> {
        let request = request.checked()?;
        for (negative, prompt) in [(false, &request.pass.prompt), (true, &request.pass.negative)] {
            prompt::checked(prompt, ExtraNetwork::is_lora).map_err(|source| Error::Prompt { negative, source })?;
        }
        let Txt2Img { seed, batch, noise, variation, resized_from, pass } = request;
        Ok(Self { seed, batch, noise, variation, resized_from, passes: vec![pass], given: None })
    }

    /// The same job from noise that the caller made, `[batch, channels, height, width]` of the latent.
    pub fn given_noise(self, noise: Latent) -> Self {
        Self { given: Some(noise), ..self }
    }

    /// The same job with one thing more around its model, in every pass.
    pub fn with(mut self, wrap: Arc<dyn Wrap>) -> Self {
        self.passes.iter_mut().for_each(|pass| pass.wraps.push(wrap.clone()));
        self
    }

    /// What its prompts name in angle brackets, in their order.
    pub fn extra_networks(&self) -> Vec<ExtraNetwork> {
        let prompts = self.passes.iter().flat_map(|pass| [&pass.prompt, &pass.negative]);
        prompts.flat_map(|prompt| prompt::extra_networks(prompt)).collect()
    }

    /// The same job for a model that has these LoRAs in it, by which the prompts may call them.
    pub fn applied(mut self, loras: Vec<Applied>) -> Self {
        self.passes.iter_mut().for_each(|pass| pass.loras.clone_from(&loras));
        self
    }

    /// The same job with another pass behind the last, which is like that one but for what `change` makes of it: it starts from the
    /// clean latent, of which the share `strength` becomes noise again.
    ///
    /// # Errors
    /// [`Error::Request`] unless the strength is above 0 and at most 1 and the size stays; [`Error::Sampling`] for an option that does
    /// not exist.
    pub fn then(mut self, strength: f64, change: impl FnOnce(&mut Pass)) -> Result<Self, Error> {
        let wrong = |what, expected: String, found: String| Err(Error::Request { what, expected, found });
        if !(strength > 0.0 && strength <= 1.0) {
            return wrong("the strength of a pass", "above 0, to 1".into(), strength.to_string());
        }
        let mut pass = self.last().clone();
        let size = pass.size;
        change(&mut pass);
        pass.start = Origin::Last(strength);
        if pass.size != size {
            return wrong("the size of a further pass", size.to_string(), pass.size.to_string());
        }
        pass.check()?;
        self.passes.push(pass);
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

    /// The noise that the caller made.
    pub(crate) fn given(&self) -> Option<&Latent> {
        self.given.as_ref()
    }

    /// What an infotext says of one picture of the batch: the request of its first pass.
    pub(crate) fn request(&self, picture: usize) -> Txt2Img {
        let Self { seed, batch, noise, variation, resized_from, .. } = *self;
        Txt2Img { seed, batch, noise, variation, resized_from, pass: self.passes[0].clone() }.picture(picture)
    }

    fn last(&self) -> &Pass {
        self.passes.last().expect("a job has at least one pass")
    }
}
