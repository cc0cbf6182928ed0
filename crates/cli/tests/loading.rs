//! Which files make a model: names and prefixes, folders and their indexes, parts of one file, and what is no model at all.

mod tiny;

use std::{fs, path::PathBuf, process::Command};

use forge::{
    Finding, Forge,
    core_tensor::{WeightSource, safetensors::Safetensors},
};
use serde_json::{Value, json};

use crate::tiny::{Entry, ROLES, Ran, Tensors, Tiny, golden};

/// Runs `forge txt2img` on what must be refused.
fn refuse(tiny: &Tiny, args: &[&str], words: &[&str]) -> Ran {
    let ran = tiny.txt2img(args).refused(4, words);
    assert_eq!(tiny.drawn(), Vec::<PathBuf>::new(), "{ran:?}");
    ran
}

/// tiny-dev, of which only the smallest picture is asked.
fn quick_dev() -> Tiny {
    Tiny::of("tiny-dev").set("sampling", "steps", 1).set("image", "width", 16).set("image", "height", 16)
}

/// The picture that a model draws.
fn picture(tiny: &Tiny, args: &[&str]) -> Vec<u8> {
    tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
    fs::read(tiny.path("a.png")).unwrap()
}

/// The files of a golden folder in diffusers' layout as one.
fn diffusers(part: &str) -> Tensors {
    let mut files: Vec<_> =
        fs::read_dir(golden("tiny-diffusers").join(part)).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    Tensors(files.iter().flat_map(|file| Tensors::of(file).0).collect())
}

/// A file of these tensors, all zeros.
fn zeros(tensors: &[(&str, &[u64])]) -> Tensors {
    tensors.iter().fold(Tensors(vec![]), |file, (name, shape)| file.zeros(name, "F16", shape))
}

// Prefixes.

#[test]
fn names_under_any_prefix_and_in_either_layout_draw_the_same_picture() {
    let tiny = quick_dev();
    let expected = picture(&tiny, &[]);
    let prefixes = [
        ["", "", "", ""],
        ["transformer.", "text_encoder.", "text_encoder_2.", "vae."],
        ["module.", "module.", "module.", "module."],
        ["_orig_mod.", "_orig_mod.", "_orig_mod.", "_orig_mod."],
        ["model.diffusion_model.", "cond_stage_model.transformer.", "t5xxl.", "first_stage_model."],
        ["net.", "text_encoders.clip_l.transformer.", "text_encoders.t5xxl.transformer.", "autoencoder."],
        ["module._orig_mod.transformer.", "a.b.c.d.", "a.b.c.d.", "module._orig_mod.vae."],
        ["model.", "clip_l.", "t5.", "model.vae."],
    ];
    for layout in ["bfl", "diffusers", "bare"] {
        for prefixes in prefixes {
            // given the four files with other names
            let tiny = ROLES.into_iter().zip(prefixes).fold(quick_dev(), |tiny, (role, prefix)| {
                let file = match (layout, role) {
                    ("diffusers", "transformer" | "vae") => diffusers(role),
                    _ => Tensors::of(&tiny.role(role)),
                };
                let bare = |name: &str| match layout {
                    "bare" => name.strip_prefix("text_model.").unwrap_or(name).to_owned(),
                    _ => name.to_owned(),
                };
                let file = file.renamed(|name| format!("{prefix}{}", bare(name)));
                let path = tiny.write(&format!("{role}.safetensors"), file.bytes());
                tiny.with(role, &path)
            });
            // when they are drawn with, then the picture is the same, byte by byte
            assert!(picture(&tiny, &[]) == expected, "{layout} {prefixes:?}");
            // and each is known, whole, and read to the last tensor
            for role in ROLES {
                let file = tiny.role(role).display().to_string();
                let told = &tiny.forge(&["inspect", "--json", &file]).done().json()[0];
                assert_eq!((&told["missing"], &told["unread"]), (&json!([]), &json!([])), "{told}");
            }
        }
    }
}

