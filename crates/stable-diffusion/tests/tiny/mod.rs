//! The tiny models of `fixtures/golden/sd-*`, opened by the family.

#![allow(dead_code, reason = "each test file uses its own part of this one")]

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Compute, Device, Footprint, Residency, WeightSource, safetensors::Safetensors};
use diffusion_engine::{
    Cancel, Encodings, Family, Job, Model, OpenClipNames, Run, Size, Txt2Img,
    family::{Part, Parts, Placement},
    start,
};
use fixtures::path;
use samplers::Value;
use stable_diffusion::StableDiffusionFamily;

/// The golden cases.
pub(crate) const CASES: [&str; 5] = ["sd-1", "sd-2", "sd-xl", "sd-refiner", "sd-inpainting"];

/// Of each part: its key, the id of its kind, and what stands before its names in a single file.
pub(crate) type Placed = (&'static str, &'static str, &'static str);

pub(crate) const UNET: Placed = ("unet", "sd-unet", "model.diffusion_model.");
pub(crate) const VAE: Placed = ("vae", "autoencoder-4", "first_stage_model.");

/// A part of a file, whose names are those of OpenCLIP where `open_clip` says so.
pub(crate) fn part(file: &Arc<dyn WeightSource>, (key, kind, prefix): Placed, open_clip: bool) -> Part {
    let part =
        Part::of(key, kind, file.clone(), prefix).takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() });
    if open_clip { part.renamed(Arc::new(OpenClipNames::under(prefix, file.clone()))) } else { part }
}

/// A file of `fixtures/golden`.
pub(crate) fn file(name: &str) -> Arc<dyn WeightSource> {
    Arc::new(Safetensors::open(&path("golden").join(name)).unwrap())
}

/// The parts of a tiny model.
pub(crate) fn parts(case: &str) -> Parts {
    let of_parts = if case == "sd-inpainting" { "sd-1" } else { case };
    let whole = file(&format!("{of_parts}/model.safetensors"));
    let unet = match case {
        "sd-inpainting" => part(&file("sd-inpainting/unet.safetensors"), ("unet", "sd-unet", ""), false),
        _ => part(&whole, UNET, false),
    };
    let open_clip = |key, prefix| part(&whole, (key, "open-clip", prefix), true);
    let clip = |prefix| part(&whole, ("clip", "clip", prefix), false);
    let encoders = match of_parts {
        "sd-1" => vec![clip("cond_stage_model.transformer.")],
        "sd-2" => vec![open_clip("clip", "cond_stage_model.model.")],
        "sd-xl" => {
            vec![clip("conditioner.embedders.0.transformer."), open_clip("clip_g", "conditioner.embedders.1.model.")]
        }
        _ => vec![open_clip("clip", "conditioner.embedders.0.model.")],
    };
    Parts::of(case, [unet].into_iter().chain(encoders).chain([part(&whole, VAE, false)]))
}

/// A tiny model.
pub(crate) fn model(case: &str) -> Arc<dyn Model> {
    let placement = Placement {
        device: Device::flex(),
        compute: Compute::F32,
        unpacked: BTreeMap::from([("unet".to_owned(), Residency::Unpacked)]),
    };
    StableDiffusionFamily.open(parts(case)).unwrap().load(&placement).unwrap()
}

/// The request of a case.
pub(crate) fn request(case: &str) -> Txt2Img {
    let text = std::fs::read_to_string(path(&format!("golden/{case}/case.toml"))).unwrap();
    let said = |key: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let value = |key: &str| said(key).unwrap();
    let whole = |key: &str| value(key).parse().unwrap();
    let size = Size { width: whole("width"), height: whole("height") };
    let request = Txt2Img::of(value("positive")).seed(value("seed").parse().unwrap()).steps(whole("steps")).size(size);
    request.with(|pass| {
        pass.negative = value("negative");
        pass.cfg = value("cfg").parse().unwrap();
        pass.schedule = samplers::Registry::builtin().schedule(&value("schedule")).unwrap();
        said("prediction").into_iter().for_each(|name| pass.knobs.set("prediction", Value::Name(name)));
    })
}

/// Drives a job to its end.
pub(crate) fn finished(model: &Arc<dyn Model>, job: Job) -> Run {
    let mut run = start(model.clone(), job, Arc::new(Encodings::default()), Cancel::default()).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}
