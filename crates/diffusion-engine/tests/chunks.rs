//! Prompts in chunks, and the weights of their words, against Forge's own code.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Kind, Need, Tensor, tensor, values};
use diffusion_engine::{
    Chunk, ClipTokenizer, Embedding, Embeddings, Emphasis, Error, Filling, Piece, Row, chunked, joined, weighted,
    weighted_together,
};
use fixtures::{Made, path};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(path("golden/chunks.json")).unwrap()).unwrap()
}

/// Textual inversions of so many vectors.
fn embeddings(tokenizer: &ClipTokenizer, counts: &[(&str, usize)]) -> Embeddings {
    let embedding = |&(name, count): &(&str, usize)| {
        let need = Need { name: "emb_params".into(), shape: vec![count, 4], kind: Kind::Parameter };
        Embedding::read(name, &Made::of("", &[need])).unwrap()
    };
    Embeddings::of(tokenizer, counts.iter().map(embedding).collect()).unwrap()
}

fn words(text: &str, weight: f32) -> Piece {
    Piece::Words { text: text.into(), weight }
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn whole(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// A chunk as the golden tells it.
fn told(chunk: &Value) -> (Vec<usize>, Vec<f32>, Vec<(usize, String)>) {
    let mut ids = vec![ClipTokenizer::START];
    ids.extend(chunk["ids"].as_array().unwrap().iter().map(whole));
    ids.resize(ClipTokenizer::LENGTH, ClipTokenizer::END);
    let runs = chunk["weights"].as_array().unwrap().iter();
    let weights = runs.flat_map(|run| std::iter::repeat_n(number(&run[0]), whole(&run[1]))).collect();
    let inversions = chunk["inversions"].as_array().unwrap().iter();
    let inversions = inversions.map(|i| (whole(&i[0]) + 1, i[1].as_str().unwrap().to_owned())).collect();
    (ids, weights, inversions)
}

fn made(chunk: &Chunk) -> (Vec<usize>, Vec<f32>, Vec<(usize, String)>) {
    let inversions = chunk.inversions().map(|(at, embedding)| (at, embedding.name().to_owned())).collect();
    (chunk.ids(Filling::End), chunk.weights().to_vec(), inversions)
}

#[test]
fn prompts_are_cut_as_forge_cuts_them() {
    let (golden, tokenizer) = (golden(), ClipTokenizer::new().unwrap());
    let counts = golden["embeddings"].as_object().unwrap();
    let counts: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), whole(count))).collect();
    let known = embeddings(&tokenizer, &counts);
    let prompts = golden["prompts"].as_array().unwrap();
    assert!(prompts.len() > 100);
    let mut chunks = 0;
    for prompt in prompts {
        let piece = |piece: &Value| match piece {
            Value::Null => Piece::Break,
            _ => words(piece[0].as_str().unwrap(), number(&piece[1])),
        };
        let pieces: Vec<Piece> = prompt["pieces"].as_array().unwrap().iter().map(piece).collect();
        let found = chunked(&tokenizer, &pieces, &known, ClipTokenizer::TEXT).unwrap();
        let expected: Vec<_> = prompt["chunks"].as_array().unwrap().iter().map(told).collect();
        assert_eq!(found.iter().map(made).collect::<Vec<_>>(), expected, "{pieces:?}");
        chunks += found.len();
    }
    assert!(chunks > 200, "{chunks}");
}

