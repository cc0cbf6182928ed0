use std::collections::BTreeMap;

use crate::{
    Error, Sampler, Schedule, samplers, schedules,
    spelling::{normal, words},
};

/// The samplers and schedules that names are looked up in: the built-in ones, and those of a program that embeds the engine.
///
/// ```
/// use samplers::{Registry, Sampler, euler};
///
/// let mine = Sampler::new("mine", "Mine", |start| euler().start(start));
/// let registry = Registry::builtin().with_sampler(mine)?;
/// assert_eq!(registry.sampler("MINE")?.label, "Mine");
/// # Ok::<(), samplers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    samplers: Vec<Sampler>,
    schedules: Vec<Schedule>,
    /// Entries by their names in [`normal`] form.
    named_samplers: BTreeMap<String, Sampler>,
    named_schedules: BTreeMap<String, Schedule>,
}

impl Registry {
    /// What comes with the engine.
    pub fn builtin() -> Self {
        Self::of(samplers::all(), schedules::all())
    }

    /// One sampler more, or in the place of that with its id.
    ///
    /// # Errors
    /// [`Error::TakenName`] if one of its names is another sampler's.
    pub fn with_sampler(self, sampler: Sampler) -> Result<Self, Error> {
        let Self { mut samplers, schedules, .. } = self;
        samplers.retain(|s| *s != sampler);
        let others = Self::of(samplers, schedules);
        if let Some(name) = sampler.names().find(|name| others.sampler(name).is_ok()) {
            return Err(Error::TakenName { kind: "sampler", name: name.to_owned() });
        }
        Ok(Self::of([others.samplers, vec![sampler]].concat(), others.schedules))
    }

    /// One schedule more, or in the place of that with its id.
    ///
    /// # Errors
    /// [`Error::TakenName`] if one of its names is another schedule's.
    pub fn with_schedule(self, schedule: Schedule) -> Result<Self, Error> {
        let Self { samplers, mut schedules, .. } = self;
        schedules.retain(|s| *s != schedule);
        let others = Self::of(samplers, schedules);
        if let Some(name) = schedule.names().find(|name| others.schedule(name).is_ok()) {
            return Err(Error::TakenName { kind: "schedule", name: name.to_owned() });
        }
        Ok(Self::of(others.samplers, [others.schedules, vec![schedule]].concat()))
    }

    fn of(samplers: Vec<Sampler>, schedules: Vec<Schedule>) -> Self {
        let named_samplers = samplers.iter().flat_map(|s| s.names().map(|name| (normal(name), s.clone()))).collect();
        let named_schedules = schedules.iter().flat_map(|s| s.names().map(|name| (normal(name), s.clone()))).collect();
        Self { samplers, schedules, named_samplers, named_schedules }
    }

    /// Every sampler, in the order in which they are listed.
    pub fn samplers(&self) -> &[Sampler] {
        &self.samplers
    }

    /// Every schedule, in the order in which they are listed.
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// The sampler of an id, label or alias, however it is spelled; `k_` before it, for k-diffusion, says nothing more.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with every name that exists.
    pub fn sampler(&self, name: &str) -> Result<Sampler, Error> {
        let words = words(name);
        let known = || self.samplers.iter().flat_map(Sampler::names);
        self.sampler_of(&words.concat(), &words).ok_or_else(|| unknown("sampler", name, known()))
    }

    /// The schedule of an id, label or alias, however it is spelled.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with every name that exists.
    pub fn schedule(&self, name: &str) -> Result<Schedule, Error> {
        let known = || self.schedules.iter().flat_map(Schedule::names);
        self.schedule_of(&normal(name)).ok_or_else(|| unknown("schedule", name, known()))
    }

