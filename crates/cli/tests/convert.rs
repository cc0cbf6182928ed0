//! `forge convert`: what is written is read back, draws what was drawn before, and is whole or not there.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use forge::core_tensor::{WeightSource, safetensors::Safetensors};
use quant::Gguf;

use crate::tiny::{Tensors, Tiny, golden, wait};

const TYPES: [&str; 18] = [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
    "iq4_xs", "tq1_0", "tq2_0", "mxfp4",
];

/// The demo model's transformer, whose rows are whole blocks of every format.
fn demo() -> String {
    fixtures::path("models/flux-demo.safetensors").display().to_string()
}

/// The relative error of a source's tensors against the demo model's.
fn error(source: &dyn WeightSource) -> f64 {
    let original = Safetensors::open(&fixtures::path("models/flux-demo.safetensors")).unwrap();
    assert_eq!(source.manifest().names().collect::<Vec<_>>(), original.manifest().names().collect::<Vec<_>>());
    let (mut off, mut squares) = (0.0, 0.0);
    for name in original.manifest().names() {
        let [found, expected] = [source.read(name).unwrap(), original.read(name).unwrap()];
        assert_eq!(found.shape(), expected.shape(), "{name}");
        for (found, expected) in found.to_f32().unwrap().iter().zip(expected.to_f32().unwrap()) {
            off += f64::from(found - expected).powi(2);
            squares += f64::from(expected).powi(2);
        }
    }
    (off / squares).sqrt()
}

#[test]
fn every_type_is_written_to_gguf_and_read_back_with_the_error_that_is_told() {
    let tiny = Tiny::quick();
    let mut errors = Vec::new();
    for kind in TYPES {
        let told = tiny.forge(&["convert", &demo(), "m.gguf", "--type", kind, "--force", "--json"]).done().json();
        let whole = told.last().unwrap();
        assert_eq!(whole["event"], "converted", "{kind}");
        assert_eq!(whole["bytes"].as_u64().unwrap(), fs::metadata(tiny.path("m.gguf")).unwrap().len(), "{kind}");
        let file = Gguf::open(&tiny.path("m.gguf")).unwrap();
        assert_eq!(file.architecture(), Some("flux"), "{kind}");
        let matrix = file.manifest().get("single_blocks.0.linear1.weight").unwrap();
        assert_eq!(matrix.format.name().to_lowercase(), kind);
        let (found, told) = (error(&file), whole["error"].as_f64().unwrap());
        assert!((found - told).abs() <= 1e-6 + 1e-3 * told, "{kind}: {found}, told {told}");
        errors.push(found);
    }
    let of = |kind: &str| errors[TYPES.iter().position(|known| *known == kind).unwrap()];
    assert_eq!([of("f32"), of("f16")], [0.0, 0.0]);
    for better in ["q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"].windows(2) {
        assert!(of(better[0]) < of(better[1]), "{better:?}");
    }
}

#[test]
fn four_and_eight_bits_are_written_as_their_readers_expect_them() {
    let tiny = Tiny::quick();
    for (kind, most) in [("nf4", 0.11), ("fp4", 0.13), ("f8_e4m3", 0.03), ("f8_e5m2", 0.06)] {
        let told =
            tiny.forge(&["convert", &demo(), "m.safetensors", "--type", kind, "--force", "--json"]).done().json();
        let told = told.last().unwrap()["error"].as_f64().unwrap();
        let file = quant::Decoded::over(Safetensors::open(&tiny.path("m.safetensors")).unwrap()).unwrap();
        let found = error(&file);
        assert!((found - told).abs() <= 1e-3 * told && found < most, "{kind}: {found}, told {told}");
        let inspected = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!(
            (&inspected["missing"], &inspected["unread"]),
            (&serde_json::json!([]), &serde_json::json!([])),
            "{kind}"
        );
    }
}

