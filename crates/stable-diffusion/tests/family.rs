//! Stable Diffusion's files, opened as any family's are.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::sync::Arc;

use core_tensor::{Device, Format, Manifest, Need, Residency, Stored, WeightSource, Weights};
use diffusion_engine::{
    Error, Family, Job, Size, Txt2Img,
    family::{Duty, Kind, Part, Parts, Settings, Shapes},
};
use fixtures::{Listed, Made};
use samplers::Prediction;
use serde_json::json;
use stable_diffusion::{Edition, StableDiffusionFamily, ToldBy, Trained, TrainingConfig, UnetConfig, UnetDimensions};
use tiny::{CASES, UNET, VAE, part, parts};

const CLIP_1: tiny::Placed = ("clip", "clip", "cond_stage_model.transformer.");
const CLIP_2: tiny::Placed = ("clip", "clip-h", "cond_stage_model.model.");
const CLIP_L: tiny::Placed = ("clip", "clip", "conditioner.embedders.0.transformer.");
const CLIP_G: tiny::Placed = ("clip_g", "clip-g", "conditioner.embedders.1.model.");
const CLIP_G_ALONE: tiny::Placed = ("clip_g", "clip-g", "conditioner.embedders.0.model.");

/// A text encoder, and whether it is in OpenCLIP's layout.
type TextEncoder = (tiny::Placed, bool);

/// The published single files: what their UNet is called, and their text encoders.
const SINGLE_FILES: [(&str, &str, &[TextEncoder]); 5] = [
    ("sd15.ldm", "a Stable Diffusion 1 UNet", &[(CLIP_1, false)]),
    ("sd15-inpaint.ldm", "a Stable Diffusion 1 UNet, for inpainting", &[(CLIP_1, false)]),
    ("sd21.ldm", "a Stable Diffusion 2 UNet", &[(CLIP_2, true)]),
    ("sdxl-base.ldm", "an SDXL UNet", &[(CLIP_L, false), (CLIP_G, true)]),
    ("sdxl-refiner.ldm", "the UNet of SDXL's refiner", &[(CLIP_G_ALONE, true)]),
];

/// The kind of what lies under a prefix, as the family tells it.
fn kind(manifest: &Manifest, duty: Duty, prefix: &str) -> Kind {
    let has = |kind: &Kind| kind.marks.iter().all(|mark| manifest.contains(&format!("{prefix}{mark}")));
    let fits = |kind: &Kind| kind.fits(&Shapes::under(manifest, prefix));
    let mut kinds = StableDiffusionFamily.kinds().into_iter();
    kinds.find(|kind| kind.duty == duty && has(kind) && fits(kind)).unwrap()
}

#[test]
fn every_published_single_file_is_told_and_opened() {
    for (list, name, encoders) in SINGLE_FILES {
        let file: Arc<dyn WeightSource> = Arc::new(Listed::open(list));
        let unet = kind(file.manifest(), Duty::DENOISER, UNET.2);
        assert_eq!((&*unet.name, &*unet.id), (name, UNET.1), "{list}");
        assert_eq!(kind(file.manifest(), Duty::AUTOENCODER, VAE.2).id, VAE.1, "{list}");
        for ((_, id, prefix), _) in encoders {
            assert_eq!(kind(file.manifest(), Duty::CLIP, prefix).id, *id, "{list}");
        }
        let encoders = encoders.iter().map(|(placed, open_clip)| part(&file, *placed, *open_clip));
        let all = [part(&file, UNET, false), part(&file, VAE, false)].into_iter().chain(encoders);
        let opened = StableDiffusionFamily.open(Parts::of("published", all.clone())).unwrap();
        let card = opened.card();
        assert_eq!((card.channels, card.factor, card.size_multiple), (4, 8, 8), "{list}");
        assert!(card.preview.is_some());
        assert!(opened.fits(&job(64)).is_ok());
        // and nothing that the networks read is missing
        for part in all {
            let role = StableDiffusionFamily.roles().into_iter().find(|role| role.key == part.key()).unwrap();
            let faults = part.look(|w| {
                let w = w.before(&role.network.mark);
                Ok(w.laid_out(role.network.layout(&w, &Settings::default())?).faults().count())
            });
            assert_eq!(faults.unwrap(), 0, "{list} {}", part.key());
        }
    }
}

