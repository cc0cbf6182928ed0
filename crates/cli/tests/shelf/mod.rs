//! Pictures that hold a text, and what `forge info` makes of them.

#![allow(dead_code, reason = "each test file uses its own part of this one")]

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A folder in which the command reads pictures of given texts.
pub(crate) struct Shelf(TempDir);

impl Shelf {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    /// What `forge info` prints of a file, and its exit code.
    pub(crate) fn run(&self, flags: &[&str], name: &str, bytes: &[u8]) -> (Option<i32>, String, String) {
        fs::write(self.0.path().join(name), bytes).expect("a file");
        let out = self.0.path().join("out");
        let err = self.0.path().join("err");
        let mut child = Command::new(env!("CARGO_BIN_EXE_forge"))
            .arg("info")
            .args(flags)
            .arg(name)
            .current_dir(self.0.path())
            .stdout(fs::File::create(&out).expect("a file"))
            .stderr(fs::File::create(&err).expect("a file"))
            .spawn()
            .expect("the command is built");
        let start = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status.code();
            }
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().expect("the child is ours");
                panic!("`forge info` did not end within a minute");
            }
            sleep(Duration::from_millis(1));
        };
        let read = |path| fs::read_to_string(path).expect("text");
        (code, read(&out), read(&err))
    }

    /// The object that `forge info --json` prints of a picture with texts by these keys.
    pub(crate) fn json(&self, texts: &[(&str, &str)]) -> Value {
        let (code, out, err) = self.run(&["--json"], "a.png", &png(texts));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        serde_json::from_str(&out).expect("one JSON object")
    }
}

/// A PNG of one pixel with `tEXt` chunks.
pub(crate) fn png(texts: &[(&str, &str)]) -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        let bit = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
        !bytes.iter().fold(!0, |c, b| (0..8).fold(c ^ u32::from(*b), bit))
    }
    let chunk = |kind: &[u8], bytes: &[u8]| {
        let body = [kind, bytes].concat();
        [&(bytes.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let texts: Vec<u8> = texts
        .iter()
        .flat_map(|(key, text)| chunk(b"tEXt", &[key.as_bytes(), b"\0", text.as_bytes()].concat()))
        .collect();
    let header = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    let pixels = chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0, 0, 0, 4, 0, 1]);
    [b"\x89PNG\r\n\x1a\n", &header[..], &texts, &pixels, &chunk(b"IEND", b"")].concat()
}

/// Checks that the object has these fields; `error` is a part of the message, and an error has no request beside it.
pub(crate) fn holds(name: &str, found: &Value, expected: &Value) {
    for (key, value) in expected.as_object().expect("an object") {
        if key == "error" {
            let error = found["error"].as_str().unwrap_or_else(|| panic!("{name}: no error in {found}"));
            assert!(error.contains(value.as_str().expect("words")), "{name}: {error}");
            assert!(found.get("seed").is_none() && found.get("steps").is_none(), "{name}: {found}");
        } else {
            assert_eq!(&found[key], value, "{name}: `{key}` in {found}");
        }
    }
    assert_eq!(found.get("error").is_some(), expected.get("error").is_some(), "{name}: {found}");
}

/// Checks what is read of texts under `parameters`.
pub(crate) fn check_all(texts: &[(&str, &str, Value)]) {
    let shelf = Shelf::new();
    for (name, text, expected) in texts {
        holds(name, &shelf.json(&[("parameters", text)]), expected);
    }
}