#[test]
fn weights_change_states_as_forge_changes_them() {
    for case in golden()["emphasis"].as_array().unwrap() {
        let emphasis = match case["name"].as_str().unwrap() {
            "Original" => Emphasis::Original,
            "No norm" => Emphasis::NoNorm,
            "Ignore" => Emphasis::Ignore,
            _ => Emphasis::None,
        };
        let (weights, width) = (numbers(&case["weights"]), whole(&case["width"]));
        let states: Tensor<3> = tensor(numbers(&case["states"]), [1, weights.len(), width], &Device::flex());
        // given two chunks, of which the other has no weights
        let both = Tensor::cat(vec![states.clone(), states.clone() * 3.0], 0);
        let ones = vec![1.0; weights.len()];
        // when they are weighted
        let found = weighted(both.clone(), &[&weights, &ones], emphasis).unwrap();
        // then each is as if it were alone
        let expected = numbers(&case["weighted"]);
        let first = values(&found.clone().narrow(0, 0, 1));
        assert!(fixtures::deviation(&first, &expected) / fixtures::std(&expected) < fixtures::STAGE, "{emphasis:?}");
        assert_eq!(values(&found.narrow(0, 1, 1)), values(&(states * 3.0)));
        assert_eq!(values(&weighted(both.clone(), &[&ones, &ones], emphasis).unwrap()), values(&both));
        assert_eq!(joined(both).dims(), [1, 2 * weights.len(), width]);
    }
}

#[test]
fn editions_of_a_prompt_have_one_mean_as_often_as_each_is_there() {
    let states =
        |by: f32| tensor::<3>((0..12).map(|i| by * (i * i % 7 + 1) as f32).collect(), [1, 3, 4], &Device::flex());
    let (heavy, plain) = ([1.0, 2.0, 0.5], [1.0; 3]);
    let row = |by: f32, weights, times| Row { states: states(by), weights, times };
    let rows = || vec![row(1.0, &heavy[..], 3), row(-0.25, &plain[..], 2)];
    let sum = |states: &Tensor<3>| values(states).iter().map(|&value| f64::from(value)).sum::<f64>();
    let all = |rows: &[Tensor<3>]| 3.0 * sum(&rows[0]) + 2.0 * sum(&rows[1]);
    let before = all(&[states(1.0), states(-0.25)]);
    // the mean of all is brought back, also by what has no weights itself
    let normed = weighted_together(rows(), Emphasis::Original).unwrap();
    assert!((all(&normed) - before).abs() < 1e-4, "{} {before}", all(&normed));
    let plainly = weighted_together(rows(), Emphasis::NoNorm).unwrap();
    let scale = sum(&normed[1]) / sum(&plainly[1]);
    assert!((scale - before / all(&plainly)).abs() < 1e-6 && (scale - 1.0).abs() > 0.01, "{scale}");
    assert_eq!(values(&plainly[1]), values(&states(-0.25)));
    // alone each has its own, and where nothing weighs nothing changes
    let alone = weighted_together(vec![row(1.0, &heavy[..], 5)], Emphasis::Original).unwrap();
    assert_eq!(values(&alone[0]), values(&weighted(states(1.0), &[&heavy], Emphasis::Original).unwrap()));
    let unchanged =
        weighted_together(vec![row(1.0, &plain[..], 1), row(2.0, &plain[..], 1)], Emphasis::Original).unwrap();
    assert_eq!(values(&unchanged[1]), values(&states(2.0)));
}

#[test]
fn weights_that_leave_no_mean_leave_a_picture_nonetheless() {
    let states: Tensor<3> = tensor(vec![1.0, 3.0, -2.0, -2.0], [1, 2, 2], &Device::flex());
    for weights in [[0.0, 0.0], [1.0, 1.0 + f32::EPSILON], [-1.0, -1.0]] {
        let found = values(&weighted(states.clone(), &[&weights], Emphasis::Original).unwrap());
        assert!(found.iter().all(|value| value.is_finite()), "{found:?}");
    }
}

