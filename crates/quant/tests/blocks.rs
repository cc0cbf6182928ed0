//! Every block format against the values of the Python package `gguf`, bit by bit.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Format, Stored, WeightSource, safetensors::Safetensors};
use quant::formats::BLOCK_FORMATS;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of splitmix64 (Steele, Lea and Flood 2014), lower ones first.
fn splitmix64(seed: u64, length: usize) -> Vec<u8> {
    let number = |i: u64| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (1..).flat_map(|i| number(i).to_le_bytes()).take(length).collect()
}

fn values(format: Format, blocks: Vec<u8>) -> Vec<f32> {
    let rows = blocks.len() / format.bytes();
    Stored::of_bytes(format, vec![rows, format.weights()], blocks).unwrap().to_f32().unwrap()
}

#[test]
fn a_few_blocks_of_each_format_have_the_values_of_the_reference() {
    let golden = Safetensors::open(&fixtures::path("golden/gguf/blocks.safetensors")).unwrap();
    assert_eq!(golden.manifest().len(), 2 * BLOCK_FORMATS.len());
    for format in BLOCK_FORMATS {
        let read = |part: &str| golden.read(&format!("{format}.{part}")).unwrap();
        let (found, expected) = (values(*format, read("blocks").to_bytes()), read("values").to_f32().unwrap());
        assert_eq!(found.len(), expected.len(), "{format}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{format}, weight {i}: {found}, expected {expected}");
        }
    }
}

#[test]
fn a_thousand_blocks_of_each_format_have_the_values_of_the_reference() {
    let text = std::fs::read_to_string(fixtures::path("golden/gguf/digests.json")).unwrap();
    let digests: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(digests.as_object().unwrap().len(), BLOCK_FORMATS.len());
    for format in BLOCK_FORMATS {
        let digest = &digests[format.name()];
        let mut blocks = splitmix64(digest["number"].as_u64().unwrap(), 1000 * format.bytes());
        for at in digest["cleared"].as_array().unwrap() {
            let at = at.as_u64().unwrap() as usize;
            blocks.chunks_mut(format.bytes()).for_each(|block| block[at] &= 0xbf);
        }
        let bytes: Vec<u8> = values(*format, blocks).iter().flat_map(|value| value.to_le_bytes()).collect();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(&*sha256), digest["sha256"].as_str(), "{format}");
    }
}
