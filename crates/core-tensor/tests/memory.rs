//! What opening a file takes: at most four times its size and 16 MiB, and no long time, whatever its header claims.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use core_tensor::{Error, safetensors::Safetensors};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// A file that is opened: its error, the most memory it took, and the shortest work of three.
fn opened(path: &Path) -> (Option<Error>, usize, Duration) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let trial = || {
        let start = worked();
        let opened = Safetensors::open(path);
        (opened, worked() - start)
    };
    let (first, mut shortest) = trial();
    let peak = HEAP.peak_usage() - before;
    let error = first.err();
    for _ in 0..2 {
        shortest = shortest.min(trial().1);
    }
    (error, peak, shortest)
}

/// How long this thread has had a processor, which does not count what else the machine does; elsewhere than on Linux, the time.
fn worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// A file of this header, of which only as many data bytes are there as it takes to be whole.
fn write(folder: &Path, header: &str, data: u64) -> PathBuf {
    let path = folder.join("m.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())
        .expect("files can be written here");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("files can be written here");
    file.set_len(8 + header.len() as u64 + data).expect("files can be written here");
    path
}

/// `{…,…}` of `count` entries.
fn object(count: usize, entry: impl Fn(usize) -> String) -> String {
    format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","))
}

/// An entry of no bytes.
fn empty(name: usize, shape: &str) -> String {
    format!(r#""{name:x}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}"#)
}

#[test]
fn no_header_takes_more_than_four_times_its_size_and_16_mib() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const LONG: usize = 4 << 20;
    let tensor = |form: String| format!(r#"{{"a":{{{form}}}}}"#);
    let (deletes, escapes) = ("\x7f".repeat(LONG), "\\n".repeat(LONG / 2));
    let whole = r#""dtype":"U8","shape":[0],"data_offsets":[0,0]"#;
    type Refused = fn(&Error) -> bool;
    let json: Refused = |e| matches!(e, Error::Header { .. });
    let cases: Vec<(&str, String, Option<Refused>)> = vec![
        ("tiny tensors", object(75_000, |i| empty(i, "0")), None),
        ("tiny tensors in no order", object(75_000, |i| empty((i * 40503) % (1 << 20), "0")), None),
        ("tensors of eight dimensions", object(60_000, |i| empty(i, "0,1,2,3,4,5,6,7")), None),
        ("tensors of the longest names", object(3_900, |i| format!(r#""{i:01024}":{{{whole}}}"#)), None),
        ("one name again and again", object(75_000, |_| empty(0, "0")), Some(|e| matches!(e, Error::Twice { .. }))),
        (
            "a million dimensions of one",
            tensor(format!(r#""dtype":"U8","shape":[{}1],"data_offsets":[0,1]"#, "1,".repeat(1_000_000))),
            Some(|e| matches!(e, Error::Rank { limit: 8, .. })),
        ),
        (
            "a long name",
            format!(r#"{{"{deletes}":{{{whole}}}}}"#),
            Some(|e| matches!(e, Error::LongName { limit: 1024, .. })),
        ),
        (
            "a long name of escapes",
            format!(r#"{{"{escapes}":{{{whole}}}}}"#),
            Some(|e| matches!(e, Error::LongName { .. })),
        ),
        (
            "a long format",
            tensor(format!(r#""dtype":"{deletes}""#)),
            Some(|e| matches!(e, Error::UnknownFormat { .. })),
        ),
        ("a string as header", format!(r#""{deletes}""#), Some(json)),
        ("a string as tensor", format!(r#"{{"a":"{deletes}"}}"#), Some(json)),
        ("a string as shape", tensor(format!(r#""shape":"{deletes}""#)), Some(json)),
        ("a string as dimension", tensor(format!(r#""shape":["{deletes}"]"#)), Some(json)),
        ("a string as range", tensor(format!(r#""data_offsets":"{deletes}""#)), Some(json)),
        ("a string as offset", tensor(format!(r#""data_offsets":["{deletes}"]"#)), Some(json)),
        ("a string as metadata", format!(r#"{{"__metadata__":"{deletes}"}}"#), Some(json)),
        ("a number of four million digits", tensor(format!(r#""shape":[{}]"#, "1".repeat(LONG))), Some(json)),
        ("a long note", format!(r#"{{"__metadata__":{{"a":"{escapes}"}}}}"#), None),
        ("a note under a long key", format!(r#"{{"__metadata__":{{"{escapes}":""}}}}"#), None),
        ("many notes", format!(r#"{{"__metadata__":{{{}"a":""}}}}"#, r#""a":"","#.repeat(LONG / 7)), None),
        ("notes in notes", format!(r#"{{"__metadata__":{{"a":{}"#, r#"{"a":"#.repeat(LONG / 5)), Some(json)),
        ("a deep unknown key", tensor(format!(r#""x":{}"#, "[".repeat(LONG))), Some(json)),
        ("a long unknown key", tensor(format!(r#""{escapes}":0,{whole}"#)), None),
        ("many unknown keys", tensor(format!(r#"{}{whole}"#, r#""x":0,"#.repeat(LONG / 6))), None),
        ("spaces", format!("{{{}}}", " ".repeat(LONG)), None),
        ("zeros", "\0".repeat(LONG), Some(json)),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (case, header, refused) in cases {
        let path = write(folder.path(), &header, 0);
        let (error, peak, time) = opened(&path);
        match (&error, refused) {
            (None, None) => {}
            (Some(error), Some(refused)) if refused(error) => {
                assert!(error.to_string().len() < 2000, "{case}: a message of {} bytes", error.to_string().len());
            }
            _ => panic!("{case}: {error:?}"),
        }
        let bound = 4 * header.len() + (16 << 20);
        assert!(peak <= bound, "{case}: {peak} bytes, {bound} for a header of {}", header.len());
        assert!(time < Duration::from_millis(100), "{case}: {time:?}");
    }
}

#[test]
fn the_longest_header_is_within_the_bound_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let header = object(590_000, |i| empty(i, "0"));
    assert!((31 << 20..32 << 20).contains(&header.len()), "{}", header.len());
    let (error, peak, _) = opened(&write(folder.path(), &header, 0));
    assert!(error.is_none(), "{error:?}");
    assert!(peak <= 4 * header.len() + (16 << 20), "{peak}");
}

#[test]
fn data_is_mapped_and_not_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let size = 1u64 << 40;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
    let (error, peak, time) = opened(&write(folder.path(), &header, size));
    assert!(error.is_none(), "{error:?}");
    assert!(peak < 1 << 20, "{peak}");
    assert!(time < Duration::from_millis(100), "{time:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_the_system_makes_up_is_not_read_for_ever() {
    // regular files of no length, of which the first waits for messages of the kernel
    for path in ["/proc/kmsg", "/proc/self/status"] {
        let start = Instant::now();
        assert!(Safetensors::open(Path::new(path)).is_err());
        assert!(start.elapsed() < Duration::from_secs(1), "{path}");
    }
}
