//! From what a text says to a request.

mod hires;

use std::collections::{BTreeMap, BTreeSet};

use samplers::{Options, Sampler, Schedule, Sigmas, Value, noise::NoiseSource};

use super::{
    Infotext, TextFault, Writer,
    keys::{Meaning, Second, meaning, own_scale, plain},
    values,
};
use crate::{Catalog, Emphasis, Error, Key, Kind, PerStep, Size, Txt2Img, Variation};

/// The sides that a model may take; which of them it does is found when it is read.
const SIDES: std::ops::RangeInclusive<usize> = 16..=Size::MAX;

/// What a text says, as a request, and what it leaves open.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The request.
    pub request: Txt2Img,
    /// Keys that the text has and this engine makes no use of, in order.
    pub unread: Vec<String>,
    /// Fields of the request that the text says nothing about: their values are this engine's defaults. Of the fields that a text leaves
    /// out where they are empty (negative prompt, batch, options, sigmas, a family's keys without a default) none is listed.
    pub defaults: Vec<&'static str>,
}

impl Infotext {
    /// [`Infotext::reading`]'s request.
    ///
    /// # Errors
    /// As there.
    pub fn request(&self, catalog: &Catalog) -> Result<Txt2Img, Error> {
        Ok(self.reading(catalog)?.request)
    }

    /// What the text says, as a request; what it does not say is as in [`Txt2Img::of`], but for the noise and the profile, which follow the
    /// program, and for the schedule.
    ///
    /// A1111 names the schedule from 1.9 on. What it wrote before was sampled with `normal` unless the sampler's name ends in another; of
    /// other programs' pictures nothing is known, and they get `automatic`.
    ///
    /// # Errors
    /// [`Error::Infotext`] for a value that makes no sense, [`Error::Contradiction`] for two that differ, [`Error::RandomSeed`] for a text
    /// without its seed, [`Error::InfotextForm`] for a text that can't be read, the catalog's for an unknown name and
    /// [`Error::Request`] for a value out of its range; for another program's text the last two are in [`Error::Foreign`].
    pub fn reading(&self, catalog: &Catalog) -> Result<Reading, Error> {
        if let Some(fault) = &self.fault {
            return Err(Error::InfotextForm { text: self.from, fault: fault.clone() });
        }
        let mut reading = Said::by(self, catalog.knobs()).reading(catalog).map_err(|e| self.foreign(e))?;
        reading.request = reading.request.checked().map_err(|e| self.foreign(e))?;
        Ok(reading)
    }

    /// An error that says whose text asks for what can't be had.
    fn foreign(&self, error: Error) -> Error {
        match (self.from, error) {
            (Writer::Forge | Writer::Unknown, error) => error,
            (text, error @ (Error::Sampling(_) | Error::Request { .. })) => {
                Error::Foreign { text, error: error.into() }
            }
            (_, error) => error,
        }
    }
}

/// The values of a text by what they mean.
struct Said<'a> {
    text: &'a Infotext,
    knobs: &'a [Key],
    by_meaning: BTreeMap<Meaning, Vec<(&'a str, &'a str)>>,
}