#[test]
fn an_autoencoder_with_the_old_names_of_diffusers_draws_the_same_picture() {
    let tiny = quick_dev();
    let expected = picture(&tiny, &[]);
    let olds = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let old = |name: &str| olds.iter().fold(name.to_owned(), |name, (new, old)| name.replace(new, old));
    tiny.write("vae.safetensors", diffusers("vae").renamed(old).bytes());
    assert!(picture(&tiny, &["--vae", "vae.safetensors"]) == expected);
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
    let diffusers_flux = |input: u64| {
        zeros(&[
            ("x_embedder.weight", &[8, input]),
            ("context_embedder.weight", &[8, 8]),
            ("single_transformer_blocks.0.proj_mlp.weight", &[32, 8]),
            ("proj_out.weight", &[64, 8]),
        ])
    };
    let one = |name: &str| zeros(&[(name, &[2, 2])]);
    let cases: Vec<(&str, Tensors, &str)> = vec![
        ("transformer", flux(384), "Flux Fill"),
        ("transformer", flux(128), "Flux Canny or Depth"),
        ("transformer", flux(68), "a Flux that takes another picture"),
        ("transformer", diffusers_flux(384), "Flux Fill"),
        ("transformer", diffusers_flux(128), "Flux Canny or Depth"),
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
            zeros(&[
                ("text_model.embeddings.token_embedding.weight", &[8, 768]),
                ("text_model.embeddings.position_embedding.weight", &[248, 768]),
            ]),
            "LongCLIP",
        ),
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
    ];
    let tiny = Tiny::quick();
    for (place, file, is) in cases {
        tiny.write("m.safetensors", file.bytes());
        // when it is given in its own place, then it is told what it is
        let ran = refuse(&tiny, &[&format!("--{place}"), "m.safetensors"], &["this is ", is, ", expected a"]);
        assert!(!ran.err.contains("not a model that is known"), "{ran:?}");
        // and so does `inspect`, which says that there is no use for it
        let told = tiny.forge(&["inspect", "m.safetensors"]).done();
        assert!(told.out.contains(is) && told.out.contains("usable      no"), "{told:?}");
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!((&told["parts"][0]["usable"], told["parts"][0]["role"] == told["role"]), (&json!(false), true));
        // and in every other place it is refused too
        for other in ROLES.into_iter().filter(|role| *role != place) {
            refuse(&tiny, &[&format!("--{other}"), "m.safetensors"], &["this is ", ", expected a"]);
        }
    }
}

