//! `forge img2img` and `forge batch`: pictures from pictures by the built command, and what is refused of them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::fs;

use fixtures::{Golden, psnr};
use forge::{
    diffusion_engine::{Picture, PictureFormat},
    read_infotext,
};

use crate::tiny::{Ran, Tiny, golden};

/// `forge COMMAND … --config CASE`, where no case is the folder's own.
fn forge(tiny: &Tiny, command: &[&str], case: &str, more: &[&str]) -> Ran {
    let config =
        if case.is_empty() { "flux.toml".into() } else { golden(case).join("case.toml").display().to_string() };
    tiny.forge(&[command, &["--config", &config, "--compute", "f32"], more].concat())
}

/// A picture in a folder, whose pixels are as a rule of their place says.
fn picture(tiny: &Tiny, name: &str, [width, height]: [usize; 2], pixel: impl Fn(usize, usize) -> [u8; 3]) -> Picture {
    let pixels = (0..width * height).flat_map(|i| pixel(i % width, i / width)).collect();
    let picture = Picture { width, height, pixels, opacity: None };
    let path = tiny.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save_as(&path, PictureFormat::of(&path, 95).unwrap(), "").unwrap();
    picture
}

fn waves(x: usize, y: usize) -> [u8; 3] {
    [(x * 5 % 256) as u8, (y * 7 % 256) as u8, ((x + y) * 3 % 256) as u8]
}

/// White inside of a square.
fn square(x: usize, y: usize) -> [u8; 3] {
    if (16..48).contains(&x) && (24..56).contains(&y) { [255; 3] } else { [0; 3] }
}

fn read(tiny: &Tiny, name: &str) -> Picture {
    Picture::read(&tiny.path(name)).unwrap()
}

#[test]
fn a_picture_from_another_is_that_of_diffusers() {
    let golden = Golden::open("img2img/sd-1.safetensors");
    let bytes: Vec<u8> = golden.floats("picture").into_iter().map(|value| value as u8).collect();
    let mask: Vec<u8> = golden.floats("mask").into_iter().map(|value| value as u8).collect();
    let levels: Vec<_> = golden.floats("sigmas").iter().map(f32::to_string).collect();
    let tiny = Tiny::of("tiny-dev");
    let at = |x: usize, y: usize| 64 * y + x;
    picture(&tiny, "in.png", [64, 64], |x, y| [0, 1, 2].map(|channel| bytes[3 * at(x, y) + channel]));
    picture(&tiny, "mask.png", [64, 64], |x, y| [mask[at(x, y)]; 3]);
    let common = ["--prompt", "a photo of a cat, warm light", "--negative", "blurry, low quality", "--cfg", "4"];
    let checkpoint = fixtures::path("golden/sd-1/model.safetensors").display().to_string();
    let config = format!("[model]\ncheckpoint = {checkpoint:?}\n[sampling]\nsigmas = [{}]\n", levels.join(", "));
    tiny.write("sd.toml", config);
    let how = ["--profile", "diffusers", "--seed", "7", "--strength", "0.8", "--compute", "f32", "--output", "out.png"];
    let all = [&["img2img", "in.png", "--config", "sd.toml"], &common[..], &how].concat();
    for (name, more) in
        [("mean", &[][..]), ("sampled", &["--sampled", "on"]), ("inpaint", &["--mask", "mask.png", "--mask-blur", "0"])]
    {
        tiny.forge(&[&all, more].concat()).done();
        let found = read(&tiny, "out.png");
        let expected = golden.floats(&format!("{name}.image"));
        // The reference's pixels are of -1 to 1, plane by plane; where nothing is masked, they are the picture's own here.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for i in (0..64 * 64).filter(|&i| name != "inpaint" || mask[i] > 0) {
            for channel in 0..3 {
                ours.push(f32::from(found.pixels[3 * i + channel]) / 127.5 - 1.0);
                theirs.push(expected[4096 * channel + i]);
            }
        }
        let db = psnr(&ours, &theirs);
        assert!(db >= 45.0, "{name}: {db:.1} dB");
    }
}

