//! Every sampler of rectified flows on a Flux in miniature, against k-diffusion, diffusers and the papers' formulas in float64.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::sync::Arc;

use core_tensor::{Device, Latent, tensor, values};
use diffusion_engine::{Around, Clock, Conditioned, Conditions, Encoded, Guidance, Inside, Job, Piece, Wrap};
use fixtures::{Golden, TRAJECTORY, deviation};
use forge::{Config, Forge, Size};
use samplers::{Noise, Options, Processes, Registry, Sigmas, Start, Step};

use crate::tiny::Tiny;

/// Noise that was drawn beforehand, one row a draw.
struct Given(std::vec::IntoIter<Vec<f32>>);

impl Noise for Given {
    fn next(&mut self, like: &Latent) -> Latent {
        Latent(tensor(self.0.next().expect("a row for each draw"), like.0.dims(), &Device::flex()))
    }

    fn between(&mut self, like: &Latent, _: f32, _: f32) -> Latent {
        self.next(like)
    }
}

#[test]
fn samplers_end_where_the_references_do() {
    // given tiny-dev under its prompts, for pictures of 32 × 32 pixels
    let config: Config = Tiny::of("tiny-dev").config();
    let request = config.request(|| 0).unwrap().size(Size { width: 32, height: 32 });
    let job = Job::of(request).unwrap();
    let pass = &job.passes()[0];
    let model = Forge::load(&config).unwrap().model(&job).unwrap();
    let pieces = |text: &String| vec![Piece::plain(text)];
    let encode = |text: &String| model.encode(&model.prompt(pieces(text), pass), &Inside::default()).unwrap();
    let under: Vec<Arc<Encoded>> = [&pass.prompt, &pass.negative].map(|text| Arc::new(encode(text))).to_vec();
    let space = model.sigma_space(pass);
    let golden = Golden::open("tiny-dev/samplers.safetensors");
    let shape: [usize; 4] = golden.shape("start").try_into().unwrap();
    let rows = |name: &str| golden.floats(name).chunks(shape.iter().product()).map(<[f32]>::to_vec).collect::<Vec<_>>();

    let (options, mut worst) = (Options::default(), Vec::new());
    for schedule in ["simple", "karras"] {
        let sigmas = golden.floats(&format!("{schedule}.sigmas"));
        let start = Start { space, steps: sigmas.len() - 1, options: &options };
        // Without those that `crates/samplers/tests/formulas.rs` holds.
        let registry = Registry::builtin();
        let of_references = registry.samplers().iter().filter(|sampler| !sampler.id.starts_with("exp_heun_2_x0"));
        for sampler in of_references.filter(|sampler| sampler.processes == Processes::All) {
            // when a sampler takes its steps
            let predictor = model.clone().prepare(pass, under.clone(), &Inside::default()).unwrap();
            let levels = Sigmas::literal(&sigmas.iter().map(|&s| f64::from(s)).collect::<Vec<_>>()).unwrap();
            let clock = Clock::default();
            let again = Conditioned::new(predictor, Conditions::constant(true), Inside::default()).shared();
            let at = Around { pass, space, sigmas: &levels, shape, clock: &clock, predicts: None, again: &again };
            let mut denoiser = Guidance.around(again.denoiser(), &at).unwrap();
            let mut noise = Given(rows("noise").into_iter());
            let mut stepper = sampler.start(&start).unwrap();
            let mut x = Latent(tensor(golden.floats("start"), shape, &Device::flex()));
            for index in 0..start.steps {
                x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut *denoiser, &mut noise).unwrap();
            }
            // then it is where the reference is
            let name = format!("{schedule}.{}", sampler.id);
            let expected = golden.floats(&name);
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            worst.push((deviation(&values(&x.0), &expected) / f64::from(largest), name));
        }
    }
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert!(worst.len() >= 70, "{} runs", worst.len());
    assert!(worst[0].0 <= TRAJECTORY, "{worst:?}");
}