#[test]
fn a_converted_model_draws_and_one_in_floats_draws_the_same() {
    let tiny = Tiny::quick();
    let transformer = golden("tiny-diffusers/transformer").display().to_string();
    let drawn = |file: &str| {
        tiny.txt2img(&["--transformer", file, "--output", "a.png", "--dump", "a.safetensors"]).done();
        Safetensors::open(&tiny.path("a.safetensors")).unwrap().read("image").unwrap().to_bytes()
    };
    let expected = drawn(&transformer);
    for (kind, file) in [("f32", "m.gguf"), ("f32", "m.safetensors"), ("q8_0", "q.gguf"), ("nf4", "n.safetensors")] {
        tiny.forge(&["convert", &transformer, file, "--type", kind]).done();
        assert!(kind != "f32" || drawn(file) == expected, "{file}");
        drawn(file);
    }
    for role in ["clip", "t5", "vae"] {
        let part = tiny.role(role).display().to_string();
        tiny.forge(&["convert", &part, "part.gguf", "--type", "f32", "--force"]).done();
        let flags = ["--transformer", "m.gguf", &format!("--{role}"), "part.gguf"];
        tiny.txt2img(&[&flags[..], &["--output", "a.png", "--dump", "a.safetensors"]].concat()).done();
        let image = Safetensors::open(&tiny.path("a.safetensors")).unwrap().read("image").unwrap().to_bytes();
        assert!(image == expected, "{role}");
    }
    // Diffusers' names became those of the original release, which other programs read.
    let file = Gguf::open(&tiny.path("m.gguf")).unwrap();
    assert!(file.manifest().contains("double_blocks.0.img_attn.qkv.weight"));
}

#[test]
fn rules_go_before_what_is_usual_and_one_that_matches_nothing_is_an_error() {
    let tiny = Tiny::quick();
    let rules = ["--rule", "^single*linear1=q8_0", "--rule", "single|img_in=f32"];
    tiny.forge(&[&["convert", &*demo(), "m.gguf", "--type", "q4_k"][..], &rules].concat()).done();
    let file = Gguf::open(&tiny.path("m.gguf")).unwrap();
    let format = |name: &str| file.manifest().get(name).unwrap().format.name();
    assert_eq!(format("single_blocks.0.linear1.weight"), "Q8_0");
    assert_eq!(format("single_blocks.0.linear1.bias"), "F32");
    assert_eq!(format("single_blocks.0.linear2.weight"), "F32");
    assert_eq!(format("img_in.weight"), "F32");
    assert_eq!(format("txt_in.weight"), "F16");
    assert_eq!(format("double_blocks.0.img_mlp.0.weight"), "Q4_K");
    let refused = |more: &[&str], words: &[&str]| {
        let out = if more.contains(&"nf4") { "x.gguf" } else { "x.safetensors" };
        let demo = demo();
        let line = [&["convert", &*demo, out][..], more].concat();
        tiny.forge(&line).refused(2, words);
        assert!(!tiny.path(out).exists());
    };
    refused(&["--type", "f16", "--rule", "nrom=f32"], &["no tensor's name matches the rule `nrom=f32`"]);
    refused(&["--type", "q4_k_m"], &["not written in `q4_k_m`", "did you mean `q4_k`"]);
    refused(&["--type", "q4_k"], &["a safetensors file does not hold Q4_K, a GGUF file does"]);
    refused(&["--type", "nf4"], &["a GGUF file does not hold NF4"]);
    refused(&["--type", "f16", "--rule", "norm"], &["is not `PATTERN=TYPE`"]);
    tiny.forge(&["convert", &demo(), "x.bin", "--type", "f16"])
        .refused(2, &["ends neither in .gguf nor in .safetensors"]);
}

