//! Noise, schedules and steppers against torch, diffusers, k-diffusion and published tables.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod analytic;

use core_tensor::{Device, Latent, tensor, values};
use fixtures::{Golden, SIGMA, TRAJECTORY, deviation};
use samplers::{
    Denoised, Denoiser, Error, Noise, Options, Prediction, Process, Processes, Registry, Sampler, SigmaSpace, Sigmas,
    Start, Step,
    noise::{Brownian, Generator, NoiseSource},
};

use crate::analytic::{Analytic, space};

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
    let (golden, registry) = (Golden::open("schedules.safetensors"), Registry::builtin());
    let mut compared = 0;
    // Those of one family of models are compared in its crate.
    for name in golden.names().into_iter().filter(|name| !name.starts_with("flux")) {
        // schedule.family.WIDTHxHEIGHT.steps, without a size for schnell and Stable Diffusion
        let parts: Vec<&str> = name.split('.').collect();
        let (schedule, space, steps) = match parts[..] {
            [schedule, "dev", size, steps] => {
                let (w, h) = size.split_once('x').unwrap();
                let tokens = w.parse::<usize>().unwrap() / 16 * (h.parse::<usize>().unwrap() / 16);
                (schedule, SigmaSpace::Flow { shift: Some(shift(tokens)), tokens }, steps)
            }
            [schedule, "schnell", steps] => (schedule, SigmaSpace::Flow { shift: None, tokens: 4096 }, steps),
            [schedule, "sd", steps] => (schedule, SigmaSpace::Discrete, steps),
            _ => panic!("a golden of an unknown kind: {name}"),
        };
        let sigmas =
            registry.schedule(schedule).unwrap().sigmas(&space, steps.parse().unwrap(), &Options::default()).unwrap();
        let expected = golden.floats(&name);
        assert_eq!(sigmas.len(), expected.len(), "{name}");
        for (found, expected) in sigmas.iter().zip(&expected) {
            let off = f64::from((found - expected).abs());
            assert!(off <= SIGMA * f64::from(*expected), "{name}: {found}, expected {expected}");
        }
        compared += 1;
    }
    assert!(compared >= 286, "{compared} schedules");
}

/// The shift of the references' model for a picture of so many tokens: its logarithm is a line through (256, 0.5) and (4096, 1.15).
fn shift(tokens: usize) -> f64 {
    let slope = (1.15 - 0.5) / (4096.0 - 256.0);
    (slope * tokens as f64 + (0.5 - slope * 256.0)).exp()
}

/// Ten steps over Stable Diffusion's table, to five digits, computed apart from both this engine and its goldens.
#[test]
fn schedules_of_stable_diffusion_are_those_of_the_published_table() {
    let tables: [(&str, [f32; 11]); 14] = [
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
        (
            "kl_optimal_forge",
            [14.615, 4.565, 2.6329, 1.7864, 1.2948, 0.96159, 0.71163, 0.50942, 0.33564, 0.17835, 0.029167],
        ),
        ("ays", [14.615, 6.4746, 3.8637, 2.6946, 1.8842, 1.3944, 0.96426, 0.65237, 0.39775, 0.15152, 0.0]),
        (
            "align_your_steps_forge",
            [14.615, 6.1135, 3.5651, 2.3939, 1.65, 1.1358, 0.74252, 0.44501, 0.16921, 0.029, 0.0],
        ),
        ("linear_quadratic", [14.615, 14.542, 14.468, 14.395, 14.322, 14.249, 13.621, 11.882, 9.0318, 5.0713, 0.0]),
    ];
    for (name, expected) in tables {
        is_table(name, SigmaSpace::Discrete, &expected);
    }
}

/// Four steps of a flow with the shift of a picture of 1024 × 1024, from the same source.
#[test]
fn schedules_of_a_flow_are_those_of_the_published_table() {
    let tables: [(&str, [f32; 5]); 9] = [
        ("simple", [1.0, 0.90453, 0.75951, 0.51284, 0.0]),
        ("normal", [1.0, 0.86338, 0.61249, 0.00099652, 0.0]),
        ("sgm_uniform", [1.0, 0.90457, 0.75963, 0.51316, 0.0]),
        ("normal_forge", [1.0, 0.66677, 0.33354, 0.00031575, 0.0]),
        ("sgm_uniform_forge", [1.0, 0.75008, 0.50016, 0.25024, 0.0]),
        ("beta_forge", [1.0, 0.72467, 0.27564, 0.00031575, 0.0]),
        ("beta", [1.0, 0.93678, 0.75958, 0.4025, 0.0]),
        ("karras", [1.0, 0.1635, 0.014118, 0.00031575, 0.0]),
        ("polyexponential", [1.0, 0.068092, 0.0046370, 0.00031575, 0.0]),
    ];
    let flow = |mu: Option<f64>| SigmaSpace::Flow { shift: mu.map(f64::exp), tokens: 4096 };
    for (name, expected) in tables {
        is_table(name, flow(Some(1.15)), &expected);
    }
    let twenty = [
        1.0, 0.98361, 0.96601, 0.94708, 0.92665, 0.90453, 0.88051, 0.85434, 0.8257, 0.79424, 0.75951, 0.72098, 0.67799,
        0.62971, 0.5751, 0.51284, 0.4412, 0.35787, 0.25976, 0.14253, 0.0,
    ];
    // schnell's time is not shifted, but in Forge, whose shift is that of no picture; the profile `forge` has it as the makers do.
    let schnell = [1.0, 0.75, 0.5, 0.25, 0.0];
    let schnell_of_forge = [1.0, 0.89077, 0.73106, 0.47537, 0.0];
    is_table("simple", flow(Some(1.15)), &twenty);
    is_table("simple", flow(None), &schnell);
    is_table("simple", flow(Some(1.0)), &schnell_of_forge);
}

