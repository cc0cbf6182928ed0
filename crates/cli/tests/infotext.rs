//! What `forge info` makes of the lines of settings that other programs write.

mod shelf;

use std::time::Instant;

use serde_json::json;
use shelf::{Shelf, check_all, holds, png};

#[test]
fn lines_of_settings_are_read_whoever_wrote_them() {
    check_all(&[
        (
            "A1111 1.10",
            "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 5, \
             Size: 512x768, Model hash: 0123abcd, Model: m, Clip skip: 2, ENSD: 31337, Version: v1.10.1",
            json!({"prompt": "a red apple", "negative": "blurry", "steps": 20, "sampler": "euler", "schedule": "karras",
                "cfg": 7.0, "seed": 5, "width": 512, "height": 768, "noise": "nv", "from": "a1111",
                "clip_skip": 2, "unread": ["Model hash", "Model", "ENSD"], "defaults": ["guidance", "profile"]}),
        ),
        (
            "A1111 1.6 with the schedule in the sampler",
            "a\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 5.5, Seed: 1, Size: 768x512, RNG: CPU, Version: v1.6.0",
            json!({"sampler": "dpmpp_2m", "schedule": "karras", "cfg": 5.5, "noise": "cpu", "from": "a1111"}),
        ),
        (
            "A1111 1.6 without one",
            "a\nSteps: 30, Sampler: DPM++ 2M, CFG scale: 5.5, Seed: 1, Size: 768x512, Version: v1.6.0",
            json!({"sampler": "dpmpp_2m", "schedule": "normal", "defaults": ["guidance", "profile"]}),
        ),
        (
            "Forge WebUI with Flux",
            "a\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 9, \
             Size: 896x1152, Model: flux1-dev-bnb-nf4, Version: f2.0.1v1.10.1-previous-669-gdfdcbab6, Module 1: ae, Module 2: clip_l",
            json!({"guidance": 3.5, "cfg": 1.0, "schedule": "simple", "noise": "nv", "from": "forge-webui",
                "unread": ["Model", "Module 1", "Module 2"], "defaults": ["profile"]}),
        ),
        (
            "quotes, hashes and lists of A1111",
            "a\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768, Lora hashes: \"x: 1, y: 2\", \
             Hashes: {\"model\": \"abc, d: e\"}, TI: \"a, b\", Version: v1.10.1",
            json!({"seed": 5, "unread": ["Lora hashes", "Hashes", "TI"]}),
        ),
        (
            "Hires and refiner settings are others than those of the picture",
            "a\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768, Denoising strength: 0.5, Hires upscale: 2, \
             Hires steps: 10, Hires sampler: Heun, Hires CFG Scale: 3, Hires Distilled CFG Scale: 9, Hires schedule type: Beta, \
             Refiner switch at: 0.8, Version: v1.10.1",
            json!({"steps": 20, "sampler": "euler", "cfg": 7.0, "guidance": 3.5, "schedule": "automatic",
                "unread": ["Refiner switch at"],
                "hires": {"scale": 2.0, "width": null, "height": null, "upscaler": "latent", "steps": 10, "strength": 0.5,
                    "sampler": "heun", "schedule": "beta", "cfg": 3.0, "guidance": 9.0, "prompt": null, "negative": null, "model": null}}),
        ),
        (
            "a second pass by an upscaler that is not known stays what the picture's own settings are not",
            "a\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768, Denoising strength: 0.5, Hires upscale: 2, \
             Hires upscaler: Mine, Version: v1.10.1",
            json!({"steps": 20, "unread": ["Denoising strength", "Hires upscale", "Hires upscaler"]}),
        ),
        (
            "the first letter of a key is as the program likes",
            "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, CFG Scale: 7.5, Seed: 5, Size: 512x768, Model: m, \
             Version: ComfyUI",
            json!({"cfg": 7.5, "noise": "cpu", "profile": "comfy", "from": "comfyui"}),
        ),
        (
            "all in lower case",
            "a\nnegative prompt: b\nsteps: 20, sampler: euler, cfg scale: 7.5, seed: 5, size: 512x768, model: m, version: comfyui",
            json!({"prompt": "a", "negative": "b", "steps": 20, "cfg": 7.5, "seed": 5, "width": 512, "profile": "comfy"}),
        ),
        (
            "all in upper case",
            "a\nNEGATIVE PROMPT: b\nSTEPS: 20, SAMPLER: EULER, CFG SCALE: 7.5, SEED: 5, SIZE: 512X768",
            json!({"negative": "b", "steps": 20, "cfg": 7.5, "seed": 5, "height": 768, "from": null}),
        ),
        (
            "underscores",
            "a\nsteps: 20, sampler_name: heun, cfg_scale: 7.5, seed: 5, width: 512, height: 768, scheduler: karras",
            json!({"sampler": "heun", "cfg": 7.5, "width": 512, "height": 768, "schedule": "karras"}),
        ),
        (
            "hyphens",
            "a\nSteps: 20, Sampling-method: heun, CFG-scale: 7.5, Seed: 5, Size: 512x768, Schedule: beta",
            json!({"sampler": "heun", "cfg": 7.5, "schedule": "beta"}),
        ),
        (
            "a scheduler is a schedule",
            "a\nSteps: 20, Sampler: euler, Scheduler: simple, CFG scale: 1, Seed: 7, Size: 512x512, Version: ComfyUI",
            json!({"schedule": "simple", "noise": "cpu", "profile": "comfy", "defaults": ["guidance"]}),
        ),
        (
            "a scheduler of diffusers is a sampler",
            "a\nSteps: 20, Scheduler: EulerAncestralDiscreteScheduler, CFG scale: 5, Seed: 7, Size: 512x512",
            json!({"sampler": "euler_ancestral"}),
        ),
        (
            "guidance",
            "a red apple\nSteps: 20, Sampler: Euler, Guidance: 2.5, Seed: 7",
            json!({"guidance": 2.5, "cfg": 1.0,
                "defaults": ["schedule", "cfg", "width", "height", "noise", "profile"]}),
        ),
        (
            "distilled guidance by other names",
            "a\nSteps: 20, Sampler: Euler, cfg: 1, distilled_cfg: 4.5, Seed: 7, Size: 512x512",
            json!({"guidance": 4.5, "cfg": 1.0}),
        ),
        (
            "guidance scale of a model that is not Flux",
            "a\nSteps: 20, Sampler: Euler, Guidance scale: 7.5, Seed: 7, Size: 512x512, Model: sd_xl_base",
            json!({"cfg": 7.5, "guidance": 3.5}),
        ),
        (
            "guidance scale of a Flux model",
            "a\nSteps: 20, Sampler: Euler, Guidance scale: 2.5, Seed: 7, Size: 512x512, Model: FLUX.1-dev",
            json!({"cfg": 1.0, "guidance": 2.5}),
        ),
        (
            "guidance scale beside cfg",
            "a\nSteps: 20, Sampler: Euler, CFG scale: 1.5, Guidance scale: 2.5, Seed: 7, Size: 512x512",
            json!({"cfg": 1.5, "guidance": 2.5}),
        ),
        (
            "commas without spaces",
            "a red apple\nNegative prompt: blurry\nSteps: 50, Sampler: k_dpmpp_2s_a, CFG scale: 5, Seed: 2830501020,Size: 768x512, \
             model: stable_diffusion",
            json!({"seed": 2_830_501_020_u64, "width": 768, "height": 512, "sampler": "dpmpp_2s_ancestral", "unread": ["model"]}),
        ),
        (
            "neither commas nor colons with spaces",
            "a\nSteps:50,Sampler:Euler,CFG scale:5,Seed:28,Size:768x512",
            json!({"steps": 50, "sampler": "euler", "cfg": 5.0, "seed": 28, "width": 768}),
        ),
        (
            "commas within a value",
            "a\nSteps: 5, Sampler: Euler, Seed: 28, Model: one, two,three, Size: 768x512",
            json!({"seed": 28, "width": 768, "pairs":
                [["Steps", "5"], ["Sampler", "Euler"], ["Seed", "28"], ["Model", "one, two,three"], ["Size", "768x512"]]}),
        ),
        (
            "stable-diffusion.cpp",
            "a lovely cat\nSteps: 4, CFG scale: 1.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 512x512, Model: , \
             RNG: cuda, Sampler: euler, TE: clip_l.safetensors, TE: t5xxl_fp16.safetensors, Unet: flux1-schnell.safetensors, \
             VAE: ae.safetensors, Version: stable-diffusion.cpp",
            json!({"steps": 4, "cfg": 1.0, "guidance": 3.5, "seed": 42, "noise": "nv", "profile": "comfy",
                "from": "stable-diffusion.cpp", "options": {}, "unread": ["Eta", "Model", "TE", "Unet", "VAE"],
                "defaults": ["schedule"]}),
        ),
        (
            "stable-diffusion.cpp with skipped layers",
            "a\nSteps: 4, CFG scale: 7.000000, SLG scale: 2.500000, Skip layers: [7, 8, 9, ], Skip layer start: 0.010000, \
             Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 512x512, Model: m, RNG: cpu, Sampler: euler_a, \
             Version: stable-diffusion.cpp",
            json!({"seed": 42, "noise": "cpu", "sampler": "euler_ancestral", "options": {},
                "unread": ["SLG scale", "Skip layers", "Skip layer start", "Eta", "Model"]}),
        ),
        (
            "stable-diffusion.cpp with levels of its own and JSON behind",
            "a\nSteps: 2, CFG scale: 1.000000, Guidance: 3.500000, Eta: inf, Seed: 42, Size: 512x512, Model: m, RNG: cuda, \
             Sampler: euler, Custom Sigmas: [1.0000, 0.5000, 0.0000], Version: stable-diffusion.cpp, \
             SDCPP: {\"schema\": \"sdcpp.image.params/v1\", \"seed\": 42, \"prompt\": {\"positive\": \"a, Steps: 9\"}}",
            json!({"sigmas": [1.0, 0.5, 0.0], "steps": 2, "seed": 42, "options": {}, "unread": ["Eta", "Model", "SDCPP"]}),
        ),
        (
            "stable-diffusion.cpp with the noise of the C++ library",
            "a\nSteps: 4, CFG scale: 1.0, Seed: 42, Size: 512x512, RNG: std_default, Sampler: euler, \
             Version: stable-diffusion.cpp",
            json!({"error": "`RNG` of stable-diffusion.cpp's text is `std_default`"}),
        ),
        (
            "an option that the sampler has",
            "a\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, eta: 0.67, sigma_noise: 1.01, Version: v1.10.1",
            json!({"options": {"eta": 0.67, "s_noise": 1.01}}),
        ),
        (
            "noise by other names",
            "a\nSteps: 4, Sampler: Euler, Seed: 1, Size: 512x512, rng: GPU",
            json!({"noise": "nv", "defaults": ["schedule", "cfg", "guidance", "profile"]}),
        ),
        (
            "noise by no name",
            "a\nSteps: 4, Seed: 1, RNG: dice, Size: 64x64",
            json!({"error": "`RNG` of the infotext is `dice`"}),
        ),
        (
            "SD.Next",
            "a\nSteps: 20, Size: 1024x1024, Sampler: Euler a, Seed: 5, CFG scale: 6, App: SD.Next, Version: 1b2a3c4, \
             Backend: Diffusers, Operations: txt2img",
            json!({"from": "sdnext", "profile": "diffusers", "unread": ["Backend", "Operations"]}),
        ),
        (
            "Draw Things with Flux",
            "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Guidance Scale: 4.5, Seed: 7, Size: 1024x1024, \
             Model: flux_1_dev_q8p.ckpt, Strength: 1.0, Seed Mode: Scale Alike",
            json!({"from": "draw-things", "guidance": 4.5, "cfg": 1.0, "unread": ["Model", "Strength", "Seed Mode"],
                "defaults": ["schedule", "cfg", "noise", "profile"]}),
        ),
        (
            "Draw Things with Stable Diffusion and torch's noise",
            "a\nSteps: 20, Sampler: DDIM, Guidance Scale: 7.5, Seed: 7, Size: 512x512, Model: sd_v1.5_f16.ckpt, Strength: 1.0, \
             Seed Mode: Torch CPU Compatible",
            json!({"cfg": 7.5, "noise": "cpu", "unread": ["Model", "Strength"]}),
        ),
        (
            "Fooocus in A1111's form",
            "a cat, cinematic still\nNegative prompt: anime\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 123, Size: 1152x896, \
             CFG scale: 4.0, Sharpness: 2.0, ADM Guidance: \"(1.5, 0.8, 0.3)\", Model: juggernautXL, Model hash: abc, \
             Performance: Speed, Scheduler: karras, VAE: Default (model), Raw prompt: a cat, Raw negative prompt: , \
             Version: Fooocus v2.5.5",
            json!({"from": "fooocus", "sampler": "dpmpp_2m_sde", "schedule": "karras", "cfg": 4.0, "noise": "cpu",
                "profile": "comfy", "width": 1152}),
        ),
        ("size with a capital", "a\nSteps: 4, Seed: 1, Size: 512X768", json!({"width": 512, "height": 768})),
        ("size with spaces", "a\nSteps: 4, Seed: 1, Size: 512 x 768", json!({"width": 512, "height": 768})),
        ("size with a sign", "a\nSteps: 4, Seed: 1, Size: 512×768", json!({"width": 512, "height": 768})),
        ("half a size", "a\nSteps: 4, Seed: 1, Size: 512", json!({"error": "`Size` of the infotext is `512`"})),
        ("a negative size", "a\nSteps: 4, Seed: 1, Size: 512x-768", json!({"error": "WIDTHxHEIGHT"})),
        ("steps with a point", "a\nSteps: 20.0, Seed: 1", json!({"steps": 20})),
        ("half a step", "a\nSteps: 20.5, Seed: 1", json!({"error": "`Steps` of the infotext is `20.5`"})),
        ("too many steps", "a\nSteps: 1001, Seed: 1, Version: v1.10.1", json!({"error": "A1111's text: 1001 steps"})),
        ("the largest seed", "a\nSteps: 4, Seed: 18446744073709551615", json!({"seed": u64::MAX})),
        ("a larger seed", "a\nSteps: 4, Seed: 18446744073709551616", json!({"error": "`Seed` of the infotext"})),
        ("a negative seed", "a\nSteps: 4, Seed: -5", json!({"error": "`Seed` of the infotext is `-5`"})),
        ("half a seed", "a\nSteps: 4, Seed: 1.5", json!({"error": "`Seed` of the infotext is `1.5`"})),
        (
            "a random seed",
            "a\nSteps: 4, Seed: -1, Version: ComfyUI",
            json!({"error": "the text of a ComfyUI node has -1"}),
        ),
        ("no number", "a\nSteps: 4, CFG scale: nan, Seed: 1", json!({"error": "`CFG scale` of the infotext is `nan`"})),
        ("no end", "a\nSteps: 4, CFG scale: inf, Seed: 1", json!({"error": "`CFG scale` of the infotext is `inf`"})),
        ("cfg out of range", "a\nSteps: 4, CFG scale: 0.5, Seed: 1", json!({"error": "cfg is 0.5, expected 1 to 100"})),
        (
            "a contradiction",
            "a\nSteps: 4, CFG scale: 7, cfg: 5, Seed: 1",
            json!({"error": "the infotext contradicts itself: `CFG scale` is `7` and `cfg` is `5`"}),
        ),
        (
            "an unknown sampler",
            "a\nSteps: 4, Sampler: DPM-9, Seed: 1, Version: ComfyUI",
            json!({"error": "the text of a ComfyUI node: no sampler is called `DPM-9`"}),
        ),
        (
            "an unknown schedule",
            "a\nSteps: 4, Sampler: Euler, Schedule type: Zigzag, Seed: 1, Version: f2.0.1v1.10.1",
            json!({"error": "Forge: no schedule is called `Zigzag`"}),
        ),
        (
            "empty values",
            "a\nSteps: 4, Sampler: , Seed: , RNG: , CFG scale: 2",
            json!({"cfg": 2.0, "sampler": "euler"}),
        ),
        (
            "words",
            "a cat on a mat",
            json!({"prompt": "a cat on a mat", "from": null, "unread": [],
            "defaults": ["seed", "steps", "sampler", "schedule", "cfg", "guidance", "width", "height", "noise", "profile"]}),
        ),
        ("words with colons", "a cat\nstyle: photo, mood: dark, light: soft", json!({"seed": 0, "pairs": []})),
        ("two settings", "a cat\nSeed: 5, Size: 512x768", json!({"prompt": "a cat", "seed": 5, "width": 512})),
        (
            "a line for each",
            "a cat\nNegative prompt: b\nSteps: 4\nSampler: Euler\nCFG scale: 7\nSeed: 5\nSize: 512x768",
            json!({"prompt": "a cat", "negative": "b", "steps": 4, "cfg": 7.0, "seed": 5, "width": 512}),
        ),
        (
            "all in one line",
            "a cat, on a mat, Negative prompt: b, c, Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768",
            json!({"prompt": "a cat, on a mat", "negative": "b, c", "steps": 4, "seed": 5, "unread": []}),
        ),
        (
            "lines behind",
            "a cat\nSteps: 4, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x768, Version: v1.10.1\nTemplate: a {x|y}",
            json!({"prompt": "a cat", "seed": 5, "unread": []}),
        ),
        ("Windows' line ends", "a\r\nNegative prompt: b\r\nSteps: 4, Seed: 5\r\n", json!({"negative": "b", "seed": 5})),
        (
            "one line without commas between",
            "a cat, hat. Negative prompt: b, c Steps: 33, Sampler: Euler, Seed: 5, Size: 512x768",
            json!({"prompt": "a cat, hat.", "negative": "b, c", "steps": 33, "seed": 5, "unread": []}),
        ),
        (
            "an indented negative prompt",
            "a cat\n    Negative prompt: b\n    Steps: 4, Seed: 5",
            json!({"prompt": "a cat", "negative": "b", "steps": 4}),
        ),
        (
            "a sampler's schedule against another",
            "a\nSteps: 4, Sampler: DPM++ 2M Karras, Schedule type: Exponential, Seed: 5",
            json!({"error": "`Sampler` is `DPM++ 2M Karras` and `Schedule type` is `Exponential`"}),
        ),
        (
            "A1111 without its letter",
            "a\nSteps: 4, Sampler: DPM++ 2M, Seed: 5, Version: 1.8.0",
            json!({"from": "a1111", "schedule": "normal"}),
        ),
        (
            "another program's number",
            "a\nSteps: 4, Sampler: DPM++ 2M, Seed: 5, App: Mine, Version: 1.8.0",
            json!({"from": null, "schedule": "automatic"}),
        ),
        ("a braced prompt", "{red|blue} cat\nSteps: 4, Seed: 5", json!({"prompt": "{red|blue} cat", "seed": 5})),
    ]);
}

