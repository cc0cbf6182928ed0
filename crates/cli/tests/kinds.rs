//! What is in a model's place and is another model, quantised, or no model at all, is called by its name.

mod tiny;

use std::{fs, os::unix::fs::FileExt, process::Command};

use core_tensor::WeightSource;
use serde_json::{Value, json};

use crate::tiny::{Entry, ROLES, Tensors, Tiny};

/// A file of these tensors, all zeros.
fn zeros(tensors: &[(&str, &[u64])]) -> Tensors {
    tensors.iter().fold(Tensors(vec![]), |file, (name, shape)| file.zeros(name, "F16", shape))
}

// Other models.

#[test]
fn another_model_in_a_files_place_is_named() {
    let t5_q: (&str, &[u64]) = ("encoder.block.0.layer.0.SelfAttention.q.weight", &[4, 4]);
    let flux = |input: u64| {
        zeros(&[
            ("img_in.weight", &[8, input]),
            ("double_blocks.0.img_attn.qkv.weight", &[24, 8]),
            ("final_layer.linear.weight", &[64, 8]),
        ])
    };
    let one = |name: &str| zeros(&[(name, &[2, 2])]);
    let cases: Vec<(&str, Tensors, &str)> = vec![
        ("transformer", flux(68), "a Flux that takes another picture"),
        (
            "transformer",
            {
                let mut file = flux(64);
                file.0.extend(one("distilled_guidance_layer.norms.0.scale").0);
                file
            },
            "a Chroma transformer",
        ),
        (
            "transformer",
            {
                let mut file = flux(64);
                file.0.extend(one("double_stream_modulation_img.lin.weight").0);
                file
            },
            "a Flux.2 transformer",
        ),
        (
            "transformer",
            {
                let mut file = flux(64);
                file.0.extend(one("txt_in.individual_token_refiner.blocks.0.norm1.weight").0);
                file
            },
            "a HunyuanVideo transformer",
        ),
        (
            "transformer",
            {
                let mut file = flux(64);
                file.0.extend(one("controlnet_blocks.0.weight").0);
                file
            },
            "a ControlNet",
        ),
        ("transformer", one("joint_blocks.0.x_block.attn.qkv.weight"), "a Stable Diffusion 3 transformer"),
        ("transformer", one("joint_blocks.0.x_block.attn.ln_q.weight"), "a Stable Diffusion 3.5 transformer"),
        (
            "transformer",
            zeros(&[("transformer_blocks.0.attn.add_q_proj.weight", &[2, 2]), ("pos_embed.proj.weight", &[2, 2])]),
            "a Stable Diffusion 3 transformer",
        ),
        ("transformer", one("double_layers.0.attn.w1q.weight"), "an AuraFlow transformer"),
        ("transformer", one("transformer_blocks.0.img_mod.1.weight"), "a Qwen-Image transformer"),
        ("transformer", one("model.diffusion_model.head.modulation"), "a Wan video transformer"),
        ("transformer", one("t_block.1.weight"), "a PixArt transformer"),
        ("transformer", one("cap_embedder.1.weight"), "a Lumina transformer"),
        ("transformer", one("caption_projection.0.linear.weight"), "a HiDream transformer"),
        (
            "transformer",
            zeros(&[
                ("patchify_proj.weight", &[2, 2]),
                ("adaln_single.emb.timestep_embedder.linear_1.weight", &[2, 2]),
            ]),
            "an LTX video transformer",
        ),
        (
            "transformer",
            zeros(&[
                ("model.diffusion_model.input_blocks.0.0.weight", &[320, 4, 1, 1]),
                ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", &[2, 768]),
            ]),
            "a Stable Diffusion 1 UNet",
        ),
        (
            "transformer",
            zeros(&[
                ("down_blocks.0.resnets.0.time_emb_proj.weight", &[2, 2]),
                ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[2, 1024]),
            ]),
            "a Stable Diffusion 2 UNet",
        ),
        (
            "transformer",
            zeros(&[("input_blocks.0.0.weight", &[320, 4, 1, 1]), ("label_emb.0.0.weight", &[2, 2])]),
            "an SDXL UNet",
        ),
        (
            "transformer",
            zeros(&[("input_blocks.0.0.weight", &[384, 4, 1, 1]), ("label_emb.0.0.weight", &[2, 2])]),
            "the UNet of SDXL's refiner",
        ),
        (
            "t5",
            Tensors::of(&Tiny::quick().role("t5")).zeros(
                "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
                "F32",
                &[32, 2],
            ),
            "uMT5",
        ),
        ("t5", zeros(&[t5_q, ("shared.weight", &[256_384, 2])]), "uMT5"),
        ("t5", one("blocks.0.pos_embedding.embedding.weight"), "uMT5"),
        ("t5", zeros(&[t5_q, ("shared.weight", &[250_112, 2])]), "mT5"),
        ("t5", zeros(&[t5_q, ("encoder.embed_tokens.weight", &[250_112, 2])]), "mT5"),
        ("t5", zeros(&[t5_q, ("shared.weight", &[384, 2])]), "ByT5"),
        (
            "t5",
            zeros(&[
                t5_q,
                ("shared.weight", &[32128, 2]),
                ("encoder.block.0.layer.1.DenseReluDense.wi.weight", &[4, 4]),
            ]),
            "a T5 of version 1.0",
        ),
        ("t5", one("model.layers.0.self_attn.q_proj.weight"), "a language model"),
        ("clip", zeros(&[("text_model.embeddings.token_embedding.weight", &[8, 1280])]), "CLIP-G"),
        ("clip", zeros(&[("text_model.embeddings.token_embedding.weight", &[8, 1024])]), "CLIP-H"),
        (
            "clip",
            zeros(&[("transformer.resblocks.0.attn.in_proj_weight", &[9, 3]), ("token_embedding.weight", &[8, 1280])]),
            "CLIP-G",
        ),
        (
            "clip",
            zeros(&[("transformer.resblocks.0.attn.in_proj_weight", &[9, 3]), ("token_embedding.weight", &[8, 768])]),
            "a CLIP in OpenCLIP's layout",
        ),
        ("clip", one("vision_model.embeddings.patch_embedding.weight"), "the vision half of a CLIP"),
        ("clip", one("bert.embeddings.word_embeddings.weight"), "a BERT text encoder"),
        ("vae", zeros(&[("decoder.conv_in.weight", &[8, 4, 3, 3])]), "the autoencoder of Stable Diffusion 1, 2 or XL"),
        ("vae", zeros(&[("first_stage_model.decoder.conv_in.weight", &[8, 4, 3, 3])]), "whose latents have 4 channels"),
        ("vae", zeros(&[("decoder.conv_in.weight", &[8, 32, 3, 3])]), "the autoencoder of Flux.2"),
        ("vae", zeros(&[("decoder.conv_in.weight", &[8, 16, 3, 3, 3])]), "the autoencoder of a video model"),
        ("vae", zeros(&[("decoder.middle.0.residual.0.gamma", &[8, 1, 1, 1])]), "the autoencoder of Wan"),
        ("vae", one("taesd_decoder.1.weight"), "a tiny autoencoder"),
        ("vae", one("encoder.conv_in.weight"), "the encoder half of an autoencoder"),
        ("clip", zeros(&[("emb_params", &[2, 768])]), "a textual inversion"),
    ];
    let tiny = Tiny::quick();
    for (place, file, is) in cases {
        tiny.write("m.safetensors", file.bytes());
        // when it is given in its own place, then it is told what it is
        let ran = tiny.refuse(&[&format!("--{place}"), "m.safetensors"], &["this is ", is, ", expected a"]);
        assert!(!ran.err.contains("an unknown model"), "{ran:?}");
        // and so does `inspect`, which says that there is no use for it
        let told = tiny.forge(&["inspect", "m.safetensors"]).done();
        // or what it lacks, of a family that runs here
        let no_use = ["usable      no", "missing     "].iter().any(|word| told.out.contains(word));
        assert!(told.out.contains(is) && no_use, "{told:?}");
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!((&told["parts"][0]["usable"], told["parts"][0]["role"] == told["role"]), (&json!(false), true));
        // and in every other place it is refused too
        for other in ROLES.into_iter().filter(|role| *role != place) {
            tiny.refuse(&[&format!("--{other}"), "m.safetensors"], &["this is ", ", expected a"]);
        }
    }
}

