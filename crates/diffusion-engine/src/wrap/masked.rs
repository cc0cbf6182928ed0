//! The rest of a picture of which a part is drawn anew, in every call of the model.

use core_tensor::{Latent, Tensor, tensor};
use samplers::{
    Denoised, Denoiser, Error, Process, SigmaSpace, Step,
    noise::{Generator, NoiseSource},
};

use super::{Around, Wrap};
use crate::{Clock, KeptNoise, Soft, SoftSettings};

/// Puts the picture's latent in the place of what is not masked: noisy in what the model sees, and as it is in its answer.
///
/// Forge modules/sd_samplers_cfg_denoiser.py `CFGDenoiser.forward`, dfdcbab; ComfyUI comfy/samplers.py `KSamplerX0Inpaint`, v0.3.64.
pub(crate) struct Mask {
    /// The pictures' latents, `[b, c, h, w]`.
    pub(crate) clean: Latent,
    /// The noise that the pass started from.
    pub(crate) noise: Latent,
    /// How much of each pixel of a latent is drawn anew, row by row, 0 to 1.
    pub(crate) share: Vec<f32>,
    pub(crate) soft: Option<Soft>,
    pub(crate) kept: KeptNoise,
    /// Whether the first call sees the noise that the pass starts from, with nothing of the pictures in it.
    pub(crate) is_noise_first: bool,
    pub(crate) source: NoiseSource,
    /// Of each picture.
    pub(crate) seeds: Vec<u64>,
}

impl Wrap for Mask {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        let level = |sigma: &&f32| **sigma > 0.0;
        let ends = [at.sigmas.iter().find(level), at.sigmas.iter().rfind(level)];
        let drawing = Drawing {
            inner,
            clean: self.clean.0.clone(),
            noise: self.noise.0.clone(),
            share: self.share.clone(),
            soft: self.soft,
            kept: self.kept,
            is_noise_first: self.is_noise_first,
            anew: Anew { source: self.source, seeds: self.seeds.clone(), streams: Vec::new(), drawn: 0 },
            space: at.space,
            times: ends.map(|end| end.map_or(0.0, |&end| time(&at.space, end))),
            clock: at.clock.clone(),
        };
        Ok(Box::new(drawing))
    }
}

struct Drawing {
    inner: Box<dyn Denoiser>,
    clean: Tensor<4>,
    noise: Tensor<4>,
    share: Vec<f32>,
    soft: Option<Soft>,
    kept: KeptNoise,
    is_noise_first: bool,
    anew: Anew,
    space: SigmaSpace,
    /// Of the first noise level and the last above 0.
    times: [f64; 2],
    clock: Clock,
}

impl Denoiser for Drawing {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let share = self.share_at(sigma);
        let call = self.clock.at(sigma).call;
        let noise = match self.kept {
            KeptNoise::Anew | KeptNoise::Start if self.is_noise_first && call == 0 => None,
            KeptNoise::Anew => Some(self.anew.of_call(call, &self.clean)),
            KeptNoise::Start => Some(self.noise.clone()),
            KeptNoise::Sampler => None,
        };
        let seen = match noise {
            Some(noise) => {
                let kept = match self.space.process() {
                    Process::Diffusion => 1.0,
                    Process::Flow => 1.0 - sigma,
                };
                Latent(mixed(self.clean.clone() * kept + noise * sigma, x.0.clone(), &share))
            }
            None => x.clone(),
        };
        let Denoised { latent: Latent(drawn), negative } = self.inner.denoise(&seen, sigma)?;
        let latent = match self.soft {
            Some(Soft::Blended(soft)) => blended(soft, self.clean.clone(), drawn, &share, sigma),
            Some(Soft::Differential) | None => mixed(self.clean.clone(), drawn, &share),
        };
        Ok(Denoised { latent: Latent(latent), negative })
    }
}

impl Drawing {
    /// How much of each pixel is drawn anew at a level, `[1, 1, h, w]`.
    fn share_at(&self, sigma: f32) -> Tensor<4> {
        let [_, _, h, w] = self.clean.dims();
        let share = match self.soft {
            // ComfyUI comfy_extras/nodes_differential_diffusion.py, v0.3.64: from the first level to the last, by the model's time
            Some(Soft::Differential) => {
                let [first, last] = self.times;
                let threshold = if first > last { (time(&self.space, sigma) - last) / (first - last) } else { 0.0 };
                let joins = |&share: &f32| if f64::from(share) >= threshold && share > 0.0 { 1.0 } else { 0.0 };
                self.share.iter().map(joins).collect()
            }
            Some(Soft::Blended(_)) | None => self.share.clone(),
        };
        tensor(share, [1, 1, h, w], &self.clean.device())
    }
}

/// The first where nothing of the second counts, and the second where all of it does.
pub(crate) fn mixed(first: Tensor<4>, second: Tensor<4>, share: &Tensor<4>) -> Tensor<4> {
    first * (share.clone().neg() + 1.0) + second * share.clone()
}

