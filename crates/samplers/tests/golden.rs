//! Noise, schedules and steppers against torch, diffusers, k-diffusion and published tables.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Latent, tensor, values};
use fixtures::{Golden, SIGMA, TRAJECTORY, deviation};
use samplers::{
    Denoiser, Error, Noise, Process, SigmaSpace, Step,
    noise::{Generator, NoiseSource},
};

#[test]
fn cpu_noise_is_torch_randn_bit_for_bit() {
    let golden = Golden::open("noise.safetensors");
    let mut compared = 0;
    for name in golden.names() {
        let seed: u64 = name.split('.').nth(1).unwrap().parse().unwrap();
        let expected = golden.floats(&name);
        let found = Generator::new(NoiseSource::Cpu, seed).randn(expected.len());
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "{name}");
        compared += 1;
    }
    assert!(compared >= 14, "{compared} tensors");
}

#[test]
fn schedules_are_those_of_the_references() {
    let golden = Golden::open("schedules.safetensors");
    let mut compared = 0;
    for name in golden.names() {
        // schedule.family.WIDTHxHEIGHT.steps, without a size for schnell and Stable Diffusion
        let parts: Vec<&str> = name.split('.').collect();
        let (schedule, space, steps) = match parts[..] {
            [schedule, "dev", size, steps] => {
                let (w, h) = size.split_once('x').unwrap();
                let tokens = w.parse::<usize>().unwrap() / 16 * (h.parse::<usize>().unwrap() / 16);
                (schedule, SigmaSpace::Flow { mu: Some(samplers::mu(tokens)) }, steps)
            }
            [schedule, "schnell", steps] => (schedule, SigmaSpace::Flow { mu: None }, steps),
            [schedule, "sd", steps] => (schedule, SigmaSpace::Discrete, steps),
            _ => panic!("a golden of an unknown kind: {name}"),
        };
        let sigmas = samplers::schedule(schedule).unwrap().sigmas(&space, steps.parse().unwrap()).unwrap();
        let expected = golden.floats(&name);
        assert_eq!(sigmas.len(), expected.len(), "{name}");
        for (found, expected) in sigmas.iter().zip(&expected) {
            let off = f64::from((found - expected).abs());
            assert!(off <= SIGMA * f64::from(*expected), "{name}: {found}, expected {expected}");
        }
        compared += 1;
    }
    assert!(compared >= 200, "{compared} schedules");
}

/// Ten steps over Stable Diffusion's table, to five digits, computed apart from both this engine and its goldens.
#[test]
fn schedules_of_stable_diffusion_are_those_of_the_published_table() {
    let tables: [(&str, [f32; 11]); 11] = [
        ("normal", [14.615, 7.8399, 4.6092, 2.9183, 1.9502, 1.3449, 0.93236, 0.62498, 0.36866, 0.029167, 0.0]),
        ("sgm_uniform", [14.615, 8.3072, 5.0924, 3.3251, 2.2797, 1.6156, 1.1629, 0.83188, 0.57119, 0.3437, 0.0]),
        ("simple", [14.615, 8.3028, 5.0878, 3.3211, 2.2765, 1.6129, 1.1606, 0.82986, 0.56928, 0.34167, 0.0]),
        ("turbo", [14.615, 8.3028, 5.0878, 3.3211, 2.2765, 1.6129, 1.1606, 0.82986, 0.56928, 0.34167, 0.0]),
        ("ddim_uniform", [8.3907, 5.1344, 3.3478, 2.2929, 1.6237, 1.1682, 0.83565, 0.57405, 0.34619, 0.041314, 0.0]),
        ("karras", [14.615, 9.1029, 5.4784, 3.1686, 1.7494, 0.91407, 0.44692, 0.2014, 0.08191, 0.029167, 0.0]),
        ("exponential", [14.615, 7.3249, 3.6712, 1.84, 0.92222, 0.46222, 0.23166, 0.11611, 0.058195, 0.029167, 0.0]),
        ("kl_optimal", [14.615, 4.2324, 2.3937, 1.5971, 1.133, 0.81524, 0.57291, 0.37248, 0.19529, 0.029167, 0.0]),
        ("beta_forge", [14.615, 13.928, 12.491, 10.598, 8.4424, 6.2014, 4.0462, 2.1528, 0.71602, 0.029167, 0.0]),
        ("beta", [14.615, 11.543, 7.3718, 4.3728, 2.6152, 1.6183, 1.0273, 0.65489, 0.39551, 0.19906, 0.0]),
        ("linear_quadratic", [14.615, 14.542, 14.468, 14.395, 14.322, 14.249, 13.621, 11.882, 9.0318, 5.0713, 0.0]),
    ];
    for (name, expected) in tables {
        is_table(name, SigmaSpace::Discrete, &expected);
    }
}

/// Four steps of Flux dev at 1024 × 1024, from the same source.
#[test]
fn schedules_of_flux_are_those_of_the_published_table() {
    let tables: [(&str, [f32; 5]); 8] = [
        ("flux", [1.0, 0.90453, 0.75951, 0.51284, 0.0]),
        ("simple", [1.0, 0.90453, 0.75951, 0.51284, 0.0]),
        ("normal", [1.0, 0.86338, 0.61249, 0.00099652, 0.0]),
        ("sgm_uniform", [1.0, 0.90457, 0.75963, 0.51316, 0.0]),
        ("beta_forge", [1.0, 0.72467, 0.27564, 0.00031575, 0.0]),
        ("beta", [1.0, 0.93678, 0.75958, 0.4025, 0.0]),
        ("karras", [1.0, 0.1635, 0.014118, 0.00031575, 0.0]),
        ("polyexponential", [1.0, 0.068092, 0.0046370, 0.00031575, 0.0]),
    ];
    for (name, expected) in tables {
        is_table(name, SigmaSpace::Flow { mu: Some(1.15) }, &expected);
    }
}

