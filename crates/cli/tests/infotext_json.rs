//! What `forge info` makes of the JSON that other programs write, and of texts under keys of their own.

mod shelf;

use serde_json::{Value, json};
use shelf::{Shelf, check_all, holds};

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
            "SwarmUI before it had samplers of its own",
            r#"{"sui_image_params": {"prompt": "a", "seed": 5, "steps": 8, "comfyuisampler": "heun", "comfyuischeduler": "karras"}}"#,
            json!({"sampler": "heun", "schedule": "karras"}),
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
        (
            "JSON that is no request",
            r#"{"a": 1, "b": [2]}"#,
            json!({"from": null, "prompt": "", "error": "it is JSON of a program that is not known"}),
        ),
        (
            "a list of requests",
            r#"[{"prompt": "a", "seed": 5, "steps": 8}]"#,
            json!({"error": "it is JSON of a program that is not known"}),
        ),
        (
            "SwarmUI with a number that is none",
            r#"{"sui_image_params": {"prompt": "a", "seed": 1, "steps": 8, "cfgscale": NaN}}"#,
            json!({"error": "`cfgscale` of SwarmUI's text is `NaN`"}),
        ),
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
            "NovelAI with its own schedule",
            vec![(
                "Comment",
                r#"{"prompt": "a", "uc": "b", "seed": 3, "steps": 4, "noise_schedule": "native", "scale": 6}"#,
            )],
            json!({"cfg": 6.0, "unread": ["noise_schedule"],
                "defaults": ["sampler", "schedule", "guidance", "width", "height", "noise", "profile"]}),
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
            "a prompt from a pipe",
            json!({"3": {"class_type": "easy fullkSampler", "inputs": {"pipe": ["70", 0], "seed": 1, "steps": 8, "sampler_name": "euler"}},
                "70": {"class_type": "easy fluxLoader", "inputs": {"positive": "a cat"}}})
            .to_string(),
            json!({"error": "the prompt comes from node 3, a `easy fullkSampler`, which is not understood"}),
        ),
        (
            "no prompt",
            simple.replace(r#"["6", 0]"#, "null"),
            json!({"error": "the prompt comes from node 3, a `KSampler`"}),
        ),
        ("an output as text", simple.replace(r#"["6", 0]"#, r#"["6", "0"]"#), json!({"prompt": "a cat", "negative": ""})),
        (
            "an encoder without a text",
            simple.replace(r#""text""#, r#""words""#),
            json!({"error": "the prompt comes from node 6, a `CLIPTextEncode`"}),
        ),
        (
            "no guider",
            flux_graph(|graph| graph["13"]["inputs"]["guider"] = Value::Null),
            json!({"error": "the prompt comes from node 13, a `SamplerCustomAdvanced`"}),
        ),
        (
            "a prompt in a circle",
            flux_graph(|graph| {
                graph["22"]["inputs"]["conditioning"] = json!(["70", 0]);
                graph["70"] = json!({"class_type": "Reroute", "inputs": {"": ["71", 0]}});
                graph["71"] = json!({"class_type": "Reroute", "inputs": {"": ["70", 0]}});
            }),
            json!({"error": "a ComfyUI graph can't be read: its links lead nowhere at node 7"}),
        ),
        (
            "a reroute from nowhere",
            flux_graph(|graph| {
                graph["22"]["inputs"]["conditioning"] = json!(["70", 0]);
                graph["70"] = json!({"class_type": "Reroute", "inputs": {}});
            }),
            json!({"error": "the prompt comes from node 70, a `Reroute`"}),
        ),
        (
            "a cfg that is no number",
            simple.replace("\"cfg\": 1.0", "\"cfg\": NaN"),
            json!({"error": "`cfg` of a ComfyUI graph is `NaN`"}),
        ),
        (
            "noise without end",
            simple.replace("\"cfg\": 1.0", "\"cfg\": 1.0, \"denoise\": -Infinity"),
            json!({"cfg": 1.0, "unread": ["denoise"]}),
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
