//! Adds a residual behind one block of the network, and counts the calls of the model: a `Wrap` with its `Hooks`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use forge::{
    Config, Forge, Job, Wrap,
    core_tensor::{Latent, Tensor},
    diffusion_engine::{Around, Call, Error, HookError, Hooks, Image, Place, Site},
    samplers::{Denoised, Denoiser, Error as SamplerError, Step},
};

/// What is added behind the first double block, as a ControlNet does it, and what is counted.
#[derive(Clone, Default)]
struct Residual {
    strength: f32,
    calls: Arc<AtomicUsize>,
    steps: Arc<AtomicUsize>,
    added: Arc<AtomicUsize>,
}

impl Wrap for Residual {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, Error> {
        println!("wrapped around {} steps of {}", at.sigmas.steps(), at.pass.size);
        Ok(Box::new(Counting { inner, counts: self.clone() }))
    }

    fn place(&self) -> Place {
        Place::Inside
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

struct Counting {
    inner: Box<dyn Denoiser>,
    counts: Residual,
}

impl Denoiser for Counting {
    fn begin(&mut self, step: &Step) {
        self.counts.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, SamplerError> {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.denoise(x, sigma)
    }
}

impl Hooks for Residual {
    fn after(&self, at: Site, call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        // The positive prompt's pictures alone.
        let here = Site::block("transformer", "double_blocks", 0).stream("img");
        if at != here || call.is_none_or(|call| call.prompt > 0) {
            return Ok(x);
        }
        self.added.fetch_add(1, Ordering::Relaxed);
        let residual = x.clone().mean_dim(1) * self.strength; // what a network beside this one would give
        Ok(x + residual)
    }
}

fn main() -> forge::Result<()> {
    let config = Config::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../flux.toml").as_ref())?;
    let forge = Forge::load(&config)?;
    let drawn = |residual: &Residual| -> forge::Result<Image> {
        let job = Job::of(config.request(|| 0)?.steps(8))?.with(Arc::new(residual.clone()));
        let mut run = forge.start(job)?;
        run.by_ref().try_for_each(|event| event.map(drop))?;
        run.image()
    };
    let plain = drawn(&Residual::default())?;
    let changed = Residual { strength: 0.5, ..Residual::default() };
    let picture = drawn(&changed)?;
    let [calls, steps, added] = [&changed.calls, &changed.steps, &changed.added].map(|n| n.load(Ordering::Relaxed));
    println!("{calls} calls in {steps} steps, {added} residuals");
    assert_eq!((calls, steps, added), (8, 8, 8), "euler calls the model once in each step");
    assert_ne!(picture.pixels, plain.pixels, "a residual changes the picture");
    Ok(())
}