/// The lists of the real checkpoints, as files without values.
#[test]
fn the_real_checkpoints_are_called_by_their_names() {
    let Some(extra) = fixtures::extra() else { return };
    let cases = [
        ("clip-g.sdxl.hf", "CLIP-G", false),
        ("clip-h.sd21.hf", "CLIP-H", false),
        ("clip-l.flux.hf", "a CLIP text encoder", true),
        ("clip-l.sd3.hf", "a CLIP text encoder", true),
        ("flux-ae.bfl", "an autoencoder", true),
        ("flux1-dev.bfl", "a Flux transformer", true),
        ("flux1-dev.forge-prefix", "a Flux transformer", true),
        ("flux1-dev.diffusers-transformer", "a Flux transformer", true),
        ("flux1-schnell.diffusers-transformer", "a Flux transformer", true),
        ("flux1-dev.diffusers-vae", "an autoencoder", true),
        ("sd15.diffusers-unet", "a Stable Diffusion 1 UNet", false),
        ("sd15.ldm", "a Stable Diffusion 1 UNet", false),
        ("sd21.diffusers-unet", "a Stable Diffusion 2 UNet", false),
        ("sd21.ldm", "a Stable Diffusion 2 UNet", false),
        ("sdxl-base.ldm", "an SDXL UNet", false),
        ("sdxl-base.diffusers-unet", "an SDXL UNet", false),
        ("sdxl-refiner.ldm", "the UNet of SDXL's refiner", false),
        ("sdxl-refiner.diffusers-unet", "the UNet of SDXL's refiner", false),
        ("sd15.diffusers-vae", "the autoencoder of Stable Diffusion", false),
        ("sd3-medium.diffusers-transformer", "a Stable Diffusion 3 transformer", false),
        ("t5xxl-encoder.hf", "a T5 encoder", true),
    ];
    let tiny = Tiny::quick();
    for (list, role, usable) in cases {
        let text = fs::read(extra.join("keys").join(format!("{list}.json"))).unwrap();
        let list_of: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, form) in &list_of {
            let values: u64 = form["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).product();
            let offsets = [end, end + 2 * values];
            header.insert(name.clone(), json!({"dtype": "BF16", "shape": form["shape"], "data_offsets": offsets}));
            end += 2 * values;
        }
        let header = Value::Object(header).to_string();
        let path = tiny.write("m.safetensors", [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat());
        // The values are a hole.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(8 + header.len() as u64 + end).unwrap();
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert!(told["role"].as_str().unwrap().starts_with(role), "{list}: {told}");
        assert_eq!(told["parts"][0]["usable"], usable, "{list}");
        assert_eq!((&told["missing"], &told["unread"]), (&json!([]), &json!([])), "{list}");
    }
}

// What nothing reads.

#[test]
fn what_nothing_reads_is_told() {
    let notes = |tiny: &Tiny| Forge::load(&tiny.config()).unwrap().notes().to_vec();
    // given a model of which everything is read, or is known to be of no use
    let tiny = Tiny::quick();
    assert_eq!(notes(&tiny), []);
    let known: [(&str, &[&str]); 4] = [
        ("transformer", &["model_sampling.sqrt_alphas", "betas"]),
        (
            "clip",
            &["text_model.embeddings.position_ids", "logit_scale", "text_projection.weight", "vision_model.x.weight"],
        ),
        ("t5", &["decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight", "encoder.embed_tokens.weight"]),
        ("vae", &["quant_conv.weight", "loss.discriminator.main.0.weight"]),
    ];
    for (role, names) in known {
        let file = names.iter().fold(Tensors::of(&tiny.role(role)), |file, name| file.zeros(name, "F16", &[2]));
        let path = tiny.write("m.safetensors", file.bytes());
        // then there is nothing to tell
        assert_eq!(notes(&Tiny::quick().with(role, &path)), [], "{role}");
    }
    // given tensors that nothing knows, then they are told, and what they are
    for role in ROLES {
        let file = Tensors::of(&tiny.role(role))
            .zeros("model_ema.decay", "F32", &[1])
            .zeros("extra.blocks.0.weight", "F32", &[2])
            .zeros("extra.blocks.1.weight", "F32", &[2]);
        let path = tiny.write("m.safetensors", file.bytes());
        let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with(role, &path))).unwrap();
        assert_eq!(note.path, path);
        let Finding::Unread { tensors, groups } = &note.finding else { panic!("{note}") };
        assert_eq!((*tensors, groups.len(), &*groups[0].under, groups[0].tensors), (3, 2, "extra.blocks", 2));
        let told = tiny.forge(&["inspect", "m.safetensors"]).done().out;
        assert!(told.contains("unread      2 under extra.blocks, such as extra.blocks.0.weight"), "{told}");
        assert!(told.contains("unread      model_ema.decay") && told.contains("missing     nothing"), "{told}");
    }
    // given a LoRA that was left in a checkpoint
    let lora = ["double_blocks.0.img_attn.qkv.lora_A.weight", "double_blocks.0.img_attn.qkv.lora_B.weight"];
    let file = lora.iter().fold(Tensors::of(&tiny.role("transformer")), |file, name| file.zeros(name, "F16", &[4, 4]));
    let path = tiny.write("m.safetensors", file.bytes());
    let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with("transformer", &path))).unwrap();
    assert!(matches!(&note.finding, Finding::Lora { tensors: 2, dialect: "peft", .. }), "{note}");
    assert!(tiny.forge(&["inspect", "m.safetensors"]).done().out.contains("a Flux transformer (flux-schnell)"));
    // given weights that hold nothing
    let name = "single_blocks.1.linear2.weight";
    let shape = Tensors::of(&tiny.role("transformer")).get(name).shape.clone();
    let path = tiny.write("m.safetensors", Tensors::of(&tiny.role("transformer")).zeros(name, "F16", &shape).bytes());
    let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with("transformer", &path))).unwrap();
    assert!(matches!(&note.finding, Finding::Zeros { tensors: 1, names } if names == &[name]), "{note}");
    assert!(tiny.forge(&["inspect", "m.safetensors"]).done().out.contains("1 tensor holds nothing but zeros"));
}

