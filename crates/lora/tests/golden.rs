//! Every algorithm on single layers against LyCORIS, and LoRAs of whole networks against PEFT.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod source;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use core_tensor::{
    Device, Format, Layout, Residency, Stored, Tensor, WeightSource, Weights, safetensors::Safetensors, tensor, values,
};
use diffusion_engine::{
    Family, Inside,
    family::{Duty, Settings},
};
use fixtures::{Golden, STAGE, deviation, path, std};
use flux::{FluxFamily, Inputs, Transformer, TransformerConfig};
use lora::{Adapted, Blocks, Dora, Fitted, LoraFile, Merged, Target};
use stable_diffusion::{LdmUnetNames, StableDiffusionFamily, Unet, UnetConfig};

use source::Memory;

/// Largest difference of a layer's outputs, as a share of their standard deviation.
const LAYER: f64 = 1e-5;

fn open(name: &str) -> Safetensors {
    Safetensors::open(&path(&format!("golden/lora/{name}"))).unwrap()
}

/// The texts that a file has beside its tensors.
fn metadata(name: &str) -> serde_json::Map<String, serde_json::Value> {
    let bytes = std::fs::read(path(&format!("golden/lora/{name}.safetensors"))).unwrap();
    let header: usize = u64::from_le_bytes(*bytes.first_chunk().unwrap()).try_into().unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    header["__metadata__"].as_object().unwrap().clone()
}

/// A model of one layer.
fn alone(weight: &Stored) -> (Arc<dyn WeightSource>, Target, Layout) {
    let shape = weight.shape();
    let layout = Layout::of(|l| match *shape {
        [out, d_in] => l.unbiased("l", d_in, out),
        [out, c_in, kernel, _] => l.convolution("l", c_in, out, kernel),
        _ => panic!("{shape:?}"),
    });
    let bias = (shape.len() == 4).then(|| ("l.bias", Stored::of(&vec![0.0; shape[0]], vec![shape[0]])));
    let tensors: Vec<_> = [("l.weight", weight.clone())].into_iter().chain(bias).collect();
    let source: Arc<dyn WeightSource> = Arc::new(Memory::of(tensors));
    let target = Target {
        part: "unet".into(),
        duty: Duty::DENOISER,
        root: String::new(),
        layout: layout.clone(),
        spellings: Vec::new(),
        source: source.clone(),
    };
    (source, target, layout)
}

/// A layer of a case with an adapter's changes at a strength.
fn layer(weight: &Stored, adapter: Option<&LoraFile>, strength: f32, residency: Residency) -> Vec<f32> {
    let shape = weight.shape().to_vec();
    let (source, target, layout) = alone(weight);
    let branches = adapter.map(|adapter| {
        let fitted = adapter.fitted("a layer", &[target], Dora::Paper).unwrap().whole().unwrap();
        fitted.adapter.set(strength, 0.0, &Blocks::default());
        fitted.branches(0).collect::<Vec<_>>()
    });
    let adapted = Adapted::over(source);
    adapted.put("adapter", branches.into_iter().flatten()).unwrap();
    let w = Weights::of(&adapted, &Device::flex(), residency).laid_out(layout).at("l");
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let device = Device::flex();
    match shape[..] {
        [_, d_in] => values(&w.matrix("weight").unwrap().product(tensor(wave(7 * d_in), [7, d_in], &device))),
        [_, c_in, ..] => {
            values(&w.convolution("weight").unwrap().product(tensor(wave(c_in * 30), [1, c_in, 5, 6], &device)))
        }
        _ => panic!("{shape:?}"),
    }
}

/// The weight with an adapter's changes merged into it.
fn merged_layer(weight: &Stored, adapter: &LoraFile, strength: f32) -> Vec<f32> {
    let (source, target, _) = alone(weight);
    let fitted = adapter.fitted("a layer", &[target], Dora::Paper).unwrap().whole().unwrap();
    fitted.adapter.set(strength, 0.0, &Blocks::default());
    let merged = Merged::of(source, fitted.branches(0));
    assert_eq!(merged.manifest().get("l.weight").unwrap().format, Format::F32);
    merged.read("l.weight").unwrap().to_f32().unwrap()
}

