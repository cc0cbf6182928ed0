//! Files, configs and flags that are wrong: one error, its exit code, and no picture.

mod tiny;

use std::{fs, path::PathBuf, process::Command};

use crate::tiny::{ROLES, Ran, Tensors, Tiny, golden, raw, split};

/// Runs `forge txt2img` on what must be refused.
fn refuse(tiny: &Tiny, args: &[&str], code: i32, words: &[&str]) -> Ran {
    let ran = tiny.txt2img(args).refused(code, words);
    assert_eq!(tiny.drawn(), Vec::<PathBuf>::new(), "{ran:?}");
    ran
}

// Bytes that are no safetensors file.

#[test]
fn a_file_that_is_no_safetensors_file_is_rejected_for_what_it_is() {
    let tensor = |form: &str| format!(r#"{{"a":{form}}}"#);
    let float =
        |shape: &str, offsets: &str| tensor(&format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#));
    let two = |second: &str| {
        let form = |offsets: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, form("[0,8]"), form(second))
    };
    let twice = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let length = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "this is an empty file"),
        ("seven bytes", vec![1; 7], "is truncated"),
        ("a header of 2^64 - 1 bytes", length(u64::MAX), "at most 33554432 are accepted"),
        ("a header of 32 MiB and a byte", length((32 << 20) + 1), "at most 33554432 are accepted"),
        ("a header beyond the end", length(3), "the header ends at byte 11, the file has 10"),
        ("no header", length(0), "no valid safetensors header"),
        ("not JSON", raw("hello, world", b""), "no valid safetensors header"),
        ("not UTF-8", [&8u64.to_le_bytes()[..], &[0xff; 8]].concat(), "no valid safetensors header"),
        ("half a JSON", raw(r#"{"a":{"dtype""#, b""), "no valid safetensors header"),
        ("two JSONs", raw("{}{}", b""), "no valid safetensors header"),
        ("a list", raw("[]", b""), "no valid safetensors header"),
        ("a hundred thousand lists", raw(&"[".repeat(100_000), b""), "no valid safetensors header"),
        ("a hundred thousand objects", raw(&r#"{"a":"#.repeat(100_000), b""), "no valid safetensors header"),
        ("a deep shape", raw(&float(&"[".repeat(100_000), "[0,4]"), b""), "no valid safetensors header"),
        ("a deep unknown key", raw(&tensor(&format!(r#"{{"x":{}"#, "[".repeat(100_000))), b""), "no valid"),
        ("two tensors of one name", raw(&format!(r#"{{"a":{twice},"a":{twice}}}"#), &[0; 4]), "`a` occurs twice"),
        (
            "two shapes",
            raw(&tensor(r#"{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,1]}"#), &[0]),
            "duplicate",
        ),
        ("two metadata", raw(r#"{"__metadata__":{},"__metadata__":{}}"#, b""), "`__metadata__` occurs twice"),
        ("metadata of numbers", raw(r#"{"__metadata__":{"a":1}}"#, b""), "no valid safetensors header"),
        ("an unknown format", raw(&tensor(r#"{"dtype":"F31","shape":[1],"data_offsets":[0,4]}"#), &[0; 4]), "F31"),
        ("no format", raw(&tensor(r#"{"shape":[1],"data_offsets":[0,4]}"#), &[0; 4]), "missing field `dtype`"),
        ("a negative shape", raw(&float("[-1]", "[0,4]"), &[0; 4]), "no valid safetensors header"),
        ("half a dimension", raw(&float("[0.5]", "[0,2]"), &[0; 2]), "no valid safetensors header"),
        ("a dimension of 2^64", raw(&float("[18446744073709551616]", "[0,4]"), &[0; 4]), "no valid safetensors header"),
        ("2^32 by 2^32", raw(&float("[4294967296,4294967296]", "[0,0]"), b""), "is larger than any file"),
        ("2^64 - 1 values", raw(&float("[18446744073709551615]", "[0,4]"), &[0; 4]), "is larger than any file"),
        ("2^62 values", raw(&float("[4611686018427387904]", "[0,0]"), b""), "is larger than any file"),
        ("a huge range", raw(&float("[1]", "[0,18446744073709551615]"), &[0; 4]), "expected 4, found 1844674407370955"),
        ("a huge start", raw(&float("[1]", "[18446744073709551615,3]"), &[0; 4]), "`a` does not begin"),
        ("a range backwards", raw(&float("[1]", "[4,0]"), &[0; 4]), "`a` does not begin"),
        ("an overlap", raw(&two("[4,12]"), &[0; 12]), "`b` does not begin where the one before it ends"),
        ("one range for two", raw(&two("[0,8]"), &[0; 8]), "`b` does not begin where the one before it ends"),
        ("a gap", raw(&two("[12,20]"), &[0; 20]), "`b` does not begin where the one before it ends"),
        ("bytes in front", raw(&float("[1]", "[4,8]"), &[0; 8]), "`a` does not begin where the one before it ends"),
        ("bytes behind", raw(&two("[8,16]"), &[0; 17]), "`b` is the last, but bytes follow it"),
        ("a range of another size", raw(&float("[2]", "[0,4]"), &[0; 4]), "expected 8, found 4"),
        ("half a byte", raw(&tensor(r#"{"dtype":"F4","shape":[1],"data_offsets":[0,1]}"#), &[0]), "`a`"),
        ("data without a tensor", raw("{}", &[0; 8]), "bytes follow it"),
        ("no tensor", raw("{}", b""), "not a model that is known here"),
        ("GGUF", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "this is a GGUF file"),
        ("a zip", b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0archive/data.pkl".to_vec(), "this is a PyTorch pickle"),
        ("a pickle", b"\x80\x04\x95\x0a\0\0\0\0\0\0\0cos\nsystem\n".to_vec(), "this is a PyTorch pickle"),
    ];
    let tiny = Tiny::quick();
    for (case, bytes, says) in cases {
        tiny.write("m.safetensors", bytes);
        for role in ["transformer", "vae"] {
            let ran =
                refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 4, &["cannot load `m.safetensors`", says]);
            assert!(ran.err.len() < 2000, "{case}: {ran:?}");
        }
        if case != "no tensor" {
            tiny.forge(&["inspect", "m.safetensors"]).refused(4, &["cannot load `m.safetensors`", says]);
            tiny.forge(&["inspect", "--json", "m.safetensors"]).json();
        }
        let code = tiny.txt2img(&["--noise", "m.safetensors"]).code;
        assert_eq!(code, Some(4), "{case}");
    }
}

#[test]
fn a_model_cut_anywhere_is_rejected() {
    let tiny = Tiny::quick();
    for role in ROLES {
        let whole = fs::read(tiny.role(role)).unwrap();
        let data = 8 + split(&whole).0.len();
        // The transformer at every 64 bytes of its header, the others here and there.
        let step = if role == "transformer" { 64 } else { 1999 };
        let cuts = (0..data).step_by(step).chain([data - 1, data, data + 1, whole.len() / 2, whole.len() - 1]);
        for cut in cuts {
            tiny.write("cut.safetensors", &whole[..cut]);
            refuse(&tiny, &[&format!("--{role}"), "cut.safetensors"], 4, &["cannot load `cut.safetensors`"]);
        }
    }
}

#[test]
fn what_is_not_a_file_is_rejected_and_not_waited_for() {
    let tiny = Tiny::quick();
    fs::create_dir(tiny.path("empty")).unwrap();
    tiny.write("beside/other.txt", "");
    assert!(Command::new("mkfifo").arg(tiny.path("pipe")).status().unwrap().success());
    let cases = [
        ("empty", "this is a folder without one, expected a safetensors file"),
        ("beside", "this is a folder without one, expected a safetensors file"),
        ("nowhere.safetensors", "No such file"),
        ("flux.toml/model", "Not a directory"),
        ("pipe", "`pipe` is not a file"),
        ("/dev/zero", "`/dev/zero` is not a file"),
    ];
    for (path, says) in cases {
        for role in ROLES {
            refuse(&tiny, &[&format!("--{role}={path}")], 4, &[&format!("cannot load `{path}`"), says]);
        }
        tiny.forge(&["inspect", path]).refused(4, &[says]);
    }
    refuse(&tiny, &["--folder", "empty"], 4, &["cannot load `empty/"]);
    refuse(&tiny, &["--folder", "flux.toml"], 4, &["cannot load `flux.toml/", "Not a directory"]);
}

// Files that are well-formed and wrong.

#[test]
fn a_file_in_anothers_place_is_called_by_its_name() {
    let called = [
        ("transformer", "a Flux transformer"),
        ("clip", "a CLIP text encoder"),
        ("t5", "a T5 encoder"),
        ("vae", "an autoencoder"),
    ];
    let tiny = Tiny::quick();
    for (place, expected) in called {
        for (role, found) in called.into_iter().filter(|(role, _)| *role != place) {
            let file = tiny.role(role).display().to_string();
            let says = format!("this is {found}, expected {expected}");
            refuse(&tiny, &[&format!("--{place}"), &file], 4, &[&says, "hint: `forge inspect` lists"]);
        }
    }
    let loras =
        ["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", "double_blocks.0.img_attn.qkv.lora_A.weight"];
    for name in loras {
        tiny.write("lora.safetensors", Tensors(vec![]).zeros(name, "F16", &[4, 4]).bytes());
        for (place, expected) in called {
            let says = format!("this is a LoRA, expected {expected}");
            refuse(&tiny, &[&format!("--{place}"), "lora.safetensors"], 4, &[&says]);
        }
        assert!(tiny.forge(&["inspect", "lora.safetensors"]).done().out.contains("role        a LoRA"));
    }
    let quantised =
        Tensors::of(&tiny.role("transformer")).zeros("double_blocks.0.img_attn.qkv.weight", "F8_E4M3", &[192, 64]);
    tiny.write("fp8.safetensors", quantised.bytes());
    refuse(&tiny, &["--transformer", "fp8.safetensors"], 4, &["quantised (fp8), which is not supported yet"]);
}

#[test]
fn parts_of_different_models_do_not_fit() {
    let tiny = Tiny::quick();
    let transformer = Tensors::of(&tiny.role("transformer"));
    let cases = [
        (transformer.clone().zeros("vector_in.in_layer.weight", "F16", &[64, 32]), "the CLIP encoder's width is 64"),
        (transformer.clone().zeros("txt_in.weight", "F16", &[64, 48]), "the T5 encoder's width is 32"),
        (
            transformer
                .clone()
                .zeros("img_in.weight", "F16", &[64, 32])
                .zeros("final_layer.linear.weight", "F16", &[32, 64])
                .zeros("final_layer.linear.bias", "F16", &[32]),
            "the autoencoder's channels is 16",
        ),
    ];
    for (file, says) in cases {
        tiny.write("other.safetensors", file.bytes());
        refuse(&tiny, &["--transformer", "other.safetensors"], 4, &[says]);
    }
}

#[test]
fn a_dimension_of_nothing_is_rejected() {
    let cases: [(&str, &str, &str, &[u64]); 24] = [
        ("transformer", "img_in.weight", "F16", &[0, 64]),
        ("transformer", "img_in.weight", "F16", &[64, 0]),
        ("transformer", "img_in.weight", "F16", &[]),
        ("transformer", "txt_in.weight", "F16", &[64, 0]),
        ("transformer", "txt_in.weight", "F16", &[64, 0, 1 << 60]),
        ("transformer", "vector_in.in_layer.weight", "F16", &[64, 0]),
        ("transformer", "double_blocks.0.img_mlp.0.weight", "F16", &[0, 64]),
        ("transformer", "double_blocks.0.img_attn.norm.query_norm.scale", "F16", &[0]),
        ("transformer", "double_blocks.0.img_attn.norm.query_norm.scale", "F16", &[1]),
        ("transformer", "double_blocks.0.img_attn.norm.query_norm.scale", "F16", &[33]),
        ("transformer", "double_blocks.0.img_attn.qkv.weight", "F16", &[]),
        ("clip", "text_model.embeddings.token_embedding.weight", "F16", &[49408, 0]),
        ("clip", "text_model.embeddings.token_embedding.weight", "F16", &[0, 64]),
        ("clip", "text_model.embeddings.token_embedding.weight", "F16", &[49407, 64]),
        ("clip", "text_model.embeddings.position_embedding.weight", "F16", &[0, 64]),
        ("clip", "text_model.encoder.layers.0.mlp.fc1.weight", "F16", &[0, 64]),
        ("t5", "shared.weight", "F32", &[32128, 0]),
        ("t5", "shared.weight", "F32", &[32000, 32]),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "F32", &[32, 0]),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "F32", &[0, 2]),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "F32", &[1, 2]),
        ("t5", "encoder.block.1.layer.1.DenseReluDense.wi_0.weight", "F32", &[0, 32]),
        ("vae", "decoder.conv_in.weight", "F16", &[0, 16, 3, 3]),
        ("vae", "decoder.conv_in.weight", "F16", &[64, 0, 3, 3]),
    ];
    let tiny = Tiny::quick();
    for (role, name, dtype, shape) in cases {
        let file = Tensors::of(&tiny.role(role)).zeros(name, dtype, shape);
        tiny.write("m.safetensors", file.bytes());
        refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 4, &["cannot load `m.safetensors`"]);
        let told = tiny.forge(&["inspect", "m.safetensors"]).done();
        assert!(!told.out.contains("missing     nothing"), "{name} {shape:?} {told:?}");
    }
}

#[test]
fn an_autoencoder_whose_blocks_do_not_chain_is_rejected_before_the_first_step() {
    // given blocks that are each right in themselves, and wrong in their places
    let tiny = Tiny::quick();
    let whole = Tensors::of(&tiny.role("vae")).without(|name| name.starts_with("encoder."));
    let block = |file: Tensors, at: &str, c_in: u64, c_out: u64| {
        let vector = |file: Tensors, name: &str, c: u64| file.zeros(&format!("decoder.{at}.{name}"), "F16", &[c]);
        let norms = [("norm1", c_in), ("norm2", c_out)];
        let convs = [("conv1", c_in), ("conv2", c_out)];
        let file = norms.iter().fold(file, |file, (norm, c)| {
            vector(vector(file, &format!("{norm}.weight"), *c), &format!("{norm}.bias"), *c)
        });
        convs.iter().fold(file, |file, (conv, c)| {
            let file = file.zeros(&format!("decoder.{at}.{conv}.weight"), "F16", &[c_out, *c, 3, 3]);
            vector(file, &format!("{conv}.bias"), c_out)
        })
    };
    let cases = [
        ("mid.block_1", block(whole.clone(), "mid.block_1", 32, 32)),
        ("mid.block_1", block(whole.clone(), "mid.block_1", 64, 32)),
        ("mid.block_2", block(whole.clone(), "mid.block_2", 32, 64)),
        ("up.3.block.0", block(whole.clone(), "up.3.block.0", 32, 32)),
        ("up.2.block.1", block(whole.clone(), "up.2.block.1", 64, 64)),
        ("up.1.block.0", block(whole.clone(), "up.1.block.0", 32, 64)),
    ];
    for (place, file) in cases {
        tiny.write("vae.safetensors", file.bytes());
        // when it is drawn with, then it is rejected while it is loaded
        let ran = refuse(&tiny, &["--vae", "vae.safetensors"], 4, &["cannot load `vae.safetensors`"]);
        assert!(!ran.err.contains("step"), "{place}: {ran:?}");
    }
}

#[test]
fn an_autoencoder_of_seventy_levels_is_rejected() {
    let tiny = Tiny::quick();
    let whole = Tensors::of(&tiny.role("vae")).without(|name| name.starts_with("encoder."));
    let deep = (4..70).fold(whole, |file, level| {
        let conv = format!("decoder.up.{level}.upsample.conv");
        file.zeros(&format!("{conv}.weight"), "F16", &[64, 64, 3, 3]).zeros(&format!("{conv}.bias"), "F16", &[64])
    });
    tiny.write("vae.safetensors", deep.bytes());
    refuse(&tiny, &["--vae", "vae.safetensors"], 4, &["cannot load `vae.safetensors`"]);
    tiny.forge(&["inspect", "vae.safetensors"]).done();
}

#[test]
fn a_stack_of_blocks_with_one_left_out_is_rejected() {
    // given files whose blocks are numbered 0 and 2
    for (role, stack) in [
        ("transformer", "double_blocks."),
        ("transformer", "single_blocks."),
        ("clip", "text_model.encoder.layers."),
        ("t5", "encoder.block."),
    ] {
        let tiny = Tiny::quick();
        let file = Tensors::of(&tiny.role(role)).renamed(|n| n.replace(&format!("{stack}1."), &format!("{stack}2.")));
        tiny.write("m.safetensors", file.bytes());
        // when it is drawn with, then the missing one is named
        refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 4, &[&format!("{stack}1."), "is missing"]);
    }
}

#[test]
fn a_small_file_cannot_make_inspect_ask_for_terabytes() {
    // given a decoder of a million channels that has none of their weights
    let tiny = Tiny::quick();
    let file = Tensors::of(&tiny.role("vae")).zeros("decoder.conv_in.weight", "F16", &[1 << 20, 1, 1, 1]);
    tiny.write("vae.safetensors", file.bytes());
    // when it is inspected, then the mismatch is told
    let told = tiny.forge(&["inspect", "vae.safetensors"]).done();
    assert!(told.out.contains("has shape [1048576, 1, 1, 1]"), "{told:?}");
    refuse(&tiny, &["--vae", "vae.safetensors"], 4, &["has shape [1048576, 1, 1, 1]"]);
}

#[test]
fn a_value_that_is_not_a_number_ends_the_run_with_its_place() {
    let places = [
        ("t5", "encoder.final_layer_norm.weight", "the encoded prompt holds a value that is not a number"),
        ("clip", "text_model.final_layer_norm.bias", "the encoded prompt holds a value that is not a number"),
        ("transformer", "final_layer.linear.bias", "step 1 of 1 failed"),
        ("transformer", "double_blocks.0.img_mod.lin.bias", "step 1 of 1 failed"),
        ("vae", "decoder.conv_out.bias", "the decoded picture holds a value that is not a number"),
        ("vae", "decoder.mid.attn_1.norm.weight", "the decoded picture holds a value that is not a number"),
    ];
    let tiny = Tiny::quick();
    for (role, name, says) in places {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let file = Tensors::of(&tiny.role(role)).poisoned(name, value);
            tiny.write("m.safetensors", file.bytes());
            refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 1, &[says]);
        }
    }
}

#[test]
fn a_negative_prompt_that_is_not_a_number_ends_the_run_where_it_counts() {
    // given a T5 whose row of a token is NaN that the negative prompt has, and the prompt has not
    let tiny = Tiny::quick();
    let args = ["--prompt", "a photo of a cat", "--negative", "rain"];
    tiny.txt2img(&[&args[..], &["--cfg", "2", "--dump", "d.safetensors", "--output", "{seed}.png"]].concat()).done();
    fs::remove_file(tiny.picture()).unwrap();
    let mut dump = Tensors::of(&tiny.path("d.safetensors"));
    let mut ids = |name: &str| dump.get(name).bytes.chunks(8).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (positive, negative) = (ids("t5.ids"), ids("negative.t5.ids"));
    let id = negative.iter().find(|id| !positive.contains(id)).unwrap();
    let id = u64::from_le_bytes(id[..].try_into().unwrap()) as usize;
    let mut t5 = Tensors::of(&tiny.role("t5"));
    let table = t5.get("shared.weight");
    let row = table.bytes.len() / table.shape[0] as usize;
    table.bytes[id * row..][..row].fill(0xff);
    tiny.write("m.safetensors", t5.bytes());
    // when it counts, then the run ends there
    let args = [&args[..], &["--t5", "m.safetensors", "--cfg"]].concat();
    let says = "the encoded negative prompt holds a value that is not a number";
    refuse(&tiny, &[&args[..], &["2"]].concat(), 1, &[says]);
    // and it is not looked at where it does not
    tiny.txt2img(&[&args[..], &["1"]].concat()).done();
}

// A `config.json` beside a model.

#[test]
fn a_config_json_that_makes_no_sense_rejects_its_model() {
    let huge = usize::MAX;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("vae", b"{".to_vec(), "config.json`"),
        ("vae", b"".to_vec(), "config.json`"),
        ("vae", b"\xff\xfe".to_vec(), "config.json`"),
        ("vae", b"null".to_vec(), "config.json`"),
        ("vae", b"[]".to_vec(), "config.json`"),
        ("vae", "[".repeat(100_000).into_bytes(), "config.json`"),
        ("vae", format!(r#"{{"x":{}"#, "[".repeat(100_000)).into_bytes(), "config.json`"),
        ("vae", br#"{"norm_num_groups":"32"}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":-1}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":1e30}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":0}"#.to_vec(), "group norm"),
        ("vae", br#"{"norm_num_groups":7}"#.to_vec(), "group norm"),
        ("vae", format!(r#"{{"norm_num_groups":{huge}}}"#).into_bytes(), "group norm"),
        ("vae", br#"{"scaling_factor":0}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":-0.0}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e-300}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e300}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e999}"#.to_vec(), "config.json`"),
        ("vae", br#"{"scaling_factor":"1"}"#.to_vec(), "config.json`"),
        ("vae", br#"{"shift_factor":1e300}"#.to_vec(), "shift_factor"),
        ("vae", br#"{"shift_factor":-1e999}"#.to_vec(), "config.json`"),
        ("clip", br#"{"num_attention_heads":0}"#.to_vec(), "attention heads"),
        ("clip", br#"{"num_attention_heads":3}"#.to_vec(), "attention heads"),
        ("clip", format!(r#"{{"num_attention_heads":{huge}}}"#).into_bytes(), "attention heads"),
        ("clip", br#"{"num_attention_heads":18446744073709551616}"#.to_vec(), "config.json`"),
        ("clip", br#"{"hidden_act":"relu"}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[4,14]}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[4,14,14,0]}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[3,15,14]}"#.to_vec(), "the position axes"),
        ("transformer", br#"{"axes_dims_rope":[16,56,56]}"#.to_vec(), "the position axes"),
        ("transformer", br#"{"axes_dims_rope":[0,0,0]}"#.to_vec(), "the position axes"),
        ("transformer", format!(r#"{{"axes_dims_rope":[{0},{0},34]}}"#, huge - 1).into_bytes(), "the position axes"),
    ];
    for (role, config, says) in cases {
        // given a model with that config beside it
        let tiny = Tiny::quick();
        let model = tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        tiny.write("m/config.json", &config);
        // when it is drawn with, then it is rejected before the first step
        let ran = refuse(&tiny, &[&format!("--{role}"), model.to_str().unwrap()], 4, &[says]);
        assert!(!ran.err.contains("step "), "{ran:?}");
        assert!(ran.err.len() < 2000, "{ran:?}");
    }
}

#[test]
fn a_config_json_that_cannot_be_read_is_not_passed_over() {
    let tiny = Tiny::quick();
    let vae = tiny.write("m/model.safetensors", fs::read(tiny.role("vae")).unwrap());
    fs::create_dir(tiny.path("m/config.json")).unwrap();
    refuse(&tiny, &["--vae", vae.to_str().unwrap()], 4, &["config.json`"]);
}

#[test]
fn a_config_json_that_says_what_is_true_changes_nothing() {
    let parts = ["transformer", "text_encoder", "text_encoder_2", "vae"];
    let picture = |config: &dyn Fn(String) -> Option<String>| {
        let quick =
            Tiny::of("tiny-dev").set("sampling", "steps", 1).set("image", "width", 16).set("image", "height", 16);
        let tiny = ROLES.into_iter().zip(parts).fold(quick, |tiny, (role, part)| {
            let model = tiny.write(&format!("{role}/{role}.safetensors"), fs::read(tiny.role(role)).unwrap());
            let text = fs::read_to_string(golden("tiny-diffusers").join(part).join("config.json")).unwrap();
            if let Some(config) = config(text) {
                tiny.write(&format!("{role}/config.json"), config);
            }
            tiny.with(role, &model)
        });
        tiny.txt2img(&["--output", "a.png"]).done();
        fs::read(tiny.path("a.png")).unwrap()
    };
    let without = picture(&|_| None);
    assert!(picture(&Some) == without);
    // and one that says something else changes it
    assert!(picture(&|text| Some(text.replace("\"scaling_factor\": 0.3611", "\"scaling_factor\": 0.5"))) != without);
}

// flux.toml.

#[test]
fn a_config_that_is_wrong_is_refused_with_its_place() {
    let nested = format!("a = {}", "[".repeat(90_000));
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (b"[sampling]\nstep = 4".to_vec(), &["unknown field `step`", "hint: did you mean `steps`?", "2"]),
        (b"[promt]\npositive = \"a\"".to_vec(), &["unknown field `promt`", "hint: did you mean `prompt`?"]),
        (b"[model]\nclipp = \"a\"".to_vec(), &["unknown field `clipp`", "hint: did you mean `clip`?"]),
        (b"steps = 4".to_vec(), &["unknown field `steps`"]),
        (b"[sampling]\nsteps = \"4\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = 4.5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = -1".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = -2".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = 1.5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = \"maybe\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = [1]".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = 99999999999999999999999".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nnoise = 3".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = 4\nsteps = 5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\n[sampling]".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[image]\nwidth = true".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[image]\noutput = 7".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[prompt]\npositive = {}".to_vec(), &["config `bad.toml` is not valid"]),
        (b"model = \"flux\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[model".to_vec(), &["config `bad.toml` is not valid"]),
        (b"\0".to_vec(), &["config `bad.toml` is not valid"]),
        (nested.into_bytes(), &["config `bad.toml` is not valid"]),
        ("a.".repeat(45_000).into_bytes(), &["config `bad.toml` is not valid"]),
        (b"[prompt]\npositive = \"\xff\"".to_vec(), &["cannot read config `bad.toml`", "UTF-8"]),
        (b"".to_vec(), &["the config names no `model.transformer`", "hint: name the file"]),
        (b"[model]\ntransformer = \"t\"".to_vec(), &["the config names no `model.clip`"]),
    ];
    let tiny = Tiny::quick();
    for (config, words) in cases {
        tiny.write("bad.toml", config);
        tiny.forge(&["txt2img", "--config", "bad.toml"]).refused(2, words);
        assert_eq!(tiny.drawn().len(), 0);
    }
    fs::create_dir(tiny.path("folder")).unwrap();
    tiny.forge(&["txt2img", "--config", "folder"]).refused(2, &["cannot read config", "hint: give the config file"]);
    tiny.forge(&["txt2img", "--config", "nowhere.toml"]).refused(2, &["cannot read config", "No such file"]);
    tiny.forge(&["txt2img"]).refused(2, &["the config names no `model.transformer`"]);
}

// Values.

#[test]
fn a_value_out_of_range_is_refused_with_what_is_possible() {
    let huge = usize::MAX.to_string();
    let cases: Vec<(&str, &str, &[&str])> = vec![
        ("sampler", "eulr", &["no sampler is called `eulr`", "did you mean `euler`?"]),
        ("sampler", "", &["no sampler is called ``"]),
        ("sampler", "dpmpp_9m", &["no sampler is called `dpmpp_9m`", "`forge samplers` lists all"]),
        ("schedule", "smple", &["no schedule is called `smple`", "did you mean `simple`?"]),
        (
            "schedule",
            "turbo",
            &["`turbo` is not made for the noise levels of this model (flow)", "`simple` suits every model"],
        ),
        ("sampler", "DPM++ 2M Karas", &["no sampler is called `DPM++ 2M Karas`", "hint: did you mean"]),
        ("profile", "confy", &["no profile is called `confy`", "did you mean `comfy`?"]),
        ("cfg", "0.5", &["`sampling.cfg` is 0.5, expected 1 to 100"]),
        ("cfg", "101", &["`sampling.cfg` is 101, expected 1 to 100"]),
        ("cfg", "-1", &["`sampling.cfg` is -1, expected 1 to 100"]),
        ("cfg", "NaN", &["`sampling.cfg` is NaN, expected 1 to 100"]),
        ("cfg", "inf", &["`sampling.cfg` is inf, expected 1 to 100"]),
        ("cfg", "1e99", &["`sampling.cfg` is 1e99, expected 1 to 100"]),
        ("cfg", "much", &["invalid value 'much' for '--cfg"]),
        ("guidance", "NaN", &["`sampling.guidance` is NaN, expected 0 to 100"]),
        ("guidance", "inf", &["`sampling.guidance` is inf, expected 0 to 100"]),
        ("guidance", "100.5", &["`sampling.guidance` is 100.5, expected 0 to 100"]),
        ("steps", "0", &["expected 1 to 1000"]),
        ("steps", "1001", &["expected 1 to 1000"]),
        ("steps", &huge, &["expected 1 to 1000"]),
        ("steps", "99999999999999999999", &["expected 1 to 1000"]),
        ("width", "1000", &["width is 1000, expected a multiple of 16, nearest are 992 and 1008"]),
        ("width", "0", &["`image.width` is 0, expected "]),
        ("width", "16400", &["`image.width` is 16400, expected "]),
        ("width", &huge, &["to 16384"]),
        ("height", "8", &["`image.height` is 8, expected "]),
        ("height", &huge, &["to 16384"]),
        ("batch", "0", &["`image.batch` is 0, expected 1 to 64"]),
        ("batch", "65", &["`image.batch` is 65, expected 1 to 64"]),
        ("batch", &huge, &["expected 1 to 64"]),
        ("t5-length", "0", &["`prompt.t5_length` is 0, expected 1 to 4096"]),
        ("t5-length", &huge, &["expected 1 to 4096"]),
        ("threads", "1025", &["`device.threads` is 1025, expected 0 to 1024"]),
        ("threads", &huge, &["expected 0 to 1024"]),
        ("threads", "two", &["invalid value"]),
        ("memory", "lots", &["`device.memory` is `lots`, expected a size such as `16 GiB`"]),
        ("memory", "", &["`device.memory` is ``, expected a size such as `16 GiB`"]),
        ("memory", "16 GB", &["`device.memory` is `16 GB`, expected a size such as `16 GiB`"]),
        ("memory", "NaN", &["`device.memory` is `NaN`, expected a size such as `16 GiB`"]),
        ("memory", "-1", &["`device.memory` is `-1`, expected a size such as `16 GiB`"]),
        ("memory", "1e400", &["expected a size such as `16 GiB`"]),
        ("seed", "-2", &["`sampling.seed` is `-2`, expected `random` or 0 to 18446744073709551615"]),
        ("seed", "dice", &["`sampling.seed` is `dice`, expected `random` or 0 to 18446744073709551615"]),
        ("seed", "18446744073709551616", &["`sampling.seed`"]),
        ("backend", "gpu", &["`device.backend` is `gpu`, expected `cpu`, `cuda:N` or `vulkan:N`"]),
        ("backend", "cpu:1", &["`device.backend` is `cpu:1`, expected `cpu`, `cuda:N` or `vulkan:N`"]),
        ("backend", "cuda:99999999999999999999", &["`device.backend` is `cuda:9"]),
        ("compute", "f16", &["`device.compute` is `f16`, expected `auto`, `f32` or `bf16`"]),
        ("output", "a.jpg", &["expected a name that ends in `.png`"]),
        ("output", "", &["error: "]),
        ("output", "a/", &["expected a name that ends in `.png`"]),
        ("output", "{nope}.png", &["expected no braces but `{seed}` and `{index}`"]),
        ("output", "{seed.png", &["expected no braces but"]),
        ("output", "{{seed}}.png", &["expected no braces but"]),
    ];
    let tiny = Tiny::quick();
    for (flag, value, words) in cases {
        refuse(&tiny, &[&format!("--{flag}"), value], 2, words);
    }
    refuse(&tiny, &["--batch", "2", "--output", "a.png"], 2, &["expected `{index}` or `{seed}` in it"]);
    let ancestral = |option: &str, words: &[&str]| {
        refuse(&tiny, &["--sampler", "Euler a", "--option", option], 2, words);
    };
    ancestral("eta", &["`sampling.options` is `eta`, expected NAME=VALUE"]);
    ancestral("etta=1", &["no option is called `etta`", "did you mean `eta`?"]);
    ancestral("rho=7", &["no option is called `rho`", "there are eta, s_noise, ensd"]);
    for value in ["2", "-0.1", "", "all", "NaN", "inf", "0.5=3"] {
        ancestral(&format!("eta={value}"), &["option `eta`: expected 0 to 1, found `"]);
    }
    refuse(&tiny, &["--sampler", "lcm", "--option", "eta=1"], 2, &["the sampler and the schedule have none"]);
    for schedule in ["karras", "laplace", "exponential"] {
        let reversed = ["--schedule", schedule, "--option", "sigma_min=5"];
        refuse(&tiny, &reversed, 2, &["sigmas: expected a lowest level below the highest, found 5 to 1"]);
    }
    let noisier = ["--schedule", "karras", "--option", "sigma_max=5"];
    refuse(&tiny, &noisier, 2, &["sigmas: expected levels of at most 1, which is noise alone on a flow, found 5"]);
    let tiny = tiny.set("sampling", "sigmas", vec![1.5, 0.5, 0.0]);
    refuse(&tiny, &[], 2, &["sigmas: expected levels of at most 1", "found 1.5"]);
    let tiny = tiny.set("sampling", "sigmas", vec![0.5, 1.0, 0.0]);
    refuse(&tiny, &[], 2, &["sigmas: expected levels that descend to 0 or above, found 0.5 before 1"]);
    let tiny = Tiny::quick();
    refuse(&tiny, &["--bogus"], 2, &["unexpected argument '--bogus'"]);
    refuse(&tiny, &["--step", "4"], 2, &["unexpected argument '--step'", "--steps"]);
    refuse(&tiny, &["words"], 2, &["unexpected argument 'words'"]);
    refuse(&tiny, &["--steps"], 2, &["a value is required"]);
    tiny.forge(&["text2img"]).refused(2, &["unrecognized subcommand 'text2img'"]);
    tiny.forge(&["inspect"]).refused(2, &["required arguments were not provided"]);
    tiny.forge(&["info"]).refused(2, &["required arguments were not provided"]);
}

#[test]
fn too_little_memory_is_an_error_whose_hint_is_enough() {
    let tiny = Tiny::quick();
    for memory in ["0", "1", "1 KiB", "1.5MiB"] {
        // given too little
        let ran = refuse(&tiny, &["--memory", memory], 3, &["the model needs", "transformer", "t5", "clip", "vae"]);
        // when the hint is followed
        let (_, hint) = ran.err.split_once("memory = \"").unwrap();
        let (enough, _) = hint.split_once('"').unwrap();
        // then the picture is drawn
        let other = Tiny::quick();
        other.txt2img(&["--memory", enough]).done();
    }
}

#[test]
fn the_hint_for_memory_is_enough_for_a_model_of_any_size() {
    for channels in [40_000, 41_000, 42_000, 43_000, 44_000, 45_000, 46_000] {
        // given models whose sizes fall between the printed ones
        let tiny = Tiny::quick();
        let file = (0..2).fold(Tensors::of(&tiny.role("clip")), |file, layer| {
            let mlp = format!("text_model.encoder.layers.{layer}.mlp");
            file.zeros(&format!("{mlp}.fc1.weight"), "F16", &[channels, 64])
                .zeros(&format!("{mlp}.fc1.bias"), "F16", &[channels])
                .zeros(&format!("{mlp}.fc2.weight"), "F16", &[64, channels])
        });
        tiny.write("clip.safetensors", file.bytes());
        let ran = refuse(&tiny, &["--clip", "clip.safetensors", "--memory", "1"], 3, &["hint: set `memory"]);
        let (_, hint) = ran.err.split_once("memory = \"").unwrap();
        let (enough, _) = hint.split_once('"').unwrap();
        // when the hint is followed, then it is enough
        tiny.txt2img(&["--clip", "clip.safetensors", "--memory", enough]).done();
    }
}

// Noise, outputs and dumps.

#[test]
fn noise_that_does_not_fit_is_refused() {
    let tiny = Tiny::quick();
    let noise = |dtype: &str, shape: &[u64]| Tensors(vec![]).zeros("noise", dtype, shape);
    let cases: Vec<(Tensors, i32, &str)> = vec![
        (noise("F32", &[1, 16, 2, 3]), 2, "the given noise's shape is [1, 16, 2, 3], expected [1, 16, 2, 2]"),
        (noise("F32", &[2, 16, 2, 2]), 2, "the given noise's shape is [2, 16, 2, 2], expected [1, 16, 2, 2]"),
        (noise("F32", &[1, 4, 2, 2]), 2, "the given noise's shape"),
        (noise("F32", &[16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[1, 1, 16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("I64", &[1, 16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[1, 16, 2, 2]).poisoned("noise", f32::NAN), 1, "the starting noise holds a value that is not"),
        (noise("F32", &[1, 16, 2, 2]).renamed(|_| "nois".into()), 4, "a file without one, expected a tensor `noise`"),
        (Tensors(vec![]), 4, "a file without one, expected a tensor `noise`"),
    ];
    for (file, code, says) in cases {
        tiny.write("n.safetensors", file.bytes());
        refuse(&tiny, &["--noise", "n.safetensors"], code, &[says]);
    }
    // Shapes of nothing, whose other dimensions are too large to multiply.
    for shape in ["[0,16,2,2]", "[0,1099511627776,1099511627776,1]", "[1,0,18446744073709551615,1]"] {
        let header = format!(r#"{{"noise":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        tiny.write("n.safetensors", raw(&header, b""));
        let code = tiny.txt2img(&["--noise", "n.safetensors"]).code;
        assert!(matches!(code, Some(2 | 4)), "{shape} {code:?}");
        refuse(&tiny, &["--noise", "n.safetensors"], code.unwrap(), &["noise"]);
    }
    refuse(&tiny, &["--noise", "none.safetensors"], 4, &["cannot load `none.safetensors`"]);
    refuse(&tiny, &["--noise", "gaussian"], 2, &["`sampling.noise` is `gaussian`, expected `cpu`, `nv` or"]);
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_work() {
    let tiny = Tiny::quick();
    tiny.write("file", "");
    fs::create_dir_all(tiny.path("folder.png")).unwrap();
    fs::create_dir_all(tiny.path("folder.safetensors")).unwrap();
    fs::create_dir_all(tiny.path("1.png")).unwrap();
    let [long_png, long_dump] = [".png", ".safetensors"].map(|end| format!("{}{end}", "n".repeat(300)));
    let grows = format!("{}{{seed}}.png", "n".repeat(249));
    let cases: [(&str, &str); 12] = [
        ("output", "folder.png"),
        ("output", "file/a.png"),
        ("output", "file/b/c/a.png"),
        ("output", &long_png),
        ("output", "/proc/a.png"),
        ("output", "/dev/null/a.png"),
        ("output", "{seed}.png"), // seed 1, whose name is a folder
        ("output", &grows),       // a name that the seed makes too long
        ("dump", "folder.safetensors"),
        ("dump", "file/d.safetensors"),
        ("dump", &long_dump),
        ("dump", "/proc/d.safetensors"),
    ];
    for (flag, place) in cases {
        let seed = if place == grows { "1234567890" } else { "1" };
        let ran = refuse(&tiny, &[&format!("--{flag}"), place, "--seed", seed], 1, &["cannot write `"]);
        assert!(!ran.err.contains("load "), "found only after loading: {ran:?}");
    }
    refuse(&tiny, &["--output", "{index}.png", "--batch", "2"], 1, &["cannot write `1.png`"]);
    tiny.write("nul.toml", "[image]\noutput = \"a\\u0000.png\"");
    let nul = tiny.forge(&["txt2img", "--config", "nul.toml"]);
    assert!(matches!(nul.code, Some(1 | 2)) && !nul.err.contains("panicked"), "{nul:?}");
}

#[test]
fn folders_are_made_for_the_seed_in_their_name_and_for_no_other() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--seed", "42", "--output", "pictures/{seed}/{index}.png"]).done();
    let made: Vec<_> = fs::read_dir(tiny.path("pictures")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(made, ["42"]);
}

#[test]
fn a_picture_that_is_there_survives_a_run_that_fails() {
    let tiny = Tiny::quick();
    tiny.write("a.png", "a picture");
    let file = Tensors::of(&tiny.role("vae")).poisoned("decoder.conv_out.bias", f32::NAN);
    tiny.write("m.safetensors", file.bytes());
    tiny.txt2img(&["--vae", "m.safetensors", "--output", "a.png"]).refused(1, &["the decoded picture"]);
    assert_eq!(fs::read_to_string(tiny.path("a.png")).unwrap(), "a picture");
    assert_eq!(tiny.drawn().len(), 1);
    // and one that succeeds replaces it
    tiny.txt2img(&["--output", "a.png"]).done();
    tiny.forge(&["info", "a.png"]).done();
}

// Pictures.

#[test]
fn what_has_no_infotext_is_an_error() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--output", "a.png"]).done();
    let whole = fs::read(tiny.path("a.png")).unwrap();
    tiny.write("cut.png", &whole[..40]);
    tiny.write("text.png", "not a picture");
    tiny.write("empty.png", "");
    tiny.write("bare.png", bare());
    for (file, says) in [
        ("cut.png", "cannot read `cut.png`"),
        ("text.png", "cannot read `text.png`"),
        ("empty.png", "cannot read `empty.png`"),
        ("nowhere.png", "cannot read `nowhere.png`"),
        (".", "cannot read `.`"),
        ("bare.png", "`bare.png` has no `parameters` text"),
    ] {
        tiny.forge(&["info", file]).refused(1, &[says]);
        tiny.forge(&["info", "--json", file]).json();
    }
}

#[test]
fn a_text_that_unpacks_to_gigabytes_is_an_error() {
    // given a picture whose text is 64 MiB of one letter, compressed
    let tiny = Tiny::quick();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    let mut text = png::text_metadata::ITXtChunk::new("parameters", "a".repeat(64 << 20));
    text.compressed = true;
    text.compress_text().unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_text_chunk(&text).unwrap();
    writer.write_image_data(&[0; 3]).unwrap();
    writer.finish().unwrap();
    tiny.write("bomb.png", &bytes);
    // when it is read, then it is refused
    tiny.forge(&["info", "bomb.png"]).refused(1, &["cannot read `bomb.png`"]);
}

/// A picture of one pixel and no text.
fn bare() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&[0; 3])).expect("a Vec takes every byte");
    bytes
}

// Folders of shards.

#[test]
fn a_folder_with_a_shard_missing_or_twice_is_rejected() {
    let tiny = Tiny::of("tiny-dev");
    let part = golden("tiny-diffusers/transformer");
    let copy = |name: &str, to: &str| {
        tiny.write(&format!("t/{to}"), fs::read(part.join(name)).unwrap());
    };
    let [first, second] = ["1", "2"].map(|i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors"));
    for (present, absent) in [(&first, &second), (&second, &first)] {
        copy(present, present);
        let _ = fs::remove_file(tiny.path("t").join(absent));
        refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
    }
    copy(&first, &first);
    copy("config.json", "config.json");
    copy(&first, "diffusion_pytorch_model-00001-of-00001.safetensors");
    refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
}

#[test]
fn a_folder_whose_config_counts_other_blocks_is_rejected() {
    // given a folder in which the last block's tensors are in no shard
    let tiny = Tiny::of("tiny-dev");
    let part = golden("tiny-diffusers/transformer");
    for i in ["1", "2"] {
        let name = format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors");
        let shard = Tensors::of(&part.join(&name)).without(|n| n.starts_with("single_transformer_blocks.1."));
        tiny.write(&format!("t/{name}"), shard.bytes());
    }
    tiny.write("t/config.json", fs::read(part.join("config.json")).unwrap());
    // when it is drawn with, then it is rejected
    refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
}

#[test]
fn the_error_of_every_kind_has_its_documented_exit_code() {
    let tiny = Tiny::quick();
    let codes = [
        (tiny.txt2img(&[]).code, 0),
        (tiny.txt2img(&["--output", "/dev/null/a.png"]).code, 1),
        (tiny.txt2img(&["--steps", "0"]).code, 2),
        (tiny.txt2img(&["--memory", "0"]).code, 3),
        (tiny.txt2img(&["--vae", "/dev/null"]).code, 4),
    ];
    for (found, expected) in codes {
        assert_eq!(found, Some(expected));
    }
    // and help names them
    let help = tiny.forge(&["--help"]).done().out;
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let documented = "Exit codes: 0 done, 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected, 130 interrupted.";
    assert!(words.contains(documented), "{words}");
}
