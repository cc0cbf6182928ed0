//! Every algorithm under every dialect's names over every way of storing a matrix, against LyCORIS' merges.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeSet, sync::Arc};

use core_tensor::{
    Device, Layout, Memory, Residency, Stored, Tensor, WeightSource, Weights, layers::Linear, safetensors::Safetensors,
    tensor, values,
};
use diffusion_engine::{Family, family::Duty};
use fixtures::{Golden, deviation, path, std};
use flux::FluxFamily;
use lora::{Adapted, Blocks, Dora, LoraFile, Target};
use quant::{Decoded, Gguf};

/// Largest difference of a layer's outputs, as a share of their standard deviation.
const LAYER: f64 = 1e-5;

/// Inputs and outputs of the matrices.
const SIZE: usize = 256;

/// Names of two modules of Flux, of which the second is rows of a fused one: whose they are, and how `down` and `up` are called.
const DIALECTS: [(&str, [&str; 2]); 12] = [
    ("lora_unet_double_blocks_0_img_attn_proj", KOHYA),
    ("lycoris_double_blocks_0_img_attn_proj", KOHYA),
    ("diffusion_model.double_blocks.0.img_attn.proj", PEFT),
    ("model.diffusion_model.double_blocks.0.img_attn.proj", KOHYA),
    ("transformer.transformer_blocks.0.attn.to_out.0", PEFT),
    ("double_blocks.0.processor.proj_lora1", ["down.weight", "up.weight"]),
    ("transformer.transformer_blocks.0.attn.to_k", PEFT),
    ("transformer.transformer_blocks.0.attn.to_k", ["lora_A.default.weight", "lora_B.default.weight"]),
    ("base_model.model.transformer.transformer_blocks.0.attn.to_k", PEFT),
    ("base_model.model.transformer_blocks.0.attn.to_k", PEFT),
    ("lora_transformer_transformer_blocks_0_attn_to_k", KOHYA),
    ("lycoris_transformer_blocks_0_attn_to_k", KOHYA),
];
const KOHYA: [&str; 2] = ["lora_down.weight", "lora_up.weight"];
const PEFT: [&str; 2] = ["lora_A.weight", "lora_B.weight"];

/// The matrix in each format.
fn weights() -> Vec<(String, Stored)> {
    let file = Safetensors::open(&path("golden/lora/formats.weights.safetensors")).unwrap();
    let file = Decoded::over(file).unwrap();
    let gguf = Gguf::open(&path("golden/lora/formats.weights.gguf")).unwrap();
    let of = |source: &dyn WeightSource| -> Vec<(String, Stored)> {
        let named = |name: &str| Some((name.strip_suffix(".weight")?.to_owned(), source.read(name).unwrap()));
        source.manifest().names().filter_map(named).collect()
    };
    [of(&file), of(&gguf)].concat()
}

/// An adapter's tensors under a dialect's names.
fn named(adapter: &dyn WeightSource, case: &str, (module, [down, up]): (&str, [&str; 2])) -> LoraFile {
    let leaf = |leaf: &str| match leaf {
        "lora_down.weight" => down.to_owned(),
        "lora_up.weight" => up.to_owned(),
        other => other.to_owned(),
    };
    let of = |(name, _): (&str, _)| {
        let stored = adapter.read(&format!("{case}.{name}")).unwrap();
        (format!("{module}.{}", leaf(name)), stored)
    };
    LoraFile::read(&Memory::of(adapter.manifest().under(&format!("{case}.")).map(of))).unwrap()
}

#[test]
fn every_algorithm_under_every_dialect_is_its_change_over_every_format() {
    let adapters = Safetensors::open(&path("golden/lora/formats.adapters.safetensors")).unwrap();
    let expected = Golden::open("lora/formats.expected.safetensors");
    let cases: BTreeSet<&str> = adapters.manifest().names().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    let (weights, network) = (weights(), FluxFamily.roles().remove(0).network);
    assert_eq!((weights.len(), cases.len()), (6, 9));
    let device = Device::flex();
    let x: Tensor<2> = tensor(expected.floats("x"), [3, SIZE], &device);
    for (format, weight) in &weights {
        // given a matrix, and three of it as one
        let fused = Stored::stacked(&[weight.clone(), weight.clone(), weight.clone()]).unwrap();
        let source: Arc<dyn WeightSource> = Arc::new(Memory::of(vec![
            ("double_blocks.0.img_attn.proj.weight", weight.clone()),
            ("double_blocks.0.img_attn.qkv.weight", fused),
        ]));
        let layout = Layout::of(|l| {
            l.unbiased("double_blocks.0.img_attn.proj", SIZE, SIZE);
            l.unbiased("double_blocks.0.img_attn.qkv", SIZE, 3 * SIZE);
        });
        let target = Target {
            part: "transformer".into(),
            duty: Duty::DENOISER,
            root: String::new(),
            spellings: network.spellings_of(&layout),
            layout: layout.clone(),
            source: source.clone(),
        };
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let adapted = Adapted::over(source.clone());
            let w = Weights::of(&adapted, &device, residency).laid_out(layout.clone());
            let layers = ["proj", "qkv"].map(|name| Linear::load(&w.at(format!("double_blocks.0.img_attn.{name}"))));
            let [proj, qkv] = layers.map(Result::unwrap);
            let alone = [&proj, &qkv].map(|layer| values(&layer.forward(x.clone())));
            for (case, dialect) in cases.iter().flat_map(|case| DIALECTS.map(|dialect| (case, dialect))) {
                let is_lora = adapters.manifest().get(&format!("{case}.lora_down.weight")).is_some();
                if !is_lora && dialect.0.contains(".processor.") {
                    // Nobody else has XLabs' names.
                    continue;
                }
                // when an adapter is put in
                let file = named(&adapters, case, dialect);
                let fitted =
                    file.fitted("a layer", std::slice::from_ref(&target), Dora::Paper).unwrap().whole().unwrap();
                fitted.adapter.set(1.0, 0.0, &Blocks::default());
                adapted.put("adapter", fitted.branches(0)).unwrap();
                // then what it changes is the merge, and all else what it was
                let whole = expected.floats(&format!("{format}.{case}"));
                let is_part = dialect.0.ends_with("to_k");
                let found = values(&if is_part { &qkv } else { &proj }.forward(x.clone()));
                let found = match is_part {
                    true => found.chunks(SIZE).skip(1).step_by(3).flatten().copied().collect(),
                    false => found,
                };
                let off = deviation(&found, &whole) / std(&whole);
                assert!(off < LAYER, "{case} as {} over {format}, {residency:?}: {off}", dialect.0);
                let rest = values(&qkv.forward(x.clone()));
                let is_other = |i: &usize| !is_part || i / SIZE % 3 != 1;
                assert!((0..rest.len()).filter(is_other).all(|i| rest[i] == alone[1][i]), "{case} over {format}");
                adapted.take("adapter");
                let again = [&proj, &qkv].map(|layer| values(&layer.forward(x.clone())));
                assert!(again == alone, "{case} over {format} was taken out");
            }
        }
    }
}