#[test]
fn every_algorithm_changes_a_layer_as_lycoris_merges_it() {
    let file = open("layers.safetensors");
    let cases: BTreeSet<&str> = file.manifest().names().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let (mut adapter, mut merged) = (Vec::new(), Vec::new());
        let mut weight = None;
        for (leaf, _) in file.manifest().under(&format!("{case}.")) {
            let stored = file.read(&format!("{case}.{leaf}")).unwrap();
            match leaf.strip_prefix("merged") {
                Some(at) => merged.push((at.strip_prefix('_').map_or(1.0, |at| at.parse().unwrap()), stored)),
                None if leaf == "weight" => weight = Some(stored),
                None => adapter.push((format!("lora_unet_l.{leaf}"), stored)),
            }
        }
        let (weight, adapter) = (weight.unwrap(), LoraFile::read(&Memory::of(adapter)).unwrap());
        // Below full strength a change is that share of the whole, but where turns lie behind each other.
        let (full, own): (Vec<f32>, Vec<f32>) = (merged[0].1.to_f32().unwrap(), weight.to_f32().unwrap());
        if !case.starts_with("boft") {
            let share: Vec<f32> = own.iter().zip(&full).map(|(own, full)| own + 0.5 * (full - own)).collect();
            merged.push((0.5, Stored::of(&share, weight.shape().to_vec())));
        }
        for (strength, merged) in merged {
            for residency in [Residency::Unpacked, Residency::Mapped] {
                let expected = layer(&merged, None, 0.0, residency);
                let found = layer(&weight, Some(&adapter), strength, residency);
                let off = deviation(&found, &expected) / std(&expected);
                assert!(off < LAYER, "{case} at {strength}, {residency:?}: {off}");
            }
            let found = merged_layer(&weight, &adapter, strength);
            let off = deviation(&found, &merged.to_f32().unwrap()) / std(&found);
            assert!(off < LAYER, "{case} merged at {strength}: {off}");
        }
    }
}

#[test]
fn pefts_adapters_are_scaled_as_their_configs_say() {
    let file = open("peft.layers.safetensors");
    let configs = metadata("peft.layers");
    assert_eq!(configs.len(), 14);
    for (case, config) in configs {
        // given a layer of zeros, and an adapter under PEFT's names with the config beside it
        let prefix = format!("{case}.");
        let names = file.manifest().under(&prefix).map(|(name, _)| name).filter(|name| *name != "delta");
        let adapter = names.map(|name| (name, file.read(&format!("{prefix}{name}")).unwrap()));
        let delta = &file.read(&format!("{prefix}delta")).unwrap();
        let zeros = Stored::of(&vec![0.0; delta.shape().iter().product()], delta.shape().to_vec());
        let adapter = LoraFile::read(&Memory::of(adapter)).unwrap();
        assert!(adapter.is_pefts());
        let config = config.as_str().unwrap();
        let path = Path::new("adapter_config.json");
        let adapters = [
            adapter.clone().configured(path, config).unwrap(),
            adapter.clone().configured_by_metadata(config).unwrap(),
            adapter.configured_if_it_fits(path, config),
        ];
        // then the layer is the change that PEFT makes
        for adapter in adapters {
            for residency in [Residency::Unpacked, Residency::Mapped] {
                let expected = layer(delta, None, 0.0, residency);
                let found = layer(&zeros, Some(&adapter), 1.0, residency);
                let off = deviation(&found, &expected) / std(&expected);
                assert!(off < LAYER, "{case}, {residency:?}: {off}");
            }
            let found = merged_layer(&zeros, &adapter, 1.0);
            let off = deviation(&found, &delta.to_f32().unwrap()) / std(&found);
            assert!(off < LAYER, "{case} merged: {off}");
        }
    }
}

/// What a part of a family's models is in a file, for adapters.
fn target(family: &dyn Family, source: Arc<dyn WeightSource>, settings: &Settings) -> Target {
    let role = family.roles().remove(0);
    let layout = role.network.layout(&Weights::of(&*source, &Device::flex(), Residency::Mapped), settings).unwrap();
    let spellings = role.network.spellings_of(&layout);
    Target { part: role.key, duty: Duty::DENOISER, root: String::new(), layout, spellings, source }
}

