//! Ctrl-C, and a request to end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use diffusion_engine::Cancel;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// The exit code of an interrupted run.
pub(crate) const INTERRUPTED: i32 = 130;

/// Whether the process was asked to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the first Ctrl-C or SIGTERM is noted, and the second ends the process.
    pub(crate) fn awaited() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        refuse_long_files();
        if !watched_by_a_thread(&asked) {
            by_handlers(&asked);
        }
        Self(asked)
    }

    /// From here on the first Ctrl-C or SIGTERM ends the process, also where it is the first of a container, which none ends by itself.
    pub(crate) fn at_once() {
        by_handlers(&Arc::new(AtomicBool::new(true)));
    }

    /// What stops a run when one comes.
    pub(crate) fn cancel(&self) -> Cancel {
        Cancel::by(self.0.clone())
    }
}

/// A thread can leave the line that progress is shown on before it ends the process.
#[cfg(unix)]
fn watched_by_a_thread(asked: &Arc<AtomicBool>) -> bool {
    use std::io::{IsTerminal, stderr};

    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return false };
    let asked = asked.clone();
    let watch = move || {
        for _ in signals.forever() {
            if asked.swap(true, Ordering::Relaxed) {
                if stderr().is_terminal() {
                    eprintln!();
                }
                std::process::exit(INTERRUPTED);
            }
        }
    };
    std::thread::Builder::new().spawn(watch).is_ok()
}

#[cfg(not(unix))]
fn watched_by_a_thread(_: &Arc<AtomicBool>) -> bool {
    false
}

/// Where no handler can be set a signal ends the process at once, which leaves no partial file either.
fn by_handlers(asked: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        let _ = flag::register_conditional_shutdown(signal, INTERRUPTED, asked.clone());
        let _ = flag::register(signal, asked.clone());
    }
}

/// A file that grows beyond the process's limit is an error of the write, and not the end of the process.
fn refuse_long_files() {
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}
