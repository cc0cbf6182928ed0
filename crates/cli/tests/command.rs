//! What the command says, to people and to programs.

mod tiny;

use std::{
    env::consts::EXE_EXTENSION,
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use forge::{diffusion_engine::Kind, keys::keys};
use serde_json::Value;

use crate::tiny::{Ran, Tensors, Tiny, golden, wait};

#[test]
fn help_names_every_command_flag_and_exit_code() {
    let tiny = Tiny::quick();
    let help = tiny.forge(&["--help"]).done().out;
    for word in [
        "txt2img",
        "samplers",
        "schedules",
        "inspect",
        "info",
        "config",
        "completions",
        "Exit codes: 0 done",
        "130 interrupted",
    ] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    // What begins with a picture is another command's.
    let help = ["txt2img", "img2img"].map(|command| tiny.forge(&[command, "--help"]).done().out).concat();
    for flag in flags() {
        assert!(help.contains(&format!("  --{flag}")), "{flag}\n{help}");
    }
}

#[test]
fn the_cpu_is_listed_and_computes_rightly_and_what_is_not_in_the_build_is_said() {
    let tiny = Tiny::quick();
    let said = tiny.forge(&["devices", "--check", "--json"]).done().out;
    let said: Value = serde_json::from_str(&said).expect("one object");
    let device = |name: &str| said["devices"].as_array()?.iter().find(|device| device["name"] == name).cloned();
    let cpu = device("cpu").expect("the CPU");
    assert_eq!(cpu["fault"], Value::Null);
    assert!(cpu["checks"][0]["operations"].as_array().is_some_and(|operations| operations.len() > 25), "{cpu}");
    if !cfg!(feature = "vulkan") {
        let fault = device("vulkan").expect("the back end")["fault"].clone();
        assert!(fault.as_str().is_some_and(|fault| fault.contains("this build has no `vulkan` back end")), "{fault}");
    }
}

/// Every flag of `forge txt2img`, by the table of keys.
fn flags() -> impl Iterator<Item = &'static str> {
    let own = ["config", "dump", "json"];
    let of_keys = keys().flat_map(|key| {
        let file = if let Kind::Words { file } = key.kind { Some(file) } else { None };
        key.flag.into_iter().chain(file)
    });
    own.into_iter().chain(of_keys)
}

#[test]
fn every_key_of_the_config_has_a_flag_that_wins() {
    // given a config of wrong values, each in a key of its own
    let tiny = Tiny::quick();
    let wrong: [(&str, &str, toml::Value, &str); 19] = [
        ("model", "transformer", "nope".into(), "T"),
        ("model", "clip", "nope".into(), "C"),
        ("model", "t5", "nope".into(), "5"),
        ("model", "vae", "nope".into(), "V"),
        ("device", "backend", "nope".into(), "cpu"),
        ("device", "compute", "nope".into(), "f32"),
        ("device", "memory", "nope".into(), "1 GiB"),
        ("device", "threads", 100_000.into(), "1"),
        ("sampling", "profile", "nope".into(), "bfl"),
        ("sampling", "sampler", "nope".into(), "euler"),
        ("sampling", "schedule", "nope".into(), "simple"),
        ("sampling", "steps", 0.into(), "1"),
        ("sampling", "guidance", (-1.0).into(), "3"),
        ("sampling", "cfg", 0.5.into(), "1"),
        ("sampling", "noise", "nope.safetensors".into(), "cpu"),
        ("prompt", "t5_length", 0.into(), "8"),
        ("image", "width", 1.into(), "16"),
        ("image", "batch", 0.into(), "1"),
        ("image", "output", "nope".into(), "a.png"),
    ];
    for (table, key, value, flag) in wrong {
        let right = match flag {
            "T" | "C" | "5" | "V" => tiny.role(key).display().to_string(),
            right => right.to_owned(),
        };
        let bad = Tiny::quick().set(table, key, value);
        // when it is used, then it is an error
        assert_ne!(bad.txt2img(&[]).code, Some(0), "{table}.{key}");
        // and the flag of its name wins over it
        bad.txt2img(&[&format!("--{}", key.replace('_', "-")), &right]).done();
    }
}

