use crate::{Options, Setting, SigmaSpace, options::number};

/// The lowest level of those that go from end to end.
pub(crate) static SIGMA_MIN: Setting<f64> =
    number("sigma_min", "Schedule min sigma", [0.0, 0.0, 1e4], "The lowest level above 0; 0 is the model's own.");
/// Their highest.
pub(crate) static SIGMA_MAX: Setting<f64> =
    number("sigma_max", "Schedule max sigma", [0.0, 0.0, 1e4], "The highest level; 0 is the model's own.");

/// The highest level and the lowest, as they are set or the model's.
pub(crate) fn ends(space: &SigmaSpace, options: &Options) -> (f64, f64) {
    let or = |set: f64, own: f64| if set > 0.0 { set } else { own };
    let (last, first) = space.ends();
    (or(options.get(&SIGMA_MAX), last), or(options.get(&SIGMA_MIN), first))
}
