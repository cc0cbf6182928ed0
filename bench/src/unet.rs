//! The UNet of Stable Diffusion at its true shape, with random weights.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use core_tensor::{Compute, Device, Residency, Weights};
use diffusion_engine::Inside;
use fixtures::Listed;
use stable_diffusion::{LdmUnetNames, Unet, UnetConfig};

use crate::{
    blocks::{Random, random},
    report::{Report, middle},
};

const STEP: &str = "sd15 unet 64x64, 77 tokens";
const SIDE: usize = 64; // a picture of 512 x 512
const TOKENS: usize = 77;
const CONTEXT: usize = 768; // SD 1.5: cross_attention_dim

/// Operations of the products and convolutions of a step, as torch's `FlopCounterMode` counts them for diffusers' UNet.
const WORK: f64 = 803_273_441_280.0;

/// One step of SD 1.5 at 512 x 512 without guidance.
pub(crate) fn sd15(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants(STEP) {
        return Ok(());
    }
    let source = LdmUnetNames::over(Random::like(&Listed::open("sd15.diffusers-unet")));
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).computed_in(compute);
        let unet = Unet::load(&weights, &UnetConfig::default())?;
        let (x, context) = (random([1, 4, SIDE, SIDE]), random([1, TOKENS, CONTEXT]));
        let mut seconds = Vec::new();
        let until = Instant::now() + Duration::from_secs(5);
        while seconds.len() < 6 || Instant::now() < until {
            let start = Instant::now();
            unet.forward(x.clone(), 500.0, context.clone(), None, &Inside::default())?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        // The first call fills the allocator's free lists.
        report.measured(STEP, Some(compute), WORK, middle(seconds.split_off(1)));
    }
    Ok(())
}
