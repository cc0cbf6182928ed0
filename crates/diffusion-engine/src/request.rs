use samplers::noise::NoiseSource;

use crate::{
    Error, Hires, Origin, Pass, Refiner, Size,
    prompt::{Wildcards, chosen, has_choices},
};

/// What to draw, and how: one pass from noise, and perhaps a second at another size.
///
/// ```
/// use diffusion_engine::{Size, Txt2Img};
///
/// let request = Txt2Img::of("a lighthouse in a storm").seed(42).steps(4).size(Size { width: 768, height: 512 });
/// let guided = request.with(|pass| pass.cfg = 2.0.into());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Txt2Img {
    /// The noise of picture `i` of a batch is that of `seed + i`.
    pub seed: u64,
    /// How many pictures, at once.
    pub batch: usize,
    /// Where the noise comes from.
    pub noise: NoiseSource,
    /// Another seed whose noise the picture's own is moved towards.
    pub variation: Option<Variation>,
    /// The size of a picture whose noise is carried over to the middle of this one's.
    pub resized_from: Option<Size>,
    /// What each picture shows, and how it is drawn.
    pub pass: Pass,
    /// A second pass at another size.
    pub hires: Option<Hires>,
    /// A model that goes on where the first has taken some steps.
    pub refiner: Option<Refiner>,
}

/// Noise on the way from the picture's own to that of another seed: a picture like it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// The other seed; picture `i` of a batch has that of `seed + i`, and all start from the request's own seed.
    pub seed: u64,
    /// How far it goes, above 0, to 1 for the other noise itself.
    pub strength: f32,
}

impl Txt2Img {
    /// The most pictures at once.
    pub const MAX_BATCH: usize = 64;

    /// The most batches one after the other.
    pub const MAX_BATCHES: usize = 1000;

    /// The least side of a picture that noise is carried over from, in pixels.
    pub const LEAST_SIDE: usize = 16;

    /// A request for one picture of 1024 × 1024 pixels in 20 Euler steps.
    pub fn of(prompt: impl Into<String>) -> Self {
        let (noise, pass) = (NoiseSource::Cpu, Pass::of(prompt));
        Self { seed: 0, batch: 1, noise, variation: None, resized_from: None, pass, hires: None, refiner: None }
    }

