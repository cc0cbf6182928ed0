//! CLIP's text encoders against transformers, layer by layer, and the names of their files.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Residency, Tensor, WeightSource, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{
    Activation, Clip, ClipConfig, ClipDimensions, ClipTokenizer, Error, Inside, Look, OpenClipNames, Site, Tokens,
};
use fixtures::{Golden, Listed, path};

const LAYERS: usize = 3;

fn file(name: &str) -> Safetensors {
    Safetensors::open(&path(&format!("golden/clip/{name}.safetensors"))).unwrap()
}

fn golden(name: &str) -> Arc<Golden> {
    Arc::new(Golden::open(&format!("clip/{name}.expected.safetensors")))
}

fn config(activation: Activation) -> ClipConfig {
    ClipConfig { num_attention_heads: Some(2), hidden_act: Some(activation) }
}

fn weights(source: &dyn WeightSource) -> Weights<'_> {
    Weights::of(source, &Device::flex(), Residency::Unpacked)
}

fn openai() -> Clip {
    Clip::load(&weights(&file("openai")), &config(Activation::QuickGelu)).unwrap()
}

fn open() -> Clip {
    Clip::load_projected(&weights(&OpenClipNames::over(file("open"))), &config(Activation::Gelu)).unwrap()
}

/// The ids of a golden, one list for each chunk.
fn chunks(golden: &Golden) -> Vec<Tokens> {
    let length = golden.shape("ids")[1];
    golden.ids("ids").chunks(length).map(|ids| Tokens::of(ids.to_vec())).collect()
}

#[test]
fn every_layer_of_both_kinds_is_that_of_transformers() {
    for (name, clip) in [("openai", openai()), ("open", open())] {
        // given prompts of the reference, and a look inside under the encoder's name
        let golden = golden(name);
        let (reference, seen) = (golden.clone(), Arc::new(AtomicUsize::new(0)));
        let count = seen.clone();
        let look = move |at: Site, x: &Tensor<3>| {
            assert_eq!(at.network, "clip_g");
            reference.assert_stage(&at.to_string(), &values(x));
            count.fetch_add(1, Ordering::Relaxed);
        };
        let inside = Inside::default().with(Arc::new(Look(look)));
        // when they are encoded
        let clip = clip.called("clip_g");
        let (states, pooled) = clip.states_and_pooled(&chunks(&golden), 1, true, &inside).unwrap();
        // then each layer and the result agree
        assert_eq!(seen.load(Ordering::Relaxed), 1 + LAYERS, "{name}");
        golden.assert_stage(&format!("normed.{}", LAYERS - 1), &values(&states));
        golden.assert_stage("pooled", &values(&pooled));
    }
}

#[test]
fn states_of_each_layer_come_with_and_without_the_last_norm() {
    for (name, clip) in [("openai", openai()), ("open", open())] {
        let golden = golden(name);
        let chunks = chunks(&golden);
        for skip in 1..=LAYERS {
            for (normed, stage) in [(false, "layers"), (true, "normed")] {
                let stage = format!("{stage}.{}", LAYERS - skip);
                // alone, which runs no further than that layer
                let ran = Arc::new(AtomicUsize::new(0));
                let count = ran.clone();
                let look = move |at: Site, _: &Tensor<3>| {
                    count.fetch_add(usize::from(at.block == "layers"), Ordering::Relaxed);
                };
                let inside = Inside::default().with(Arc::new(Look(look)));
                let states = clip.states(&chunks, skip, normed, &inside).unwrap();
                assert_eq!(ran.load(Ordering::Relaxed), LAYERS + 1 - skip);
                golden.assert_stage(&stage, &values(&states));
                // and with the pooled vector, which stays that of the last layer
                let (both, pooled) = clip.states_and_pooled(&chunks, skip, normed, &Inside::default()).unwrap();
                assert_eq!(values(&both), values(&states));
                golden.assert_stage("pooled", &values(&pooled));
            }
        }
        for skip in [0, LAYERS + 1, usize::MAX] {
            let refused = clip.states(&chunks, skip, true, &Inside::default());
            assert!(matches!(refused, Err(Error::Request { what: "clip_skip", .. })), "{skip}");
        }
    }
}