#[test]
fn what_is_not_masked_is_bit_for_bit_that_of_the_picture() {
    let tiny = Tiny::of("tiny-dev");
    let own = picture(&tiny, "in.png", [64, 96], waves);
    picture(&tiny, "mask.png", [64, 96], square);
    for (case, flags) in [
        ("sd-1", &["--inpaint-fill", "fill", "--inpaint-area", "masked", "--inpaint-padding", "8"][..]),
        ("sd-1", &["--inpaint-fill", "nothing", "--soft", "blended"]),
        ("sd-1", &["--inpaint-fill", "noise", "--soft", "differential", "--profile", "comfy"]),
        ("sd-inpainting", &["--inpaint-hidden", "0.5"]),
        ("", &["--mask-round", "off"]),
    ] {
        let how = ["--mask", "mask.png", "--mask-blur", "0", "--steps", "2", "--exact-steps", "on", "--seed", "5"];
        forge(&tiny, &["img2img", "in.png"], case, &[&how, flags, &["--batch", "1", "--output", "out.png"]].concat())
            .done();
        let found = read(&tiny, "out.png");
        assert_eq!([found.width, found.height], [64, 96]);
        let mut changed = 0;
        for (i, (found, own)) in found.pixels.chunks(3).zip(own.pixels.chunks(3)).enumerate() {
            assert!(square(i % 64, i / 64) == [255; 3] || found == own, "{case} {flags:?} at {} {}", i % 64, i / 64);
            changed += usize::from(found != own);
        }
        assert!(changed > 500, "{case} {flags:?}: {changed}");
    }
}

#[test]
fn flux_fill_is_told_by_its_file_and_draws_a_part_anew_and_a_whole_picture() {
    let tiny = Tiny::of("tiny-dev").with("transformer", &fixtures::path("golden/tiny-fill/transformer.safetensors"));
    let own = picture(&tiny, "in.png", [64, 96], waves);
    picture(&tiny, "mask.png", [64, 96], square);
    let told = tiny.forge(&["inspect", &tiny.role("transformer").display().to_string()]).done();
    assert!(told.out.contains("flux-fill-dev"), "{told:?}");
    let how = ["--mask", "mask.png", "--mask-blur", "0", "--strength", "1", "--guidance", "30", "--steps", "2"];
    let flags = ["--config", "flux.toml", "--batch", "2", "--seed", "5", "--output", "out-{index}.png"];
    tiny.forge(&[&["img2img", "in.png"], &flags[..], &how].concat()).done();
    for name in ["out-0.png", "out-1.png"] {
        let found = read(&tiny, name);
        let kept = |i: usize| square(i % 64, i / 64) == [0; 3];
        let pairs = || found.pixels.chunks(3).zip(own.pixels.chunks(3)).enumerate();
        assert!(pairs().all(|(i, (found, own))| !kept(i) || found == own), "{name}");
        assert!(pairs().filter(|(_, (found, own))| found != own).count() > 500, "{name}");
    }
    tiny.txt2img(&["--width", "64", "--height", "64", "--batch", "1", "--steps", "2", "--output", "words.png"]).done();
}

