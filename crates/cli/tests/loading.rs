//! A model is the same however its files name and hold it, and what is odd about them is told.

mod tiny;

use std::fs;

use forge::{
    Finding, Forge,
    core_tensor::{WeightSource, safetensors::Safetensors},
};
use serde_json::{Value, json};

use crate::tiny::{Entry, ROLES, Tensors, Tiny, golden};

/// The pixels that a model draws; the text beside them names the files.
fn picture(tiny: &Tiny, args: &[&str]) -> Vec<u8> {
    tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
    let file = fs::File::open(tiny.path("a.png")).expect("it was just drawn");
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size that fits in memory")];
    reader.next_frame(&mut pixels).expect("a whole picture");
    pixels
}

/// The files of a golden folder in diffusers' layout as one.
fn diffusers(part: &str) -> Tensors {
    let mut files: Vec<_> = fs::read_dir(golden("tiny-diffusers").join(part))
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    Tensors(files.iter().flat_map(|file| Tensors::of(file).0).collect())
}

// Prefixes.

#[test]
fn names_under_any_prefix_and_in_either_layout_draw_the_same_picture() {
    let tiny = Tiny::quick_dev();
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
            let tiny = ROLES.into_iter().zip(prefixes).fold(Tiny::quick_dev(), |tiny, (role, prefix)| {
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
            // when they are drawn with, then the picture is the same, pixel by pixel
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
fn a_model_that_pytorch_pickled_draws_the_same_picture() {
    let expected = picture(&Tiny::quick_dev(), &[]);
    let tiny = ROLES.into_iter().fold(Tiny::quick_dev(), |tiny, role| {
        let path = tiny.write(&format!("{role}.ckpt"), Tensors::of(&tiny.role(role)).pickled());
        tiny.with(role, &path)
    });
    assert!(picture(&tiny, &[]) == expected);
    let told = &tiny.forge(&["inspect", "--json", "transformer.ckpt"]).done().json()[0];
    assert_eq!((&told["missing"], &told["unread"]), (&json!([]), &json!([])), "{told}");
}

#[test]
fn wrappers_in_the_middle_of_names_are_taken_out() {
    let expected = picture(&Tiny::quick_dev(), &[]);
    for wrapper in ["_orig_mod", "_fsdp_wrapped_module", "_fsdp_wrapped_module._checkpoint_wrapped_module"] {
        for layout in ["bfl", "diffusers"] {
            // given a transformer each of whose blocks was wrapped by itself
            let tiny = Tiny::quick_dev();
            let file = if layout == "bfl" { Tensors::of(&tiny.role("transformer")) } else { diffusers("transformer") };
            let wrapped = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
                [stack, block, ref rest @ ..] if stack.ends_with("blocks") => {
                    format!("module.{stack}.{block}.{wrapper}.{}", rest.join("."))
                }
                _ => format!("module.{name}"),
            };
            tiny.write("transformer.safetensors", file.clone().renamed(wrapped).bytes());
            // when it is drawn with, then the picture is the same
            assert!(picture(&tiny, &["--transformer", "transformer.safetensors"]) == expected, "{wrapper} {layout}");
            // and where a name would stand for two tensors, it is refused
            fs::remove_file(tiny.path("a.png")).unwrap();
            let twice = file.clone().renamed(|name| format!("{wrapper}.{name}"));
            tiny.write("transformer.safetensors", Tensors([file.0, twice.0].concat()).bytes());
            tiny.refuse(&["--transformer", "transformer.safetensors"], &["are one without their wrappers"]);
        }
    }
}

#[test]
fn an_autoencoder_with_the_old_names_of_diffusers_draws_the_same_picture() {
    let tiny = Tiny::quick_dev();
    let expected = picture(&tiny, &[]);
    let olds = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let old = |name: &str| olds.iter().fold(name.to_owned(), |name, (new, old)| name.replace(new, old));
    tiny.write("vae.safetensors", diffusers("vae").renamed(old).bytes());
    assert!(picture(&tiny, &["--vae", "vae.safetensors"]) == expected);
}

// What nothing reads.

#[test]
fn what_nothing_reads_is_told() {
    let notes = |tiny: &Tiny| Forge::load(&tiny.config()).unwrap().notes().to_vec();
    // given a model of which everything is read, or is known to be of no use
    let tiny = Tiny::quick();
    assert_eq!(notes(&tiny), []);
    let known: [(&str, &[&str]); 4] = [
        ("transformer", &["model_sampling.sqrt_alphas", "betas", "model_ema.decay"]),
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
        let file = Tensors::of(&tiny.role(role)).zeros("extra.blocks.0.weight", "F32", &[2]).zeros(
            "extra.blocks.1.weight",
            "F32",
            &[2],
        );
        let path = tiny.write("m.safetensors", file.bytes());
        let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with(role, &path))).unwrap();
        assert_eq!(note.path, path);
        let Finding::Unread { tensors, groups } = &note.finding else { panic!("{note}") };
        assert_eq!((*tensors, groups.len(), &*groups[0].under, groups[0].tensors), (2, 1, "extra.blocks", 2));
        let told = tiny.forge(&["inspect", "m.safetensors"]).done().out;
        assert!(told.contains("unread      2 under extra.blocks, such as extra.blocks.0.weight"), "{told}");
        assert!(told.contains("missing     nothing"), "{told}");
    }
    // given a LoRA that was left in a checkpoint
    let lora = ["double_blocks.0.img_attn.qkv.lora_A.weight", "double_blocks.0.img_attn.qkv.lora_B.weight"];
    let file = lora.iter().fold(Tensors::of(&tiny.role("transformer")), |file, name| file.zeros(name, "F16", &[4, 4]));
    let path = tiny.write("m.safetensors", file.bytes());
    let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with("transformer", &path))).unwrap();
    assert!(matches!(&note.finding, Finding::Lora { tensors: 2, dialect: "peft", .. }), "{note}");
    assert!(tiny.forge(&["inspect", "m.safetensors"]).done().out.contains("a Flux transformer (flux-schnell)"));
    // given an average of the training beside the model
    let file = Tensors::of(&tiny.role("transformer"));
    let average = file.clone().renamed(|name| format!("model_ema.{name}"));
    let path = tiny.write("m.safetensors", Tensors([average.0, file.0].concat()).bytes());
    let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with("transformer", &path))).unwrap();
    assert!(
        matches!(&note.finding, Finding::Another { used, prefix, .. } if used.is_empty() && prefix == "model_ema.")
    );
    // given weights that hold nothing
    let name = "single_blocks.1.linear2.weight";
    let shape = Tensors::of(&tiny.role("transformer")).get(name).shape.clone();
    let path = tiny.write("m.safetensors", Tensors::of(&tiny.role("transformer")).zeros(name, "F16", &shape).bytes());
    let [note] = <[_; 1]>::try_from(notes(&Tiny::quick().with("transformer", &path))).unwrap();
    assert!(matches!(&note.finding, Finding::Zeros { tensors: 1, names } if names == &[name]), "{note}");
    assert!(tiny.forge(&["inspect", "m.safetensors"]).done().out.contains("1 tensor holds nothing but zeros"));
}

