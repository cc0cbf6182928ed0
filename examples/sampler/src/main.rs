//! A sampler behind a closure that owns state: a table from elsewhere and a count, as a plug-in or a child process would be owned.

use std::sync::{Arc, Mutex};

use forge::{
    Config, Forge, Job, Txt2Img,
    core_tensor::Latent,
    samplers::{Calls, Denoiser, Error, Noise, Sampler, Setting, Step, Stepper},
};

/// What the closure owns: how far each step goes past Euler's, and how many runs and steps there were.
#[derive(Debug, Default)]
struct Plugin {
    name: String,
    overshoot: Vec<f32>,
    runs: usize,
    steps: usize,
}

fn sampler(plugin: Arc<Mutex<Plugin>>) -> Sampler {
    let name = locked(&plugin).name.clone();
    let gain = Setting::number("gain", "Overshoot gain", [1.0, 0.0, 4.0], "What the overshoot is multiplied by.");
    let params = [gain.param()];
    let label = format!("Euler by {name}");
    Sampler::new(name, label, move |start| {
        locked(&plugin).runs += 1;
        Ok(Box::new(Overshooting { plugin: plugin.clone(), gain: start.get(&gain) as f32 }))
    })
    .about("Euler's step, and a little further while there are more to come.")
    .calls(Calls::Each(1))
    .params(params)
}

#[derive(Clone)]
struct Overshooting {
    plugin: Arc<Mutex<Plugin>>,
    gain: f32,
}

impl Stepper for Overshooting {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let (sigma, sigma_next) = (at.sigma(), at.sigma_next());
        let further = {
            let mut plugin = locked(&self.plugin);
            plugin.steps += 1;
            plugin.overshoot.get(at.index()).copied().unwrap_or(0.0) * self.gain
        };
        let denoised = model.denoise(&x, sigma)?.latent;
        let slope = (x.0.clone() - denoised.0) / sigma;
        let step = (sigma_next - sigma) * if sigma_next > 0.0 { 1.0 + further } else { 1.0 };
        Ok(Latent(x.0 + slope * step))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}

fn locked(plugin: &Mutex<Plugin>) -> std::sync::MutexGuard<'_, Plugin> {
    plugin.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn main() -> forge::Result<()> {
    // given a plug-in whose name and table are known when the program runs
    let name = format!("plugin-{}", std::process::id());
    let overshoot = (0..4).map(|i| 0.02 * i as f32).collect();
    let plugin = Arc::new(Mutex::new(Plugin { name: name.clone(), overshoot, ..Plugin::default() }));
    let catalog = forge::catalog().with_sampler(sampler(plugin.clone()))?;
    // when a config names it, as it names any other
    let mut config = Config::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../flux.toml").as_ref())?;
    (config.sampling.sampler, config.sampling.schedule) = (format!("{name} karras"), None);
    let forge = Forge::load(&config)?;
    let request = config.request_with(&catalog, || 0)?.steps(6);
    let drawn = |request: Txt2Img| -> forge::Result<Vec<u8>> {
        let mut run = forge.start(Job::of(request)?)?;
        run.by_ref().try_for_each(|event| event.map(drop))?;
        let picture = run.image()?;
        println!("{}", picture.infotext.lines().last().unwrap_or_default());
        assert!(picture.infotext.contains(&format!("Sampler: Euler by {name}")));
        Ok(picture.pixels)
    };
    let overshooting = drawn(request.clone())?;
    // then it took the steps, and its table counts
    let mut still = request.clone();
    still.pass.options.set("gain", forge::samplers::Value::Number(0.0));
    let euler = catalog.sampler("euler")?;
    let euler = request.with(|pass| pass.sampler = euler);
    let euler = {
        let mut run = forge.start(Job::of(euler)?)?;
        run.by_ref().try_for_each(|event| event.map(drop))?;
        run.image()?.pixels
    };
    assert_eq!(drawn(still)?, euler, "without its gain it is Euler's method");
    assert_ne!(overshooting, euler);
    let Plugin { runs, steps, .. } = &*locked(&plugin);
    println!("{runs} runs, {steps} steps");
    assert_eq!((*runs, *steps), (2, 12));
    Ok(())
}
