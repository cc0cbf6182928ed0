//! What is added to a weight, and comes and goes while a layer holds it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use super::{
    Branch, Socket,
    chain::{Chain, Counting},
    computed::Origin,
    joined::{Factors, Joined},
};
use crate::{Error, Stored};

/// The branches of a weight, by the adapters that they are of.
pub(super) struct Branches<F> {
    place: Place<F>,
    /// Every how many pixels of a convolution count.
    stride: OnceLock<usize>,
    chains: RwLock<BTreeMap<String, Vec<Arc<Chain<F>>>>>,
    /// Those that counted last and are one pair of factors.
    joined: Mutex<Option<Arc<Joined<F>>>>,
}

/// Which weight it is, and how what is multiplied with is held.
pub(super) struct Place<F> {
    /// The stored tensor's name and shape.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The rows of it that the weight is.
    pub(super) rows: Range<usize>,
    /// Holds a branch's factors, of which one has the weight's stride.
    pub(super) hold: Hold<F>,
    /// The same for a pair of them.
    pub(super) hold_pair: HoldPair<F>,
}

pub(super) type Hold<F> = Box<dyn Fn(&[Origin], usize) -> Vec<F> + Send + Sync>;

pub(super) type HoldPair<F> = Box<dyn Fn([&Stored; 2], usize) -> Factors<F> + Send + Sync>;

impl<F> Branches<F> {
    pub(super) fn at(place: Place<F>) -> Self {
        Self { place, stride: OnceLock::new(), chains: RwLock::default(), joined: Mutex::default() }
    }

    /// Has them see every `stride`th pixel in each direction.
    pub(super) fn strided(&self, stride: usize) {
        self.stride.get_or_init(|| stride);
    }

    /// Those that count now, and how much.
    pub(super) fn counting(&self) -> Counting<F> {
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        let now = |chain: &Arc<Chain<F>>| (chain.clone(), chain.scale * chain.strength.get());
        chains.values().flatten().map(now).filter(|(_, factor)| *factor != 0.0).collect()
    }

    /// Whether one counts now.
    pub(super) fn count(&self) -> bool {
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        chains.values().flatten().any(|chain| chain.scale * chain.strength.get() != 0.0)
    }

    /// Whether there is one, whatever its strength.
    pub(super) fn are_any(&self) -> bool {
        !self.chains.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The factors of one of them.
    pub(super) fn factors<'c>(&self, chain: &'c Chain<F>) -> &'c [F] {
        chain.factors.get_or_init(|| (self.place.hold)(&chain.origins, self.stride()))
    }

    /// One pair of factors for these, if they are of small ranks; the last that was asked for is kept.
    pub(super) fn joined(&self, pairs: &[(Arc<Chain<F>>, f32)]) -> Option<Arc<Joined<F>>> {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if joined.as_ref().is_none_or(|joined| !joined.is_of(pairs)) {
            let hold = |factors: [&Stored; 2]| (self.place.hold_pair)(factors, self.stride());
            *joined = Joined::of(pairs, self.place.rows.len(), hold).map(Arc::new);
        }
        joined.clone()
    }

    fn stride(&self) -> usize {
        self.stride.get().copied().unwrap_or(1)
    }

    /// What a branch of the stored tensor is for the weight; `None` where it changes other rows.
    fn chain(&self, branch: &Branch) -> Result<Option<Arc<Chain<F>>>, Error> {
        let Place { name, shape, rows, .. } = &self.place;
        branch.check(name)?;
        branch.factors(name, shape)?;
        let Some(part) = branch.within(rows.clone())? else { return Ok(None) };
        let mut shape = shape.clone();
        shape[0] = rows.len();
        let origins = part.factors(name, &shape)?;
        let Branch { rows, scale, strength, .. } = part;
        Ok(Some(Arc::new(Chain { rows, origins, factors: OnceLock::new(), scale, strength })))
    }
}

impl<F: Send + Sync> Socket for Branches<F> {
    fn put(&self, adapter: &str, branches: &[Branch]) -> Result<(), Error> {
        let new = branches.iter().filter_map(|branch| self.chain(branch).transpose()).collect::<Result<Vec<_>, _>>()?;
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        match new.is_empty() {
            true => chains.remove(adapter),
            false => chains.insert(adapter.to_owned(), new),
        };
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

impl<F> fmt::Debug for Branches<F> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Branches").field("name", &self.place.name).finish_non_exhaustive()
    }
}