#[test]
fn zeros_are_told_in_every_form() {
    let kinds = |role: &str, change: &dyn Fn(&mut Entry)| {
        let tiny = Tiny::quick();
        let mut file = Tensors::of(&tiny.role(role));
        file.0.iter_mut().for_each(change);
        let path = tiny.write("m.safetensors", file.bytes());
        Forge::load(&Tiny::quick().with(role, &path).config()).unwrap().notes().to_vec()
    };
    let has = |notes: &[forge::Note], wanted: fn(&Finding) -> bool| notes.iter().any(|note| wanted(&note.finding));
    // given norms that are zero
    let norms = |entry: &mut Entry| {
        if entry.shape.len() == 1 && (entry.name.ends_with("weight") || entry.name.ends_with("scale")) {
            entry.bytes.fill(0);
        }
    };
    for role in ROLES {
        let notes = kinds(role, &norms);
        assert!(has(&notes, |finding| matches!(finding, Finding::Zeros { .. })), "{role} {notes:?}");
    }
    // given zeros with a sign
    let negative = |entry: &mut Entry| {
        if entry.shape.len() > 1 && entry.dtype == "F16" {
            entry.bytes.chunks_mut(2).for_each(|value| value.copy_from_slice(&[0, 0x80]));
        }
    };
    let notes = kinds("transformer", &negative);
    assert!(has(&notes, |finding| matches!(finding, Finding::Zeros { .. })), "{notes:?}");
    // given matrices whose second half was never written
    let half = |entry: &mut Entry| {
        let middle = entry.bytes.len() / 2;
        if entry.shape.len() > 1 {
            entry.bytes[middle..].fill(0);
        }
    };
    for role in ROLES {
        let notes = kinds(role, &half);
        assert!(has(&notes, |finding| matches!(finding, Finding::HalfZeros { .. })), "{role} {notes:?}");
    }
    // given a bias of zeros, then there is nothing to tell
    let bias = |entry: &mut Entry| {
        if entry.name.ends_with("bias") && entry.shape.len() == 1 {
            entry.bytes.fill(0);
        }
    };
    assert_eq!(kinds("clip", &bias), []);
}

