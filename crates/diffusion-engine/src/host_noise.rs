use core_tensor::{Device, Latent, Tensor, computes_by_itself, tensor};
use samplers::{
    Noise, Sampler,
    noise::{Brownian, Generator, NoiseSource, resized, varied},
};

use crate::{
    Job, Pass, Size, Variation,
    noise_ahead::{Paths, Streams},
};

/// Noise made on the host: one stream and one path for each picture, so that a picture does not depend on its place in a batch.
///
/// A copy goes on with the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct HostNoise {
    source: NoiseSource,
    seeds: Vec<u64>,
    streams: Streams,
    /// Made when they are first asked for.
    paths: Option<Paths>,
    /// Those of the pass.
    levels: Vec<f32>,
}

impl HostNoise {
    pub(crate) fn of(job: &Job) -> Self {
        let seeds = job.seeds();
        Self {
            source: job.noise(),
            streams: Streams::of(job.noise(), seeds.iter().copied()),
            seeds,
            paths: None,
            levels: Vec::new(),
        }
    }

    /// From here on the paths are those of a pass over these levels.
    pub(crate) fn over(&mut self, sigmas: &[f32]) {
        self.levels = sigmas.to_vec();
        self.paths = None;
    }

    /// From here on steps draw: anew, where the sampler, the pass or its profile says so.
    pub(crate) fn begin_steps(&mut self, pass: &Pass, sampler: &Sampler) {
        let own: Option<Vec<u64>> = self.seeds.iter().map(|&seed| sampler.seed_of_steps(seed)).collect();
        if let Some(own) = own {
            self.streams = Streams::of(self.source, own.into_iter());
            return;
        }
        let delta = match pass.options.get(&samplers::ENSD) {
            0 => pass.profile.ensd,
            given => given as u64,
        };
        if delta > 0 {
            self.streams = Streams::of(self.source, self.seeds.iter().map(|seed| seed.wrapping_add(delta)));
        }
    }

    /// The noise that a job's pictures start from, of a latent's shape that is `factor` times smaller than the picture.
    pub(crate) fn start(&mut self, job: &Job, shape: [usize; 4], factor: usize, device: &Device) -> Latent {
        let [batch, channels, height, width] = shape;
        let own = [channels, height, width];
        let from = job.resized_from().map_or(own, |Size { width, height }| [channels, height / factor, width / factor]);
        let len = |shape: [usize; 3]| shape.iter().product();
        let (source, seeds) = (self.source, &self.seeds);
        let anew = |seed: u64| Generator::new(source, seed).randn(len(from));
        let of_picture = |(picture, stream): (usize, &mut Generator)| {
            // The picture's own stream goes on as if nothing else had been drawn.
            let drawn = stream.randn(len(own));
            let noise = if from == own { drawn.clone() } else { anew(seeds[picture]) };
            let noise = match job.variation() {
                Some(Variation { seed, strength }) => {
                    varied(&noise, &anew(seed.wrapping_add(picture as u64)), strength, from)
                }
                None => noise,
            };
            if from == own { noise } else { resized(drawn, own, &noise, from) }
        };
        let all: Vec<f32> = self.streams.each().iter_mut().enumerate().take(batch).flat_map(of_picture).collect();
        Latent(tensor(all, shape, device))
    }

    /// The seed of each picture.
    pub(crate) fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// Where it comes from.
    pub(crate) fn source(&self) -> NoiseSource {
        self.source
    }

    /// The next noise of one picture, `[1, c, h, w]`.
    pub(crate) fn draw_one(&mut self, picture: usize, shape: [usize; 4], device: &Device) -> Tensor<4> {
        tensor(self.streams.each()[picture].randn(shape.iter().product()), shape, device)
    }

    /// The first noise of each picture's seed, whatever was drawn before.
    pub(crate) fn anew(&self, shape: [usize; 4], device: &Device) -> Latent {
        let len = shape[1..].iter().product();
        let first = |&seed: &u64| Generator::new(self.source, seed).randn(len);
        Latent(tensor(self.seeds.iter().flat_map(first).collect(), shape, device))
    }

    pub(crate) fn draw(&mut self, shape: [usize; 4], device: &Device) -> Latent {
        Latent(tensor(self.streams.draw(shape[1..].iter().product(), computes_by_itself(device)), shape, device))
    }

    /// The paths of a pass, from its highest level to its lowest above 0.
    fn new_paths(&self, len: usize) -> Paths {
        let levels = || self.levels.iter().copied().filter(|&sigma| sigma > 0.0);
        let (first, last) = (levels().fold(0.0, f32::max), levels().fold(f32::INFINITY, f32::min));
        Paths::of(self.seeds.iter().map(|&seed| Brownian::new(self.source, seed, len, first, last)).collect())
    }

