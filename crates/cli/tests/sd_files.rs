//! Single files of Stable Diffusion as people have them: what tells how one was trained, what lies in it beside the model, and files that
//! override its parts.

mod tiny;

use core_tensor::{WeightSource, safetensors::Safetensors};
use fixtures::{Golden, psnr};
use tiny::{Entry, Ran, Tensors, Tiny, golden, raw, split};

/// One step of the golden case of a layout, whose model is another file.
fn run(tiny: &Tiny, case: &str, flags: &[&str]) -> Ran {
    let config = golden(&format!("{case}/case.toml")).display().to_string();
    let files = ["--output", "a.png", "--dump", "a.safetensors"];
    tiny.forge(&[&["txt2img", "--config", &config, "--steps", "1"][..], &files, flags].concat())
}

/// The pixels of that.
fn drawn(tiny: &Tiny, case: &str, flags: &[&str]) -> Vec<f32> {
    let ran = run(tiny, case, flags).done();
    assert!(!ran.err.contains("nothing reads"), "{ran:?}");
    image(tiny)
}

fn image(tiny: &Tiny) -> Vec<f32> {
    let dump = Safetensors::open(&tiny.path("a.safetensors")).expect("the run wrote it");
    dump.read("image").expect("a dump has it").to_f32().expect("floats")
}

fn model(case: &str) -> Tensors {
    Tensors::of(&golden(&format!("{case}/model.safetensors")))
}

