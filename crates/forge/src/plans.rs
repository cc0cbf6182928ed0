use std::collections::BTreeMap;

use diffusion_engine::Which;
use memory::{Bytes, Part, Plan};

use crate::open::WORK;

/// How the models of a job are loaded: all at once where there is room, or else one after the other.
#[derive(Clone)]
pub(crate) struct Plans {
    all: BTreeMap<Which, Plan>,
    together: Plan,
    fit: bool,
}

impl Plans {
    /// Of models of which each has room alone under a ceiling.
    pub(crate) fn of(all: BTreeMap<Which, Plan>, ceiling: Bytes) -> Self {
        let is_work = |part: &Part| part.name == WORK;
        let work = |plan: &Plan| plan.parts.iter().find(|(part, _)| is_work(part)).map(|(part, _)| part.unpacked);
        // They work in turn.
        let most = all.iter().max_by_key(|(_, plan)| work(plan)).map(|(which, _)| *which);
        let mut parts = Vec::new();
        for (which, plan) in &all {
            let counted = plan.parts.iter().filter(|(part, _)| !is_work(part) || Some(*which) == most);
            parts.extend(counted.map(|(part, unpacked)| (called(part, *which), *unpacked)));
        }
        let together = Plan { parts };
        let fit = together.total() <= ceiling;
        Self { all, together, fit }
    }

    /// What the job takes: all models at once, or the largest.
    pub(crate) fn told(self) -> Plan {
        let Self { all, together, fit } = self;
        match fit {
            true => together,
            false => all.into_values().max_by_key(Plan::total).unwrap_or(together),
        }
    }

    /// How one of the models is loaded.
    pub(crate) fn of_model(&self, which: Which) -> &Plan {
        self.all.get(&which).unwrap_or(&self.together)
    }

    /// Whether all models have room at once.
    pub(crate) fn are_together(&self) -> bool {
        self.fit
    }
}

/// A part as a report of several models calls it.
fn called(part: &Part, of: Which) -> Part {
    let name = match of {
        Which::First => part.name.clone(),
        _ if part.name == WORK => part.name.clone(),
        Which::Hires | Which::Refiner => format!("{} of {of}", part.name),
    };
    Part { name, ..part.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_fit_together_are_told_together_and_work_in_turn() {
        let plan = |unet: u64, work: u64| {
            let part =
                |name: &str, size: u64| (Part { name: name.into(), unpacked: Bytes(size), mapped: Bytes(size) }, true);
            Plan { parts: vec![part("unet", unet), part(WORK, work)] }
        };
        let plans = || BTreeMap::from([(Which::First, plan(100, 20)), (Which::Refiner, plan(60, 30))]);
        let both = Plans::of(plans(), Bytes(190));
        assert!(both.are_together());
        assert_eq!(both.told().total(), Bytes(190));
        let in_turn = Plans::of(plans(), Bytes(189));
        assert!(!in_turn.are_together());
        assert_eq!(in_turn.of_model(Which::Refiner).total(), Bytes(90));
        assert_eq!(in_turn.told().total(), Bytes(120));
    }
}