#[test]
fn a_picture_says_how_it_was_drawn_from_another_and_is_drawn_again_with_that_alone() {
    let soft = ["--soft", "blended", "--soft-contrast", "6", "--soft-threshold-contrast", "3"];
    let masked = ["--mask", "mask.png", "--mask-blur", "2", "--inpaint-area", "masked", "--inpaint-padding", "16"];
    for (case, flags, said) in [
        ("sd-1", vec![], "Denoising strength: 0.5,"),
        ("", vec!["--resize", "crop", "--sampled", "on", "--exact-steps", "on"], "Resize mode: Crop and resize"),
        ("sd-1", masked.to_vec(), "Mask blur: 2, Inpaint area: Only masked, Masked area padding: 16"),
        ("sd-1", [&masked[..], &soft].concat(), "Soft inpainting transition contrast boost: 6"),
        ("sd-1", [&masked[..], &["--soft", "differential", "--mask-invert", "on"]].concat(), "Differential diffusion"),
        ("sd-1", vec!["--colour-correction", "on", "--noise-multiplier", "0.9"], "Color correction: True"),
    ] {
        let tiny = Tiny::of("tiny-dev");
        picture(&tiny, "in.png", [80, 96], waves);
        picture(&tiny, "mask.png", [80, 96], square);
        let common = ["--strength", "0.5", "--steps", "3", "--batch", "1", "--output", "a.png"];
        let size = ["--width", "64", "--height", "64"];
        forge(&tiny, &["img2img", "in.png"], case, &[&flags[..], &common, &size].concat()).done();
        let text = read_infotext(&tiny.path("a.png")).unwrap();
        assert!(text.contains(said) && text.contains("Size: 64x64"), "{text}");
        forge(&tiny, &["replay", "a.png"], case, &[]).refused(2, &["`img2img.image`", "the picture"]);
        let mut with = vec!["--image", "in.png", "--output", "b.png"];
        if flags.contains(&"--mask") {
            forge(&tiny, &["replay", "a.png"], case, &with).refused(2, &["`inpaint.mask`"]);
            with.extend(["--mask", "mask.png"]);
        }
        let ran = forge(&tiny, &["replay", "a.png"], case, &with).done();
        assert!(fs::read(tiny.path("a.png")).unwrap() == fs::read(tiny.path("b.png")).unwrap(), "{ran:?}");
        assert!(!ran.err.contains("no use is made"), "{ran:?}");
    }
}

#[test]
fn a_run_is_as_large_as_its_picture_unless_a_size_is_asked_for() {
    let tiny = Tiny::quick();
    picture(&tiny, "in.webp", [53, 39], waves);
    let flags = ["img2img", "in.webp", "--config", "flux.toml", "--output", "out.png"];
    for (more, size) in [
        (&[][..], [48, 32]),
        (&["--scale", "2"], [96, 64]),
        (&["--width", "64"], [64, 16]),
        (&["--width", "64", "--height", "32", "--scale", "0"], [64, 32]),
    ] {
        tiny.forge(&[&flags[..], more].concat()).done();
        let found = read(&tiny, "out.png");
        assert_eq!([found.width, found.height], size, "{more:?}");
    }
    tiny.forge(&[&flags[..], &["--scale", "0.1"]].concat()).refused(2, &["`img2img.scale`", "53x39"]);
}

#[test]
fn what_can_not_be_drawn_from_a_picture_is_refused_before_the_run() {
    let tiny = Tiny::quick();
    picture(&tiny, "in.png", [32, 32], waves);
    picture(&tiny, "mask.png", [64, 64], square);
    picture(&tiny, "black.png", [32, 32], |_, _| [0; 3]);
    tiny.write("words.png", "a cat");
    let before = tiny.drawn();
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        tiny.forge(&[&["img2img", "--config", "flux.toml"], args].concat()).refused(code, words);
    };
    refused(&[], 2, &["`img2img.image`", "a picture to start from"]);
    refused(&["none.png"], 1, &["none.png"]);
    refused(&["words.png"], 1, &["words.png"]);
    refused(&["in.png", "--mask", "words.png"], 1, &["words.png"]);
    refused(&["in.png", "--strength", "0"], 2, &["strength", "above 0"]);
    refused(&["in.png", "--strength", "1.5"], 2, &["`img2img.strength`", "0 to 1"]);
    refused(&["in.png", "--resize", "stretch"], 2, &["`img2img.resize`", "`just`, `crop`, `fill` or `latent`"]);
    refused(&["in.png", "--resize", "latent", "--mask", "black.png"], 2, &["latent"]);
    refused(&["in.png", "--inpaint-area", "masked", "--mask", "black.png"], 2, &["the mask", "white somewhere"]);
    refused(&["in.png", "--inpaint-area", "masked", "--mask", "mask.png"], 2, &["the size of a mask", "32x32"]);
    refused(&["in.png", "--hires-scale", "2"], 2, &["passes", "starts from a picture"]);
    refused(&["in.png", "--output", "in.png"], 2, &["would replace"]);
    refused(&["in.png", "--mask", "mask.png", "--output", "mask.png"], 2, &["would replace"]);
    assert_eq!(tiny.drawn(), before);
    tiny.forge(&["txt2img", "--config", "flux.toml", "--mask", "mask.png"]).refused(2, &["--mask"]);
}

