//! `flux.toml` as others might write it.

use forge::Error;

use crate::{End, Reader::Config, Row, alone, check, error};

const PARSE: End = error!(Error::ParseConfig { .. });
const READ: End = error!(Error::ReadConfig { .. });
const NAME: End = error!(Error::Registry(_));
const REQUEST: End = error!(Error::Run(_));

pub(crate) fn rows() -> Vec<Row> {
    let row = |kind: &str, text: &str, end| Row::new(Config, format!("a config of {kind}"), text, end);
    let sampling = |kind: &str, text: &str, end| row(kind, &format!("[sampling]\n{text}"), end);
    let mut rows = vec![
        row("nothing", "", End::Taken),
        row("a NUL", "\0", PARSE),
        row("half a table", "[model", PARSE),
        row("a thousand lists", &format!("a = {}", "[".repeat(1_000)), PARSE),
        row("a thousand tables in one line", &format!("a = {}", "{a=".repeat(1_000)), PARSE),
        row("a key of a thousand parts", &format!("{}b = 1", "a.".repeat(1_000)), PARSE),
        row("a table of a thousand parts", &format!("[{}b]", "a.".repeat(1_000)), PARSE),
        row("ten thousand tables", &(0..10_000).map(|i| format!("[a{i}]\n")).collect::<String>(), PARSE),
        row("five thousand keys", &(0..5_000).map(|i| format!("a{i} = 1\n")).collect::<String>(), PARSE),
        row("a table twice", "[sampling]\n[sampling]", PARSE),
        row("a key twice", "[sampling]\nsteps = 1\nsteps = 2", PARSE),
        row("a table that is a key too", "sampling.steps = 1\n[sampling]\n", PARSE),
        row("an unknown key", "[sampling]\nstep = 4", PARSE),
        row("an unknown table", "[promt]", PARSE),
        row("a model that is text", "model = \"flux\"", PARSE),
        row("a date", "[sampling]\nsteps = 1979-05-27", PARSE),
        row("carriage returns", "[sampling]\rsteps = 1\r", PARSE),
        row("half a surrogate", "[prompt]\npositive = \"\\ud800\"", PARSE),
        row("text without an end", "[prompt]\npositive = \"\"\"a", PARSE),
        row("a comment of a NUL", "# \0", PARSE),
        row("an escape sequence", "[prompt]\npositive = \"\\u001b[2J\"", End::Taken),
        row("100 kB of prompt", &format!("[prompt]\npositive = \"{}\"", "a ".repeat(50_000)), End::Either),
        row("a byte order mark", "\u{feff}[sampling]\nsteps = 4", End::Taken),
        sampling("an unknown sampler", "sampler = \"eulr\"", NAME),
        sampling("a sampler of nothing", "sampler = \"\"", NAME),
        sampling("an unknown schedule", "schedule = \"x\"", NAME),
        sampling("an unknown profile", "profile = \"x\"", NAME),
        sampling("an unknown option", "options = { x = 1 }", REQUEST),
        sampling("an option that is a list", "options = { eta = [1] }", PARSE),
        sampling("an option that is a number of its own kind", "options = { eta = nan }", REQUEST),
        sampling("a file of noise with another ending", "noise = \"a.png\"", PARSE),
        sampling("levels of text", "sigmas = [\"1\"]", PARSE),
        row("no size of memory", "[device]\nmemory = \"much\"", PARSE),
        row("memory of -1", "[device]\nmemory = \"-1\"", PARSE),
        row("memory of more than any", "[device]\nmemory = \"1e30 TiB\"", PARSE),
        row("memory of half a byte", "[device]\nmemory = 0.5", PARSE),
        row("an unknown format to compute in", "[device]\ncompute = \"f17\"", PARSE),
        Row::new(Config, "a config that is not UTF-8", b"[prompt]\npositive = \"\xff\"".as_slice(), READ),
        Row::new(Config, "a config in UTF-16", b"\xff\xfe[\0a\0]\0".as_slice(), READ),
    ];
    // Every number, at what a type can hold and beyond.
    for (table, key) in [
        ("sampling", "steps"),
        ("image", "width"),
        ("image", "height"),
        ("image", "batch"),
        ("prompt", "t5_length"),
        ("device", "threads"),
    ] {
        for number in ["-1", "0.5", "nan", "inf", "\"1\"", "true", "[1]", "18446744073709551616", "1e999"] {
            rows.push(row(&format!("{key} = {number}"), &format!("[{table}]\n{key} = {number}"), PARSE));
        }
    }
    for key in ["steps", "cfg", "guidance"] {
        for number in ["-1.5", "9223372036854775807", "-0.0001", "1e308"] {
            rows.push(sampling(&format!("{key} = {number}"), &format!("{key} = {number}"), End::Refused(|_| true)));
        }
    }
    for (table, key) in [("sampling", "steps"), ("image", "batch"), ("prompt", "t5_length")] {
        for number in ["0", "9223372036854775807"] {
            rows.push(row(&format!("{key} = {number}"), &format!("[{table}]\n{key} = {number}"), PARSE));
        }
    }
    rows
}

/// Texts so long that an error must not repeat them, and a reader must not take a hundred bytes for each of theirs.
fn long_rows() -> Vec<Row> {
    const ANY: End = End::Refused(|_| true);
    let row = |kind: &str, text: String| Row::new(Config, format!("a config of {kind}"), text, ANY);
    vec![
        row("a hundred thousand lists", format!("a = {}", "[".repeat(100_000))),
        row("a hundred thousand tables", format!("a = {}", "{a=".repeat(100_000))),
        row("a key of a hundred thousand parts", format!("{}b = 1", "a.".repeat(100_000))),
        row("a table of a hundred thousand parts", format!("[{}b]", "a.".repeat(100_000))),
        row("an unknown key of 100 kB", format!("{} = 1", "a".repeat(100_000))),
        row("a sampler of 100 kB", format!("[sampling]\nsampler = \"{}\"", "a".repeat(100_000))),
        row("a seed of 100 kB", format!("[sampling]\nseed = \"{}\"", "a".repeat(100_000))),
        row("memory of 100 kB", format!("[device]\nmemory = \"{}\"", "a".repeat(100_000))),
        row("a megabyte of comments", "# a\n".repeat(1 << 18) + "a = 1"),
        row("a megabyte of lists", format!("a = {}", "[],".repeat(1 << 18))),
    ]
}

#[test]
fn a_long_config_is_refused() {
    let _alone = alone();
    check(long_rows());
}

#[test]
fn a_config_that_makes_no_sense_is_refused_with_its_own_error() {
    let _alone = alone();
    check(rows());
}
