//! Whole prompts through CLIP's text encoders, in chunks, with weights and a textual inversion, against Forge's own code.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{
    Device, Error as WeightError, Format, Manifest, Residency, Stored, Tensor, WeightSource, Weights,
    safetensors::Safetensors, values,
};
use diffusion_engine::{
    Activation, Clip, ClipConfig, ClipTokenizer, Embedding, Embeddings, Emphasis, Filling, Inside, OpenClipNames,
    Piece, chunked, joined, weighted,
};
use fixtures::{Golden, path};

/// A textual inversion's file: vectors for two encoders.
struct Vectors {
    tensors: [(&'static str, Stored); 2],
    manifest: Manifest,
}

impl Vectors {
    fn of(golden: &Golden) -> Self {
        let stored = |case: &str| Stored::of(&golden.floats(case), golden.shape(case));
        let tensors = [("clip_l", stored("openai.1.inversion")), ("clip_g", stored("open.2.inversion"))];
        let manifest = tensors.iter().map(|(name, stored)| (*name, Format::F32, stored.shape().to_vec())).collect();
        Self { tensors, manifest }
    }
}

impl WeightSource for Vectors {
    fn label(&self) -> &str {
        "vectors"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, WeightError> {
        let missing = || WeightError::Missing { name: name.to_owned(), source_name: "vectors".to_owned() };
        self.tensors.iter().find(|(n, _)| *n == name).map(|(_, stored)| stored.clone()).ok_or_else(missing)
    }
}

fn words(text: &str, weight: f32) -> Piece {
    Piece::Words { text: text.into(), weight }
}

/// The prompts of the reference.
fn prompts() -> [Vec<Piece>; 4] {
    let sleeping = [words("two dogs, ", 1.0), words("one of them asleep", 0.7), words(" on a very old red sofa ", 1.0)];
    [
        vec![words("a ", 1.0), words("photo", 1.4), words(" of a cat", 1.0)],
        std::iter::repeat_n(sleeping, 12).flatten().chain([words("neon, cat", 1.0)]).collect(),
        vec![words("a cat neon", 1.0), Piece::Break, words("neon", 1.2), words(" dogs", 1.0)],
        vec![words("", 1.0)],
    ]
}

fn encoder(name: &str) -> Clip {
    let file = Safetensors::open(&path(&format!("golden/clip/{name}.safetensors"))).unwrap();
    let config = |hidden_act| ClipConfig { num_attention_heads: Some(2), hidden_act: Some(hidden_act) };
    let (device, residency) = (Device::flex(), Residency::Unpacked);
    match name {
        "open" => {
            let source = OpenClipNames::over(file);
            Clip::load_projected(&Weights::of(&source, &device, residency), &config(Activation::Gelu)).unwrap()
        }
        _ => Clip::load(&Weights::of(&file, &device, residency), &config(Activation::QuickGelu)).unwrap(),
    }
}

#[test]
fn a_prompt_comes_to_what_forge_makes_of_it() {
    let golden = Golden::open("clip/forge.safetensors");
    let tokenizer = ClipTokenizer::new().unwrap();
    let neon = Embedding::read("neon", &Vectors::of(&golden)).unwrap();
    let known = Embeddings::of(&tokenizer, vec![neon]).unwrap();
    for (case, file, name, skip, normed, filling) in [
        ("openai.1", "openai", "clip_l", 1, true, Filling::End),
        ("openai.2", "openai", "clip_l", 2, false, Filling::End),
        ("open.2", "open", "clip_g", 2, false, Filling::Zero),
    ] {
        let clip = encoder(file);
        for (i, pieces) in prompts().iter().enumerate() {
            // given a prompt in chunks
            let chunks = chunked(&tokenizer, pieces, &known, ClipTokenizer::TEXT).unwrap();
            let tokens = chunks.iter().map(|chunk| chunk.tokens(filling, name, 32, &Device::flex()).unwrap());
            // when they are encoded as one batch, and weighted
            let (states, pooled) =
                clip.states_and_pooled(&tokens.collect::<Vec<_>>(), skip, normed, &Inside::default()).unwrap();
            let weights: Vec<_> = chunks.iter().map(|chunk| chunk.weights()).collect();
            let states = joined(weighted(states, &weights, Emphasis::Original).unwrap());
            let first: Tensor<2> = pooled.narrow(0, 0, 1);
            let pooled = if file == "open" { clip.projected(first).unwrap() } else { first };
            // then they are what Forge makes of each chunk alone, one behind the other, and the pooled vector is the first chunk's
            let stage = format!("{case}.states.{i}");
            assert_eq!(states.dims().to_vec(), golden.shape(&stage));
            golden.assert_stage(&stage, &values(&states));
            golden.assert_stage(&format!("{case}.pooled.{i}"), &values(&pooled));
        }
    }
}
