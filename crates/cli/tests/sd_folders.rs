//! Folders that diffusers wrote of Stable Diffusion, through the command: what its pipeline draws from them is drawn from them here.

mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
};

use core_tensor::{WeightSource, safetensors::Safetensors};
use fixtures::{Golden, deviation, psnr, std};
use serde_json::{Value, json};
use tiny::{Ran, Tiny, copy, edit, golden};

/// Largest difference of a latent, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

const INDEX: &str = "unet/diffusion_pytorch_model.safetensors.index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// What a run of the golden case gave.
struct Drawn(Safetensors);

impl Drawn {
    fn floats(&self, name: &str) -> Vec<f32> {
        self.0.read(name).expect("a dump has it").to_f32().expect("floats")
    }
}

/// Runs the golden case with further flags.
fn draw(tiny: &Tiny, flags: &[&str]) -> Ran {
    let config = golden("sd-folder/case.toml").display().to_string();
    let files = ["--output", "a.png", "--dump", "a.safetensors", "--compute", "f32"];
    tiny.forge(&[&["txt2img", "--config", &config][..], &files, flags].concat())
}

fn drawn(tiny: &Tiny, flags: &[&str]) -> Drawn {
    let ran = draw(tiny, flags).done();
    assert!(!ran.err.contains("nothing reads"), "{ran:?}");
    Drawn(Safetensors::open(&tiny.path("a.safetensors")).expect("the run wrote it"))
}

/// One step of a folder in the test's own, as pixels.
fn pixels(tiny: &Tiny, folder: &str) -> Vec<f32> {
    drawn(tiny, &["--folder", folder, "--steps", "1"]).floats("image")
}

/// A copy of the golden folder.
fn copied(tiny: &Tiny, to: &str) -> PathBuf {
    let folder = tiny.path(to);
    copy(&golden("sd-folder"), &folder);
    folder
}