#[test]
fn every_published_unet_of_diffusers_is_told_and_renamed() {
    for (list, name) in [
        ("sd15.diffusers-unet", "a Stable Diffusion 1 UNet"),
        ("sd15-inpaint.diffusers-unet", "a Stable Diffusion 1 UNet, for inpainting"),
        ("sd21.diffusers-unet", "a Stable Diffusion 2 UNet"),
        ("sdxl-base.diffusers-unet", "an SDXL UNet"),
        ("sdxl-refiner.diffusers-unet", "the UNet of SDXL's refiner"),
    ] {
        let file: Arc<dyn WeightSource> = Arc::new(Listed::open(list));
        let found = kind(file.manifest(), Duty::DENOISER, "");
        assert_eq!((&*found.name, &*found.id), (name, UNET.1), "{list}");
        let renamed = found.source(file, "");
        let w = Weights::of(&*renamed, &Device::flex(), Residency::Mapped);
        assert!(UnetDimensions::of(&w, &UnetConfig::default()).is_ok(), "{list}");
    }
}

fn job(side: usize) -> Job {
    Job::of(Txt2Img::of("").size(Size { width: side, height: side })).unwrap()
}

#[test]
fn a_tiny_model_is_of_the_edition_that_its_tensors_say() {
    for case in CASES {
        let opened = StableDiffusionFamily.open(parts(case)).unwrap();
        assert_eq!(opened.card().name, case);
        // the UNet may stay in its file, the encoders do, and the autoencoder does not
        let bytes: Vec<_> =
            opened.bytes().into_iter().map(|bytes| (bytes.part.unpacked.0, bytes.part.mapped.0)).collect();
        assert_eq!((bytes.first(), bytes.last()), (Some(&(7, 3)), Some(&(7, 7))), "{case}");
        assert!(bytes[1..bytes.len() - 1].iter().all(|bytes| *bytes == (3, 3)), "{case}");
        assert_eq!(bytes.len(), if case == "sd-xl" { 4 } else { 3 }, "{case}");
        assert!(opened.work(&job(64)).most() < opened.work(&job(512)).most());
        assert!(matches!(opened.fits(&job(60)), Err(Error::Request { what: "width", .. })));
    }
}

#[test]
fn a_part_that_is_not_there_or_does_not_fit_is_named() {
    let without = |case: &str, missing: &str| {
        let mut all = parts(case);
        let others = ["unet", "clip", "clip_g", "vae"].into_iter().filter(|key| *key != missing);
        let others: Vec<Part> = others.filter_map(|key| all.find(key)).collect();
        StableDiffusionFamily.open(Parts::of("tiny", others)).err().unwrap()
    };
    let cases = [("sd-1", "unet"), ("sd-1", "clip"), ("sd-1", "vae"), ("sd-xl", "clip"), ("sd-xl", "clip_g")];
    for (case, missing) in cases {
        let error = without(case, missing);
        assert!(matches!(&error, Error::NoPart { key } if key == missing), "{case} {missing}: {error}");
    }
    // given the autoencoder of another family, then its channels are named
    let mut others = parts("sd-1");
    let flux = part(&tiny::file("tiny-dev/ae.safetensors"), ("vae", "autoencoder", ""), false);
    let mixed = [others.find("unet"), others.find("clip"), Some(flux)].into_iter().flatten();
    let error = StableDiffusionFamily.open(Parts::of("mixed", mixed)).err().unwrap();
    assert!(matches!(error, Error::Model { what: "the autoencoder's channels", .. }), "{error}");
}

/// The UNet of a published list with so many channels at its input.
fn widened(list: &str, channels: usize) -> Arc<dyn WeightSource> {
    let listed = Listed::open(list);
    let need = |(name, form): (&str, core_tensor::Form)| {
        let mut shape = form.shape.to_vec();
        if name == "model.diffusion_model.input_blocks.0.0.weight" {
            shape[1] = channels;
        }
        Need { name: name.to_owned(), shape, kind: core_tensor::Kind::Parameter }
    };
    Arc::new(Made::of("", &listed.manifest().iter().map(need).collect::<Vec<_>>()))
}

#[test]
fn a_unet_that_edits_pictures_is_named_and_asked_for_none_from_noise() {
    let file = widened("sd15.ldm", 8);
    let found = kind(file.manifest(), Duty::DENOISER, UNET.2);
    assert!(found.id == UNET.1 && found.name.contains("instruct-pix2pix"), "{found:?}");
    let parts = Parts::of("edits", [part(&file, UNET, false), part(&file, CLIP_1, false), part(&file, VAE, false)]);
    let error = StableDiffusionFamily.open(parts).unwrap().fits(&job(64)).unwrap_err();
    assert!(error.to_string().contains("beside the latent"), "{error}");
    for (channels, name) in [(7, "upscaler"), (5, "depth")] {
        let relative = kind(widened("sd15.ldm", channels).manifest(), Duty::DENOISER, UNET.2);
        assert!(relative.id.is_empty() && relative.name.contains(name), "{relative:?}");
    }
}

