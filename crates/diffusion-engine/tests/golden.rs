//! CLIP, its tokenizer and the autoencoder against transformers and diffusers, layer by layer, and the steps that a picture takes.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Residency, Tensor, WeightSource, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{
    Autoencoder, AutoencoderKl, Catalog, Clip, ClipConfig, ClipDimensions, ClipTokenizer, Inside, LatentScaling,
    LdmNames, Look, Site, VaeConfig, VaeDimensions,
};
use fixtures::{Golden, Listed, path};
use samplers::Process;

const FLUX: LatentScaling = LatentScaling { scale: 0.3611, shift: 0.1159 };

#[test]
fn clip_tokens_are_those_of_transformers() {
    let tokenizer = ClipTokenizer::new().unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path("golden/tokens.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let expected: Vec<usize> =
            case["clip"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        assert_eq!(tokenizer.encode(prompt).unwrap(), expected, "{prompt:?}");
    }
}

/// Compares the values behind each layer that the reference kept with it, and counts them.
fn compared(golden: &Arc<Golden>, network: &'static str) -> (Arc<AtomicUsize>, Inside) {
    let (golden, seen, names) = (golden.clone(), Arc::new(AtomicUsize::new(0)), golden.names());
    let count = seen.clone();
    let look = move |at: Site, x: &Tensor<3>| {
        let name = format!("{network}.{at}");
        if names.contains(&name) {
            golden.assert_stage(&name, &values(x));
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    (seen, Inside::default().with(Arc::new(Look(look))))
}

fn clip_agrees(case: &str, residency: Residency) {
    // given the reference's tokens
    let golden = Arc::new(Golden::open(&format!("{case}/expected.safetensors")));
    let file = Safetensors::open(&path("golden/tiny-dev/clip.safetensors")).unwrap();
    let clip = Clip::load(&Weights::of(&file, &Device::flex(), residency), &ClipConfig::default()).unwrap();
    // when they are encoded
    let (seen, inside) = compared(&golden, "clip");
    let vec = clip.pooled(&golden.ids("clip.ids"), &inside).unwrap();
    // then every layer and the result agree
    golden.assert_stage("vec", &values(&vec));
    assert_eq!(seen.load(Ordering::Relaxed), 3);
}

#[test]
fn every_layer_of_clip_is_that_of_transformers() {
    clip_agrees("tiny-dev", Residency::Unpacked);
    clip_agrees("tiny-schnell", Residency::Unpacked);
}

#[test]
fn clip_is_the_same_when_its_matrices_stay_in_the_file() {
    clip_agrees("tiny-dev", Residency::Mapped);
}

#[test]
fn every_layer_of_the_decoder_is_that_of_diffusers() {
    for (case, last, layers) in [("tiny-dev", "latent.003", 7), ("tiny-schnell", "latent.002", 3)] {
        // given the reference's last latent
        let golden = Arc::new(Golden::open(&format!("{case}/expected.safetensors")));
        let file = Safetensors::open(&path("golden/tiny-dev/ae.safetensors")).unwrap();
        let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked);
        let vae = AutoencoderKl::load(&weights, &VaeConfig::default(), FLUX).unwrap();
        let shape: [usize; 4] = golden.shape(last).try_into().unwrap();
        let latent = tensor(golden.floats(last), shape, &Device::flex());
        // when it is decoded
        let (seen, inside) = compared(&golden, "vae");
        vae.decode(latent, &inside).unwrap();
        // then every layer that the reference kept agrees
        assert_eq!(seen.load(Ordering::Relaxed), layers, "{case}");
        assert_eq!((vae.channels(), vae.factor()), (16, 8));
    }
}

#[test]
fn the_real_checkpoints_lack_nothing_that_is_asked_of_them() {
    let faults = |w: &Weights, mark, layout| w.before(mark).laid_out(layout).faults().count();
    for name in ["clip-l.flux.hf", "clip-l.sd15.hf", "clip-h.sd21.hf"] {
        let list = Listed::open(name);
        let w = Weights::of(&list, &Device::flex(), Residency::Mapped);
        let layout = ClipDimensions::of(&w, &ClipConfig::default()).unwrap().layout();
        assert_eq!(faults(&w, Clip::MARK, layout), 0, "{name}");
    }
    let autoencoder = |name: &str, source: &dyn WeightSource| {
        let w = Weights::of(source, &Device::flex(), Residency::Mapped);
        let dimensions = VaeDimensions::of_both(&w, 32).unwrap();
        assert_eq!(faults(&w, AutoencoderKl::MARK, dimensions.layout()), 0, "{name}");
        assert_eq!((dimensions.channels(), dimensions.factor()), (if name.starts_with("flux") { 16 } else { 4 }, 8));
    };
    for name in ["flux-ae.bfl", "sd15.ldm"] {
        autoencoder(name, &Listed::open(name));
    }
    for name in ["flux1-dev.diffusers-vae", "sdxl-base.diffusers-vae"] {
        autoencoder(name, &LdmNames::over(Listed::open(name)));
    }
}

#[test]
fn a_partly_noised_picture_takes_the_steps_that_diffusers_takes() {
    let taken: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("golden/img2img/steps.json")).unwrap()).unwrap();
    let profile = Catalog::builtin().profile("diffusers").unwrap();
    let mut compared = 0;
    for (process, name) in [(Process::Diffusion, "diffusion"), (Process::Flow, "flow")] {
        for (steps, row) in taken[name].as_object().unwrap() {
            let steps: usize = steps.parse().unwrap();
            for (i, expected) in row.as_array().unwrap().iter().enumerate() {
                let strength = (i + 1) as f64 / 100.0;
                let expected = (steps, expected.as_u64().unwrap() as usize);
                assert_eq!(profile.img2img_steps(process, steps, strength), expected, "{name} {strength}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2000);
}
