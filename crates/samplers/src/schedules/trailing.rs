//! Even steps of the model's time, counted from its last level.
//!
//! References: Lin et al. 2023 (Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv 2305.08891), table 2; diffusers
//! `timestep_spacing="trailing"` (`EulerDiscreteScheduler.set_timesteps`, 0.42), which rounds times to those of the table. A flow has
//! no table, and its times stay as they are.

use crate::{Options, Process, Schedule, SigmaSpace};

pub(crate) fn schedule() -> Schedule {
    Schedule::of("trailing", "Trailing", levels).about(
        "Even steps of the model's time, counted from its last level: `simple` where the steps divide a thousand.",
    )
}

fn levels(space: &SigmaSpace, steps: usize, _: &Options) -> Vec<f64> {
    let time = |i: usize| 1000.0 - i as f64 * 1000.0 / steps as f64;
    let rounded = |time: f64| match space.process() {
        Process::Diffusion => time.round_ties_even(),
        Process::Flow => time,
    };
    (0..steps).map(|i| space.thousandth(rounded(time(i)) - 1.0)).collect()
}
