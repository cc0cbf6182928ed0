//! Model files that are well-formed and wrong.

use std::fs;

use crate::{
    refuse,
    tiny::{Tensors, Tiny},
};

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
        Tensors::of(&tiny.role("transformer")).zeros("double_blocks.0.img_attn.qkv.weight", "I8", &[192, 64]);
    tiny.write("int8.safetensors", quantised.bytes());
    refuse(&tiny, &["--transformer", "int8.safetensors"], 4, &["is quantised (int8) without scales"]);
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
        ("transformer", "txt_in.weight", "F16", &[64, 0, 1 << 40]),
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
            let cause = format!("`{name}` in `m.safetensors` holds NaN or infinity");
            refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 1, &[says, &cause]);
        }
    }
}

#[test]
fn a_scale_that_is_not_a_number_ends_the_run_with_its_weight() {
    // given a matrix whose numbers are all right, and a scale beside it that is not
    let tiny = Tiny::quick();
    let name = "double_blocks.0.img_attn.proj.weight";
    for value in [f32::NAN, f32::INFINITY] {
        let [rows, width] = [64, 64];
        let whole = || Tensors::of(&tiny.role("transformer"));
        let ones = |dtype: &str| {
            let mut file = whole().zeros(name, dtype, &[rows, width]);
            file.get(name).bytes.fill(0x38);
            file
        };
        let scaled = |file: Tensors, scale: &str, shape: &[u64]| {
            let mut file = file.zeros(scale, "F32", shape);
            file.get(scale).bytes[..4].copy_from_slice(&value.to_le_bytes());
            file
        };
        let files = [
            scaled(ones("F8_E4M3"), "double_blocks.0.img_attn.proj.scale_weight", &[]),
            scaled(ones("F8_E5M2"), "double_blocks.0.img_attn.proj.weight_scale", &[rows]),
            scaled(ones("I8"), "double_blocks.0.img_attn.proj.SCB", &[rows]),
        ];
        // when it is drawn with or converted, then the matrix is named
        for file in files {
            tiny.write("m.safetensors", file.bytes());
            let cause = format!("`{name}` in `m.safetensors` holds NaN or infinity");
            refuse(&tiny, &["--transformer", "m.safetensors"], 1, &["step 1 of 1 failed", &cause]);
            let convert = ["convert", "m.safetensors", "m.gguf", "--type", "q8_0"];
            tiny.forge(&convert).refused(1, &[&cause]);
        }
        // and of four bits, whose scales are many
        tiny.forge(&[
            "convert",
            &tiny.role("transformer").display().to_string(),
            "n.safetensors",
            "--type",
            "nf4",
            "--force",
        ])
        .done();
        let mut file = Tensors::of(&tiny.path("n.safetensors"));
        file.get(&format!("{name}.absmax")).bytes[60..64].copy_from_slice(&value.to_le_bytes());
        tiny.write("n.safetensors", file.bytes());
        let cause = format!("`{name}` in `n.safetensors` holds NaN or infinity");
        refuse(&tiny, &["--transformer", "n.safetensors"], 1, &["step 1 of 1 failed", &cause]);
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