impl<'a> Said<'a> {
    fn by(text: &'a Infotext, knobs: &'a [Key]) -> Self {
        let mut by_meaning: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, value) in &text.pairs {
            // A key without a value says nothing, nor does one that leaves the choice to the program.
            let is_said = |meaning: &Meaning| {
                // Easy Diffusion writes `false` where nothing is set.
                let is_off =
                    matches!(meaning, Meaning::Knob(_)) && matches!(value.trim(), "false" | "False" | "null" | "None");
                !value.trim().is_empty() && !is_native(text.from, value) && !is_off
            };
            if let Some(meaning) = meaning_in(text, key, knobs).filter(is_said) {
                by_meaning.entry(meaning).or_default().push((key.as_str(), value.as_str()));
            }
        }
        Self { text, knobs, by_meaning }
    }

    fn reading(&self, catalog: &Catalog) -> Result<Reading, Error> {
        let from = self.text.from;
        let mut defaults = Vec::new();
        let mut default = |name, is_said: bool| {
            if !is_said {
                defaults.push(name)
            }
        };
        let mut request = Txt2Img::of(self.text.prompt.clone());
        let pass = &mut request.pass;
        pass.negative.clone_from(&self.text.negative);

        let seed = self.one(Meaning::Seed, |key, value| self.seed(key, value))?;
        let steps = self.one(Meaning::Steps, |key, value| self.whole(key, value))?;
        let (sampler, schedule) = self.names(catalog)?;
        let (cfg, knobs) = self.scales(catalog)?;
        let (width, height) = self.size()?;
        let said = self.one(Meaning::Rng, |key, value| self.rng(key, value))?.or_else(|| self.seed_mode());
        let noise = said.or(from.noise());
        let of_program = || from.profile().map(|id| catalog.profile(id)).transpose();
        let profile = match self.one(Meaning::Profile, |_, value| Ok(catalog.profile(value)?))? {
            Some(profile) => Some(profile),
            None => of_program()?,
        };

        for (name, is_said) in [
            ("seed", seed.is_some()),
            ("steps", steps.is_some()),
            ("sampler", sampler.is_some()),
            ("schedule", schedule.is_some()),
            ("cfg", cfg.is_some()),
        ] {
            default(name, is_said);
        }
        for knob in self.knobs.iter().filter(|knob| knob.initial().is_some()) {
            default(knob.name, knobs.value(knob.name).is_some());
        }
        for (name, is_said) in [
            ("width", width.is_some()),
            ("height", height.is_some()),
            ("noise", noise.is_some()),
            ("profile", profile.is_some()),
        ] {
            default(name, is_said);
        }

        request.seed = seed.unwrap_or(request.seed);
        pass.steps = steps.unwrap_or(pass.steps);
        pass.schedule = match (schedule, &sampler) {
            (Some(schedule), _) => schedule,
            (None, Some(_)) => catalog.schedule("automatic")?,
            (None, None) => pass.schedule.clone(),
        };
        if let Some(sampler) = sampler {
            pass.sampler = sampler;
        }
        pass.cfg = cfg.unwrap_or_default();
        let emphasis = |key: &str, value: &str| value.parse().map_err(|_| self.wrong(key, Emphasis::NAMES, value));
        pass.emphasis = self.one(Meaning::Emphasis, emphasis)?.unwrap_or_default();
        pass.template = self.one(Meaning::Template, |_, value| Ok(value.to_owned()))?;
        pass.negative_template = self.one(Meaning::NegativeTemplate, |_, value| Ok(value.to_owned()))?;
        // What a model has anyway is not set, so that a request of this engine reads as it was.
        let initial = |name: &str| self.knobs.iter().find(|knob| knob.name == name)?.initial()?.option();
        for (name, value) in knobs.iter().filter(|(name, value)| initial(name).as_ref() != Some(*value)) {
            pass.knobs.set(name, value.clone());
        }
        pass.size = Size { width: width.unwrap_or(pass.size.width), height: height.unwrap_or(pass.size.height) };
        // A1111 leaves it out where it is the graphics card's, and a text that says nothing is most likely A1111's.
        request.noise = noise.unwrap_or(if from == Writer::Unknown { NoiseSource::Nv } else { request.noise });
        if let Some(profile) = profile {
            pass.profile = profile;
        }
        request.batch = self.one(Meaning::Batch, |key, value| self.whole(key, value))?.unwrap_or(request.batch);
        pass.sigmas = self.one(Meaning::Sigmas, |key, value| {
            let levels = values::list(value).ok_or_else(|| self.wrong(key, "a list of numbers", value))?;
            let descend = Sigmas::literal(&levels).is_ok();
            if descend {
                Ok(levels)
            } else {
                Err(self.wrong(key, "two levels or more that descend to 0 or above", value))
            }
        })?;
        // Levels make one step less than they are. A picture of this engine may say the number that was asked for.
        if let Some(levels) = &pass.sigmas {
            let made = levels.len() - 1;
            if from != Writer::Forge && steps.is_some_and(|steps| steps != made) {
                return Err(self.contradiction(self.first(Meaning::Steps), self.first(Meaning::Sigmas)));
            }
            pass.steps = made;
            defaults.retain(|name| *name != "steps");
        }

        request.variation = self.variation()?;
        request.resized_from = self.one(Meaning::ResizedFrom, |key, value| self.sides(key, value))?;

        (request.hires, request.refiner) = (self.hires(catalog)?, self.refiner()?);
        if request.hires.is_some() && !self.by_meaning.contains_key(&Meaning::Second(Second::Strength)) {
            defaults.push("hires_strength");
        }

        let unread = self.options(&mut request)?;
        Ok(Reading { request, unread, defaults })
    }

    /// The one value that all keys of a meaning have.
    fn one<T: PartialEq>(
        &self,
        meaning: Meaning,
        read: impl Fn(&str, &str) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut found: Option<(T, &str, &str)> = None;
        for &(key, value) in self.by_meaning.get(&meaning).into_iter().flatten() {
            let read = read(key, value)?;
            match &found {
                Some((first, _, _)) if *first == read => {}
                Some((_, first, said)) => return Err(self.contradiction((first, said), (key, value))),
                None => found = Some((read, key, value)),
            }
        }
        Ok(found.map(|(value, _, _)| value))
    }

    /// The first key of a meaning and its value, for an error.
    fn first(&self, meaning: Meaning) -> (&str, &str) {
        self.by_meaning.get(&meaning).and_then(|said| said.first()).copied().unwrap_or_default()
    }

    fn contradiction(&self, first: (&str, &str), second: (&str, &str)) -> Error {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), short(value));
        Error::Contradiction { text: self.text.from, first: owned(first), second: owned(second) }
    }

    fn wrong(&self, key: &str, expected: &'static str, found: &str) -> Error {
        Error::Infotext { text: self.text.from, key: key.to_owned(), expected, found: short(found) }
    }

    fn whole(&self, key: &str, value: &str) -> Result<usize, Error> {
        let whole = values::whole(value).and_then(|n| usize::try_from(n).ok());
        whole.ok_or_else(|| self.wrong(key, "a whole number", value))
    }

    fn side(&self, key: &str, value: &str) -> Result<usize, Error> {
        self.whole(key, value)
            .ok()
            .filter(|side| SIDES.contains(side))
            .ok_or_else(|| self.wrong(key, "a whole number of 16 to 16384", value))
    }

    fn number(&self, key: &str, value: &str) -> Result<f32, Error> {
        values::number(value).ok_or_else(|| self.wrong(key, "a number", value))
    }

    fn seed(&self, key: &str, value: &str) -> Result<u64, Error> {
        match value.trim() {
            "-1" | "-1.0" => Err(Error::RandomSeed { text: self.text.from }),
            seed => values::whole(seed)
                .ok_or_else(|| self.wrong(key, "a whole number from 0 to 18446744073709551615", seed)),
        }
    }

    fn rng(&self, key: &str, value: &str) -> Result<NoiseSource, Error> {
        match value.trim().to_lowercase().as_str() {
            "cpu" => Ok(NoiseSource::Cpu),
            "nv" | "gpu" | "cuda" | "philox" => Ok(NoiseSource::Nv),
            _ => Err(self.wrong(key, "CPU, NV, GPU or CUDA", value)),
        }
    }

    /// The stream that Draw Things was told to follow; its own are unknown.
    fn seed_mode(&self) -> Option<NoiseSource> {
        let (_, mode) = self.by_meaning.get(&Meaning::SeedMode)?.first()?;
        match plain(mode).as_str() {
            "torchcpucompatible" => Some(NoiseSource::Cpu),
            "nvidiagpucompatible" => Some(NoiseSource::Nv),
            _ => None,
        }
    }

    /// `cfg`, and the family's own settings. `Guidance scale` is `cfg` or the knob that is called so too: the one that the text has no
    /// other key for, and where it has none for either, the knob of a model whose name the catalog knows for it, and else `cfg`.
    fn scales(&self, catalog: &Catalog) -> Result<(Option<PerStep>, Options), Error> {
        let mut knobs = Options::default();
        for (at, knob) in self.knobs.iter().enumerate() {
            let said = self.one(Meaning::Knob(at), |key, value| self.knob(knob, key, value))?;
            said.into_iter().for_each(|value| knobs.set(knob.name, value));
        }
        let per_step =
            |key: &str, value: &str| value.parse().map_err(|_| self.wrong(key, "a number, a list or a ramp", value));
        let cfg: Option<PerStep> = self.one(Meaning::Cfg, per_step)?;
        let cfg = cfg.or(is_flux_of_civitai(self.text).then_some(PerStep::Same(1.0)));
        let Some(scale) = self.one(Meaning::Scale, |key, value| self.number(key, value))? else {
            return Ok((cfg, knobs));
        };
        let own = own_scale(self.knobs).map(|at| &self.knobs[at]);
        let said = own.and_then(|own| knobs.value(own.name));
        if let Some(own) = own.filter(|_| said.is_none() && (cfg.is_some() || self.has_own_scale(catalog))) {
            let value = self.one(Meaning::Scale, |key, value| self.knob(own, key, value))?;
            value.into_iter().for_each(|value| knobs.set(own.name, value));
            return Ok((cfg, knobs));
        }
        let is_said = matches!(said, Some(Value::Number(number)) if *number as f32 == scale);
        match cfg {
            Some(cfg) if cfg != PerStep::Same(scale) && !is_said => {
                Err(self.contradiction(self.first(Meaning::Cfg), self.first(Meaning::Scale)))
            }
            cfg => Ok((cfg.or(Some(PerStep::Same(scale))), knobs)),
        }
    }

    /// The value of a family's key, in its range.
    fn knob(&self, knob: &Key, key: &str, value: &str) -> Result<Value, Error> {
        // Easy Diffusion only says whether the last layer is left out.
        let is_yes = self.text.from == Writer::EasyDiffusion && value.eq_ignore_ascii_case("true");
        let value = if is_yes { "2" } else { value };
        let value = match knob.kind {
            Kind::Whole { .. } => crate::Value::Whole(self.whole(key, value)? as i128),
            Kind::Number { .. } => self.number(key, value).map(|_| knob.read(value.trim()))?,
            _ => knob.read(value.trim()),
        };
        let wrong = |expected| Error::Request { what: knob.name, expected, found: value.shown() };
        knob.kind.check(&value).map_err(wrong)?;
        value.option().ok_or_else(|| wrong("a number or a name".to_owned()))
    }

    fn has_own_scale(&self, catalog: &Catalog) -> bool {
        const MODELS: [&str; 5] = ["model", "modelname", "unet", "basemodel", "sdmodelname"];
        self.text.pairs.iter().any(|(key, value)| MODELS.contains(&plain(key).as_str()) && catalog.has_own_scale(value))
    }

    /// Towards another seed's noise; one of no strength says nothing.
    fn variation(&self) -> Result<Option<Variation>, Error> {
        let seed = self.one(Meaning::VariationSeed, |key, value| self.seed(key, value))?;
        let strength = self.one(Meaning::VariationStrength, |key, value| self.number(key, value))?;
        let strength = strength.filter(|strength| *strength != 0.0);
        Ok(seed.zip(strength).map(|(seed, strength)| Variation { seed, strength }))
    }

    /// The size that noise is carried over from.
    fn sides(&self, key: &str, value: &str) -> Result<Size, Error> {
        let size = values::size(value).ok_or_else(|| self.wrong(key, "WIDTHxHEIGHT", value))?;
        Ok(Size { width: size.0, height: size.1 })
    }

    fn size(&self) -> Result<(Option<usize>, Option<usize>), Error> {
        let size = self.one(Meaning::Size, |key, value| {
            let size = values::size(value).filter(|(width, height)| SIDES.contains(width) && SIDES.contains(height));
            size.ok_or_else(|| self.wrong(key, "WIDTHxHEIGHT, each of 16 to 16384", value))
        })?;
        let (width, height) = (size.map(|(width, _)| width), size.map(|(_, height)| height));
        let side = |meaning, of_size: Option<usize>| {
            let side = self.one(meaning, |key, value| self.side(key, value))?;
            match (of_size, side) {
                (Some(a), Some(b)) if a != b => Err(self.contradiction(self.first(Meaning::Size), self.first(meaning))),
                (a, b) => Ok(a.or(b)),
            }
        };
        Ok((side(Meaning::Width, width)?, side(Meaning::Height, height)?))
    }

    /// Sampler and schedule, each as the text says it.
    fn names(&self, catalog: &Catalog) -> Result<(Option<Sampler>, Option<Schedule>), Error> {
        let both = |_: &str, value: &str| {
            // This one spaces its steps itself, whatever stands behind it (src/denoiser.hpp, master-410).
            if self.text.from == Writer::StableDiffusionCpp && value.trim().starts_with("ddim_trailing") {
                return Ok((catalog.sampler("ddim")?, Some(catalog.schedule("trailing")?)));
            }
            // Civitai leaves the sampler of Flux open; Euler with even levels comes near.
            if self.text.from == Writer::Civitai && value.trim() == "Undefined" {
                return Ok((catalog.sampler("euler")?, Some(catalog.schedule("simple")?)));
            }
            // stable-diffusion.cpp's names have no spaces, and the schedule is behind one: its `euler discrete` is no `EulerDiscrete`.
            let apart = value.trim().split_once(' ').filter(|_| self.text.from == Writer::StableDiffusionCpp);
            match apart.map(|(sampler, schedule)| (catalog.sampler(sampler), catalog.schedule(schedule))) {
                Some((Ok(sampler), Ok(schedule))) => Ok((sampler, Some(schedule))),
                Some(_) | None => Ok(catalog.sampler_and_schedule(value.trim())?),
            }
        };
        let mut names = self.one(Meaning::Sampler, both)?;
        let said = match self.one(Meaning::Schedule, |_, value| Ok(catalog.schedule(value.trim())?)) {
            // diffusers' scheduler is a sampler with its schedule
            Err(unknown) if names.is_none() => {
                names = self.one(Meaning::Schedule, both).map_err(|_| unknown)?;
                None
            }
            schedule => schedule?,
        };
        let (sampler, named) = names.unzip();
        // `Automatic` leaves it to the sampler's name.
        let schedule = match (said, named.flatten()) {
            (Some(said), Some(named)) if said.id != "automatic" && said.id != named.id => {
                return Err(self.contradiction(self.first(Meaning::Sampler), self.first(Meaning::Schedule)));
            }
            (_, Some(named)) => Some(named),
            (said, None) => said,
        };
        let schedule = match (schedule, &sampler) {
            (None, Some(_)) if self.is_before_schedules() => Some(catalog.schedule("normal")?),
            (schedule, _) => schedule,
        };
        Ok((sampler, schedule))
    }

    /// Whether the version is one of A1111's up to 1.8, such as `v1.6.0-2-g4afaaf8`, or one of Forge's over it.
    fn is_before_schedules(&self) -> bool {
        self.by_meaning.get(&Meaning::Version).into_iter().flatten().any(|(_, version)| {
            // Forge's own version stands before A1111's: `f0.0.17v1.8.0rc`.
            let number = match (self.text.from, version.split_once('v')) {
                (Writer::ForgeWebUi, Some((_, number))) | (Writer::A1111, Some(("", number))) => number,
                (Writer::A1111, None) => version,
                _ => return false,
            };
            let mut numbers = number.split(['.', '-']).map(str::parse::<u32>);
            matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(0..=8))))
        })
    }

    /// Sets the options that the sampler and the schedule of the pass have; returns the keys that nothing reads.
    fn options(&self, request: &mut Txt2Img) -> Result<Vec<String>, Error> {
        let Txt2Img { pass, hires, refiner, .. } = request;
        let params = pass.params();
        let (mut unread, mut told) = (Vec::new(), BTreeSet::new());
        let mut set: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (key, value) in &self.text.pairs {
            let is_read = meaning_in(self.text, key, self.knobs).is_some_and(|meaning| match meaning {
                Meaning::SeedMode => self.seed_mode().is_some(),
                Meaning::Prompt => *value == self.text.prompt,
                Meaning::Negative => *value == self.text.negative,
                Meaning::Schedule => !is_native(self.text.from, value),
                Meaning::Second(_) => hires.is_some(),
                Meaning::Refiner | Meaning::RefinerSwitch | Meaning::RefinerPasses => refiner.is_some(),
                _ => true,
            });
            if is_read || key.is_empty() {
                continue;
            }
            let is_named = |name: &str| plain(name) == plain(key);
            let of_graph = self.text.from == Writer::ComfyGraph;
            let param = params.iter().find(|p| is_named(&p.label) || of_graph && is_named(&p.name));
            match param.filter(|_| !value.trim().is_empty() && self.is_meant(key, value, &pass.sampler)) {
                Some(param) => match set.insert(&*param.name, (key, value)) {
                    Some(first) if first.1.trim() != value.trim() => {
                        return Err(self.contradiction(first, (key, value)));
                    }
                    Some(_) | None => {
                        let Ok(value) = value.parse();
                        pass.options.set(&param.name, value);
                    }
                },
                None if told.insert(key) => unread.push(key.clone()),
                None => {}
            }
        }
        unread.extend(self.text.rest.iter().cloned());
        Ok(unread)
    }

    /// Whether the program uses the option with this sampler. stable-diffusion.cpp writes `Eta` always, and up to 2025 reads it with DDIM and
    /// TCD alone; later texts have `SDCPP` too, and say `inf` for a sampler's own default.
    fn is_meant(&self, key: &str, value: &str, sampler: &Sampler) -> bool {
        if self.text.from != Writer::StableDiffusionCpp || plain(key) != "eta" {
            return true;
        }
        let is_new = self.text.pairs.iter().any(|(key, _)| key == "SDCPP");
        values::number(value).is_some() && (is_new || ["ddim", "tcd"].contains(&sampler.id.as_str()))
    }
}

