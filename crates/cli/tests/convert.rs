//! `forge convert`: what is written is read back, draws what was drawn before, and is whole or not there.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use forge::core_tensor::{WeightSource, safetensors::Safetensors};
use quant::{Gguf, encode::packed};

use crate::tiny::{
    Entry, Tensors, Tiny,
    gguf::{Kind, floats, gguf},
    golden, wait,
};

const TYPES: [&str; 18] = [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
    "iq4_xs", "tq1_0", "tq2_0", "mxfp4",
];

/// Those with scales beside them, which safetensors files hold.
const SCALED: [&str; 4] = ["nf4", "fp4", "f8_e4m3", "f8_e5m2"];

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
    refused(
        &["--type", "f16", "--rule", "*=f32", "--rule", "img=bf16"],
        &["the rule `img=bf16` is never used: the rule `*=f32` stands before it and matches `", "hint: the first rule"],
    );
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
        for force in [&[][..], &["--force"]] {
            tiny.forge(&[&line[..], force].concat()).refused(2, &["is the model"]);
        }
    }
    // what is only replaced where that is asked for says how, and nothing else does
    tiny.write("there.gguf", vec![]);
    fs::create_dir(tiny.path("folder.gguf")).unwrap();
    let line = |out| ["convert", "m.safetensors", out, "--type", "f16"];
    tiny.forge(&line("there.gguf")).refused(2, &["is there already", "--force"]);
    for force in [&[][..], &["--force"]] {
        let ran = tiny.forge(&[&line("folder.gguf")[..], force].concat());
        ran.refused(1, &["there is a folder of this name"]);
    }
    assert_eq!(fs::read(tiny.path("m.safetensors")).unwrap(), fs::read(demo()).unwrap());
    // Weights that are no numbers, and those that a format can't hold or makes zeros of.
    let mut cases = vec![("f32", f32::NAN, 1, "holds NaN or infinity".to_owned())];
    for kind in TYPES.into_iter().chain(SCALED) {
        let name = kind.to_uppercase();
        // Where the weights have a scale of their own as f32, or are such themselves, no number is too large.
        if !["f32", "bf16", "mxfp4"].contains(&kind) && !SCALED.contains(&kind) {
            cases.push((kind, 1e30, 4, format!("beyond what {name} holds")));
            cases.push((kind, 1e-30, 4, format!("nothing but zeros in {name}, its largest weight is 1e-30")));
        }
    }
    cases.push(("f8_e4m3", 1e-43, 4, "nothing but zeros in F8_E4M3".to_owned()));
    for (kind, value, code, words) in cases {
        let bytes = value.to_le_bytes().repeat(32 * 256);
        let file = Tensors(vec![Entry { name: "x.weight".into(), dtype: "F32".into(), shape: vec![32, 256], bytes }]);
        tiny.write("bad.safetensors", file.bytes());
        let out = if SCALED.contains(&kind) { "out.safetensors" } else { "out.gguf" };
        let ran = tiny.forge(&["convert", "bad.safetensors", out, "--type", kind]);
        ran.refused(code, &["x.weight", &words]);
        assert!(!tiny.path(out).exists());
    }
    assert_eq!(unfinished(&tiny), 0);
}

#[test]
fn a_tensor_that_keeps_its_type_keeps_its_bytes() {
    let tiny = Tiny::quick();
    for kind in TYPES.into_iter().chain(SCALED) {
        let [first, second] = match SCALED.contains(&kind) {
            true => ["a.safetensors", "b.safetensors"],
            false => ["a.gguf", "b.gguf"],
        };
        tiny.forge(&["convert", &demo(), first, "--type", kind, "--force"]).done();
        let told = tiny.forge(&["convert", first, second, "--type", kind, "--force", "--json"]).done().json();
        assert_eq!(told.last().unwrap()["error"], 0.0, "{kind}");
        assert!(fs::read(tiny.path(first)).unwrap() == fs::read(tiny.path(second)).unwrap(), "{kind}");
    }
    // and of bitsandbytes' other ways to store four bits the values stay, to the bit
    let states = fixtures::path("golden/bnb/states.safetensors");
    let rules = ["--rule", "^nf4=nf4", "--rule", "^fp4=fp4"];
    let line = ["convert", &states.display().to_string(), "s.safetensors", "--type", "f32"];
    tiny.forge(&[&line[..], &rules].concat()).done();
    let [old, new] = [states, tiny.path("s.safetensors")]
        .map(|path| quant::Decoded::over(Safetensors::open(&path).unwrap()).unwrap());
    let mut kept = 0;
    for (name, form) in old.manifest().iter().filter(|(name, _)| !name.contains(".32.") && *name != "int8.weight") {
        let [found, expected] = [&new, &old].map(|file| file.read(name).unwrap());
        assert_eq!((found.format(), found.shape()), (form.format, form.shape), "{name}");
        assert!(found.to_f32().unwrap() == expected.to_f32().unwrap(), "{name}");
        assert!(found.to_bytes() == expected.to_bytes(), "{name}");
        kept += 1;
    }
    assert!(kept > 10, "{kept}");
}

