//! A whole model's folder in diffusers' layout is the pipeline that it says, whose scheduler says how it was trained.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::fs;

use diffusion_engine::read_picture;
use serde_json::{Value, json};
use tiny::{Tiny, golden};

#[test]
fn what_a_flux_folders_scheduler_says_of_noise_levels_counts() {
    const SCHEDULER: &str = "scheduler/scheduler_config.json";
    let tiny = Tiny::quick_dev().set("sampling", "steps", 2);
    tiny.whole_folder();
    let published = fs::read(golden("tiny-diffusers").join(SCHEDULER)).unwrap();
    let with = |key: &str, value: Value| {
        let mut json: Value = serde_json::from_slice(&published).unwrap();
        json[key] = value;
        tiny.write(&format!("w/{SCHEDULER}"), json.to_string());
    };
    let drawn = || {
        tiny.txt2img(&["--folder", "w", "--output", "w.png"]).done();
        let pixels = read_picture(tiny.path("w.png")).unwrap().over([255; 3]);
        fs::remove_file(tiny.path("w.png")).unwrap();
        pixels
    };
    let alone = drawn();
    with("shift", 3.0.into());
    assert!(drawn().pixels() == alone.pixels());
    with("use_dynamic_shifting", false.into());
    let shifted = drawn();
    assert!(shifted.pixels() != alone.pixels());
    let told = tiny.forge(&["inspect", "w/transformer"]).done();
    assert!(told.out.contains("its noise levels are shifted by 3: a config says so"), "{told:?}");
    // but not for a transformer that takes the place of the folder's own, which may be of another training
    let transformer = golden("tiny-dev/transformer.safetensors");
    let files = ["--folder", "w", "--transformer", transformer.to_str().unwrap(), "--output", "w.png"];
    tiny.txt2img(&files).done();
    assert!(read_picture(tiny.path("w.png")).unwrap().over([255; 3]).pixels() == alone.pixels());
    fs::remove_file(tiny.path("w.png")).unwrap();
    with("use_karras_sigmas", true.into());
    with("_class_name", "FlowMatchHeunDiscreteScheduler".into());
    for (key, value, says) in [
        ("shift_terminal", json!(0.1), "`shift_terminal` 0.1"),
        ("_class_name", json!("UniPCMultistepScheduler"), "a `UniPCMultistepScheduler`"),
        ("shift", json!("3"), "cannot read `w/scheduler/scheduler_config.json`"),
    ] {
        with(key, value);
        tiny.refuse(&["--folder", "w"], &[says]);
    }
}

#[test]
fn a_whole_folder_is_the_pipeline_that_it_says() {
    let tiny = Tiny::quick_dev();
    tiny.whole_folder();
    let index = |class: Value| tiny.write("w/model_index.json", json!({ "_class_name": class }).to_string());
    for class in ["ChromaPipeline", "StableDiffusion3Pipeline", "WanPipeline", "FluxControlNetPipeline", "fluxpipeline"]
    {
        index(class.into());
        tiny.refuse(&["--folder", "w"], &[&format!("is of a `{class}`, expected `FluxPipeline`")]);
    }
    index(json!(["FluxPipeline"]));
    tiny.refuse(&["--folder", "w"], &["expected `FluxPipeline`"]);
    for class in
        ["FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxFillPipeline", "FluxControlPipeline"]
    {
        index(class.into());
        tiny.txt2img(&["--folder", "w", "--output", "w.png"]).done();
        fs::remove_file(tiny.path("w.png")).unwrap();
    }
    fs::remove_file(tiny.path("w/model_index.json")).unwrap();
    tiny.txt2img(&["--folder", "w", "--output", "w.png"]).done();
    fs::remove_file(tiny.path("w.png")).unwrap();
    // One that has no transformer at all is named by its class.
    fs::remove_dir_all(tiny.path("w/transformer")).unwrap();
    index("StableDiffusion3Pipeline".into());
    tiny.refuse(&["--folder", "w"], &["StableDiffusion3Pipeline"]);
    // And of one of another family that can be drawn the part that is not there.
    index("StableDiffusionXLPipeline".into());
    tiny.refuse(&["--folder", "w"], &["cannot load `w`", "a folder in it called `unet`"]);
}