#[test]
fn open_clips_chunks_are_filled_with_zero() {
    let tokenizer = ClipTokenizer::new().unwrap();
    let chunks = chunked(&tokenizer, &[words("a cat", 1.0)], &Embeddings::default(), ClipTokenizer::TEXT).unwrap();
    let ids = chunks[0].ids(Filling::Zero);
    assert_eq!(ids[..4], [ClipTokenizer::START, 320, 2368, ClipTokenizer::END]);
    assert!(ids[4..].iter().all(|&id| id == 0) && ids.len() == 77);
    // as is all that is behind an end mark that a prompt spells
    let chunks =
        chunked(&tokenizer, &[words("a<|endoftext|>cat", 1.0)], &Embeddings::default(), ClipTokenizer::TEXT).unwrap();
    assert_eq!(chunks[0].ids(Filling::End)[..4], [ClipTokenizer::START, 320, ClipTokenizer::END, 2368]);
    assert_eq!(chunks[0].ids(Filling::Zero)[..4], [ClipTokenizer::START, 320, ClipTokenizer::END, 0]);
}

#[test]
fn an_encoder_with_more_positions_has_longer_chunks() {
    let tokenizer = ClipTokenizer::new().unwrap();
    let chunks = chunked(&tokenizer, &[words(&"cat ".repeat(300), 1.1)], &Embeddings::default(), 246).unwrap();
    let lengths: Vec<_> = chunks.iter().map(|chunk| (chunk.ids(Filling::End).len(), chunk.weights().len())).collect();
    assert_eq!(lengths, [(248, 248); 2]);
    assert_eq!(chunks[1].weights().iter().filter(|weight| **weight == 1.1).count(), 54);
}

#[test]
fn a_textual_inversion_is_found_behind_comfyuis_mark() {
    let tokenizer = ClipTokenizer::new().unwrap();
    let known = embeddings(&tokenizer, &[("cat", 1), ("Cat v2", 2), ("été!", 3), ("huge", 75), ("beyond", 76)]);
    let found = |text: &str| {
        let chunks = chunked(&tokenizer, &[words(text, 1.0)], &known, ClipTokenizer::TEXT).unwrap();
        let [chunk] = &chunks[..] else { panic!("{text}: {} chunks", chunks.len()) };
        let (ids, _, inversions) = made(chunk);
        let end = ids.iter().position(|&id| id == ClipTokenizer::END).unwrap();
        (ids[1..end].to_vec(), inversions)
    };
    let dog = 1929;
    let comma = ClipTokenizer::COMMA;
    for (text, ids, inversions) in [
        ("embedding:cat", vec![0], vec![(1, "cat")]),
        ("dog, embedding:CAT.safetensors, dog", vec![dog, comma, 0, comma, dog], vec![(3, "cat")]),
        ("embedding:cat v2 dog", vec![0, 0, dog], vec![(1, "Cat v2")]),
        ("Embedding:ÉTÉ!, dog", vec![0, 0, 0, comma, dog], vec![(1, "été!")]),
        ("dog embedding:cat.pt.", vec![dog, 0, 269], vec![(2, "cat")]),
        ("embedding:cat embedding:cat", vec![0, 0], vec![(1, "cat"), (2, "cat")]),
    ] {
        let inversions: Vec<_> = inversions.into_iter().map(|(at, name)| (at, name.to_owned())).collect();
        assert_eq!(found(text), (ids, inversions), "{text}");
    }
    // Words are words.
    for text in ["embedding: a cat", "myembedding:dog", "embedding:", "an embedding"] {
        chunked(&tokenizer, &[words(text, 1.0)], &known, ClipTokenizer::TEXT).unwrap();
    }
    let error = |text: &str| chunked(&tokenizer, &[words(text, 1.0)], &known, ClipTokenizer::TEXT).unwrap_err();
    for (text, missing) in [
        ("a embedding:dog, b", "dog"),
        ("embedding:cats", "cats"),
        ("embedding:cat-style x", "cat-style"),
        ("embedding:cat.v3", "cat.v3"),
    ] {
        assert!(matches!(error(text), Error::NoEmbedding { name } if name == missing), "{text}");
    }
    // and what no chunk can hold is an error
    assert_eq!(found("huge").0.len(), 75);
    assert!(matches!(error("beyond"), Error::EmbeddingLength { count: 76, limit: 75, .. }));
}