#[test]
fn the_version_is_the_crates() {
    assert_eq!(Tiny::quick().forge(&["--version"]).done().out, concat!("forge ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn samplers_lists_the_registry_for_people_and_programs() {
    let tiny = Tiny::quick();
    let registry = forge::catalog();
    let samplers = registry.samplers().iter().map(|s| s.id.as_str()).collect::<Vec<_>>();
    let schedules = registry.schedules().iter().map(|s| s.id.as_str()).collect::<Vec<_>>();
    for (kind, ids) in [("samplers", samplers), ("schedules", schedules)] {
        let text = tiny.forge(&[kind]).done().out;
        let json = &tiny.forge(&[kind, "--json"]).done().json()[0];
        let listed: Vec<_> = json[kind].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ids);
        for id in ids {
            assert!(text.lines().any(|line| line.starts_with(&format!("{id} "))), "{id}\n{text}");
        }
    }
}

#[test]
fn inspect_tells_each_golden_file_for_what_it_is() {
    let tiny = Tiny::of("tiny-dev");
    let files = [
        ("tiny-dev/transformer.safetensors", "a Flux transformer", "flux-dev"),
        ("tiny-schnell/transformer.safetensors", "a Flux transformer", "flux-schnell"),
        ("tiny-dev/clip.safetensors", "a CLIP text encoder", "clip"),
        ("tiny-dev/t5.safetensors", "a T5 encoder", "t5 v1.1"),
        ("tiny-dev/ae.safetensors", "an autoencoder", "autoencoder-kl"),
        ("tiny-diffusers/transformer", "a Flux transformer", "flux-dev"),
        ("tiny-diffusers/vae", "an autoencoder", "autoencoder-kl"),
        ("noise.safetensors", "an unknown model", ""),
    ];
    for (file, role, family) in files {
        let path = golden(file).display().to_string();
        let [found] = <[Value; 1]>::try_from(tiny.forge(&["inspect", "--json", &path]).done().json()).unwrap();
        assert_eq!((found["role"].as_str(), found["family"].as_str()), (Some(role), Some(family)), "{file}");
        assert_eq!(found["path"].as_str(), Some(&*path));
        assert_eq!(found["missing"], serde_json::json!([]), "{file}");
        let text = tiny.forge(&["inspect", &path]).done().out;
        assert!(text.contains(role) && text.contains("missing     nothing"), "{text}");
    }
}

#[test]
fn inspect_counts_every_parameter_once_in_either_layout() {
    let tiny = Tiny::of("tiny-dev");
    for (ours, theirs) in [("transformer.safetensors", "transformer"), ("ae.safetensors", "vae")] {
        let files = [golden("tiny-dev").join(ours), golden("tiny-diffusers").join(theirs)];
        let [ours, theirs] = files.map(|file| {
            tiny.forge(&["inspect", "--json", file.to_str().unwrap()]).done().json()[0]["parameters"].as_u64().unwrap()
        });
        assert_eq!(ours, theirs);
    }
    let counted: u64 = Tensors::of(&tiny.role("transformer")).0.iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let file = tiny.role("transformer");
    let found = tiny.forge(&["inspect", "--json", file.to_str().unwrap()]).done().json();
    assert_eq!(found[0]["parameters"].as_u64(), Some(counted));
}

#[test]
fn inspect_names_every_tensor_that_is_missing_or_does_not_fit() {
    let missing = [
        ("transformer", "single_blocks.1.linear2.weight"),
        ("clip", "text_model.encoder.layers.1.mlp.fc2.bias"),
        ("t5", "encoder.final_layer_norm.weight"),
        ("vae", "decoder.norm_out.weight"),
    ];
    for (role, name) in missing {
        // given a file without one tensor, and one in which it has another shape or format
        let tiny = Tiny::of("tiny-dev");
        let whole = Tensors::of(&tiny.role(role));
        let dtype = whole.clone().get(name).dtype.clone();
        let shape = whole.clone().get(name).shape.clone();
        let cases = [
            (whole.clone().without(|n| n == name), "is missing"),
            (whole.clone().zeros(name, &dtype, &[3]), "has shape [3]"),
            (whole.clone().zeros(name, "I64", &shape), "is stored as I64"),
        ];
        for (file, says) in cases {
            tiny.write("m.safetensors", file.bytes());
            // when it is inspected
            let ran = tiny.forge(&["inspect", "m.safetensors"]).done();
            // then that one is named, and no other
            let lines: Vec<_> = ran.out.lines().filter(|line| line.contains("missing  ")).collect();
            assert!(matches!(&lines[..], [line] if line.contains(name) && line.contains(says)), "{says}: {ran:?}");
            // and it can't be drawn with, for the same reason
            let ran = tiny.txt2img(&[&format!("--{role}"), "m.safetensors"]).refused(4, &[name, says]);
            assert!(ran.err.contains("cannot load"), "{ran:?}");
        }
    }
}

#[test]
fn info_is_the_text_that_other_programs_read() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--prompt", "a cat", "--negative", "dogs", "--seed", "3", "--output", "a.png"]).done();
    let text = tiny.forge(&["info", "a.png"]).done().out;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["a cat", "Negative prompt: dogs"]);
    assert!(lines[2].starts_with("Steps: 1, Sampler: Euler, Schedule type: "), "{text}");
    assert!(lines[2].contains(", Seed: 3, Size: 16x16, Model: transformer, "), "{text}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn completions_know_the_commands_and_flags() {
    let tiny = Tiny::quick();
    for shell in ["bash", "zsh", "fish"] {
        let script = tiny.forge(&["completions", shell]).done().out;
        for word in ["txt2img", "inspect", "config", "init"].into_iter().chain(flags()) {
            assert!(script.contains(word), "{shell} {word}");
        }
    }
    tiny.forge(&["completions", "tcsh"]).refused(2, &["tcsh"]);
}

