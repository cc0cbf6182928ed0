//! Samplers and schedules that no golden holds, against their formulas in f64.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Latent, tensor, values};
use fixtures::{SIGMA, TRAJECTORY};
use samplers::{Denoised, Denoiser, Error, Noise, Options, Process, Registry, SigmaSpace, Start, Step, Value};

const SIZE: usize = 16;

/// A model that answers each value by itself.
struct Each<F>(F);

impl<F: Fn(f64, f64) -> f64 + Send> Denoiser for Each<F> {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let answers = values(&x.0).iter().map(|&v| (self.0)(v.into(), sigma.into()) as f32).collect();
        Ok(Latent(tensor(answers, x.0.dims(), &Device::flex())).into())
    }
}

/// Numbers that stand for noise, other ones in each draw.
fn draw(count: usize, i: usize) -> f64 {
    (((count * SIZE + i) as f64 * 12.9898).sin() * 43758.5453).fract() * 2.0
}

#[derive(Default)]
struct Draws(usize);

impl Noise for Draws {
    fn next(&mut self, like: &Latent) -> Latent {
        self.0 += 1;
        let row = (0..SIZE).map(|i| draw(self.0 - 1, i) as f32).collect();
        Latent(tensor(row, like.0.dims(), &Device::flex()))
    }

    fn between(&mut self, like: &Latent, _: f32, _: f32) -> Latent {
        self.next(like)
    }
}

fn space(process: Process) -> SigmaSpace {
    match process {
        Process::Diffusion => SigmaSpace::Discrete,
        Process::Flow => SigmaSpace::Flow { shift: None, tokens: 4096 },
    }
}

/// Where a sampler goes from some latent over these levels, one row a step.
fn taken(
    id: &str,
    process: Process,
    options: &Options,
    levels: &[f64],
    model: impl Fn(f64, f64) -> f64 + Send,
) -> Vec<Vec<f64>> {
    let start = Start { space: space(process), steps: levels.len() - 1, options };
    let mut stepper = Registry::builtin().sampler(id).unwrap().start(&start).unwrap();
    let sigmas: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
    let (mut model, mut noise) = (Each(model), Draws::default());
    let first = (0..SIZE).map(|i| begun(levels[0], i) as f32).collect();
    let mut x = Latent(tensor(first, [1, 1, 4, 4], &Device::flex()));
    let step = |index| {
        x = stepper.step(Step::of(&sigmas, index).unwrap(), x.clone(), &mut model, &mut noise).unwrap();
        values(&x.0).into_iter().map(f64::from).collect()
    };
    (0..levels.len() - 1).map(step).collect()
}

fn begun(sigma: f64, i: usize) -> f64 {
    sigma * (1.3 * i as f64 + 0.4).sin()
}

fn agree(what: &str, found: &[Vec<f64>], expected: &[Vec<f64>]) {
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs() / largest).fold(0.0, f64::max);
        assert!(off <= TRAJECTORY, "{what}, step {step}: {off:.1e}");
    }
}

/// ComfyUI `sample_seeds_2` with `r = 1` and `solver_type = phi_2`, on the scale of half the log signal-to-noise ratio.
fn exponential_heun(
    process: Process,
    levels: &[f64],
    [eta, s_noise]: [f64; 2],
    model: impl Fn(f64, f64) -> f64,
) -> Vec<Vec<f64>> {
    let signal = |sigma: f64| match process {
        Process::Diffusion => 1.0,
        Process::Flow => 1.0 - sigma,
    };
    let lambda = |sigma: f64| (signal(sigma) / sigma).ln();
    let mut x: Vec<f64> = (0..SIZE).map(|i| begun(levels[0], i)).collect();
    let mut draws = 0;
    let mut rows = Vec::new();
    for pair in levels.windows(2) {
        let (sigma, next) = (pair[0], pair[1]);
        let first: Vec<f64> = x.iter().map(|&x| model(x, sigma)).collect();
        if next == 0.0 {
            rows.push(first);
            break;
        }
        let h = lambda(next) - lambda(sigma);
        let z = -h * (1.0 + eta);
        let kept = next / sigma * (-h * eta).exp();
        let noise = next * (1.0 - (-2.0 * h * eta).exp()).sqrt() * s_noise;
        let is_noisy = eta > 0.0 && s_noise > 0.0;
        let drawn: Vec<f64> = (0..SIZE).map(|i| if is_noisy { noise * draw(draws, i) } else { 0.0 }).collect();
        // The second draw's segment has no length.
        draws += if is_noisy { 2 } else { 0 };
        let b2 = (z.exp_m1() - z) / z;
        let b1 = z.exp_m1() - b2;
        x = (0..SIZE)
            .map(|i| {
                let there = kept * x[i] - signal(next) * z.exp_m1() * first[i] + drawn[i];
                let second = model(there, next);
                kept * x[i] - signal(next) * (b1 * first[i] + b2 * second) + drawn[i]
            })
            .collect();
        rows.push(x.clone());
    }
    rows
}

/// Something that bends: no optimal denoiser, but one that a wrong weight or level would show with.
fn bent(x: f64, sigma: f64) -> f64 {
    (0.7 * x / (0.3 + sigma)).tanh() + 0.2 * sigma.sin()
}

