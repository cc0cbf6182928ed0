//! Every format that is written against what the Python packages `gguf`, `bitsandbytes` and `torch` write, byte by byte, and what
//! is searched for against the errors of ggml's own search.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Format, WeightSource, safetensors::Safetensors};
use quant::{
    encode::{EightBits, FourBits, WRITTEN, packed},
    formats,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

const KINDS: [FourBits; 2] = [FourBits::Nf4, FourBits::Fp4];

fn golden() -> Safetensors {
    Safetensors::open(&fixtures::path("golden/encode/few.safetensors")).unwrap()
}

fn digests() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures::path("golden/encode/digests.json")).unwrap()).unwrap()
}

/// Whether a format is packed in one way only, which all writers agree on.
fn is_plain(format: Format) -> bool {
    ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"].contains(&format.name())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A thousand rows of 256, as `fixtures/reference/encode.py` makes them: splitmix64 (Steele, Lea and Flood 2014), two numbers of
/// 16 bits for each weight.
fn random() -> Vec<f32> {
    let number = |i: u64| {
        let z = 16u64.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let sixteen = |bits: u64| f32::from(bits as u16 as i16);
    let pairs = (1..=128_000).map(number).flat_map(|bits| [bits, bits >> 32]);
    pairs.map(|bits| sixteen(bits) * sixteen(bits >> 16) / (1u32 << 30) as f32).collect()
}

/// Rows of the trained demo model.
fn real() -> Vec<f32> {
    let file = Safetensors::open(&fixtures::path("models/flux-demo.safetensors")).unwrap();
    let names = ["double_blocks.0.img_mlp.0.weight", "single_blocks.0.linear2.weight", "txt_in.weight"];
    let mut weights: Vec<f32> = names.iter().flat_map(|name| file.read(name).unwrap().to_f32().unwrap()).collect();
    weights.truncate(weights.len() / 256 * 256);
    weights
}

#[test]
fn rows_that_are_hard_on_a_format_are_packed_as_the_references_pack_them() {
    let golden = golden();
    let weights = golden.read("weights").unwrap().to_f32().unwrap();
    for format in WRITTEN.into_iter().filter(|format| is_plain(*format)) {
        let (found, expected) = (packed(format, &weights).unwrap(), golden.read(format.name()).unwrap().to_bytes());
        let size = format.bytes();
        for (i, (found, expected)) in found.chunks(size).zip(expected.chunks(size)).enumerate() {
            assert_eq!(
                found,
                expected,
                "{format}, block {i}: {:?}",
                &weights[i * format.weights()..][..format.weights()]
            );
        }
    }
    for kind in KINDS {
        for (part, weights) in [("", &weights[..]), (".odd", &weights[..1001])] {
            let name = format!("{}{part}", kind.name());
            let (blocks, scales) = kind.packed(weights);
            let expected = golden.read(&format!("{name}.absmax")).unwrap().to_bytes();
            assert_eq!(bytes_of(&scales), expected, "{name}");
            assert_eq!(blocks, golden.read(&name).unwrap().to_bytes(), "{name}");
        }
    }
    for (kind, name) in [(EightBits::E4m3, "float8_e4m3fn"), (EightBits::E5m2, "float8_e5m2")] {
        for scale in [1.0, 0.37] {
            let expected = golden.read(&format!("{name}.{scale:?}")).unwrap().to_bytes();
            for ((found, expected), x) in kind.packed(&weights, scale).iter().zip(expected).zip(&weights) {
                assert_eq!(*found, expected, "{name}, {x} / {scale}");
            }
        }
    }
}

#[test]
fn a_thousand_random_blocks_and_those_of_a_trained_model_are_packed_as_the_references_pack_them() {
    let digests = digests();
    for (name, weights) in [("random", random()), ("real", real())] {
        let expected = |key: &str| digests[name][key].as_str().unwrap().to_owned();
        for format in WRITTEN.into_iter().filter(|format| is_plain(*format)) {
            assert_eq!(sha256(&packed(format, &weights).unwrap()), expected(format.name()), "{name}: {format}");
        }
        for kind in KINDS {
            let (blocks, scales) = kind.packed(&weights);
            assert_eq!(sha256(&blocks), expected(kind.name()), "{name}: {}", kind.name());
            assert_eq!(sha256(&bytes_of(&scales)), expected(&format!("{}.absmax", kind.name())), "{name}");
        }
    }
}

/// ggml's own quantisers are 2.1e-4, 2.0e-4 and 7.9e-4 off for Q4_K, Q5_K and Q2_K, as shares of the weights (stable-diffusion-cpp-python 0.4.7).
#[test]
fn weights_of_two_values_lose_no_more_than_their_factors_round() {
    let weights: Vec<f32> = random().iter().map(|x| if *x < 0.0 { -0.1 } else { 0.1 }).collect();
    for format in [formats::Q2_K, formats::Q4_K, formats::Q5_K] {
        let (bytes, mut found) = (packed(format, &weights).unwrap(), vec![0.0; weights.len()]);
        format.unpack().unwrap()(&bytes, &mut found);
        let off: f64 = weights.iter().zip(&found).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        let share = (off / (weights.len() as f64 * 0.01)).sqrt();
        assert!(share < 8e-4, "{format}: {share:.1e}");
    }
}

#[test]
fn weights_too_large_for_a_format_become_no_numbers_and_never_others() {
    // given blocks of every size of weights, with one that is far larger and without
    let wave = |i: usize, size: f32| (i as f32 * 0.7).sin() * size;
    let shapes: [fn(usize, f32) -> f32; 3] = [
        |i, wave| if i.is_multiple_of(2) { wave } else { -wave },
        |_, wave| wave.abs(),
        |i, wave| if i == 77 { wave } else { wave * 1e-9 },
    ];
    for (format, shape, exponent) in
        WRITTEN.into_iter().flat_map(|f| shapes.into_iter().flat_map(move |s| (-44..=38).map(move |e| (f, s, e))))
    {
        let size = 10f32.powi(exponent);
        let weights: Vec<f32> = (0..512).map(|i| shape(i, wave(i + 1, size))).collect();
        // when they are packed
        let mut values = vec![0.0; weights.len()];
        format.unpack().unwrap()(&packed(format, &weights).unwrap(), &mut values);
        // then they are there again, or all can see that they are not
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let off = squares(&mut values.iter().zip(&weights).map(|(value, weight)| value - weight));
        let share = (off / squares(&mut weights.iter().copied())).sqrt();
        let is_told = !share.is_finite() && exponent >= 4;
        // Where the weights are no larger than a few of a scale's smallest steps, which are those of f16, they become zeros or such steps.
        let steps = 32.0 / f32::from(1u16 << 12) / f32::from(1u16 << 12);
        let is_rounded = |(value, weight): (&f32, &f32)| *value == 0.0 || (value - weight).abs() <= steps;
        let are_rounded = exponent < -3 && values.iter().zip(&weights).all(is_rounded);
        assert!(share <= 0.9 || is_told || are_rounded, "{format}, 1e{exponent}: off by {share}");
    }
}

#[test]
fn scales_that_are_searched_for_lose_no_more_than_those_of_ggml() {
    let digests = digests();
    for (name, weights) in [("random", random()), ("real", real())] {
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let whole = squares(&mut weights.iter().copied());
        let of_ggml = digests[name]["errors of ggml"].as_object().unwrap();
        assert_eq!(of_ggml.len(), 7);
        for (format, of_ggml) in of_ggml {
            let format = WRITTEN.into_iter().find(|known| known.name() == format).unwrap();
            let mut values = vec![0.0; weights.len()];
            format.unpack().unwrap()(&packed(format, &weights).unwrap(), &mut values);
            let off = squares(&mut values.iter().zip(&weights).map(|(value, weight)| value - weight));
            let (found, of_ggml) = ((off / whole).sqrt(), of_ggml.as_f64().unwrap());
            println!("{name}: {format} loses {found:.6}, ggml {of_ggml:.6}");
            assert!(found <= of_ggml, "{name}: {format} loses {found}, ggml {of_ggml}");
        }
    }
}
