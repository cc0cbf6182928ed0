//! Quantised files draw what the same values draw that are stored as floats.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use forge::core_tensor::{
    WeightSource,
    safetensors::{Safetensors, Values, write},
};
use quant::Gguf;
use serde_json::json;

use crate::tiny::{
    Entry, Ran, Tensors, Tiny,
    gguf::{Kind, floats, gguf},
    golden,
};

/// Least peak signal-to-noise ratio of a picture that is drawn by products of integers, in decibels, against one by those of f32: with inputs
/// of 15 bits, and with those of eight.
const INTEGERS_DB: [f64; 2] = [75.0, 40.0];

/// Every value of a source, as floats in a safetensors file.
fn in_floats(source: &dyn WeightSource) -> Vec<u8> {
    let floats = |name: &str| {
        let stored = source.read(name).unwrap();
        (name.to_owned(), stored.shape().to_vec(), Values::F32(stored.to_f32().unwrap()))
    };
    let tensors: Vec<_> = source.manifest().names().map(floats).collect();
    let mut bytes = Vec::new();
    write(&mut bytes, &tensors).unwrap();
    bytes
}

/// The pixels of a picture, without what its file says of the model's name.
fn picture(tiny: &Tiny, args: &[&str]) -> Vec<u8> {
    tiny.forge(&[args, &["--output", "a.png", "--dump", "a.safetensors"]].concat()).done();
    let dump = Safetensors::open(&tiny.path("a.safetensors")).unwrap();
    dump.read("image").unwrap().to_bytes()
}

#[test]
fn a_checkpoint_of_stable_diffusion_in_gguf_draws_what_its_values_draw() {
    // given a checkpoint whose matrices and convolutions are in blocks, with the names of the release, as stable-diffusion.cpp
    // keeps them
    let tiny = Tiny::quick();
    let tensors = floats(&Tensors::of(&golden("sd-1/model.safetensors")));
    let in_blocks = |name: &str, shape: &[u64]| {
        let is_large = shape.len() > 1 && shape.iter().product::<u64>().is_multiple_of(32);
        let is_table = name.contains("embedding");
        if is_large && (!is_table || shape[1].is_multiple_of(32)) { Kind::Q8_0 } else { Kind::F32 }
    };
    let file = tiny.write("sd.gguf", gguf(&tensors, in_blocks));
    tiny.write("sd.safetensors", in_floats(&Gguf::open(&file).unwrap()));
    let config = golden("sd-1/case.toml").display().to_string();
    let draw = |model: &str| {
        let files = ["txt2img", "--config", &config, "--checkpoint", model, "--steps", "2", "--compute", "f32"];
        picture(&tiny, &files)
    };
    // when pictures are drawn with it and with its values, then they are the same
    assert!(draw("sd.gguf") == draw("sd.safetensors"));
    let told = &tiny.forge(&["inspect", "--json", "sd.gguf"]).done().json()[0];
    assert_eq!((&told["quantised"], &told["missing"]), (&json!(null), &json!([])));
    assert!(told["dtypes"]["Q8_0"].as_u64() > told["dtypes"]["F32"].as_u64(), "{told}");
}

#[test]
fn a_transformer_under_diffusers_names_and_a_prefix_draws_from_gguf_too() {
    let tiny = Tiny::quick();
    let expected = |file: &str| picture(&tiny, &["txt2img", "--config", "flux.toml", "--transformer", file]);
    let blocks = |_: &str, shape: &[u64]| if shape.len() == 2 { Kind::Q8_0 } else { Kind::F32 };
    let folder = golden("tiny-diffusers/transformer");
    let parts = ["00001", "00002"].map(|i| folder.join(format!("diffusion_pytorch_model-{i}-of-00002.safetensors")));
    let diffusers: Vec<_> = parts.iter().flat_map(|part| floats(&Tensors::of(part))).collect();
    let mut prefixed = floats(&Tensors::of(&tiny.role("transformer")));
    prefixed.iter_mut().for_each(|(name, ..)| name.insert_str(0, "model.diffusion_model."));
    for (name, tensors) in [("diffusers", diffusers), ("prefixed", prefixed)] {
        let file = tiny.write(&format!("{name}.gguf"), gguf(&tensors, blocks));
        tiny.write(&format!("{name}.safetensors"), in_floats(&Gguf::open(&file).unwrap()));
        assert!(expected(&format!("{name}.gguf")) == expected(&format!("{name}.safetensors")), "{name}");
    }
}

