//! DPM-Solver++(2M) with noise, in its variant after Heun.
//!
//! Reference: k-diffusion `sample_dpmpp_2m_sde` with `solver_type='heun'`, commit 4601bf0.

use super::dpmpp_2m_sde::{Dpmpp2mSde, Solver};
use crate::{
    Sampler,
    exploding::exploding,
    options::{ETA, S_NOISE},
    schedules,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", |start| {
        Ok(exploding(start, Dpmpp2mSde::of(start, Solver::Heun)))
    })
    .aliases(["k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"])
    .about("DPM++ 2M SDE in its variant after Heun.")
    .stochastic()
    .along_a_path()
    .params([ETA.param(), S_NOISE.param()])
    .automatic(schedules::exponential::schedule())
}