fn fitted(name: &str, target: &Target) -> Fitted {
    let config = metadata(name)["lora_adapter_metadata"].as_str().unwrap().to_owned();
    let file = LoraFile::read(&open(&format!("{name}.safetensors"))).unwrap().configured_by_metadata(&config).unwrap();
    let fitted = file.fitted("a tiny model", std::slice::from_ref(target), Dora::default()).unwrap().whole().unwrap();
    assert_eq!((fitted.report.matched, fitted.report.total), (file.modules(), file.modules()));
    fitted
}

fn assert_agrees(name: &str, found: &[f32]) {
    let expected = Golden::open(&format!("lora/{name}.expected.safetensors")).floats("out");
    let off = deviation(found, &expected) / std(&expected);
    assert!(off < STAGE, "{name}: {off}");
}

/// The network as it is alone, then under each of the adapters, and alone again.
fn switched(
    names: &[&str],
    target: &Target,
    network: impl Fn(&dyn WeightSource, Residency) -> Box<dyn Fn() -> Vec<f32>>,
) {
    for residency in [Residency::Unpacked, Residency::Mapped] {
        let alone = network(&*target.source, residency)();
        let adapters: Vec<Fitted> = names.iter().map(|name| fitted(name, target)).collect();
        let adapted = Adapted::over(target.source.clone());
        let under = network(&adapted, residency);
        // They are put in while the network is loaded.
        names.iter().zip(&adapters).for_each(|(name, fitted)| adapted.put(name, fitted.branches(0)).unwrap());
        assert!(under() == alone, "without a strength");
        for (name, fitted) in names.iter().zip(&adapters) {
            fitted.adapter.set(1.0, 0.0, &Blocks::default());
            assert_agrees(name, &under());
            fitted.adapter.set(0.0, 1.0, &Blocks::default());
            assert!(under() == alone, "behind {name}");
            fitted.adapter.set(1.0, 0.0, &Blocks::default());
            adapted.take(name);
            assert!(under() == alone, "without {name}");
        }
    }
}

#[test]
fn a_flux_under_pefts_loras_predicts_as_diffusers() {
    let source: Arc<dyn WeightSource> =
        Arc::new(Safetensors::open(&path("golden/tiny-dev/transformer.safetensors")).unwrap());
    let target = target(&FluxFamily, source, &Settings::default());
    switched(&["flux.lora", "flux.dora"], &target, |source, residency| {
        let weights = Weights::of(source, &Device::flex(), residency);
        let transformer = Transformer::load(&weights, &TransformerConfig::default()).unwrap();
        let inputs = Golden::open("lora/flux.inputs.safetensors");
        Box::new(move || {
            let device = Device::flex();
            let of = |name: &str| inputs.floats(name);
            let img: Tensor<3> = tensor(of("img"), [1, 6, 64], &device);
            let (txt, vec) = (tensor(of("txt"), [1, 5, 32], &device), tensor(of("vec"), [1, 64], &device));
            let (timestep, guidance) = (of("timestep")[0], of("guidance")[0]);
            let pe = transformer.positions(5, 2, 3);
            let inputs = Inputs { img, control: None, txt, vec, timestep, guidance, pe: &pe };
            values(&transformer.forward(inputs, &Inside::default()).unwrap())
        })
    });
}

#[test]
fn a_unet_under_pefts_loras_predicts_as_diffusers() {
    let json = std::fs::read(path("golden/sd-unet/sd1.json")).unwrap();
    let settings = Settings::of(serde_json::from_slice(&json).unwrap());
    let config: UnetConfig = serde_json::from_slice(&json).unwrap();
    let file = Safetensors::open(&path("golden/sd-unet/sd1.safetensors")).unwrap();
    let target = target(&StableDiffusionFamily, Arc::new(LdmUnetNames::over(file)), &settings);
    switched(&["sd1.lora"], &target, |source, residency| {
        let unet = Unet::load(&Weights::of(source, &Device::flex(), residency), &config).unwrap();
        let golden = Golden::open("sd-unet/sd1.expected.safetensors");
        Box::new(move || {
            let device = Device::flex();
            let x: Tensor<4> = tensor(golden.floats("x"), golden.shape("x").try_into().unwrap(), &device);
            let context: Tensor<3> =
                tensor(golden.floats("context"), golden.shape("context").try_into().unwrap(), &device);
            values(&unet.forward(x, golden.floats("timestep")[0], context, None, &Inside::default()).unwrap())
        })
    });
}
