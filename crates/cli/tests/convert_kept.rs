//! What a file says of its model, and what lies beside it, in what it is converted to; and files that are not converted.

mod tiny;

use std::fs;

use core_tensor::{WeightSource, safetensors::Safetensors};
use tiny::{
    Tensors, Tiny, edit,
    gguf::{Kind, floats, gguf},
    golden, raw, split,
};

/// The pixels of one step of a golden case with further flags.
fn drawn(tiny: &Tiny, case: &str, flags: &[&str]) -> Vec<f32> {
    let config = golden(&format!("{case}/case.toml")).display().to_string();
    let line = ["txt2img", "--config", &config, "--steps", "1", "--output", "a.png", "--dump", "a.safetensors"];
    tiny.forge(&[&line[..], &["--compute", "f32"], flags].concat()).done();
    let dump = Safetensors::open(&tiny.path("a.safetensors")).expect("the run wrote it");
    dump.read("image").expect("a dump has it").to_f32().expect("floats")
}

fn converted(tiny: &Tiny, input: &str, output: &str) {
    tiny.forge(&["convert", input, output, "--type", "f32"]).done();
}

#[test]
fn what_a_yaml_file_says_of_the_training_is_kept() {
    let tiny = Tiny::quick();
    tiny.write("m.safetensors", Tensors::of(&golden("sd-2/model.safetensors")).bytes());
    let plain = drawn(&tiny, "sd-2", &["--checkpoint", "m.safetensors"]);
    tiny.write("m.yaml", "model:\n  params:\n    parameterization: \"v\"\n    scale_factor: 0.5\n");
    let before = drawn(&tiny, "sd-2", &["--checkpoint", "m.safetensors"]);
    assert!(before != plain);
    for (from, to) in [
        ("m.safetensors", "o.gguf"),
        ("m.safetensors", "o.safetensors"),
        // and of a file that keeps it already
        ("o.gguf", "p.safetensors"),
        ("o.safetensors", "p.gguf"),
    ] {
        converted(&tiny, from, to);
        let told = tiny.forge(&["inspect", to]).done();
        assert!(told.out.contains("it predicts velocity: a config says so"), "{to}: {told:?}");
        assert!(drawn(&tiny, "sd-2", &["--checkpoint", to]) == before, "{to}");
    }
    // What lies beside the new file goes before.
    tiny.write("o.yaml", "parameterization: \"eps\"\nscale_factor: 0.18215\n");
    assert!(drawn(&tiny, "sd-2", &["--checkpoint", "o.gguf"]) == plain);
}

#[test]
fn what_the_configs_of_a_folder_say_of_a_part_is_kept() {
    let tiny = Tiny::quick();
    let folder = tiny.path("folder").display().to_string();
    tiny::copy(&golden("sd-folder"), &tiny.path("folder"));
    // given an autoencoder that scales latents otherwise, and a scheduler by which the network predicts velocity
    edit(&tiny.path("folder/vae/config.json"), |json| json["scaling_factor"] = 0.5.into());
    let before = drawn(&tiny, "sd-folder", &["--folder", &folder]);
    let others = drawn(&tiny, "sd-folder", &[]);
    assert!(before != others);
    for (part, flag) in
        [("unet", "--unet"), ("vae", "--vae"), ("text_encoder", "--clip"), ("text_encoder_2", "--clip-g")]
    {
        for ending in ["gguf", "safetensors"] {
            // when a part of it is converted and takes the place of the folder's own
            let file = format!("{part}.{ending}");
            converted(&tiny, &format!("{folder}/{part}"), &file);
            // then the picture is the same
            assert!(drawn(&tiny, "sd-folder", &["--folder", &folder, flag, &file]) == before, "{file}");
        }
    }
    // A file of another folder's part draws as that does.
    assert!(drawn(&tiny, "sd-folder", &["--vae", "vae.gguf"]) == before);
}