    /// The step that follows one of the pass, unless that ends without noise.
    fn step_after(&self, step: [f32; 2]) -> Option<[f32; 2]> {
        let mut steps = self.levels.windows(3).filter(|levels| levels[..2] == step);
        steps.next().map(|levels| [levels[1], levels[2]]).filter(|&[_, end]| end > 0.0)
    }
}

impl Noise for HostNoise {
    fn next(&mut self, like: &Latent) -> Latent {
        self.draw(like.0.dims(), &like.0.device())
    }

    fn of_picture(&mut self, picture: usize, like: &Latent) -> Latent {
        Latent(self.draw_one(picture, like.0.dims(), &like.0.device()))
    }

    fn between(&mut self, like: &Latent, sigma: f32, sigma_next: f32) -> Latent {
        let (shape, device, step) = (like.0.dims(), like.0.device(), [sigma, sigma_next]);
        let next = self.step_after(step).filter(|_| computes_by_itself(&device));
        let mut paths = self.paths.take().unwrap_or_else(|| self.new_paths(shape[1..].iter().product()));
        let drawn = paths.between(step, next);
        self.paths = Some(paths);
        Latent(tensor(drawn, shape, &device))
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::values;
    use samplers::Value;

    use super::*;
    use crate::{Catalog, Txt2Img};

    /// What the first step draws.
    fn step(request: &Txt2Img) -> Vec<f32> {
        let job = Job::of(request.clone()).unwrap();
        let mut noise = HostNoise::of(&job);
        noise.over(&[1.0, 0.0]);
        let start = noise.draw([request.batch, 1, 4, 4], &Device::flex());
        let pass = &job.passes()[0];
        noise.begin_steps(pass, &pass.sampler);
        values(&noise.next(&start).0)
    }

    #[test]
    fn steps_go_on_with_the_start_unless_the_profile_or_an_option_has_them_begin_anew() {
        let seeded = |seed: u64, draws: usize| {
            let mut stream = Generator::new(NoiseSource::Cpu, seed);
            (0..draws).map(|_| stream.randn(16)).last().unwrap_or_default()
        };
        let sampler = samplers::Registry::builtin().sampler("euler_ancestral").unwrap();
        let mut request = Txt2Img { batch: 2, ..Txt2Img::of("").seed(7) }.with(|pass| pass.sampler = sampler);
        assert_eq!(step(&request), [seeded(7, 2), seeded(8, 2)].concat());
        request.pass.profile = Catalog::builtin().profile("comfy").unwrap();
        assert_eq!(step(&request), [seeded(8, 1), seeded(9, 1)].concat());
        request.pass.options.set("ensd", Value::Number(31337.0));
        assert_eq!(step(&request), [seeded(31344, 1), seeded(31345, 1)].concat());
    }

    #[test]
    fn a_picture_of_a_batch_starts_from_the_noise_of_the_same_picture_made_alone() {
        let start = |request: Txt2Img| {
            let (job, batch) = (Job::of(request.clone()).unwrap(), request.batch);
            let mut noise = HostNoise::of(&job);
            let start = noise.start(&job, [batch, 4, 8, 6], 8, &Device::flex());
            (job, values(&start.0), values(&noise.next(&start).0))
        };
        let plain = Txt2Img { batch: 3, ..Txt2Img::of("").seed(7) };
        let variation = Some(Variation { seed: 40, strength: 0.3 });
        let resized_from = Some(Size { width: 32, height: 80 });
        let varied = Txt2Img { variation, ..plain.clone() };
        let resized = Txt2Img { resized_from, ..plain.clone() };
        let both = Txt2Img { variation, resized_from, ..plain.clone() };
        let all = [plain, varied, resized, both].map(start);
        for (job, starts, steps) in &all {
            for picture in 0..3 {
                let (_, alone, step) = start(job.request(picture));
                assert_eq!(starts[picture * 192..][..192], alone);
                assert_eq!(steps[picture * 192..][..192], step);
            }
        }
        // and each kind of start is another, while the steps of the first picture draw the same
        let starts: std::collections::BTreeSet<String> = all.iter().map(|(_, start, _)| format!("{start:?}")).collect();
        assert_eq!(starts.len(), 4);
        assert!(all.iter().all(|(_, _, steps)| steps[..192] == all[0].2[..192]));
    }

    #[test]
    fn the_step_that_is_made_ahead_is_the_next_one_of_the_pass_unless_it_ends_without_noise() {
        let mut noise = HostNoise::of(&Job::of(Txt2Img::of("")).unwrap());
        noise.over(&[9.0, 5.0, 2.0, 0.0]);
        assert_eq!(noise.step_after([9.0, 5.0]), Some([5.0, 2.0]));
        for step in [[5.0, 2.0], [2.0, 0.0], [9.0, 2.0], [9.0, 6.0]] {
            assert_eq!(noise.step_after(step), None, "{step:?}");
        }
    }
}
