//! The samplers, one file each. Adding one is its file, its `mod` and its line of [`ALL`].

mod ddim;
mod ddim_cfgpp;
mod ddpm;
mod deis;
mod dpm_2;
mod dpm_2_ancestral;
mod dpm_adaptive;
mod dpm_fast;
mod dpm_solver;
mod dpmpp_2m;
mod dpmpp_2m_cfg_pp;
mod dpmpp_2m_sde;
mod dpmpp_2m_sde_heun;
mod dpmpp_2m_v2;
mod dpmpp_2s_ancestral;
mod dpmpp_2s_ancestral_cfg_pp;
mod dpmpp_3m_sde;
mod dpmpp_sde;
mod er_sde;
pub(crate) mod euler;
mod euler_ancestral;
mod euler_ancestral_cfg_pp;
mod euler_cfg_pp;
mod exp_heun_2_x0;
mod exp_heun_2_x0_sde;
mod gradient_estimation;
mod gradient_estimation_cfg_pp;
mod heun;
mod heunpp2;
mod ipndm;
mod ipndm_v;
mod lcm;
mod lms;
mod plms;
mod res_2s;
mod res_multistep;
mod res_multistep_ancestral;
mod res_multistep_ancestral_cfg_pp;
mod res_multistep_cfg_pp;
mod restart;
mod sa_solver;
mod sa_solver_pece;
mod seeds_2;
mod seeds_3;
mod tcd;
mod unipc;
mod unipc_bh2;

use crate::Sampler;

/// Every sampler, in the order in which they are listed.
pub static ALL: &[&Sampler] = &[
    &euler::SAMPLER,
    &euler_ancestral::SAMPLER,
    &heun::SAMPLER,
    &heunpp2::SAMPLER,
    &dpm_2::SAMPLER,
    &dpm_2_ancestral::SAMPLER,
    &lms::SAMPLER,
    &dpm_fast::SAMPLER,
    &dpm_adaptive::SAMPLER,
    &dpmpp_2s_ancestral::SAMPLER,
    &dpmpp_sde::SAMPLER,
    &dpmpp_2m::SAMPLER,
    &dpmpp_2m_v2::SAMPLER,
    &dpmpp_2m_sde::SAMPLER,
    &dpmpp_2m_sde_heun::SAMPLER,
    &dpmpp_3m_sde::SAMPLER,
    &ddim::SAMPLER,
    &ddim_cfgpp::SAMPLER,
    &plms::SAMPLER,
    &unipc::SAMPLER,
    &unipc_bh2::SAMPLER,
    &lcm::SAMPLER,
    &tcd::SAMPLER,
    &ddpm::SAMPLER,
    &restart::SAMPLER,
    &ipndm::SAMPLER,
    &ipndm_v::SAMPLER,
    &deis::SAMPLER,
    &res_multistep::SAMPLER,
    &res_multistep_ancestral::SAMPLER,
    &res_2s::SAMPLER,
    &gradient_estimation::SAMPLER,
    &er_sde::SAMPLER,
    &seeds_2::SAMPLER,
    &seeds_3::SAMPLER,
    &exp_heun_2_x0::SAMPLER,
    &exp_heun_2_x0_sde::SAMPLER,
    &sa_solver::SAMPLER,
    &sa_solver_pece::SAMPLER,
    &euler_cfg_pp::SAMPLER,
    &euler_ancestral_cfg_pp::SAMPLER,
    &dpmpp_2m_cfg_pp::SAMPLER,
    &dpmpp_2s_ancestral_cfg_pp::SAMPLER,
    &res_multistep_cfg_pp::SAMPLER,
    &res_multistep_ancestral_cfg_pp::SAMPLER,
    &gradient_estimation_cfg_pp::SAMPLER,
];
