//! T5, its tokenizer and the transformer against transformers and diffusers, layer by layer.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Residency, Tensor, WeightSource, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{Inside, Look, Site, T5, T5Dimensions, T5Tokenizer};
use fixtures::{Golden, Listed, path};
use flux::{BflNames, Dimensions, Inputs, Transformer, TransformerConfig, pack, unpack};

#[test]
fn t5_tokens_are_those_of_the_published_tokenizer() {
    let tokenizer = T5Tokenizer::new().unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path("golden/tokens.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let expected: Vec<usize> =
            case["t5"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        assert_eq!(tokenizer.encode(prompt, expected.len()).unwrap(), expected, "{prompt:?}");
    }
}

/// Compares the values behind each layer with the reference's, and counts them.
fn compared(golden: &Arc<Golden>, network: &'static str) -> (Arc<AtomicUsize>, Inside) {
    let (golden, seen) = (golden.clone(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    let look = move |at: Site, x: &Tensor<3>| {
        golden.assert_stage(&format!("{network}.{at}"), &values(x));
        count.fetch_add(1, Ordering::Relaxed);
    };
    (seen, Inside::default().with(Arc::new(Look(look))))
}

fn t5_agrees(case: &str, residency: Residency) {
    let golden = Arc::new(Golden::open(&format!("{case}/expected.safetensors")));
    let file = Safetensors::open(&path("golden/tiny-dev/t5.safetensors")).unwrap();
    let t5 = T5::load(&Weights::of(&file, &Device::flex(), residency)).unwrap();
    let (seen, inside) = compared(&golden, "t5");
    let txt = t5.encode(&golden.ids("t5.ids"), &inside).unwrap();
    golden.assert_stage("txt", &values(&txt));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[test]
fn every_block_of_t5_is_that_of_transformers() {
    t5_agrees("tiny-dev", Residency::Unpacked);
    t5_agrees("tiny-schnell", Residency::Unpacked);
}

#[test]
fn t5_is_the_same_when_its_matrices_stay_in_the_file() {
    t5_agrees("tiny-dev", Residency::Mapped);
}

fn transformer_agrees(case: &str, residency: Residency) {
    // given the reference's conditioning and noise
    let golden = Arc::new(Golden::open(&format!("{case}/expected.safetensors")));
    let file = Safetensors::open(&path(&format!("golden/{case}/transformer.safetensors"))).unwrap();
    let weights = Weights::of(&file, &Device::flex(), residency);
    let transformer = Transformer::load(&weights, &TransformerConfig::default()).unwrap();
    let floats = |name: &str| golden.floats(name);
    let device = Device::flex();
    let [b, c, h, w]: [usize; 4] = golden.shape("noise").try_into().unwrap();
    let [_, n, width]: [usize; 3] = golden.shape("txt").try_into().unwrap();
    let [_, pooled]: [usize; 2] = golden.shape("vec").try_into().unwrap();
    let txt: Tensor<3> = tensor(floats("txt"), [1, n, width], &device);
    // when the first step's velocity is predicted
    let (seen, inside) = compared(&golden, "transformer");
    let inputs = Inputs {
        img: pack(tensor(floats("noise"), [b, c, h, w], &device)),
        control: None,
        txt: txt.expand([b, n, width]),
        vec: tensor(floats("vec"), [1, pooled], &device).expand([b, pooled]),
        timestep: 1.0,
        guidance: 3.5,
        pe: &transformer.positions(n, h / 2, w / 2),
    };
    transformer.forward(inputs, &inside).unwrap();
    // then every block and the result agree
    assert_eq!(seen.load(Ordering::Relaxed), 7);
    assert_eq!(transformer.dimensions().guidance, case == "tiny-dev");
}

#[test]
fn every_block_of_the_transformer_is_that_of_diffusers() {
    transformer_agrees("tiny-dev", Residency::Unpacked);
    transformer_agrees("tiny-schnell", Residency::Unpacked);
}

#[test]
fn the_transformer_is_the_same_when_its_matrices_stay_in_the_file() {
    transformer_agrees("tiny-dev", Residency::Mapped);
}

#[test]
fn packing_is_undone_by_unpacking() {
    let x: Tensor<4> = tensor((0..2 * 4 * 4 * 6).map(|i| i as f32).collect(), [2, 4, 4, 6], &Device::flex());
    let packed = pack(x.clone());
    assert_eq!(packed.dims(), [2, 6, 16]);
    // the first token holds each channel's first 2 x 2 pixels
    assert_eq!(values(&packed)[..8], [0., 1., 6., 7., 24., 25., 30., 31.]);
    assert_eq!(values(&unpack(packed, 4, 6)), values(&x));
}

#[test]
fn the_real_checkpoints_lack_nothing_that_is_asked_of_them() {
    let faults = |w: &Weights, mark, layout| w.before(mark).laid_out(layout).faults().count();
    let sources: [(Box<dyn WeightSource>, bool); 5] = [
        (Box::new(Listed::open("flux1-dev.bfl")), true),
        (Box::new(Listed::open("flux1-dev.forge-prefix")), true),
        (Box::new(Listed::open("flux1-schnell.bfl")), false),
        (Box::new(BflNames::over(Listed::open("flux1-dev.diffusers-transformer"))), true),
        (Box::new(BflNames::over(Listed::open("flux1-schnell.diffusers-transformer"))), false),
    ];
    for (i, (source, guidance)) in sources.iter().enumerate() {
        let w = Weights::of(&**source, &Device::flex(), Residency::Mapped);
        let d = Dimensions::of(&w, &TransformerConfig::default()).unwrap();
        assert_eq!((d.hidden, d.heads, d.double_blocks, d.single_blocks, d.axes), (3072, 24, 19, 38, [16, 56, 56]));
        assert_eq!(d.guidance, *guidance, "list {i}");
        assert_eq!(faults(&w, Transformer::MARK, d.layout()), 0, "list {i}");
    }
    let list = Listed::open("t5xxl-encoder.hf");
    let w = Weights::of(&list, &Device::flex(), Residency::Mapped);
    assert_eq!(faults(&w, T5::MARK, T5Dimensions::of(&w).unwrap().layout()), 0);
}

#[test]
fn diffusers_names_cover_every_name_of_bfl_once() {
    for model in ["dev", "schnell"] {
        let bfl = Listed::open(&format!("flux1-{model}.bfl"));
        let diffusers = BflNames::over(Listed::open(&format!("flux1-{model}.diffusers-transformer")));
        let forms = |source: &dyn WeightSource| -> Vec<(String, Vec<usize>)> {
            source.manifest().iter().map(|(name, form)| (name.to_owned(), form.shape.to_vec())).collect()
        };
        assert_eq!(forms(&diffusers), forms(&bfl));
        assert!(bfl.manifest().len() > 700, "{} names", bfl.manifest().len());
    }
}