#[test]
fn a_prompt_that_is_too_long_for_an_encoder_is_drawn_with_a_note() {
    let tiny = Tiny::quick();
    let noted = |length: &str, prompt: &str| {
        let ran = tiny.txt2img(&["--prompt", prompt, "--t5-length", length]).done();
        ran.err.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(noted("8", "a photo of a cat").is_empty());
    assert_eq!(noted("7", "a photo of a cat"), ["note: the prompt has 7 tokens, t5 sees the first 6"]);
    assert_eq!(noted("200", &"cat ".repeat(80)), ["note: the prompt has 80 tokens, clip sees the first 75"]);
}

#[test]
fn completions_for_bash_are_bash() {
    let tiny = Tiny::quick();
    let script = tiny.write("forge.bash", tiny.forge(&["completions", "bash"]).done().out);
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success());
}

#[test]
fn json_events_tell_the_run_in_order_one_a_line() {
    let tiny = Tiny::of("tiny-schnell");
    let ran = tiny.txt2img(&["--json", "--output", "{index}.png"]).done();
    let events = ran.json();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected = [
        "planned", "loaded", "encoded", "memory", "step", "step", "step", "memory", "decoded", "memory", "image",
        "image",
    ];
    assert_eq!(names, expected);
    assert_eq!(ran.err, "");
    for (i, step) in events[4..7].iter().enumerate() {
        assert_eq!((step["step"].as_u64(), step["steps"].as_u64()), (Some(i as u64 + 1), Some(3)));
        assert!(step["sigma"].as_f64().unwrap() > step["sigma_next"].as_f64().unwrap());
        assert!(step["seconds"].as_f64().unwrap() >= 0.0);
    }
    for (i, image) in events[10..].iter().enumerate() {
        assert_eq!((image["seed"].as_u64(), image["width"].as_u64()), (Some(7 + i as u64), Some(64)));
        assert!(tiny.path(image["path"].as_str().unwrap()).is_file());
    }
}

#[test]
fn an_error_is_the_last_json_event_and_has_the_exit_code() {
    let tiny = Tiny::quick();
    let refusals: [(&[&str], i64); 5] = [
        (&["--sampler", "eulr"], 2),
        (&["--width", "17"], 2),
        (&["--memory", "1"], 3),
        (&["--t5", "/dev/null"], 4),
        (&["--output", "/dev/null/a.png"], 1),
    ];
    for (args, code) in refusals {
        let ran = tiny.txt2img(&[args, &["--json"]].concat());
        let error = ran.json().pop().unwrap();
        assert_eq!((error["event"].as_str(), error["code"].as_i64()), (Some("error"), Some(code)), "{ran:?}");
        assert_eq!((ran.code, ran.err.as_str()), (Some(code as i32), ""), "{ran:?}");
        assert!(error["error"].is_string() && error["causes"].is_array(), "{ran:?}");
    }
    let ran = tiny.forge(&["inspect", "--json", "/dev/null"]);
    assert_eq!((ran.json()[0]["event"].as_str(), ran.code), (Some("error"), Some(4)));
}

#[test]
fn progress_is_plain_lines_where_there_is_no_terminal() {
    let tiny = Tiny::of("tiny-schnell").set("image", "batch", 1);
    let Ran { out, err, .. } = tiny.txt2img(&["--output", "a.png"]).done();
    assert_eq!(out, "");
    assert!(!err.contains(['\r', '\x1b']), "{err:?}");
    let starts: Vec<_> = err.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(starts, ["plan", "load", "encode", "note:", "step", "step", "step", "decode", "a.png"]);
}

