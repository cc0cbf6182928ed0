use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A request that a run stops: shared by the run and by everyone who may ask for it, from any thread.
///
/// A run looks at it before each call of its model and between the blocks of its networks.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    /// What asks for it too.
    of: Option<Arc<Cancel>>,
}

impl Cancel {
    /// A request that a flag stands for, such as one that a signal sets.
    pub fn by(flag: Arc<AtomicBool>) -> Self {
        Self { own: flag, of: None }
    }

    /// Another request, which is made where this one is, and can be made without it.
    pub fn part(&self) -> Self {
        Self { own: Arc::default(), of: Some(Arc::new(self.clone())) }
    }

    /// Asks the run to stop; it can't be taken back.
    pub fn ask(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.own.load(Ordering::Relaxed) || self.of.as_ref().is_some_and(|of| of.is_asked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_with_the_whole_and_without_it() {
        let whole = Cancel::default();
        let (part, other) = (whole.part(), whole.part());
        part.ask();
        assert_eq!([&whole, &part, &other].map(Cancel::is_asked), [false, true, false]);
        whole.ask();
        assert!(other.is_asked() && other.part().is_asked());
    }
}