/// The bytes of values in E4M3, each the nearest that there is, and their values.
fn e4m3(values: &[f32], scale: f32) -> (Vec<u8>, Vec<f32>) {
    let table = fixtures::Golden::open("fp8/values.safetensors").floats("float8_e4m3fn.values");
    let off = |byte: &usize, value: f32| (table[*byte] - value).abs();
    let nearest = |value: &f32| {
        let finite = (0..256).filter(|byte| table[*byte].is_finite());
        finite.min_by(|a, b| off(a, value / scale).total_cmp(&off(b, value / scale))).unwrap()
    };
    let bytes: Vec<usize> = values.iter().map(nearest).collect();
    (bytes.iter().map(|&byte| byte as u8).collect(), bytes.iter().map(|&byte| table[byte] * scale).collect())
}

/// A transformer of tiny-schnell whose first matrix of each block is in E4M3, and the same in floats.
fn in_fp8(tiny: &Tiny, scale: f32) -> [Tensors; 2] {
    let whole = Tensors::of(&tiny.role("transformer"));
    let [mut bytes, mut plain] = [whole.clone(), whole.clone()];
    for (at, (name, shape, values)) in floats(&whole).into_iter().enumerate() {
        let is_fp8 = name.ends_with("attn.proj.weight") || name.ends_with("linear2.weight") || name == "img_in.bias";
        if is_fp8 {
            let (stored, values) = e4m3(&values, if shape.len() == 1 { 1.0 } else { scale });
            bytes.0[at] = Entry { dtype: "F8_E4M3".into(), bytes: stored, ..whole.0[at].clone() };
            let values = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            plain.0[at] = Entry { dtype: "F32".into(), bytes: values, ..whole.0[at].clone() };
        }
    }
    [bytes, plain]
}

/// Draws with a transformer.
fn drawn(tiny: &Tiny, name: &str, file: &Tensors) -> Vec<u8> {
    tiny.write(name, file.bytes());
    picture(tiny, &["txt2img", "--config", "flux.toml", "--transformer", name])
}

fn with_scales(mut file: Tensors, spelling: &str, scale: f32) -> Tensors {
    let matrices: Vec<String> = file
        .0
        .iter()
        .filter(|entry| entry.dtype == "F8_E4M3" && entry.shape.len() == 2)
        .map(|entry| entry.name.replace(".weight", &format!(".{spelling}")))
        .collect();
    let scale = |name| Entry { name, dtype: "F32".into(), shape: vec![], bytes: scale.to_le_bytes().to_vec() };
    file.0.extend(matrices.into_iter().map(scale));
    file
}

#[test]
fn floats_of_eight_bits_draw_what_their_values_draw_with_and_without_scales() {
    let tiny = Tiny::quick();
    let [plain, values] = in_fp8(&tiny, 1.0);
    assert!(drawn(&tiny, "fp8.safetensors", &plain) == drawn(&tiny, "f32.safetensors", &values));
    let [scaled, values] = in_fp8(&tiny, 0.001);
    let expected = drawn(&tiny, "f32.safetensors", &values);
    for spelling in ["scale_weight", "weight_scale"] {
        let file = with_scales(scaled.clone(), spelling, 0.001).zeros("scaled_fp8", "F8_E4M3", &[0]);
        assert!(drawn(&tiny, "fp8.safetensors", &file) == expected, "{spelling}");
    }
    // and all in one file, where each part is judged by its own tensors
    let mut all = with_scales(scaled, "weight_scale", 0.001).renamed(|name| format!("model.diffusion_model.{name}"));
    for (role, prefix) in [("clip", "text_encoders.clip_l.transformer."), ("vae", "vae.")] {
        all.0.extend(Tensors::of(&tiny.role(role)).renamed(|name| format!("{prefix}{name}")).0);
    }
    tiny.write("all.safetensors", all.bytes());
    let parts = ["--transformer", "all.safetensors", "--clip", "all.safetensors", "--vae", "all.safetensors"];
    assert!(picture(&tiny, &[&["txt2img", "--config", "flux.toml"][..], &parts].concat()) == expected);
}