#[test]
fn of_what_is_kept_each_text_gives_way_to_its_like_alone() {
    let tiny = Tiny::quick();
    let flags = ["--negative", "", "--profile", "diffusers"];
    let of = |folder: &str| drawn(&tiny, "sd-folder", &[&["--folder", folder][..], &flags].concat());
    let word = |folder: &str, zeroes: bool| {
        edit(&tiny.path(folder).join("model_index.json"), |json| json["force_zeros_for_empty_prompt"] = zeroes.into());
    };
    for folder in ["one", "other"] {
        tiny::copy(&golden("sd-folder"), &tiny.path(folder));
    }
    word("one", false);
    let one = of("one");
    word("other", true);
    let zeroed = of("other");
    assert!(one != zeroed);
    // given a part that keeps both its scheduler's word and its index's
    converted(&tiny, "one/unet", "u.safetensors");
    let others = ["--vae", "one/vae", "--clip", "one/text_encoder", "--clip-g", "one/text_encoder_2"];
    let parts_alone = |unet: &str| {
        let config = tiny.write("parts.toml", "[prompt]\npositive = \"a\"\n");
        let line = ["txt2img", "--config", config.to_str().expect("a name"), "--steps", "1", "--output", "a.png"];
        let size = [
            "--cfg",
            "5",
            "--width",
            "64",
            "--height",
            "64",
            "--dump",
            "a.safetensors",
            "--compute",
            "f32",
            "--seed",
            "1",
        ];
        tiny.forge(&[&line[..], &size, &flags, &others, &["--unet", unet]].concat()).done();
        let dump = Safetensors::open(&tiny.path("a.safetensors")).expect("the run wrote it");
        dump.read("image").expect("a dump has it").to_f32().expect("floats")
    };
    // then a folder's index beside it counts for itself, and its scheduler's word stays
    let kept = parts_alone("u.safetensors");
    fs::create_dir_all(tiny.path("lone/unet")).expect("folders can be made here");
    fs::copy(tiny.path("u.safetensors"), tiny.path("lone/unet/u.safetensors")).expect("files can be written here");
    fs::copy(golden("sd-folder/model_index.json"), tiny.path("lone/model_index.json"))
        .expect("files can be written here");
    let told = tiny.forge(&["inspect", "lone/unet/u.safetensors"]).done();
    assert!(told.out.contains("it predicts velocity: a config says so"), "{told:?}");
    let of_lone = |zeroes: bool| {
        word("lone", zeroes);
        parts_alone("lone/unet/u.safetensors")
    };
    assert!(of_lone(false) == kept);
    assert!(of_lone(true) != kept);
}

