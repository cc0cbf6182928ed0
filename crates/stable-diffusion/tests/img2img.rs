//! Pictures from pictures, and parts of them drawn anew, against diffusers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::sync::Arc;

use core_tensor::{Tensor, values};
use diffusion_engine::{
    Area, Cancel, Catalog, Encodings, Fill, FromPictures, Inpaint, Inside, Job, Model, Origin, Raster, Run, Size, Soft,
    SoftSettings, Txt2Img, start,
};
use fixtures::{Golden, deviation, psnr, std};

use tiny::{finished, model};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

const SIZE: Size = Size { width: 64, height: 64 };

fn golden(case: &str) -> Golden {
    Golden::open(&format!("img2img/{case}.safetensors"))
}

fn picture(golden: &Golden) -> Raster<3> {
    let pixels = golden.floats("picture").chunks_exact(3).map(|at| [at[0] as u8, at[1] as u8, at[2] as u8]).collect();
    Raster::new(SIZE, pixels).unwrap()
}

fn inpaint(golden: &Golden) -> Inpaint {
    let pixels = golden.floats("mask").into_iter().map(|value| [value as u8, value as u8, value as u8, 255]).collect();
    let mask = Arc::new(Raster::new(SIZE, pixels).unwrap());
    let (fill, area) = (Fill::Original, Area::Whole);
    Inpaint { mask, blur: 0.0, round: true, invert: false, fill, area, hidden: 1.0, soft: None }
}

/// The reference's request.
fn request(golden: &Golden, change: impl FnOnce(&mut FromPictures)) -> Txt2Img {
    let mut from = FromPictures { strength: 0.8, ..FromPictures::of(picture(golden)) };
    change(&mut from);
    Txt2Img::of("a photo of a cat, warm light").seed(7).steps(10).size(SIZE).with(|pass| {
        pass.negative = "blurry, low quality".into();
        pass.cfg = 4.0.into();
        pass.profile = Catalog::builtin().profile("diffusers").unwrap();
        let levels = golden.floats("sigmas");
        pass.sigmas = Some(levels.into_iter().map(f64::from).collect());
        pass.start = Origin::Pictures(Arc::new(from));
    })
}

fn agrees(sd: &Arc<dyn Model>, golden: &Golden, name: &str, request: Txt2Img) {
    let run = finished(sd, Job::of(request).unwrap());
    let expected = golden.floats(&format!("{name}.latent"));
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= LATENT, "{name}: the latent is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}");
    let pixels = sd.clone().vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
    let db = psnr(&values(&pixels), &golden.floats(&format!("{name}.image")));
    assert!(db >= PICTURE_DB, "{name}: the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
}

#[test]
fn a_picture_from_another_is_that_of_diffusers() {
    let (golden, sd) = (golden("sd-1"), model("sd-1"));
    agrees(&sd, &golden, "mean", request(&golden, |_| {}));
    agrees(&sd, &golden, "sampled", request(&golden, |from| from.sampled = true));
}

#[test]
fn a_part_of_a_picture_drawn_anew_is_that_of_diffusers() {
    for case in ["sd-1", "sd-inpainting"] {
        let (golden, sd) = (golden(case), model(case));
        agrees(&sd, &golden, "inpaint", request(&golden, |from| from.inpaint = Some(inpaint(&golden))));
    }
}

/// At a strength of 1 diffusers starts from noise alone, and shows that to the UNet of four channels first.
#[test]
fn a_part_of_a_picture_drawn_anew_from_noise_alone_is_that_of_diffusers() {
    let whole = golden("strength-1");
    for case in ["sd-1", "sd-inpainting"] {
        let (golden, sd) = (golden(case), model(case));
        let request = request(&golden, |from| (from.strength, from.inpaint) = (1.0, Some(inpaint(&golden))));
        let levels: Vec<f64> = whole.floats("sigmas").into_iter().map(f64::from).collect();
        let request = request.with(|pass| pass.sigmas = Some(levels));
        let last = |request: Txt2Img| values(&finished(&sd, Job::of(request).unwrap()).latent().0);
        let expected = whole.floats(case);
        let off = |found: &[f32]| deviation(found, &expected) / std(&expected);
        let worst = off(&last(request.clone()));
        assert!(
            worst <= LATENT,
            "{case}: the latent is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}"
        );
        // and in another profile something of the picture is left
        let forge = Catalog::builtin().profile("forge").unwrap();
        assert!(off(&last(request.with(|pass| pass.profile = forge))) > 5.0 * LATENT, "{case}");
    }
}

