//! Noise, schedules and steppers against torch, diffusers and k-diffusion.

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
fn schedules_are_those_of_diffusers_and_comfyui() {
    let golden = Golden::open("schedules.safetensors");
    let mut compared = 0;
    for name in golden.names() {
        // schedule.family.WIDTHxHEIGHT.steps, without a size for schnell
        let parts: Vec<&str> = name.split('.').collect();
        let (schedule, mu, steps) = match parts[..] {
            [schedule, "dev", size, steps] => {
                let (w, h) = size.split_once('x').unwrap();
                let tokens = w.parse::<usize>().unwrap() / 16 * (h.parse::<usize>().unwrap() / 16);
                (schedule, Some(samplers::mu(tokens)), steps)
            }
            [schedule, "schnell", .., steps] => (schedule, None, steps),
            _ => panic!("a golden of an unknown kind: {name}"),
        };
        let sigmas = samplers::schedule(schedule).unwrap().sigmas(&SigmaSpace::Flow { mu }, steps.parse().unwrap());
        let worst = deviation(&sigmas.unwrap(), &golden.floats(&name));
        assert!(worst <= SIGMA, "{name} is off by {worst:.2e}");
        compared += 1;
    }
    assert!(compared >= 50, "{compared} schedules");
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
    for (index, window) in sigmas.windows(2).enumerate() {
        let at = Step { index, sigma: window[0], sigma_next: window[1] };
        x = stepper.step(at, x, &mut Analytic(process), &mut noise).unwrap();
        let largest = expected[index + 1].iter().fold(0f32, |m, v| m.max(v.abs()));
        let worst = deviation(&values(&x.0), &expected[index + 1]) / f64::from(largest);
        assert!(worst <= TRAJECTORY, "{name}, step {}: {worst:.2e}", index + 1);
    }
    assert_eq!(sigmas.len(), expected.len());
}

#[test]
fn euler_takes_the_steps_of_k_diffusion() {
    trajectory_agrees("euler", Process::Diffusion, "sigmas", "euler");
    trajectory_agrees("euler", Process::Flow, "rf.sigmas", "rf.euler");
}

#[test]
fn euler_ancestral_takes_the_steps_of_k_diffusion() {
    trajectory_agrees("euler_ancestral", Process::Diffusion, "sigmas", "euler_ancestral.eta1");
}

#[test]
fn euler_ancestral_keeps_the_marginals_of_rectified_flow() {
    trajectory_agrees("euler_ancestral", Process::Flow, "rf.sigmas", "rf.euler_ancestral.eta1");
}
