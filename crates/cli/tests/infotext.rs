//! What `forge info` makes of the texts of other programs.

mod tiny;

use std::{fs, time::Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tiny::wait;

/// A folder in which the command reads pictures of given texts.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    /// What `forge info` prints of a file, and its exit code.
    fn run(&self, flags: &[&str], name: &str, bytes: &[u8]) -> (Option<i32>, String, String) {
        fs::write(self.0.path().join(name), bytes).expect("a file");
        let out = self.0.path().join("out");
        let err = self.0.path().join("err");
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_forge"))
            .arg("info")
            .args(flags)
            .arg(name)
            .current_dir(self.0.path())
            .stdout(fs::File::create(&out).expect("a file"))
            .stderr(fs::File::create(&err).expect("a file"))
            .spawn()
            .expect("the command is built");
        let code = wait(&mut child).code();
        let read = |path| fs::read_to_string(path).expect("text");
        (code, read(&out), read(&err))
    }

    /// The object that `forge info --json` prints of a picture with texts by these keys.
    fn json(&self, texts: &[(&str, &str)]) -> Value {
        let (code, out, err) = self.run(&["--json"], "a.png", &png(texts));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        serde_json::from_str(&out).expect("one JSON object")
    }
}

/// A PNG of one pixel with `tEXt` chunks.
fn png(texts: &[(&str, &str)]) -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        let bit = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
        !bytes.iter().fold(!0, |c, b| (0..8).fold(c ^ u32::from(*b), bit))
    }
    let chunk = |kind: &[u8], bytes: &[u8]| {
        let body = [kind, bytes].concat();
        [&(bytes.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let texts: Vec<u8> = texts
        .iter()
        .flat_map(|(key, text)| chunk(b"tEXt", &[key.as_bytes(), b"\0", text.as_bytes()].concat()))
        .collect();
    let header = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    let pixels = chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0, 0, 0, 4, 0, 1]);
    [b"\x89PNG\r\n\x1a\n", &header[..], &texts, &pixels, &chunk(b"IEND", b"")].concat()
}

/// Checks that the object has these fields; `error` is a part of the message, and an error has no request beside it.
fn holds(name: &str, found: &Value, expected: &Value) {
    for (key, value) in expected.as_object().expect("an object") {
        if key == "error" {
            let error = found["error"].as_str().unwrap_or_else(|| panic!("{name}: no error in {found}"));
            assert!(error.contains(value.as_str().expect("words")), "{name}: {error}");
            assert!(found.get("seed").is_none() && found.get("steps").is_none(), "{name}: {found}");
        } else {
            assert_eq!(&found[key], value, "{name}: `{key}` in {found}");
        }
    }
    assert_eq!(found.get("error").is_some(), expected.get("error").is_some(), "{name}: {found}");
}

fn check_all(texts: &[(&str, &str, Value)]) {
    let shelf = Shelf::new();
    for (name, text, expected) in texts {
        holds(name, &shelf.json(&[("parameters", text)]), expected);
    }
}

#[test]
fn lines_of_settings_are_read_whoever_wrote_them() {
    check_all(&[
        (
            "A1111 1.10",
            "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 5, \
             Size: 512x768, Model hash: 0123abcd, Model: m, Clip skip: 2, ENSD: 31337, Version: v1.10.1",
            json!({"prompt": "a red apple", "negative": "blurry", "steps": 20, "sampler": "euler", "schedule": "karras",
                "cfg": 7.0, "seed": 5, "width": 512, "height": 768, "noise": "nv", "from": "a1111",
                "unread": ["Model hash", "Model", "Clip skip", "ENSD"], "defaults": ["guidance", "profile"]}),
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
            json!({"steps": 20, "sampler": "euler", "cfg": 7.0, "guidance": 3.5, "schedule": "automatic"}),
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
            "a\nSteps: 4, Seed: 1, RNG: dice, Size: 8x8",
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
            json!({"prompt": "a cat", "seed": 5, "unread": ["Template"]}),
        ),
        ("Windows' line ends", "a\r\nNegative prompt: b\r\nSteps: 4, Seed: 5\r\n", json!({"negative": "b", "seed": 5})),
        ("a braced prompt", "{red|blue} cat\nSteps: 4, Seed: 5", json!({"prompt": "{red|blue} cat", "seed": 5})),
    ]);
}

