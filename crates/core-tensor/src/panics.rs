//! Panics on the threads that CubeCL asks devices by.
//!
//! What is asked of a device there and has no answer, such as writing to a buffer, leaves nothing but a warning in a log behind when it
//! panics: the buffer has then what was in it before, and a picture would be drawn of that. wgpu panics where a driver has no memory for its commands.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use cubecl::client::Client;

use crate::Error;

/// How many there were of each device, and what the last one said.
static PANICS: Mutex<BTreeMap<Number, (u64, String)>> = Mutex::new(BTreeMap::new());

/// What CubeCL tells devices apart by: a kind and a number, as in the names of their threads.
type Number = (u16, u16);

fn panics() -> MutexGuard<'static, BTreeMap<Number, (u64, String)>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device that a thread of a name asks; `None` for any other thread.
fn asked_by(name: &str) -> Option<Number> {
    let (kind, number) = ["DSD-", "DSU-"].iter().find_map(|begin| name.strip_prefix(begin))?.split_once('-')?;
    Some((kind.parse().ok()?, number.parse().ok()?))
}

fn number(client: &Client) -> Number {
    let device = client.service_id().device;
    (device.type_id, device.index_id)
}

/// Hears of them from now on, if nobody takes the process's hook for panics away. Others go where they went.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| match thread::current().name().and_then(asked_by) {
            Some(device) => note(device, panic.payload()),
            None => others(panic),
        }));
    });
}

fn note(device: Number, payload: &(dyn Any + Send)) {
    let mut panics = panics();
    let (count, last) = panics.entry(device).or_default();
    *count += 1;
    *last = said(payload).to_owned();
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// What a panic says of a device: its first line and its last, where wgpu has the cause.
fn failure(said: &str) -> Error {
    if ["OutOfMemory", "Not enough memory"].iter().any(|words| said.contains(words)) {
        return Error::on_device(&format_args!("out of device memory"));
    }
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => Error::on_device(&format_args!("{first}: {last}")),
        None => Error::on_device(&format_args!("{first}")),
    }
}

/// What a call to a device comes to that may panic, as CubeCL has a panic on those threads go on in whoever waits for them; `None` where it does, which
/// whoever looks at a value of the device hears of.
pub(crate) fn caught<T>(client: &Client, call: impl FnOnce() -> T) -> Option<T> {
    caught_of(number(client), call)
}

fn caught_of<T>(device: Number, call: impl FnOnce() -> T) -> Option<T> {
    let before = Heard::all_of(device);
    let caught = catch_unwind(AssertUnwindSafe(call));
    if let (Err(panic), None) = (&caught, before.since()) {
        note(device, &**panic);
    }
    caught.ok()
}

/// What a panic says that was a device's before it went on in whoever waited; `None` for any other.
pub(crate) fn of_device(payload: &(dyn Any + Send)) -> Option<Error> {
    let said = said(payload);
    panics().values().any(|(_, last)| last == said).then(|| failure(said))
}

/// Which panics of a device somebody has heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    device: Number,
    count: u64,
}

impl Heard {
    /// All until now.
    pub(crate) fn all(client: &Client) -> Self {
        Self::all_of(number(client))
    }

    fn all_of(device: Number) -> Self {
        Self { device, count: panics().get(&device).map_or(0, |(count, _)| *count) }
    }

    /// The same, and what there was since.
    #[cfg(any(feature = "vulkan", test))]
    pub(crate) fn again(self) -> Self {
        Self::all_of(self.device)
    }

    /// The last one, if there was one since.
    pub(crate) fn since(self) -> Option<Error> {
        panics().get(&self.device).filter(|(count, _)| *count > self.count).map(|(_, said)| failure(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is nobody's.
    const DEVICE: Number = (60_000, 7);

    fn panic_of(thread: &str, message: &'static str) -> Box<dyn Any + Send> {
        let thread = thread::Builder::new().name(thread.into()).spawn(move || panic!("{message}"));
        thread.unwrap().join().expect_err("a panic")
    }

    #[test]
    fn a_panic_of_a_device_is_heard_of_once_and_by_nobody_who_computes_on_another() {
        listen();
        let [before, other] = [DEVICE, (60_000, 8)].map(Heard::all_of);
        let mine = panic_of("other", "mine");
        assert!(before.since().is_none() && of_device(&*mine).is_none());
        let theirs = panic_of("DSD-60000-7", "no memory\n\n  Caused by:\n    for commands\n");
        let told = before.since().expect("a panic").to_string();
        assert!(told.contains("no memory: for commands"), "{told}");
        assert!(of_device(&*theirs).is_some());
        assert!(other.since().is_none() && before.again().since().is_none());
    }

    #[test]
    fn a_call_that_panics_here_is_a_failure_of_the_device_and_memory_is_told_as_such() {
        let device = (60_000, 9);
        let before = Heard::all_of(device);
        assert_eq!(caught_of(device, || 7), Some(7));
        assert!(before.since().is_none());
        for said in
            ["called `Result::unwrap()` on an `Err` value: OutOfMemory", "In a queue\n  Not enough memory left."]
        {
            let before = before.again();
            assert!(caught_of::<()>(device, || panic!("{said}")).is_none());
            assert!(matches!(before.since(), Some(Error::DeviceMemory { .. })), "{said}");
        }
    }
}