/// The lists of the real checkpoints, as files without values.
#[test]
fn the_real_checkpoints_are_called_by_their_names() {
    let cases = [
        ("clip-g.sdxl.hf", "CLIP-G", true),
        ("clip-h.sd21.hf", "CLIP-H", true),
        ("clip-l.flux.hf", "a CLIP text encoder", true),
        ("clip-l.sd3.hf", "a CLIP text encoder", true),
        ("flux-ae.bfl", "an autoencoder", true),
        ("flux1-dev.bfl", "a Flux transformer", true),
        ("flux1-dev.forge-prefix", "a Flux transformer", true),
        ("flux1-dev.diffusers-transformer", "a Flux transformer", true),
        ("flux1-schnell.bfl", "a Flux transformer", true),
        ("flux1-schnell.diffusers-transformer", "a Flux transformer", true),
        ("flux1-dev.diffusers-vae", "an autoencoder", true),
        ("flux1-schnell.diffusers-vae", "an autoencoder", true),
        ("sd15.diffusers-unet", "a Stable Diffusion 1 UNet", true),
        ("sd15.ldm", "a Stable Diffusion 1 UNet", true),
        ("sd21.diffusers-unet", "a Stable Diffusion 2 UNet", true),
        ("sd21.ldm", "a Stable Diffusion 2 UNet", true),
        ("sdxl-base.ldm", "an SDXL UNet", true),
        ("sdxl-base.diffusers-unet", "an SDXL UNet", true),
        ("sdxl-refiner.ldm", "the UNet of SDXL's refiner", true),
        ("sdxl-refiner.diffusers-unet", "the UNet of SDXL's refiner", true),
        ("sd15.diffusers-vae", "the autoencoder of Stable Diffusion", true),
        ("sd3-medium.diffusers-transformer", "a Stable Diffusion 3 transformer", false),
        ("t5xxl-encoder.hf", "a T5 encoder", true),
    ];
    let tiny = Tiny::quick();
    for (list, role, usable) in cases {
        let mut header = serde_json::Map::new();
        let (mut end, mut ends) = (0, Vec::new());
        for (name, form) in fixtures::Listed::open(list).manifest().iter() {
            let offsets = [end, end + form.bytes as usize];
            let tensor = json!({"dtype": form.format.name(), "shape": form.shape, "data_offsets": offsets});
            header.insert(name.into(), tensor);
            ends.extend([end, offsets[1].saturating_sub(1)]);
            end = offsets[1];
        }
        let header = Value::Object(header).to_string();
        let path = tiny.write("m.safetensors", [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat());
        // The values are a hole but for the ends of each tensor, as one of zeros alone would be searched to its end.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let start = (8 + header.len()) as u64;
        file.set_len(start + end as u64).unwrap();
        for place in ends {
            file.write_all_at(&[0x3c], start + place as u64).unwrap();
        }
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert!(told["role"].as_str().unwrap().starts_with(role), "{list}: {told}");
        assert_eq!(told["parts"][0]["usable"], usable, "{list}");
        assert_eq!((&told["missing"], &told["unread"]), (&json!([]), &json!([])), "{list}");
    }
}

#[test]
fn quantised_files_are_named_by_their_scheme() {
    let tiny = Tiny::quick();
    let whole = || Tensors::of(&tiny.role("transformer"));
    let qkv = "double_blocks.0.img_attn.qkv.weight";
    let with = |more: &[(&str, &str)]| {
        let file = whole().zeros(qkv, "U8", &[64, 1]);
        more.iter().fold(file, |file, (name, dtype)| file.zeros(name, dtype, &[4, 1]))
    };
    let cases = [
        (with(&[("double_blocks.0.img_attn.qkv.SCB", "F32")]), "bitsandbytes int8"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_scale_2", "F32")]), "NVFP4"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_scale", "F8_E8M0")]), "MXFP4"),
        (whole().zeros(qkv, "I8", &[192, 64]), "int8"),
        (whole().zeros("double_blocks.0.img_attn.qkv.weight_scale_inv", "F32", &[1]), "scaled fp8"),
        (
            whole().zeros(qkv, "I8", &[192, 64]).zeros("double_blocks.0.img_attn.qkv.weight_scale", "F32", &[1]),
            "int8 with a scale",
        ),
        (with(&[("double_blocks.0.img_attn.qkv.zero_point", "F32")]), "SDNQ"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_packed", "U8")]), "compressed-tensors"),
        (with(&[("double_blocks.0.img_attn.qkv.W_q", "U8")]), "HQQ"),
        (with(&[("double_blocks.0.img_attn.qkv.weight:_data", "I8")]), "torchao"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_blocks", "U8")]), "MXFP4"),
        (with(&[(&format!("{qkv}.absmax"), "F32"), (&format!("{qkv}.quant_map"), "F32")]), "bitsandbytes 4-bit"),
        (
            whole().without(|name| name == qkv).zeros(&format!("{qkv}._data"), "I8", &[192, 64]).zeros(
                &format!("{qkv}._scale"),
                "F16",
                &[192, 1],
            ),
            "quanto",
        ),
        (
            zeros(&[("single_transformer_blocks.0.qkv_proj.wscales", &[4, 4])]).zeros(
                "single_transformer_blocks.0.qkv_proj.qweight",
                "I8",
                &[4, 4],
            ),
            "SVDQuant",
        ),
        (zeros(&[("a.scales", &[4, 4])]).zeros("a.qweight", "I64", &[4, 4]).zeros("a.qzeros", "I64", &[4, 4]), "AWQ"),
    ];
    for (file, scheme) in cases {
        tiny.write("m.safetensors", file.bytes());
        let ran = tiny.txt2img(&["--transformer", "m.safetensors"]);
        assert_eq!(ran.code, Some(4), "{scheme} {ran:?}");
        // Of bitsandbytes' four bits it is known what is missing.
        let says = match scheme {
            "bitsandbytes 4-bit" => format!("tensor `{qkv}` can't be read: `{qkv}.absmax` is there"),
            scheme => format!("({scheme})"),
        };
        assert!(ran.err.contains(&says) || scheme == "SVDQuant", "{scheme}: {ran:?}");
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!(told["quantised"], scheme, "{told}");
        assert!(told["missing"].as_array().unwrap().len() <= 1, "{told}");
    }
}

