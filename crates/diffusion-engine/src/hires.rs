use samplers::{Options, Sampler, Schedule};

use crate::{Error, Origin, Pass, PerStep, Size, Upscaler, Which};

/// A second pass at another size, whose start is what the first one made: "Hires. fix" of A1111, whose rules these are
/// (Forge: modules/processing.py `StableDiffusionProcessingTxt2Img`, dfdcbab).
///
/// It has the pass before's settings but for those that are said here, takes exactly its number of steps whatever the strength, and begins
/// its noise anew with the pictures' seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Hires {
    /// How large it is.
    pub size: HiresSize,
    /// What makes the first pass's result larger.
    pub upscaler: Upscaler,
    /// Its steps, 1 to 1000; else as many as the first pass has.
    pub steps: Option<usize>,
    /// The share of it that becomes noise again, above 0 to 1.
    pub strength: f64,
    /// How its steps are taken, if not as the first pass's.
    pub sampler: Option<Sampler>,
    /// How its noise levels are spaced, if not as the first pass's.
    pub schedule: Option<Schedule>,
    /// Its classifier-free guidance, if not the first pass's.
    pub cfg: Option<PerStep>,
    /// The family's settings that are others than in the first pass, such as Flux's guidance.
    pub knobs: Options,
    /// What it shows; empty for what the first pass does.
    pub prompt: String,
    /// What it should not show; empty for what the first pass should not.
    pub negative: String,
    /// What its own model is called; empty for the first pass's.
    pub model: String,
}

/// How large a second pass is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HiresSize {
    /// So many times the first pass, rounded down to whole pixels and then to multiples.
    Scale(f64),
    /// Of these pixels. A side of 0 is as the first pass's shape has it, rounded down; where both are given, what the first pass made
    /// covers them, and its middle is kept.
    Sides {
        /// Pixels across, or 0.
        width: usize,
        /// Pixels down, or 0.
        height: usize,
    },
}

impl HiresSize {
    /// Sides are multiples of so many pixels at least.
    pub const MULTIPLE: usize = 8; // modules/processing.py: opt_f

    /// How many times the first pass a second may be.
    pub const SCALE: std::ops::RangeInclusive<f64> = 1.0..=16.0;

    /// For a first pass of a size: what that is made larger to, and the middle of it that is kept. Sides that follow from others are rounded
    /// down to `multiple`; where that is coarser than [`HiresSize::MULTIPLE`] and makes a difference, all of what is made larger is kept.
    ///
    /// # Errors
    /// [`Error::Request`] for a scale out of range, or sides beyond [`Size::MAX`].
    pub fn of(self, first: Size, multiple: usize) -> Result<(Size, Size), Error> {
        let wrong = |what, expected: String, found: String| Err(Error::Request { what, expected, found });
        let along = |side: usize, own: usize, other: usize| side.saturating_mul(other) / own.max(1);
        let Size { width, height } = first;
        let enlarged = match self {
            Self::Scale(scale) if !Self::SCALE.contains(&scale) => {
                let (least, most) = (Self::SCALE.start(), Self::SCALE.end());
                return wrong("the scale of the second pass", format!("{least} to {most}"), scale.to_string());
            }
            Self::Scale(scale) => {
                let scaled = |side: usize| (side as f64 * scale) as usize;
                Size { width: scaled(width), height: scaled(height) }
            }
            Self::Sides { width: 0, height: 0 } => {
                return wrong("the size of the second pass", "a side or two".into(), "0x0".into());
            }
            Self::Sides { width: across, height: 0 } => Size { width: across, height: along(across, width, height) },
            Self::Sides { width: 0, height: down } => Size { width: along(down, height, width), height: down },
            Self::Sides { width: across, height: down } => {
                match (width as f64 / height as f64) < across as f64 / down as f64 {
                    true => Size { width: across, height: along(across, width, height) },
                    false => Size { width: along(down, height, width), height: down },
                }
            }
        };
        let fine = |side: usize| side / Self::MULTIPLE * Self::MULTIPLE;
        let whole = |side: usize| side / multiple * multiple;
        // Another than asked for is refused where the model is known.
        let kept = match self {
            Self::Sides { width: across @ 1.., height: down @ 1.. } => Size { width: across, height: down },
            Self::Sides { width: 0, .. } => Size { width: whole(enlarged.width), height: fine(enlarged.height) },
            Self::Sides { height: 0, .. } => Size { width: fine(enlarged.width), height: whole(enlarged.height) },
            Self::Scale(_) => Size { width: whole(enlarged.width), height: whole(enlarged.height) },
        };
        let enlarged = match self {
            Self::Sides { width: 1.., height: 1.. } => enlarged,
            Self::Sides { .. } | Self::Scale(_) => {
                let side = |side: usize, kept: usize| if fine(side) == kept { side } else { kept };
                Size { width: side(enlarged.width, kept.width), height: side(enlarged.height, kept.height) }
            }
        };
        let is_size = |side: &usize| (Self::MULTIPLE..=Size::MAX).contains(side);
        if [enlarged.width, enlarged.height, kept.width, kept.height].iter().all(is_size) {
            return Ok((enlarged, kept));
        }
        let expected = format!("sides of {} to {}, before its middle is kept too", Self::MULTIPLE, Size::MAX);
        wrong("the size of the second pass", expected, enlarged.to_string())
    }
}

