//! Pictures from pictures against diffusers' FluxImg2ImgPipeline.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Compute, Device, Footprint, WeightSource, safetensors::Safetensors, values};
use diffusion_engine::{
    Area, Cancel, Catalog, Encodings, Family, Fill, FromPictures, Inpaint, Inside, Job, Model, Origin, Raster, Run,
    Size, Txt2Img,
    family::{Part, Parts, Placement},
    start,
};
use fixtures::{Golden, deviation, psnr, std};
use flux::FluxFamily;
use samplers::Value;

const FILES: [(&str, &str); 4] = [("transformer", "transformer"), ("clip", "clip"), ("t5", "t5"), ("vae", "ae")];
const SIZE: Size = Size { width: 64, height: 64 };

fn model() -> Arc<dyn Model> {
    with_transformer("tiny-dev")
}

/// The parts of tiny-dev with the transformer of a case.
fn with_transformer(case: &str) -> Arc<dyn Model> {
    let part = |(key, name): (&str, &str)| {
        let case = if key == "transformer" { case } else { "tiny-dev" };
        let path = fixtures::path(&format!("golden/{case}/{name}.safetensors"));
        let file: Arc<dyn WeightSource> = Arc::new(Safetensors::open(&path).unwrap());
        Part::of(key, "", file, "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
    };
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    FluxFamily.open(Parts::of("tiny", FILES.map(part))).unwrap().load(&placement).unwrap()
}

fn request(golden: &Golden, change: impl FnOnce(&mut FromPictures)) -> Txt2Img {
    let pixels = golden.floats("picture").chunks_exact(3).map(|at| [at[0] as u8, at[1] as u8, at[2] as u8]).collect();
    let mut from = FromPictures { strength: 0.8, ..FromPictures::of(Raster::new(SIZE, pixels).unwrap()) };
    change(&mut from);
    Txt2Img::of("a photo of a cat, warm light").seed(7).steps(10).size(SIZE).with(|pass| {
        pass.profile = Catalog::builtin().profile("diffusers").unwrap();
        pass.knobs.set("guidance", Value::Number(3.5));
        pass.knobs.set("t5_length", Value::Number(20.0));
        pass.sigmas = Some(golden.floats("sigmas").into_iter().map(f64::from).collect());
        pass.start = Origin::Pictures(Arc::new(from));
    })
}

fn finished(flux: &Arc<dyn Model>, request: Txt2Img) -> Run {
    let job = Job::of(request).unwrap();
    let mut run = start(flux.clone(), job, Arc::new(Encodings::default()), Cancel::default()).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

#[test]
fn a_picture_from_another_is_that_of_diffusers() {
    let (golden, flux) = (Golden::open("img2img/tiny-dev.safetensors"), model());
    for (name, sampled) in [("mean", false), ("sampled", true)] {
        let run = finished(&flux, request(&golden, |from| from.sampled = sampled));
        let expected = golden.floats(&format!("{name}.latent"));
        let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
        assert!(worst <= 1e-3, "{name}: the latent is {worst:.2e} of its standard deviation off");
        let pixels = flux.clone().vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
        let db = psnr(&values(&pixels), &golden.floats(&format!("{name}.image")));
        assert!(db >= 45.0, "{name}: the picture is {db:.1} dB from the reference's");
    }
}

#[test]
fn what_is_not_masked_stays_bit_for_bit() {
    let (golden, flux) = (Golden::open("img2img/tiny-dev.safetensors"), model());
    let is_masked = |i: usize| i % 64 >= 32;
    let mask = (0..64 * 64).map(|i| if is_masked(i) { [255; 4] } else { [0, 0, 0, 255] }).collect();
    let mask = Arc::new(Raster::new(SIZE, mask).unwrap());
    let (fill, area) = (Fill::Fill, Area::Whole);
    let inpaint = Inpaint { mask, blur: 0.0, round: true, invert: false, fill, area, hidden: 1.0, soft: None };
    let request = request(&golden, |from| from.inpaint = Some(inpaint));
    let Origin::Pictures(from) = &request.pass.start else { panic!("it starts from a picture") };
    let own = from.pictures[0].clone();
    let image = finished(&flux, request).image().unwrap();
    let pairs = image.pixels.as_chunks::<3>().0.iter().zip(own.pixels());
    let changed: Vec<usize> = pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
    assert!(changed.iter().all(|&i| is_masked(i)) && changed.len() > 500, "{}", changed.len());
}

#[test]
fn a_part_that_flux_fill_draws_anew_is_that_of_diffusers() {
    let (golden, fill) = (Golden::open("img2img/tiny-fill.safetensors"), with_transformer("tiny-fill"));
    assert!(fill.is_shown_pictures());
    let mask = golden.floats("mask").into_iter().map(|value| [value as u8, value as u8, value as u8, 255]).collect();
    let mask = Arc::new(Raster::new(SIZE, mask).unwrap());
    let (fill_mode, area) = (Fill::Original, Area::Whole);
    let inpaint =
        Inpaint { mask, blur: 0.0, round: true, invert: false, fill: fill_mode, area, hidden: 1.0, soft: None };
    let request = request(&golden, |from| (from.strength, from.inpaint) = (1.0, Some(inpaint)));
    let request = request.steps(8).with(|pass| pass.knobs.set("guidance", Value::Number(30.0)));
    let run = finished(&fill, request.clone());
    let expected = golden.floats("latent");
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= 1e-3, "the latent is {worst:.2e} of its standard deviation off");
    let pixels = fill.clone().vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
    let db = psnr(&values(&pixels), &golden.floats("image"));
    assert!(db >= 45.0, "the picture is {db:.1} dB from the reference's");
    // what it is shown counts, and without a picture it draws all of one
    let other = finished(&fill, request.clone().with(|pass| pass.start = Origin::Noise));
    assert!(deviation(&values(&other.latent().0), &expected) > 0.1 * std(&expected));
}