#[test]
fn weights_stored_as_integers_are_told_in_one_line() {
    let tiny = Tiny::quick();
    for dtype in ["U8", "BOOL", "I16"] {
        let mut file = Tensors::of(&tiny.role("transformer"));
        let mut matrices = 0;
        for Entry { name, dtype: stored, bytes, shape } in &mut file.0 {
            if name.ends_with(".weight") && shape.len() == 2 {
                *stored = dtype.into();
                let width = if dtype == "I16" { 2 } else { 1 };
                *bytes = vec![1; shape.iter().product::<u64>() as usize * width];
                matrices += 1;
            }
        }
        tiny.write("m.safetensors", file.bytes());
        let says = format!("{matrices} tensors of a Flux transformer are stored as {dtype}");
        tiny.refuse(&["--transformer", "m.safetensors"], &[&says]);
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!(told["quantised"], dtype);
        assert_eq!(told["missing"].as_array().unwrap().len(), 1, "{told}");
    }
}

// What is no model at all.

#[test]
fn what_is_no_model_is_told_for_what_it_is() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4caa\nsize 23802932552\n";
    let utf16: Vec<u8> = "\u{feff}Access denied".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut tar = vec![b'a'; 257];
    tar.extend(b"ustar\x0000");
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (b"".to_vec(), &["this is an empty file", "download the file again"]),
        (vec![0; 5000], &["this is a file of zeros", "download the file again"]),
        (lfs.into(), &["this is a git-lfs pointer", "hint: `git lfs pull`"]),
        (b"<!DOCTYPE html>\n<html>404</html>".to_vec(), &["this is a web page that begins `<!DOCTYPE html>`"]),
        (b"\n<html><head><title>Sign in</title>".to_vec(), &["this is a web page that begins `<html><head>"]),
        (b"{\"error\":\"Repository not found\"}".to_vec(), &["this is JSON that begins `{\"error\":\"Repository"]),
        (b"{\n  \"error\": \"gated\"\n}".to_vec(), &["this is JSON that begins `{ \"error\": \"gated\" }`"]),
        (b"Invalid username or password.".to_vec(), &["this is text that begins `Invalid username or password.`"]),
        (utf16, &["this is text that begins `Access denied`"]),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied".to_vec(), &["this is an XML document that begins `<?xml"]),
        (br#"{"metadata":{},"weight_map":{"a":"b"}}"#.to_vec(), &["this is the index of a model", "give the folder"]),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X".to_vec(), &["this is an AppleDouble file", "`._`"]),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0".to_vec(), &["this is gzip", "unpack it"]),
        (b"\x28\xb5\x2f\xfd\x04\0".to_vec(), &["this is Zstandard", "unpack it"]),
        (b"\xfd7zXZ\0\0\0".to_vec(), &["this is xz", "unpack it"]),
        (b"BZh91AY&SY".to_vec(), &["this is bzip2", "unpack it"]),
        (b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), &["this is a 7z archive", "unpack it"]),
        (b"Rar!\x1a\x07\x01\0".to_vec(), &["this is a rar archive", "unpack it"]),
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0readme.txt".to_vec(), &["this is a zip archive", "unpack it"]),
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0archive/data.pkl".to_vec(), &["byte 0: the archive's directory can't be read"]),
        (tar, &["this is a tar archive", "unpack it"]),
        (b"\x08\x08\x12\x07pytorch\x1a\x05".to_vec(), &["this is an ONNX model"]),
        (b"\x1c\0\0\0TFL3\0\0".to_vec(), &["this is a TensorFlow Lite model"]),
        (b"\x89HDF\r\n\x1a\n\0\0".to_vec(), &["this is an HDF5 file"]),
        (b"\x93NUMPY\x01\0v\0".to_vec(), &["this is a NumPy array"]),
        (b"\x89PNG\r\n\x1a\n\0\0".to_vec(), &["this is a picture"]),
        (b"%PDF-1.7\n".to_vec(), &["this is a PDF document"]),
        (b"GGUF\x03\0\0\0".to_vec(), &["byte 8: the file is truncated: a count needs 8 bytes, 0 are left"]),
        (b"tjgg\x03\0\0\0".to_vec(), &["this is a GGML file"]),
        (b"\x1b]0;title\x07<html>".to_vec(), &["this is a file of an unknown kind that begins `1b 5d 30 3b"]),
        (b"\x1b[2J<html>".to_vec(), &["this is a web page"]),
    ];
    let tiny = Tiny::quick();
    for (bytes, words) in cases {
        tiny.write("m.safetensors", &bytes);
        for role in ["transformer", "clip"] {
            let ran = tiny.refuse(&[&format!("--{role}"), "m.safetensors"], words);
            assert!(!ran.err.contains("a header of") && !ran.err.contains('\u{1b}'), "{ran:?}");
            assert!(ran.err.len() < 1000, "{ran:?}");
        }
        tiny.forge(&["inspect", "m.safetensors"]).refused(4, words);
    }
    // A long line is cut.
    tiny.write("m.safetensors", "x".repeat(100_000));
    let ran = tiny.refuse(&["--vae", "m.safetensors"], &["this is text that begins `xxxx"]);
    assert!(ran.err.len() < 500, "{ran:?}");
    // A download that aria2 has not finished.
    tiny.write("m.safetensors", fs::read(tiny.role("vae")).unwrap());
    tiny.write("m.safetensors.aria2", "\0\x01");
    tiny.refuse(&["--vae", "m.safetensors"], &["the download is not finished", "m.safetensors.aria2"]);
}

