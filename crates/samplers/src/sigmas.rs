use std::ops::Deref;

use crate::Error;

/// The most steps of a run; [`Schedule::MAX_STEPS`](crate::Schedule::MAX_STEPS) says why.
pub(crate) const MAX_STEPS: usize = 1000;

/// The noise levels of a run, at least two, all finite.
///
/// A schedule's descend, to 0 unless its entry says why not. A sampler's own may rise where it adds noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmas(Vec<f32>);

impl Sigmas {
    /// Levels as they are given, from the highest.
    ///
    /// # Errors
    /// [`Error::Levels`] unless there are 2 to 1001 of them, they descend, and the last is 0 or more.
    pub fn literal(levels: &[f64]) -> Result<Self, Error> {
        let levels: Vec<f32> = levels.iter().map(|&s| s as f32).collect();
        if !(2..=MAX_STEPS + 1).contains(&levels.len()) {
            return Err(Error::Levels { expected: "2 to 1001 levels", found: levels.len().to_string() });
        }
        if let Some(w) = levels.windows(2).find(|w| !(w[0] > w[1] && w[0].is_finite() && w[1] >= 0.0)) {
            let found = format!("{} before {}", w[0], w[1]);
            return Err(Error::Levels { expected: "levels that descend to 0 or above", found });
        }
        Ok(Self(levels))
    }

    /// Levels that a sampler visits, which may rise.
    pub(crate) fn visited(levels: Vec<f32>) -> Result<Self, Error> {
        if levels.len() < 2 {
            return Err(Error::Levels { expected: "2 levels or more", found: levels.len().to_string() });
        }
        match levels.iter().find(|sigma| !(sigma.is_finite() && **sigma >= 0.0)) {
            Some(sigma) => Err(Error::Levels { expected: "finite levels of 0 or above", found: sigma.to_string() }),
            None => Ok(Self(levels)),
        }
    }

    /// The same without the last level but one; one step stays one step.
    pub fn without_penultimate(mut self) -> Self {
        if self.0.len() > 2 {
            self.0.remove(self.0.len() - 2);
        }
        self
    }

    /// The levels of the last steps alone, of all where there are no more.
    pub fn last_steps(mut self, steps: usize) -> Self {
        self.0.drain(..self.steps().saturating_sub(steps.max(1)));
        self
    }

    /// How many steps they make: one less than there are levels.
    pub fn steps(&self) -> usize {
        self.0.len() - 1
    }
}

impl Deref for Sigmas {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_list_descends() {
        assert_eq!(&*Sigmas::literal(&[3.0, 1.0, 0.0]).unwrap(), [3.0, 1.0, 0.0]);
        let wrong: [&[f64]; 7] =
            [&[], &[1.0], &[1.0, 1.0], &[1.0, 2.0], &[1.0, -0.5], &[f64::NAN, 0.0], &[f64::INFINITY, 0.0]];
        for levels in wrong {
            assert!(matches!(Sigmas::literal(levels), Err(Error::Levels { .. })), "{levels:?}");
        }
    }
}
