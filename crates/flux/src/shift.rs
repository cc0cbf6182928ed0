//! How far a model's time is shifted towards noise: as its folder's scheduler says it was trained, or else as Black Forest Labs have it.

use std::fmt;

use diffusion_engine::{Error, family::Settings};

/// What a model's time is shifted by; [`Shift::factor`] is the factor by which noise over data becomes larger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// The same factor for every picture; 1 leaves time as it is.
    Fixed(f64),
    /// By the picture's size.
    BySize {
        /// A line over the picture's tokens.
        line: Line,
        /// Whether the line is the factor's logarithm, and not the factor.
        is_logarithm: bool,
    },
}

/// A line through two points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// A picture's tokens, and the value there.
    pub base: (f64, f64),
    /// The tokens of a larger picture, and the value there.
    pub max: (f64, f64),
}

/// What diffusers' `scheduler/scheduler_config.json` says of noise levels; a key that is not there is as its scheduler has it.
#[derive(serde::Deserialize)]
struct SchedulerConfig {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    num_train_timesteps: Option<f64>,
    shift: Option<f64>,
    use_dynamic_shifting: Option<bool>,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<f64>,
    max_image_seq_len: Option<f64>,
    time_shift_type: Option<String>,
    shift_terminal: Option<f64>,
    invert_sigmas: Option<bool>,
}

/// How the classes of schedulers of Flux's process begin. What they do with its levels beyond the shift is a matter of the request.
const CLASSES: &str = "FlowMatch";
/// A network is told a thousand times the noise level.
const TIMESTEPS: f64 = 1000.0; // diffusers FluxPipeline: timestep / 1000

impl Shift {
    /// What Black Forest Labs' models have: with distilled guidance (dev) a line for the factor's logarithm, without (schnell) none.
    pub fn usual(guidance_distilled: bool) -> Self {
        match guidance_distilled {
            true => Self::BySize { line: Line::MAKERS, is_logarithm: true },
            false => Self::Fixed(1.0),
        }
    }

    /// What the `scheduler_config.json` of a model's folder says; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Settings`] for a value of another type than its key's, and [`Error::Model`] for noise levels that are not made here.
    pub(crate) fn of(scheduler: &Settings) -> Result<Option<Self>, Error> {
        scheduler.read::<Option<SchedulerConfig>>()?.as_ref().map(SchedulerConfig::shift).transpose()
    }

    /// The factor for a picture of so many tokens.
    pub fn factor(&self, tokens: usize) -> f64 {
        match *self {
            Self::Fixed(factor) => factor,
            Self::BySize { line, is_logarithm: true } => line.at(tokens).exp(),
            Self::BySize { line, is_logarithm: false } => line.at(tokens),
        }
    }

    /// Finds out whether time can be shifted so for a picture of so many tokens: lines may lead anywhere.
    pub(crate) fn checked(&self, tokens: usize) -> Result<(), Error> {
        let factor = self.factor(tokens);
        match factor > 0.0 && factor.is_finite() {
            true => Ok(()),
            false => Err(Error::Model {
                what: "the shift of noise levels that the folder's scheduler says",
                expected: format!("above 0 and finite for a picture of {tokens} tokens"),
                found: factor.to_string(),
            }),
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(1.0) => f.write_str("not shifted"),
            Self::Fixed(factor) => write!(f, "shifted by {factor}"),
            Self::BySize { line: Line { base, max }, is_logarithm } => {
                let [least, most] = [base.1, max.1].map(|y| if *is_logarithm { y.exp() } else { y });
                write!(f, "shifted by {least:.2} at {} tokens of a picture, and by {most:.2} at {}", base.0, max.0)
            }
        }
    }
}

impl Line {
    /// Black Forest Labs'.
    pub(crate) const MAKERS: Self = Self {
        base: (256.0, 0.5),  // flux/sampling.py get_schedule, 802fb47: base_shift
        max: (4096.0, 1.15), // flux/sampling.py get_schedule: max_shift
    };

    /// Its value for a picture of so many tokens.
    pub(crate) fn at(&self, tokens: usize) -> f64 {
        let Self { base, max } = self;
        let slope = (max.1 - base.1) / (max.0 - base.0);
        slope * tokens as f64 + (base.1 - slope * base.0)
    }
}

