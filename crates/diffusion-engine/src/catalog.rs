use std::ops::Deref;

use samplers::{Error, Registry, Sampler, Schedule};

use crate::{Key, Profile, methods, profiles};

/// What requests, configs and infotexts may name: the built-in samplers, schedules and profiles, and those that a family of models or a
/// program that embeds the engine adds.
///
/// Samplers and schedules are looked up as in the [`Registry`] that it holds.
#[derive(Clone, Debug)]
pub struct Catalog {
    registry: Registry,
    profiles: Vec<Profile>,
    knobs: Vec<Key>,
    scaled: Vec<String>,
}

impl Catalog {
    /// What comes with the engine.
    pub fn builtin() -> Self {
        let catalog =
            Self { registry: Registry::builtin(), profiles: profiles::all(), knobs: Vec::new(), scaled: Vec::new() };
        methods::all().iter().fold(catalog, |catalog, method| catalog.with_knobs(method.keys))
    }

    /// One sampler more, or in the place of that with its id.
    ///
    /// # Errors
    /// As [`Registry::with_sampler`].
    pub fn with_sampler(self, sampler: Sampler) -> Result<Self, Error> {
        Ok(Self { registry: self.registry.with_sampler(sampler)?, ..self })
    }

    /// One schedule more, or in the place of that with its id.
    ///
    /// # Errors
    /// As [`Registry::with_schedule`].
    pub fn with_schedule(self, schedule: Schedule) -> Result<Self, Error> {
        Ok(Self { registry: self.registry.with_schedule(schedule)?, ..self })
    }

    /// One profile more, or in the place of that with its id.
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profiles.retain(|other| *other != profile);
        self.profiles.push(profile);
        self
    }

    /// The keys of a family more, whose labels and aliases are read in infotexts; a key that is there already stays as it is.
    pub fn with_knobs(mut self, knobs: &[Key]) -> Self {
        for key in knobs {
            if !self.knobs.iter().any(|other| other.path() == key.path()) {
                self.knobs.push(*key);
            }
        }
        self
    }

    /// One word more, in lower case, of the names of models whose infotexts mean a knob by `Guidance scale`, and not `cfg`.
    pub fn with_own_scale(mut self, word: impl Into<String>) -> Self {
        self.scaled.push(word.into());
        self
    }

    /// The keys of methods and of families.
    pub fn knobs(&self) -> &[Key] {
        &self.knobs
    }

    /// Every profile, in the order in which they are listed.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The profile of an id, in any case.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with every id that exists.
    pub fn profile(&self, name: &str) -> Result<Profile, Error> {
        let found = self.profiles.iter().find(|profile| profile.id.eq_ignore_ascii_case(name));
        found.cloned().ok_or_else(|| Error::UnknownName {
            kind: "profile",
            name: name.to_owned(),
            known: self.profiles.iter().map(|profile| profile.id.clone()).collect(),
        })
    }

    /// Whether the infotexts of a model of this name mean a knob by `Guidance scale`, as far as names tell.
    pub(crate) fn has_own_scale(&self, model: &str) -> bool {
        let model = model.to_lowercase();
        self.scaled.iter().any(|word| model.contains(word))
    }
}

impl Deref for Catalog {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_add_a_profile_and_replace_one() {
        let count = Catalog::builtin().profiles().len();
        let catalog = Catalog::builtin().with_profile(Profile::new("mine")).with_profile(Profile::new("comfy").ensd(5));
        assert_eq!(catalog.profiles().len(), count + 1);
        assert_eq!(catalog.profile("MINE").unwrap().id, "mine");
        assert_eq!((catalog.profile("comfy").unwrap().ensd, Catalog::builtin().profile("comfy").unwrap().ensd), (5, 1));
    }

    #[test]
    fn an_unknown_profile_is_an_error_that_lists_the_known() {
        let Err(Error::UnknownName { kind: "profile", known, .. }) = Catalog::builtin().profile("confy") else {
            panic!("a profile that does not exist")
        };
        assert_eq!(known, ["forge", "a1111", "comfy", "diffusers", "bfl"]);
    }
}