#[test]
fn a_config_may_name_the_picture_and_txt2img_says_that_it_is_set_aside() {
    let tiny = Tiny::quick().set("img2img", "image", "in.png").set("inpaint", "mask", "mask.png");
    picture(&tiny, "in.png", [32, 32], waves);
    picture(&tiny, "mask.png", [32, 32], square);
    tiny.forge(&["img2img", "--config", "flux.toml", "--output", "a.png"]).done();
    assert!(read_infotext(&tiny.path("a.png")).unwrap().contains("Mask blur: 4"));
    let ran = tiny.txt2img(&["--output", "b.png"]).done();
    assert!(ran.err.contains("`img2img.image` is set aside") && ran.err.contains("`inpaint.mask`"), "{ran:?}");
    assert!(!read_infotext(&tiny.path("b.png")).unwrap().contains("Denoising strength"));
    // a mask alone says nothing of what is drawn
    let tiny = Tiny::quick().set("inpaint", "mask", "mask.png");
    picture(&tiny, "mask.png", [32, 32], square);
    tiny.forge(&["img2img", "--config", "flux.toml"]).refused(2, &["`img2img.image`"]);
}

#[test]
fn a_folder_is_drawn_picture_by_picture_and_goes_on_where_it_ended() {
    let tiny = Tiny::quick();
    picture(&tiny, "in/a.png", [32, 16], waves);
    picture(&tiny, "in/c.webp", [16, 32], waves);
    tiny.write("in/b.png", "no picture");
    tiny.write("in/notes.txt", "no picture either");
    let batch = |more: &[&str]| {
        let flags = ["batch", "in", "--config", "flux.toml", "--output", "out", "--seed", "3"];
        tiny.forge(&[&flags[..], more].concat())
    };
    let ran = batch(&[]).refused(1, &["1 of 3 pictures could not be drawn", "b.png"]);
    assert!(ran.err.contains("b.png` is passed over"), "{ran:?}");
    let a = fs::read(tiny.path("out/a.png")).unwrap();
    assert_eq!([read(&tiny, "out/a.png").width, read(&tiny, "out/c.webp").width], [32, 16]);
    assert_eq!(fs::read_dir(tiny.path("out")).unwrap().count(), 2);
    // each is what img2img makes of it
    tiny.forge(&["img2img", "in/a.png", "--config", "flux.toml", "--seed", "3", "--output", "alone.png"]).done();
    assert!(fs::read(tiny.path("alone.png")).unwrap() == a);
    // once what was wrong is mended, only that is drawn
    fs::copy(tiny.path("in/a.png"), tiny.path("in/b.png")).unwrap();
    fs::write(tiny.path("out/a.png"), "kept").unwrap();
    let ran = batch(&["--json"]).done();
    let drawn = ran.json().into_iter().filter(|event| event["event"] == "image").count();
    assert_eq!((drawn, fs::read(tiny.path("out/a.png")).unwrap()), (1, b"kept".to_vec()));
    let ran = batch(&[]).done();
    assert_eq!(ran.err.matches("has its picture already").count(), 3, "{ran:?}");
    batch(&["--force"]).done();
    assert!(fs::read(tiny.path("out/b.png")).unwrap() == fs::read(tiny.path("out/a.png")).unwrap());
    // several of one have numbers
    batch(&["--batch", "2"]).done();
    assert!(tiny.path("out/a-0.png").exists() && tiny.path("out/c-1.webp").exists());
}

