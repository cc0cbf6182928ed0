//! The parts of a file: which models it holds, and which tensor belongs to which.

use std::sync::Arc;

use core_tensor::Manifest;
use diffusion_engine::family::{Duty, Kind};

use super::kinds::{Found, Kinds};

/// A model in a file, under a prefix that all its names have.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is.
    pub(crate) kind: Arc<Kind>,
    /// Less specific words for it, by which it can be used too.
    pub(crate) others: Vec<Arc<Kind>>,
    /// Its names' prefix, empty or with a point at its end.
    pub(crate) prefix: String,
    /// Whether some role takes it.
    pub(crate) is_usable: bool,
}

impl Part {
    /// What it is, by this id.
    pub(crate) fn by(&self, id: &str) -> Option<&Arc<Kind>> {
        [&self.kind].into_iter().chain(&self.others).find(|kind| kind.id == id)
    }
}

/// The most models of one duty that are told of a file; those that are made to be used have one or two.
const MOST_OF_A_DUTY: usize = 8;

/// The models in a file, by their duties' ranks.
pub(crate) fn parts(manifest: &Manifest, kinds: &Kinds) -> Vec<Part> {
    let part = |Found { kind, others, prefix, is_usable }| Part { kind, others, prefix, is_usable };
    let mut found: Vec<Part> = kinds.found(manifest).into_iter().map(part).collect();
    // An average of a model's training lies beside the model; what can be used comes before what can't.
    found.sort_by_key(|part| {
        let Duty { rank, id, .. } = part.kind.duty;
        (rank, id, !part.is_usable, part.prefix.contains("ema"), part.prefix.len())
    });
    let mut parts: Vec<Part> = Vec::new();
    for part in found {
        let same = parts.iter().filter(|other| other.kind.duty == part.kind.duty).count();
        if same < MOST_OF_A_DUTY {
            parts.push(part);
        }
    }
    parts
}

/// Which of a file's parts a tensor belongs to; `None` where it lies outside of all.
pub(crate) fn owner(parts: &[Part], name: &str) -> Option<usize> {
    let under = |part: &Part| name.strip_prefix(&*part.prefix);
    let longest = parts.iter().filter(|part| under(part).is_some()).map(|part| part.prefix.len()).max()?;
    let rest = &name[longest..];
    let candidates = parts.iter().enumerate().filter(|(_, part)| part.prefix.len() == longest && under(part).is_some());
    // Several models may have no prefix of their own: their first steps tell. The one that owns all that is no other's owns the rest.
    let owned = |part: &Part| {
        let owns = part.kind.duty.owns;
        let begins = owns.iter().filter(|start| rest.starts_with(**start)).map(|start| start.len() + 1).max();
        begins.unwrap_or(usize::from(owns.is_empty()))
    };
    let best = candidates.map(|(at, part)| (owned(part), at)).max_by_key(|&(owned, at)| (owned, std::cmp::Reverse(at)));
    best.map(|(_, at)| at)
}