    /// The seed of each picture: each has the next one, but all have the first one's where they are varied.
    pub fn seeds(&self) -> Vec<u64> {
        seeds(self.seed, self.batch, self.variation)
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of steps.
    pub fn steps(self, steps: usize) -> Self {
        self.with(|pass| pass.steps = steps)
    }

    /// Sets the picture's size.
    pub fn size(self, size: Size) -> Self {
        self.with(|pass| pass.size = size)
    }

    /// The same request with what `change` makes of its pass.
    pub fn with(mut self, change: impl FnOnce(&mut Pass)) -> Self {
        change(&mut self.pass);
        self
    }

    /// The request of one picture of the batch alone.
    pub fn picture(&self, picture: usize) -> Self {
        let further = picture as u64;
        let seed = if self.variation.is_some() { self.seed } else { self.seed.wrapping_add(further) };
        let variation = self.variation.map(|of| Variation { seed: of.seed.wrapping_add(further), ..of });
        let mut alone = Self { seed, batch: 1, variation, ..self.clone() };
        if let Origin::Pictures(from) = &self.pass.start
            && from.pictures.len() > 1
        {
            alone.pass.start = Origin::Pictures(from.picture(picture).into());
        }
        alone
    }

    /// The requests of so many batches, one after the other: the seeds of each go on where those of the one before end, so that all
    /// pictures are those of one batch as large as all together.
    pub fn batches(&self, count: usize) -> Vec<Self> {
        let of_batch = |batch: usize| {
            let Self { seed, variation, .. } = self.picture(batch.saturating_mul(self.batch));
            Self { seed, variation, ..self.clone() }
        };
        (0..count).map(of_batch).collect()
    }

    /// The request with the random choices of its prompts made: one for each picture of the batch, as each makes its own from its seed, or
    /// itself where there are none. What the prompts were is kept as [`Pass::template`].
    ///
    /// # Errors
    /// [`Error::Prompt`].
    pub fn chosen(self, wildcards: &Wildcards) -> Result<Vec<Self>, Error> {
        let Pass { prompt, negative, .. } = &self.pass;
        let of_hires = self.hires.iter().flat_map(|hires| [&hires.prompt, &hires.negative]);
        if ![prompt, negative].into_iter().chain(of_hires).any(|prompt| has_choices(prompt)) {
            return Ok(vec![self]);
        }
        let of_picture = |picture| {
            let request = self.picture(picture);
            // Varied pictures have one seed, but not the same choices.
            let seed = request.variation.map_or(request.seed, |of| of.seed);
            let chosen = |negative, template: &String| {
                let made = chosen(template, seed, negative, wildcards);
                made.map(|made| (made, has_choices(template).then(|| template.clone())))
                    .map_err(|source| Error::Prompt { negative, source })
            };
            let (prompt, template) = chosen(false, &request.pass.prompt)?;
            let (negative, negative_template) = chosen(true, &request.pass.negative)?;
            let pass = Pass { prompt, negative, template, negative_template, ..request.pass };
            let hires = match request.hires {
                Some(hires) => {
                    let (prompt, _) = chosen(false, &hires.prompt)?;
                    let (negative, _) = chosen(true, &hires.negative)?;
                    Some(Hires { prompt, negative, ..hires })
                }
                None => None,
            };
            Ok(Self { pass, hires, ..request })
        };
        (0..self.batch).map(of_picture).collect()
    }

    /// The passes that each picture goes through.
    ///
    /// # Errors
    /// As [`Txt2Img::checked`].
    pub(crate) fn passes(&self) -> Result<Vec<Pass>, Error> {
        let second = self.hires.as_ref().map(|hires| hires.pass(&self.pass)).transpose()?;
        let mut passes: Vec<Pass> = [self.pass.clone()].into_iter().chain(second).collect();
        let count = passes.len();
        for (index, pass) in passes.iter_mut().enumerate() {
            let refiner = self.refiner.as_ref().filter(|refiner| refiner.passes.hold(index, count));
            if let Some(refiner) = refiner {
                pass.refined_from = Some(refiner.switch_at);
            }
            pass.check()?;
        }
        Ok(passes)
    }

    /// The same request, if nothing is wrong with it that can be told without a model.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist.
    pub fn checked(self) -> Result<Self, Error> {
        self.passes()?;
        let wrong = |what, expected: String, found: String| Err(Error::Request { what, expected, found });
        if let Some(Variation { strength, .. }) = self.variation
            && !(strength > 0.0 && strength <= 1.0)
        {
            return wrong("the strength of a variation", "above 0, to 1".into(), strength.to_string());
        }
        if let Some(Size { width, height }) = self.resized_from
            && ![width, height].iter().all(|side| (Self::LEAST_SIDE..=Size::MAX).contains(side))
        {
            let expected = format!("sides of {} to {}", Self::LEAST_SIDE, Size::MAX);
            return wrong("the size that noise is carried over from", expected, format!("{width}x{height}"));
        }
        if let Origin::Pictures(from) = &self.pass.start
            && ![1, self.batch].contains(&from.pictures.len())
        {
            let expected = format!("1, or {} as the batch has", self.batch);
            return wrong("the number of pictures to start from", expected, from.pictures.len().to_string());
        }
        if let (Origin::Pictures(_), Some(_)) = (&self.pass.start, &self.hires) {
            // Texts have one denoising strength for either.
            return wrong("the number of passes of a run that starts from a picture", "1".into(), "2".into());
        }
        if (1..=Self::MAX_BATCH).contains(&self.batch) {
            return Ok(self);
        }
        wrong("batch", format!("1 to {}", Self::MAX_BATCH), self.batch.to_string())
    }
}

pub(crate) fn seeds(first: u64, batch: usize, variation: Option<Variation>) -> Vec<u64> {
    let further = |picture: usize| if variation.is_some() { 0 } else { picture as u64 };
    (0..batch).map(|picture| first.wrapping_add(further(picture))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_several_batches_are_those_of_one_that_is_as_large() {
        let alone = |request: &Txt2Img| (0..request.batch).map(|picture| request.picture(picture)).collect::<Vec<_>>();
        for variation in [None, Some(Variation { seed: u64::MAX - 2, strength: 0.5 })] {
            let six = Txt2Img { batch: 6, variation, ..Txt2Img::of("a").seed(u64::MAX - 3) };
            for batch in [1, 2, 3, 6] {
                let batches = Txt2Img { batch, ..six.clone() }.batches(6 / batch);
                assert!(batches.iter().all(|request| request.batch == batch));
                assert_eq!(batches.iter().flat_map(alone).collect::<Vec<_>>(), alone(&six));
            }
        }
    }
}
