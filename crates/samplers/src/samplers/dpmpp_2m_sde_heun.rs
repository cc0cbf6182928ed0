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

pub(crate) static SAMPLER: Sampler = Sampler {
    id: "dpmpp_2m_sde_heun",
    label: "DPM++ 2M SDE Heun",
    aliases: &["k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"],
    stochastic: true,
    automatic: &schedules::exponential::SCHEDULE,
    about: "DPM++ 2M SDE in its variant after Heun.",
    params: &[&ETA, &S_NOISE],
    start: |start| exploding(start, Dpmpp2mSde::of(start, Solver::Heun)),
    ..Sampler::PLAIN
};