const DIFFUSION: [f64; 7] = [14.6, 6.0, 2.5, 1.0, 0.3, 0.03, 0.0];
const FLOW: [f64; 6] = [0.98, 0.8, 0.5, 0.2, 0.03, 0.0];

#[test]
fn exponential_heun_steps_as_its_formula() {
    for (process, levels) in [(Process::Diffusion, &DIFFUSION[..]), (Process::Flow, &FLOW)] {
        let mut options = Options::default();
        let found = taken("exp_heun_2_x0", process, &options, levels, bent);
        agree("exp_heun_2_x0", &found, &exponential_heun(process, levels, [0.0, 0.0], bent));
        for [eta, s_noise] in [[1.0, 1.0], [0.4, 0.7], [0.0, 1.0]] {
            options.set("eta", Value::Number(eta));
            options.set("s_noise", Value::Number(s_noise));
            let found = taken("exp_heun_2_x0_sde", process, &options, levels, bent);
            agree("exp_heun_2_x0_sde", &found, &exponential_heun(process, levels, [eta, s_noise], bent));
        }
    }
}

/// What sets it apart from `seeds_2` with `r = 1`: a denoised latent that changes evenly with log sigma is met exactly.
#[test]
fn exponential_heun_is_exact_where_the_denoised_latent_changes_evenly() {
    let (from, slope) = (0.5, 0.3);
    let even = |_: f64, sigma: f64| from + slope * sigma.ln();
    let levels = &DIFFUSION[..6];
    let found = taken("exp_heun_2_x0", Process::Diffusion, &Options::default(), levels, even);
    // x' = D - x along t = -ln sigma, with D = from - slope · t: x - D - slope falls as e^-t.
    let rest = |x: f64, sigma: f64| (x - even(0.0, sigma) - slope) / sigma;
    let expected: Vec<Vec<f64>> = levels[1..]
        .iter()
        .map(|&sigma| {
            let at = |i| rest(begun(levels[0], i), levels[0]) * sigma + even(0.0, sigma) + slope;
            (0..SIZE).map(at).collect()
        })
        .collect();
    agree("exp_heun_2_x0", &found, &expected);
    let mut options = Options::default();
    options.set("eta", Value::Number(0.0));
    options.set("r", Value::Number(1.0));
    let other = taken("seeds_2", Process::Diffusion, &options, levels, even);
    assert!((other[0][0] - expected[0][0]).abs() > 1e-2);
}

fn levels(name: &str, space: &SigmaSpace, steps: usize, options: &Options) -> Vec<f64> {
    Registry::builtin()
        .schedule(name)
        .unwrap()
        .sigmas(space, steps, options)
        .unwrap()
        .iter()
        .map(|&sigma| sigma.into())
        .collect()
}

/// `∫ x^-0.5 (1 - x)^-0.3` up to `x`, as a share of the whole; each half over a variable in which it is smooth.
fn beta57_share(x: f64) -> f64 {
    let mean = |from: f64, to: f64, f: &dyn Fn(f64) -> f64| {
        const PARTS: usize = 4000;
        let width = (to - from) / PARTS as f64;
        (0..PARTS).map(|i| f(from + (i as f64 + 0.5) * width)).sum::<f64>() * width
    };
    let low = |x: f64| mean(0.0, x.sqrt(), &|u| 2.0 * (1.0 - u * u).powf(-0.3));
    let high = |x: f64| mean(0.0, (1.0 - x).powf(0.7), &|w| (1.0 - w.powf(1.0 / 0.7)).powf(-0.5) / 0.7);
    let all = low(0.5) + high(0.5);
    if x <= 0.5 { low(x) / all } else { 1.0 - high(x) / all }
}

#[test]
fn beta57_picks_the_levels_at_the_quantiles_of_its_distribution() {
    let table: Vec<f64> = (0..1000).map(|t| SigmaSpace::Discrete.sigma(t.into())).collect();
    for steps in [4, 10, 20] {
        let found = levels("beta57", &SigmaSpace::Discrete, steps, &Options::default());
        assert_eq!(found.len(), steps + 1);
        for (i, sigma) in found[..steps].iter().enumerate() {
            let near = |index: &usize| (table[*index] - sigma).abs();
            let pick = (0..1000).min_by(|a, b| near(a).total_cmp(&near(b))).unwrap() as f64;
            let share = 1.0 - i as f64 / steps as f64;
            let around = [pick - 0.5, pick + 0.5].map(|place| beta57_share((place / 999.0).clamp(0.0, 1.0)));
            assert!(around[0] - 1e-4 <= share && share <= around[1] + 1e-4, "{steps}, {i}: {share} in {around:?}");
        }
    }
    let mut options = Options::default();
    options.set("alpha", Value::Number(0.5));
    options.set("beta", Value::Number(0.7));
    for space in [space(Process::Diffusion), space(Process::Flow)] {
        assert_eq!(levels("beta57", &space, 20, &Options::default()), levels("beta", &space, 20, &options));
    }
}