#[test]
fn one_long_row_is_written_piece_by_piece() {
    // given a row of more weights than are read at a time
    let tiny = Tiny::quick();
    let width = (1 << 22) + 96;
    let weights: Vec<f32> = (0..width).map(|i| (i % 251) as f32 - 125.0).collect();
    let bytes = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let row = Entry { name: "x.weight".into(), dtype: "F32".into(), shape: vec![1, width], bytes };
    tiny.write("row.safetensors", Tensors(vec![row]).bytes());
    for kind in ["q8_0", "f16", "q5_1"] {
        tiny.forge(&["convert", "row.safetensors", "row.gguf", "--type", kind, "--force"]).done();
        let file = Gguf::open(&tiny.path("row.gguf")).unwrap();
        let stored = file.read("x.weight").unwrap();
        // then its blocks are those of the whole row
        assert_eq!(stored.format().name().to_lowercase(), kind);
        assert!(stored.to_bytes() == packed(stored.format(), &weights).unwrap(), "{kind}");
    }
}

/// A transformer in diffusers' layout, each part of a fused matrix with its own name.
fn in_parts() -> Tensors {
    let folder = golden("tiny-diffusers/transformer");
    let shards = ["00001", "00002"].map(|i| folder.join(format!("diffusion_pytorch_model-{i}-of-00002.safetensors")));
    Tensors(shards.iter().flat_map(|shard| Tensors::of(shard).0).collect())
}

#[test]
fn parts_of_one_matrix_in_several_formats_are_one_and_nothing_of_the_file_is_lost() {
    let tiny = Tiny::quick();
    let drawn = |file: &str| {
        tiny.txt2img(&["--transformer", file, "--output", "a.png", "--dump", "a.safetensors"]).done();
        Safetensors::open(&tiny.path("a.safetensors")).unwrap().read("image").unwrap().to_bytes()
    };
    // given files whose q, k, v and so on are stored in a format each, which differ in matrices, in biases or in both
    let values = floats(&in_parts());
    let in_floats = |of: &dyn Fn(&str) -> &'static str| {
        let entry = |(name, shape, values): &(String, Vec<u64>, Vec<f32>)| {
            let dtype = of(name);
            let stored = |value: &f32| match dtype {
                "F32" => value.to_le_bytes().to_vec(),
                "BF16" => value.to_le_bytes()[2..].to_vec(),
                _ => half::f16::from_f32(*value).to_le_bytes().to_vec(),
            };
            let bytes = values.iter().flat_map(stored).collect();
            Entry { name: name.clone(), dtype: dtype.into(), shape: shape.clone(), bytes }
        };
        Tensors(values.iter().map(entry).collect()).bytes()
    };
    let is_key = |name: &str| name.contains("to_k") || name.contains("add_k");
    tiny.write("matrices.safetensors", in_floats(&|name| if is_key(name) { "F32" } else { "F16" }));
    let is_bias = |name: &str| name.ends_with("bias");
    tiny.write("biases.safetensors", in_floats(&|name| if is_key(name) && is_bias(name) { "F32" } else { "BF16" }));
    let mixed = |name: &str, shape: &[u64]| match shape.len() == 2 && !is_key(name) && !name.contains("proj_mlp") {
        true => Kind::Q8_0,
        false => Kind::F32,
    };
    tiny.write("blocks.gguf", gguf(&values, mixed));
    let weights = |source: &dyn WeightSource| -> usize {
        source.manifest().iter().map(|(_, form)| form.shape.iter().product::<usize>()).sum()
    };
    let all: usize = values.iter().map(|(_, _, values)| values.len()).sum();
    for file in ["matrices.safetensors", "biases.safetensors", "blocks.gguf"] {
        // when they are inspected, drawn with and converted
        let told = &tiny.forge(&["inspect", "--json", file]).done().json()[0];
        let whole = (&told["missing"], &told["unread"]);
        assert_eq!(whole, (&serde_json::json!([]), &serde_json::json!([])), "{file}");
        tiny.forge(&["convert", file, "m.gguf", "--type", "f32", "--force"]).done();
        // then all of it is there, under the names of the original release, and draws the same
        let converted = Gguf::open(&tiny.path("m.gguf")).unwrap();
        assert_eq!(weights(&converted), all, "{file}");
        assert!(converted.manifest().names().all(|name| !name.contains("transformer_blocks")), "{file}");
        assert!(drawn(file) == drawn("m.gguf"), "{file}");
    }
}

