use core_tensor::{Device, Latent, tensor};
use samplers::{Noise, noise::Generator};

use crate::Txt2Img;

/// Noise made on the host: one stream for each picture, so that a picture does not depend on its place in a batch.
pub(crate) struct HostNoise(Vec<Generator>);

impl HostNoise {
    pub(crate) fn of(request: &Txt2Img) -> Self {
        let stream = |i| Generator::new(request.noise, request.seed.wrapping_add(i as u64));
        Self((0..request.batch).map(stream).collect())
    }

    pub(crate) fn draw(&mut self, shape: [usize; 4], device: &Device) -> Latent {
        let len = shape[1..].iter().product();
        Latent(tensor(self.0.iter_mut().flat_map(|stream| stream.randn(len)).collect(), shape, device))
    }
}

impl Noise for HostNoise {
    fn next(&mut self, like: &Latent) -> Latent {
        self.draw(like.0.dims(), &like.0.device())
    }
}
