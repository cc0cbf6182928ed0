//! Parts of files that are read before they are needed.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::Mapped;

/// A part of a file.
pub(crate) type Part = (Mapped, Range<usize>);

/// What each block of a stack will read of files.
#[derive(Clone, Debug)]
pub(crate) struct ReadAhead {
    parts: Arc<[Vec<Part>]>,
    /// Whether a thread still asks for some.
    is_busy: Arc<AtomicBool>,
}

/// The stack of the thread that asks for parts, which calls little.
const STACK: usize = 128 << 10;

impl ReadAhead {
    pub(crate) fn of(parts: Vec<Vec<Part>>) -> Self {
        Self { parts: parts.into(), is_busy: Arc::default() }
    }

    /// Has the system read what some blocks will read, of those that there are, while the caller goes on.
    ///
    /// Nothing happens while the disk is busy with what was asked for before, so that blocks which are passed over ask for no more than
    /// one of them reads.
    pub(crate) fn begin(&self, blocks: Range<usize>) {
        let blocks = blocks.start.min(self.parts.len())..blocks.end.min(self.parts.len());
        if self.parts[blocks.clone()].iter().all(Vec::is_empty) || self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (parts, is_busy) = (self.parts.clone(), self.is_busy.clone());
        let ask = move || {
            parts[blocks].iter().flatten().for_each(|(file, range)| file.read_ahead(range.clone()));
            is_busy.store(false, Ordering::Release);
        };
        // Asking may wait for the disk. A thread that the system refuses is done without.
        if thread::Builder::new().name("read-ahead".into()).stack_size(STACK).spawn(ask).is_err() {
            self.is_busy.store(false, Ordering::Release);
        }
    }

    /// How many bytes each part of each block has.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> Vec<Vec<usize>> {
        self.parts.iter().map(|parts| parts.iter().map(|(_, range)| range.len()).collect()).collect()
    }
}