// Several parts in one file.

/// tiny-dev in one file, with the names of such files.
fn all_in_one(tiny: &Tiny) -> Tensors {
    let prefixes = [
        ("transformer", "model.diffusion_model."),
        ("clip", "text_encoders.clip_l.transformer."),
        ("t5", "text_encoders.t5xxl.transformer."),
        ("vae", "vae."),
    ];
    let parts =
        prefixes.map(|(role, prefix)| Tensors::of(&tiny.role(role)).renamed(|name| format!("{prefix}{name}")).0);
    Tensors(parts.concat()).zeros("text_encoders.clip_l.logit_scale", "F32", &[])
}

#[test]
fn one_file_of_all_parts_is_the_four_files() {
    let tiny = quick_dev();
    let (expected, all) = (picture(&tiny, &[]), all_in_one(&tiny));
    let path = tiny.write("transformer.safetensors", all.bytes());
    let one = ROLES.into_iter().fold(quick_dev(), |tiny, role| tiny.with(role, &path));
    assert!(picture(&one, &[]) == expected);
    assert_eq!(Forge::load(&one.config()).unwrap().notes(), []);
    // and takes as much memory
    let needed = |tiny: &Tiny| {
        let error = tiny.txt2img(&["--memory", "1"]).refused(3, &["the model needs"]).err;
        error.lines().next().unwrap().to_owned()
    };
    assert_eq!(needed(&one), needed(&tiny));
    // and each of its parts is told
    let told = &tiny.forge(&["inspect", "--json", "transformer.safetensors"]).done().json()[0];
    let roles: Vec<_> = told["parts"].as_array().unwrap().iter().map(|part| part["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["a Flux transformer", "a T5 encoder", "a CLIP text encoder", "an autoencoder"]);
    for (part, role) in told["parts"].as_array().unwrap().iter().zip(["transformer", "t5", "clip", "vae"]) {
        let alone = tiny.role(role).display().to_string();
        let alone = &tiny.forge(&["inspect", "--json", &alone]).done().json()[0];
        assert_eq!((&part["parameters"], &part["dtypes"]), (&alone["parameters"], &alone["dtypes"]), "{role}");
        assert_eq!((&part["missing"], &part["usable"]), (&json!([]), &json!(true)));
    }
    assert_eq!((&told["role"], &told["family"]), (&json!("a Flux transformer"), &json!("flux-dev")));
    assert_eq!((&told["unread"], &told["findings"]), (&json!([]), &json!([])));
}

#[test]
fn a_part_is_judged_by_its_own_tensors() {
    // given a file whose transformer is in eight bits, and whose other parts are not
    let tiny = quick_dev();
    let expected = picture(&tiny, &[]);
    let mut all = all_in_one(&tiny);
    let mut quantised = 0;
    for Entry { name, dtype, bytes, shape } in &mut all.0 {
        if name.starts_with("model.diffusion_model.") {
            *dtype = "F8_E4M3".into();
            *bytes = vec![1; shape.iter().product::<u64>() as usize];
            quantised += 1;
        }
    }
    tiny.write("all.safetensors", all.bytes());
    // when its other parts are used, then they are those of the plain files
    let others = ["--clip", "all.safetensors", "--t5", "all.safetensors", "--vae", "all.safetensors"];
    assert!(picture(&tiny, &others) == expected);
    fs::remove_file(tiny.path("a.png")).unwrap();
    // and the transformer is refused in one sentence
    let says = format!("{quantised} tensors of a Flux transformer are quantised (fp8), which is not supported yet");
    refuse(&tiny, &["--transformer", "all.safetensors"], &[&says]);
    let told = &tiny.forge(&["inspect", "--json", "all.safetensors"]).done().json()[0];
    let says = format!("{quantised} tensors are quantised (fp8), which is not supported yet");
    assert_eq!((&told["quantised"], &told["missing"]), (&json!("fp8"), &json!([says])));
    assert_eq!(told["family"], "flux-dev");
    for part in &told["parts"].as_array().unwrap()[1..] {
        assert_eq!((&part["quantised"], &part["missing"]), (&Value::Null, &json!([])), "{part}");
    }
    // and what it lacks beside is told too
    let lacking = all.without(|name| name == "model.diffusion_model.txt_in.bias");
    tiny.write("all.safetensors", lacking.bytes());
    let told = tiny.forge(&["inspect", "all.safetensors"]).done().out;
    assert!(told.contains("tensor `model.diffusion_model.txt_in.bias` is missing"), "{told}");
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
        (with(&[(&format!("{qkv}.quant_state.bitsandbytes__nf4"), "U8")]), "bitsandbytes nf4"),
        (with(&[(&format!("{qkv}.quant_state.bitsandbytes__fp4"), "U8")]), "bitsandbytes fp4"),
        (with(&[("double_blocks.0.img_attn.qkv.SCB", "F32")]), "bitsandbytes int8"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_scale_2", "F32")]), "NVFP4"),
        (with(&[("double_blocks.0.img_attn.qkv.weight_scale", "F8_E8M0")]), "MXFP4"),
        (whole().zeros(qkv, "F8_E5M2", &[192, 64]), "fp8"),
        (whole().zeros(qkv, "F8_E4M3", &[192, 64]).zeros("scaled_fp8", "F8_E4M3", &[2]), "scaled fp8"),
        (whole().zeros(qkv, "I8", &[192, 64]), "int8"),
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
        assert!(ran.err.contains(&format!("({scheme})")) || scheme == "SVDQuant", "{scheme}: {ran:?}");
        let told = &tiny.forge(&["inspect", "--json", "m.safetensors"]).done().json()[0];
        assert_eq!(told["quantised"], scheme, "{told}");
        assert!(told["missing"].as_array().unwrap().len() <= 1, "{told}");
    }
}

// Folders.

const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";

/// tiny-dev's transformer as a folder of two shards with an index and a config.
fn folder(tiny: &Tiny) -> (String, String) {
    let part = golden("tiny-diffusers/transformer");
    for file in fs::read_dir(&part).unwrap().map(|entry| entry.unwrap()) {
        tiny.write(&format!("t/{}", file.file_name().to_str().unwrap()), fs::read(file.path()).unwrap());
    }
    let shard = |i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors");
    (shard(1), shard(2))
}

#[test]
fn a_folder_is_what_its_index_says() {
    let tiny = quick_dev();
    let expected = picture(&tiny, &[]);
    let (first, second) = folder(&tiny);
    let draws = |what: &str| {
        let ran = tiny.txt2img(&["--transformer", "t", "--output", "t.png"]).done();
        let same = tiny.forge(&["info", "t.png"]).done().out.replace("Model: m,", "");
        assert!(same.contains("Steps: 1"), "{what} {ran:?}");
        let pixels = |file: &str| image(&fs::read(tiny.path(file)).unwrap());
        assert!(pixels("t.png") == pixels("a.png"), "{what}");
    };
    draws("the folder as it is");
    assert!(!expected.is_empty());
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
    // given a file that it lists and that is not there, then it is named
    let away = fs::read(tiny.path("t").join(&second)).unwrap();
    fs::remove_file(tiny.path("t").join(&second)).unwrap();
    let _ = fs::remove_file(tiny.path("a.png"));
    let _ = fs::remove_file(tiny.path("t.png"));
    refuse(&tiny, &["--transformer", "t"], &["cannot load `t`", &second, INDEX, "is missing"]);
    tiny.forge(&["inspect", "t"]).refused(4, &[&second, INDEX]);
    tiny.write(&format!("t/{second}"), &away);
    // given a tensor that is not in its file, then both are named
    let shard = Tensors::of(&tiny.path("t").join(&second));
    let name = shard.0[3].name.clone();
    tiny.write(&format!("t/{second}"), shard.clone().without(|n| n == name).bytes());
    refuse(&tiny, &["--transformer", "t"], &[&second, &name, INDEX]);
    // given one that the index does not list, then it is told
    tiny.write(&format!("t/{second}"), shard.zeros("more.weight", "F16", &[2, 2]).bytes());
    let told = tiny.forge(&["inspect", "t"]).done().out;
    assert!(told.contains("index does not list 1 tensor: `more.weight`"), "{told}");
    let forge = Forge::load(&quick_dev().with("transformer", &tiny.path("t")).config()).unwrap();
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
    let tiny = quick_dev();
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
        (map("../t/a.safetensors").into_bytes(), "expected the name of a file in its folder"),
        (map("/etc/passwd").into_bytes(), "expected the name of a file in its folder"),
        (map("..").into_bytes(), "expected the name of a file in its folder"),
        (map("").into_bytes(), "expected the name of a file in its folder"),
        (map("sub/a.safetensors").into_bytes(), "expected the name of a file in its folder"),
        (map("sub\\a.safetensors").into_bytes(), "expected the name of a file in its folder"),
        (map("a\u{0}b").into_bytes(), "expected the name of a file in its folder"),
        (map(&"n".repeat(10_000)).into_bytes(), "expected the name of a file in its folder"),
        (map("nowhere.safetensors").into_bytes(), "`nowhere.safetensors` is missing"),
        (map("config.json").into_bytes(), "this is JSON"),
        (map(&first).into_bytes(), "has no tensor `x`"),
        (json!({"weight_map": many}).to_string().into_bytes(), "more than 1024 files"),
    ];
    for (index, says) in cases {
        tiny.write(&format!("t/{INDEX}"), index);
        let ran = refuse(&tiny, &["--transformer", "t"], &["cannot load `t`", says]);
        assert!(ran.err.len() < 2000, "{ran:?}");
        tiny.forge(&["inspect", "t"]).refused(4, &[says]);
    }
    // One that is no file, or has no end, is not read.
    let index = tiny.path("t").join(INDEX);
    fs::remove_file(&index).unwrap();
    assert!(Command::new("mkfifo").arg(&index).status().unwrap().success());
    refuse(&tiny, &["--transformer", "t"], &["a named pipe"]);
    fs::remove_file(&index).unwrap();
    fs::File::create(&index).unwrap().set_len(1 << 40).unwrap();
    refuse(&tiny, &["--transformer", "t"], &["bytes, at most"]);
}

#[test]
fn without_an_index_the_names_of_the_files_count() {
    let tiny = quick_dev();
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
    refuse(&tiny, &["--transformer", "t"], &[&second, "is missing: the folder has 1 of 2 files"]);
    // A thousand files are enough.
    for i in 0..1030 {
        tiny.write(&format!("many/{i}.safetensors"), "");
    }
    refuse(&tiny, &["--transformer", "many"], &["more than 1024 model files"]);
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
        let tiny = quick_dev();
        let model = tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        let model = model.to_str().unwrap();
        tiny.write("m/config.json", &config);
        tiny.txt2img(&[&format!("--{role}"), model, "--output", "t.png"]).done();
        fs::remove_file(tiny.path("t.png")).unwrap();
        for (key, value) in wrong {
            let mut config: Value = serde_json::from_slice(&config).unwrap();
            let found = config[*key].clone();
            config[*key] = value.clone();
            tiny.write("m/config.json", config.to_string());
            // when it is drawn with, as a file or as a folder, then key, expected and found are named
            for path in [model, "m"] {
                let says = format!("`{key}` is {value} in `");
                let ran = refuse(&tiny, &[&format!("--{role}"), path], &["cannot load `", &says]);
                assert!(found.is_null() || ran.err.contains(&format!("the tensors have {found}")), "{ran:?}");
                let told = tiny.forge(&["inspect", path]).done().out;
                assert!(told.contains(&says), "{told}");
            }
            // and a value of another kind is refused too
            config[*key] = "many".into();
            tiny.write("m/config.json", config.to_string());
            refuse(&tiny, &[&format!("--{role}"), model], &["config.json`"]);
            // and where it is another model's config, it is none of ours
            config["_class_name"] = "Another".into();
            config["architectures"] = json!(["Another"]);
            tiny.write("m/config.json", config.to_string());
            tiny.txt2img(&[&format!("--{role}"), model, "--output", "t.png"]).done();
            fs::remove_file(tiny.path("t.png")).unwrap();
        }
    }
}