#[test]
fn what_is_drawn_of_a_folder_takes_no_others_place_whatever_pictures_are_called() {
    let tiny = Tiny::quick();
    for name in ["a.png", "a-1.png", "b {seed}.png", "b 3.png", "{.png", "[seed].png", "%date%.png"] {
        picture(&tiny, &format!("in/{name}"), [32, 16], waves);
    }
    let batch = |more: &[&str]| {
        let flags = ["batch", "in", "--config", "flux.toml", "--seed", "3", "--output"];
        tiny.forge(&[&flags[..], more].concat())
    };
    // given a picture whose second would be another's input
    let before = fs::read(tiny.path("in/a-1.png")).unwrap();
    for more in [&["in", "--batch", "2", "--force"][..], &["in", "--batch", "2"]] {
        batch(more).refused(2, &["would replace"]);
    }
    // or a picture in the making another's input or output, or one of a folder's name that is filled in elsewhere
    batch(&["out", "--preview", "in/a-1.png"]).refused(2, &["preview.file", "in/a-1.png"]);
    batch(&["out", "--preview", "out/b 3.png"]).refused(2, &["preview.file", "out/b 3.png"]);
    batch(&["out", "--mask", "in", "--preview", "in/a.png"]).refused(2, &["preview.file", "in/a.png"]);
    batch(&["out/{seed}"]).refused(2, &["--output", "out/{seed}"]);
    assert!(fs::read(tiny.path("in/a-1.png")).unwrap() == before && !tiny.path("out").exists());
    // nor does a link lead one into another's, which is not there yet
    fs::create_dir(tiny.path("linked")).unwrap();
    std::os::unix::fs::symlink("a.png", tiny.path("linked/b 3.png")).unwrap();
    batch(&["linked"]).refused(2, &["--output", "linked/b 3.png"]);
    // when all go elsewhere, then each has its own name
    batch(&["out"]).done();
    let names = |folder: &str| {
        let all = fs::read_dir(tiny.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        all.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("out"), names("in"));
    // a folder in a picture's place is no picture
    fs::create_dir_all(tiny.path("other/a.png")).unwrap();
    let ran = batch(&["other"]).refused(1, &["1 of 7 pictures could not be drawn"]);
    assert!(ran.err.contains("there is a folder of this name"), "{ran:?}");
}

#[test]
fn a_folder_of_masks_has_one_for_each_picture_of_a_folder() {
    let tiny = Tiny::quick();
    let names = ["a.png", "b.png", "c.png"];
    names.iter().for_each(|name| drop(picture(&tiny, &format!("in/{name}"), [32, 32], waves)));
    picture(&tiny, "masks/a.webp", [32, 32], |_, _| [0, 0, 0]);
    picture(&tiny, "masks/b.png", [32, 32], square);
    let how = ["--config", "flux.toml", "--mask-blur", "0", "--seed", "3", "--output"];
    let ran = tiny.forge(&[&["batch", "in", "--mask", "masks"], &how[..], &["out"]].concat());
    let ran = ran.refused(1, &["1 of 3 pictures could not be drawn", "c.png"]);
    assert!(ran.err.contains("`inpaint.mask`") && ran.err.contains("none in `masks`"), "{ran:?}");
    // what a mask hides stays as it is, and each has its own
    assert!(read(&tiny, "out/a.png").pixels == read(&tiny, "in/a.png").pixels);
    tiny.forge(&[&["img2img", "in/b.png", "--mask", "masks/b.png"], &how[..], &["alone.png"]].concat()).done();
    assert!(fs::read(tiny.path("alone.png")).unwrap() == fs::read(tiny.path("out/b.png")).unwrap());
    assert!(read(&tiny, "out/b.png").pixels != read(&tiny, "in/b.png").pixels);
    // a mask is never written over, and a folder without any is refused before the run
    let ran = tiny.forge(&[&["batch", "in", "--mask", "masks"], &how[..], &["masks", "--force"]].concat());
    ran.refused(2, &["--output", "masks/b.png"]);
    fs::create_dir(tiny.path("empty")).unwrap();
    let ran = tiny.forge(&[&["batch", "in", "--mask", "empty"], &how[..], &["out"]].concat());
    ran.refused(2, &["`inpaint.mask`", "a folder with pictures"]);
}

#[test]
fn a_folder_that_can_not_be_drawn_is_refused_before_the_run() {
    let tiny = Tiny::quick();
    picture(&tiny, "in/a.png", [32, 16], waves);
    fs::create_dir(tiny.path("empty")).unwrap();
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        tiny.forge(&[&["batch", "--config", "flux.toml"], args].concat()).refused(code, words);
    };
    refused(&["in"], 2, &["--output"]);
    refused(&["in", "--output", "in"], 2, &["would replace"]);
    refused(&["in", "--output", "-"], 2, &["a folder"]);
    refused(&["in", "--output", "out", "--dump", "d.safetensors"], 2, &["--dump"]);
    refused(&["in", "--output", "out", "--image", "in/a.png"], 2, &["--image"]);
    refused(&["empty", "--output", "out"], 2, &["a folder with pictures"]);
    refused(&["none", "--output", "out"], 1, &["none"]);
    assert!(!tiny.path("out").exists());
}

