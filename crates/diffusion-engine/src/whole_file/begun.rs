//! What this process writes just now, which is removed where it ends in the midst of that.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

/// What this process has begun to write.
static BEGUN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

pub(super) fn begun() -> MutexGuard<'static, Vec<PathBuf>> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it is held, no file is begun.
#[derive(Debug)]
pub struct Abandoned(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, Vec<PathBuf>>);

/// Removes what this process has begun to write, for one that ends at once, which drops nothing: it holds what comes of this until then. Where
/// something is begun all the while, as on a drive that does not answer, or by who has no memory to go on, all is left to [`sweep`](crate::sweep).
#[must_use = "what is held until the end keeps others from beginning a file meanwhile"]
pub fn abandon_begun() -> Option<Abandoned> {
    /// Of a millisecond each.
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let begun = match BEGUN.try_lock() {
            Ok(begun) => begun,
            Err(TryLockError::Poisoned(begun)) => begun.into_inner(),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        for path in begun.iter() {
            let _ = fs::remove_file(path);
        }
        return Some(Abandoned(begun));
    }
    None
}

/// A file of those, until it has its name or is gone.
pub(super) struct Begun(pub(super) PathBuf);

impl Drop for Begun {
    fn drop(&mut self) {
        begun().retain(|path| *path != self.0);
    }
}