#[test]
fn the_pooled_vector_is_projected_where_the_projection_was_loaded() {
    let golden = golden("open");
    let (_, pooled) = open().states_and_pooled(&chunks(&golden), 2, false, &Inside::default()).unwrap();
    let projected = open().projected(pooled.clone()).unwrap();
    assert_eq!(projected.dims().to_vec(), golden.shape("projected"));
    golden.assert_stage("projected", &values(&projected));
    assert!(matches!(openai().projected(pooled), Err(Error::NoProjection)));
}

#[test]
fn chunks_in_a_batch_are_those_that_are_encoded_alone() {
    let clip = openai();
    let chunks = chunks(&golden("openai"));
    let all = clip.states(&chunks, 1, true, &Inside::default()).unwrap();
    for (i, chunk) in chunks.iter().enumerate() {
        let alone = clip.states(std::slice::from_ref(chunk), 1, true, &Inside::default()).unwrap();
        assert_eq!(values(&all.clone().narrow(0, i, 1)), values(&alone));
        let pooled = clip.pooled(&chunk.ids, &Inside::default()).unwrap();
        let (_, with_states) =
            clip.states_and_pooled(std::slice::from_ref(chunk), 1, true, &Inside::default()).unwrap();
        assert_eq!(values(&pooled), values(&with_states));
    }
}

#[test]
fn vectors_stand_in_the_place_of_tokens() {
    let golden = golden("openai");
    let vectors = golden.floats("inverted.vectors");
    let [n, width]: [usize; 2] = golden.shape("inverted.vectors").try_into().unwrap();
    let vectors: Tensor<2> = tensor(vectors, [n, width], &Device::flex());
    let mut chunk = chunks(&golden).remove(0);
    chunk.vectors.push((3, vectors.clone()));
    let states = |chunk: &Tokens| openai().states(std::slice::from_ref(chunk), 1, false, &Inside::default()).unwrap();
    golden.assert_stage("inverted", &values(&states(&chunk)));
    // What is behind the last token is cut.
    let tail = Tokens { vectors: vec![(76, vectors), (77, tensor(vec![1.0; 32], [1, 32], &Device::flex()))], ..chunk };
    assert_eq!(states(&tail).dims(), [1, 77, 32]);
}

#[test]
fn a_long_clip_sees_248_tokens_and_fewer() {
    let golden = golden("long");
    let clip = Clip::load(&weights(&file("long")), &config(Activation::QuickGelu)).unwrap();
    let long = chunks(&golden);
    assert_eq!((clip.dimensions().positions, long[0].ids.len()), (248, 248));
    golden.assert_stage("layers.0", &values(&clip.states(&long, 1, false, &Inside::default()).unwrap()));
    // A layer that sees only what is before a token makes the same of the beginning alone.
    let short = [Tokens::of(long[0].ids[..77].to_vec())];
    let states = clip.states(&short, 1, false, &Inside::default()).unwrap();
    let expected = &golden.floats("layers.0")[..77 * 32];
    assert!(fixtures::deviation(&values(&states), expected) / fixtures::std(expected) < fixtures::STAGE);
    // and one with 77 positions refuses more
    let refused = openai().states(&long, 1, false, &Inside::default());
    assert!(matches!(refused, Err(Error::Request { what: "the number of tokens in a chunk", .. })));
    assert!(openai().states(&[], 1, false, &Inside::default()).is_err());
}