#[test]
fn a_matrix_of_eight_bit_floats_that_lacks_its_scale_is_refused_by_name() {
    let tiny = Tiny::quick();
    let refused = |file: &Tensors, words: &[&str]| -> Ran {
        tiny.write("m.safetensors", file.bytes());
        tiny.txt2img(&["--transformer", "m.safetensors"]).refused(4, words)
    };
    let [plain, _] = in_fp8(&tiny, 1.0);
    let first = "tensor `double_blocks.0.img_attn.proj.weight` is of eight-bit floats and lacks its scale";
    refused(&plain.clone().zeros("scaled_fp8", "F8_E4M3", &[2]), &[first]);
    refused(&plain.clone().zeros("t5xxl.scaled_fp8", "F8_E4M3", &[2]), &[first]);
    let scaled = with_scales(plain, "weight_scale", 0.5);
    let one_less = scaled.without(|name| name == "double_blocks.1.txt_attn.proj.weight_scale");
    refused(&one_less, &["tensor `double_blocks.1.txt_attn.proj.weight` is of eight-bit floats and lacks its scale"]);
    tiny.write("m.safetensors", one_less.bytes());
    let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
    assert!(told["missing"][0].as_str().unwrap().contains("lacks its scale"), "{told}");
    assert_eq!(told["parts"][0]["usable"], false);
}

#[test]
fn a_convolution_of_eight_bit_floats_lacks_its_scale_where_others_have_one() {
    let tiny = Tiny::quick();
    let vae = Tensors::of(&tiny.role("vae"));
    let convolutions: Vec<_> =
        vae.0.iter().filter(|entry| entry.name.starts_with("decoder.") && entry.shape.len() == 4).cloned().collect();
    let in_fp8 = |scaled: usize| {
        convolutions.iter().enumerate().fold(vae.clone(), |file, (i, entry)| {
            let file = file.zeros(&entry.name, "F8_E4M3", &entry.shape);
            if i < scaled { file.zeros(&format!("{}_scale", entry.name), "F32", &[]) } else { file }
        })
    };
    // given one that has none
    tiny.write("m.safetensors", in_fp8(convolutions.len() - 1).bytes());
    let says = format!("tensor `{}` is of eight-bit floats and lacks its scale", convolutions.last().unwrap().name);
    tiny.txt2img(&["--vae", "m.safetensors"]).refused(4, &[&says]);
    // and none that has any, even where a marker speaks of matrices
    tiny.write("m.safetensors", in_fp8(0).zeros("scaled_fp8", "F8_E4M3", &[2]).bytes());
    let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
    assert_eq!(told["missing"], serde_json::json!([]), "{told}");
}

