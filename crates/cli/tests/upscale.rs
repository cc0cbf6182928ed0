//! `forge upscale`: pictures keep what they bring, no input is replaced, and hostile files are errors.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{fs, io::Write, process::Stdio};

use forge::diffusion_engine::{Picture, PictureFormat};

use crate::tiny::Tiny;

fn model(name: &str) -> String {
    fixtures::path(&format!("golden/upscale/{name}")).display().to_string()
}

/// A picture of 12 x 9 pixels in a folder.
fn picture(tiny: &Tiny, name: &str, opacity: bool, infotext: &str) -> Picture {
    let pixels = (0..12 * 9 * 3).map(|i| (i * 11 % 256) as u8).collect();
    let opacity = opacity.then(|| (0..12 * 9).map(|i| (i * 2) as u8).collect());
    let picture = Picture { width: 12, height: 9, pixels, opacity };
    picture.save_as(&tiny.path(name), PictureFormat::of(&tiny.path(name), 90).unwrap(), infotext).unwrap();
    picture
}

#[test]
fn a_picture_is_as_large_as_the_network_or_the_scale_has_it_and_keeps_its_text_and_opacity() {
    let tiny = Tiny::quick();
    picture(&tiny, "a.png", true, "a cat\nSteps: 4");
    for (scale, size) in [(None, [48, 36]), (Some("4"), [48, 36]), (Some("1.5"), [18, 14]), (Some("6"), [72, 54])] {
        let model = model("compact-x4.pth");
        let scale = scale.map(|scale| vec!["--scale", scale]).unwrap_or_default();
        let told =
            tiny.forge(&[&["upscale", "a.png", "--model", &model, "--output", "b.webp", "--json"], &*scale].concat());
        let told = told.done().json();
        assert_eq!(told[0]["model"], "Real-ESRGAN compact, 5 layers of 8 channels, 4 times as wide and high");
        assert_eq!((told[1]["event"].as_str(), told[1]["from"].as_str()), (Some("image"), Some("a.png")));
        let larger = Picture::read(&tiny.path("b.webp")).unwrap();
        assert_eq!([larger.width, larger.height], size);
        assert!(larger.opacity.is_some_and(|all| all.iter().any(|opacity| *opacity != all[0])));
        assert_eq!(forge::read_infotext(&tiny.path("b.webp")).unwrap(), "a cat\nSteps: 4");
    }
}

#[test]
fn several_pictures_have_names_of_their_own_and_no_input_is_replaced() {
    let tiny = Tiny::quick();
    let before = picture(&tiny, "a.png", false, "");
    picture(&tiny, "b.webp", false, "");
    let model = model("esrgan-plus-x2.safetensors");
    let upscale =
        |rest: &[&str]| tiny.forge(&[&["upscale", "a.png", "b.webp", "--model", &model, "--output"], rest].concat());
    upscale(&["out/{name}-{index}.png"]).done();
    for name in ["out/a-0.png", "out/b-1.png"] {
        assert_eq!(Picture::read(&tiny.path(name)).unwrap().width, 24, "{name}");
    }
    upscale(&["c.png"]).refused(2, &["`{name}` or `{index}`"]);
    upscale(&["{name}.png"]).refused(2, &["would replace"]);
    upscale(&["./{name}.webp"]).refused(2, &["would replace"]);
    upscale(&["{name}.gif"]).refused(2, &["ends in"]);
    upscale(&["{name}-x.png", "--scale", "0.01"]).refused(2, &["--scale"]);
    upscale(&["{name}-x.png", "--memory", "1 KiB"]).refused(3, &["memory"]);
    assert_eq!(Picture::read(&tiny.path("a.png")).unwrap(), before);
}

#[test]
fn a_jpeg_is_read_as_a_picture_of_its_pixels() {
    let tiny = Tiny::quick();
    picture(&tiny, "a.jpg", false, "a cat\nSteps: 4");
    let pixels = Picture::read(&tiny.path("a.jpg")).unwrap();
    assert!(pixels.opacity.is_none());
    pixels.save_as(&tiny.path("b.png"), PictureFormat::Png, "").unwrap();
    let model = model("compact-x2.pth");
    tiny.forge(&["upscale", "a.jpg", "b.png", "--model", &model, "--output", "{name}-large.png"]).done();
    let [of_jpeg, of_png] = ["a-large.png", "b-large.png"].map(|name| Picture::read(&tiny.path(name)).unwrap());
    assert_eq!((of_jpeg.width, of_jpeg.height), (24, 18));
    assert_eq!(of_jpeg, of_png);
    assert_eq!(forge::read_infotext(&tiny.path("a-large.png")).unwrap(), "a cat\nSteps: 4");
    // Cut within its pixels it is none.
    let whole = fs::read(tiny.path("a.jpg")).unwrap();
    fs::write(tiny.path("a.jpg"), &whole[..whole.len() - 9]).unwrap();
    tiny.forge(&["upscale", "a.jpg", "--model", &model, "--output", "c.png"]).refused(1, &["a.jpg"]);
}

#[test]
fn what_is_no_picture_or_no_upscaler_is_an_error() {
    let tiny = Tiny::quick();
    picture(&tiny, "a.png", false, "");
    let whole = fs::read(tiny.path("a.png")).unwrap();
    fs::write(tiny.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(tiny.path("words.png"), "a cat").unwrap();
    let good = model("compact-x1.safetensors");
    let upscale = |input: &str, model: &str| tiny.forge(&["upscale", input, "--model", model, "--output", "o.png"]);
    for input in ["cut.png", "words.png", "none.png"] {
        upscale(input, &good).refused(1, &[]);
    }
    // a format that has no room for the result, or for its text, is told before the work
    let wide = Picture { width: 12_000, height: 1, pixels: vec![7; 36_000], opacity: None };
    wide.save_as(&tiny.path("wide.png"), PictureFormat::Png, &"word ".repeat(9000)).unwrap();
    for (output, told) in [("o.webp", "16383"), ("o.jpg", "90000")] {
        let scale = if output == "o.jpg" { "1" } else { "2" };
        let ran = tiny.forge(&["upscale", "wide.png", "--model", &good, "--output", output, "--scale", scale]);
        ran.refused(2, &[told]);
        assert!(!tiny.path(output).exists(), "{output}");
    }
    // a pipe that is read for its text has no pixels left
    for command in [
        &["upscale", "/dev/stdin", "--model", &good, "--output", "o.png"][..],
        &["replay", "/dev/stdin", "--config", "flux.toml"],
    ] {
        let mut run = tiny.command(command);
        let mut child = run.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&whole).unwrap();
        let ran = crate::tiny::Ran::of(child.wait_with_output().unwrap(), command);
        ran.refused(2, &["a file, as it is read twice", "a pipe or a device"]);
    }
    let unet = fixtures::path("models/sd-demo.safetensors").display().to_string();
    upscale("a.png", &unet).refused(4, &["no upscaler that is known"]);
    upscale("a.png", "words.png").refused(4, &[]);
    assert!(!tiny.path("o.png").exists());
    upscale("a.png", &good).done();
}
