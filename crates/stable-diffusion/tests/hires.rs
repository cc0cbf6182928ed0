//! Second passes at another size against torch, diffusers and k-diffusion.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use core_tensor::values;
use diffusion_engine::{Hires, HiresSize, Inside, Job, Run, Txt2Img, Upscaler};
use fixtures::{Golden, deviation, psnr, std};
use samplers::Registry;

use tiny::{finished, model, request};

/// Largest difference of a latent, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

fn drawn(hires: Hires) -> Run {
    finished(&model("sd-1"), Job::of(Txt2Img { hires: Some(hires), ..request("sd-1") }).unwrap())
}

fn is_near(golden: &Golden, name: &str, run: &Run) {
    let expected = golden.floats(name);
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= LATENT, "{name} is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}");
}

#[test]
fn a_second_pass_is_that_of_the_references_by_each_upscaler() {
    let golden = Golden::open("sd-1/hires.safetensors");
    for id in Upscaler::IDS.into_iter().filter(|id| id.starts_with("latent")) {
        let size = HiresSize::Scale(1.5);
        let run = drawn(Hires { upscaler: id.parse().unwrap(), steps: Some(5), strength: 0.6, ..Hires::of(size) });
        is_near(&golden, &format!("{id}.latent"), &run);
        if id == "latent" {
            let vae = model("sd-1").vae();
            let pixels = vae.decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
            let db = psnr(&values(&pixels), &golden.floats("image"));
            assert!(db >= PICTURE_DB, "the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
        }
    }
}

#[test]
fn the_middle_of_a_taller_one_is_kept_and_drawn_by_its_own_settings() {
    let (golden, registry) = (Golden::open("sd-1/hires.safetensors"), Registry::builtin());
    let run = drawn(Hires {
        upscaler: "Latent (bicubic)".parse().unwrap(),
        steps: Some(5),
        strength: 0.6,
        sampler: Some(registry.sampler("dpmpp_2m").unwrap()),
        schedule: Some(registry.schedule("karras").unwrap()),
        cfg: Some(3.0.into()),
        prompt: "oil painting".into(),
        ..Hires::of(HiresSize::Sides { width: 80, height: 96 })
    });
    is_near(&golden, "kept.latent", &run);
}
