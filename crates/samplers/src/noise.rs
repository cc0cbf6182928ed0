//! Noise from a seed: the numbers that `torch.randn` makes of it.
//!
//! A seed in a shared prompt means a picture only together with the stream it starts. Two streams
//! are in use: torch's CPU generator (ComfyUI, A1111's `RNG: CPU`) and the Philox stream of torch's
//! CUDA generator, computed on the host (`RNG: NV` of A1111 and Forge).
//!
//! [`NoiseSource::Cpu`] equals torch bit for bit where torch runs its AVX2 kernels.
//! [`NoiseSource::Nv`] equals `rng_philox.py` bit for bit, and CUDA up to rounding and up to a size
//! that depends on the card. `torch_normal` and `philox` below say what was compared with what, and
//! where each promise ends.

mod brownian;
mod mt19937;
mod philox;
mod seed_sequence;
mod torch_normal;
mod variation;

pub use brownian::Brownian;
use philox::CudaGenerator;
use torch_normal::CpuGenerator;
pub use variation::{resized, varied};

/// Where the host takes its noise from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseSource {
    /// The torch CPU generator: MT19937, with the bits of torch's AVX2 kernels.
    Cpu,
    /// Philox4x32-10 as CUDA makes it, in the host emulation of A1111 and Forge.
    Nv,
}

impl NoiseSource {
    /// Every source.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Nv];

    /// The name that configuration files and flags use.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Nv => "nv",
        }
    }

    /// The source with this [`id`](Self::id), exactly as spelt.
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.id() == id)
    }
}

/// A seeded stream of standard normal values: torch's `Generator`.
///
/// A sequence of [`randn`](Self::randn) calls equals the same sequence of `torch.randn` calls on one
/// torch generator. The lengths are part of the stream: two calls of 8 are not one call of 16.
#[derive(Clone, Debug)]
pub struct Generator(Stream);

#[derive(Clone, Debug)]
enum Stream {
    Cpu(Box<CpuGenerator>),
    Nv(CudaGenerator),
}

impl Generator {
    /// The stream that `torch.Generator(device).manual_seed(seed)` starts.
    ///
    /// The CPU stream takes the low 32 bits of the seed, as torch's does: seeds 0 and 2³² are one
    /// picture.
    pub fn new(source: NoiseSource, seed: u64) -> Self {
        Self(match source {
            NoiseSource::Cpu => Stream::Cpu(Box::new(CpuGenerator::new(seed))),
            NoiseSource::Nv => Stream::Nv(CudaGenerator::new(seed)),
        })
    }

    /// The next `torch.randn` of `len` values, `float32`, in row-major order.
    pub fn randn(&mut self, len: usize) -> Vec<f32> {
        match &mut self.0 {
            Stream::Cpu(generator) => generator.randn(len),
            Stream::Nv(generator) => generator.randn(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_found_by_the_id_it_prints() {
        for source in NoiseSource::ALL {
            assert_eq!(NoiseSource::named(source.id()), Some(source));
        }
        assert_eq!(NoiseSource::named("gpu"), None);
        assert_eq!(NoiseSource::named("CPU"), None);
    }

    #[test]
    fn one_seed_means_two_pictures_on_two_sources() {
        let [cpu, nv] = NoiseSource::ALL.map(|source| Generator::new(source, 42).randn(16));
        assert_ne!(cpu, nv);
    }

    #[test]
    fn a_copied_generator_continues_the_same_stream() {
        for source in NoiseSource::ALL {
            // given a generator in mid-stream, with a normal value held back on the CPU source
            let mut generator = Generator::new(source, 7);
            generator.randn(3);
            // when it is copied
            let mut copy = generator.clone();
            // then both go on alike
            assert_eq!(generator.randn(21), copy.randn(21));
        }
    }

    #[test]
    fn the_values_are_standard_normal() {
        for source in NoiseSource::ALL {
            let values = Generator::new(source, 1).randn(262_144);
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            // five standard errors: 1/√n for the mean, √(2/n) for the variance
            assert!(mean.abs() < 5.0 / n.sqrt(), "{} mean {mean}", source.id());
            assert!((variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{} variance {variance}", source.id());
        }
    }
}
