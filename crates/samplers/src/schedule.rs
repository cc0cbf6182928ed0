use crate::{Error, SigmaSpace, Sigmas};

/// Everything that is known about a way of spacing noise levels.
#[derive(Debug)]
pub struct Schedule {
    /// The name in configs and flags.
    pub id: &'static str,
    /// The name that people and infotexts know it by.
    pub label: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// The levels of a run, without the final zero: `steps` of them, descending.
    pub(crate) levels: fn(&SigmaSpace, usize) -> Vec<f64>,
}

impl Schedule {
    /// The most steps that are accepted: the length of the timestep table that models are trained with.
    pub const MAX_STEPS: usize = 1000;

    /// The `steps + 1` noise levels of a run over a model's space.
    ///
    /// # Errors
    /// [`Error::Steps`] unless `steps` is 1 to [`Schedule::MAX_STEPS`].
    pub fn sigmas(&self, space: &SigmaSpace, steps: usize) -> Result<Sigmas, Error> {
        if steps == 0 || steps > Self::MAX_STEPS {
            return Err(Error::Steps { steps, max: Self::MAX_STEPS });
        }
        Ok(Sigmas::ending_in_zero((self.levels)(space, steps)))
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
