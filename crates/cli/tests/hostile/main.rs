//! One small file of each hostile kind: the variant of its error, its time, and its memory.
//!
//! The files are made here, by the rows of the tables in the modules; none is larger than a few megabytes but for holes.

#[path = "../tiny/mod.rs"]
mod tiny;

mod configs;
mod files;
mod folders;
mod pictures;
mod places;
mod safetensors;
mod texts;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use forge::{Error, Txt2Img};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test holds anything: what a test prepares counts too.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one file may take beside four times its size.
const ROOM: usize = 16 << 20;

/// How long this thread may work on one file; five times as long where what it runs is not optimised.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });

/// The longest message that is still read.
const MESSAGE: usize = 4000;

/// What reads a file.
#[derive(Clone, Copy, Debug)]
enum Reader {
    /// `forge inspect`: the header of a model, or of a folder's files, and the `config.json` beside it.
    Inspect,
    /// `--noise`, for a picture of 64 × 64 pixels.
    Noise,
    /// `--config`, up to the request.
    Config,
    /// `forge info`: a picture's text.
    Picture,
    /// The text itself, up to the request.
    Infotext,
}

/// What becomes of a file.
#[derive(Clone, Copy)]
enum End {
    /// It is taken.
    Taken,
    /// It is refused, with this error.
    Refused(fn(&Error) -> bool),
    /// It is either, as this reader or another that knows more of it would have it; what counts is that it ends.
    Either,
}

/// A row of a table.
struct Row {
    kind: String,
    reader: Reader,
    bytes: Vec<u8>,
    /// A hole behind the bytes.
    hole: u64,
    end: End,
}

impl Row {
    fn new(reader: Reader, kind: impl Into<String>, bytes: impl Into<Vec<u8>>, end: End) -> Self {
        Self { kind: kind.into(), reader, bytes: bytes.into(), hole: 0, end }
    }
}

/// Whether the innermost error is this one of core-tensor's.
macro_rules! weights {
    ($pattern:pat) => {
        crate::End::Refused(|error| matches!(crate::innermost(error), forge::Error::Weights($pattern)))
    };
}
/// Whether the innermost error is this one of the library's.
macro_rules! error {
    ($pattern:pat) => {
        crate::End::Refused(|error| matches!(crate::innermost(error), $pattern))
    };
}
use {error, weights};

fn innermost(error: &Error) -> &Error {
    match error {
        Error::Load { source, .. } => innermost(source),
        other => other,
    }
}

/// Reads every row's file and checks how it ends.
fn check(rows: Vec<Row>) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut faults = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        // a folder for each, as what lies beside a model counts
        let path = folder.path().join(i.to_string()).join(row.file());
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("folders can be made here");
        fs::write(&path, &row.bytes).expect("files can be written here");
        if row.hole > 0 {
            let file = fs::OpenOptions::new().write(true).open(&path).expect("it was just written");
            file.set_len(row.bytes.len() as u64 + row.hole).expect("a hole takes no room");
        }
        // A config's error quotes the line that is wrong; the command cuts it.
        let longest = match row.reader {
            Reader::Config => MESSAGE + 8 * row.bytes.len(),
            Reader::Inspect | Reader::Noise | Reader::Picture | Reader::Infotext => MESSAGE,
        };
        faults.extend(trial(&row.kind, row.bytes.len(), longest, row.end, || row.reader.read(&path)));
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
}

/// What is wrong with the way in which a reading ends, of so many bytes and with a message of no more than `longest`.
fn trial(kind: &str, size: usize, longest: usize, end: End, read: impl Fn() -> Result<(), Error>) -> Vec<String> {
    let mut faults = Vec::new();
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let (first, mut shortest) = timed(&read);
    let taken = HEAP.peak_usage().saturating_sub(before);
    for _ in 0..2 {
        if shortest > LIMIT {
            shortest = shortest.min(timed(&read).1);
        }
    }
    if taken > 4 * size + ROOM {
        faults.push(format!("{kind}: takes {taken} bytes for {size}"));
    }
    if shortest > LIMIT {
        faults.push(format!("{kind}: works for {shortest:.1?}"));
    }
    match (&first, end) {
        (Ok(()), End::Taken | End::Either) => {}
        (Err(error), End::Refused(is)) if is(error) => {}
        (Err(_), End::Either) => {}
        _ => faults.push(format!("{kind}: ends with {first:?}")),
    }
    if let Err(error) = first {
        let message = told(&error);
        if message.len() > longest {
            let start: String = message.chars().take(200).collect();
            faults.push(format!("{kind}: a message of {} bytes, {start:?}", message.len()));
        }
    }
    faults
}

fn timed(read: impl Fn() -> Result<(), Error>) -> (Result<(), Error>, Duration) {
    let start = worked();
    let result = read();
    (result, worked() - start)
}

/// How long this thread has had a processor, which does not count what else the machine does; elsewhere than on Linux, the time.
fn worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// An error and its causes, a line each.
fn told(error: &Error) -> String {
    let mut lines = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        lines.push(error.to_string());
        cause = error.source();
    }
    lines.join("\n")
}

impl Row {
    fn file(&self) -> &'static str {
        match self.reader {
            Reader::Inspect | Reader::Noise => "m.safetensors",
            Reader::Config => "flux.toml",
            Reader::Picture => "a.png",
            Reader::Infotext => "text",
        }
    }
}

impl Reader {
    fn read(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Inspect => forge::inspect(path).map(drop),
            Self::Noise => {
                let size = forge::Size { width: 64, height: 64 };
                forge::noise_file(path, &Txt2Img::of("").size(size)).map(drop)
            }
            Self::Config => {
                let config = forge::Config::read(path)?;
                config.ceiling();
                config.compute()?;
                config.request(|| 0)?.checked()?;
                Ok(())
            }
            Self::Picture => Ok(forge::read_infotext(path).map(drop)?),
            Self::Infotext => {
                let text = fs::read_to_string(path).expect("the row's own text");
                let _ = forge::diffusion_engine::parse(&text, forge::catalog().knobs()).request(&forge::catalog())?;
                Ok(())
            }
        }
    }
}

/// A file of a header and data, whose length is right.
fn file(header: &str, data: usize) -> Vec<u8> {
    tiny::raw(header, &vec![0; data])
}

/// A folder, which is removed at the end, and a place in it.
fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
fn there_are_ninety_kinds_or_more() {
    let _alone = alone();
    let tables = [safetensors::rows(), files::rows(), configs::rows(), texts::rows(), pictures::rows()];
    let rows: usize = tables.iter().map(Vec::len).sum();
    assert!(rows >= 90, "{rows}");
}
