//! A second pass of Flux at another size against torch and diffusers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Compute, Device, Footprint, WeightSource, safetensors::Safetensors, values};
use diffusion_engine::{
    Cancel, Family, Hires, HiresSize, Inside, Job, Size, Txt2Img,
    family::{Part, Parts, Placement},
    start,
};
use fixtures::{Golden, deviation, psnr, std};
use flux::FluxFamily;
use samplers::{Options, Value};

#[test]
fn a_second_pass_is_that_of_the_references() {
    let file = |name: &str| -> Arc<dyn WeightSource> {
        Arc::new(Safetensors::open(&fixtures::path(&format!("golden/tiny-dev/{name}.safetensors"))).unwrap())
    };
    let files = [("transformer", "transformer"), ("clip", "clip"), ("t5", "t5"), ("vae", "ae")];
    let parts = files.map(|(key, name)| {
        Part::of(key, "", file(name), "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
    });
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    let model = FluxFamily.open(Parts::of("tiny", parts)).unwrap().load(&placement).unwrap();

    let catalog = FluxFamily.register(diffusion_engine::Catalog::builtin()).unwrap();
    let request = Txt2Img::of("a photo of a cat, warm light").seed(42).steps(4).size(Size { width: 64, height: 96 });
    let request = request.with(|pass| {
        pass.negative = "blurry, low quality".into();
        pass.cfg = 2.0.into();
        pass.schedule = catalog.schedule("flux").unwrap();
        pass.knobs.set("guidance", Value::Number(3.5));
        pass.knobs.set("t5_length", Value::Number(20.0));
    });
    let mut knobs = Options::default();
    knobs.set("guidance", Value::Number(2.0));
    let hires = Hires { steps: Some(5), strength: 0.6, knobs, ..Hires::of(HiresSize::Scale(1.5)) };
    let job = Job::of(Txt2Img { hires: Some(hires), ..request }).unwrap();
    let mut run = start(model.clone(), job, Arc::default(), Cancel::default()).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();

    let golden = Golden::open("tiny-dev/hires.safetensors");
    let expected = golden.floats("latent.latent");
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= 1e-3, "the latent is {worst:.2e} of its standard deviation off");
    let pixels = model.vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
    let db = psnr(&values(&pixels), &golden.floats("image"));
    assert!(db >= 45.0, "the picture is {db:.1} dB from the reference's");
}
