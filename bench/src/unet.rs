//! The UNet of Stable Diffusion and its decoder at their true shapes.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use core_tensor::{Compute, Device, Residency, Tensor, Weights, safetensors::Safetensors};
use diffusion_engine::{Autoencoder, AutoencoderKl, Inside, LatentScaling, VaeConfig};
use fixtures::Listed;
use stable_diffusion::{LdmUnetNames, Unet, UnetConfig};

use crate::{
    blocks::{Random, random},
    report::{Report, middle},
};

const STEP: &str = "sd15 unet 64x64, 77 tokens";
const PAIR: &str = "sd15 unet 64x64, two as one batch";
const DECODER: &str = "sd15 decoder 64x64";
const LOAD: &str = "sd15 load of a file";
const SIDE: usize = 64; // a picture of 512 x 512
const TOKENS: usize = 77;
const CONTEXT: usize = 768; // SD 1.5: cross_attention_dim

/// Operations of the products and convolutions of a step, as torch's `FlopCounterMode` counts them for diffusers' UNet.
const WORK: f64 = 803_273_441_280.0;

/// The same of a decoder's call, counted by hand: convolutions, and the attention of its middle.
const DECODER_WORK: f64 = 2_514_518_933_504.0;

const SCALING: LatentScaling = LatentScaling { scale: 0.182_15, shift: 0.0 }; // stable-diffusion-v1-5, vae/config.json

/// One step of SD 1.5 at 512 x 512 without guidance, and two calls of a step with guidance as one, of a batch.
pub(crate) fn sd15(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants(STEP) && !report.wants(PAIR) {
        return Ok(());
    }
    let source = LdmUnetNames::over(Random::like(&Listed::open("sd15.diffusers-unet")));
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).computed_in(compute);
        let unet = Unet::load(&weights, &UnetConfig::default())?;
        let (x, context) = (random([1, 4, SIDE, SIDE]), random([1, TOKENS, CONTEXT]));
        let mut step = || unet.forward(x.clone(), 500.0, context.clone(), None, &Inside::default()).map(drop);
        if report.wants(STEP) {
            report.measured(STEP, Some(compute), WORK, timed(&mut step)?);
        }
        if report.wants(PAIR) {
            let x = Tensor::cat(vec![x.clone(), x.clone()], 0);
            let context = Tensor::cat(vec![context.clone(), context.clone()], 0);
            let mut both = || unet.forward(x.clone(), 500.0, context.clone(), None, &Inside::default()).map(drop);
            report.measured(PAIR, Some(compute), 2.0 * WORK, timed(&mut both)?);
        }
    }
    Ok(())
}

/// One latent of SD 1.5 to a picture of 512 x 512.
pub(crate) fn decoder(report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !report.wants(DECODER) {
        return Ok(());
    }
    let source = Random::like(&Listed::open("sd15.ldm"));
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).computed_in(compute);
        let vae = AutoencoderKl::load(&weights, &VaeConfig::default(), SCALING)?;
        let z = random([1, 4, SIDE, SIDE]);
        let mut decode = || vae.decode(z.clone(), &Inside::default()).map(drop);
        report.measured(DECODER, Some(compute), DECODER_WORK, timed(&mut decode)?);
    }
    Ok(())
}

/// A file of SD 1.5 that the system holds in memory, to a UNet that can be called.
pub(crate) fn load(checkpoint: Option<&str>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let Some(checkpoint) = checkpoint.filter(|_| report.wants(LOAD)) else { return Ok(()) };
    for case in ["first", "warm"] {
        let start = Instant::now();
        let file = Safetensors::open(Path::new(checkpoint))?;
        let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked).computed_in(Compute::Bf16);
        let unet = Unet::load(&weights, &UnetConfig::default())?;
        report.whole(&format!("{LOAD}, {case}"), start.elapsed().as_secs_f64());
        drop(unet);
    }
    Ok(())
}

/// The median of calls of five seconds, five at least, after one that fills the allocator's free lists.
fn timed<E>(call: &mut dyn FnMut() -> Result<(), E>) -> Result<f64, E> {
    call()?;
    let (mut seconds, until) = (Vec::new(), Instant::now() + Duration::from_secs(5));
    while seconds.len() < 5 || Instant::now() < until {
        let start = Instant::now();
        call()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(middle(seconds))
}