#[test]
fn json_of_other_programs_is_read() {
    check_all(&[
        (
            "SwarmUI",
            r#"{"sui_image_params": {"prompt": "a cat", "negativeprompt": "dog", "images": 1, "seed": 581626448, "steps": 25,
                "cfgscale": 4.0, "width": 1024, "height": 768, "model": "flux1-dev", "fluxguidancescale": 3.2, "sampler": "euler",
                "scheduler": "simple", "swarm_version": "0.9.5"}, "sui_extra_data": {"date": "2025-01-01"}}"#,
            json!({"from": "swarmui", "prompt": "a cat", "negative": "dog", "seed": 581_626_448, "steps": 25, "cfg": 4.0,
                "guidance": 3.2, "width": 1024, "height": 768, "sampler": "euler", "schedule": "simple", "noise": "cpu",
                "profile": "comfy", "defaults": [], "unread": ["images", "model", "sui_extra_data"]}),
        ),
        (
            "SwarmUI with numbers as text",
            r#"{"sui_image_params": {"prompt": "a", "seed": "5", "steps": "8", "cfgscale": "1.0", "width": "512", "height": "512"}}"#,
            json!({"seed": 5, "steps": 8, "cfg": 1.0, "width": 512, "defaults": ["sampler", "schedule", "guidance"]}),
        ),
        (
            "SwarmUI with a random seed",
            r#"{"sui_image_params": {"prompt": "a", "seed": -1, "steps": 8}}"#,
            json!({"error": "SwarmUI's text has -1", "from": "swarmui"}),
        ),
        (
            "SwarmUI with a sampler that is not known",
            r#"{"sui_image_params": {"prompt": "a", "seed": 1, "steps": 8, "sampler": "warp"}}"#,
            json!({"error": "SwarmUI's text: no sampler is called `warp`"}),
        ),
        (
            "SwarmUI, cut off",
            r#"{"sui_image_params": {"prompt": "a", "seed": 1, "ste"#,
            json!({"error": "SwarmUI's text can't be read: it is not whole"}),
        ),
        (
            "Fooocus",
            r#"{"adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689", "full_prompt":
                ["cinematic still a cat", "a cat, intricate"], "guidance_scale": 4, "lora_combined_1": "sd_xl_offset : 0.1",
                "metadata_scheme": "fooocus", "negative_prompt": "", "performance": "Speed", "prompt": "a cat", "resolution":
                "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "3212032519", "sharpness": 2,
                "steps": 30, "styles": "['Fooocus V2']", "vae": "Default (model)", "version": "Fooocus v2.5.5"}"#,
            json!({"from": "fooocus", "prompt": "a cat", "seed": 3_212_032_519_u64, "steps": 30, "cfg": 4.0, "width": 1152,
                "height": 896, "sampler": "dpmpp_2m_sde", "schedule": "karras", "noise": "cpu", "defaults": ["guidance"]}),
        ),
        (
            "Fooocus' log",
            r#"{"Prompt": "a cat", "Negative Prompt": "dog", "Base Model": "m", "Resolution": "1024×1024", "Guidance Scale": 7,
                "Sampler": "euler", "Scheduler": "normal", "Seed": 4, "Steps": 30}"#,
            json!({"from": "fooocus", "prompt": "a cat", "negative": "dog", "cfg": 7.0, "width": 1024, "seed": 4}),
        ),
        (
            "Easy Diffusion",
            r#"{"prompt": "a cat", "negative_prompt": "dog", "seed": 5, "use_stable_diffusion_model": "sd-v1-4", "clip_skip": false,
                "sampler_name": "euler_a", "width": 512, "height": 512, "num_inference_steps": 25, "guidance_scale": 7.5}"#,
            json!({"from": "easy-diffusion", "steps": 25, "cfg": 7.5, "sampler": "euler_ancestral",
                "defaults": ["schedule", "guidance", "noise", "profile"]}),
        ),
        (
            "a program that does not say its name",
            r#"{"prompt": "a cat", "seed": 5, "steps": 20, "cfg_scale": 6, "width": 512, "height": 768, "lora": ["x"]}"#,
            json!({"from": null, "seed": 5, "cfg": 6.0, "unread": ["lora"]}),
        ),
        ("JSON that is no request", r#"{"a": 1, "b": [2]}"#, json!({"from": null, "prompt": r#"{"a": 1, "b": [2]}"#})),
    ]);
}

