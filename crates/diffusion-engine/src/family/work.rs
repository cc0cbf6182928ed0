//! What a run holds beside the parts of its model, told before anything is loaded.

use memory::{Bytes, Held, Stage};

use crate::{Card, Job, Pass, Size};

/// What a job holds of a model beside its parts: some of it from the beginning to the end, some while a stage lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// What is held all the time.
    pub kept: Vec<Held>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
}

/// Encoding pictures that a run starts from.
pub const PICTURES: &str = "pictures";

/// Encoding prompts.
pub const ENCODE: &str = "encode";

/// Taking the steps of a pass.
pub const SAMPLE: &str = "sample";

/// Making the first pass's pictures larger for the second.
pub const ENLARGE: &str = "enlarge";

/// Decoding the pictures.
pub const DECODE: &str = "decode";

/// What is held of each pixel of a picture: as a network made it and as that is cut to its range, in f32, and as it is written, in eight bits.
const OF_A_PIXEL: u64 = 32;

/// How often pictures are held while they are encoded, as shares of what they are when decoded: as they were read and as they are given.
pub const DECODED_COPIES: u64 = 2;

/// How many latents a run holds beside those of its sampler: the noise, where it is now, what is looked at for previews, and what a step
/// makes.
const LATENTS: u64 = 4;

impl Work {
    /// The same with something more that is held all the time.
    pub fn keeping(mut self, name: &str, bytes: u64) -> Self {
        self.kept.push(held(name, bytes));
        self
    }

    /// The same with one more stage, which holds so many bytes each of these things.
    pub fn then<'n>(mut self, stage: &str, holds: impl IntoIterator<Item = (&'n str, u64)>) -> Self {
        let holds = holds.into_iter().map(|(name, bytes)| held(name, bytes)).collect();
        self.stages.push(Stage { name: stage.to_owned(), holds });
        self
    }

    /// What of a job is no network's: its latents, and the pictures once they are decoded.
    pub fn of(job: &Job, card: &Card) -> Self {
        let latent = |pass: &Pass| {
            let [channels, height, width] = card.latent_shape(pass.size);
            product(&[channels, height, width, job.batch(), 4])
        };
        let dumped = |pass: &Pass| latent(pass).saturating_mul(if job.keeps_latents() { pass.steps as u64 } else { 0 });
        let latents = job.passes().iter().map(latent).max().unwrap_or(0).saturating_mul(LATENTS);
        let dumped = job.passes().iter().map(dumped).fold(0, u64::saturating_add);
        let work = Self::default().keeping("latents", latents);
        if dumped > 0 { work.keeping("latents of every step", dumped) } else { work }
    }

    /// What decoding the pictures of a job holds beside the decoder's own maps: those that are done.
    pub fn decoded(job: &Job) -> u64 {
        let Size { width, height } = job.passes().last().map_or(Size { width: 0, height: 0 }, Pass::largest);
        product(&[width, height, job.batch()]).saturating_mul(OF_A_PIXEL)
    }

    /// The most that is held at once.
    pub fn most(&self) -> u64 {
        let kept = self.kept.iter().map(|held| held.bytes.0).fold(0, u64::saturating_add);
        let most = self.stages.iter().map(|stage| stage.total().0).max().unwrap_or(0);
        kept.saturating_add(most)
    }
}

fn held(name: &str, bytes: u64) -> Held {
    Held { name: name.to_owned(), bytes: Bytes(bytes) }
}

fn product(numbers: &[usize]) -> u64 {
    numbers.iter().fold(1u64, |n, &times| n.saturating_mul(times as u64))
}
