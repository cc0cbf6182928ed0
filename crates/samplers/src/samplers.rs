//! The samplers, one file each. Adding one is its file, its `mod` and its line of [`ALL`].

mod dpm_2;
mod dpm_2_ancestral;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod dpmpp_2m_sde_heun;
mod dpmpp_2s_ancestral;
mod dpmpp_3m_sde;
pub(crate) mod euler;
mod euler_ancestral;
mod gradient_estimation;
mod heun;
mod ipndm;
mod lcm;
mod lms;
mod res_multistep;

use crate::Sampler;

/// Every sampler, in the order in which they are listed.
pub static ALL: &[&Sampler] = &[
    &euler::SAMPLER,
    &euler_ancestral::SAMPLER,
    &heun::SAMPLER,
    &dpm_2::SAMPLER,
    &dpm_2_ancestral::SAMPLER,
    &lms::SAMPLER,
    &dpmpp_2s_ancestral::SAMPLER,
    &dpmpp_2m::SAMPLER,
    &dpmpp_2m_sde::SAMPLER,
    &dpmpp_2m_sde_heun::SAMPLER,
    &dpmpp_3m_sde::SAMPLER,
    &ipndm::SAMPLER,
    &res_multistep::SAMPLER,
    &gradient_estimation::SAMPLER,
    &lcm::SAMPLER,
];