/// What a key means in a text. Civitai calls Flux's own guidance `CFG scale`, and writes a `Clip skip` that the model has no use for, as
/// Forge reads it (modules/infotext_utils.py, dfdcbab).
fn meaning_in(text: &Infotext, key: &str, knobs: &[Key]) -> Option<Meaning> {
    let meaning = meaning(key, text.from, knobs)?;
    if !is_flux_of_civitai(text) {
        return Some(meaning);
    }
    match meaning {
        Meaning::Cfg => own_scale(knobs).map(Meaning::Knob),
        Meaning::Knob(_) if plain(key) == "clipskip" => None,
        meaning => Some(meaning),
    }
}

fn is_flux_of_civitai(text: &Infotext) -> bool {
    text.from == Writer::Civitai && text.pairs.iter().any(|(_, value)| value.contains("FLUX"))
}

/// Whether a value is NovelAI's name for the schedule that its models come with, of which the text does not say what it is.
fn is_native(from: Writer, value: &str) -> bool {
    from == Writer::NovelAi && value.trim() == "native"
}

/// A value as an error quotes it.
fn short(value: &str) -> String {
    const LONGEST: usize = 100;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &value[..end]),
        None => format!("`{value}`"),
    }
}

/// A text of which this program's form could not be read to its end.
impl Infotext {
    pub(super) fn faulty(from: Writer, fault: TextFault) -> Self {
        Self { from, fault: Some(fault), ..Self::default() }
    }
}
