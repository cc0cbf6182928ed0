//! The command where the system refuses it something: it says so once, with a code of its own, and leaves nothing behind.
#![cfg(unix)]

mod tiny;

use std::{fs, path::PathBuf};

use crate::tiny::{Ran, Tiny};

/// What the command may end with.
const CODES: [i32; 5] = [0, 1, 2, 3, 4];

/// Seconds that a command has: it takes one.
const PATIENCE: u32 = 20;

/// `forge …` under a limit of the shell's.
fn limited(tiny: &Tiny, limit: &str, arguments: &str) -> Ran {
    // The limit comes last, so that it does not meet those who set it.
    let forge = env!("CARGO_BIN_EXE_forge");
    // With caches, so that the model is hashed meanwhile.
    let caches = tiny.path("caches");
    let command = format!(
        "XDG_CACHE_HOME={} exec timeout -s KILL {PATIENCE} /bin/sh -c '{{ {limit}; }} && exec {forge} {arguments}'",
        caches.display(),
    );
    tiny.program("/bin/sh", &["-c", &command])
}

/// How a run ended, and what is wrong with that.
fn ended(tiny: &Tiny, limit: &str, arguments: &str) -> (i32, Vec<String>) {
    let ran = limited(tiny, limit, arguments);
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(format!("{limit}: {what}: {ran:?}"));
    let code = ran.code.unwrap_or(-1);
    if !CODES.contains(&code) {
        fault("no code of the command's");
    }
    let errors = ran.err.lines().filter(|line| line.starts_with("error: ")).count();
    if errors != usize::from(code != 0) {
        fault("not one error");
    }
    if ["panicked", "RUST_BACKTRACE", "memory allocation", "overflowed its stack"]
        .iter()
        .any(|word| ran.err.contains(word))
    {
        fault("not the command's own words");
    }
    let left: Vec<PathBuf> = tiny.drawn();
    let whole = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.ends_with(b"IEND\xaeB`\x82"));
    let pictures = usize::from(code == 0);
    if left.len() != pictures || !left.iter().all(whole) {
        fault(&format!("left {left:?}"));
    }
    left.iter().for_each(|path| fs::remove_file(path).expect("a file of the test's own"));
    (code, faults)
}

/// A ladder of limits, on each of which the command stands or says why not; the exit codes.
fn ladder(limits: &[String], arguments: &str) -> Vec<i32> {
    let tiny = Tiny::quick();
    let (codes, faults): (Vec<_>, Vec<_>) = limits.iter().map(|limit| ended(&tiny, limit, arguments)).unzip();
    let faults = faults.concat();
    assert!(faults.is_empty(), "{} faults on {} limits:\n{}", faults.len(), limits.len(), faults.join("\n"));
    codes
}

/// A ladder with limits that are too low for a picture; the highest is not.
fn too_low_and_enough(limits: &[String]) {
    let codes = ladder(limits, DRAW);
    assert!(codes.iter().any(|code| *code != 0) && codes[codes.len() - 1] == 0, "{codes:?} on {limits:?}");
}

const DRAW: &str = "txt2img --config flux.toml --output a.png --threads 2";

#[test]
fn a_file_that_may_not_grow_is_an_error_and_leaves_nothing() {
    // in blocks of 512 bytes; the picture has about two, and what is said goes to a file as well
    let limits: Vec<String> = [1, 2, 3, 4, 8].iter().map(|blocks| format!("ulimit -f {blocks}")).collect();
    too_low_and_enough(&limits);
}

#[test]
fn a_file_that_may_not_grow_is_an_error_for_a_dump_too() {
    let limits: Vec<String> = [0, 1, 8, 16, 64].iter().map(|blocks| format!("ulimit -f {blocks}")).collect();
    let tiny = Tiny::quick();
    for limit in limits {
        let ran = limited(&tiny, &limit, "txt2img --config flux.toml --output /dev/null/a.png --dump d.safetensors");
        assert_eq!(ran.code, Some(1), "{limit}: {ran:?}");
        assert_eq!(tiny.drawn(), Vec::<PathBuf>::new(), "{limit}: {ran:?}");
    }
}

#[test]
fn too_few_open_files_are_an_error() {
    too_low_and_enough(&(4..20).map(|files| format!("ulimit -n {files}")).collect::<Vec<_>>());
}

#[test]
fn too_little_memory_to_address_is_an_error() {
    // in KiB, from what the program itself is to what a run takes
    let limits: Vec<String> = (0..24).map(|i| format!("ulimit -v {}", 40_000 + i * 20_000)).collect();
    too_low_and_enough(&limits);
}

#[test]
fn too_little_memory_for_data_is_an_error() {
    let limits: Vec<String> = (0..24).map(|i| format!("ulimit -d {}", 4_000 + i * 8_000)).collect();
    too_low_and_enough(&limits);
}

/// Runs what draws nothing on a ladder of limits: it stands, or says why not, and nothing half written is left.
fn stands_or_says_why(tiny: &Tiny, limits: &[String], arguments: &str) -> Vec<i32> {
    let ended = |limit: &String| {
        let ran = limited(tiny, limit, arguments);
        let code = ran.code.unwrap_or(-1);
        let of_its_own =
            !["panicked", "bug in forge", "overflowed its stack"].iter().any(|word| ran.err.contains(word));
        assert!(CODES.contains(&code) && of_its_own && tiny.drawn().is_empty(), "{limit}: {ran:?} {:?}", tiny.drawn());
        code
    };
    limits.iter().map(ended).collect()
}

