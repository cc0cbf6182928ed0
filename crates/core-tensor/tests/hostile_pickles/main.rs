//! Pickles that lie, that would run something or that would grow: each an error that says why, in little time and memory.

mod archives;
mod assembler;
mod bombs;
mod large;
mod machine;
mod old_format;
mod tensors;

use std::{
    fs,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use core_tensor::{Error, pickle::TorchFile};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a file is, its bytes, and whether an error is the one that it deserves.
type Case = (&'static str, Vec<u8>, fn(&Error) -> bool);

/// Whether an error is this [`core_tensor::PickleFault`].
macro_rules! fault {
    ($($pattern:tt)*) => {
        |error: &core_tensor::Error| matches!(error, core_tensor::Error::Pickle { fault: core_tensor::PickleFault::$($pattern)*, .. })
    };
}
pub(crate) use fault;

/// Opens every file, from a disk. They are made when nothing else is measured, as some are large.
fn refuse(cases: impl FnOnce() -> Vec<Case>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder can be made here");
    let path = folder.path().join("m.ckpt");
    for (case, bytes, deserved) in cases() {
        fs::write(&path, &bytes).expect("files can be written here");
        let length = bytes.len();
        drop(bytes);
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let (error, mut time) = opened(&path);
        let peak = HEAP.peak_usage() - before;
        let error = error.unwrap_or_else(|| panic!("{case}: is taken"));
        assert!(deserved(&error), "{case}: {error:?}");
        let message = error.to_string();
        assert!(message.contains("m.ckpt`") && message.len() < 1000, "{case}: {message}");
        let bound = 4 * length + (16 << 20);
        assert!(peak <= bound, "{case}: {peak} bytes, {bound} for a file of {length}");
        for _ in 0..2 {
            time = time.min(opened(&path).1);
        }
        assert!(time < Duration::from_millis(100), "{case}: {time:?}");
    }
}

/// A file that is opened: its error, and the work.
fn opened(path: &Path) -> (Option<Error>, Duration) {
    let start = worked();
    let error = TorchFile::open(path).err();
    (error, worked() - start)
}

/// How long this thread has had a processor, which does not count what else the machine does; elsewhere than on Linux, the time.
fn worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

#[test]
fn what_the_assembler_makes_is_taken_where_it_does_not_lie() {
    for file in [assembler::holds(assembler::good()), assembler::Legacy::good().file()] {
        let file = TorchFile::from_bytes(Path::new("m.ckpt"), file).unwrap();
        let manifest = core_tensor::WeightSource::manifest(&file);
        assert_eq!(manifest.get("w").map(|form| (form.shape, form.bytes)), Some((&[2, 3][..], 24)));
    }
}