#[test]
fn a_half_that_is_not_read_may_be_stored_in_any_way() {
    let tiny = Tiny::quick_dev();
    let expected = picture(&tiny, &[]);
    let halves: [(&str, &str); 3] = [
        ("vae", "encoder.conv_in.weight"),
        ("t5", "decoder.block.0.layer.0.SelfAttention.q.weight"),
        ("clip", "vision_model.encoder.layers.0.mlp.fc1.weight"),
    ];
    for (role, name) in halves {
        let file = Tensors::of(&tiny.role(role)).zeros(name, "F8_E4M3", &[4, 4]);
        tiny.write("m.safetensors", file.bytes());
        assert!(picture(&tiny, &[&format!("--{role}"), "m.safetensors"]) == expected, "{role}");
    }
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
    let tiny = Tiny::quick_dev();
    let (expected, all) = (picture(&tiny, &[]), all_in_one(&tiny));
    let bare = Tensors(ROLES.map(|role| Tensors::of(&tiny.role(role)).0).concat());
    let [path, bare] = [("transformer.safetensors", all), ("bare/transformer.safetensors", bare)]
        .map(|(name, file)| tiny.write(name, file.bytes()));
    let one = ROLES.into_iter().fold(Tiny::quick_dev(), |tiny, role| tiny.with(role, &path));
    let bare = ROLES.into_iter().fold(Tiny::quick_dev(), |tiny, role| tiny.with(role, &bare));
    for one in [&one, &bare] {
        assert!(picture(one, &[]) == expected);
        assert_eq!(Forge::load(&one.config()).unwrap().notes(), []);
    }
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
    // given a file whose transformer is in eight bits and lacks the scales that it promises, and whose other parts are plain
    let tiny = Tiny::quick_dev();
    let expected = picture(&tiny, &[]);
    let mut all = all_in_one(&tiny);
    for Entry { name, dtype, bytes, shape } in &mut all.0 {
        if name.starts_with("model.diffusion_model.") {
            *dtype = "F8_E4M3".into();
            *bytes = vec![1; shape.iter().product::<u64>() as usize];
        }
    }
    let all = all.zeros("model.diffusion_model.scaled_fp8", "F8_E4M3", &[0]);
    tiny.write("all.safetensors", all.bytes());
    // when its other parts are used, then they are those of the plain files
    let others = ["--clip", "all.safetensors", "--t5", "all.safetensors", "--vae", "all.safetensors"];
    assert!(picture(&tiny, &others) == expected);
    fs::remove_file(tiny.path("a.png")).unwrap();
    // and the transformer is refused in one sentence
    let says = "tensor `model.diffusion_model.double_blocks.0.img_attn.proj.weight` is of eight-bit floats and lacks its scale, \
                which others have or the file promises";
    tiny.refuse(&["--transformer", "all.safetensors"], &[says]);
    let told = &tiny.forge(&["inspect", "--json", "all.safetensors"]).done().json()[0];
    assert_eq!((&told["quantised"], &told["missing"]), (&Value::Null, &json!([says])));
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

// Number formats.

#[test]
fn doubles_are_read_as_floats() {
    // given every file's values in F32, and in F64
    let [floats, doubles] = ["F32", "F64"].map(|dtype| {
        ROLES.into_iter().fold(Tiny::quick(), |tiny, role| {
            let file = Safetensors::open(&tiny.role(role)).unwrap();
            let entry = |name: &str| {
                let stored = file.read(name).unwrap();
                let values = stored.to_f32().unwrap();
                let bytes = match dtype {
                    "F32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
                };
                let shape = stored.shape().iter().map(|&d| d as u64).collect();
                Entry { name: name.into(), dtype: dtype.into(), shape, bytes }
            };
            let file = Tensors(file.manifest().names().map(entry).collect());
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
            let ran = tiny.refuse(&[&format!("--{role}"), "m.safetensors"], &["cannot load `m.safetensors`"]);
            assert!(ran.err.len() < 2000, "{ran:?}");
        }
    }
}

#[test]
fn a_name_of_megabytes_is_not_repeated() {
    // given names that end as a model's, and one that nothing reads
    let tiny = Tiny::quick();
    let long = "n".repeat(1 << 20);
    for (role, name) in [("transformer", "double_blocks.0.img_attn.qkv.weight"), ("vae", "decoder.conv_in.weight")] {
        let prefixed = Tensors::of(&tiny.role(role)).renamed(|name| format!("{long}.{name}")).0[..3].to_vec();
        let beside = Tensors::of(&tiny.role(role)).without(|n| n == name).zeros(&format!("{long}.{name}"), "F16", &[2]);
        let unread = Tensors::of(&tiny.role(role)).zeros(&format!("{long}.a.b"), "F16", &[2]);
        for file in [Tensors(prefixed), beside, unread] {
            tiny.write("m.safetensors", file.bytes());
            // when it is looked at or drawn with, then little is said
            for args in [["inspect", "m.safetensors"].as_slice(), &["inspect", "--json", "m.safetensors"]] {
                let told = tiny.forge(args);
                assert!(told.out.len() + told.err.len() < 20_000, "{}", &told.out[..1000]);
            }
            let ran = tiny.txt2img(&[&format!("--{role}"), "m.safetensors"]);
            assert!(ran.err.len() < 20_000, "{}", &ran.err[..1000]);
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
    tiny.refuse(&["--transformer", "m.safetensors", "--memory", "1"], &["the CLIP encoder's width is 64"]);
}
