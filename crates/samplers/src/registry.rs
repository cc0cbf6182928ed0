use crate::{Error, SAMPLERS, SCHEDULES, Sampler, Schedule};

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

/// What people wrote before samplers and schedules were two names: `DPM++ 2M Karras`, `k_dpmpp_2m_ka`. A sampler's own name
/// comes without a schedule.
///
/// # Errors
/// [`Error::UnknownName`] with every sampler's name, if it is neither.
pub fn sampler_and_schedule(name: &str) -> Result<(&'static Sampler, Option<&'static Schedule>), Error> {
    // A1111 up to 1.8: labels and ids end in the schedule. Civitai's ids have no space before it.
    const ENDINGS: [(&str, &str); 6] = [
        ("karras", "karras"),
        ("_ka", "karras"),
        ("exponential", "exponential"),
        ("_exp", "exponential"),
        ("sgmuniform", "sgm_uniform"),
        ("sgm uniform", "sgm_uniform"),
    ];
    let whole = match sampler(name) {
        Ok(sampler) => return Ok((sampler, None)),
        Err(unknown) => unknown,
    };
    let lower = name.to_lowercase();
    for (ending, id) in ENDINGS {
        if let Some(sampler) =
            lower.strip_suffix(ending).and_then(|first| sampler(first.trim_end_matches([' ', '_'])).ok())
        {
            return Ok((sampler, Some(schedule(id)?)));
        }
    }
    Err(whole)
}

pub(crate) fn unknown(kind: &'static str, name: &str, known: impl Iterator<Item = &'static str>) -> Error {
    Error::UnknownName { kind, name: name.to_owned(), known: known.collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{End, Options, SigmaSpace};

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
        let flows = [None, Some(0.5), Some(3.23)].map(|mu| SigmaSpace::Flow { mu, tokens: 4096 });
        let tables = [SigmaSpace::Discrete, SigmaSpace::ZeroSnr, SigmaSpace::Edm { min: 0.002, max: 80.0 }];
        for schedule in SCHEDULES {
            for space in flows.iter().chain(&tables) {
                if !schedule.spaces.hold(space) {
                    let Err(Error::Unsuited { instead, .. }) = schedule.sigmas(space, 4, &Options::default()) else {
                        panic!("{} is not made for {space:?}", schedule.id)
                    };
                    assert!(super::schedule(instead).unwrap().sigmas(space, 4, &Options::default()).is_ok());
                    continue;
                }
                for steps in [1, 2, 3, 4, 7, 10, 20, 50, 999, 1000] {
                    let sigmas = (schedule.sigmas(space, steps, &Options::default()))
                        .unwrap_or_else(|e| panic!("{} {steps} {space:?}: {e}", schedule.id));
                    assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "{} {steps} {space:?}", schedule.id);
                    assert_eq!(sigmas[sigmas.steps()] == 0.0, schedule.end == End::Zero, "{}", schedule.id);
                    let picks =
                        ["ddim_uniform", "beta", "laplace", "smoothstep", "lcm", "logit_normal"].contains(&schedule.id);
                    assert!(picks || sigmas.steps() == steps, "{} makes {} of {steps}", schedule.id, sigmas.steps());
                }
                assert!(schedule.sigmas(space, 0, &Options::default()).is_err());
                assert!(schedule.sigmas(space, 1001, &Options::default()).is_err());
            }
        }
    }

    #[test]
    fn automatic_is_a1111s_choice_for_the_sampler_and_simple_for_a_flow() {
        let automatic = schedule("Automatic").unwrap();
        let flow = SigmaSpace::Flow { mu: Some(1.15), tokens: 4096 };
        for (name, expected) in [
            ("DPM++ 2M", "karras"),
            ("DPM2 a", "karras"),
            ("Euler", "normal"),
            ("DPM++ 3M SDE", "exponential"),
            ("LMS", "normal"),
        ] {
            let sampler = sampler(name).unwrap();
            assert_eq!(automatic.resolved(sampler, &SigmaSpace::Discrete).id, expected, "{name}");
            assert_eq!(automatic.resolved(sampler, &flow).id, "simple", "{name}");
            assert_eq!(schedule("beta").unwrap().resolved(sampler, &flow).id, "beta", "{name}");
        }
        assert_eq!(
            automatic.sigmas(&flow, 7, &Options::default()).unwrap(),
            crate::SIMPLE.sigmas(&flow, 7, &Options::default()).unwrap()
        );
    }

    #[test]
    fn a_name_may_end_in_its_schedule() {
        let ids = |name| sampler_and_schedule(name).map(|(s, schedule)| (s.id, schedule.map(|s| s.id))).ok();
        assert_eq!(ids("DPM++ 2M Karras"), Some(("dpmpp_2m", Some("karras"))));
        assert_eq!(ids("k_dpmpp_2s_a_ka"), Some(("dpmpp_2s_ancestral", Some("karras"))));
        assert_eq!(ids("DPM++ 2M SDE Heun Exponential"), Some(("dpmpp_2m_sde_heun", Some("exponential"))));
        assert_eq!(ids("k_dpmpp_2m_sde_ka"), Some(("dpmpp_2m_sde", Some("karras"))));
        assert_eq!(ids("LMS Karras"), Some(("lms", Some("karras"))));
        assert_eq!(ids("Euler a SGMUniform"), Some(("euler_ancestral", Some("sgm_uniform"))));
        assert_eq!(ids("k_dpmpp_2m_exp"), Some(("dpmpp_2m", Some("exponential"))));
        assert_eq!(ids("DPM2MSDEKarras"), Some(("dpmpp_2m_sde", Some("karras"))));
        assert_eq!(ids("DPM2SAKarras"), Some(("dpmpp_2s_ancestral", Some("karras"))));
        assert_eq!(ids("DPM++ SDE Karras"), Some(("dpmpp_sde", Some("karras"))));
        assert_eq!(ids("DPM++ 3M SDE Exponential"), Some(("dpmpp_3m_sde", Some("exponential"))));
        assert_eq!(ids("k_dpm_2_a_ka"), Some(("dpm_2_ancestral", Some("karras"))));
        assert_eq!(ids("EulerA"), Some(("euler_ancestral", None)));
        assert_eq!(ids("DPM++ 2M"), Some(("dpmpp_2m", None)));
        assert_eq!(ids("Karras"), None);
        assert_eq!(ids("DPM-9 Karras"), None);
    }
}
