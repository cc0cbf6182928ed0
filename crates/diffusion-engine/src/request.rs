use samplers::noise::NoiseSource;

use crate::{Error, Pass, Size};

/// What to draw, and how: one pass from noise.
///
/// ```
/// use diffusion_engine::{Size, Txt2Img};
///
/// let request = Txt2Img::of("a lighthouse in a storm").seed(42).steps(4).size(Size { width: 768, height: 512 });
/// let guided = request.with(|pass| pass.cfg = 2.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Txt2Img {
    /// The noise of picture `i` of a batch is that of `seed + i`.
    pub seed: u64,
    /// How many pictures, at once.
    pub batch: usize,
    /// Where the noise comes from.
    pub noise: NoiseSource,
    /// What each picture shows, and how it is drawn.
    pub pass: Pass,
}

impl Txt2Img {
    /// The most pictures at once.
    pub const MAX_BATCH: usize = 64;

    /// A request for one picture of 1024 × 1024 pixels in 20 Euler steps.
    pub fn of(prompt: impl Into<String>) -> Self {
        Self { seed: 0, batch: 1, noise: NoiseSource::Cpu, pass: Pass::of(prompt) }
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

    /// The same request, if nothing is wrong with it that can be told without a model.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Sampling`] for a number out of its range, or an option that does not exist.
    pub fn checked(self) -> Result<Self, Error> {
        self.pass.check()?;
        if (1..=Self::MAX_BATCH).contains(&self.batch) {
            return Ok(self);
        }
        let expected = format!("1 to {}", Self::MAX_BATCH);
        Err(Error::Request { what: "batch", expected, found: self.batch.to_string() })
    }
}