fn is_table(name: &str, space: SigmaSpace, expected: &[f32]) {
    const FIVE_DIGITS: f32 = 6e-5;
    let schedule = Registry::builtin().schedule(name).unwrap();
    let sigmas = schedule.sigmas(&space, expected.len() - 1, &Options::default()).unwrap();
    assert_eq!(sigmas.len(), expected.len(), "{name}");
    for (found, expected) in sigmas.iter().zip(expected) {
        assert!((found - expected).abs() <= FIVE_DIGITS * expected, "{name}: {sigmas:?}, expected {expected}");
    }
}

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

/// The rows that are drawn where churn counts in `CHURNED` alone, whose rows are given, but draws in every step.
fn churned(sigmas: &[f32], given: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let nothing = vec![0.0; given[0].len()];
    let mut given = given.into_iter();
    let row = |sigma: &f32| if CHURNED.contains(sigma) { given.next().unwrap() } else { nothing.clone() };
    sigmas[..sigmas.len() - 1].iter().map(row).collect()
}

/// Between which levels churn counts in the goldens.
const CHURNED: std::ops::RangeInclusive<f32> = 0.05..=10.0;

/// Follows a golden: `name` is a sampler, and its options behind a point, with `rf.` before it on a flow.
fn trajectory_agrees(name: &str, options: &[(&str, &str)]) {
    const STEPS: usize = 20;
    let golden = Golden::open("samplers.safetensors");
    let (process, given) = match name.strip_prefix("rf.") {
        Some(_) => (Process::Flow, "rf.sigmas"),
        None => (Process::Diffusion, "sigmas"),
    };
    // Over another schedule's levels: its name and two points before the sampler's.
    let (given, plain) = match name.split_once("..") {
        Some((schedule, plain)) => (format!("{schedule}..sigmas"), plain),
        None => (given.to_owned(), name),
    };
    let id = plain.trim_start_matches("rf.").split('.').next().unwrap();
    let sampler = Registry::builtin().sampler(id).unwrap();
    let shape: [usize; 5] = golden.shape(name).try_into().unwrap();
    let len = shape[1..].iter().product();
    let expected: Vec<Vec<f32>> = golden.floats(name).chunks(len).map(<[f32]>::to_vec).collect();
    // Some runs have levels of their own.
    let own = format!("{name}.sigmas");
    let sigmas = golden.floats(if golden.names().contains(&own) { &own } else { &given });
    let noise: Vec<Vec<f32>> = golden.floats("noise").chunks(len).map(<[f32]>::to_vec).collect();

    let mut set = Options::default();
    options.iter().for_each(|(name, value)| set.set(name, value.parse().unwrap()));
    set.checked(&sampler.params).unwrap();
    let start = Start { space: space(process), steps: STEPS, options: &set };
    if sampler.has_own_levels() {
        // They are compared too, from the table that the run's are the ends of.
        let table: Vec<f64> = golden.floats(&given).into_iter().map(f64::from).collect();
        let (found, _) = sampler.begin(&start, Sigmas::literal(&table).unwrap()).unwrap();
        assert_eq!(found.len(), sigmas.len(), "{name}");
        let off = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 2e-3 * expected;
        assert!(found.iter().zip(&sigmas).all(off), "{name}: {found:?}, expected {sigmas:?}");
    }
    let mut noise = Given(if name.ends_with(".churn") { churned(&sigmas, noise) } else { noise }.into_iter());
    let mut stepper = sampler.start(&start).unwrap();
    let mut x = Latent(tensor(expected[0].clone(), [shape[1], shape[2], shape[3], shape[4]], &Device::flex()));
    for index in 0..sigmas.len() - 1 {
        let at = Step::of(&sigmas, index).unwrap();
        x = stepper.step(at, x, &mut Analytic(process), &mut noise).unwrap();
        let Some(row) = row_after(index, expected.len(), sigmas.len()) else { continue };
        let worst = off(&x, &expected[row]);
        // The length of its steps goes by a small difference: k-diffusion in float32 is 4e-4 from itself in float64.
        let allowed = if id == "dpm_adaptive" { 1e-3 } else { TRAJECTORY };
        assert!(worst <= allowed, "{name}, step {}: {worst:.2e}", index + 1);
    }
}

