//! What a person sees: progress on terminals of any kind, and words that change only on purpose.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(target_os = "linux")]

mod tiny;

use std::{fs, process::Command};

use crate::tiny::{Ran, Tensors, Tiny, golden};

/// Runs a command on a terminal of so many columns, and returns all that was sent to it.
fn on_terminal(tiny: &Tiny, columns: usize, term: &str, command: &str) -> String {
    let forge = env!("CARGO_BIN_EXE_forge");
    let script = format!("stty rows 24 cols {columns}; {}", command.replace("forge", forge));
    let output = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .env("TERM", term)
        .current_dir(tiny.path(""))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("`script` is part of every Linux");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is on the screen in the end: lines whose redrawn versions have gone.
fn screen(sent: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = sent;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let last = lines.last_mut().expect("there is always one");
        match c {
            '\n' => lines.push(String::new()),
            // All that is sent after it begins with erasing the line.
            '\r' if !rest.starts_with('\n') => last.clear(),
            '\r' => {}
            '\x1b' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
                if rest[..end].ends_with('K') && rest[..end] != *"[K" {
                    last.clear();
                }
                rest = &rest[end..];
            }
            c => last.push(c),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

const STEPS: &str = "forge txt2img --config flux.toml --width 128 --height 128 --steps 30 --output a.png";

#[test]
fn progress_leaves_one_line_for_each_part_of_the_run() {
    let tiny = Tiny::quick();
    let sent = on_terminal(&tiny, 100, "xterm-256color", STEPS);
    assert!(sent.contains("\x1b["), "{sent:?}");
    let starts: Vec<_> = screen(&sent).iter().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(starts, ["plan", "load", "encode", "note:", "sample", "decode", "a.png"], "{sent:?}");
}

#[test]
fn a_narrow_window_gets_cut_lines_and_a_dumb_terminal_plain_ones() {
    let tiny = Tiny::quick();
    let sent = on_terminal(&tiny, 30, "xterm", STEPS);
    let redrawn: Vec<&str> = sent.split(['\r', '\n']).filter(|part| part.contains("/30")).collect();
    assert!(!redrawn.is_empty(), "{sent:?}");
    for line in redrawn {
        let visible = screen(line).pop().unwrap_or_default();
        assert!(visible.chars().count() <= 30, "{visible:?}");
    }
    for term in ["dumb", ""] {
        let sent = on_terminal(&tiny, 100, term, STEPS);
        assert!(!sent.contains('\x1b'), "{sent:?}");
        assert_eq!(sent.lines().filter(|line| line.starts_with("step ")).count(), 30, "{sent:?}");
    }
}

#[test]
fn an_error_never_ends_up_on_the_line_of_the_progress() {
    let tiny = Tiny::quick();
    let file = Tensors::of(&tiny.role("vae")).poisoned("decoder.conv_out.bias", f32::NAN);
    tiny.write("m.safetensors", file.bytes());
    let command = format!("{STEPS} --vae m.safetensors");
    let lines = screen(&on_terminal(&tiny, 100, "xterm", &command));
    assert!(
        lines.iter().any(|line| line == "error: the decoded picture holds a value that is not a number"),
        "{lines:?}"
    );
    let long = STEPS.replace("--width 128", "--width 512").replace("--steps 30", "--steps 1000");
    let command = format!("{long} & sleep 2; kill -INT $!; wait");
    let lines = screen(&on_terminal(&tiny, 100, "xterm", &command));
    let errors: Vec<_> = lines.iter().filter(|line| line.contains("interrupted")).collect();
    assert!(matches!(&errors[..], [line] if line.starts_with("error: interrupted after step ")), "{lines:?}");
}

#[test]
fn a_name_in_a_file_cannot_command_the_terminal() {
    let tiny = Tiny::quick();
    let evil = "evil\u{1b}[31m\u{9b}2J\u{7}.safetensors";
    let model = tiny.write(&format!("m/{evil}"), fs::read(tiny.role("transformer")).unwrap());
    for args in [
        vec!["--transformer", model.to_str().unwrap(), "--output", "a\u{1b}[2J.png"],
        vec!["--clip", model.to_str().unwrap()],
    ] {
        let ran = tiny.txt2img(&args);
        assert!(!ran.err.chars().any(|c| c.is_control() && c != '\n'), "{ran:?}");
    }
    let ran = tiny.forge(&["inspect", model.to_str().unwrap()]).done();
    assert!(!ran.out.chars().any(|c| c.is_control() && c != '\n'), "{ran:?}");
    // and in JSON it is JSON
    for args in [
        &["inspect", "--json", model.to_str().unwrap()][..],
        &["inspect", "--json", "no\u{85}\u{7f}\u{1b}.safetensors"],
    ] {
        let ran = tiny.forge(args);
        assert!(!ran.out.trim_end().chars().any(char::is_control), "{ran:?}");
        ran.json();
    }
    let ran =
        tiny.txt2img(&["--json", "--output", "c1\u{85}\u{9f}.png", "--transformer", model.to_str().unwrap()]).done();
    assert_eq!(ran.json().last().unwrap()["path"], "c1\u{85}\u{9f}.png");
}

#[test]
fn an_error_is_of_a_length_that_can_be_read() {
    let tiny = Tiny::quick();
    let name = "n".repeat(1 << 20);
    let file = Tensors::of(&tiny.role("transformer")).zeros(&format!("double_blocks.{name}.x"), "U8", &[1]);
    let noise = Tensors(vec![]).zeros(&name, "U8", &[3]).bytes();
    tiny.write("m.safetensors", file.bytes());
    tiny.write("n.safetensors", &noise[..noise.len() - 1]);
    tiny.write("bad.toml", format!("[sampling]\n{name} = 1"));
    for args in [
        &["txt2img", "--config", "flux.toml", "--noise", "n.safetensors"][..],
        &["txt2img", "--config", "bad.toml"],
        &["txt2img", "--config", "flux.toml", "--sampler", &name[..100_000]],
        &["inspect", "n.safetensors"],
    ] {
        let ran = tiny.forge(args);
        assert!(ran.code != Some(0) && ran.err.len() < 20_000, "{} bytes of {:?}", ran.err.len(), &ran.err[..200]);
        let ran = tiny.forge(&[args, &["--json"]].concat());
        assert!(ran.out.len() < 20_000, "{} bytes", ran.out.len());
        ran.json();
    }
}

/// What was printed, with what differs from run to run left out.
fn said(ran: &Ran) -> String {
    format!("exit code {:?}\n{}{}", ran.code, ran.out, ran.err)
}

#[test]
fn words_change_only_on_purpose() {
    let tiny = Tiny::quick();
    let file = |name: &str| golden(name).display().to_string();
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help_txt2img", &["txt2img", "--help"]),
        ("help_img2img", &["img2img", "--help"]),
        ("help_batch", &["batch", "--help"]),
        ("help_inspect", &["inspect", "--help"]),
        ("help_convert", &["convert", "--help"]),
        ("help_ops", &["ops", "--help"]),
        ("help_info", &["info", "--help"]),
        ("list_samplers", &["samplers"]),
        ("list_schedules", &["schedules"]),
        ("error_unknown_flag", &["txt2img", "--step", "4"]),
        ("error_unknown_sampler", &["txt2img", "--config", "flux.toml", "--sampler", "eulr"]),
        ("error_size", &["txt2img", "--config", "flux.toml", "--width", "1000"]),
        ("error_no_model", &["txt2img"]),
        ("error_overwrites", &["txt2img", "--config", "flux.toml", "--dump", "flux.toml"]),
        ("error_hub_id", &["txt2img", "--folder", "black-forest-labs/FLUX.1-dev"]),
    ] {
        insta::assert_snapshot!(name, said(&tiny.forge(args)));
    }
    // What things take is another matter: it depends on the processor.
    let memory = said(&tiny.forge(&["txt2img", "--config", "flux.toml", "--memory", "1 MiB"]));
    insta::assert_snapshot!("error_memory", without_sizes(&memory));
    for (name, path) in
        [("inspect_transformer", "tiny-dev/transformer.safetensors"), ("inspect_folder", "tiny-diffusers/transformer")]
    {
        let path = file(path);
        insta::assert_snapshot!(name, said(&tiny.forge(&["inspect", &path])).replace(&path, "MODEL"));
    }
    tiny.txt2img(&["--prompt", "a cat", "--negative", "dogs", "--seed", "3", "--output", "a.png"]).done();
    insta::assert_snapshot!("infotext", said(&tiny.forge(&["info", "a.png"])));
    insta::assert_snapshot!("infotext_json", said(&tiny.forge(&["info", "--json", "a.png"])));
}

/// A text in which each number of bytes is `N`.
fn without_sizes(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let is_unit =
        |word: &str| ["B", "KiB", "MiB", "GiB"].contains(&word.trim_end_matches(|c: char| !c.is_alphabetic()));
    let shown = words.iter().enumerate().map(|(i, word)| match words.get(i + 1) {
        Some(next) if is_unit(next.lines().next().unwrap_or(next)) && word.ends_with(|c: char| c.is_ascii_digit()) => {
            format!("{}N", word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'))
        }
        Some(_) | None => (*word).to_owned(),
    });
    let shown: Vec<String> = shown.collect();
    // A number that rounds to bytes of another unit is no change either.
    ["KiB", "MiB", "GiB"].iter().fold(shown.join(" "), |text, unit| text.replace(&format!("N {unit}"), "N B"))
}
