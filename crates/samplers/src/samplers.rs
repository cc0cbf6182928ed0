//! The samplers, one file each. Adding one is its file, its `mod` and its line of [`all`].

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
pub(crate) mod web_ui;

use crate::Sampler;

/// Every sampler, in the order in which they are listed.
pub(crate) fn all() -> Vec<Sampler> {
    vec![
        euler::sampler(),
        euler_ancestral::sampler(),
        heun::sampler(),
        heunpp2::sampler(),
        dpm_2::sampler(),
        dpm_2_ancestral::sampler(),
        lms::sampler(),
        dpm_fast::sampler(),
        dpm_adaptive::sampler(),
        dpmpp_2s_ancestral::sampler(),
        dpmpp_sde::sampler(),
        dpmpp_2m::sampler(),
        dpmpp_2m_v2::sampler(),
        dpmpp_2m_sde::sampler(),
        dpmpp_2m_sde_heun::sampler(),
        dpmpp_3m_sde::sampler(),
        ddim::sampler(),
        ddim_cfgpp::sampler(),
        plms::sampler(),
        unipc::sampler(),
        unipc_bh2::sampler(),
        lcm::sampler(),
        tcd::sampler(),
        ddpm::sampler(),
        restart::sampler(),
        ipndm::sampler(),
        ipndm_v::sampler(),
        deis::sampler(),
        res_multistep::sampler(),
        res_multistep_ancestral::sampler(),
        res_2s::sampler(),
        gradient_estimation::sampler(),
        er_sde::sampler(),
        seeds_2::sampler(),
        seeds_3::sampler(),
        exp_heun_2_x0::sampler(),
        exp_heun_2_x0_sde::sampler(),
        sa_solver::sampler(),
        sa_solver_pece::sampler(),
        euler_cfg_pp::sampler(),
        euler_ancestral_cfg_pp::sampler(),
        dpmpp_2m_cfg_pp::sampler(),
        dpmpp_2s_ancestral_cfg_pp::sampler(),
        res_multistep_cfg_pp::sampler(),
        res_multistep_ancestral_cfg_pp::sampler(),
        gradient_estimation_cfg_pp::sampler(),
    ]
}