#[test]
fn what_a_network_predicts_is_told_by_configs_before_marks_before_nothing() {
    let file = Listed::open("sd21.ldm");
    let w = Weights::of(&file, &Device::flex(), Residency::Mapped);
    let dimensions = UnetDimensions::of(&w, &UnetConfig::default()).unwrap();
    let marked = |marks: &[&str]| -> Manifest {
        marks.iter().map(|mark| ((*mark).to_owned(), Format::F32, Vec::new())).collect()
    };
    let trained = |marks: &[&str], config| Trained::of(Edition::Two, &dimensions, &marked(marks), &w, &config);
    let said = |json| serde_json::from_value::<TrainingConfig>(json).unwrap();
    let (eps, v) = (Prediction::Epsilon, Prediction::V);
    for (marks, config, prediction, zero_snr, told_by) in [
        (&[][..], json!({}), eps, false, ToldBy::Nothing),
        (&["v_pred"], json!({}), v, false, ToldBy::Mark),
        (&["v_pred", "ztsnr"], json!({}), v, true, ToldBy::Mark),
        (&[], json!({ "prediction_type": "v_prediction", "rescale_betas_zero_snr": true }), v, true, ToldBy::Config),
        (&["v_pred"], json!({ "prediction_type": "epsilon" }), eps, false, ToldBy::Config),
    ] {
        let found = trained(marks, said(config)).unwrap();
        assert_eq!(found, Trained { prediction, zero_snr, told_by }, "{marks:?}");
    }
    for (marks, config) in [(&["edm_mean"][..], json!({})), (&[], json!({ "prediction_type": "sample" }))] {
        assert!(matches!(trained(marks, said(config)), Err(Error::Model { .. })), "{marks:?}");
    }
}

#[test]
fn velocity_is_told_by_the_spread_of_a_bias_where_nothing_else_tells_it() {
    let (eps, v) = (Prediction::Epsilon, Prediction::V);
    // given UNets of 2.x whose bias lies this far from its mean, half of it above and half below
    for (spread, list, channels, edition, prediction, told_by) in [
        (0.0, "sd21.ldm", 4, Edition::Two, eps, ToldBy::Spread),
        (0.0899, "sd21.ldm", 4, Edition::Two, eps, ToldBy::Spread),
        (0.0901, "sd21.ldm", 4, Edition::Two, v, ToldBy::Spread),
        (3.0, "sd21.ldm", 4, Edition::Two, v, ToldBy::Spread),
        // as variants for inpainting predict noise, and all of 1.x
        (3.0, "sd21.ldm", 9, Edition::Two, eps, ToldBy::Nothing),
        (3.0, "sd21.ldm", 4, Edition::One, eps, ToldBy::Nothing),
    ] {
        let file = Biased { file: widened(list, channels), spread };
        let w = Weights::of(&file, &Device::flex(), Residency::Mapped);
        let dimensions = UnetDimensions::of(&w, &UnetConfig::default()).unwrap();
        let none = TrainingConfig::default();
        let found = Trained::of(edition, &dimensions, file.manifest(), &w, &none).unwrap();
        assert_eq!((found.prediction, found.told_by), (prediction, told_by), "{spread} {channels} {edition:?}");
    }
}

/// A file whose bias that tells has half of its values so far below 0.5 and half above.
struct Biased {
    file: Arc<dyn WeightSource>,
    spread: f32,
}

impl WeightSource for Biased {
    fn label(&self) -> &str {
        self.file.label()
    }

    fn manifest(&self) -> &Manifest {
        self.file.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, core_tensor::Error> {
        let stored = self.file.read(name)?;
        if !name.ends_with("output_blocks.11.1.transformer_blocks.0.norm1.bias") {
            return Ok(stored);
        }
        let shape = stored.shape().to_vec();
        let values = (0..shape[0]).map(|i| if i % 2 == 0 { 0.5 - self.spread } else { 0.5 + self.spread });
        Ok(Stored::of(&values.collect::<Vec<_>>(), shape))
    }
}

#[test]
fn every_role_is_taken_by_a_kind_of_its_duty() {
    let kinds = StableDiffusionFamily.kinds();
    for role in StableDiffusionFamily.roles() {
        for id in &role.takes {
            let taking: Vec<_> = kinds.iter().filter(|kind| kind.id == *id).collect();
            assert!(!taking.is_empty() && taking.iter().all(|kind| kind.duty == role.network.duty), "{id}");
        }
    }
}