#[test]
fn programs_with_keys_of_their_own_are_read() {
    let shelf = Shelf::new();
    let novel = r#"{"prompt": "1girl, rain", "steps": 28, "height": 1216, "width": 832, "scale": 5.5, "uncond_scale": 0.0, "seed": 3071474384,
        "n_samples": 1, "noise_schedule": "karras", "sampler": "k_euler_ancestral", "sm": false, "uc": "lowres", "v4_prompt": {"caption":
        {"base_caption": "1girl, rain"}}}"#;
    let old = r#"{"steps": 28, "sampler": "k_euler_ancestral", "seed": 7, "strength": 0.7, "noise": 0.2, "scale": 11.0, "uc": "lowres"}"#;
    let things = r#"{"c": "a cat", "uc": "dog", "steps": 20, "sampler": "Euler a", "scale": 3.5, "seed": 9, "size": "768x512", "model":
        "flux_1_schnell.ckpt", "strength": 1, "seed_mode": "Nvidia GPU Compatible", "v2": {"shift": 3.0}}"#;
    let invoke = r#"{"generation_mode": "flux_txt2img", "positive_prompt": "a lake", "guidance": 4, "cfg_scale": 1, "steps": 30, "seed": 3,
        "width": 1024, "height": 768, "model": {"name": "FLUX Dev"}, "negative_prompt": null, "rand_device": "cpu", "app_version": "5.4.1"}"#;
    let invoke_sd = r#"{"generation_mode": "sdxl_txt2img", "positive_prompt": "a lake", "negative_prompt": "b", "cfg_scale": 7.5, "steps": 30,
        "seed": 3, "width": 1024, "height": 768, "scheduler": "euler_a", "rand_device": "cuda", "app_version": "6.9.0"}"#;
    let earlier = r#"{"model_weights": "sd-1.5", "app_version": "2.3.0", "image": {"prompt": [{"prompt": "an owl [blurry]", "weight": 1}],
        "seed": 7, "steps": 30, "cfg_scale": 7.5, "sampler": "k_lms", "width": 512, "height": 640, "type": "txt2img"}}"#;
    let dream = "\"a red fox [blurry, text]\" -s 50 -S 3357757885 -W 512 -H 768 -C 7.5 -A k_euler_a";
    for (name, texts, expected) in [
        (
            "NovelAI",
            vec![
                ("Title", "NovelAI generated image"),
                ("Description", "1girl, rain"),
                ("Software", "NovelAI"),
                ("Comment", novel),
            ],
            json!({"from": "novelai", "prompt": "1girl, rain", "negative": "lowres", "steps": 28, "width": 832, "height": 1216,
                "cfg": 5.5, "seed": 3_071_474_384_u64, "sampler": "euler_ancestral", "schedule": "karras",
                "defaults": ["guidance", "noise", "profile"]}),
        ),
        (
            "NovelAI's first",
            vec![("Description", "1girl"), ("Software", "NovelAI"), ("Comment", old)],
            json!({"from": "novelai", "prompt": "1girl", "negative": "lowres", "cfg": 11.0, "seed": 7}),
        ),
        (
            "Draw Things",
            vec![("Description", "a cat\nSteps: 20"), ("Software", "Draw Things"), ("Comment", things)],
            json!({"from": "draw-things", "prompt": "a cat", "negative": "dog", "guidance": 3.5, "cfg": 1.0, "noise": "nv",
                "width": 768, "unread": ["model", "strength", "v2"]}),
        ),
        (
            "InvokeAI with Flux",
            vec![("invokeai_metadata", invoke), ("invokeai_graph", "{}")],
            json!({"from": "invokeai", "prompt": "a lake", "guidance": 4.0, "cfg": 1.0, "seed": 3, "noise": "cpu",
                "profile": "diffusers", "defaults": ["sampler", "schedule"]}),
        ),
        (
            "InvokeAI",
            vec![("invokeai_metadata", invoke_sd)],
            json!({"from": "invokeai", "negative": "b", "cfg": 7.5, "sampler": "euler_ancestral", "noise": "nv"}),
        ),
        (
            "InvokeAI 2",
            vec![("Dream", dream), ("sd-metadata", earlier)],
            json!({"from": "invokeai", "prompt": "an owl", "negative": "blurry", "seed": 7, "sampler": "lms", "height": 640,
                "unread": ["type", "model_weights"]}),
        ),
        (
            "InvokeAI 1",
            vec![("Dream", dream)],
            json!({"from": "invokeai", "prompt": "a red fox", "negative": "blurry, text", "steps": 50, "seed": 3_357_757_885_u64,
                "width": 512, "height": 768, "cfg": 7.5, "sampler": "euler_ancestral"}),
        ),
        (
            "Easy Diffusion",
            vec![
                ("prompt", "a cat"),
                ("negative_prompt", "dog"),
                ("seed", "5"),
                ("sampler_name", "heun"),
                ("num_inference_steps", "20"),
                ("guidance_scale", "7.5"),
                ("width", "512"),
                ("height", "640"),
            ],
            json!({"from": "easy-diffusion", "prompt": "a cat", "negative": "dog", "seed": 5, "steps": 20, "cfg": 7.5, "height": 640}),
        ),
    ] {
        holds(name, &shelf.json(&texts), &expected);
    }
}

