use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use core_tensor::{Finiteness, Latent};
use samplers::{Denoised, Denoiser, Error as StepError, Step};

use super::{Around, Wrap};
use crate::{Error, Stage};

/// The check of every answer and of every step: NaN and infinity are errors, never pixels. Clones share it.
///
/// What a device was asked is looked at once the step after it is asked for as well, so that it always has something to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finite(Arc<Mutex<VecDeque<Asked>>>);

/// Something that a device was asked.
#[derive(Debug)]
struct Asked {
    /// The step that it is of, from 1.
    step: usize,
    /// The noise level of a call of the model; `None` for what the step made.
    sigma: Option<f32>,
    finiteness: Finiteness,
}

impl Finite {
    /// Asks of what a step made, from 1.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the answer is known already.
    pub(crate) fn ask(&self, step: usize, latent: &Latent) -> Result<(), Error> {
        if self.sees(step, None, latent) { Ok(()) } else { Err(Error::NotFinite { stage: Stage::Step(step) }) }
    }

    /// Whether all values are numbers, or are not known yet: then they are asked for.
    fn sees(&self, step: usize, sigma: Option<f32>, latent: &Latent) -> bool {
        let finiteness = Finiteness::of(&latent.0);
        let known = finiteness.known();
        if known.is_none() {
            self.asked().push_back(Asked { step, sigma, finiteness });
        }
        known != Some(false)
    }

    /// Waits for what was asked of steps before this one, from 1.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Step`], and [`Error::Weights`] for a device that could not compute.
    pub(crate) fn before(&self, step: usize, steps: usize) -> Result<(), Error> {
        let next = || self.asked().pop_front_if(|asked| asked.step < step);
        while let Some(Asked { step, sigma, finiteness }) = next() {
            match (finiteness.answer(), sigma) {
                (Ok(true), _) => {}
                (Ok(false), None) => return Err(Error::NotFinite { stage: Stage::Step(step) }),
                (Err(error), None) => return Err(error.into()),
                (Ok(false), Some(sigma)) => {
                    return Err(Error::Step { step, steps, source: StepError::NotFinite { sigma } });
                }
                (Err(error), Some(sigma)) => {
                    return Err(Error::Step { step, steps, source: StepError::Model { sigma, source: error.into() } });
                }
            }
        }
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wrap for Finite {
    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, Error> {
        Ok(Box::new(Checked { inner, of: self.clone(), step: 0 }))
    }
}

struct Checked {
    inner: Box<dyn Denoiser>,
    of: Finite,
    step: usize,
}

impl Denoiser for Checked {
    fn begin(&mut self, step: &Step) {
        self.step = step.index() + 1;
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, StepError> {
        let denoised = self.inner.denoise(x, sigma)?;
        let sees = |answer| self.of.sees(self.step, Some(sigma), answer);
        let are_numbers = sees(&denoised.latent) && denoised.negative.as_ref().is_none_or(sees);
        if are_numbers { Ok(denoised) } else { Err(StepError::NotFinite { sigma }) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use core_tensor::Error as WeightError;

    use super::*;

    /// A question that is answered when somebody sends the answer.
    fn question(step: usize, sigma: Option<f32>) -> (Sender<Result<bool, WeightError>>, Asked) {
        let (sender, answers) = channel();
        let finiteness = Finiteness::asked(move || answers.recv().expect("an answer"));
        (sender, Asked { step, sigma, finiteness })
    }

    #[test]
    fn what_was_asked_of_a_step_is_waited_for_once_the_next_is_asked_for() {
        let finite = Finite::default();
        let ask = |step, sigma| {
            let (sender, asked) = question(step, sigma);
            finite.asked().push_back(asked);
            sender
        };
        // given a call and what its step made, and a call of the next step, which nobody has answered
        let (call, made, next) = (ask(1, Some(9.0)), ask(1, None), ask(2, Some(5.0)));
        // then nothing is waited for in the first step, and in the second what is of the first
        finite.before(1, 3).unwrap();
        call.send(Ok(true)).unwrap();
        made.send(Ok(true)).unwrap();
        finite.before(2, 3).unwrap();
        // and what is wrong is told of the step that it is of
        next.send(Ok(false)).unwrap();
        let told = finite.before(4, 3).unwrap_err();
        let Error::Step { step: 2, steps: 3, source: StepError::NotFinite { sigma: 5.0 } } = told else {
            panic!("{told:?}")
        };
        finite.before(4, 3).unwrap();
    }

    #[test]
    fn a_device_that_failed_and_a_step_that_made_no_number_end_the_run() {
        let told = |sigma, answer: Result<bool, WeightError>| {
            let finite = Finite::default();
            let (sender, asked) = question(2, sigma);
            finite.asked().push_back(asked);
            sender.send(answer).unwrap();
            finite.before(3, 4).unwrap_err()
        };
        let full = || Err(WeightError::Device { name: "x:0".into(), reason: "gone".into() });
        assert!(matches!(told(None, Ok(false)), Error::NotFinite { stage: Stage::Step(2) }));
        assert!(matches!(told(None, full()), Error::Weights(WeightError::Device { .. })));
        let source = told(Some(3.0), full());
        assert!(matches!(source, Error::Step { step: 2, steps: 4, source: StepError::Model { sigma: 3.0, .. } }));
    }
}
