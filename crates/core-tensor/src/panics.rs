//! Panics on the threads that CubeCL asks devices by.
//!
//! What is asked of a device there and has no answer, such as writing to a buffer, leaves nothing but a warning in a log behind when it
//! panics: the buffer has then what was in it before, and a picture would be drawn of that. wgpu panics where a driver has no memory for its commands.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Mutex, Once, PoisonError},
    thread,
};

use crate::Error;

/// How many there were, and what the last one said.
static PANICS: Mutex<(u64, String)> = Mutex::new((0, String::new()));

/// What the names of those threads begin with.
const THREADS: [&str; 2] = ["DSD-", "DSU-"];

/// Hears of them from now on, if nobody takes the process's hook for panics away. Others go where they went.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            let is_of_device = |name: &str| THREADS.iter().any(|begin| name.starts_with(begin));
            if thread::current().name().is_some_and(is_of_device) {
                note(panic.payload_as_str().unwrap_or(NO_MESSAGE));
            } else {
                others(panic);
            }
        }));
    });
}

fn note(message: &str) {
    let told = match message.lines().next().unwrap_or_default().trim() {
        line if line.contains("OutOfMemory") => "out of device memory",
        line => line,
    };
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    *panics = (panics.0 + 1, told.to_owned());
}

/// What a call to a device comes to that may panic, as CubeCL has a panic on those threads go on in whoever waits for them; `None` where it does, which
/// whoever looks at a value of the device hears of.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    let before = Heard::all();
    let caught = catch_unwind(AssertUnwindSafe(call));
    if let (Err(panic), None) = (&caught, before.since()) {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        note(&text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| NO_MESSAGE.into()));
    }
    caught.ok()
}

const NO_MESSAGE: &str = "a panic without a message";

/// What the last one said, as an error.
pub(crate) fn last() -> Option<Error> {
    Heard(0).since().map(|panic| Error::on_device(&format_args!("{panic}")))
}

/// Which of them somebody has heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard(u64);

impl Heard {
    /// All until now.
    pub(crate) fn all() -> Self {
        Self(PANICS.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What the last one said, if there was one since.
    pub(crate) fn since(self) -> Option<String> {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        (panics.0 > self.0).then(|| panics.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_device_is_heard_of_and_one_of_another_thread_is_not() {
        listen();
        let before = Heard::all();
        let panics = |name: &str| {
            let thread = thread::Builder::new().name(name.into()).spawn(|| panic!("no memory\nfor commands"));
            thread.unwrap().join().expect_err("a panic");
        };
        panics("other");
        assert_eq!(before.since(), None);
        panics("DSD-5-0");
        assert_eq!(before.since().as_deref(), Some("no memory"));
        assert_eq!(Heard::all().since(), None);
    }
}
