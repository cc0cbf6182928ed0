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
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Whether nothing looks at that yet, so that the first signal ends the process.
    ends_at_once: Arc<AtomicBool>,
}

impl Interrupt {
    /// From here on Ctrl-C, SIGTERM or SIGHUP ends the process, until there is something that it stops: then the second does.
    pub(crate) fn awaited() -> Self {
        let of = |at_first| Arc::new(AtomicBool::new(at_first));
        let interrupt = Self { asked: of(false), ends_at_once: of(true) };
        if !interrupt.is_watched_by_a_thread() {
            interrupt.by_handlers();
        }
        interrupt
    }

    /// From here on the first of these signals ends the process, also where it is the first of a container, which none ends by itself.
    pub(crate) fn at_once() {
        let of = |at_first| Arc::new(AtomicBool::new(at_first));
        Self { asked: of(false), ends_at_once: of(true) }.by_handlers();
    }

    /// What stops a run when one comes, which from here on no more ends the process by itself.
    pub(crate) fn cancel(&self) -> Cancel {
        self.ends_at_once.store(false, Ordering::Relaxed);
        Cancel::by(self.asked.clone())
    }

    /// A thread can leave the line that progress is shown on, and remove what is half written, before it ends the process.
    #[cfg(unix)]
    fn is_watched_by_a_thread(&self) -> bool {
        use std::io::{IsTerminal, stderr};

        let Ok(mut signals) = signal_hook::iterator::Signals::new(asking()) else { return false };
        let Self { asked, ends_at_once } = self.clone();
        let watch = move || {
            for _ in signals.forever() {
                if asked.swap(true, Ordering::Relaxed) || ends_at_once.load(Ordering::Relaxed) {
                    if stderr().is_terminal() {
                        eprintln!();
                    }
                    let _abandoned = diffusion_engine::abandon_begun();
                    std::process::exit(INTERRUPTED);
                }
            }
        };
        std::thread::Builder::new().stack_size(STACK).spawn(watch).is_ok()
    }

    #[cfg(not(unix))]
    fn is_watched_by_a_thread(&self) -> bool {
        false
    }

    /// Where no handler can be set a signal ends the process at once, which leaves no partial file either.
    fn by_handlers(&self) {
        for signal in asking() {
            for ends in [&self.ends_at_once, &self.asked] {
                let _ = flag::register_conditional_shutdown(signal, INTERRUPTED, ends.clone());
            }
            let _ = flag::register(signal, self.asked.clone());
        }
    }
}

/// Bytes of stack of a thread that only waits.
#[cfg(unix)]
const STACK: usize = 1 << 18;

/// The signals that ask for the end. That a terminal is closed is none where who began the process said so, as `nohup` does.
fn asking() -> Vec<i32> {
    [SIGINT, SIGTERM].into_iter().chain(hangup()).collect()
}

#[cfg(target_os = "linux")]
fn hangup() -> Option<i32> {
    use signal_hook::consts::SIGHUP;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let ignored = u64::from_str_radix(ignored.trim(), 16).ok()?;
    // Signal n is bit n - 1.
    (ignored >> (SIGHUP - 1) & 1 == 0).then_some(SIGHUP)
}

#[cfg(not(target_os = "linux"))]
fn hangup() -> Option<i32> {
    None
}

/// A file that grows beyond the process's limit is an error of the write, and not the end of the process.
pub(crate) fn refuse_long_files() {
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}
