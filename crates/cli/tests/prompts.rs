//! What the pieces of a prompt come to on a Flux in miniature.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use core_tensor::values;
use diffusion_engine::{Emphasis, Encoded, Error, Inside, Job, Pass, Piece};
use forge::{Config, Forge};

use crate::tiny::Tiny;

#[test]
fn weights_multiply_the_vectors_of_t5_alone_and_breaks_are_refused() {
    let config: Config = Tiny::of("tiny-dev").config();
    let job = Job::of(config.request(|| 0).unwrap()).unwrap();
    let model = Forge::load(&config).unwrap().model(&job).unwrap();
    let encode = |pieces: &[Piece], emphasis| {
        let pass = Pass { emphasis, ..job.passes()[0].clone() };
        model.encode(&model.prompt(pieces.to_vec(), &pass), &Inside::default())
    };
    let cat = |weight, emphasis| -> Encoded {
        let cat = Piece::Words { text: "a cat".into(), weight };
        encode(&[Piece::plain("a photo of"), cat], emphasis).unwrap()
    };
    let rows = |encoded: &Encoded| -> Vec<Vec<f32>> {
        let [_, _, width] = encoded.streams[0].tokens.dims();
        values(&encoded.streams[0].tokens).chunks(width).map(<[f32]>::to_vec).collect()
    };
    let plain = cat(1.0, Emphasis::Original);
    let changed = |weight, emphasis| {
        let changed = cat(weight, emphasis);
        // CLIP's vector and the tokens stay what they are
        assert_eq!(changed.ids, plain.ids);
        assert_eq!(values(changed.pooled.as_ref().unwrap()), values(plain.pooled.as_ref().unwrap()));
        rows(&changed)
    };
    // `▁`, `a`, `▁photo`, `▁of`, `▁`, `a`, `▁cat`, the end, …
    let times = |i: usize| if (4..7).contains(&i) { 1.5 } else { 1.0 };
    let close = |found: &[Vec<f32>], scale: f32| {
        for (i, (found, plain)) in found.iter().zip(rows(&plain)).enumerate() {
            for (found, plain) in found.iter().zip(plain) {
                assert!((found - plain * times(i) * scale).abs() < 1e-5, "token {i}: {found} {plain}");
            }
        }
    };
    close(&changed(1.5, Emphasis::NoNorm), 1.0);
    let mean = |rows: &[Vec<f32>], times: &dyn Fn(usize) -> f64| {
        let of_row = |(i, row): (usize, &Vec<f32>)| row.iter().map(|&x| f64::from(x)).sum::<f64>() * times(i);
        rows.iter().enumerate().map(of_row).sum::<f64>()
    };
    let all = rows(&plain);
    let scale = mean(&all, &|_| 1.0) / mean(&all, &|i| f64::from(times(i)));
    close(&changed(1.5, Emphasis::Original), scale as f32);
    for emphasis in [Emphasis::Ignore, Emphasis::None] {
        assert_eq!(changed(1.5, emphasis), all);
    }
    // one piece or several of weight 1: to the bit what the words alone are
    let words = encode(&[Piece::plain("a photo of a cat")], Emphasis::Original).unwrap();
    assert_eq!(values(&words.streams[0].tokens), all.concat());
    let broken = encode(&[Piece::plain("a"), Piece::Break, Piece::plain("b")], Emphasis::Original);
    assert!(matches!(broken, Err(Error::NoChunks { .. })), "{broken:?}");
}