#[test]
fn a_download_without_its_last_blocks_is_refused() {
    // given folders of the text encoders whose last block is not there, and their own config
    for (role, part, last) in
        [("clip", "text_encoder", "text_model.encoder.layers.1."), ("t5", "text_encoder_2", "encoder.block.1.")]
    {
        let tiny = quick_dev();
        let file = Tensors::of(&tiny.role(role)).without(|name| name.starts_with(last));
        tiny.write("m/model.safetensors", file.bytes());
        tiny.write("m/config.json", fs::read(golden("tiny-diffusers").join(part).join("config.json")).unwrap());
        // when they are drawn with, then the count is named
        refuse(&tiny, &[&format!("--{role}"), "m"], &["_layers` is 2 in `m/config.json`, the tensors have 1"]);
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
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0archive/data.pkl".to_vec(), &["this is a PyTorch pickle"]),
        (tar, &["this is a tar archive", "unpack it"]),
        (b"\x08\x08\x12\x07pytorch\x1a\x05".to_vec(), &["this is an ONNX model"]),
        (b"\x1c\0\0\0TFL3\0\0".to_vec(), &["this is a TensorFlow Lite model"]),
        (b"\x89HDF\r\n\x1a\n\0\0".to_vec(), &["this is an HDF5 file"]),
        (b"\x93NUMPY\x01\0v\0".to_vec(), &["this is a NumPy array"]),
        (b"\x89PNG\r\n\x1a\n\0\0".to_vec(), &["this is a picture"]),
        (b"%PDF-1.7\n".to_vec(), &["this is a PDF document"]),
        (b"GGUF\x03\0\0\0".to_vec(), &["this is a GGUF file"]),
        (b"tjgg\x03\0\0\0".to_vec(), &["this is a GGML file"]),
        (b"\x1b]0;title\x07<html>".to_vec(), &["this is a file of an unknown kind that begins `1b 5d 30 3b"]),
        (b"\x1b[2J<html>".to_vec(), &["this is a web page"]),
    ];
    let tiny = Tiny::quick();
    for (bytes, words) in cases {
        tiny.write("m.safetensors", &bytes);
        for role in ["transformer", "clip"] {
            let ran = refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], words);
            assert!(!ran.err.contains("a header of") && !ran.err.contains('\u{1b}'), "{ran:?}");
            assert!(ran.err.len() < 1000, "{ran:?}");
        }
        tiny.forge(&["inspect", "m.safetensors"]).refused(4, words);
    }
    // A long line is cut.
    tiny.write("m.safetensors", "x".repeat(100_000));
    let ran = refuse(&tiny, &["--vae", "m.safetensors"], &["this is text that begins `xxxx"]);
    assert!(ran.err.len() < 500, "{ran:?}");
    // A download that aria2 has not finished.
    tiny.write("m.safetensors", fs::read(tiny.role("vae")).unwrap());
    tiny.write("m.safetensors.aria2", "\0\x01");
    refuse(&tiny, &["--vae", "m.safetensors"], &["the download is not finished", "m.safetensors.aria2"]);
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
            refuse(&tiny, &[&format!("--{role}={path}")], &[&format!("cannot load `{path}`"), says]);
        }
        tiny.forge(&["inspect", path]).refused(4, &[says]);
    }
    // The same of a config beside a model.
    let vae = tiny.write("m/model.safetensors", fs::read(tiny.role("vae")).unwrap());
    for target in ["/dev/zero", "/dev/tty", "/proc/kmsg"] {
        let config = tiny.path("m/config.json");
        let _ = fs::remove_file(&config);
        std::os::unix::fs::symlink(target, &config).unwrap();
        refuse(&tiny, &["--vae", vae.to_str().unwrap()], &["config.json`"]);
        tiny.forge(&["inspect", "m"]).refused(4, &["config.json`"]);
    }
}

