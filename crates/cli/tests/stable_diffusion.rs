//! Tiny Stable Diffusion models through the command, from a config of one file to a picture.

mod tiny;

use core_tensor::{WeightSource, safetensors::Safetensors};
use fixtures::{Golden, deviation, psnr, std};
use tiny::{Tiny, golden};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

#[test]
fn a_config_that_names_one_file_draws_what_the_references_draw() {
    for case in ["sd-1", "sd-2", "sd-xl", "sd-refiner", "sd-inpainting"] {
        // given the case's own config
        let config = golden(case).join("case.toml").display().to_string();
        let tiny = Tiny::quick();
        // when the picture is drawn
        let files = ["--output", "picture.png", "--dump", "dump.safetensors"];
        let ran = tiny.forge(&[&["txt2img", "--config", &config, "--compute", "f32"][..], &files].concat()).done();
        assert!(!ran.err.contains("nothing reads"), "{ran:?}");
        // then its latent and its pixels are the reference's
        let (dump, expected) =
            (Safetensors::open(&tiny.path("dump.safetensors")).expect("the run wrote it"), reference(case));
        let found = |name: &str| dump.read(name).expect("a dump has it").to_f32().expect("floats");
        let latent = expected.floats("latent.007");
        let worst = deviation(&found("latent.007"), &latent) / std(&latent);
        assert!(
            worst <= LATENT,
            "{case}: the latent is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}"
        );
        let db = psnr(&found("image"), &expected.floats("image"));
        assert!(db >= PICTURE_DB, "{case}: the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
    }
}

#[test]
fn a_single_file_is_told_part_by_part() {
    let file = golden("sd-xl/model.safetensors").display().to_string();
    let ran = Tiny::quick().forge(&["inspect", &file]).done();
    for part in ["an SDXL UNet", "a CLIP text encoder", "OpenCLIP", "the autoencoder of Stable Diffusion"] {
        assert!(ran.out.contains(part), "no `{part}` in {ran:?}");
    }
    assert!(!ran.out.contains("nothing reads"), "{ran:?}");
}

fn reference(case: &str) -> Golden {
    Golden::open(&format!("{case}/expected.safetensors"))
}