#[test]
fn what_is_wrong_with_all_pictures_of_a_folder_is_told_once_and_before_the_model_is_opened() {
    let tiny = Tiny::quick().set("model", "transformer", "damaged.safetensors");
    tiny.write("damaged.safetensors", "no model");
    tiny.write("in/a.png", "no picture");
    ["in/b.png", "in/c.png"].iter().for_each(|name| drop(picture(&tiny, name, [32, 16], waves)));
    tiny.write("file", "");
    let refused = |more: &[&str], code: i32, word: &str| {
        let output: &[&str] = if more.contains(&"--output") { &[] } else { &["--output", "out"] };
        let ran = tiny.forge(&[&["batch", "in", "--config", "flux.toml"], more, output].concat());
        let ran = ran.refused(code, &[word]);
        assert!(!ran.err.contains("passed over") && !tiny.path("out").exists(), "{ran:?}");
    };
    refused(&["--preview", "now.txt"], 2, "preview.file");
    refused(&["--option", "none=1"], 2, "`none`");
    refused(&["--sampler", "none"], 2, "`none`");
    refused(&["--styles", "none"], 2, "prompt.styles_file");
    refused(&["--wildcards", "none", "--prompt", "a __word__"], 2, "word");
    refused(&["--mask", "none.png"], 1, "none.png");
    refused(&["--control", "none.png"], 1, "none.png");
    refused(&["--output", "file"], 1, "file");
    // a text that is too long for a JPEG's is that one's alone, whichever comes first
    let long = "word ".repeat(9000);
    picture(&tiny, "in/0.jpg", [32, 16], waves);
    refused(&["--prompt", &long], 4, "damaged.safetensors");
    fs::remove_file(tiny.path("in/0.jpg")).unwrap();
    // what is left is the model's fault
    refused(&[], 4, "damaged.safetensors");
    // and what is told of a model's sizes or of a LoRA is told once
    let tiny = Tiny::quick();
    ["in/b.png", "in/c.png"].iter().for_each(|name| drop(picture(&tiny, name, [32, 16], waves)));
    let ran = tiny.forge(&["batch", "in", "--config", "flux.toml", "--output", "out", "--prompt", "<lora:none:1>"]);
    let ran = ran.refused(2, &["none"]);
    assert!(!ran.err.contains("passed over"), "{ran:?}");
    let flags = ["--config", "flux.toml", "--output", "out", "--scale", "0", "--height", "63", "--width", "64"];
    let ran = tiny.forge(&[&["batch", "in"], &flags[..]].concat()).refused(2, &["63"]);
    assert!(!ran.err.contains("passed over"), "{ran:?}");
}

