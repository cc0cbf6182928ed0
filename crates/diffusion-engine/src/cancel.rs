use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A request that a run stops: shared by the run and by everyone who may ask for it, from any thread.
///
/// A run looks at it before each call of its model and between the blocks of its networks.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A request that a flag stands for, such as one that a signal sets.
    pub fn by(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Asks the run to stop; it can't be taken back.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