#[test]
fn tensors_that_the_network_has_no_name_for_are_written_too() {
    let tiny = Tiny::quick();
    // given a file with something beside its model, and one that lacks parts of its matrices
    let more = in_parts().renamed(|name| format!("transformer.{name}"));
    let more = more.zeros("transformer.pos_embed.table", "F16", &[4, 4]).zeros("other.bias", "F32", &[3]);
    let part = in_parts().without(|name| name.contains("to_k") || name.contains("proj_mlp"));
    for (file, kept) in
        [(more, &["pos_embed.table", "other.bias"][..]), (part, &["transformer_blocks.0.attn.to_q.weight"])]
    {
        tiny.write("m.safetensors", file.bytes());
        for out in ["o.gguf", "o.safetensors"] {
            // when it is converted
            tiny.forge(&["convert", "m.safetensors", out, "--type", "f16", "--force"]).done();
            // then no weight of it is lost
            let source: Box<dyn WeightSource> = match out {
                "o.gguf" => Box::new(Gguf::open(&tiny.path(out)).unwrap()),
                _ => Box::new(Safetensors::open(&tiny.path(out)).unwrap()),
            };
            kept.iter().for_each(|name| assert!(source.manifest().contains(name), "{name} in {out}"));
            let found: usize = source.manifest().iter().map(|(_, form)| form.shape.iter().product::<usize>()).sum();
            let all: u64 = file.0.iter().map(|entry| entry.shape.iter().product::<u64>()).sum();
            assert_eq!(found as u64, all, "{out}");
        }
    }
    // and what is missing is named as the file would name it
    tiny.txt2img(&["--transformer", "m.safetensors"]).refused(4, &["transformer_blocks.0.attn.", "is missing"]);
    // and parts that can't be one are all named
    let uneven = in_parts().zeros("transformer_blocks.0.attn.to_k.weight", "F16", &[64, 32]);
    tiny.write("m.safetensors", uneven.bytes());
    let named =
        ["`transformer_blocks.0.attn.to_q.weight` BF16", "`transformer_blocks.0.attn.to_k.weight` F16 [64, 32]"];
    tiny.txt2img(&["--transformer", "m.safetensors"]).refused(4, &named);
}

