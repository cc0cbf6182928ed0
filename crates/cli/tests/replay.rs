//! A picture is drawn again from its own text, compared with what it was, and what differs is told.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod shelf;
mod tiny;

use std::fs;

use forge::{Image, read_infotext};

use crate::tiny::{Ran, Tensors, Tiny, golden};

/// Flags that name a config: the folder's own, or a golden case's.
fn config(case: &str) -> [String; 2] {
    let config =
        if case.is_empty() { "flux.toml".into() } else { golden(case).join("case.toml").display().to_string() };
    ["--config".into(), config]
}

/// `forge COMMAND --config … --compute f32 …`.
fn forge(tiny: &Tiny, command: &[&str], case: &str, more: &[&str]) -> Ran {
    let [flag, config] = config(case);
    tiny.forge(&[command, &[&flag, &config, "--compute", "f32"], more].concat())
}

#[test]
fn a_picture_is_drawn_again_pixel_for_pixel_and_byte_for_byte() {
    for case in ["", "sd-1", "sd-2", "sd-xl"] {
        // given a picture of a request in which little is a default
        let tiny = Tiny::of("tiny-dev");
        let prompt = ["--prompt", "an owl, Ölfarbe:\n\"獅子\" 🦉", "--negative", "Steps: 3, rain", "--cfg", "2.5"];
        let more =
            ["--sampler", "Euler a", "--seed", "18446744073709551615", "--variation-strength", "0.25", "--noise", "nv"];
        for name in ["a.png", "a.webp", "a.jpg"] {
            let flags = [&prompt[..], &more, &["--batch", "1", "--variation-seed", "3", "--output", name]].concat();
            forge(&tiny, &["txt2img"], case, &flags).done();
            // when it is drawn again
            let again = format!("again-{name}");
            let ran = forge(&tiny, &["replay", name], case, &["--output", &again]).done();
            // then it is the same file, and that is told
            assert!(fs::read(tiny.path(&again)).unwrap() == fs::read(tiny.path(name)).unwrap(), "{case} {name}");
            let words = if name == "a.jpg" { "are not compared" } else { "pixels are equal" };
            assert!(ran.out.starts_with(&format!("{name}: ")) && ran.out.contains(words), "{ran:?}");
            assert!(!ran.err.contains("the picture"), "{ran:?}");
        }
        // and standard output has nothing but it
        let [flag, file] = config(case);
        let args = ["replay", "a.png", &flag, &file, "--compute", "f32", "--output", "-"];
        let ran = tiny.command(&args).output().unwrap();
        assert!(ran.status.success() && ran.stdout == fs::read(tiny.path("a.png")).unwrap(), "{case}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("pixels are equal"), "{case}");
        // and without `--output` nothing is written
        let before = tiny.drawn();
        forge(&tiny, &["replay", "a.png"], case, &[]).done();
        assert_eq!(tiny.drawn(), before);
    }
}

#[test]
fn a_picture_of_two_passes_is_drawn_again_from_its_text() {
    for (case, knob) in [("sd-1", "--hires-cfg"), ("tiny-dev", "--hires-guidance")] {
        let tiny = Tiny::of("tiny-dev");
        let own = [
            "--hires-prompt",
            "an owl, Ölfarbe: \"獅子\"",
            "--hires-negative",
            "rain",
            knob,
            "2.5",
            "--hires-steps",
            "3",
        ];
        let how =
            ["--hires-strength", "0.55", "--hires-sampler", "DPM++ 2M Karras", "--hires-upscaler", "latent-bicubic"];
        for size in [&["--hires-scale", "1.5"][..], &["--hires-width", "96", "--hires-height", "96"]] {
            forge(&tiny, &["txt2img"], case, &[&own[..], &how, size, &["--output", "a.png"]].concat()).done();
            let ran = forge(&tiny, &["replay", "a.png"], case, &["--output", "b.png"]).done();
            assert!(fs::read(tiny.path("a.png")).unwrap() == fs::read(tiny.path("b.png")).unwrap(), "{ran:?}");
            assert!(!ran.err.contains("no use is made"), "{ran:?}");
        }
    }
}

#[test]
fn a_refined_picture_is_drawn_again_with_its_refiner_and_not_without() {
    let tiny = Tiny::of("tiny-dev");
    let other = golden("sd-2").join("model.safetensors").display().to_string();
    let both = ["--refiner", &other, "--hires-checkpoint", &other];
    let how = ["--refiner-switch-at", "0.3", "--refiner-passes", "first", "--hires-scale", "1.5", "--hires-steps", "2"];
    forge(&tiny, &["txt2img"], "sd-1", &[&both[..], &how, &["--output", "a.png"]].concat()).done();
    forge(&tiny, &["replay", "a.png"], "sd-1", &[&both[..], &["--output", "b.png"]].concat()).done();
    assert!(fs::read(tiny.path("a.png")).unwrap() == fs::read(tiny.path("b.png")).unwrap());
    forge(&tiny, &["replay", "a.png"], "sd-1", &[]).refused(2, &["`hires.checkpoint`", "a file"]);
}

#[test]
fn pixels_that_differ_are_counted_and_have_a_code_of_their_own() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--output", "a.png"]).done();
    let text = read_infotext(&tiny.path("a.png")).unwrap();
    let mut reader = png::Decoder::new(fs::File::open(tiny.path("a.png")).map(std::io::BufReader::new).unwrap())
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels[0] ^= 4;
    pixels[30] ^= 1;
    let image = Image { width: 16, height: 16, pixels, infotext: text.clone() };
    image.save(tiny.path("b.png")).unwrap();
    let told = "2 of 256 pixels differ, by up to 4 of 255";
    let ran = forge(&tiny, &["replay", "b.png"], "", &[]).refused(5, &["`b.png` was not drawn again", told]);
    assert_eq!(ran.out, format!("b.png: {told}\n"));
    let ran = forge(&tiny, &["replay", "b.png", "--json"], "", &[]).refused_in_json(5, told);
    let compared = ran.json().into_iter().find(|event| event["event"] == "compared").unwrap();
    assert_eq!([&compared["pixels"], &compared["differ"], &compared["most"]], [256, 2, 4]);
    // of another size no pixel is compared
    Image { width: 8, height: 32, ..image }.save(tiny.path("c.png")).unwrap();
    forge(&tiny, &["replay", "c.png"], "", &[]).refused(5, &["it has another size, 8x32"]);
}

