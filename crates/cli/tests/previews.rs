//! `--preview`: the picture in the making is there while it is drawn, changes nothing of it, and fails no run.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::fs;

use forge::diffusion_engine::Picture;

use crate::tiny::Tiny;

fn tiny() -> Tiny {
    Tiny::quick().set("sampling", "steps", 3).set("image", "width", 32).set("image", "height", 48)
}

fn decoder(name: &str) -> String {
    fixtures::path(&format!("golden/tiny-vae/{name}.safetensors")).display().to_string()
}

#[test]
fn a_preview_has_a_pixel_for_each_of_the_latents_or_is_decoded_at_the_decoders_factor() {
    let tiny = tiny();
    tiny.txt2img(&["--seed", "7"]).done();
    let plain = fs::read(tiny.picture()).unwrap();
    for (decoder, size) in [
        (None, [4, 6]),
        (Some(decoder("sixteen-channels.decoder")), [16, 24]),
        (Some(decoder("sixteen-channels")), [16, 24]),
    ] {
        fs::remove_file(tiny.picture()).unwrap();
        let flag = decoder.iter().flat_map(|decoder| ["--preview-decoder", decoder]).collect::<Vec<_>>();
        tiny.txt2img(&[&["--seed", "7", "--preview", "now.webp", "--preview-every", "1"], &*flag].concat()).done();
        let preview = Picture::read(&tiny.path("now.webp")).unwrap();
        assert_eq!([preview.width, preview.height], size);
        // The picture is the one that is drawn without.
        assert_eq!(fs::read(tiny.picture()).unwrap(), plain);
    }
    // The last step of three is no fourth one.
    tiny.txt2img(&["--seed", "7", "--preview", "fourth.webp", "--preview-every", "4"]).done();
    assert!(!tiny.path("fourth.webp").exists());
    // Whether any comes without more is a matter of time; the picture is not.
    fs::remove_file(tiny.picture()).unwrap();
    tiny.txt2img(&["--seed", "7", "--preview", "now.webp", "--preview-decoder", &decoder("sixteen-channels")]).done();
    assert_eq!(fs::read(tiny.picture()).unwrap(), plain);
}

#[test]
fn a_preview_that_can_not_be_had_is_refused_before_the_run() {
    let tiny = tiny();
    let refused = |flags: &[&str], code: i32, words: &[&str]| {
        tiny.txt2img(&[&["--seed", "7"], flags].concat()).refused(code, words);
    };
    refused(&["--preview", "now.gif"], 2, &["preview.file", "ends in"]);
    refused(&["--preview", "same.png", "--output", "same.png"], 2, &["would replace"]);
    let wrong = decoder("four-levels.decoder");
    refused(&["--preview-decoder", &wrong], 4, &["latents with 4 channels", "latents with 16 channels"]);
    let half = decoder("sixteen-channels.encoder");
    refused(&["--preview-decoder", &half], 4, &["a tiny decoder (TAESD) of latents with 16 channels"]);
    refused(&["--preview", "a.png", "--preview-decoder", "none.safetensors"], 4, &["none.safetensors"]);
    assert!(tiny.drawn().is_empty());
}
