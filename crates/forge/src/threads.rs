//! The threads that compute.

use std::{
    sync::mpsc::{Sender, channel},
    thread,
};

use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::{Error, Result};

/// What came of a wish for threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// How many were asked for.
    pub wanted: usize,
    /// How many compute, this one among them.
    pub running: usize,
    /// How many the machine gives this process at a time.
    pub cores: usize,
}

impl Threads {
    /// The most threads that a config may ask for.
    pub const MAX: usize = 1024;

    /// Makes this thread and others beside it a pool, in which everything that this thread begins computes. 0 stands for
    /// `RAYON_NUM_THREADS`, or for all cores.
    ///
    /// Threads that the system refuses are done without: there is always this one. Many times more than there are cores would only wait for
    /// each other, and are not started.
    ///
    /// # Errors
    /// [`Error::Threads`] for more than [`Threads::MAX`].
    pub fn start(wanted: usize) -> Result<Self> {
        if wanted > Self::MAX {
            return Err(Error::Threads { found: wanted, max: Self::MAX });
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let environment = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
        let wanted = match (wanted, environment) {
            (0, None | Some(0)) => cores,
            (0, Some(threads)) => threads,
            (wanted, _) => wanted,
        };
        let mut waiting = wait(wanted.min(most(cores)) - 1);
        let running = waiting.len() + 1;
        let pool = ThreadPoolBuilder::new().num_threads(running).use_current_thread();
        let pool = pool.spawn_handler(|part| {
            let thread = waiting.pop().expect("one waits for each part of the pool");
            thread.send(part).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
        });
        // It fails only where this thread is in a pool already, as where a program calls the command twice: that one serves again.
        // A pool that is dropped sends its threads away, and this one lasts as long as its first thread.
        if let Ok(pool) = pool.build() {
            std::mem::forget(pool);
        }
        Ok(Self { wanted, running: rayon::current_num_threads(), cores })
    }

    /// What a person should know about it.
    pub fn note(&self) -> Option<String> {
        let Self { wanted, running, cores } = *self;
        if running < wanted.min(most(cores)) {
            return Some(format!("the system gave {running} of {wanted} threads"));
        }
        if running < wanted {
            return Some(format!("{running} threads compute instead of {wanted}, as there are {cores} cores"));
        }
        (running > cores).then(|| format!("{running} threads compute on {cores} cores, which is slower than {cores}"))
    }
}

/// Beyond this threads do nothing but wait for each other.
fn most(cores: usize) -> usize {
    cores.saturating_mul(8)
}

/// Threads that wait for their part of a pool: as many as the system gives. Rayon panics or gives up where it is refused one.
fn wait(wanted: usize) -> Vec<Sender<ThreadBuilder>> {
    let threads = (0..wanted).map_while(|_| {
        let (sender, receiver) = channel::<ThreadBuilder>();
        let run = move || {
            if let Ok(part) = receiver.recv() {
                part.run();
            }
        };
        thread::Builder::new().spawn(run).is_ok().then_some(sender)
    });
    threads.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_wish_is_told() {
        let note = |wanted, running, cores| Threads { wanted, running, cores }.note();
        assert_eq!(note(2, 2, 2), None);
        assert_eq!(note(1, 1, 2), None);
        assert_eq!(note(4, 4, 2).as_deref(), Some("4 threads compute on 2 cores, which is slower than 2"));
        assert_eq!(note(5000, 16, 2).as_deref(), Some("16 threads compute instead of 5000, as there are 2 cores"));
        assert_eq!(note(8, 3, 8).as_deref(), Some("the system gave 3 of 8 threads"));
    }

    #[test]
    fn a_pool_has_the_threads_that_were_asked_for_and_another_wish_finds_it() {
        thread::spawn(|| {
            assert_eq!(Threads::start(3).unwrap().running, 3);
            assert_eq!(Threads::start(1).unwrap().running, 3);
            // and all of them take part in what this one begins: each waits here for the others
            let barrier = std::sync::Barrier::new(3);
            let places = rayon::broadcast(|part| {
                barrier.wait();
                part.index()
            });
            assert_eq!(places, [0, 1, 2]);
        })
        .join()
        .unwrap();
        assert!(matches!(Threads::start(Threads::MAX + 1), Err(Error::Threads { .. })));
    }
}