#[test]
fn another_model_and_another_autoencoder_are_told_by_their_files() {
    // given a picture, and copies of its model and its autoencoder with other values
    let tiny = Tiny::quick();
    let draw = ["txt2img", "--config", "flux.toml", "--compute", "f32", "--output", "a.png"];
    let caches = tiny.path("caches");
    let drawn = tiny.command(&draw).env("XDG_CACHE_HOME", &caches).output().unwrap();
    assert!(drawn.status.success());
    let other = |role: &str, tensor: &str| {
        let bytes = Tensors::of(&tiny.role(role)).poisoned(tensor, 0.5).bytes();
        tiny.write(&format!("{role}.safetensors"), bytes)
    };
    let first = |role: &str| Tensors::of(&tiny.role(role)).0.into_iter().find(|t| t.dtype == "F32").map(|t| t.name);
    let replay = |flags: &[&str]| {
        let args = [&["replay", "a.png", "--config", "flux.toml", "--compute", "f32"], flags].concat();
        Ran::of(tiny.command(&args).env("XDG_CACHE_HOME", &caches).output().unwrap(), &args)
    };
    // when it is drawn again with what made it, then nothing differs
    let same = replay(&[]).done();
    assert!(!same.err.contains("the picture was made"), "{same:?}");
    // and with a renamed copy neither, as the hash decides
    let copy = tiny.write("renamed.safetensors", fs::read(tiny.role("transformer")).unwrap());
    let renamed = replay(&["--transformer", copy.to_str().unwrap()]).done();
    assert!(!renamed.err.contains("the picture was made"), "{renamed:?}");
    // and with another file of the same role that is told
    if let Some(tensor) = first("vae") {
        let ran = replay(&["--vae", other("vae", &tensor).to_str().unwrap()]);
        assert!(ran.err.contains("the picture was made with the autoencoder `"), "{ran:?}");
    }
    let dev = golden("tiny-dev").join("transformer.safetensors");
    if dev.exists() {
        let ran = replay(&["--transformer", dev.to_str().unwrap()]);
        assert!(ran.err.contains("the picture was made with the model `"), "{ran:?}");
    }
}

#[test]
fn what_another_programs_text_leaves_open_is_told() {
    let tiny = Tiny::quick();
    let text = "a cat\nNegative prompt: dogs\nSteps: 1, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Seed: 7, Size: 16x16, \
                Model hash: 0123456789, Model: other, Hires upscale: 2, Hires upscaler: Mine, Version: v1.10.1";
    tiny.write("a.png", shelf::png(&[("parameters", text)]));
    let ran = forge(&tiny, &["replay", "a.png"], "", &["--output", "b.png"]).refused(5, &["it has another size, 1x1"]);
    for words in [
        "the picture was made with the model `other` (0123456789), this one is `transformer` (",
        "the picture was made by version `v1.10.1`, this is `forge ",
        "no use is made of `Hires upscale`, `Hires upscaler`",
        "the picture does not say its `guidance`, `profile`: defaults are taken",
    ] {
        assert!(ran.err.contains(words), "no `{words}` in {ran:?}");
    }
    assert!(tiny.path("b.png").exists());
}

#[test]
fn a_picture_that_says_too_little_or_is_in_the_way_is_refused() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--output", "a.png"]).done();
    let before = fs::read(tiny.path("a.png")).unwrap();
    for output in ["a.png", "./a.png"] {
        forge(&tiny, &["replay", "a.png"], "", &["--output", output]).refused(2, &["would replace"]);
    }
    assert!(fs::read(tiny.path("a.png")).unwrap() == before);
    forge(&tiny, &["replay", "b.png"], "", &[]).refused(1, &["cannot read `b.png`"]);
    forge(&tiny, &["replay", "a.png"], "", &["--output", "b.gif"]).refused(2, &["GIF is not written"]);
    for (text, code, words) in [
        ("a\nSteps: 1, Seed: -1, Size: 16x16, Version: v1.10.1", 1, "the one that was drawn is not told"),
        ("a\nSteps: 1, Seed: 1, Size: 16x16, Sampler: warp", 1, "no sampler is called `warp`"),
        ("{\"a\": 1}", 1, "it is JSON of a program that is not known"),
    ] {
        tiny.write("c.png", shelf::png(&[("parameters", text)]));
        let ran = forge(&tiny, &["replay", "c.png"], "", &[]);
        assert!(ran.code == Some(code) || ran.code == Some(2), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
}