// Number formats.

#[test]
fn doubles_are_read_as_floats() {
    // given every file's values in F32, and in F64
    let [floats, doubles] = ["F32", "F64"].map(|dtype| {
        ROLES.into_iter().fold(Tiny::quick(), |tiny, role| {
            let file = Safetensors::open(&tiny.role(role)).unwrap();
            let entry = |name: String| {
                let stored = file.read(&name).unwrap();
                let values = stored.to_f32().unwrap();
                let bytes = match dtype {
                    "F32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
                };
                let shape = stored.shape().iter().map(|&d| d as u64).collect();
                Entry { name, dtype: dtype.into(), shape, bytes }
            };
            let file = Tensors(file.names().into_iter().map(entry).collect());
            let path = tiny.write(&format!("{role}.safetensors"), file.bytes());
            tiny.with(role, &path)
        })
    });
    // when they are drawn with, then the pictures are one
    assert!(picture(&doubles, &[]) == picture(&floats, &[]));
}

// What a header claims.

#[test]
fn a_header_of_many_blocks_is_refused_in_few_words() {
    let tiny = Tiny::quick();
    for (role, name) in [
        ("transformer", "double_blocks.N.img_attn.qkv.weight"),
        ("transformer", "single_blocks.N.linear1.weight"),
        ("clip", "text_model.encoder.layers.N.mlp.fc1.weight"),
        ("t5", "encoder.block.N.layer.0.SelfAttention.q.weight"),
        ("vae", "decoder.up.N.block.0.conv1.weight"),
        ("vae", "decoder.up.0.block.N.conv1.weight"),
    ] {
        for (blocks, says) in [(200, ""), (10_000, "has more than 256 layers")] {
            // given a file of blocks that hold nothing
            let mut file = Tensors::of(&tiny.role(role));
            let known: std::collections::BTreeSet<String> = file.0.iter().map(|entry| entry.name.clone()).collect();
            let more = (0..blocks).map(|i| name.replace('N', &i.to_string())).filter(|name| !known.contains(name));
            file.0.extend(more.map(|name| Entry { name, dtype: "F16".into(), shape: vec![0], bytes: vec![] }));
            tiny.write("m.safetensors", file.bytes());
            // when it is looked at, then little is said
            let told = tiny.forge(&["inspect", "m.safetensors"]).done();
            assert!(told.out.contains(says) && told.out.len() < 10_000, "{role} {blocks} {}", told.out);
            assert!(told.out.lines().filter(|line| line.contains("missing  ")).count() <= 21);
            let ran = refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], &["cannot load `m.safetensors`"]);
            assert!(ran.err.len() < 2000, "{ran:?}");
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused_before_they_take_memory() {
    // given a CLIP of another width, and too little memory for any model
    let tiny = Tiny::quick();
    let file = Tensors::of(&tiny.role("transformer")).zeros("vector_in.in_layer.weight", "F16", &[64, 32]);
    tiny.write("m.safetensors", file.bytes());
    // when they are drawn with, then it is the fit that is told
    refuse(&tiny, &["--transformer", "m.safetensors", "--memory", "1"], &["the CLIP encoder's width is 64"]);
}
