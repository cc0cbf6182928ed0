use core_tensor::Latent;
use samplers::{Denoised, Denoiser, Error, Step};

use crate::{Clock, Memory, Moment};

/// What guides the answers of `inner`, in calls that `wants` names; in others guidance is not shown the negative answer, which stays beside the
/// positive one for a sampler that needs it.
pub(crate) fn only_where<E>(
    inner: Box<dyn Denoiser>,
    clock: &Clock,
    wants: impl Fn(&Moment) -> bool + Send + 'static,
    guide: impl FnOnce(Box<dyn Denoiser>) -> Result<Box<dyn Denoiser>, E>,
) -> Result<Box<dyn Denoiser>, E> {
    let aside = Memory::default();
    let before = Before { inner, clock: clock.clone(), wants: Box::new(wants), aside: aside.clone() };
    Ok(Box::new(Behind { inner: guide(Box::new(before))?, aside }))
}

struct Before {
    inner: Box<dyn Denoiser>,
    clock: Clock,
    wants: Box<dyn Fn(&Moment) -> bool + Send>,
    aside: Memory<Option<Latent>>,
}

impl Denoiser for Before {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let mut denoised = self.inner.denoise(x, sigma)?;
        if !(self.wants)(&self.clock.at(sigma)) {
            *self.aside.hold() = denoised.negative.take();
        }
        Ok(denoised)
    }
}

struct Behind {
    inner: Box<dyn Denoiser>,
    aside: Memory<Option<Latent>>,
}

impl Denoiser for Behind {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent, negative } = self.inner.denoise(x, sigma)?;
        Ok(Denoised { latent, negative: negative.or(self.aside.hold().take()) })
    }
}
