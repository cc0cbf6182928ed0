//! Samplers as Stable Diffusion WebUI (A1111) and Forge have them, where those differ from what others mean by their names.
//!
//! They keep the ids of the samplers that they stand for; a profile says which engine's are meant. References: A1111 1.10 and Forge
//! dfdcbab, modules/sd_samplers_kdiffusion.py, sd_samplers_timesteps.py, sd_samplers_timesteps_impl.py and sd_samplers_lcm.py.

mod timesteps;
mod unipc;

use super::{
    ddpm, dpm_adaptive as plain_dpm_adaptive, dpm_fast as plain_dpm_fast, ipndm, ipndm_v, lcm, unipc::Variant,
};
use crate::{Sampler, SigmaSpace, Start, options::ETA};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebUi {
    /// AUTOMATIC1111's Stable Diffusion WebUI.
    A1111,
    /// Forge, which began as a copy of it.
    Forge,
}

impl WebUi {
    /// Its samplers that others than it mean something else by, for the levels of [`Process::Diffusion`](crate::Process::Diffusion).
    pub fn samplers(self) -> Vec<Sampler> {
        let shared = [
            timesteps::ddim(),
            timesteps::ddim_cfgpp(self),
            timesteps::plms(),
            unipc::sampler(self, Variant::Bh1),
            unipc::sampler(self, Variant::Bh2),
            dpm_fast(),
            dpm_adaptive(),
            lcm::sampler().over(SigmaSpace::distilled),
        ];
        let of_forge = [
            // modules/rng.py `randn` sets torch's own generator to this, which backend/modules/k_diffusion_extra.py draws from.
            ddpm::sampler().steps_seeded(|seed| (seed % 65_536 + 100_000) % 65_536),
            ipndm::to_the_end(),
            ipndm_v::to_the_end(),
        ];
        let own: &[Sampler] = match self {
            Self::A1111 => &[],
            Self::Forge => &of_forge,
        };
        shared.iter().chain(own).cloned().collect()
    }
}

/// As all others with an `eta` these draw noise anew in every step unless it is set.
fn dpm_fast() -> Sampler {
    let levels = |start: &Start, given: &[f32]| Ok(plain_dpm_fast::levels(start, first_level(start, given)));
    plain_dpm_fast::with(&ETA).stochastic().levels(levels).noise_scale(|given, _| given[0])
}

fn dpm_adaptive() -> Sampler {
    let levels = |start: &Start, given: &[f32]| Ok(plain_dpm_adaptive::levels(start, first_level(start, given)));
    plain_dpm_adaptive::with(&ETA).stochastic().levels(levels).noise_scale(|given, _| given[0])
}

/// Where both begin: at the table's last level, even where noise is only as strong as the schedule's first says.
fn first_level(start: &Start, given: &[f32]) -> f64 {
    if is_part(start, given) { given[0].into() } else { start.space.ends().0 }
}

/// Whether a run takes only the last of its steps, as one that begins with a picture does.
fn is_part(start: &Start, given: &[f32]) -> bool {
    given.len() - 1 < start.steps
}
