use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use core_tensor::{Branch, Error, Manifest, Socket, Stored, WeightSource};

/// A source to whose tensors adapters are added and taken from again, also while layers hold them.
///
/// Nothing of it touches a weight: what an adapter costs to put in and to take out is a matter of its own size.
pub struct Adapted {
    source: Arc<dyn WeightSource>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The layers' holds of tensors, by the tensors' names.
    sockets: HashMap<String, Vec<Weak<dyn Socket>>>,
    /// The branches of each adapter, by the same names.
    adapters: BTreeMap<String, BTreeMap<String, Vec<Branch>>>,
}

impl std::fmt::Debug for Adapted {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Adapted").field("source", &self.source.label()).finish_non_exhaustive()
    }
}

impl Adapted {
    /// A source without adapters.
    pub fn over(source: Arc<dyn WeightSource>) -> Self {
        Self { source, state: Mutex::default() }
    }

    /// Puts an adapter in, in place of what it had in before: branches by the tensors' names. Sums run over adapters in the order of their
    /// names, so that it does not matter when each was put in.
    ///
    /// # Errors
    /// As [`Socket::put`]; the adapter is not in then.
    pub fn put(&self, adapter: &str, branches: impl IntoIterator<Item = (String, Branch)>) -> Result<(), Error> {
        self.take(adapter);
        let mut by_tensor = BTreeMap::<String, Vec<Branch>>::new();
        branches.into_iter().for_each(|(name, branch)| by_tensor.entry(name).or_default().push(branch));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let put = by_tensor.iter().try_for_each(|(name, branches)| state.put(name, adapter, branches));
        match put {
            Ok(()) => _ = state.adapters.insert(adapter.to_owned(), by_tensor),
            Err(_) => by_tensor.keys().for_each(|name| state.clear(name, adapter)),
        }
        put
    }

    /// Takes an adapter out, if it is in: the layers compute what they did without it, to the bit.
    pub fn take(&self, adapter: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(by_tensor) = state.adapters.remove(adapter) {
            by_tensor.keys().for_each(|name| state.clear(name, adapter));
        }
    }
}

impl State {
    fn put(&self, tensor: &str, adapter: &str, branches: &[Branch]) -> Result<(), Error> {
        let mut sockets = self.sockets.get(tensor).into_iter().flatten().filter_map(Weak::upgrade);
        sockets.try_for_each(|socket| socket.put(adapter, branches))
    }

    fn clear(&self, tensor: &str, adapter: &str) {
        self.put(tensor, adapter, &[]).expect("no branches fit any tensor");
    }
}

impl WeightSource for Adapted {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        self.source.read(name)
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.source.branches(name)
    }

    fn plug(&self, name: &str, socket: Weak<dyn Socket>) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = socket.upgrade() {
            for (adapter, by_tensor) in &state.adapters {
                by_tensor.get(name).map_or(Ok(()), |branches| socket.put(adapter, branches))?;
            }
        }
        let sockets = state.sockets.entry(name.to_owned()).or_default();
        // Those of a model that is gone go too.
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(socket);
        Ok(())
    }
}
