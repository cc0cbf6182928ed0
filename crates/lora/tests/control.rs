//! Flux shown a control picture beside the latent, by its own first layer and by a LoRA's, against diffusers' FluxControlPipeline.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod source;

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{
    Compute, Device, Footprint, Residency, Stored, WeightSource, Weights, safetensors::Safetensors, values,
};
use diffusion_engine::{
    Cancel, Catalog, Encodings, Error, Family, Inside, Job, Model, Raster, Run, Size, Txt2Img,
    family::{Duty, Part, Parts, Placement, Settings},
    start,
};
use fixtures::{Golden, deviation, psnr, std};
use flux::FluxFamily;
use lora::{Adapted, Blocks, Dora, Fitted, LoraFile, Target};

use source::Memory;

const SIZE: Size = Size { width: 64, height: 64 };
const INPUT: &str = "img_in.weight";

fn golden() -> Golden {
    Golden::open("flux-control.safetensors")
}

fn open(name: &str) -> Arc<dyn WeightSource> {
    Arc::new(Safetensors::open(&fixtures::path(&format!("golden/tiny-dev/{name}.safetensors"))).unwrap())
}

fn stored(golden: &Golden, name: &str) -> Stored {
    Stored::of(&golden.floats(name), golden.shape(name).to_vec())
}

/// The transformer, with another first layer where one is given.
fn transformer(input: Option<Stored>) -> Arc<dyn WeightSource> {
    let own = open("transformer");
    let tensor = |name: &str| match &input {
        Some(input) if name == INPUT => input.clone(),
        Some(_) | None => own.read(name).unwrap(),
    };
    Arc::new(Memory::of(own.manifest().names().map(|name| (name.to_owned(), tensor(name))).collect::<Vec<_>>()))
}

fn model(transformer: Arc<dyn WeightSource>) -> Arc<dyn Model> {
    let beside = [("clip", "clip"), ("t5", "t5"), ("vae", "ae")];
    let parts = beside.map(|(key, name)| {
        Part::of(key, "", open(name), "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
    });
    let parts = [Part::of("transformer", "", transformer, "").takes(Footprint {
        unpacked: 7,
        mapped: 3,
        ..Footprint::default()
    })]
    .into_iter()
    .chain(parts);
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    FluxFamily.open(Parts::of("tiny", parts)).unwrap().load(&placement).unwrap()
}

fn picture(golden: &Golden) -> Raster<3> {
    let pixels = golden.floats("picture");
    Raster::new(SIZE, pixels.as_chunks::<3>().0.iter().map(|pixel| pixel.map(|value| value as u8)).collect()).unwrap()
}

fn request(golden: &Golden) -> Txt2Img {
    Txt2Img::of("a photo of a cat, warm light").seed(7).steps(8).size(SIZE).with(|pass| {
        pass.profile = Catalog::builtin().profile("diffusers").unwrap();
        pass.knobs.set("guidance", "3.5".parse().unwrap());
        pass.knobs.set("t5_length", "20".parse().unwrap());
        pass.sigmas = Some(golden.floats("sigmas").into_iter().map(f64::from).collect());
    })
}

fn controlled(golden: &Golden) -> Txt2Img {
    request(golden).with(|pass| pass.control = Some(Arc::new(picture(golden))))
}

fn drawn(model: &Arc<dyn Model>, request: Txt2Img) -> Result<Run, Error> {
    let job = Job::of(request)?;
    let mut run = start(model.clone(), job, Arc::new(Encodings::default()), Cancel::default())?;
    run.by_ref().try_for_each(|event| event.map(drop))?;
    Ok(run)
}

/// An error with what it came of.
fn told(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |&cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

fn assert_agrees(golden: &Golden, name: &str, model: &Arc<dyn Model>, run: &Run) {
    let expected = golden.floats(&format!("{name}.latent"));
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= 1e-3, "{name}: the latent is {worst:.2e} of its standard deviation off");
    let pixels = model.clone().vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
    let db = psnr(&values(&pixels), &golden.floats(&format!("{name}.image")));
    assert!(db >= 45.0, "{name}: the picture is {db:.1} dB from the reference's");
}

#[test]
fn flux_with_a_control_picture_draws_as_in_diffusers_and_asks_for_one() {
    let golden = golden();
    let model = model(transformer(Some(stored(&golden, "control.img_in.weight"))));
    let run = drawn(&model, controlled(&golden)).unwrap();
    assert_agrees(&golden, "control", &model, &run);
    let error = drawn(&model, request(&golden)).unwrap_err();
    assert!(told(&error).contains("the control picture"), "{error:?}");
}

#[test]
fn a_lora_has_flux_take_a_control_picture_as_in_diffusers_and_without_it_none() {
    let golden = golden();
    let source = transformer(None);
    let role = FluxFamily.roles().remove(0);
    let weights = Weights::of(&*source, &Device::flex(), Residency::Mapped);
    let layout = role.network.layout(&weights, &Settings::default()).unwrap();
    let (part, duty, root, spellings) = (role.key, Duty::DENOISER, String::new(), role.network.spellings_of(&layout));
    let target = Target { part, duty, root, layout, spellings, source: source.clone() };
    let names: Vec<String> =
        golden.names().iter().filter_map(|name| Some(name.strip_prefix("lora.")?.to_owned())).collect();
    let is_tensor = |name: &String| name.contains("lora_");
    let tensors: Vec<_> = names
        .into_iter()
        .filter(is_tensor)
        .map(|name| (name.clone(), stored(&golden, &format!("lora.{name}"))))
        .collect();
    let file = LoraFile::read(&Memory::of(tensors)).unwrap();
    assert_eq!(file.made_for(), Some("Flux with a control picture"));
    let fitted: Fitted = file.fitted("flux", &[target], Dora::default()).unwrap().whole().unwrap();
    let adapted = Arc::new(Adapted::over(source));
    let model = model(adapted.clone());
    let alone = values(&drawn(&model, request(&golden)).unwrap().latent().0);

    let refused = drawn(&model, controlled(&golden)).unwrap_err();
    let refused = told(&refused);
    assert!(refused.contains("a control picture") && refused.contains("a model that takes none"), "{refused}");

    adapted.put("canny", fitted.branches(0)).unwrap();
    assert!(values(&drawn(&model, request(&golden)).unwrap().latent().0) == alone, "without a strength");
    fitted.adapter.set(1.0, 0.0, &Blocks::default());
    let run = drawn(&model, controlled(&golden)).unwrap();
    assert_agrees(&golden, "lora", &model, &run);
    let missing = drawn(&model, request(&golden)).unwrap_err();
    assert!(told(&missing).contains("a LoRA in use is made for"), "{missing:?}");

    adapted.take("canny");
    assert!(values(&drawn(&model, request(&golden)).unwrap().latent().0) == alone, "without it");
}
