use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use core_tensor::{Branch, Error, Manifest, Socket, Stored, WeightSource};
use diffusion_engine::Cancel;

/// Lets a [`Cancel`] interrupt the reading of a model's weights, which may take as long as a disk does.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<Mutex<Option<Cancel>>>);

impl Stop {
    /// Reads as long as nobody asks to stop. Nobody else reads meanwhile: loading has the pool of threads.
    pub(crate) fn during<R>(&self, cancel: &Cancel, read: impl FnOnce() -> R) -> R {
        struct Until<'s>(&'s Stop);
        impl Drop for Until<'_> {
            fn drop(&mut self) {
                self.0.set(None);
            }
        }
        self.set(Some(cancel.clone()));
        let _until = Until(self);
        read()
    }

    fn set(&self, cancel: Option<Cancel>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cancel;
    }

    fn is_asked(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Cancel::is_asked)
    }

    /// A source that can be stopped.
    pub(crate) fn of(&self, source: Arc<dyn WeightSource>) -> Arc<dyn WeightSource> {
        Arc::new(Stoppable { source, stop: self.clone() })
    }
}

struct Stoppable {
    source: Arc<dyn WeightSource>,
    stop: Stop,
}

impl WeightSource for Stoppable {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        if self.stop.is_asked() {
            return Err(Error::Read { path: self.label().into(), source: io::ErrorKind::Interrupted.into() });
        }
        self.source.read(name)
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.source.branches(name)
    }

    fn plug(&self, name: &str, socket: Weak<dyn Socket>) -> Result<(), Error> {
        self.source.plug(name, socket)
    }
}