/// A model's answer mixed with the picture, the more of the picture the lower the level; the length of each place's vector is mixed by itself,
/// so that what is mixed does not lose its contrast.
///
/// Forge extensions-builtin/soft-inpainting `latent_blend` and `get_modified_nmask`, dfdcbab.
fn blended(soft: SoftSettings, clean: Tensor<4>, drawn: Tensor<4>, share: &Tensor<4>, sigma: f32) -> Tensor<4> {
    let share = share.clone().powf_scalar(sigma.powf(soft.schedule_bias) * soft.preservation);
    let length = |x: Tensor<4>| x.powi_scalar(2).sum_dim(1).sqrt(); // [b, 1, h, w]
    let (of_clean, of_drawn) = (length(clean.clone()), length(drawn.clone()));
    let both = mixed(clean, drawn, &share);
    let own = length(both.clone()) + 0.000_01;
    // Shares of the longer one, whose high powers would be beyond all numbers.
    let longer = of_clean.clone().max_pair(of_drawn.clone());
    let power = |x: Tensor<4>| (x / (longer.clone() + f32::MIN_POSITIVE)).powf_scalar(soft.contrast);
    let wanted = mixed(power(of_clean), power(of_drawn), &share).powf_scalar(1.0 / soft.contrast) * longer.clone();
    both * (wanted / own)
}

/// Noise that is drawn in every call, for each picture by itself.
///
/// Forge modules/rng.py `randn` leaves torch's own generator in this state, from which the masked sampler draws, dfdcbab.
struct Anew {
    source: NoiseSource,
    seeds: Vec<u64>,
    streams: Vec<Generator>,
    /// Calls that have drawn.
    drawn: usize,
}

impl Anew {
    fn of_call(&mut self, call: usize, like: &Tensor<4>) -> Tensor<4> {
        let shape = like.dims();
        let len = shape[1..].iter().product();
        if self.streams.is_empty() || call < self.drawn {
            let stream = |seed: &u64| Generator::new(self.source, seed.wrapping_add(100_000) % 65_536);
            (self.streams, self.drawn) = (self.seeds.iter().map(stream).collect(), 0);
        }
        // A run that goes on from a snapshot has drawn for the calls before.
        while self.drawn < call {
            self.streams.iter_mut().for_each(|stream| drop(stream.randn(len)));
            self.drawn += 1;
        }
        self.drawn += 1;
        tensor(self.streams.iter_mut().flat_map(|stream| stream.randn(len)).collect(), shape, &like.device())
    }
}

/// The model's time at a noise level: the level itself on a flow, 0 to 999 elsewhere.
fn time(space: &SigmaSpace, sigma: f32) -> f64 {
    let sigma = f64::from(sigma);
    if space.process() == Process::Flow {
        return sigma;
    }
    let (mut low, mut high) = (0.0, 999.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if space.sigma(middle) < sigma { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, values};

    use super::*;

    #[test]
    fn a_levels_time_is_that_of_which_it_is_the_level() {
        for t in [0.0, 12.5, 500.0, 999.0] {
            let sigma = SigmaSpace::Discrete.sigma(t) as f32;
            assert!((time(&SigmaSpace::Discrete, sigma) - t).abs() < 1e-2, "{t}");
        }
        assert_eq!(time(&SigmaSpace::Flow { shift: Some(3.0), tokens: 1 }, 0.25), 0.25);
    }

    #[test]
    fn noise_of_a_call_is_the_same_whichever_calls_came_before() {
        let like = Tensor::zeros([2, 4, 4, 4], &Device::flex());
        let new = || Anew { source: NoiseSource::Cpu, seeds: vec![1, 70_000], streams: Vec::new(), drawn: 0 };
        let mut all = new();
        let calls: Vec<Vec<f32>> = (0..3).map(|call| values(&all.of_call(call, &like))).collect();
        assert_eq!(values(&new().of_call(2, &like)), calls[2]);
        assert_eq!(values(&all.of_call(1, &like)), calls[1]);
        assert!(calls[0] != calls[1] && calls[1] != calls[2]);
        let alone = Anew { seeds: vec![70_000], ..new() }.of_call(1, &like.clone().narrow(0, 0, 1));
        assert_eq!(values(&alone), calls[1][64..]);
    }

    #[test]
    fn what_is_blended_is_either_alone_at_the_ends_and_as_long_between() {
        let device = Device::flex();
        let (clean, drawn) =
            (tensor(vec![3.0, 0.0], [1, 2, 1, 1], &device), tensor(vec![0.0, 3.0], [1, 2, 1, 1], &device));
        let blend = |share: f32, contrast| {
            let soft = SoftSettings { contrast, ..SoftSettings::default() };
            let share = tensor(vec![share], [1, 1, 1, 1], &device);
            values(&blended(soft, clean.clone(), drawn.clone(), &share, 4.0))
        };
        for contrast in [1.0, 4.0, 32.0] {
            let is_near = |found: &[f32], expected: [f32; 2]| {
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-3)
            };
            assert!(is_near(&blend(0.0, contrast), [3.0, 0.0]) && is_near(&blend(1.0, contrast), [0.0, 3.0]));
            let between = blend(0.7, contrast);
            let length = between.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 3.0).abs() < 1e-3, "{between:?}");
        }
    }
}