    /// What people write where a sampler and its schedule are one name: `DPM++ 2M Karras`, `euler simple`, `dpmpp_2m_k`. A sampler's
    /// own name comes without a schedule.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with every sampler's name, if it is neither.
    pub fn sampler_and_schedule(&self, name: &str) -> Result<(Sampler, Option<Schedule>), Error> {
        // InvokeAI's and A1111's ids, up to 1.8.
        const SHORT: [(&str, &str); 3] = [("k", "karras"), ("ka", "karras"), ("exp", "exponential")];
        // Without a space before them: Civitai's ids, and A1111's `SGMUniform`.
        const GLUED: [(&str, &str); 3] =
            [("karras", "karras"), ("exponential", "exponential"), ("sgmuniform", "sgm_uniform")];

        let whole = match self.sampler(name) {
            Ok(sampler) => return Ok((sampler, None)),
            Err(unknown) => unknown,
        };
        let words = words(name);
        // No schedule's name has more words.
        const MOST_WORDS: usize = 6;
        for at in (1..words.len()).rev().take(MOST_WORDS) {
            let (first, ending) = (&words[..at], words[at..].concat());
            let short = SHORT.iter().find(|(short, _)| *short == ending).map(|(_, id)| *id);
            let schedule = self.schedule_of(&short.map_or(ending, normal));
            if let (Some(sampler), Some(schedule)) = (self.sampler_of(&first.concat(), first), schedule) {
                return Ok((sampler, Some(schedule)));
            }
        }
        let all = words.concat();
        for (ending, id) in GLUED {
            let sampler = all.strip_suffix(ending).and_then(|first| self.sampler_of(first, &words));
            if let Some(sampler) = sampler {
                return Ok((sampler, Some(self.schedule(id)?)));
            }
        }
        Err(whole)
    }

    /// The sampler whose name in [`normal`] form is `name`, or is so without the first of its `words` where that is `k`.
    fn sampler_of(&self, name: &str, words: &[String]) -> Option<Sampler> {
        let named = |name: &str| self.named_samplers.get(name).cloned();
        let plain = || name.strip_prefix("k").filter(|_| words.first().is_some_and(|word| word == "k"));
        named(name).or_else(|| plain().and_then(named))
    }

    /// The schedule whose name in [`normal`] form is this.
    fn schedule_of(&self, name: &str) -> Option<Schedule> {
        self.named_schedules.get(name).cloned()
    }
}

