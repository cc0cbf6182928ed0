//! The threads that compute.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// How many threads compute: a number up to [`ThreadCount::MAX`], or all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCount(usize);

impl ThreadCount {
    /// The most threads that a config may ask for.
    pub const MAX: usize = 1024;

    /// One for each core.
    pub const ALL_CORES: Self = Self(0);

    /// So many threads; 0 for all cores.
    ///
    /// # Errors
    /// [`Error::Value`] for more than [`ThreadCount::MAX`].
    pub fn new(threads: usize) -> Result<Self> {
        if threads <= Self::MAX {
            return Ok(Self(threads));
        }
        let (expected, found) = (format!("0 to {}", Self::MAX), threads.to_string());
        Err(Error::Value { key: "device.threads".into(), expected, found })
    }

    /// How many, where the machine has so many cores.
    pub fn of(self, cores: usize) -> usize {
        if self == Self::ALL_CORES { cores } else { self.0 }
    }
}

/// A pool of threads that compute, and what came of the wish for them. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Threads {
    /// None where the system gives not one thread: then the caller computes.
    pool: Option<Arc<(ThreadPool, Turns)>>,
    wanted: usize,
    running: usize,
    cores: usize,
}

impl Threads {
    /// Starts a pool.
    ///
    /// Threads that the system refuses are done without. Many times more than there are cores would only wait for each other, and are
    /// not started.
    pub fn start(wanted: ThreadCount) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = wanted.of(cores);
        let waiting = wait(wanted.min(most(cores)));
        let running = waiting.len().max(1);
        let pool = pool(waiting).map(|pool| Arc::new((pool, Turns::default())));
        Self { pool, wanted, running, cores }
    }

    /// Computes in the pool what `work` says, and waits for it. Whoever else asks meanwhile has the pool next, in the order of asking: each
    /// has all of its threads, and a thread that waited for a part of one's work would begin with another's in the midst of it, and find what
    /// the first has locked.
    ///
    /// Who computes in the pool already goes on.
    pub fn compute<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let Some((pool, turns)) = self.pool.as_deref().filter(|(pool, _)| pool.current_thread_index().is_none()) else {
            return work();
        };
        let in_turn = || {
            let _turn = turns.take();
            pool.install(work)
        };
        if rayon::current_thread_index().is_none() {
            return in_turn();
        }
        // A thread of somebody else's pool would go on with other work of that while it waits, and that may ask for a turn, too. So another
        // one waits, where the system has one.
        let asked = Mutex::new(Some(in_turn));
        let begin = || {
            let in_turn = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
            in_turn.map(|in_turn| in_turn())
        };
        let done = thread::scope(|scope| match builder().spawn_scoped(scope, begin) {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => begin(),
        });
        done.expect("it is begun once")
    }

    /// How many threads compute.
    pub fn running(&self) -> usize {
        self.running
    }

    /// What a person should know about it.
    pub fn note(&self) -> Option<String> {
        let Self { wanted, running, cores, .. } = *self;
        if running < wanted.min(most(cores)) {
            return Some(format!("the system gave {running} of {wanted} threads"));
        }
        if running < wanted {
            return Some(format!("{running} threads compute instead of {wanted}, as there are {cores} cores"));
        }
        (running > cores).then(|| format!("{running} threads compute on {cores} cores, which is slower than {cores}"))
    }
}

/// Whose turn it is to have a pool: that of whoever asked first.
#[derive(Debug, Default)]
struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

/// How many have asked for a turn, and how many have had theirs.
#[derive(Debug, Default)]
struct Line {
    asked: u64,
    done: u64,
}

/// The turn that somebody has.
struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Turn<'_> {
        let mut line = self.line();
        let mine = line.asked;
        line.asked += 1;
        drop(self.moved.wait_while(line, |line| line.done < mine).unwrap_or_else(PoisonError::into_inner));
        Turn(self)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.line().done += 1;
        self.0.moved.notify_all();
    }
}

/// Beyond this threads do nothing but wait for each other.
fn most(cores: usize) -> usize {
    cores.saturating_mul(8)
}

/// A pool of threads that wait for their part of it.
fn pool(mut waiting: Vec<Sender<ThreadBuilder>>) -> Option<ThreadPool> {
    if waiting.is_empty() {
        // Rayon would start threads of its own for whoever is in no pool, and panics where it is refused one. There is but this
        // thread, and it becomes a pool by itself; that fails only where it is one already.
        let _ = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
        return None;
    }
    let pool = ThreadPoolBuilder::new().num_threads(waiting.len()).spawn_handler(|part| {
        let thread = waiting.pop().expect("one waits for each part of the pool");
        thread.send(part).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    });
    pool.build().ok()
}

/// What starts a thread with as much stack as Rust gives one where nothing in the environment says otherwise.
fn builder() -> thread::Builder {
    const STACK: usize = 2 << 20;
    thread::Builder::new().stack_size(STACK)
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
        builder().spawn(run).is_ok().then_some(sender)
    });
    threads.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_wish_is_told() {
        let note = |wanted, running, cores| Threads { pool: None, wanted, running, cores }.note();
        assert_eq!(note(2, 2, 2), None);
        assert_eq!(note(1, 1, 2), None);
        assert_eq!(note(4, 4, 2).as_deref(), Some("4 threads compute on 2 cores, which is slower than 2"));
        assert_eq!(note(5000, 16, 2).as_deref(), Some("16 threads compute instead of 5000, as there are 2 cores"));
        assert_eq!(note(8, 3, 8).as_deref(), Some("the system gave 3 of 8 threads"));
    }

    #[test]
    fn what_one_has_locked_is_not_met_by_another_in_its_midst() {
        use rayon::prelude::*;
        // given a lock that is held over work of the pool, as while a model is loaded
        let (threads, locked) = (Threads::start(ThreadCount::new(2).unwrap()), Mutex::new(0));
        let work = || {
            threads.compute(|| {
                let mut held = locked.lock().unwrap();
                // and work in it that asks for the pool again
                *held += threads.compute(|| (0..1000u64).into_par_iter().map(|x| x % 2).sum::<u64>());
            });
        };
        // when many ask at once
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| (0..50).for_each(|_| work())))));
        // also from the threads of another pool
        let other = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        other.install(|| (0..100).into_par_iter().for_each(|_| work()));
        // then each has its turn
        assert_eq!(*locked.lock().unwrap(), (8 * 50 + 100) * 500);
    }

    #[test]
    fn a_turn_is_over_when_its_work_panics() {
        let threads = Threads::start(ThreadCount::new(1).unwrap());
        let failed =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| threads.compute(|| panic!("in its turn"))));
        assert!(failed.is_err());
        assert_eq!(threads.compute(|| 7), 7);
    }

    #[test]
    fn a_pool_has_the_threads_that_were_asked_for_and_is_not_another_pool() {
        for threads in [1, 3] {
            let pool = Threads::start(ThreadCount::new(threads).unwrap());
            assert_eq!(pool.running(), threads);
            // All of them take part: each waits here for the others.
            let barrier = std::sync::Barrier::new(threads);
            let places = pool.compute(|| {
                rayon::broadcast(|part| {
                    barrier.wait();
                    part.index()
                })
            });
            assert_eq!(places, (0..threads).collect::<Vec<_>>());
        }
    }
}
