use std::ops::Deref;

/// A descending list of noise levels that ends in zero.
///
/// Never shorter than two, never NaN: [`Schedule::sigmas`](crate::Schedule::sigmas) is the only way to make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmas(Vec<f32>);

impl Sigmas {
    pub(crate) fn ending_in_zero(levels: Vec<f64>) -> Self {
        debug_assert!(levels.windows(2).all(|w| w[0] > w[1]), "levels descend: {levels:?}");
        Self(levels.into_iter().map(|s| s as f32).chain([0.0]).collect())
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

/// The noise levels that a model was trained on, as a function of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SigmaSpace {
    /// Rectified flow: sigma is time itself, shifted towards noise by `e^mu` where there is a `mu`.
    Flow {
        /// The shift's logarithm; `None` leaves time as it is.
        mu: Option<f64>,
    },
}

impl SigmaSpace {
    /// The noise level at time `t`, 0 (data) to 1 (noise).
    ///
    /// `e^mu / (e^mu + 1/t - 1)`: flux/sampling.py `time_shift`, 802fb47.
    pub fn sigma(&self, t: f64) -> f64 {
        match *self {
            SigmaSpace::Flow { mu: None } => t,
            SigmaSpace::Flow { mu: Some(mu) } => mu.exp() / (mu.exp() + (1.0 / t - 1.0)),
        }
    }
}
