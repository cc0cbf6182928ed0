use std::collections::BTreeMap;

use diffusion_engine::Which;
use memory::{Bytes, Part, Plan};

/// How the models of a job are loaded: all at once where there is room, or else one after the other.
#[derive(Clone)]
pub(crate) struct Plans {
    all: BTreeMap<Which, Plan>,
    together: Plan,
    fit: bool,
    /// Bytes for the maps of autoencoders, where they are computed in tiles.
    room: Option<u64>,
}

/// What the plan of each model counts of the process, and that of several counts once.
pub(crate) const PROCESS: [&str; 2] = ["process", "threads"];

/// What a plan calls the network between two passes, which is nobody's.
pub(crate) const UPSCALER: &str = "upscaler";

/// Whether several models have a part between them.
fn is_shared(part: &Part) -> bool {
    PROCESS.contains(&&*part.name) || part.name == UPSCALER
}

impl Plans {
    /// Of models of which each has room alone under a ceiling, with so many bytes for the maps of its autoencoder if one is short of them.
    pub(crate) fn of(all: BTreeMap<Which, Plan>, room: Option<u64>, ceiling: Bytes) -> Self {
        let mut together = Plan { parts: Vec::new(), stages: Vec::new() };
        for (i, (which, plan)) in all.iter().enumerate() {
            let counted = plan.parts.iter().filter(|(part, _)| i == 0 || !is_shared(part));
            together.parts.extend(counted.map(|(part, share)| (called(part, *which), *share)));
            // They work in turn.
            together.stages.extend(plan.stages.iter().cloned());
        }
        let fit = together.total() <= ceiling;
        Self { all, together, fit, room }
    }

    /// What the job takes: all models at once, or the largest.
    pub(crate) fn told(&self) -> &Plan {
        self.all().max_by_key(|plan| plan.total()).unwrap_or(&self.together)
    }

    /// That, and those of the other models where they take turns.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Plan> {
        let in_turn = self.all.values().filter(|_| !self.fit);
        self.fit.then_some(&self.together).into_iter().chain(in_turn)
    }

    /// Bytes for the maps of the autoencoders of all models; as many as they take without.
    pub(crate) fn room(&self) -> Option<u64> {
        self.room
    }

    /// How one of the models is loaded.
    pub(crate) fn of_model(&self, which: Which) -> &Plan {
        self.all.get(&which).unwrap_or(&self.together)
    }

    /// Whether a model is one of the job's.
    pub(crate) fn count(&self, which: Which) -> bool {
        self.all.contains_key(&which)
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
        Which::Hires | Which::Refiner if is_shared(part) => part.name.clone(),
        Which::Hires | Which::Refiner => format!("{} of {of}", part.name),
    };
    Part { name, ..part.clone() }
}

#[cfg(test)]
mod tests {
    use memory::{Held, Share, Stage};

    use super::*;

    #[test]
    fn models_that_fit_together_are_told_together_and_work_in_turn() {
        let plan = |unet: u64, work: u64| {
            let part = |name: &str, size: u64| (Part::fixed(name, Bytes(size)), Share::All);
            let stage = Stage { name: "sample".into(), holds: vec![Held::fixed("maps", Bytes(work))] };
            Plan { parts: vec![part("unet", unet), part("process", 5)], stages: vec![stage] }
        };
        let plans = || BTreeMap::from([(Which::First, plan(100, 20)), (Which::Refiner, plan(60, 30))]);
        let totals = |plans: &Plans| plans.all().map(|plan| plan.total().0).collect::<Vec<_>>();
        let both = Plans::of(plans(), None, Bytes(195));
        assert!(both.are_together());
        assert_eq!((both.told().total(), totals(&both)), (Bytes(195), vec![195]));
        let in_turn = Plans::of(plans(), None, Bytes(194));
        assert_eq!(totals(&in_turn), [125, 95]);
        assert!(!in_turn.are_together());
        assert_eq!(in_turn.of_model(Which::Refiner).total(), Bytes(95));
        assert_eq!(in_turn.told().total(), Bytes(125));
    }
}