#[test]
fn what_is_quantised_and_lacks_a_part_is_refused_alike_by_whoever_reads_it() {
    let tiny = Tiny::quick();
    let matrix = "double_blocks.0.img_attn.proj.weight";
    let beside = |part: &str| matrix.replace("weight", part);
    let [plain, _] = in_fp8(&tiny, 1.0);
    let scaled = || with_scales(plain.clone(), "weight_scale", 0.5);
    tiny.forge(&["convert", &tiny.role("transformer").display().to_string(), "nf4.safetensors", "--type", "nf4"])
        .done();
    let nf4 = || Tensors::of(&tiny.path("nf4.safetensors"));
    let int8 = |scales: &[&str]| {
        let matrices = [matrix, "double_blocks.1.img_attn.proj.weight"];
        let file =
            matrices.iter().fold(Tensors::of(&tiny.role("transformer")), |f, name| f.zeros(name, "I8", &[64, 64]));
        scales.iter().fold(file, |file, name| file.zeros(name, "F32", &[64]))
    };
    let comfy = |file: Tensors, text: &str| {
        let (name, bytes) = (beside("comfy_quant"), text.as_bytes().to_vec());
        let mut file = file;
        file.0.push(Entry { name, dtype: "U8".into(), shape: vec![bytes.len() as u64], bytes });
        file
    };
    let state = format!("{matrix}.quant_state.bitsandbytes__nf4");
    let cases = [
        (
            scaled().without(|name| name == beside("weight_scale")),
            "is of eight-bit floats and lacks its scale".to_owned(),
        ),
        (plain.clone().zeros("scaled_fp8", "F8_E4M3", &[0]), "is of eight-bit floats and lacks its scale".into()),
        (
            scaled().zeros(&beside("weight_scale"), "I8", &[1]),
            format!("`{}` is [1] of I8, expected floats", beside("weight_scale")),
        ),
        (scaled().zeros(&beside("scale_weight"), "F32", &[1]), "it has two scales".into()),
        (comfy(scaled(), r#"{"format": "mxfp8"}"#), "says that its format is `mxfp8`".into()),
        (int8(&[&beside("SCB")]), "`double_blocks.1.img_attn.proj.SCB` is missing".into()),
        (int8(&[]), "2 tensors of a Flux transformer are quantised (int8) without scales".into()),
        (nf4().without(|name| name == state), format!("`{matrix}.absmax` is there, and of `{state}`")),
        (nf4().without(|name| name == format!("{matrix}.absmax")), format!("`{matrix}.absmax` is missing")),
        (nf4().without(|name| name == matrix), format!("`{matrix}` is missing")),
    ];
    for (file, says) in cases {
        tiny.write("m.safetensors", file.bytes());
        tiny.txt2img(&["--transformer", "m.safetensors"]).refused(4, &[&says]);
        let ran = tiny.forge(&["convert", "m.safetensors", "o.gguf", "--type", "q8_0"]);
        ran.refused(4, &["cannot load `m.safetensors`", &says]);
        assert!(!tiny.path("o.gguf").exists());
        let told = tiny.forge(&["inspect", "m.safetensors"]);
        let told = format!("{}{}", told.out, told.err);
        let says = says.replace("of a Flux transformer ", "");
        assert!(told.contains(&says) && !told.contains("not supported yet"), "{says}: {told}");
    }
}

#[test]
fn a_file_without_tensors_is_told_for_that() {
    let tiny = Tiny::quick();
    tiny.write("m.gguf", gguf(&[], |_, _| Kind::F32));
    tiny.write("m.safetensors", Tensors(vec![]).bytes());
    for file in ["m.gguf", "m.safetensors"] {
        let told = tiny.forge(&["inspect", file]);
        assert!(format!("{}{}", told.out, told.err).contains("the file holds no tensor"), "{told:?}");
    }
}

#[test]
fn a_t5_in_gguf_is_told_from_its_relatives() {
    let tiny = Tiny::quick();
    let t5 = |tensors: &[(&str, [u64; 2])]| {
        let tensor = |(name, shape): &(&str, [u64; 2])| {
            ((*name).to_owned(), shape.to_vec(), vec![0.5; (shape[0] * shape[1]) as usize])
        };
        gguf(&tensors.iter().map(tensor).collect::<Vec<_>>(), |_, _| Kind::F32)
    };
    let q = ("enc.blk.0.attn_q.weight", [2, 2]);
    let cases = [
        (t5(&[q, ("enc.blk.1.attn_rel_b.weight", [2, 2])]), "uMT5"),
        (t5(&[q, ("token_embd.weight", [256_384, 2])]), "uMT5"),
        (t5(&[q, ("token_embd.weight", [250_112, 2])]), "mT5"),
    ];
    for (file, name) in cases {
        tiny.write("t5.gguf", file);
        tiny.txt2img(&["--t5", "t5.gguf"]).refused(4, &[name]);
    }
    let file = golden("tiny-gguf/t5.gguf").display().to_string();
    let told = &tiny.forge(&["inspect", "--json", &file]).done().json()[0];
    assert_eq!((&told["role"], &told["missing"], &told["unread"]), (&json!("a T5 encoder"), &json!([]), &json!([])));
}

#[test]
fn a_clip_in_gguf_draws_what_its_values_draw_and_its_vision_half_is_refused() {
    // given the CLIP of tiny-dev under the names of clip.cpp, whose `ffn_up` is now the one of its two matrices and now the other
    let tiny = Tiny::quick();
    let clip = floats(&Tensors::of(&tiny.role("clip")));
    let draw = |file: &str| picture(&tiny, &["txt2img", "--config", "flux.toml", "--clip", file]);
    let all: Vec<_> = clip.iter().filter(|(name, ..)| name != "text_model.embeddings.position_ids").cloned().collect();
    tiny.write("clip.safetensors", {
        let tensors: Vec<_> = (all.iter().cloned())
            .map(|(name, shape, values)| (name, shape.iter().map(|&n| n as usize).collect(), Values::F32(values)))
            .collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &tensors).unwrap();
        bytes
    });
    let expected = draw("clip.safetensors");
    let under_names = |fc1: &str, fc2: &str| -> Vec<_> {
        let renamed = |name: &str| {
            let pairs =
                [("text_model.", "t."), ("encoder.layers.", "blk."), ("embeddings.", ""), ("embedding", "embd")];
            let more =
                [("self_attn.", "attn_"), ("_proj.", "."), ("final_layer_norm", "post_ln"), ("layer_norm", "ln")];
            let mlp = [("mlp.fc1", fc1), ("mlp.fc2", fc2)];
            pairs.iter().chain(&more).chain(&mlp).fold(name.to_owned(), |name, (a, b)| name.replace(a, b))
        };
        all.iter().map(|(name, shape, values)| (renamed(name), shape.clone(), values.clone())).collect()
    };
    // when pictures are drawn with either, then they are those of its values
    for (fc1, fc2) in [("ffn_down", "ffn_up"), ("ffn_up", "ffn_down")] {
        tiny.write("clip.gguf", gguf(&under_names(fc1, fc2), |_, _| Kind::F32));
        assert!(draw("clip.gguf") == expected, "{fc1}");
        let told = &tiny.forge(&["inspect", "--json", "clip.gguf"]).done().json()[0];
        let found = (&told["role"], &told["missing"], &told["unread"]);
        assert_eq!(found, (&json!("a CLIP text encoder"), &json!([]), &json!([])), "{fc1}");
    }
    // and the half that looks at pictures is told
    let vision = [("v.blk.0.attn_q.weight".to_owned(), vec![2, 2], vec![0.5; 4])];
    tiny.write("vision.gguf", gguf(&vision, |_, _| Kind::F32));
    tiny.txt2img(&["--clip", "vision.gguf"]).refused(4, &["the vision half of a CLIP"]);
}

/// A text as GGUF has it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A GGUF file with the pieces of a tokenizer in its metadata.
fn with_pieces(file: &[u8], pieces: &[&str]) -> Vec<u8> {
    let [kind_of_text, kind_of_list] = [8u32, 9].map(u32::to_le_bytes);
    let mut list = [&kind_of_list[..], &kind_of_text, &(pieces.len() as u64).to_le_bytes()].concat();
    pieces.iter().for_each(|piece| list.extend(text(piece)));
    with_entries(file, &[("tokenizer.ggml.tokens", list)])
}

/// A GGUF file with more metadata: keys, and values behind the numbers of their types.
fn with_entries(file: &[u8], more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let kind_of_text = 8u32.to_le_bytes();
    let mut entries: Vec<u8> = more.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    // Tensors stay where they are behind the header if that grows by as much as they are aligned to.
    entries.extend([&text("filler")[..], &kind_of_text].concat());
    let filled = (entries.len() + 8).next_multiple_of(32) - entries.len() - 8;
    entries.extend(text(&" ".repeat(filled)));
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 1 + more.len() as u64;
    [&file[..16], &count.to_le_bytes(), &entries, &file[24..]].concat()
}

#[test]
fn a_t5_whose_file_brings_another_vocabulary_is_refused_where_it_differs() {
    let tiny = Tiny::quick();
    let file = std::fs::read(golden("tiny-gguf/t5.gguf")).unwrap();
    let refused = |pieces: &[&str], words: &str| {
        tiny.write("t5.gguf", with_pieces(&file, pieces));
        tiny.txt2img(&["--t5", "t5.gguf"]).refused(4, &["t5.gguf", words]);
    };
    refused(&[], "piece 0 of the file's vocabulary is missing, T5's is `<pad>`");
    refused(&["<pad>", "</s>"], "piece 2 of the file's vocabulary is missing, T5's is `<unk>`");
    refused(&["<pad>", "<eos>"], "piece 1 of the file's vocabulary is `<eos>`, T5's is `</s>`");
    // A number in a piece is no index of anything (llama.cpp#25969).
    refused(&["<pad>", "</s>", "<unk>", "<0x-1>"], "piece 3 of the file's vocabulary is `<0x-1>`, T5's is");
    // Of numbers none is a piece.
    let [kind_of_list, kind_of_number] = [9u32, 4].map(u32::to_le_bytes);
    let numbers = [&kind_of_list[..], &kind_of_number, &1u64.to_le_bytes(), &7u32.to_le_bytes()].concat();
    tiny.write("t5.gguf", with_entries(&file, &[("tokenizer.ggml.tokens", numbers)]));
    tiny.txt2img(&["--t5", "t5.gguf"]).refused(4, &["t5.gguf", "piece 0 of the file's vocabulary is missing"]);
}

#[test]
fn what_a_file_says_of_its_size_is_not_believed() {
    // given a T5 whose metadata claims other sizes than its tensors have, as in llama.cpp#25821
    let tiny = Tiny::quick();
    let file = std::fs::read(golden("tiny-gguf/t5.gguf")).unwrap();
    let kind_of_number = 4u32.to_le_bytes();
    let number = |number: u32| [kind_of_number, number.to_le_bytes()].concat();
    let sizes = ["block_count", "embedding_length", "attention.head_count", "feed_forward_length", "context_length"];
    let draw = || picture(&tiny, &["txt2img", "--config", "flux.toml", "--t5", "t5.gguf"]);
    tiny.write("t5.gguf", &file);
    let expected = draw();
    // when it is drawn with, then the picture is that of its tensors
    for claimed in [0, 1, i32::MAX as u32, u32::MAX] {
        let keys = sizes.map(|size| format!("t5encoder.{size}"));
        let entries: Vec<_> = keys.iter().map(|key| (key.as_str(), number(claimed))).collect();
        tiny.write("t5.gguf", with_entries(&file, &entries));
        assert!(draw() == expected, "{claimed}");
    }
}

#[test]
fn a_file_is_read_as_what_it_is_and_not_as_what_it_is_called() {
    let tiny = Tiny::quick();
    let file = std::fs::read(golden("tiny-gguf/t5.gguf")).unwrap();
    for name in ["t5.gguf", "t5.GGUF", "t5.safetensors", "t5.SAFETENSORS", "t5.ckpt", "t5"] {
        tiny.write(name, &file);
        let told = &tiny.forge(&["inspect", "--json", name]).done().json()[0];
        assert_eq!((&told["role"], &told["missing"]), (&json!("a T5 encoder"), &json!([])), "{name}");
    }
}

#[test]
fn products_of_integers_draw_what_f32_draws_with_the_same_weights() {
    // given the trained demo model in a format, when the same picture is drawn with its weights as integers and as f32
    let tiny = Tiny::quick();
    let config = fixtures::path("../flux.toml").display().to_string();
    let demo = fixtures::path("models/flux-demo.safetensors").display().to_string();
    for (kind, file) in
        [("q8_0", "m.gguf"), ("q4_k", "m.gguf"), ("q6_k", "m.gguf"), ("iq4_nl", "m.gguf"), ("nf4", "m.safetensors")]
    {
        tiny.forge(&["convert", &demo, file, "--type", kind, "--force"]).done();
        let [f32, integers] = ["f32", "integers"].map(|compute| -> Vec<f32> {
            let how = ["--steps", "4", "--compute", compute];
            let bytes = picture(&tiny, &[&["txt2img", "--config", &config, "--transformer", file][..], &how].concat());
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        });
        // then they are the same to the eye, and not by chance the same path
        let db = fixtures::psnr(&integers, &f32);
        assert!(integers != f32, "{kind}");
        let [words, bytes] = INTEGERS_DB;
        let least = if kind == "q4_k" || kernels::Isa::best().has_bf16() { bytes } else { words };
        assert!(db >= least, "{kind}: {db:.1} dB");
    }
}