#[test]
fn a_kept_config_counts_for_what_it_says_and_is_not_held_against_the_tensors() {
    let tiny = Tiny::quick();
    tiny.write("a/m.safetensors", Tensors::of(&golden("sd-1/model.safetensors")).bytes());
    tiny.write(
        "a/config.json",
        r#"{"scaling_factor": 0.5, "block_out_channels": [320, 640], "_name_or_path": "/models/mine"}"#,
    );
    let before = drawn(&tiny, "sd-1", &["--checkpoint", "a/m.safetensors"]);
    converted(&tiny, "a/m.safetensors", "o.gguf");
    assert!(drawn(&tiny, "sd-1", &["--checkpoint", "o.gguf"]) == before);
    let kept = quant::Gguf::open(&tiny.path("o.gguf")).expect("it was written");
    assert!(!kept.note("forge.config").expect("it is kept").contains("/models/mine"));
    // and one that names its class for what it says of the arithmetic
    tiny.write("a/config.json", r#"{"_class_name": "UNet2DConditionModel", "only_cross_attention": true}"#);
    converted(&tiny, "a/m.safetensors", "p.gguf");
    let config = golden("sd-1/case.toml").display().to_string();
    let ran = tiny.forge(&["txt2img", "--config", &config, "--checkpoint", "p.gguf", "--output", "b.png"]);
    ran.refused(4, &["only_cross_attention"]);
}

#[test]
fn what_a_file_says_of_itself_is_kept_however_long_and_wherever_it_stands() {
    let tiny = Tiny::quick();
    let (header, data) = split(&Tensors::of(&golden("sd-1/model.safetensors")).bytes());
    let others: String = (0..80).map(|i| format!(r#""ss_{i}":"x","#)).collect();
    let (text, picture) = ("long ".repeat(200), format!("data:image/jpeg;base64,{}", "A".repeat(200_000)));
    let notes = format!(
        r#"{others}"modelspec.prediction_type":"v","modelspec.description":"{text}","modelspec.thumbnail":"{picture}""#
    );
    tiny.write("m.safetensors", raw(&header.replacen('{', &format!(r#"{{"__metadata__":{{{notes}}},"#), 1), &data));
    converted(&tiny, "m.safetensors", "o.safetensors");
    converted(&tiny, "o.safetensors", "o.gguf");
    let kept = Safetensors::open(&tiny.path("o.safetensors")).expect("it was written");
    let again = quant::Gguf::open(&tiny.path("o.gguf")).expect("it was written");
    for (key, value) in [("prediction_type", "v"), ("description", &text), ("thumbnail", &picture)] {
        let key = format!("modelspec.{key}");
        assert_eq!((kept.note(&key), again.note(&key)), (Some(value), Some(value)), "{key}");
    }
}

#[test]
fn a_model_that_nothing_is_drawn_with_is_not_converted() {
    let tiny = Tiny::quick();
    let model = || Tensors::of(&golden("tiny-dev/transformer.safetensors"));
    let name = "double_blocks.0.img_mlp.0.weight";
    let refused = |input: &str, words: &[&str]| {
        tiny.forge(&["convert", input, "o.gguf", "--type", "q8_0"]).refused(4, words);
        assert!(!tiny.path("o.gguf").exists());
    };
    // given integers in the place of floats
    for dtype in ["I16", "I32", "I64"] {
        let mut file = model();
        let entry = file.get(name);
        let bytes = if dtype == "I16" {
            2
        } else if dtype == "I32" {
            4
        } else {
            8
        };
        let weights: u64 = entry.shape.iter().product();
        (entry.dtype, entry.bytes) = (dtype.to_owned(), vec![1; weights as usize * bytes]);
        tiny.write("m.safetensors", file.bytes());
        refused("m.safetensors", &[name, dtype]);
    }
    // but a name like that of one file of several is nobody's word in a GGUF, which says it itself
    tiny.write("m-00001-of-00002.gguf", gguf(&floats(&model()), |_, _| Kind::F32));
    tiny.forge(&["convert", "m-00001-of-00002.gguf", "o.gguf", "--type", "f32"]).done();
}

#[test]
fn the_marker_of_eight_bits_stands_with_their_weights_and_those_of_e5m2_are_described() {
    let tiny = Tiny::quick();
    let checkpoint = golden("sd-1/model.safetensors").display().to_string();
    let demo = fixtures::path("models/flux-demo.safetensors").display().to_string();
    let mixed = ["--rule", "img_mod=f8_e5m2"];
    let cases = [
        (demo.clone(), "f8_e4m3", &[][..], &[""][..], false),
        (checkpoint.clone(), "f8_e4m3", &[], &["cond_stage_model.transformer.", "model.diffusion_model."], false),
        (demo.clone(), "f8_e5m2", &[], &[], true),
        (checkpoint, "f8_e5m2", &[], &[], true),
        (demo, "f8_e4m3", &mixed, &[""], true),
    ];
    for (input, kind, rules, prefixes, is_described) in cases {
        let line = ["convert", &input, "o.safetensors", "--type", kind, "--force"];
        tiny.forge(&[&line[..], rules].concat()).done();
        let file = Tensors::of(&tiny.path("o.safetensors"));
        let markers = file.0.iter().filter(|entry| entry.name.ends_with("scaled_fp8"));
        let mut markers: Vec<_> = markers.map(|entry| (&*entry.name, &*entry.dtype, &*entry.shape)).collect();
        markers.sort_unstable();
        let expected: Vec<_> = prefixes.iter().map(|prefix| format!("{prefix}scaled_fp8")).collect();
        assert_eq!(markers, expected.iter().map(|name| (&**name, "F8_E4M3", &[0][..])).collect::<Vec<_>>());
        // Of each matrix there is what its kind is read by, and nothing of the other.
        let has = |name: String| file.0.iter().any(|entry| entry.name == name);
        for entry in file.0.iter().filter(|entry| entry.dtype.starts_with("F8") && !entry.shape.contains(&0)) {
            let layer = entry.name.strip_suffix("weight").expect("matrices are weights");
            let is_e5m2 = entry.dtype == "F8_E5M2";
            assert_eq!(has(format!("{layer}weight_scale")), is_e5m2, "{}", entry.name);
            assert_eq!(has(format!("{layer}scale_weight")), !is_e5m2, "{}", entry.name);
            let described = file.0.iter().find(|other| other.name == format!("{layer}comfy_quant"));
            let described = described.map(|other| (&*other.dtype, &*other.bytes));
            assert_eq!(described, is_e5m2.then_some(("U8", &br#"{"format": "float8_e5m2"}"#[..])));
        }
        assert_eq!(file.0.iter().any(|entry| entry.name.ends_with("comfy_quant")), is_described);
        let told = &tiny.forge(&["inspect", "--json", "o.safetensors"]).done().json()[0];
        assert!(
            told["parts"].as_array().unwrap().iter().all(|part| part["missing"] == serde_json::json!([])),
            "{told}"
        );
    }
}
