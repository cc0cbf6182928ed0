//! Values of flags and keys.

use crate::{
    refuse,
    tiny::{Tensors, Tiny},
};

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
        ("backend", "gpu", &["`device.backend` is `gpu`, expected `cpu`, `cuda:N`, `vulkan:N` or `vulkan:software`"]),
        (
            "backend",
            "cpu:1",
            &["`device.backend` is `cpu:1`, expected `cpu`, `cuda:N`, `vulkan:N` or `vulkan:software`"],
        ),
        ("backend", "cuda:99999999999999999999", &["`device.backend` is `cuda:9"]),
        ("compute", "f64", &["`device.compute` is `f64`, expected `auto`, `f32`, `tf32`, `bf16`, `f16` or `integers`"]),
        ("compute", "f16", &["`device.compute` is `f16`, expected `auto`", "without products of f16 in this device"]),
        ("output", "a.jxr", &["expected a name that ends in `.png`, `.jpg`, `.jpeg` or `.webp`"]),
        ("output", "", &["error: "]),
        ("output", "a/", &["expected a name that ends in `.png`, `.jpg`, `.jpeg` or `.webp`"]),
        ("quality", "0", &["`image.quality` is 0, expected 1 to 100"]),
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