#[test]
fn only_regular_files_are_read() {
    let tiny = Tiny::quick();
    assert!(Command::new("mkfifo").arg(tiny.path("pipe.safetensors")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(tiny.path("socket.safetensors")).unwrap();
    let cases = [
        ("pipe.safetensors", "is not a file but a named pipe"),
        ("socket.safetensors", "is not a file but a socket"),
        ("/dev/zero", "is not a file but a device"),
        ("/dev/null", "is not a file but a device"),
        // A file of the system's, whose reading waits for what comes.
        ("/proc/kmsg", "this is an empty file"),
        ("/proc/self/status", "this is an empty file"),
    ];
    for (path, says) in cases {
        for role in ROLES {
            tiny.refuse(&[&format!("--{role}={path}")], &[&format!("cannot load `{path}`"), says]);
        }
        tiny.forge(&["inspect", path]).refused(4, &[says]);
    }
    // The same of a config beside a model.
    let vae = tiny.write("m/model.safetensors", fs::read(tiny.role("vae")).unwrap());
    for target in ["/dev/zero", "/dev/tty", "/proc/kmsg"] {
        let config = tiny.path("m/config.json");
        let _ = fs::remove_file(&config);
        std::os::unix::fs::symlink(target, &config).unwrap();
        tiny.refuse(&["--vae", vae.to_str().unwrap()], &["config.json`"]);
        tiny.forge(&["inspect", "m"]).refused(4, &["config.json`"]);
    }
}