impl Hires {
    /// As large as `size` says, and else as A1111 has it where nothing is set.
    pub fn of(size: HiresSize) -> Self {
        Self {
            size,
            upscaler: Upscaler::default(),
            steps: None,
            strength: Self::STRENGTH,
            sampler: None,
            schedule: None,
            cfg: None,
            knobs: Options::default(),
            prompt: String::new(),
            negative: String::new(),
            model: String::new(),
        }
    }

    /// The share that becomes noise again where nothing is said.
    pub const STRENGTH: f64 = 0.75; // modules/processing.py: denoising_strength

    /// The second pass behind a first one.
    ///
    /// # Errors
    /// As [`HiresSize::of`], [`Error::Request`] for a strength out of its range, and those of any pass.
    pub(crate) fn pass(&self, first: &Pass) -> Result<Pass, Error> {
        let mut pass = first.clone();
        let (enlarged, kept) = self.size.of(pass.size, HiresSize::MULTIPLE)?;
        pass.start = Origin::again(self.strength)?;
        let first_steps = pass.sigmas.take().map_or(pass.steps, |levels| levels.len().saturating_sub(1));
        (pass.size, pass.enlarged_to, pass.all_steps) = (kept, Some(enlarged), true);
        pass.upscaler = self.upscaler.clone();
        pass.steps = self.steps.unwrap_or(first_steps);
        self.sampler.iter().for_each(|sampler| pass.sampler = sampler.clone());
        self.schedule.iter().for_each(|schedule| pass.schedule = schedule.clone());
        self.cfg.iter().for_each(|cfg| pass.cfg = cfg.clone());
        self.knobs.iter().for_each(|(name, value)| pass.knobs.set(name, value.clone()));
        // What the first pass's sampler and schedule can be told, others may not know.
        let (params, mut options) = (pass.params(), Options::default());
        let known = pass.options.iter().filter(|(name, _)| params.iter().any(|param| param.name == *name));
        known.for_each(|(name, value)| options.set(name, value.clone()));
        pass.options = options;
        for (own, of_pass, template) in [
            (&self.prompt, &mut pass.prompt, &mut pass.template),
            (&self.negative, &mut pass.negative, &mut pass.negative_template),
        ] {
            if !own.is_empty() {
                own.clone_into(of_pass);
                *template = None;
            }
        }
        if !self.model.is_empty() {
            pass.model = Which::Hires;
        }
        pass.check()?;
        Ok(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(first: (usize, usize), size: HiresSize) -> Option<[(usize, usize); 2]> {
        sizes_in(first, size, HiresSize::MULTIPLE)
    }

    fn sizes_in(first: (usize, usize), size: HiresSize, multiple: usize) -> Option<[(usize, usize); 2]> {
        let (enlarged, kept) = size.of(Size { width: first.0, height: first.1 }, multiple).ok()?;
        Some([enlarged, kept].map(|size| (size.width, size.height)))
    }

    /// Worked out by hand from modules/processing.py `calculate_target_resolution`.
    #[test]
    fn sizes_follow_the_web_uis_rules() {
        let scale = |first, scale| sizes(first, HiresSize::Scale(scale));
        assert_eq!(scale((512, 768), 2.0), Some([(1024, 1536); 2]));
        assert_eq!(scale((512, 512), 1.1), Some([(563, 563), (560, 560)]));
        let sides = |first, width, height| sizes(first, HiresSize::Sides { width, height });
        assert_eq!(sides((512, 768), 1000, 0), Some([(1000, 1500), (1000, 1496)]));
        assert_eq!(sides((512, 768), 0, 1000), Some([(666, 1000), (664, 1000)]));
        // taller than asked for, and wider
        assert_eq!(sides((512, 768), 1024, 1024), Some([(1024, 1536), (1024, 1024)]));
        assert_eq!(sides((768, 512), 1024, 1024), Some([(1536, 1024), (1024, 1024)]));
        assert_eq!(sides((512, 512), 1024, 1024), Some([(1024, 1024); 2]));
        for size in [f64::NAN, 0.5, 17.0].map(HiresSize::Scale) {
            assert_eq!(sizes((512, 512), size), None);
        }
        assert_eq!((sides((512, 512), 0, 0), sides((64, 16384), 16384, 0)), (None, None));
        assert_eq!(sides((64, 16384), 16384, 16384), None);
        assert_eq!(scale((16384, 64), 2.0), None);
    }

    #[test]
    fn sides_that_nobody_gave_are_those_that_a_model_takes() {
        let scale = |first, scale| sizes_in(first, HiresSize::Scale(scale), 16);
        assert_eq!(scale((64, 64), 1.4), Some([(80, 80); 2])); // 89, of which 88 would do in eighths
        assert_eq!(scale((512, 512), 1.1), Some([(563, 563), (560, 560)])); // as in eighths
        assert_eq!(scale((64, 96), 1.4), Some([(80, 134), (80, 128)]));
        let sides = |width, height| sizes_in((512, 768), HiresSize::Sides { width, height }, 16);
        assert_eq!(sides(1008, 0), Some([(1008, 1504); 2]));
        // and one that somebody gave stays, to be refused
        assert_eq!(sides(0, 1000), Some([(656, 1000); 2]));
        assert_eq!(sides(1000, 1000), Some([(1000, 1500), (1000, 1000)]));
    }
}