fn is_table(name: &str, space: SigmaSpace, expected: &[f32]) {
    const FIVE_DIGITS: f32 = 6e-5;
    let sigmas = samplers::schedule(name).unwrap().sigmas(&space, expected.len() - 1).unwrap();
    assert_eq!(sigmas.len(), expected.len(), "{name}");
    for (found, expected) in sigmas.iter().zip(expected) {
        assert!((found - expected).abs() <= FIVE_DIGITS * expected, "{name}: {sigmas:?}, expected {expected}");
    }
}

/// The optimal denoiser of unit-variance data.
struct Analytic(Process);

impl Denoiser for Analytic {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error> {
        let factor = match self.0 {
            Process::Diffusion => 1.0 / (1.0 + sigma * sigma),
            Process::Flow => (1.0 - sigma) / ((1.0 - sigma).powi(2) + sigma * sigma),
        };
        Ok(Latent(x.0.clone() * factor))
    }
}

/// Noise that was drawn beforehand, one row a step.
struct Given(std::vec::IntoIter<Vec<f32>>);

impl Noise for Given {
    fn next(&mut self, like: &Latent) -> Latent {
        Latent(tensor(self.0.next().expect("one row a step"), like.0.dims(), &Device::flex()))
    }
}

fn trajectory_agrees(sampler: &str, process: Process, sigmas: &str, name: &str) {
    let golden = Golden::open("samplers.safetensors");
    let shape: [usize; 5] = golden.shape(name).try_into().unwrap();
    let len = shape[1..].iter().product();
    let expected: Vec<Vec<f32>> = golden.floats(name).chunks(len).map(<[f32]>::to_vec).collect();
    let sigmas = golden.floats(sigmas);
    let noise: Vec<Vec<f32>> = golden.floats("noise").chunks(len).map(<[f32]>::to_vec).collect();

    let mut noise = Given(noise.into_iter());
    let mut stepper = (samplers::sampler(sampler).unwrap().start)(process);
    let start = [shape[1], shape[2], shape[3], shape[4]];
    let mut x = Latent(tensor(expected[0].clone(), start, &Device::flex()));
    for index in 0..sigmas.len() - 1 {
        let at = Step::of(&sigmas, index).unwrap();
        x = stepper.step(at, x, &mut Analytic(process), &mut noise).unwrap();
        let largest = expected[index + 1].iter().fold(0f32, |m, v| m.max(v.abs()));
        let worst = deviation(&values(&x.0), &expected[index + 1]) / f64::from(largest);
        assert!(worst <= TRAJECTORY, "{name}, step {}: {worst:.2e}", index + 1);
    }
    assert_eq!(sigmas.len(), expected.len());
}

#[test]
fn samplers_take_the_steps_of_the_references() {
    for sampler in samplers::SAMPLERS {
        trajectory_agrees(sampler.id, Process::Diffusion, "sigmas", sampler.id);
        trajectory_agrees(sampler.id, Process::Flow, "rf.sigmas", &format!("rf.{}", sampler.id));
    }
}

/// Counts what a sampler asks for.
struct Counted<T> {
    inner: T,
    calls: usize,
}

impl Denoiser for Counted<Analytic> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Latent, Error> {
        self.calls += 1;
        self.inner.denoise(x, sigma)
    }
}

impl Noise for Counted<Generator> {
    fn next(&mut self, like: &Latent) -> Latent {
        self.calls += 1;
        let shape = like.0.dims();
        Latent(tensor(self.inner.randn(shape.iter().product()), shape, &Device::flex()))
    }
}

#[test]
fn samplers_do_what_their_entries_declare() {
    const LARGEST: f32 = 100.0;
    for sampler in samplers::SAMPLERS {
        for (process, space) in
            [(Process::Diffusion, SigmaSpace::Discrete), (Process::Flow, SigmaSpace::Flow { mu: Some(1.15) })]
        {
            for steps in [1, 2, 20, 1000] {
                // given a run of some steps
                let sigmas = samplers::SIMPLE.sigmas(&space, steps).unwrap();
                let mut model = Counted { inner: Analytic(process), calls: 0 };
                let mut noise = Counted { inner: Generator::new(NoiseSource::Cpu, 1), calls: 0 };
                let start = noise.inner.randn(16);
                let mut x = Latent(tensor(start, [1, 1, 4, 4], &Device::flex()) * sigmas[0]);
                let mut stepper = (sampler.start)(process);
                for index in 0..sigmas.steps() {
                    x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut model, &mut noise).unwrap();
                }
                // then it calls the model as often as declared, but only once in the step to zero, where a second has no place
                let (id, evals) = (sampler.id, usize::from(sampler.evals_per_step));
                assert_eq!(model.calls, (steps - 1) * evals + 1, "{id}, {steps} steps");
                // and draws noise if it is declared to, and not in the last step
                let drawn = if sampler.stochastic { steps - 1 } else { 0 };
                assert_eq!(noise.calls, drawn, "{id}, {steps} steps");
                assert!(values(&x.0).iter().all(|v| v.abs() < LARGEST), "{id}, {steps} steps: {:?}", values(&x.0));
            }
        }
    }
}