#[test]
fn the_activation_is_told_by_the_width_where_no_config_says_it() {
    // given the same encoder with a width that OpenCLIP's have not
    let golden = golden("openai");
    let silent = ClipConfig { hidden_act: None, ..config(Activation::Gelu) };
    let clip = Clip::load(&weights(&file("openai")), &silent).unwrap();
    let states = clip.states(&chunks(&golden), 1, false, &Inside::default()).unwrap();
    // then it is OpenAI's
    golden.assert_stage("layers.2", &values(&states));
    for (json, expected) in [("{}", None), (r#"{"hidden_act": "gelu"}"#, Some(Activation::Gelu))] {
        assert_eq!(serde_json::from_str::<ClipConfig>(json).unwrap().hidden_act, expected);
    }
}

/// The names and shapes of a source, in order.
fn forms(source: &dyn WeightSource) -> Vec<(String, Vec<usize>)> {
    source.manifest().iter().map(|(name, form)| (name.to_owned(), form.shape.to_vec())).collect()
}

#[test]
fn published_encoders_have_what_is_asked_for_and_nothing_else() {
    for (name, projected) in [
        ("clip-l.flux.hf", false),
        ("clip-l.sd15.hf", false),
        ("clip-l.sd3.hf", true),
        ("clip-h.sd21.hf", false),
        ("clip-g.sdxl.hf", true),
    ] {
        let list = Listed::open(name);
        let w = Weights::of(&list, &Device::flex(), Residency::Mapped);
        let of = if projected { ClipDimensions::of_projected } else { ClipDimensions::of };
        let dimensions = of(&w, &ClipConfig::default()).unwrap();
        let laid_out = dimensions.within(&w).laid_out(dimensions.layout());
        assert_eq!(laid_out.faults().count(), 0, "{name}");
        assert_eq!(dimensions.layout().needs().len(), list.manifest().len(), "{name}");
    }
}

#[test]
fn encoders_of_single_files_under_our_names_are_hugging_faces() {
    for (list, prefix, hf, layers) in [
        ("sdxl-base.ldm", "conditioner.embedders.1.model.", "clip-g.sdxl.hf", 32),
        ("sdxl-refiner.ldm", "conditioner.embedders.0.model.", "clip-g.sdxl.hf", 32),
        ("sd21.ldm", "cond_stage_model.model.", "clip-h.sd21.hf", 24),
    ] {
        // given the names that OpenCLIP gave
        let source = OpenClipNames::under(prefix, Listed::open(list));
        // when they are read as Hugging Face's
        let mut found = forms(&source);
        // then those of the published encoder are there, with their shapes
        let published = forms(&Listed::open(hf)).into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape));
        let published: Vec<_> = published.collect();
        if layers == 24 {
            // Single files have one layer more than the folder of the same model, and a projection.
            found.retain(|(name, _)| !name.contains(".layers.23.") && !name.ends_with("text_projection.weight"));
        }
        assert_eq!(found, published, "{list}");
        let w = Weights::of(&source, &Device::flex(), Residency::Mapped);
        let dimensions = ClipDimensions::of_projected(&w, &ClipConfig::default()).unwrap();
        assert_eq!((dimensions.layers, dimensions.positions), (layers, ClipTokenizer::LENGTH));
        assert_eq!(dimensions.within(&w).laid_out(dimensions.layout()).faults().count(), 0, "{list}");
        assert_eq!(dimensions.layout().needs().len(), source.manifest().len(), "{list}");
    }
}

#[test]
fn the_first_encoder_of_single_files_has_hugging_faces_names_behind_a_prefix() {
    for (list, prefix) in
        [("sd15.ldm", "cond_stage_model.transformer"), ("sdxl-base.ldm", "conditioner.embedders.0.transformer")]
    {
        let list = Listed::open(list);
        let w = Weights::of(&list, &Device::flex(), Residency::Mapped).at(prefix);
        let dimensions = ClipDimensions::of(&w, &ClipConfig::default()).unwrap();
        assert_eq!((dimensions.width, dimensions.layers), (768, 12));
        assert_eq!(dimensions.within(&w).laid_out(dimensions.layout()).faults().count(), 0);
    }
}
