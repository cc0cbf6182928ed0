use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a [`Wrap`](crate::Wrap) remembers of earlier calls, for its denoiser and its hooks alike. Clones share it.
#[derive(Debug, Default)]
pub struct Memory<T>(Arc<Mutex<T>>);

impl<T> Memory<T> {
    /// With this in mind.
    pub fn of(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// What is in mind, for this one to look at and to change until it lets go.
    pub fn hold(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Memory<T> {
    /// Another one of the same, which goes its own way.
    pub fn fork(&self) -> Self {
        Self::of(self.hold().clone())
    }
}

impl<T> Clone for Memory<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