#[test]
fn a_folder_draws_what_the_pipeline_of_diffusers_draws_from_it() {
    let (drawn, expected) = (drawn(&Tiny::quick(), &[]), Golden::open("sd-folder/expected.safetensors"));
    for i in 0..8 {
        let name = format!("latent.{i:03}");
        let latent = expected.floats(&name);
        let worst = deviation(&drawn.floats(&name), &latent) / std(&latent);
        assert!(worst <= LATENT, "{name} is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}");
    }
    let db = psnr(&drawn.floats("image"), &expected.floats("image"));
    assert!(db >= PICTURE_DB, "the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
}

#[test]
fn a_folder_in_half_precision_alone_is_that_model_and_beside_the_plain_one_is_none() {
    let tiny = Tiny::quick();
    let plain = pixels(&tiny, &golden("sd-folder").display().to_string());
    // given the files of a hub's variant `fp16`
    let folder = copied(&tiny, "half");
    let (half, shard) = (|name: &str| name.replace("_model-", "_model.fp16-"), "diffusion_pytorch_model-0000");
    for i in 1..=4 {
        let name = format!("unet/{shard}{i}-of-00004.safetensors");
        fs::rename(folder.join(&name), folder.join(half(&name))).expect("files can be renamed");
    }
    edit(&folder.join(INDEX), |json| {
        let map = json["weight_map"].as_object_mut().expect("an index has a map");
        map.values_mut().for_each(|file| *file = half(file.as_str().expect("a name")).into());
    });
    let variant = INDEX.replace("index.json", "index.fp16.json");
    fs::rename(folder.join(INDEX), folder.join(variant)).expect("files can be renamed");
    for part in ["text_encoder_2/pytorch_model", "vae/diffusion_pytorch_model"] {
        let [from, to] = [".bin", ".fp16.bin"].map(|end| folder.join(format!("{part}{end}")));
        fs::rename(from, to).expect("files can be renamed");
    }
    assert!(pixels(&tiny, "half") == plain);
    // given the plain ones beside them as well, and what a training leaves
    let folder = copied(&tiny, "both");
    fs::write(folder.join("vae/diffusion_pytorch_model.fp16.bin"), b"\x80\x02").expect("files can be written here");
    fs::write(folder.join("vae/diffusion_pytorch_model.non_ema.bin"), b"\x80\x02").expect("files can be written here");
    fs::write(folder.join("text_encoder_2/optimizer.bin"), b"\x80\x02").expect("files can be written here");
    fs::write(folder.join("unet/diffusion_pytorch_model.bin"), b"\x80\x02").expect("files can be written here");
    assert!(pixels(&tiny, "both") == plain);
}

#[test]
fn words_that_a_folders_tokenizer_has_of_its_own_are_told() {
    let tiny = Tiny::quick();
    let folder = copied(&tiny, "sd");
    fs::create_dir(folder.join("tokenizer")).expect("folders can be made here");
    fs::write(folder.join("tokenizer/added_tokens.json"), r#"{"<cat-toy>": 49408}"#)
        .expect("files can be written here");
    let ran = draw(&tiny, &["--folder", "sd", "--steps", "1"]).done();
    assert!(
        ran.err.contains("its tokenizer has a word that CLIP's has not") && ran.err.contains("`<cat-toy>`"),
        "{ran:?}"
    );
}

#[test]
fn a_folder_without_what_denoises_says_which_folders_may_have_it() {
    let tiny = Tiny::quick();
    let folder = copied(&tiny, "sd");
    fs::remove_dir_all(folder.join("unet")).expect("it is the test's own");
    draw(&tiny, &["--folder", "sd"]).refused(4, &["cannot load `sd`", "called `unet`,"]);
    fs::remove_file(folder.join("model_index.json")).expect("it is the test's own");
    draw(&tiny, &["--folder", "sd"]).refused(4, &["called `transformer` or `unet`"]);
    draw(&tiny, &["--folder", "nowhere"]).refused(4, &["cannot load `nowhere`"]);
    // and what is wrong with one that is there is told, also without the index
    let unet = tiny.write("sd/unet/diffusion_pytorch_model.safetensors", "{");
    draw(&tiny, &["--folder", "sd"]).refused(4, &["unet", "this is"]);
    fs::remove_file(unet).expect("it is the test's own");
    draw(&tiny, &["--folder", "sd"]).refused(4, &["sd/unet", "a folder without one"]);
}

#[test]
fn what_a_folders_scheduler_says_counts() {
    let tiny = Tiny::quick();
    let folder = copied(&tiny, "sd");
    let velocity = pixels(&tiny, "sd");
    let with = |key: &str, value: Value| {
        fs::copy(golden("sd-folder").join(SCHEDULER), folder.join(SCHEDULER)).expect("files can be written here");
        edit(&folder.join(SCHEDULER), |json| json[key] = value);
    };
    // how levels are spaced is a matter of the request
    with("timestep_spacing", "trailing".into());
    assert!(pixels(&tiny, "sd") == velocity);
    with("prediction_type", "epsilon".into());
    assert!(pixels(&tiny, "sd") != velocity);
    with("rescale_betas_zero_snr", true.into());
    assert!(pixels(&tiny, "sd") != velocity);
    // and counts for a file in the folder too
    let config = golden("sd-folder/case.toml").display().to_string();
    let vae = ["--vae", "sd/vae", "--clip", "sd/text_encoder", "--clip-g", "sd/text_encoder_2"];
    let file = format!("sd/{}", INDEX.replace(".index.json", ""));
    let whole = join(&folder.join("unet"));
    fs::write(tiny.path(&file), whole).expect("files can be written here");
    with("prediction_type", "sample".into());
    let flags = ["txt2img", "--config", &config, "--unet", &file, "--output", "a.png"];
    tiny.forge(&[&flags[..], &vae].concat()).refused(4, &["what the UNet predicts is sample"]);
    // what is another process is refused by its name
    for (key, value, names) in [
        ("prediction_type", json!("sample"), "what the UNet predicts is sample"),
        ("beta_start", json!(0.0001), "`beta_start` 0.0001"),
        ("beta_schedule", json!("linear"), "`beta_schedule` \"linear\""),
        ("_class_name", json!("EDMEulerScheduler"), "EDMEulerScheduler"),
        ("prediction_type", json!(1), "cannot read `sd/scheduler/scheduler_config.json`"),
        ("trained_betas", json!({}), "cannot read `sd/scheduler/scheduler_config.json`"),
    ] {
        with(key, value);
        draw(&tiny, &["--folder", "sd"]).refused(4, &[names]);
    }
}

#[test]
fn what_a_folders_index_says_of_empty_negative_prompts_counts_for_diffusers() {
    const INDEX: &str = "model_index.json";
    let tiny = Tiny::quick();
    let folder = copied(&tiny, "sd");
    let expected = Golden::open("sd-folder/negatives.safetensors");
    let of = |said: Value, profile: &str| {
        fs::copy(golden("sd-folder").join(INDEX), folder.join(INDEX)).expect("files can be written here");
        edit(&folder.join(INDEX), |json| json["force_zeros_for_empty_prompt"] = said);
        drawn(&tiny, &["--folder", "sd", "--negative", "", "--profile", profile]).floats("latent.007")
    };
    for (said, name) in [(json!(true), "zeros"), (json!(false), "encoded")] {
        let latent = expected.floats(name);
        let worst = deviation(&of(said, "diffusers"), &latent) / std(&latent);
        assert!(worst <= LATENT, "{name}: {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}");
    }
    // and the others have rules of their own
    assert!(of(json!(true), "forge") == of(json!(false), "forge"));
}

#[test]
fn a_unets_config_that_says_another_arithmetic_is_refused_by_its_key() {
    const CONFIG: &str = "unet/config.json";
    let tiny = Tiny::quick();
    let folder = copied(&tiny, "sd");
    let plain = pixels(&tiny, "sd");
    let with = |key: &str, value: Value| {
        fs::copy(golden("sd-folder").join(CONFIG), folder.join(CONFIG)).expect("files can be written here");
        edit(&folder.join(CONFIG), |json| json[key] = value);
    };
    for (key, value) in [
        ("only_cross_attention", json!(true)),
        ("only_cross_attention", json!([false, true])),
        ("downsample_padding", json!(0)),
        ("time_embedding_act_fn", json!("silu")),
        ("num_class_embeds", json!(10)),
        ("addition_embed_type", json!("text")),
        ("attention_type", json!("gated")),
        ("mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
        ("down_block_types", json!(["DownBlock2D", "SimpleCrossAttnDownBlock2D"])),
        ("up_block_types", json!(["AttnUpBlock2D", "UpBlock2D"])),
        ("norm_eps", json!(1e-6)),
    ] {
        with(key, value);
        draw(&tiny, &["--folder", "sd"]).refused(4, &[&format!("`{key}` is "), "sd/unet/config.json`, expected "]);
    }
    // and what comes to the same is taken
    for (key, value) in [("only_cross_attention", json!([false, false])), ("downsample_padding", json!(null))] {
        with(key, value);
        assert!(pixels(&tiny, "sd") == plain, "{key}");
    }
}

/// A folder's shards as one file.
fn join(folder: &Path) -> Vec<u8> {
    let shards = (1..=4).map(|i| folder.join(format!("diffusion_pytorch_model-0000{i}-of-00004.safetensors")));
    tiny::Tensors(shards.flat_map(|shard| tiny::Tensors::of(&shard).0).collect()).bytes()
}