/// A file with words about itself.
fn noted(file: &[u8], key: &str, note: &str) -> Vec<u8> {
    let (header, data) = split(file);
    raw(&header.replacen('{', &format!(r#"{{"__metadata__":{{"{key}":"{note}"}},"#), 1), &data)
}

/// A file, the YAML beside it, what `inspect` says of it, and the pixels that it draws, if it is another's.
type Told<'t> = (Vec<u8>, Option<&'t str>, &'t str, Option<&'t Vec<f32>>);

#[test]
fn what_tells_how_a_file_was_trained_is_said_by_inspect_and_drawn_with() {
    let tiny = Tiny::quick();
    let of = |prediction: &str| {
        tiny.write("m.safetensors", model("sd-2").bytes());
        drawn(&tiny, "sd-2", &["--checkpoint", "m.safetensors", "--prediction", prediction])
    };
    let (velocity, noise) = (of("v"), of("eps"));
    assert!(velocity != noise);
    let plain = model("sd-2").bytes();
    let with = |mark: &str, shape: &[u64]| model("sd-2").zeros(mark, "F32", shape).bytes();
    let yaml = "model:\n  params:\n    parameterization: \"v\"\n    scale_factor: 0.18215\n";
    let cases: [Told; 8] = [
        (plain.clone(), None, "it predicts noise: as usual", Some(&noise)),
        (plain.clone(), Some(yaml), "it predicts velocity: a config says so", Some(&velocity)),
        (with("v_pred", &[]), None, "it predicts velocity: the mark `v_pred` says so", Some(&velocity)),
        (with("v_pred", &[0]), None, "it predicts velocity: the mark `v_pred` says so", Some(&velocity)),
        (with("ztsnr", &[]), None, "its noise levels end without signal", None),
        (
            noted(&plain, "modelspec.prediction_type", "v"),
            None,
            "velocity: `modelspec` in its metadata",
            Some(&velocity),
        ),
        (noted(&plain, "modelspec.architecture", "stable-diffusion-v2-768-v"), None, "`modelspec`", Some(&velocity)),
        // a mark is nearer to the weights than what was written about them
        (noted(&with("v_pred", &[]), "modelspec.prediction_type", "epsilon"), None, "`v_pred`", Some(&velocity)),
    ];
    for (i, (file, yaml, says, pixels)) in cases.into_iter().enumerate() {
        let name = format!("m{i}.safetensors");
        tiny.write(&name, file);
        if let Some(yaml) = yaml {
            tiny.write(&format!("m{i}.yaml"), yaml);
        }
        let told = tiny.forge(&["inspect", &name]).done();
        assert!(told.out.contains("  training    ") && told.out.contains(says), "{says}: {told:?}");
        let found = drawn(&tiny, "sd-2", &["--checkpoint", &name, "--prediction", "auto"]);
        match pixels {
            Some(pixels) => assert!(found == *pixels, "{says}"),
            None => assert!(found != noise && found != velocity, "{says}"),
        }
    }
    // and what latents are scaled with is read from the same file
    tiny.write("m0.yaml", yaml.replace("0.18215", "0.5"));
    assert!(drawn(&tiny, "sd-2", &["--checkpoint", "m0.safetensors"]) != velocity);
    tiny.write("m0.yaml", yaml.replace("0.18215", "0"));
    run(&tiny, "sd-2", &["--checkpoint", "m0.safetensors"]).refused(4, &["scaling_factor is 0"]);
    tiny.write("m0.yaml", "linear_start: 0.0001\n");
    run(&tiny, "sd-2", &["--checkpoint", "m0.safetensors"]).refused(4, &["`beta_start` 0.0001"]);
}

#[test]
fn what_a_training_left_beside_the_model_changes_nothing() {
    // given what the checkpoints of latent-diffusion hold beside the model, pickled as they are
    let tiny = Tiny::quick();
    let clip = "cond_stage_model.transformer.text_model.";
    let left = [
        ("model_ema.decay", "F32", &[][..]),
        ("model_ema.num_updates", "I64", &[]),
        ("model_ema.diffusion_modelinput_blocks00weight", "F32", &[4, 4, 3, 3]),
        ("loss.discriminator.main.0.weight", "F32", &[4, 3, 4, 4]),
        ("loss.perceptual_loss.lin0.model.1.weight", "F32", &[1, 64, 1, 1]),
        ("first_stage_model.loss.logvar", "F32", &[]),
        ("betas", "F32", &[1000]),
        ("alphas_cumprod", "F32", &[1000]),
        ("sqrt_one_minus_alphas_cumprod", "F32", &[1000]),
        ("posterior_mean_coef1", "F32", &[1000]),
        ("cond_stage_model.logit_scale", "F32", &[]),
    ];
    let plain = drawn(&tiny, "sd-1", &[]);
    let file = left.iter().fold(model("sd-1"), |file, (name, dtype, shape)| file.zeros(name, dtype, shape));
    let file = file.zeros(&format!("{clip}embeddings.position_ids"), "I64", &[1, 77]);
    tiny.write("m.ckpt", file.pickled());
    assert!(drawn(&tiny, "sd-1", &["--checkpoint", "m.ckpt"]) == plain);
    // and of an average of the training is told that it is not used
    let told = tiny.forge(&["inspect", "m.ckpt"]).done();
    assert!(told.out.contains("`model_ema.` is not used, 1 tensor"), "{told:?}");
}

#[test]
fn a_long_clip_is_used_with_the_positions_that_prompts_fill() {
    let tiny = Tiny::quick();
    let plain = drawn(&tiny, "sd-1", &[]);
    let mut file = model("sd-1");
    let table = file.get("cond_stage_model.transformer.text_model.embeddings.position_embedding.weight");
    let width = table.bytes.len() / 77;
    table.bytes.resize(248 * width, 0);
    table.shape[0] = 248;
    tiny.write("m.safetensors", file.bytes());
    assert!(drawn(&tiny, "sd-1", &["--checkpoint", "m.safetensors"]) == plain);
    assert!(tiny.forge(&["inspect", "m.safetensors"]).done().out.contains("LongCLIP"));
}

#[test]
fn an_autoencoder_of_its_own_file_overrides_the_checkpoints() {
    let tiny = Tiny::quick();
    let plain = drawn(&tiny, "sd-1", &[]);
    let vae = |prefix: &str| {
        let own = model("sd-1").without(|name| !name.starts_with("first_stage_model."));
        own.renamed(|name| name.replacen("first_stage_model.", prefix, 1))
    };
    // given the same one under any prefix, then the picture is the same
    for prefix in ["", "first_stage_model.", "vae."] {
        tiny.write("vae.safetensors", vae(prefix).bytes());
        assert!(drawn(&tiny, "sd-1", &["--vae", "vae.safetensors"]) == plain, "{prefix}");
    }
    tiny.write("vae.pt", vae("").pickled());
    assert!(drawn(&tiny, "sd-1", &["--vae", "vae.pt"]) == plain);
    // given another, then it is not, over a checkpoint and over a folder
    let other = |file: Tensors| {
        let mut file = file;
        file.get("decoder.conv_out.bias").bytes.fill(0);
        file
    };
    tiny.write("other.safetensors", other(vae("")).bytes());
    assert!(drawn(&tiny, "sd-1", &["--vae", "other.safetensors"]) != plain);
    let of_folder = drawn(&tiny, "sd-folder", &[]);
    assert!(drawn(&tiny, "sd-folder", &["--vae", "other.safetensors"]) != of_folder);
    // given one of another family, then it is named
    let flux = golden("tiny-dev/ae.safetensors").display().to_string();
    run(&tiny, "sd-1", &["--vae", &flux]).refused(4, &["an autoencoder", "expected", "4 channels"]);
}

/// The decoder's tensors through which a stream of values goes that norms take in, and which of them make it larger.
fn is_stream(name: &str) -> Option<bool> {
    let name = name.strip_prefix("first_stage_model.decoder.")?;
    let bias = name.ends_with(".bias");
    let makes =
        ["conv_in.", ".conv2.", ".proj_out."].iter().any(|layer| name.contains(layer) || name.starts_with(layer));
    let passes = [".nin_shortcut.", ".upsample.conv."].iter().any(|layer| name.contains(layer));
    (makes || passes).then_some(makes || bias)
}

#[test]
fn a_decoder_that_overflows_half_precision_draws_what_it_would_without() {
    const HUGE: f32 = 16_777_216.0; // a power of two, beyond what half precision holds
    // given a decoder whose stream of values is HUGE times as large, as every norm takes it back
    let tiny = Tiny::quick();
    let source = Safetensors::open(&golden("sd-1/model.safetensors")).expect("the file is there");
    let mut file = model("sd-1");
    let mut scaled = 0;
    for Entry { name, dtype, bytes, .. } in &mut file.0 {
        if is_stream(name) != Some(true) {
            continue;
        }
        let values = source.read(name).expect("it is there").to_f32().expect("floats");
        *dtype = "F32".into();
        *bytes = values.iter().flat_map(|value| (value * HUGE).to_le_bytes()).collect();
        scaled += 1;
    }
    assert!(scaled > 20, "{scaled}");
    tiny.write("m.safetensors", file.bytes());
    // `auto` is bf16 where the processor has it.
    for compute in ["auto", "f32"] {
        let plain = drawn(&tiny, "sd-1", &["--compute", compute]);
        let found = drawn(&tiny, "sd-1", &["--compute", compute, "--checkpoint", "m.safetensors"]);
        let db = psnr(&found, &plain);
        assert!(db >= 45.0, "{compute}: {db:.1} dB");
    }
    // and the whole picture is the reference's
    let config = golden("sd-1/case.toml").display().to_string();
    let flags = ["--checkpoint", "m.safetensors", "--compute", "f32", "--output", "a.png", "--dump", "a.safetensors"];
    tiny.forge(&[&["txt2img", "--config", &config][..], &flags].concat()).done();
    let db = psnr(&image(&tiny), &Golden::open("sd-1/expected.safetensors").floats("image"));
    assert!(db >= 45.0, "{db:.1} dB");
}

#[test]
fn a_value_that_is_not_a_number_is_told_with_its_tensor() {
    let tiny = Tiny::quick();
    for (name, says) in [
        ("first_stage_model.decoder.conv_out.bias", "the decoded picture holds a value that is not a number"),
        ("model.diffusion_model.out.2.bias", "step 1 of 1 failed"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "the encoded prompt holds a value"),
    ] {
        tiny.write("m.safetensors", model("sd-1").poisoned(name, f32::NAN).bytes());
        let cause = format!("`{name}` in `m.safetensors` holds NaN or infinity");
        run(&tiny, "sd-1", &["--checkpoint", "m.safetensors"]).refused(1, &[says, &cause]);
    }
}

#[test]
fn a_file_that_lacks_a_tensor_or_has_another_shape_is_refused_by_its_name() {
    let (tiny, whole) = (Tiny::quick(), model("sd-xl"));
    let needed =
        |name: &&String| !name.contains("first_stage_model.encoder.") && !name.contains("first_stage_model.quant_conv");
    let names: Vec<String> = whole.0.iter().map(|entry| entry.name.clone()).filter(|name| needed(&name)).collect();
    let every = names.len() / 12;
    let tiny_config = tiny.write("sd.toml", "[model]\ncheckpoint = \"m.safetensors\"\n");
    let load = || forge::Forge::load(&forge::Config::read(&tiny_config).expect("a config")).map(drop);
    for name in names.iter().step_by(every) {
        for (what, file) in [
            ("missing", whole.clone().without(|other| other == name)),
            ("of another rank", whole.clone().zeros(name, "F16", &[3, 1, 1, 1, 1])),
            ("of another size", whole.clone().zeros(name, "F16", &[5])),
            ("of no floats", whole.clone().zeros(name, "I64", &[5])),
        ] {
            tiny.write("m.safetensors", file.bytes());
            let error = load().expect_err(name);
            assert_eq!(error.fault(), forge::Fault::Model, "{name} {what}: {error}");
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |&error| error.source());
            let told = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            assert!(told.contains("m.safetensors"), "{name} {what}: {told}");
        }
    }
}
