//! UNets of six layouts against diffusers, block by block.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use core_tensor::{
    Compute, Device, Error, Manifest, Residency, Stored, Tensor, WeightSource, Weights, safetensors::Safetensors,
    tensor, values,
};
use diffusion_engine::{Call, HookError, Hooks, Inside, Look, Site};
use fixtures::{BFLOAT16, Golden, STAGE, deviation, path, std};
use stable_diffusion::{LdmUnetNames, Unet, UnetConfig};

/// A case's name, and how many of its layers are compared.
const CASES: [(&str, usize); 6] =
    [("sd1", 35), ("sd1-inpaint", 32), ("sd2", 35), ("sdxl-base", 68), ("sdxl-refiner", 60), ("sd1-bare", 27)];

fn source(case: &str) -> LdmUnetNames<Safetensors> {
    LdmUnetNames::over(Safetensors::open(&path(&format!("golden/sd-unet/{case}.safetensors"))).unwrap())
}

fn config(case: &str) -> UnetConfig {
    serde_json::from_slice(&std::fs::read(path(&format!("golden/sd-unet/{case}.json"))).unwrap()).unwrap()
}

fn load(source: &dyn WeightSource, case: &str, residency: Residency, compute: Compute) -> Unet {
    let weights = Weights::of(source, &Device::flex(), residency).computed_in(compute);
    Unet::load(&weights, &config(case)).unwrap()
}

fn golden(case: &str) -> Arc<Golden> {
    Arc::new(Golden::open(&format!("sd-unet/{case}.expected.safetensors")))
}

fn stored<const D: usize>(golden: &Golden, name: &str) -> Tensor<D> {
    tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
}

/// What a UNet makes of a case's inputs, or of one picture of its batch.
fn predicted(
    unet: &Unet,
    golden: &Golden,
    picture: Option<usize>,
    inside: &Inside,
) -> Result<Tensor<4>, diffusion_engine::Error> {
    fn of<const D: usize>(x: Tensor<D>, picture: Option<usize>) -> Tensor<D> {
        picture.map_or(x.clone(), |i| x.narrow(0, i, 1))
    }
    let y = golden.names().contains(&"y".to_owned()).then(|| of(stored(golden, "y"), picture));
    let (x, context) = (of(stored(golden, "x"), picture), of(stored(golden, "context"), picture));
    unet.forward(x, golden.floats("timestep")[0], context, y, inside)
}

