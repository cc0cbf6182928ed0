use crate::{Error, Sampler, Schedule, euler, euler_ancestral, flux, simple};

/// Every sampler: the one list to add one to.
pub static SAMPLERS: &[&Sampler] = &[&euler::SAMPLER, &euler_ancestral::SAMPLER];

/// Every schedule: the one list to add one to.
pub static SCHEDULES: &[&Schedule] = &[&simple::SCHEDULE, &flux::SCHEDULE];

/// The sampler of an id, label or alias, in any case.
///
/// # Errors
/// [`Error::UnknownName`] with every name that exists.
pub fn sampler(name: &str) -> Result<&'static Sampler, Error> {
    let names = |s: &'static Sampler| [s.id, s.label].into_iter().chain(s.aliases.iter().copied());
    (SAMPLERS.iter().copied())
        .find(|s| names(s).any(|n| n.eq_ignore_ascii_case(name)))
        .ok_or_else(|| unknown("sampler", name, SAMPLERS.iter().copied().flat_map(names)))
}

/// The schedule of an id, label or alias, in any case.
///
/// # Errors
/// [`Error::UnknownName`] with every name that exists.
pub fn schedule(name: &str) -> Result<&'static Schedule, Error> {
    let names = |s: &'static Schedule| [s.id, s.label].into_iter().chain(s.aliases.iter().copied());
    (SCHEDULES.iter().copied())
        .find(|s| names(s).any(|n| n.eq_ignore_ascii_case(name)))
        .ok_or_else(|| unknown("schedule", name, SCHEDULES.iter().copied().flat_map(names)))
}

pub(crate) fn unknown(kind: &'static str, name: &str, known: impl Iterator<Item = &'static str>) -> Error {
    Error::UnknownName { kind, name: name.to_owned(), known: known.collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::SigmaSpace;

    #[test]
    fn no_two_entries_share_a_name() {
        let mut seen = BTreeSet::new();
        for s in SAMPLERS {
            let names: BTreeSet<String> =
                [s.id, s.label].iter().chain(s.aliases).map(|n| n.to_ascii_lowercase()).collect();
            for name in names {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
        let mut seen = BTreeSet::new();
        for s in SCHEDULES {
            let names: BTreeSet<String> =
                [s.id, s.label].iter().chain(s.aliases).map(|n| n.to_ascii_lowercase()).collect();
            for name in names {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
    }

    #[test]
    fn every_name_finds_its_entry_in_any_case() {
        for s in SAMPLERS {
            for name in [s.id, s.label].iter().chain(s.aliases) {
                assert_eq!(sampler(&name.to_uppercase()).unwrap(), *s);
            }
        }
        for s in SCHEDULES {
            assert_eq!(schedule(&s.label.to_lowercase()).unwrap(), *s);
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known() {
        let Err(Error::UnknownName { known, .. }) = sampler("eular") else { panic!("a name that does not exist") };
        assert!(known.contains(&"euler"));
    }

    #[test]
    fn every_schedule_descends_to_zero_from_1_to_1000_steps() {
        for schedule in SCHEDULES {
            for mu in [None, Some(0.5), Some(3.23)] {
                for steps in [1, 2, 3, 7, 20, 999, 1000] {
                    let sigmas = schedule.sigmas(&SigmaSpace::Flow { mu }, steps).unwrap();
                    assert_eq!(sigmas.steps(), steps);
                    assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "{} {steps} {mu:?}", schedule.id);
                    assert_eq!((sigmas[0], sigmas[steps]), (1.0, 0.0));
                }
                assert!(schedule.sigmas(&SigmaSpace::Flow { mu }, 0).is_err());
                assert!(schedule.sigmas(&SigmaSpace::Flow { mu }, 1001).is_err());
            }
        }
    }
}
