//! Whether values are numbers: known at once on the CPU, asked of any other device and told by it later.

use std::fmt;

use crate::{Error, Tensor, answered, cpu, later};

/// Whether every value of a tensor is a number, neither NaN nor infinite, as far as that is known.
///
/// It is found out where the values are, behind what the device was asked for before. Who waits for the answer at once has the device idle until
/// it is asked for more, so a run looks at it one step later.
#[must_use = "a device may have failed"]
pub struct Finiteness(State);

enum State {
    Known(bool),
    Asked(Box<dyn FnOnce() -> Result<bool, Error> + Send>),
}

impl Finiteness {
    /// Of a tensor; nothing is copied on the CPU, and one answer comes back from another device.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        if let Some(known) = cpu::is_finite(tensor) {
            return Self(State::Known(known));
        }
        let (of, all) = (tensor.clone(), tensor.clone().is_finite().all());
        match later::told(&all) {
            Some(told) => Self::asked(move || answered(&of, told()?)),
            None => Self::asked(move || answered(&of, all.try_into_scalar())),
        }
    }

    /// What somebody will tell.
    pub fn asked(answer: impl FnOnce() -> Result<bool, Error> + Send + 'static) -> Self {
        Self(State::Asked(Box::new(answer)))
    }

    /// The answer, where nobody has to be waited for.
    pub fn known(&self) -> Option<bool> {
        match self.0 {
            State::Known(known) => Some(known),
            State::Asked(_) => None,
        }
    }

    /// The answer, once it is there.
    ///
    /// # Errors
    /// As [`on_host`](crate::on_host).
    pub fn answer(self) -> Result<bool, Error> {
        match self.0 {
            State::Known(known) => Ok(known),
            State::Asked(answer) => answer(),
        }
    }
}

impl fmt::Debug for Finiteness {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Finiteness").field(&self.known()).finish()
    }
}