#[test]
fn no_two_tensors_of_a_new_file_have_one_name() {
    let tiny = Tiny::quick();
    let plain = |tensors: &[(&str, &[u64])]| {
        let mut file = Tensors(vec![]);
        for (name, shape) in tensors {
            file = file.zeros(name, "F32", shape);
        }
        file
    };
    let renamed = in_parts().zeros("img_in.weight", "F16", &[64, 64]);
    let cases = [
        (plain(&[("x", &[64, 64]), ("x_scale", &[3])]), "*x$=f8_e4m3", "two tensors `x_scale`: one that is called so"),
        (plain(&[("x", &[64, 64]), ("x.state", &[3])]), "*x$=nf4", ""),
        (renamed, "norm=f32", "two tensors `img_in.weight`"),
    ];
    for (file, rule, words) in cases {
        tiny.write("m.safetensors", file.bytes());
        let ran =
            tiny.forge(&["convert", "m.safetensors", "o.safetensors", "--type", "f32", "--rule", rule, "--force"]);
        if words.is_empty() {
            ran.done();
            quant::Decoded::over(Safetensors::open(&tiny.path("o.safetensors")).unwrap()).unwrap();
            fs::remove_file(tiny.path("o.safetensors")).unwrap();
        } else {
            ran.refused(4, &[words]);
            assert!(!tiny.path("o.safetensors").exists());
        }
    }
    // A companion that is left of something is refused as it is by whoever reads the file.
    for (beside, kind) in [("a.scale_weight", "f8_e4m3"), ("a.weight.absmax", "nf4"), ("scaled_fp8", "f8_e5m2")] {
        tiny.write("m.safetensors", plain(&[("a.weight", &[64, 64]), (beside, &[3])]).bytes());
        tiny.forge(&["convert", "m.safetensors", "o.safetensors", "--type", kind])
            .refused(4, &["cannot load `m.safetensors`"]);
    }
    // Names that readers of the new file would not take, the tensors' and those of what comes with them, are told before anything is written.
    let long = format!("{}.weight", "x".repeat(1017));
    for (name, out, kind, words) in [
        ("", "o.gguf", "q8_0", "of 0 bytes in its name, expected 1 to 1024"),
        (&*long, "o.safetensors", "f8_e4m3", "of 1030 bytes in its name"),
        (&long, "o.safetensors", "nf4", "of 1031 bytes in its name"),
    ] {
        tiny.write("m.safetensors", plain(&[(name, &[64, 64])]).bytes());
        tiny.forge(&["convert", "m.safetensors", out, "--type", kind]).refused(4, &[words]);
    }
    // The name of a header's own entry is none for a tensor.
    tiny.write("m.gguf", gguf(&[("__metadata__".to_owned(), vec![2, 2], vec![0.5; 4])], |_, _| Kind::F32));
    let ran = tiny.forge(&["convert", "m.gguf", "o.safetensors", "--type", "f32"]);
    ran.refused(4, &["a safetensors file can't hold a tensor called `__metadata__`"]);
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
fn what_is_no_whole_model_is_not_converted() {
    let tiny = Tiny::quick();
    let convert = |file: &str, kind: &str, out: &str| tiny.forge(&["convert", file, out, "--type", kind, "--force"]);
    // one of several files of a model
    let shard = golden("tiny-diffusers/transformer/diffusion_pytorch_model-00001-of-00002.safetensors");
    convert(&shard.display().to_string(), "q8_0", "o.gguf")
        .refused(4, &["is one of 2 files", "expected the folder that they lie in"]);
    // a file without tensors, a LoRA, and floats of eight bits that nothing is computed with
    tiny.write("m.safetensors", Tensors(vec![]).bytes());
    convert("m.safetensors", "q8_0", "o.gguf").refused(4, &["`m.safetensors` has no tensors"]);
    let lora = fixtures::path("models/lora-ink-kohya.safetensors").display().to_string();
    convert(&lora, "q8_0", "o.gguf").refused(4, &["lora-ink-kohya.safetensors` is a LoRA"]);
    let mut other = Tensors(vec![]).zeros("double_blocks.0.img_mlp.0.bias", "F32", &[64]);
    let bytes = vec![0x38; 64 * 64];
    let (name, shape) = ("double_blocks.0.img_mlp.0.weight".into(), vec![64, 64]);
    other.0.push(Entry { name, dtype: "F8_E4M3FNUZ".into(), shape, bytes });
    tiny.write("m.safetensors", other.bytes());
    convert("m.safetensors", "f16", "o.safetensors").refused(4, &["FNUZ", "`double_blocks.0.img_mlp.0.weight`"]);
    assert!(!tiny.path("o.gguf").exists() && !tiny.path("o.safetensors").exists());
    // and an odd number of weights, two of which share a byte, are not stored in four bits
    tiny.write("m.safetensors", Tensors(vec![]).zeros("a.weight", "F32", &[37, 31]).bytes());
    convert("m.safetensors", "nf4", "o.safetensors").done();
    let odd = Safetensors::open(&tiny.path("o.safetensors")).unwrap();
    assert_eq!(odd.manifest().get("a.weight").unwrap().format.name(), "F16");
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