/// Which row of a golden the latent after a step is compared with: it has one for the start and each step up to some, or for the
/// start and the end.
fn row_after(index: usize, rows: usize, levels: usize) -> Option<usize> {
    match rows {
        2 => (index + 2 == levels).then_some(1),
        _ => (index + 1 < rows).then_some(index + 1),
    }
}

/// Samplers that the references' scripts do not have: `formulas.rs` holds them.
const BY_FORMULA: [&str; 2] = ["exp_heun_2_x0", "exp_heun_2_x0_sde"];

fn of_references() -> impl Iterator<Item = Sampler> {
    let all = Registry::builtin().samplers().to_vec();
    all.into_iter().filter(|sampler| !BY_FORMULA.contains(&sampler.id.as_str()))
}

#[test]
fn samplers_take_the_steps_of_the_references() {
    for sampler in of_references() {
        trajectory_agrees(&sampler.id, &[]);
        if sampler.processes == Processes::All {
            trajectory_agrees(&format!("rf.{}", sampler.id), &[]);
        }
    }
}

/// On the levels that `automatic` and `simple` stand for; those with levels of their own don't take them.
#[test]
fn samplers_end_where_the_references_do_on_other_schedules() {
    for schedule in ["simple", "normal", "exponential", "ddim_uniform"] {
        for sampler in of_references().filter(|sampler| !sampler.has_own_levels()) {
            trajectory_agrees(&format!("{schedule}..{}", sampler.id), &[]);
        }
    }
}

/// What a model answered to a reference, call by call; it was shown what the sampler shows here.
struct Recorded {
    golden: Golden,
    name: String,
    calls: usize,
}

impl Recorded {
    /// The values of the call now made.
    fn row(&self, kind: &str) -> Vec<f32> {
        let name = format!("{}.{kind}", self.name);
        let len = self.golden.shape(&name)[1..].iter().product();
        self.golden.floats(&name).chunks(len).nth(self.calls).expect("as many calls as the reference made").to_vec()
    }

    fn is_asked(&self, x: &Latent, sigma: f32) {
        let (level, seen) = (self.golden.floats(&format!("{}.level", self.name))[self.calls], self.row("seen"));
        assert!((sigma - level).abs() <= 1e-5 * level, "{}, call {}: {sigma} and {level}", self.name, self.calls);
        assert!(off(x, &seen) <= TRAJECTORY, "{}, call {}: {:.1e}", self.name, self.calls, off(x, &seen));
    }
}

impl Denoiser for Recorded {
    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        self.is_asked(x, sigma);
        let latent = |row| Latent(tensor(row, x.0.dims(), &Device::flex()));
        let is_both = self.golden.names().contains(&format!("{}.negative", self.name));
        let negative = is_both.then(|| latent(self.row("negative")));
        let denoised = latent(self.row("denoised"));
        self.calls += 1;
        Ok(Denoised { latent: denoised, negative })
    }
}

/// The largest difference, as a share of the largest value.
fn off(x: &Latent, expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    deviation(&values(&x.0), expected) / f64::from(largest)
}

/// The engine has no UNet of its own yet: what diffusers' answered to the references is in the golden.
#[test]
fn samplers_take_the_steps_of_the_references_on_a_unet() {
    // `dpm_adaptive` chooses its own steps, by differences that are noise in float32.
    for sampler in of_references().filter(|sampler| sampler.id != "dpm_adaptive") {
        let name = sampler.id.as_str();
        let mut model = Recorded { golden: Golden::open("unet_samplers.safetensors"), name: name.to_owned(), calls: 0 };
        let shape: [usize; 5] = model.golden.shape(name).try_into().unwrap();
        let shape = [shape[1], shape[2], shape[3], shape[4]];
        let rows = |name: &str| model.golden.floats(name).chunks(64).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let (expected, mut noise) = (rows(name), Given(rows("noise").into_iter()));
        let own = format!("{name}.sigmas");
        let sigmas = model.golden.floats(if model.golden.names().contains(&own) { &own } else { "sigmas" });
        let options = Options::default();
        let start = Start { space: SigmaSpace::Discrete, steps: 20, options: &options };
        let mut stepper = sampler.start(&start).unwrap();
        let mut x = Latent(tensor(expected[0].clone(), shape, &Device::flex()));
        for index in 0..sigmas.len() - 1 {
            x = stepper.step(Step::of(&sigmas, index).unwrap(), x, &mut model, &mut noise).unwrap();
            let off = off(&x, &expected[index + 1]);
            assert!(off <= TRAJECTORY, "{name}, step {}: {off:.1e}", index + 1);
        }
        assert_eq!(model.calls, model.golden.shape(&format!("{name}.level"))[0], "{name}");
    }
}

