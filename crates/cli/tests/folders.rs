//! A folder is what its index says, or what its files' names and its config count.

mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use forge::{Finding, Forge};
use serde_json::{Value, json};

use crate::tiny::{Tensors, Tiny, golden};

// Folders.

const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";

/// tiny-dev's transformer as a folder of two shards with an index and a config.
fn folder(tiny: &Tiny) -> (String, String) {
    let part = golden("tiny-diffusers/transformer");
    for file in fs::read_dir(&part).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = file.file_name().into_string().expect("golden names are text");
        tiny.write(&format!("t/{name}"), fs::read(file.path()).expect("a golden file"));
    }
    let shard = |i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors");
    (shard(1), shard(2))
}

#[test]
fn a_folder_is_what_its_index_says() {
    let tiny = Tiny::quick_dev();
    tiny.txt2img(&["--output", "a.png"]).done();
    let (first, second) = folder(&tiny);
    let draws = |what: &str| {
        tiny.txt2img(&["--transformer", "t", "--output", "t.png"]).done();
        let pixels = |file: &str| image(&fs::read(tiny.path(file)).unwrap());
        assert!(pixels("t.png") == pixels("a.png"), "{what}");
    };
    draws("the folder as it is");
    // given what is of no account beside an index
    let copy = |to: &str| {
        tiny.write(&format!("t/{to}"), fs::read(tiny.path("t").join(&first)).unwrap());
    };
    copy("diffusion_pytorch_model-00001-of-00003.safetensors");
    draws("another split's file");
    copy("diffusion_pytorch_model.safetensors");
    draws("a whole file");
    copy("stray.safetensors");
    tiny.write(&format!("t/._{first}"), b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ");
    tiny.write("t/.hidden.safetensors", "nothing");
    tiny.write("t/diffusion_pytorch_model.safetensors.index.fp16.json", "{}");
    tiny.write("t/._diffusion_pytorch_model.safetensors.index.json", "\0");
    draws("files that the index does not list");
    // given a second index, then there is no telling
    let index = fs::read(tiny.path("t").join(INDEX)).unwrap();
    tiny.write("t/model.safetensors.index.json", index);
    let _ = fs::remove_file(tiny.path("a.png"));
    let _ = fs::remove_file(tiny.path("t.png"));
    tiny.refuse(&["--transformer", "t"], &["2 split models", INDEX, "`model.safetensors.index.json`"]);
    fs::remove_file(tiny.path("t/model.safetensors.index.json")).unwrap();
    // given a file that it lists and that is not there, then it is named
    let away = fs::read(tiny.path("t").join(&second)).unwrap();
    fs::remove_file(tiny.path("t").join(&second)).unwrap();
    tiny.refuse(&["--transformer", "t"], &["cannot load `t`", &second, INDEX, "is missing"]);
    tiny.forge(&["inspect", "t"]).refused(4, &[&second, INDEX]);
    tiny.write(&format!("t/{second}"), &away);
    // given a tensor that is not in its file, then both are named
    let shard = Tensors::of(&tiny.path("t").join(&second));
    let name = shard.0[3].name.clone();
    tiny.write(&format!("t/{second}"), shard.clone().without(|n| n == name).bytes());
    tiny.refuse(&["--transformer", "t"], &[&second, &name, INDEX]);
    // given one that the index does not list, then it is told
    tiny.write(&format!("t/{second}"), shard.zeros("more.weight", "F16", &[2, 2]).bytes());
    let told = tiny.forge(&["inspect", "t"]).done().out;
    assert!(told.contains("index does not list 1 tensor: `more.weight`"), "{told}");
    let forge = Forge::load(&Tiny::quick_dev().with("transformer", &tiny.path("t")).config()).unwrap();
    assert!(matches!(&forge.notes()[0].finding, Finding::Unlisted { tensors: 1, .. }));
}

/// The pixels of a PNG.
fn image(file: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size that fits in memory")];
    reader.next_frame(&mut pixels).expect("a whole picture");
    pixels
}

#[test]
fn an_index_that_makes_no_sense_is_refused() {
    let tiny = Tiny::quick_dev();
    let (first, _) = folder(&tiny);
    let map = |file: &str| json!({"weight_map": {"x": file}}).to_string();
    let many: serde_json::Map<String, Value> =
        (0..2000).map(|i| (format!("t{i}"), format!("f{i}.safetensors").into())).collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), INDEX),
        (b"{".to_vec(), INDEX),
        (b"[]".to_vec(), INDEX),
        (b"null".to_vec(), INDEX),
        (b"{}".to_vec(), "weight_map"),
        (b"\xff\xfe".to_vec(), INDEX),
        ("[".repeat(100_000).into_bytes(), INDEX),
        (br#"{"weight_map":{}}"#.to_vec(), "it lists no tensors"),
        (br#"{"weight_map":[]}"#.to_vec(), "a file's name for each tensor"),
        (br#"{"weight_map":{"x":1}}"#.to_vec(), INDEX),
        (br#"{"weight_map":{"x":["a"]}}"#.to_vec(), INDEX),
        (br#"{"weight_map":{"x":null}}"#.to_vec(), INDEX),
        (format!(r#"{{"weight_map":{{"x":"{first}","x":"{first}"}}}}"#).into_bytes(), "`x` occurs twice"),
        (map("../t/a.safetensors").into_bytes(), "expected the names of files in its folder"),
        (map("/etc/passwd").into_bytes(), "expected the names of files in its folder"),
        (map("..").into_bytes(), "expected the names of files in its folder"),
        (map("").into_bytes(), "expected the names of files in its folder"),
        (map("sub/a.safetensors").into_bytes(), "expected the names of files in its folder"),
        (map("sub\\a.safetensors").into_bytes(), "expected the names of files in its folder"),
        (map("a\u{0}b").into_bytes(), "expected the names of files in its folder"),
        (map(&"n".repeat(10_000)).into_bytes(), "expected the names of files in its folder"),
        (map("nowhere.safetensors").into_bytes(), "`nowhere.safetensors` is missing"),
        (map("config.json").into_bytes(), "this is JSON"),
        (map(&first).into_bytes(), "has no tensor `x`"),
        (json!({"weight_map": many}).to_string().into_bytes(), "more than 1024 files"),
    ];
    for (index, says) in cases {
        tiny.write(&format!("t/{INDEX}"), index);
        let ran = tiny.refuse(&["--transformer", "t"], &["cannot load `t`", says]);
        assert!(ran.err.len() < 2000, "{ran:?}");
        tiny.forge(&["inspect", "t"]).refused(4, &[says]);
    }
    // One that is no file, or has no end, is not read.
    let index = tiny.path("t").join(INDEX);
    fs::remove_file(&index).unwrap();
    assert!(Command::new("mkfifo").arg(&index).status().unwrap().success());
    tiny.refuse(&["--transformer", "t"], &["a named pipe"]);
    fs::remove_file(&index).unwrap();
    fs::File::create(&index).unwrap().set_len(1 << 40).unwrap();
    tiny.refuse(&["--transformer", "t"], &["bytes, at most"]);
}

#[test]
fn without_an_index_the_names_of_the_files_count() {
    let tiny = Tiny::quick_dev();
    let (first, second) = folder(&tiny);
    fs::remove_file(tiny.path("t").join(INDEX)).unwrap();
    tiny.txt2img(&["--transformer", "t", "--output", "t.png"]).done();
    fs::remove_file(tiny.path("t.png")).unwrap();
    // Names in capitals and the short ending count as well.
    for (from, to) in
        [(&first, first.replace(".safetensors", ".SAFETENSORS")), (&second, second.replace(".safetensors", ".sft"))]
    {
        fs::rename(tiny.path("t").join(from), tiny.path("t").join(to)).unwrap();
    }
    tiny.txt2img(&["--transformer", "t", "--output", "t.png"]).done();
    fs::remove_file(tiny.path("t.png")).unwrap();
    fs::remove_file(tiny.path("t").join(second.replace(".safetensors", ".sft"))).unwrap();
    tiny.refuse(&["--transformer", "t"], &[&second, "is missing: the folder has 1 of 2 files"]);
    // What else a folder may hold is named.
    tiny.write("foreign/model.gguf", "GGUF");
    tiny.refuse(&["--transformer", "foreign"], &["this is a folder without one, but with `model.gguf`"]);
    tiny.write("pickles/pytorch_model.bin", b"\x80\x02");
    tiny.refuse(&["--transformer", "pickles"], &["pytorch_model.bin"]);
    tiny.write("whole/model_index.json", "{}");
    tiny.write("whole/v1-5-pruned.ckpt", b"\x80\x02");
    tiny.refuse(&["--transformer", "whole"], &["this is the folder of a whole model, which `folder` takes"]);
    // A thousand files are enough.
    for i in 0..1030 {
        tiny.write(&format!("many/{i}.safetensors"), "");
    }
    tiny.refuse(&["--transformer", "many"], &["more than 1024 model files"]);
    tiny.forge(&["inspect", "many"]).refused(4, &["more than 1024 model files"]);
}

#[test]
fn what_a_models_config_counts_holds() {
    // given a config that says one thing of the four files, and another
    let configs = ["transformer", "text_encoder", "text_encoder_2", "vae"]
        .map(|part| fs::read(golden("tiny-diffusers").join(part).join("config.json")).unwrap());
    let wrong: [(&str, &[(&str, Value)]); 4] = [
        (
            "transformer",
            &[
                ("num_layers", 3.into()),
                ("num_single_layers", 1.into()),
                ("in_channels", 384.into()),
                ("attention_head_dim", 16.into()),
                ("num_attention_heads", 4.into()),
                ("joint_attention_dim", 4096.into()),
                ("pooled_projection_dim", 768.into()),
                ("guidance_embeds", false.into()),
            ],
        ),
        (
            "clip",
            &[
                ("num_hidden_layers", 12.into()),
                ("hidden_size", 768.into()),
                ("vocab_size", 49409.into()),
                ("intermediate_size", 3072.into()),
                ("max_position_embeddings", 248.into()),
            ],
        ),
        (
            "t5",
            &[
                ("num_layers", 24.into()),
                ("num_hidden_layers", 1.into()),
                ("d_model", 4096.into()),
                ("d_ff", 10240.into()),
                ("num_heads", 64.into()),
                ("d_kv", 64.into()),
                ("vocab_size", 256_384.into()),
                ("relative_attention_num_buckets", 64.into()),
            ],
        ),
        (
            "vae",
            &[
                ("latent_channels", 4.into()),
                ("out_channels", 1.into()),
                ("block_out_channels", json!([128, 256, 512, 512])),
                ("block_out_channels", json!([32, 32, 32])),
                ("layers_per_block", 2.into()),
            ],
        ),
    ];
    for ((role, wrong), config) in wrong.into_iter().zip(configs) {
        let tiny = Tiny::quick_dev();
        let file = tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        let folder = tiny.path("m");
        tiny.write("m/config.json", &config);
        let load =
            |path: &Path| Forge::load(&Tiny::quick_dev().with(role, path).config()).map(drop).map_err(|e| told(&e));
        assert_eq!((load(&file), load(&folder)), (Ok(()), Ok(())));
        for (key, value) in wrong {
            let mut config: Value = serde_json::from_slice(&config).unwrap();
            let found = config[*key].clone();
            config[*key] = value.clone();
            tiny.write("m/config.json", config.to_string());
            // when it is loaded, as a file or as a folder, then key, expected and found are named
            let says = format!("`{key}` is {value} in `");
            for path in [&file, &folder] {
                let error = load(path).unwrap_err();
                assert!(error.contains("cannot load `") && error.contains(&says), "{error}");
                assert!(found.is_null() || error.contains(&format!("the tensors have {found}")), "{error}");
                let missing = forge::inspect(path).unwrap().missing;
                assert!(matches!(&missing[..], [one] if one.contains(&says)), "{missing:?}");
            }
            // and a value of another kind is refused too
            config[*key] = "many".into();
            tiny.write("m/config.json", config.to_string());
            assert!(load(&file).unwrap_err().contains("config.json`"));
            // and where it is another model's config, it is none of ours
            config["_class_name"] = "Another".into();
            config["architectures"] = json!(["Another"]);
            tiny.write("m/config.json", config.to_string());
            assert_eq!(load(&file), Ok(()));
            let notes = Forge::load(&Tiny::quick_dev().with(role, &file).config()).unwrap().notes().to_vec();
            assert!(matches!(&notes[..], [one] if one.to_string().contains("`Another` and left alone")), "{notes:?}");
            assert!(load(&folder).unwrap_err().contains("is of a `Another`, expected `"));
        }
        // and beside a file one without a class may be anybody's
        tiny.write("m/config.json", json!({ wrong[0].0: wrong[0].1 }).to_string());
        assert_eq!(load(&file), Ok(()));
        assert!(load(&folder).is_err());
    }
}

/// An error with its causes.
fn told(error: &forge::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_download_without_its_last_blocks_is_refused() {
    // given folders of the text encoders whose last block is not there, and their own config
    for (role, part, last) in
        [("clip", "text_encoder", "text_model.encoder.layers.1."), ("t5", "text_encoder_2", "encoder.block.1.")]
    {
        let tiny = Tiny::quick_dev();
        let file = Tensors::of(&tiny.role(role)).without(|name| name.starts_with(last));
        tiny.write("m/model.safetensors", file.bytes());
        tiny.write("m/config.json", fs::read(golden("tiny-diffusers").join(part).join("config.json")).unwrap());
        // when they are drawn with, then the count is named
        tiny.refuse(&[&format!("--{role}"), "m"], &["_layers` is 2 in `m/config.json`, the tensors have 1"]);
    }
}

#[test]
fn a_folders_config_of_another_class_is_refused() {
    let other: [(&str, &[Value]); 4] = [
        (
            "transformer",
            &[
                json!({"_class_name": "ChromaTransformer2DModel"}),
                json!({"_class_name": "FluxControlNetModel"}),
                json!({"_class_name": "SD3Transformer2DModel"}),
            ],
        ),
        (
            "clip",
            &[
                json!({"architectures": ["CLIPVisionModel"]}),
                json!({"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip"}),
                json!({"model_type": "siglip"}),
            ],
        ),
        (
            "t5",
            &[
                json!({"architectures": ["UMT5EncoderModel"], "num_layers": 24}),
                json!({"architectures": [], "model_type": "umt5"}),
                json!({"architectures": ["T5GemmaModel"]}),
            ],
        ),
        (
            "vae",
            &[
                json!({"_class_name": "AutoencoderKLWan"}),
                json!({"_class_name": "AutoencoderTiny"}),
                json!({"_class_name": "AsymmetricAutoencoderKL"}),
            ],
        ),
    ];
    for (role, configs) in other {
        let tiny = Tiny::quick_dev();
        tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        for config in configs {
            tiny.write("m/config.json", config.to_string());
            tiny.refuse(&[&format!("--{role}"), "m"], &["m/config.json` is of a `", "`, expected `"]);
        }
    }
}

#[test]
fn words_of_a_config_that_are_not_computed_with_are_refused() {
    type Words<'a> = &'a [(&'a str, Value)];
    let wrong: [(&str, &str, Words); 4] = [
        ("transformer", "transformer", &[("patch_size", 2.into()), ("out_channels", 16.into())]),
        ("clip", "text_encoder", &[("layer_norm_eps", 1e-6.into())]),
        (
            "t5",
            "text_encoder_2",
            &[
                ("relative_attention_max_distance", 256.into()),
                ("relative_attention_num_buckets", 64.into()),
                ("feed_forward_proj", "gated-silu".into()),
                ("feed_forward_proj", "relu".into()),
                ("is_gated_act", false.into()),
                ("dense_act_fn", "relu".into()),
                ("layer_norm_epsilon", 1e-5.into()),
            ],
        ),
        (
            "vae",
            "vae",
            &[
                ("down_block_types", json!(["DownEncoderBlock2D", "DownEncoderBlock2D"])),
                ("up_block_types", json!(["UpDecoderBlock2D"])),
                ("up_block_types", json!(["AttnUpDecoderBlock2D"])),
                ("up_block_types", "UpDecoderBlock2D".into()),
                ("use_post_quant_conv", true.into()),
                ("scaling_factor", 0.into()),
                ("scaling_factor", (-0.3611).into()),
                ("act_fn", "relu".into()),
                ("mid_block_add_attention", false.into()),
                ("latents_mean", json!([0.5])),
            ],
        ),
    ];
    for (role, part, wrong) in wrong {
        let tiny = Tiny::quick_dev();
        tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        let config = fs::read(golden("tiny-diffusers").join(part).join("config.json")).unwrap();
        for (key, value) in wrong {
            let mut config: Value = serde_json::from_slice(&config).unwrap();
            config[*key] = value.clone();
            tiny.write("m/config.json", config.to_string());
            tiny.refuse(&[&format!("--{role}"), "m"], &[&format!("`{key}` is "), "m/config.json`"]);
        }
    }
}

#[test]
fn a_config_that_is_no_object_is_told_for_what_it_is() {
    let cases = [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4caa\nsize 2\n", "is a git-lfs pointer"),
        ("<!DOCTYPE html>\n<html>404</html>", "is a web page that begins `<!DOCTYPE html>`"),
        ("Invalid username or password.", "is text that begins `Invalid username"),
        ("", "is an empty file"),
        ("null", "is `null`, expected a JSON object"),
        ("[]", "is a list, expected a JSON object"),
        ("3", "is a number, expected a JSON object"),
        ("\"x\"", "is a text in quotes, expected a JSON object"),
        ("true", "is a truth value, expected a JSON object"),
    ];
    let tiny = Tiny::quick_dev();
    tiny.whole_folder();
    for (text, says) in cases {
        for role in ["transformer", "clip", "t5", "vae"] {
            tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
            tiny.write("m/config.json", text);
            let ran = tiny.refuse(&[&format!("--{role}"), "m"], &["m/config.json` ", says]);
            assert!(!ran.err.contains("struct"), "{ran:?}");
        }
        tiny.write("w/model_index.json", text);
        let ran = tiny.txt2img(&["--folder", "w"]).refused(4, &["w/model_index.json` ", says]);
        assert_eq!(tiny.drawn(), Vec::<PathBuf>::new(), "{ran:?}");
    }
}