#[test]
fn other_commands_stand_on_limits_too_or_say_why_not() {
    let tiny = Tiny::quick();
    let convert = format!("convert --type q8_0 --force {} o.gguf", tiny.role("transformer").display());
    let memory = [50_000, 60_000, 90_000, 120_000, 200_000, 400_000].map(|kib| format!("ulimit -v {kib}"));
    let codes = stands_or_says_why(&tiny, &memory, &convert);
    assert!(codes[0] != 0 && codes[codes.len() - 1] == 0, "{codes:?}");
    let data = [2_000, 8_000, 30_000, 400_000].map(|kib| format!("ulimit -d {kib}"));
    stands_or_says_why(&tiny, &data, &convert);
    stands_or_says_why(&tiny, &data, "devices");
    // a file that may not grow ends no command but by its own words, and no half config is in the way of the next
    let files = ["ulimit -f 0".to_owned(), "ulimit -f 1".to_owned()];
    for arguments in ["config init new.toml", "samplers > s", "ops > o", "--help > h", "txt2img --help > h", &convert] {
        stands_or_says_why(&tiny, &files, arguments);
    }
    assert!(!tiny.path("new.toml").exists());
    tiny.forge(&["config", "init", "new.toml"]).done();
    tiny.forge(&["config", "init", "new.toml"]).refused(2, &["--force"]);
    fs::create_dir(tiny.path("folder")).unwrap();
    tiny.forge(&["config", "init", "folder"]).refused(1, &["there is a folder of this name"]);
    tiny.forge(&["config", "init", "deep/er.toml"]).done();
    assert!(tiny.forge(&["config", "init", "-"]).done().out.contains("[model]") && !tiny.path("-").exists());
}

#[test]
fn stacks_of_threads_are_as_large_as_they_have_to_be_whatever_the_environment_says() {
    let limits = ["16384", "262144", "many"].map(|bytes| format!("export RUST_MIN_STACK={bytes}"));
    assert_eq!(ladder(&limits, DRAW), [0; 3]);
}

#[test]
fn a_small_stack_is_enough_or_an_error() {
    ladder(&[64, 128, 256, 512, 1024, 8192].map(|kib| format!("ulimit -s {kib}")), DRAW);
}

#[test]
fn threads_that_cannot_be_started_are_an_error_or_done_without() {
    // The limit counts for a user who is not root; there the run is the same as without.
    let limits: Vec<String> = [1, 2, 3, 5, 10, 40]
        .iter()
        .map(|threads| format!("ulimit -u {threads} 2>/dev/null || ulimit -p {threads}"))
        .collect();
    ladder(&limits, &DRAW.replace("--threads 2", "--threads 64"));
}

#[test]
fn more_threads_than_any_machine_has_are_an_error_or_fewer() {
    let tiny = Tiny::quick();
    for variable in ["5000", "0", "-1", "many", "99999999999999999999"] {
        let command = format!(
            "RAYON_NUM_THREADS={variable} exec timeout -s KILL {PATIENCE} {} txt2img --config flux.toml --output a.png",
            env!("CARGO_BIN_EXE_forge")
        );
        let ran = tiny.program("/bin/sh", &["-c", &command]);
        assert!(ran.code.is_some_and(|code| CODES.contains(&code)), "{variable}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{variable}: {ran:?}");
    }
}

#[test]
fn nowhere_to_write_to_is_an_error_or_silence() {
    let tiny = Tiny::quick();
    for closed in [">&-", "2>&-", "<&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"] {
        for arguments in ["samplers", "inspect flux.toml", DRAW] {
            let command =
                format!("exec timeout -s KILL {PATIENCE} {} {arguments} {closed}", env!("CARGO_BIN_EXE_forge"));
            let ran = tiny.program("/bin/sh", &["-c", &command]);
            assert!(ran.code.is_some_and(|code| CODES.contains(&code)), "{arguments} {closed}: {ran:?}");
            assert!(!ran.err.contains("panicked"), "{arguments} {closed}: {ran:?}");
            tiny.drawn().iter().for_each(|path| fs::remove_file(path).expect("a file of the test's own"));
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn results_that_can_not_be_written_are_an_error_and_a_reader_that_has_gone_is_none() {
    let tiny = Tiny::quick();
    for arguments in ["--help", "--version", "txt2img --help", "samplers", "completions bash", "config schema"] {
        let forge = format!("{} {arguments}", env!("CARGO_BIN_EXE_forge"));
        let ran = tiny.program("/bin/sh", &["-c", &format!("exec {forge} > /dev/full")]);
        assert!(ran.code == Some(1) && ran.err.contains("cannot write `standard output`"), "{ran:?}");
        for nowhere in ["> /dev/null", "1<> /dev/null"] {
            let ran = tiny.program("/bin/sh", &["-c", &format!("exec {forge} {nowhere}")]);
            assert_eq!(ran.code, Some(0), "{nowhere}: {ran:?}");
        }
        let ran = tiny.program("/bin/sh", &["-c", &format!("({forge}; echo $? >&2) | true")]);
        assert_eq!(ran.err, "0\n", "{ran:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_the_system_makes_up_is_not_read_for_ever() {
    let tiny = Tiny::quick();
    for arguments in [
        "inspect /proc/kmsg",
        "info /proc/kmsg",
        "txt2img --config /proc/kmsg",
        "txt2img --config flux.toml --vae /proc/kmsg",
    ] {
        let command = format!("exec timeout -s KILL 10 {} {arguments}", env!("CARGO_BIN_EXE_forge"));
        let ran = tiny.program("/bin/sh", &["-c", &command]);
        assert!(matches!(ran.code, Some(1 | 2 | 4)), "{arguments}: {ran:?}");
    }
}