#[test]
fn an_interrupted_run_ends_with_130_and_leaves_no_picture() {
    for json in [false, true] {
        // given a run that is in its steps
        let tiny = Tiny::quick().set("sampling", "steps", 1000).set("image", "width", 256);
        let args = ["txt2img", "--config", "flux.toml", "--output", "a.png", "--json"];
        let args = if json { &args[..] } else { &args[..5] };
        let mut child = tiny.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, mut silent): (Box<dyn Read>, Box<dyn Read>) =
            if json { (Box::new(out), Box::new(err)) } else { (Box::new(err), Box::new(out)) };
        let mut lines = BufReader::new(told).lines().map(Result::unwrap);
        lines.find(|line| line.contains("step")).unwrap();
        // when it is interrupted
        interrupt(child.id());
        // then it ends, says where, and leaves nothing
        let last = lines.last().unwrap();
        assert_eq!(wait(&mut child).code(), Some(130), "{last}");
        assert!(last.contains("interrupted after step ") && last.contains("of 1000"), "{last}");
        assert_eq!(tiny.drawn().len(), 0);
        let mut rest = String::new();
        silent.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn a_reader_that_has_gone_ends_a_listing_in_peace() {
    let tiny = Tiny::quick();
    let golden = golden("tiny-dev/clip.safetensors").display().to_string();
    let commands: [&[&str]; 10] = [
        &["samplers"],
        &["samplers", "--json"],
        &["schedules"],
        &["schedules", "--json"],
        &["inspect", &golden],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["--help"],
        &["txt2img", "--help"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let err = fs::File::create(tiny.path("err")).unwrap();
        let mut child = tiny.command(args).stdout(writer).stderr(err).spawn().unwrap();
        let status = wait(&mut child);
        assert_eq!(fs::read_to_string(tiny.path("err")).unwrap(), "", "{args:?}");
        assert!(status.success(), "{args:?} {status}");
    }
}

fn interrupt(id: u32) {
    let killed = Command::new("kill").args(["-INT", &id.to_string()]).status().expect("every Unix has `kill`");
    assert!(killed.success());
}

/// A message about a width that nobody gave was what a scale came to that made no multiple of 16.
#[test]
fn a_second_pass_of_flux_by_a_scale_has_sides_that_flux_takes() {
    let tiny = Tiny::quick();
    let size = ["--width", "64", "--height", "64"];
    tiny.txt2img(&[&size[..], &["--hires-scale", "1.4", "--hires-steps", "1", "--output", "a.png"]].concat()).done();
    let header = fs::read(tiny.path("a.png")).unwrap();
    let side = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (80, 80));
    // and one that somebody gave is refused by its name
    let given = ["--hires-width", "88", "--output", "b.png"];
    tiny.txt2img(&[&size[..], &given].concat()).refused(2, &["width", "88"]);
}

/// Everything that is derived from the registry follows the one of a program that embeds the command.
#[test]
fn a_program_with_a_sampler_of_its_own_has_it_in_every_place() {
    // given the example, which is built beside the tests
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("examples/own_sampler").with_extension(EXE_EXTENSION);
    let tiny = Tiny::quick();
    let run = |args: &[&str]| tiny.program(&program, args);
    // then it is listed, offered, completed and suggested
    assert!(run(&["samplers"]).done().out.contains("\nmidpoint "));
    let schedules: Value = serde_json::from_str(&run(&["schedules", "--json"]).done().out).unwrap();
    let simple: Vec<&Value> =
        schedules["schedules"].as_array().unwrap().iter().filter(|s| s["id"] == "simple").collect();
    assert!(simple.len() == 1 && simple[0]["label"] == "Squares", "{simple:?}");
    assert!(run(&["txt2img", "--help"]).done().out.contains("midpoint"));
    assert!(run(&["completions", "bash"]).done().out.contains("midpoint"));
    let misspelt = ["txt2img", "--config", "flux.toml", "--sampler", "midpont"];
    run(&misspelt).refused(2, &["did you mean `midpoint`?"]);
    // and drawn with, and read back from the picture
    let midpoint = ["--sampler", "MidPoint", "--schedule", "squares", "--steps", "2", "--output", "out.png"];
    run(&[&["txt2img", "--config", "flux.toml"], &midpoint[..]].concat()).done();
    let info: Value = serde_json::from_str(&run(&["info", "out.png", "--json"]).done().out).unwrap();
    assert_eq!((&info["sampler"], &info["schedule"]), (&"midpoint".into(), &"simple".into()), "{info}");
    // which the engine's own command does not know
    let info: Value = serde_json::from_str(&tiny.forge(&["info", "out.png", "--json"]).done().out).unwrap();
    assert_eq!(info["error"], "no sampler is called `Midpoint`", "{info}");
}
