use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// How much a branch counts, between any two forwards another. Clones share it: one strength moves all branches of an adapter, and
/// no weight is touched.
#[derive(Clone, Debug)]
pub struct Strength(Arc<AtomicU32>);

impl Strength {
    /// A strength of its own; at 0 a model is to the bit what it is without the branch.
    pub fn of(strength: f32) -> Self {
        Self(Arc::new(AtomicU32::new(strength.to_bits())))
    }

    /// What it is now.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Changes it, for every clone.
    pub fn set(&self, strength: f32) {
        self.0.store(strength.to_bits(), Ordering::Relaxed);
    }
}