#[test]
#[cfg(unix)]
fn what_can_be_read_but_once_is_read_once_for_all_pictures() {
    let tiny = Tiny::quick();
    picture(&tiny, "mask.png", [32, 32], square);
    ["in/a.png", "in/b.png"].iter().for_each(|name| drop(picture(&tiny, name, [32, 32], waves)));
    tiny.write("styles.csv", "name,prompt,negative_prompt\nink,\"{prompt}, in ink\",colour\n");
    let drawn = |command: &[&str], output: &str, pipes: &[(&str, &str)]| {
        let flags = ["--config", "flux.toml", "--seed", "3", "--output", output];
        let mut args: Vec<String> = command.iter().chain(&flags).map(|&arg| arg.to_owned()).collect();
        for (flag, file) in pipes {
            let pipe = format!("{output}{flag}");
            assert!(std::process::Command::new("mkfifo").arg(tiny.path(&pipe)).status().unwrap().success());
            let (pipe_path, bytes) = (tiny.path(&pipe), fs::read(tiny.path(file)).unwrap());
            std::thread::spawn(move || fs::write(pipe_path, bytes));
            args.extend([(*flag).to_owned(), pipe]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = tiny.command(&args).spawn().unwrap();
        assert_eq!(crate::tiny::wait(&mut child).code(), Some(0), "{args:?}");
    };
    let masked = ["--mask-blur", "0", "--styles", "ink"];
    let (mask, styles) = (("--mask", "mask.png"), ("--styles-file", "styles.csv"));
    drawn(&[&["batch", "in"], &masked[..]].concat(), "out", &[mask, styles]);
    drawn(&[&["batch", "in", "--mask", "mask.png", "--styles-file", "styles.csv"], &masked[..]].concat(), "plain", &[]);
    for name in ["a.png", "b.png"] {
        assert!(fs::read(tiny.path("out").join(name)).unwrap() == fs::read(tiny.path("plain").join(name)).unwrap());
    }
    let grid = [&["grid", "--x", "steps=1,2", "--strength", "1"], &masked[..]].concat();
    drawn(&grid, "grid.png", &[("--image", "in/a.png"), mask, styles]);
    drawn(
        &[&grid[..], &["--image", "in/a.png", "--mask", "mask.png", "--styles-file", "styles.csv"]].concat(),
        "g.png",
        &[],
    );
    assert!(read(&tiny, "grid.png").pixels == read(&tiny, "g.png").pixels);
}

#[test]
fn a_picture_that_there_is_no_room_for_is_told_before_it_is_decoded() {
    let tiny = Tiny::quick();
    picture(&tiny, "large.png", [2048, 2048], waves);
    picture(&tiny, "in/large.jpg", [2048, 2048], waves);
    picture(&tiny, "small.png", [32, 32], waves);
    let told = |args: &[&str]| {
        let ran = tiny
            .forge(&[args, &["--config", "flux.toml", "--memory", "60MiB"]].concat())
            .refused(3, &[".", "`memory` is 60"]);
        let line = ran.err.lines().find(|line| line.contains("needs")).unwrap_or_default().to_owned();
        let number =
            line.split("needs ").nth(1).and_then(|rest| rest.split(" MiB").next()).and_then(|n| n.parse().ok());
        let (needed, by) = (number.unwrap_or(0.0), ran.err.lines().any(|line| line.starts_with("  hint: set `memory")));
        // 28 MiB are seven bytes of each pixel.
        assert!((66.0..80.0_f64).contains(&needed) && by, "{args:?}: {ran:?}");
        line
    };
    assert!(told(&["img2img", "large.png", "--output", "a.png"]).contains("the picture `large.png`"));
    assert!(
        told(&["img2img", "small.png", "--mask", "large.png", "--output", "a.png"]).contains("the picture `large.png`")
    );
    let ran = tiny.forge(&["batch", "in", "--config", "flux.toml", "--memory", "60MiB", "--output", "out"]);
    ran.refused(3, &["large.jpg"]);
    // where others have room, that one is passed over
    picture(&tiny, "in/small.png", [32, 32], waves);
    let ran = tiny.forge(&["batch", "in", "--config", "flux.toml", "--memory", "90MiB", "--output", "out"]);
    ran.refused(1, &["1 of 2 pictures could not be drawn", "large.jpg"]);
    assert!(tiny.path("out/small.png").exists());
    let flags = ["--config", "flux.toml", "--memory", "150MiB", "--width", "32", "--height", "32", "--output", "a.png"];
    tiny.forge(&[&["img2img", "large.png", "--scale", "0"], &flags[..]].concat()).done();
}