#[test]
fn trailing_levels_are_those_of_diffusers_times() {
    // diffusers: numpy.arange(1000, 0, -1000 / 33).round() - 1
    let times = [
        999, 969, 938, 908, 878, 847, 817, 787, 757, 726, 696, 666, 635, 605, 575, 544, 514, 484, 454, 423, 393, 363,
        332, 302, 272, 241, 211, 181, 151, 120, 90, 60, 29,
    ];
    let found = levels("trailing", &SigmaSpace::Discrete, times.len(), &Options::default());
    assert_eq!(found.len(), times.len() + 1);
    for (found, time) in found.iter().zip(times) {
        let expected = SigmaSpace::Discrete.sigma(time.into());
        assert!((found - expected).abs() <= SIGMA * expected, "{time}: {found}, expected {expected}");
    }
    // a flow's times are even
    let flow = SigmaSpace::Flow { shift: Some(1.15f64.exp()), tokens: 4096 };
    for (i, found) in levels("trailing", &flow, 7, &Options::default())[..7].iter().enumerate() {
        let (t, shift) = (1.0 - i as f64 / 7.0, 1.15f64.exp());
        assert!((found - shift / (shift + 1.0 / t - 1.0)).abs() <= 1e-6, "{i}: {found}");
    }
    // and where the steps divide a thousand, the table's are those of `simple`
    for steps in [1, 4, 10, 20, 50] {
        let of = |name| levels(name, &SigmaSpace::Discrete, steps, &Options::default());
        assert_eq!(of("trailing"), of("simple"));
    }
}

#[test]
fn align_your_steps_for_a_model_is_that_option_of_it() {
    for (name, model) in [("AYS SD1", "sd15"), ("AYS SDXL", "sdxl"), ("AYS SVD", "svd")] {
        let mut options = Options::default();
        options.set("ays_model", Value::Name(model.to_owned()));
        for steps in [5, 10, 23] {
            let of = |name, options: &Options| levels(name, &SigmaSpace::Discrete, steps, options);
            assert_eq!(of(name, &Options::default()), of("align_your_steps", &options));
        }
    }
}

#[test]
fn churn_draws_noise_in_every_step_even_where_it_adds_none() {
    // given levels of which the first is above those that are churned
    let levels = [10.0, 5.0, 1.0, 0.5, 0.0];
    let mut options = Options::default();
    [("s_churn", 1.0), ("s_tmax", 6.0)].into_iter().for_each(|(name, value)| options.set(name, Value::Number(value)));
    let model = |x: f64, sigma: f64| x / (1.0 + sigma * sigma);
    // when k-diffusion's `sample_euler` (0.1.1) is followed, whose noise is drawn before it is known whether it counts
    let mut x: Vec<f64> = (0..SIZE).map(|i| begun(levels[0], i)).collect();
    let step = |(step, ends): (usize, &[f64])| {
        let gamma = if ends[0] <= 6.0 { 0.25 } else { 0.0 };
        let up = ends[0] * (1.0 + gamma);
        let next = |(i, x): (usize, &f64)| {
            let x = x + draw(step, i) * (up * up - ends[0] * ends[0]).sqrt();
            x + (x - model(x, up)) / up * (ends[1] - up)
        };
        x = x.iter().enumerate().map(next).collect();
        x.clone()
    };
    let expected: Vec<Vec<f64>> = levels.windows(2).enumerate().map(step).collect();
    // then it is where the sampler goes
    agree("euler", &taken("euler", Process::Diffusion, &options, &levels, model), &expected);
}

#[test]
fn simple_falls_one_short_where_the_engines_round_its_stride() {
    // Python: int(19 * (1000 / 38)) is 499
    let (space, simple) = (SigmaSpace::Discrete, Registry::builtin().schedule("simple").unwrap());
    let levels = simple.sigmas(&space, 38, &Options::default()).unwrap();
    assert_eq!(levels[19], space.sigma(500.0) as f32);
    assert_eq!(levels[18], space.sigma(999.0 - 473.0) as f32);
}

#[test]
fn levels_are_rounded_as_torch_rounds_them() {
    // k-diffusion 0.1.1 with torch 2: `get_sigmas_*` between the table's ends, and `DiscreteSchedule.get_sigmas`, in f32
    let expected: [(&str, [f32; 7]); 4] = [
        ("karras", [14.614643, 7.094411, 3.1686049, 1.2741008, 0.44691858, 0.13030769, 0.029167177]),
        ("exponential", [14.61464, 5.1856804, 1.8400236, 0.6528918, 0.23166418, 0.0822009, 0.02916716]),
        ("polyexponential", [14.614643, 5.1856813, 1.8400236, 0.65289176, 0.23166418, 0.0822009, 0.02916716]),
        ("normal", [14.61464, 5.9488993, 2.918307, 1.6155803, 0.93235797, 0.49355173, 0.02916716]),
    ];
    for (name, expected) in expected {
        let schedule = Registry::builtin().schedule(name).unwrap();
        let found = schedule.sigmas(&SigmaSpace::Discrete, 7, &Options::default()).unwrap();
        assert_eq!(found[..7], expected, "{name}");
    }
}
