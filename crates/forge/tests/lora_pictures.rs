//! Pictures of tiny Stable Diffusion models under LoRAs of the UNet and of each text encoder, against PEFT's layers in diffusers' networks.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;

use fixtures::{Golden, deviation, path, psnr, std};
use forge::{ComputeChoice, Config, Forge, core_tensor::values};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

#[test]
fn a_lora_of_a_unet_and_its_text_encoders_draws_what_the_references_draw() {
    for case in ["sd-1", "sd-xl"] {
        // given the case's own config and a LoRA of all of its networks
        let folder = tempfile::tempdir().unwrap();
        let file = path(&format!("golden/lora/{case}.picture.safetensors"));
        fs::copy(file, folder.path().join("all.safetensors")).unwrap();
        let mut config = Config::read(&path(&format!("golden/{case}/case.toml"))).unwrap();
        config.device.compute = ComputeChoice::F32;
        config.prompt.loras = Some(folder.path().to_owned());
        config.prompt.positive += " <lora:all:1>";
        // when the picture is drawn
        let mut run = Forge::load(&config).unwrap().txt2img(config.request(|| 0).unwrap()).unwrap();
        run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
        // then its words, its latent and its pixels are the reference's
        let expected = Golden::open(&format!("lora/{case}.picture.expected.safetensors"));
        let alone = Golden::open(&format!("{case}/expected.safetensors"));
        let latent = expected.floats("latent.007");
        assert!(deviation(&alone.floats("latent.007"), &latent) > 0.1 * std(&latent), "{case}: the LoRA does nothing");
        let worst = deviation(&values(&run.latent().0), &latent) / std(&latent);
        assert!(worst <= LATENT, "{case}: the latent is {worst:.2e} of its standard deviation off");
        let db = psnr(&values(&run.pixels().unwrap()), &expected.floats("image"));
        assert!(db >= PICTURE_DB, "{case}: the picture is {db:.1} dB from the reference's");
    }
}