fn unknown<'n>(kind: &'static str, name: &str, known: impl Iterator<Item = &'n str>) -> Error {
    Error::UnknownName { kind, name: name.to_owned(), known: known.map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{End, Options, SigmaSpace};

    #[test]
    fn no_two_entries_share_a_name_however_it_is_spelled() {
        fn all_differ<'n>(entries: impl Iterator<Item = Vec<&'n str>>) {
            let mut seen = BTreeSet::new();
            for names in entries {
                // an id may be its own label in another spelling
                let names: BTreeSet<String> = names.iter().map(|name| normal(name)).collect();
                for name in names {
                    assert!(!name.is_empty() && seen.insert(name.clone()), "{name}");
                }
            }
        }
        let registry = Registry::builtin();
        all_differ(registry.samplers().iter().map(|s| s.names().collect()));
        all_differ(registry.schedules().iter().map(|s| s.names().collect()));
    }

    #[test]
    fn every_name_finds_its_entry_however_it_is_spelled() {
        let spellings = |name: &str| {
            let spaced = name.replace(['_', '-'], " ");
            let joined = name.replace(' ', "_");
            [name.to_uppercase(), format!("  {name} "), spaced.clone(), spaced.replace(' ', "-"), joined, normal(name)]
        };
        let registry = Registry::builtin();
        for s in registry.samplers() {
            for name in s.names() {
                for spelling in spellings(name) {
                    assert_eq!(registry.sampler(&spelling).unwrap(), *s, "{spelling}");
                    // its own full name is never a shorter one and a schedule
                    assert_eq!(registry.sampler_and_schedule(&spelling).unwrap(), (s.clone(), None), "{spelling}");
                }
                assert_eq!(registry.sampler(&format!("k_{name}")).unwrap(), *s);
            }
        }
        for s in registry.schedules() {
            for name in s.names() {
                for spelling in spellings(name) {
                    assert_eq!(registry.schedule(&spelling).unwrap(), *s, "{spelling}");
                }
            }
        }
    }

    #[test]
    fn any_schedule_may_stand_behind_any_sampler() {
        let registry = Registry::builtin();
        let means = |whole: &str, s: &Sampler, schedule: &Schedule| {
            let (found, ending) = registry.sampler_and_schedule(whole).unwrap();
            // unless the whole is a sampler's own name
            let own = ending.is_none() && registry.sampler(whole).is_ok();
            assert!(own || (&found, ending.as_ref()) == (s, Some(schedule)), "{whole}");
        };
        for (i, s) in registry.samplers().iter().enumerate() {
            for schedule in registry.schedules() {
                means(&format!("{}{}{}", s.id, [" ", "_", "-", "  "][i % 4], schedule.id), s, schedule);
            }
        }
        let [heun, euler_a] = ["dpmpp_2m_sde_heun", "euler_ancestral"].map(|id| registry.sampler(id).unwrap());
        for schedule in registry.schedules() {
            for name in schedule.names() {
                means(&format!("DPM++ 2M SDE Heun {name}"), &heun, schedule);
                means(&format!("euler_a-{name}"), &euler_a, schedule);
            }
        }
    }

    #[test]
    fn a_program_may_add_a_sampler_and_replace_one_but_not_take_anothers_name() {
        let named = |id: &str, label: &str| Sampler::new(id, label, |start| crate::euler().start(start));
        let registry = Registry::builtin().with_sampler(named("new", "New")).unwrap();
        let registry = registry.with_sampler(named("euler", "Mine")).unwrap();
        assert_eq!(registry.samplers().len(), Registry::builtin().samplers().len() + 1);
        assert_eq!(registry.sampler("Euler").unwrap().label, "Mine");
        assert_eq!(registry.sampler_and_schedule("new karras").unwrap().0.id, "new");
        let taken = Registry::builtin().with_sampler(named("taken", "Heun"));
        assert!(matches!(taken, Err(Error::TakenName { kind: "sampler", name }) if name == "Heun"));
        let even = Schedule::new("even", "Even", |space, steps, options| {
            Ok(crate::simple().sigmas(space, steps, options)?[..steps].iter().map(|&sigma| sigma.into()).collect())
        });
        let registry = registry.with_schedule(even.clone()).unwrap();
        assert_eq!(registry.schedule("even").unwrap(), even);
        // and nothing of it is seen elsewhere
        assert_eq!(Registry::builtin().sampler("euler").unwrap().label, "Euler");
        assert!(Registry::builtin().sampler("new").is_err());
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known() {
        let Err(Error::UnknownName { known, .. }) = Registry::builtin().sampler("eular") else {
            panic!("a name that does not exist")
        };
        assert!(known.iter().any(|name| name == "euler"));
    }

    #[test]
    fn every_schedule_descends_to_zero_from_1_to_1000_steps() {
        let flows = [None, Some(1.65), Some(25.3)].map(|shift| SigmaSpace::Flow { shift, tokens: 4096 });
        let tables = [SigmaSpace::Discrete, SigmaSpace::ZeroSnr, SigmaSpace::Edm { min: 0.002, max: 80.0 }];
        let registry = Registry::builtin();
        for schedule in registry.schedules() {
            for space in flows.iter().chain(&tables) {
                if !schedule.spaces.hold(space) {
                    let Err(Error::Unsuited { instead, .. }) = schedule.sigmas(space, 4, &Options::default()) else {
                        panic!("{} is not made for {space:?}", schedule.id)
                    };
                    assert!(registry.schedule(&instead).unwrap().sigmas(space, 4, &Options::default()).is_ok());
                    continue;
                }
                for steps in [1, 2, 3, 4, 7, 10, 20, 50, 999, 1000] {
                    let sigmas = (schedule.sigmas(space, steps, &Options::default()))
                        .unwrap_or_else(|e| panic!("{} {steps} {space:?}: {e}", schedule.id));
                    assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "{} {steps} {space:?}", schedule.id);
                    assert_eq!(sigmas[sigmas.steps()] == 0.0, schedule.end == End::Zero, "{}", schedule.id);
                    let picks = ["ddim_uniform", "beta", "beta57", "laplace", "smoothstep", "lcm", "logit_normal"]
                        .contains(&schedule.id.as_str());
                    assert!(picks || sigmas.steps() == steps, "{} makes {} of {steps}", schedule.id, sigmas.steps());
                }
                assert!(schedule.sigmas(space, 0, &Options::default()).is_err());
                assert!(schedule.sigmas(space, 1001, &Options::default()).is_err());
            }
        }
    }

    #[test]
    fn automatic_is_a1111s_choice_for_the_sampler_and_simple_for_a_flow() {
        let registry = Registry::builtin();
        let automatic = registry.schedule("Automatic").unwrap();
        let flow = SigmaSpace::Flow { shift: Some(3.16), tokens: 4096 };
        for (name, expected) in [
            ("DPM++ 2M", "karras"),
            ("DPM2 a", "karras"),
            ("Euler", "normal"),
            ("DPM++ 3M SDE", "exponential"),
            ("LMS", "normal"),
        ] {
            let sampler = registry.sampler(name).unwrap();
            assert_eq!(automatic.resolved(&sampler, &SigmaSpace::Discrete).id, expected, "{name}");
            assert_eq!(automatic.resolved(&sampler, &flow).id, "simple", "{name}");
            assert_eq!(registry.schedule("beta").unwrap().resolved(&sampler, &flow).id, "beta", "{name}");
        }
        assert_eq!(
            automatic.sigmas(&flow, 7, &Options::default()).unwrap(),
            crate::simple().sigmas(&flow, 7, &Options::default()).unwrap()
        );
    }

    #[test]
    fn a_name_may_end_in_its_schedule() {
        let registry = Registry::builtin();
        let found = |name| registry.sampler_and_schedule(name);
        let ids = |name| found(name).map(|(s, schedule)| (s.id.clone(), schedule.map(|s| s.id.clone()))).ok();
        let both = |sampler: &str, schedule: Option<&str>| Some((sampler.to_owned(), schedule.map(str::to_owned)));
        assert_eq!(ids("DPM++ 2M Karras"), both("dpmpp_2m", Some("karras")));
        assert_eq!(ids("k_dpmpp_2s_a_ka"), both("dpmpp_2s_ancestral", Some("karras")));
        assert_eq!(ids("DPM++ 2M SDE Heun Exponential"), both("dpmpp_2m_sde_heun", Some("exponential")));
        assert_eq!(ids("k_dpmpp_2m_sde_ka"), both("dpmpp_2m_sde", Some("karras")));
        assert_eq!(ids("LMS Karras"), both("lms", Some("karras")));
        assert_eq!(ids("Euler a SGMUniform"), both("euler_ancestral", Some("sgm_uniform")));
        assert_eq!(ids("k_dpmpp_2m_exp"), both("dpmpp_2m", Some("exponential")));
        assert_eq!(ids("DPM2MSDEKarras"), both("dpmpp_2m_sde", Some("karras")));
        assert_eq!(ids("DPM2SAKarras"), both("dpmpp_2s_ancestral", Some("karras")));
        assert_eq!(ids("DPM++ SDE Karras"), both("dpmpp_sde", Some("karras")));
        assert_eq!(ids("DPM++ 3M SDE Exponential"), both("dpmpp_3m_sde", Some("exponential")));
        assert_eq!(ids("k_dpm_2_a_ka"), both("dpm_2_ancestral", Some("karras")));
        assert_eq!(ids("EulerA"), both("euler_ancestral", None));
        assert_eq!(ids("DPM++ 2M"), both("dpmpp_2m", None));
        assert_eq!(ids("Karras"), None);
        assert_eq!(ids("DPM-9 Karras"), None);
    }
}
