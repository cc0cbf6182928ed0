//! What signals end, and how.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::tiny::{Tiny, raw, split, wait};

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_nothing_that_the_next_does_not_sweep() {
    let tiny = Tiny::quick().set("image", "batch", 8);
    let whole = {
        tiny.txt2img(&["--output", "out/{index}.png"]).done();
        fs::read(tiny.path("out/7.png")).unwrap().len()
    };
    for round in 0..40 {
        let args = ["txt2img", "--config", "flux.toml", "--output", "out/{index}.png", "--dump", "out/d", "--json"];
        let mut child = tiny.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // Killed between the first picture and the end, which is where files are written.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("decoded"))).unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 150));
        child.kill().unwrap();
        wait(&mut child);
        for picture in tiny.drawn().iter().filter(|path| path.extension().is_some_and(|e| e == "png")) {
            assert!(fs::metadata(picture).unwrap().len().abs_diff(whole as u64) < 64, "{picture:?} is torn");
        }
    }
    tiny.txt2img(&["--output", "out/{index}.png"]).done();
    assert!(tiny.drawn().iter().all(|path| path.extension().is_some_and(|e| e == "png")), "{:?}", tiny.drawn());
}

#[test]
fn a_request_to_end_is_as_good_as_ctrl_c() {
    let signals = ["-INT", "-TERM"].into_iter().chain(cfg!(target_os = "linux").then_some("-HUP"));
    for signal in signals {
        let tiny = Tiny::quick().set("sampling", "steps", 1000).set("image", "width", 256);
        let args = ["txt2img", "--config", "flux.toml", "--output", "a.png"];
        let mut child = tiny.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.contains("step")).unwrap();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let last = lines.last().unwrap();
        assert_eq!(wait(&mut child).code(), Some(130), "{signal} {last}");
        assert!(last.contains("interrupted after step "), "{signal} {last}");
        assert_eq!(tiny.drawn().len(), 0);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_that_is_closed_ends_no_run_that_was_begun_to_outlive_it() {
    let tiny = Tiny::quick().set("sampling", "steps", 1000).set("image", "width", 256);
    let run = tiny.command(&["txt2img", "--config", "flux.toml", "--output", "a.png"]);
    let mut outliving = Command::new("sh");
    outliving.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    let folder = run.get_current_dir().unwrap();
    let mut child = outliving.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let id = child.id().to_string();
    for signal in ["-HUP", "-HUP", "-TERM"] {
        lines.find(|line| line.contains("step")).unwrap();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
    assert!(lines.last().unwrap().contains("interrupted after step "));
    assert_eq!(wait(&mut child).code(), Some(130));
}

#[test]
fn a_request_to_end_is_heard_while_a_model_is_hashed_and_while_a_pipe_is_awaited() {
    let asked = |mut child: std::process::Child| {
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(wait(&mut child).code(), Some(130));
    };
    // given a model of which most is read for its hash alone, and has no place on the disk
    const NOTHING: u64 = 400 << 30;
    let (header, data) = split(&fs::read(Tiny::quick().role("transformer")).unwrap());
    let (header, start) = (header.trim_end().strip_suffix('}').unwrap().to_owned(), data.len() as u64);
    let end = start + NOTHING;
    let nothing = format!(r#""nothing":{{"dtype":"U8","shape":[{NOTHING}],"data_offsets":[{start},{end}]}}"#);
    let tiny = Tiny::quick();
    let big = tiny.write("big.safetensors", raw(&format!("{header},{nothing}}}"), &data));
    let length = fs::metadata(&big).unwrap().len() + NOTHING;
    fs::File::options().write(true).open(&big).unwrap().set_len(length).unwrap();
    let tiny = tiny.with("transformer", &big).set("sampling", "steps", 1);
    let caches = tiny.path("caches").display().to_string();
    let mut run = tiny.command(&["txt2img", "--config", "flux.toml", "--output", "a.png"]);
    let mut child = run.env("XDG_CACHE_HOME", caches).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("1/1")).unwrap();
    // when the process is asked to end, then it does
    asked(child);
    assert_eq!(tiny.drawn().len(), 0);
    // and so it does while nobody writes to what it reads
    assert!(Command::new("mkfifo").arg(tiny.path("pipe")).status().unwrap().success());
    for args in [&["--config", "pipe"][..], &["--config", "flux.toml", "--prompt-file", "pipe"]] {
        let mut run = tiny.command(&[&["txt2img"], args].concat());
        let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        asked(child);
    }
    // a LoRA is no pipe
    tiny.txt2img(&["--lora", "pipe.safetensors"]).refused(4, &["pipe.safetensors"]);
    assert!(Command::new("mkfifo").arg(tiny.path("p.safetensors")).status().unwrap().success());
    tiny.txt2img(&["--lora", "p.safetensors"]).refused(4, &["p.safetensors", "a named pipe"]);
}