#[test]
fn what_is_set_of_a_sampler_counts_as_in_the_references() {
    let churn = [("s_churn", "10"), ("s_tmin", "0.05"), ("s_tmax", "10"), ("s_noise", "1.003")];
    for name in ["euler.churn", "heun.churn", "dpm_2.churn"] {
        trajectory_agrees(name, &churn);
    }
    trajectory_agrees("ddim.eta1", &[("eta", "1")]);
    trajectory_agrees("deis.logrho", &[("deis_mode", "logrho")]);
}

/// UniPC is diffusers' in every run, and DEIS where its polynomials are in log sigma.
#[test]
fn samplers_that_diffusers_has_take_its_steps() {
    trajectory_agrees("lcm.diffusers", &[]);
    trajectory_agrees("tcd.diffusers", &[]);
    trajectory_agrees("sa_solver.diffusers", &[("simple_order_2", "on")]);
}

#[test]
fn predictions_are_those_of_the_references() {
    let golden = Golden::open("predictions.safetensors");
    let shape: [usize; 4] = golden.shape("x").try_into().unwrap();
    let [x, output] = ["x", "output"].map(|name| tensor(golden.floats(name), shape, &Device::flex()));
    let sigmas = golden.floats("sigmas");
    let close = |found: &[f32], expected: &[f32], what: &str| {
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = deviation(found, expected) / f64::from(largest);
        assert!(off <= SIGMA, "{what}: {off:.1e}");
    };
    for (name, prediction) in [
        ("epsilon", Prediction::Epsilon),
        ("v", Prediction::V),
        ("edm", Prediction::Edm { data: 0.5 }),
        ("flow", Prediction::Flow),
    ] {
        let rows = golden.floats(name);
        for (row, &sigma) in rows.chunks(shape.iter().product()).zip(&sigmas) {
            let denoised = prediction.denoised(x.clone(), output.clone(), sigma);
            close(&values(&denoised.0), row, &format!("{name} at {sigma}"));
        }
        if prediction.process() == Process::Diffusion {
            let rows = golden.floats(&format!("{name}.seen"));
            for (row, &sigma) in rows.chunks(shape.iter().product()).zip(&sigmas) {
                close(&values(&(x.clone() * prediction.input(sigma))), row, &format!("{name} sees at {sigma}"));
            }
        }
    }
}

#[test]
fn levels_of_models_without_a_signal_at_the_end_and_of_edm_are_those_of_the_references() {
    let golden = Golden::open("predictions.safetensors");
    let close = |found: f64, expected: f32| (found - f64::from(expected)).abs() <= SIGMA * f64::from(expected);
    for (t, expected) in golden.floats("zero_snr").into_iter().enumerate() {
        let found = SigmaSpace::ZeroSnr.sigma(t as f64);
        assert!(close(found, expected), "{t}: {found}, expected {expected}");
    }
    for name in ["karras", "exponential"] {
        let space = SigmaSpace::Edm { min: 0.002, max: 80.0 };
        let found = Registry::builtin().schedule(name).unwrap().sigmas(&space, 20, &Options::default()).unwrap();
        let expected = golden.floats(&format!("edm.{name}"));
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(a, b)| close((*a).into(), *b)), "{found:?}, expected {expected:?}");
    }
}

/// Of k-diffusion over torchsde, for seeds of one word and two: to the last bit but one, as torch takes the root of a step's length
/// from MKL, which may round it the other way.
#[test]
fn brownian_noise_is_that_of_torchsde() {
    let golden = Golden::open("brownian.safetensors");
    let mut compared = 0;
    for name in golden.names().iter().filter(|name| !name.contains('.')) {
        let (levels, ends) = (golden.floats(&format!("{name}.levels")), golden.floats(&format!("{name}.range")));
        let expected = golden.floats(name);
        let len = expected.len() / (levels.len() / 2);
        let mut path = Brownian::new(NoiseSource::Cpu, name.parse().unwrap(), len, ends[0], ends[1]);
        for (step, expected) in levels.chunks(2).zip(expected.chunks(len)) {
            let found = path.between(step[0], step[1]);
            let off = found.iter().zip(expected).map(|(a, b)| a.to_bits().abs_diff(b.to_bits())).max();
            assert!(off <= Some(2), "seed {name}, {step:?}: {off:?}");
            compared += 1;
        }
    }
    assert!(compared >= 40, "{compared} steps");
}
