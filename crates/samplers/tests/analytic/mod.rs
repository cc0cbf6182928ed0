//! What the tests of this crate take for a model: the denoiser of data whose distribution is known.

use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Process, SigmaSpace};

/// The optimal denoiser of unit-variance data; without the prompt they are a little smaller and brighter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Analytic(pub Process);

impl Denoiser for Analytic {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let sigma = f64::from(sigma);
        let factor = match self.0 {
            Process::Diffusion => 1.0 / (1.0 + sigma * sigma),
            Process::Flow => (1.0 - sigma) / ((1.0 - sigma).powi(2) + sigma * sigma),
        };
        let latent = Latent(x.0.clone() * factor as f32);
        Ok(Denoised { negative: Some(Latent(latent.0.clone() * 0.9 + 0.05)), latent })
    }
}

/// A model of each process.
pub(crate) fn space(process: Process) -> SigmaSpace {
    match process {
        Process::Diffusion => SigmaSpace::Discrete,
        Process::Flow => SigmaSpace::Flow { shift: None, tokens: 4096 },
    }
}