/// Where the mask leaves the picture alone.
fn is_kept(golden: &Golden) -> Vec<bool> {
    golden.floats("mask").into_iter().map(|value| value == 0.0).collect()
}

#[test]
fn what_is_not_masked_stays_bit_for_bit_whatever_is_done_under_the_mask() {
    let (golden, sd) = (golden("sd-1"), model("sd-1"));
    let (own, kept) = (picture(&golden), is_kept(&golden));
    let catalog = Catalog::builtin();
    for (fill, area, soft, profile) in [
        (Fill::Original, Area::Whole, None, "forge"),
        (Fill::Fill, Area::Masked { padding: 8 }, None, "forge"),
        (Fill::Noise, Area::Whole, Some(Soft::Differential), "comfy"),
        (Fill::Nothing, Area::Whole, Some(Soft::Blended(SoftSettings::default())), "forge"),
        (Fill::Original, Area::Masked { padding: 0 }, Some(Soft::Blended(SoftSettings::default())), "a1111"),
    ] {
        let inpaint = Inpaint { fill, area, soft, ..inpaint(&golden) };
        let request = request(&golden, |from| from.inpaint = Some(inpaint)).with(|pass| {
            pass.profile = catalog.profile(profile).unwrap();
            (pass.sigmas, pass.steps) = (None, 3);
        });
        let image = finished(&sd, Job::of(request).unwrap()).image().unwrap();
        let pixels = image.pixels.as_chunks::<3>().0;
        let mut changed = 0;
        for ((found, own), kept) in pixels.iter().zip(own.pixels()).zip(&kept) {
            assert!(!kept || found == own, "{fill:?} {area:?} {soft:?}");
            changed += usize::from(found != own);
        }
        assert!(changed > 500, "{fill:?} {area:?} {soft:?}: {changed}");
    }
}

#[test]
fn a_run_from_a_snapshot_and_a_picture_of_a_batch_are_those_of_a_run_alone() {
    let (golden, sd) = (golden("sd-1"), model("sd-1"));
    let ancestral = samplers::Registry::builtin().sampler("euler_ancestral").unwrap();
    let of = |batch: usize, seed: u64| {
        let soft = Some(Soft::Blended(SoftSettings::default()));
        let inpaint = Inpaint { soft, blur: 4.0, ..inpaint(&golden) };
        let request = request(&golden, |from| (from.sampled, from.inpaint) = (true, Some(inpaint))).seed(seed);
        let request = request.with(|pass| {
            pass.profile = Catalog::builtin().profile("forge").unwrap();
            (pass.sigmas, pass.steps, pass.sampler) = (None, 4, ancestral.clone());
        });
        Job::of(Txt2Img { batch, ..request }).unwrap()
    };
    let last = |run: &Run| values(&run.latent().0);
    let whole = finished(&sd, of(2, 7));
    let mut run = start(sd.clone(), of(2, 7), Arc::new(Encodings::default()), Cancel::default()).unwrap();
    run.by_ref().take(3).try_for_each(|event| event.map(drop)).unwrap();
    let snapshot = run.snapshot().unwrap();
    let mut resumed = Run::resume(sd.clone(), snapshot, Arc::new(Encodings::default()), Cancel::default());
    resumed.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    assert_eq!(last(&resumed), last(&whole));
    assert_eq!(resumed.images().unwrap(), whole.images().unwrap());
    let second = finished(&sd, of(1, 8));
    let of_batch: Tensor<4> = whole.latent().0.clone().narrow(0, 1, 1);
    assert_eq!(values(&of_batch), last(&second));
    assert_eq!(whole.images().unwrap()[1], second.images().unwrap()[0]);
    assert!(second.image().unwrap().infotext.contains("Soft inpainting enabled: True"));
}