impl SchedulerConfig {
    /// Reference: diffusers `FlowMatchEulerDiscreteScheduler` and FluxPipeline's `calculate_shift`, 0.42.1.
    fn shift(&self) -> Result<Shift, Error> {
        if let Some(found) = self.unsupported() {
            let expected = format!(
                "those of flow matching over {TIMESTEPS} steps, shifted once by `shift` or by the picture's size"
            );
            return Err(Error::Model { what: "what the folder's scheduler says of noise levels", expected, found });
        }
        if !self.use_dynamic_shifting.unwrap_or(false) {
            return Ok(Shift::Fixed(self.shift.unwrap_or(1.0)));
        }
        let usual = Line::MAKERS;
        let line = Line {
            base: (self.base_image_seq_len.unwrap_or(usual.base.0), self.base_shift.unwrap_or(usual.base.1)),
            max: (self.max_image_seq_len.unwrap_or(usual.max.0), self.max_shift.unwrap_or(usual.max.1)),
        };
        Ok(Shift::BySize { line, is_logarithm: self.time_shift_type.as_deref() != Some("linear") })
    }

    /// What it says that no levels are made by here.
    fn unsupported(&self) -> Option<String> {
        let class = self.class.as_ref().filter(|class| !class.starts_with(CLASSES)).map(|class| format!("a `{class}`"));
        let of_time = |kind: &&String| !["exponential", "linear"].contains(&kind.as_str());
        let number = |key: &str, value: f64| format!("`{key}` {value}");
        class
            .or_else(|| {
                let timesteps = self.num_train_timesteps.filter(|&timesteps| timesteps != TIMESTEPS)?;
                Some(number("num_train_timesteps", timesteps))
            })
            // Of a scheduler that ends at 0 anyway nothing is stretched.
            .or_else(|| Some(number("shift_terminal", self.shift_terminal.filter(|&last| last != 0.0)?)))
            .or_else(|| Some(format!("`time_shift_type` \"{}\"", self.time_shift_type.as_ref().filter(of_time)?)))
            .or_else(|| self.invert_sigmas.filter(|on| *on).map(|_| "`invert_sigmas` true".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(json: Value) -> Result<Shift, String> {
        Shift::of(&Settings::of(json)).map(|shift| shift.expect("there is a config")).map_err(|error| error.to_string())
    }

    #[test]
    fn published_folders_say_what_the_models_have_anyway() {
        // as in the folders of dev, Fill and Kontext, and of schnell
        let dev = json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
            "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 3.0,
            "use_dynamic_shifting": true,
        });
        assert_eq!(of(dev), Ok(Shift::usual(true)));
        let schnell = json!({"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false});
        assert_eq!(of(schnell), Ok(Shift::usual(false)));
        assert_eq!(Shift::of(&Settings::default()).unwrap(), None);
    }

    #[test]
    fn noise_levels_that_are_not_made_here_are_named() {
        for json in [
            json!({"shift_terminal": null, "invert_sigmas": false}),
            json!({"_class_name": "FlowMatchLCMScheduler", "use_karras_sigmas": true, "stochastic_sampling": true}),
        ] {
            assert_eq!(of(json), Ok(Shift::Fixed(1.0)));
        }
        for (json, names) in [
            (json!({"_class_name": "EulerDiscreteScheduler"}), "a `EulerDiscreteScheduler`"),
            (json!({"num_train_timesteps": 500}), "`num_train_timesteps` 500"),
            (json!({"shift_terminal": 0.1}), "`shift_terminal` 0.1"),
            (json!({"time_shift_type": "cubic"}), "`time_shift_type` \"cubic\""),
            (json!({"invert_sigmas": true}), "`invert_sigmas` true"),
        ] {
            let told = of(json.clone()).unwrap_err();
            assert!(told.contains(names) && told.contains("flow matching"), "{json}: {told}");
        }
        assert!(matches!(Shift::of(&Settings::of(json!({"shift": "3"}))), Err(Error::Settings { .. })));
    }

    #[test]
    fn a_shift_is_told_by_its_factors() {
        for (json, words) in [
            (json!({"shift": 1}), "not shifted"),
            (json!({"shift": 3.0}), "shifted by 3"),
            (json!({"use_dynamic_shifting": true}), "shifted by 1.65 at 256 tokens of a picture, and by 3.16 at 4096"),
        ] {
            assert_eq!(of(json).unwrap().to_string(), words);
        }
    }

    #[test]
    fn a_shift_that_leads_nowhere_is_told_for_the_picture() {
        let linear =
            of(json!({"use_dynamic_shifting": true, "time_shift_type": "linear", "base_shift": 0.05})).unwrap();
        assert!(linear.checked(256).is_ok());
        let told = linear.checked(16).unwrap_err().to_string();
        assert!(told.contains("above 0 and finite for a picture of 16 tokens"), "{told}");
        assert!(of(json!({"shift": 0})).unwrap().checked(16).is_err());
        let point = of(json!({"use_dynamic_shifting": true, "base_image_seq_len": 4096})).unwrap();
        assert!(point.checked(16).is_err());
    }
}
