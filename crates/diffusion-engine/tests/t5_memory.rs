//! What T5 takes beside its weights, as the system counts it; in a program of its own, as the peak is the process's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Error, Format, Manifest, Residency, Stored, WeightSource, Weights, values};
use diffusion_engine::{Inside, T5, T5Tokenizer};

const WIDTH: usize = 16;
const HEADS: usize = 128;

/// A T5 of one block with as many heads as there may be, of one channel each: 4 MB.
struct ManyHeads(Manifest);

const SHAPES: [(&str, [usize; 2]); 9] = [
    ("shared.weight", [T5Tokenizer::VOCABULARY, WIDTH]),
    ("encoder.block.0.layer.0.SelfAttention.q.weight", [HEADS, WIDTH]),
    ("encoder.block.0.layer.0.SelfAttention.k.weight", [HEADS, WIDTH]),
    ("encoder.block.0.layer.0.SelfAttention.v.weight", [HEADS, WIDTH]),
    ("encoder.block.0.layer.0.SelfAttention.o.weight", [WIDTH, HEADS]),
    ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", [32, HEADS]),
    ("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", [WIDTH, WIDTH]),
    ("encoder.block.0.layer.1.DenseReluDense.wi_1.weight", [WIDTH, WIDTH]),
    ("encoder.block.0.layer.1.DenseReluDense.wo.weight", [WIDTH, WIDTH]),
];

const NORMS: [&str; 3] = [
    "encoder.block.0.layer.0.layer_norm.weight",
    "encoder.block.0.layer.1.layer_norm.weight",
    "encoder.final_layer_norm.weight",
];

impl ManyHeads {
    fn new() -> Self {
        let matrices = SHAPES.iter().map(|(name, shape)| (*name, Format::F32, shape.to_vec()));
        Self(matrices.chain(NORMS.iter().map(|name| (*name, Format::F32, vec![WIDTH]))).collect())
    }
}

impl WeightSource for ManyHeads {
    fn label(&self) -> &str {
        "memory"
    }

    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: "memory".to_owned() };
        let shape = self.0.get(name).ok_or_else(missing)?.shape.to_vec();
        let count = shape.iter().product();
        Ok(Stored::of(&(0..count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>(), shape))
    }
}

#[test]
fn many_heads_and_tokens_take_no_memory_by_the_square_of_the_tokens() {
    const TOKENS: usize = 2048;
    let t5 = T5::load(&Weights::of(&ManyHeads::new(), &Device::flex(), Residency::Unpacked)).unwrap();
    let before = peak_mib();
    let encoded = t5.encode(&(0..TOKENS).collect::<Vec<_>>(), &Inside::default()).unwrap();
    let taken = peak_mib() - before;
    assert!(values(&encoded).iter().all(|v| v.is_finite()));
    // A number for each head and pair of tokens would be 2,048 MiB.
    assert!(taken < 200, "{taken} MiB");
}

/// The most that this process has held, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
}