fn every_layer_agrees(case: &str, layers: usize, residency: Residency) {
    let golden = golden(case);
    let unet = load(&source(case), case, residency, Compute::F32);
    let (reference, seen) = (golden.clone(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    let look = move |at: Site, x: &Tensor<3>| {
        // What goes into an output block came out of others, where it was compared.
        if !matches!(at.stream, Some("h" | "skip" | "onward")) {
            reference.assert_stage(&format!("{}.{at}", at.network), &values(x));
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let out = predicted(&unet, &golden, None, &Inside::default().with(Arc::new(Look(look)))).unwrap();
    assert_eq!(out.dims().to_vec(), golden.shape("unet.out"), "{case}");
    golden.assert_stage("unet.out", &values(&out));
    assert_eq!(seen.load(Ordering::Relaxed), layers, "{case}");
    let kept = golden.names().iter().filter(|name| name.starts_with("unet.")).count();
    assert_eq!(kept, layers, "{case}");
}

#[test]
fn every_layer_of_every_layout_is_that_of_diffusers() {
    CASES.iter().for_each(|(case, layers)| every_layer_agrees(case, *layers, Residency::Unpacked));
}

#[test]
fn a_unet_is_the_same_when_its_matrices_stay_in_the_file() {
    CASES.iter().for_each(|(case, layers)| every_layer_agrees(case, *layers, Residency::Mapped));
}

#[test]
fn in_bfloat16_a_unet_is_nearly_the_same() {
    for (case, _) in CASES {
        let golden = golden(case);
        let unet = load(&source(case), case, Residency::Unpacked, Compute::Bf16);
        let found = values(&predicted(&unet, &golden, None, &Inside::default()).unwrap());
        let expected = golden.floats("unet.out");
        let differences: Vec<f32> = found.iter().zip(&expected).map(|(f, e)| f - e).collect();
        let off = std(&differences) / std(&expected);
        assert!(off > 0.0 && off < BFLOAT16, "{case}: {off}");
    }
}

/// The tensors of a source behind a prefix.
struct Behind {
    prefix: &'static str,
    tensors: BTreeMap<String, Stored>,
    manifest: Manifest,
}

impl Behind {
    fn of(prefix: &'static str, source: &dyn WeightSource) -> Self {
        let tensors: BTreeMap<_, _> =
            source.manifest().names().map(|name| (format!("{prefix}{name}"), source.read(name).unwrap())).collect();
        let manifest = tensors.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
        Self { prefix, tensors, manifest }
    }
}

impl WeightSource for Behind {
    fn label(&self) -> &str {
        self.prefix
    }
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.prefix.to_owned() };
        self.tensors.get(name).cloned().ok_or_else(missing)
    }
}

#[test]
fn under_the_names_of_latent_diffusion_a_unet_is_the_same() {
    for (case, _) in CASES {
        let renamed = source(case);
        let single = Behind::of("model.diffusion_model.", &renamed);
        let [expected, found] = [&renamed as &dyn WeightSource, &single].map(|source| {
            let unet = load(source, case, Residency::Unpacked, Compute::F32);
            values(&predicted(&unet, &golden(case), None, &Inside::default()).unwrap())
        });
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn a_picture_of_a_batch_is_what_it_is_alone() {
    for (case, _) in CASES {
        let (unet, golden) = (load(&source(case), case, Residency::Unpacked, Compute::F32), golden(case));
        let both = values(&predicted(&unet, &golden, None, &Inside::default()).unwrap());
        let alone = [0, 1].map(|i| values(&predicted(&unet, &golden, Some(i), &Inside::default()).unwrap())).concat();
        assert!(deviation(&both, &alone) / std(&both) < STAGE, "{case}");
    }
}

/// Changes what is at one place, and keeps the names of the places that it was asked at.
struct Changed {
    at: Site,
    attends: bool,
    asked: Mutex<Vec<String>>,
}

impl Hooks for Changed {
    fn after(&self, at: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        self.asked.lock().unwrap().push(at.to_string());
        Ok(if at == self.at && !self.attends { x * 1.5 } else { x })
    }

    fn attend(&self, at: Site, _: Option<Call>, [q, _, _]: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, HookError> {
        Ok((at == self.at && self.attends).then(|| q.clone()))
    }
}

#[test]
fn hooks_change_what_comes_out_at_every_place_that_they_are_asked_at() {
    let (unet, golden) = (load(&source("sd1"), "sd1", Residency::Unpacked, Compute::F32), golden("sd1"));
    let plain = values(&predicted(&unet, &golden, None, &Inside::default()).unwrap());
    let (input, output) = (Site::block("unet", "input_blocks", 3), Site::block("unet", "output_blocks", 2));
    let middle = Site::layer("unet", "middle_block");
    for (at, attends) in [
        (input, false),
        (middle, false),
        (output, false),
        (output.stream("h"), false),
        (output.stream("skip"), false),
        (input.inner(0), false),
        (middle.inner(0).stream("attn1"), false),
        (input.inner(0).stream("attn1"), true),
        (output.inner(0).stream("attn2"), true),
    ] {
        let hooks = Arc::new(Changed { at, attends, asked: Mutex::default() });
        let changed = values(&predicted(&unet, &golden, None, &Inside::default().with(hooks.clone())).unwrap());
        assert!(deviation(&changed, &plain) > 1e-3 * std(&plain), "{at}");
        assert!(hooks.asked.lock().unwrap().contains(&at.to_string()), "{at}");
    }
}

#[test]
fn a_unet_that_is_told_to_stop_stops_in_the_block_that_it_is_in() {
    let (unet, golden) = (load(&source("sd1"), "sd1", Residency::Unpacked, Compute::F32), golden("sd1"));
    let cancel = diffusion_engine::Cancel::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (ask, kept) = (cancel.clone(), seen.clone());
    let look = move |at: Site, _: &Tensor<3>| {
        kept.lock().unwrap().push(at.to_string());
        if at.to_string() == "input_blocks.1.0.attn1" {
            ask.ask();
        }
    };
    let stopped = predicted(&unet, &golden, None, &Inside::until(&cancel).with(Arc::new(Look(look))));
    assert!(matches!(stopped, Err(diffusion_engine::Error::Cancelled)));
    assert_eq!(*seen.lock().unwrap(), ["input_blocks.0", "input_blocks.0.onward", "input_blocks.1.0.attn1"]);
}