#[test]
fn samplers_that_end_in_a_schedule_are_read_in_every_programs_spelling() {
    let line = |sampler: &str, more: &str| {
        format!("a\nSteps: 4, Sampler: {sampler}, CFG scale: 1, Seed: 5, Size: 512x512, Version: {more}")
    };
    let shelf = Shelf::new();
    for (sampler, version, expected) in [
        ("euler_simple", "ComfyUI", ["euler", "simple"]),
        ("euler_ancestral_normal", "ComfyUI", ["euler_ancestral", "normal"]),
        ("dpmpp_2m_sgm_uniform", "ComfyUI", ["dpmpp_2m", "sgm_uniform"]),
        ("euler simple", "stable-diffusion.cpp", ["euler", "simple"]),
        ("euler discrete", "stable-diffusion.cpp", ["euler", "normal"]),
        ("dpm++2m karras", "stable-diffusion.cpp", ["dpmpp_2m", "karras"]),
        ("DPM++ 2M Karras", "v1.6.0", ["dpmpp_2m", "karras"]),
    ] {
        let found = shelf.json(&[("parameters", &line(sampler, version))]);
        holds(sampler, &found, &json!({"sampler": expected[0], "schedule": expected[1]}));
    }
    let things = "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler A Trailing, Guidance Scale: 4.5, Seed: 7, \
                  Size: 1024x1024, Model: flux_1_dev_q8p.ckpt, Strength: 1.0, Seed Mode: Scale Alike";
    let expected = json!({"sampler": "euler_ancestral", "guidance": 4.5});
    holds("Draw Things", &shelf.json(&[("parameters", things)]), &expected);
    let invoke = r#"{"positive_prompt": "a", "seed": 3, "steps": 4, "scheduler": "dpmpp_2m_k", "cfg_scale": 7}"#;
    let expected = json!({"sampler": "dpmpp_2m", "schedule": "karras"});
    holds("InvokeAI", &shelf.json(&[("invokeai_metadata", invoke)]), &expected);
    let novel = r#"{"prompt": "a", "uc": "b", "seed": 3, "steps": 4, "sampler": "k_dpmpp_2s_ancestral", "noise_schedule": "karras"}"#;
    let expected = json!({"sampler": "dpmpp_2s_ancestral", "schedule": "karras"});
    holds("NovelAI", &shelf.json(&[("Comment", novel)]), &expected);
}

#[test]
fn a_text_of_eighty_thousand_keys_is_an_error_at_once() {
    let keys: String = (0..80_000).map(|i| format!("key{i}: v, ")).collect();
    let shelf = Shelf::new();
    let start = Instant::now();
    let found = shelf.json(&[("parameters", &format!("a\nSteps: 1, {keys}"))]);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    holds("many", &found, &json!({"error": "it has more than 4096 settings"}));
}

#[test]
fn info_without_json_is_the_text_as_it_stands() {
    let shelf = Shelf::new();
    for text in ["a cat", "a cat\nSteps: 4, Seed: -1", "{\"sui_image_params\": {\"prompt\": \"a\", \"seed\": 1}}"] {
        let (code, out, _) = shelf.run(&[], "a.jpg", &png(&[("parameters", text)]));
        assert_eq!((code, out.as_str()), (Some(0), format!("{text}\n").as_str()));
    }
    let (code, _, err) = shelf.run(&[], "a.png", b"GIF89a\x01\0\x01\0\0\0\0;");
    assert_eq!(
        (code, err.as_str()),
        (Some(1), "error: cannot read `a.png`: it is a GIF, and texts are read from PNG, JPEG and WebP\n")
    );
}
