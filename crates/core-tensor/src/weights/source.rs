//! Where parameters come from.

use std::sync::{Arc, Weak};

use super::{Branch, Manifest, Socket, Stored};
use crate::Error;

/// Where a model's parameters come from: a file, several files, or a wrapper around either.
pub trait WeightSource: Send + Sync {
    /// How to call this source in a message: a path in backticks, or what wraps it.
    fn label(&self) -> &str;

    /// Every tensor's name and form; built once, from headers.
    fn manifest(&self) -> &Manifest;

    /// A tensor as it is stored, which is a copy of a file's bytes only where they lie there in another order.
    ///
    /// # Errors
    /// [`Error::Missing`], or why else there is nothing to read.
    fn read(&self, name: &str) -> Result<Stored, Error>;

    /// What a file says of itself under a key, in words beside its tensors; `None` where it says nothing.
    fn note(&self, key: &str) -> Option<&str> {
        let _ = key;
        None
    }

    /// What is added to a tensor. A stack of adapters is a source around another that has these alone; every other wrapper passes
    /// on those of what it wraps.
    fn branches(&self, name: &str) -> Vec<Branch> {
        let _ = name;
        Vec::new()
    }

    /// Takes note of a layer's hold of a tensor, into which branches may be put that the tensor did not have when the layer was built. The
    /// outermost source alone is asked; one whose branches stay what they are has no use for it.
    ///
    /// # Errors
    /// As [`Socket::put`].
    fn plug(&self, name: &str, socket: Weak<dyn Socket>) -> Result<(), Error> {
        _ = (name, socket);
        Ok(())
    }
}

impl<S: WeightSource + ?Sized> WeightSource for Arc<S> {
    fn label(&self) -> &str {
        (**self).label()
    }

    fn manifest(&self) -> &Manifest {
        (**self).manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        (**self).read(name)
    }

    fn note(&self, key: &str) -> Option<&str> {
        (**self).note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        (**self).branches(name)
    }

    fn plug(&self, name: &str, socket: Weak<dyn Socket>) -> Result<(), Error> {
        (**self).plug(name, socket)
    }
}