#[test]
fn nothing_that_is_read_is_written_over_and_nothing_is_left_of_what_fails() {
    let tiny = Tiny::quick();
    fs::copy(demo(), tiny.path("m.safetensors")).unwrap();
    fs::hard_link(tiny.path("m.safetensors"), tiny.path("other.safetensors")).unwrap();
    for out in ["m.safetensors", "other.safetensors"] {
        let line = ["convert", "m.safetensors", out, "--type", "f16"];
        tiny.forge(&line).refused(2, &["is there already"]);
        tiny.forge(&[&line[..], &["--force"]].concat()).refused(2, &["is the model"]);
    }
    assert_eq!(fs::read(tiny.path("m.safetensors")).unwrap(), fs::read(demo()).unwrap());
    // Weights that are no numbers, and those that a format can't hold.
    for (value, code, words) in [(f32::NAN, 1, "holds NaN or infinity"), (1e30, 4, "beyond what F16 holds")] {
        let mut file = Tensors::of(&fixtures::path("models/flux-demo.safetensors"));
        let entry = file.0.iter_mut().find(|entry| entry.name == "txt_in.weight").unwrap();
        entry.dtype = "F32".into();
        entry.bytes = value.to_le_bytes().repeat(256 * 128);
        tiny.write("bad.safetensors", file.bytes());
        let ran = tiny.forge(&["convert", "bad.safetensors", "out.gguf", "--type", "q4_k"]);
        ran.refused(code, &["txt_in.weight", words]);
        assert!(!tiny.path("out.gguf").exists());
    }
    assert_eq!(unfinished(&tiny), 0);
}

/// How many unfinished files are left.
fn unfinished(tiny: &Tiny) -> usize {
    let names = fs::read_dir(tiny.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".forge")).count()
}

#[cfg(unix)]
#[test]
fn an_interrupted_conversion_ends_with_130_and_leaves_no_file() {
    let tiny = Tiny::quick();
    for signal in ["-INT", "-TERM"] {
        // given one whose first tensor was written
        let line = ["convert", &demo(), "m.gguf", "--type", "q3_k", "--json"];
        let mut child = tiny.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = told.next().unwrap();
        assert!(first.contains(r#""event":"tensor""#) && unfinished(&tiny) == 1, "{first}");
        // when it is interrupted
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        // then it says so, and neither the file nor a part of it is there
        let last = told.last().unwrap();
        assert_eq!(wait(&mut child).code(), Some(130), "{last}");
        assert!(last.contains("cancelled") && !tiny.path("m.gguf").exists(), "{last}");
        assert_eq!(unfinished(&tiny), 0);
    }
}

#[test]
fn a_folder_in_shards_becomes_one_file_of_all_of_them() {
    let tiny = Tiny::quick();
    let folder = golden("tiny-diffusers/transformer");
    let shards: Vec<_> = ["00001", "00002"]
        .map(|i| folder.join(format!("diffusion_pytorch_model-{i}-of-00002.safetensors")))
        .iter()
        .map(|shard| Safetensors::open(shard).unwrap())
        .collect();
    let weights = |source: &dyn WeightSource| -> usize {
        let shapes = source.manifest().iter().map(|(_, form)| form.shape.iter().product::<usize>());
        shapes.sum()
    };
    tiny.forge(&["convert", &folder.display().to_string(), "m.gguf", "--type", "q8_0"]).done();
    let whole = Gguf::open(&tiny.path("m.gguf")).unwrap();
    assert_eq!(weights(&whole), shards.iter().map(|shard| weights(shard)).sum::<usize>());
    // and a folder that lacks a shard of its index is refused by the shard's name
    let lacking = tiny.path("lacking");
    fs::create_dir(&lacking).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors.index.json"] {
        fs::copy(folder.join(name), lacking.join(name)).unwrap();
    }
    let first = "diffusion_pytorch_model-00001-of-00002.safetensors";
    fs::copy(folder.join(first), lacking.join(first)).unwrap();
    let ran = tiny.forge(&["convert", "lacking", "n.gguf", "--type", "q8_0"]);
    ran.refused(4, &["diffusion_pytorch_model-00002-of-00002.safetensors"]);
    assert!(!tiny.path("n.gguf").exists());
}
