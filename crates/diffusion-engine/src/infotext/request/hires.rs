use samplers::Options;

use super::{super::made_with::titled, Meaning, Said, Second};
use crate::{Catalog, Error, Hires, HiresSize, RefinedPasses, Refiner, Upscaler};

impl Said<'_> {
    /// The second pass; none where the text has none, or one whose upscaler is not known here.
    pub(super) fn hires(&self, catalog: &Catalog) -> Result<Option<Hires>, Error> {
        let number = |key: &str, value: &str| {
            let number = value.trim().parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| self.wrong(key, "a number", value))
        };
        let scale = self.second(Second::Scale, number)?.map(HiresSize::Scale);
        let sides = self.second(Second::Sides, |key, value| {
            let mut sides = value.trim().split(['x', 'X', '×']).map(|side| self.whole(key, side));
            match (sides.next(), sides.next(), sides.next()) {
                (Some(Ok(width)), Some(Ok(height)), None) => Ok(HiresSize::Sides { width, height }),
                _ => Err(self.wrong(key, "WIDTHxHEIGHT, of which one may be 0", value)),
            }
        })?;
        let Some(size) = sides.or(scale) else { return Ok(None) };
        let upscaler = self.second(Second::Upscaler, |_, value| Ok(value.parse::<Upscaler>().ok()))?;
        let Some(upscaler) = upscaler.unwrap_or_else(|| Some(Upscaler::default())) else { return Ok(None) };
        let names = self.second(Second::Sampler, |_, value| Ok(catalog.sampler_and_schedule(value.trim())?))?;
        let (sampler, named) = names.unzip();
        let schedule = self.second(Second::Schedule, |_, value| Ok(catalog.schedule(value.trim())?))?;
        let mut knobs = Options::default();
        for (at, knob) in self.knobs.iter().enumerate() {
            let said = self.second(Second::Knob(at), |key, value| self.knob(knob, key, value))?;
            said.into_iter().for_each(|value| knobs.set(knob.name, value));
        }
        let text = |second| Ok::<_, Error>(self.second(second, |_, value| Ok(value.to_owned()))?.unwrap_or_default());
        Ok(Some(Hires {
            size,
            upscaler,
            // A1111 leaves the number out where it is the first pass's, and older versions write 0.
            steps: self.second(Second::Steps, |key, value| self.whole(key, value))?.filter(|steps| *steps > 0),
            strength: self.second(Second::Strength, number)?.unwrap_or(Hires::STRENGTH),
            sampler,
            schedule: schedule.or(named.flatten()),
            cfg: self.second(Second::Cfg, |key, value| {
                value.parse().map_err(|_| self.wrong(key, "a number, a list or a ramp", value))
            })?,
            knobs,
            prompt: text(Second::Prompt)?,
            negative: text(Second::Negative)?,
            model: self
                .second(Second::Model, |_, value| Ok(titled(value).name.unwrap_or_default()))?
                .unwrap_or_default(),
        }))
    }

    /// The refiner, where the text says which it is and where it takes over.
    pub(super) fn refiner(&self) -> Result<Option<Refiner>, Error> {
        let name = self.one(Meaning::Refiner, |_, value| Ok(titled(value).name.unwrap_or_default()))?;
        let switch_at = self.one(Meaning::RefinerSwitch, |key, value| {
            let share = value.trim().parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
            share.ok_or_else(|| self.wrong(key, "a number from 0 to 1", value))
        })?;
        let passes = self.one(Meaning::RefinerPasses, |key, value| {
            let passes = value.parse::<RefinedPasses>();
            passes.map_err(|()| self.wrong(key, "`first pass`, `second pass` or `both passes`", value))
        })?;
        let refiner = |(name, switch_at)| Refiner { name, switch_at, passes: passes.unwrap_or_default() };
        Ok(name.zip(switch_at).map(refiner))
    }

    fn second<T: PartialEq>(
        &self,
        second: Second,
        read: impl Fn(&str, &str) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.one(Meaning::Second(second), read)
    }
}