/// A Flux graph as ComfyUI's template makes it, with another node in the place of some.
fn flux_graph(change: impl Fn(&mut Value)) -> String {
    let mut graph = json!({
        "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 768, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5xxl", "clip_name2": "clip_l", "type": "flux"}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
        "13": {"class_type": "SamplerCustomAdvanced", "inputs":
            {"noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0], "latent_image": ["5", 0]}},
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 20, "denoise": 1.0, "model": ["12", 0]}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 219_670_278_747_233_u64}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.2, "conditioning": ["6", 0]}},
    });
    change(&mut graph);
    graph.to_string()
}

#[test]
fn graphs_of_comfyui_are_read_from_the_sampler_back() {
    let simple = r#"{"3": {"class_type": "KSampler", "inputs": {"seed": 110, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler":
        "simple", "positive": ["6", 0]}}, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}}"#;
    let whole = json!({
        "3": {"class_type": "KSampler", "is_changed": [null], "inputs": {"seed": 5, "steps": 25, "cfg": 7.5, "sampler_name": "dpmpp_2m",
            "scheduler": "karras", "denoise": 1, "model": ["20", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
        "20": {"class_type": "LoraLoader", "inputs": {"lora_name": "l", "strength_model": 0.8, "model": ["4", 0], "clip": ["4", 1]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": ["30", 0], "height": 768, "batch_size": 2}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["31", 0], "clip": ["20", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["20", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "30": {"class_type": "PrimitiveInt", "inputs": {"value": 512}},
        "31": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a cat"}},
    })
    .to_string();
    let hires = json!({
        "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 25, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1, "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
        "7": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "10": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 1024}},
        "11": {"class_type": "KSampler", "inputs": {"seed": 6, "steps": 10, "cfg": 7.5, "sampler_name": "heun", "scheduler": "normal",
            "denoise": 0.5, "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["10", 0]}},
    });
    let mut two = hires.clone();
    two["11"]["inputs"]["latent_image"] = json!(["5", 0]);
    two["19"] = json!({"class_type": "SaveImage", "inputs": {"images": ["3", 0]}});
    let mut circle = hires.clone();
    circle["3"]["inputs"]["latent_image"] = json!(["11", 0]);
    let mut lost = hires.clone();
    lost["3"]["inputs"]["positive"] = json!(["99", 0]);
    let shelf = Shelf::new();
    for (name, graph, expected) in [
        (
            "the least",
            simple.to_owned(),
            json!({"from": "comfyui-graph", "prompt": "a cat", "negative": "", "seed": 110, "steps": 20, "cfg": 1.0, "sampler": "euler",
                "schedule": "simple", "noise": "cpu", "profile": "comfy", "defaults": ["guidance", "width", "height"], "unread": []}),
        ),
        (
            "values in nodes of their own, with NaN",
            whole.replace("\"is_changed\":[null]", "\"is_changed\":[NaN]"),
            json!({"prompt": "a cat", "negative": "dog", "seed": 5, "cfg": 7.5, "sampler": "dpmpp_2m", "schedule": "karras",
                "width": 512, "height": 768, "unread": ["Model", "batch_size", "LoraLoader"]}),
        ),
        (
            "Flux",
            flux_graph(|_| {}),
            json!({"prompt": "a cat", "seed": 219_670_278_747_233_u64, "steps": 20, "cfg": 1.0, "guidance": 3.2, "width": 1024,
                "height": 768, "sampler": "euler", "schedule": "simple", "defaults": [], "unread": ["Model", "DualCLIPLoader"]}),
        ),
        (
            "Flux with two prompts and cfg",
            flux_graph(|graph| {
                graph["6"] = json!({"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": "cat", "t5xxl": "a cat", "guidance": 2.5}});
                graph["22"] = json!({"class_type": "CFGGuider", "inputs": {"model": ["12", 0], "positive": ["6", 0], "negative": ["6", 0], "cfg": 2}});
            }),
            json!({"prompt": "a cat", "negative": "a cat", "guidance": 2.5, "cfg": 2.0,
                "unread": ["Model", "CLIPTextEncodeFlux.clip_l", "DualCLIPLoader", "FluxGuidance"]}),
        ),
        (
            "a sampler with options and other levels",
            flux_graph(|graph| {
                graph["16"] = json!({"class_type": "SamplerEulerAncestral", "inputs": {"eta": 0.5, "s_noise": 1.0}});
                graph["17"] = json!({"class_type": "BetaSamplingScheduler", "inputs": {"model": ["12", 0], "steps": 8, "alpha": 0.6, "beta": 0.6}});
            }),
            json!({"sampler": "euler_ancestral", "schedule": "beta", "steps": 8, "options":
                {"eta": 0.5, "s_noise": 1.0, "alpha": 0.6, "beta": 0.6}}),
        ),
        (
            "hires: the first pass",
            hires.to_string(),
            json!({"seed": 5, "steps": 25, "sampler": "euler", "width": 512, "unread": ["KSampler", "LatentUpscale"]}),
        ),
        ("two passes", two.to_string(), json!({"error": "a ComfyUI graph can't be read: it has 2 samplers"})),
        ("a circle", circle.to_string(), json!({"error": "a ComfyUI graph can't be read: its links lead nowhere"})),
        ("a link to nothing", lost.to_string(), json!({"error": "it has no node 99, from which the prompt comes"})),
        (
            "no sampler",
            r#"{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}"#.to_owned(),
            json!({"error": "a ComfyUI graph can't be read: it has no sampler", "from": "comfyui-graph"}),
        ),
        (
            "a prompt that is made by another node",
            flux_graph(|graph| {
                graph["6"]["inputs"]["text"] = json!(["40", 0]);
                graph["40"] = json!({"class_type": "DPRandomGenerator", "inputs": {"text": "{a|b} cat", "seed": 1}});
            }),
            json!({"error": "the prompt comes from node 40, a `DPRandomGenerator`, which is not understood"}),
        ),
        (
            "prompts that are joined",
            flux_graph(|graph| {
                graph["26"]["inputs"]["conditioning"] = json!(["41", 0]);
                graph["41"] = json!({"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["6", 0]}});
            }),
            json!({"error": "a `ConditioningCombine`, which is not understood"}),
        ),
        (
            "a sampler that is not known",
            flux_graph(|graph| graph["16"]["inputs"]["sampler_name"] = json!("warp")),
            json!({"error": "a ComfyUI graph: no sampler is called `warp`"}),
        ),
        (
            "cut off",
            whole[..whole.len() - 40].to_owned(),
            json!({"error": "a ComfyUI graph can't be read: it is not whole"}),
        ),
    ] {
        holds(name, &shelf.json(&[("prompt", &graph), ("workflow", "{\"nodes\": [], \"links\": []}")]), &expected);
    }
    let workflow = shelf.json(&[("workflow", r#"{"last_node_id": 9, "nodes": [], "links": []}"#)]);
    holds(
        "the editor's alone",
        &workflow,
        &json!({"error": "a ComfyUI graph can't be read: it is the editor's workflow"}),
    );
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
