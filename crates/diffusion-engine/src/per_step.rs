//! A number that may be another one from step to step.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use samplers::Schedule;

/// What a number is from step to step.
#[derive(Clone, Debug, PartialEq)]
pub enum PerStep {
    /// The same in all steps.
    Same(f32),
    /// One for each step, at least one; the last goes on where there are more steps.
    Each(Vec<f32>),
    /// From one number in the first step to another in the last.
    Ramp {
        /// That of the first step.
        from: f32,
        /// That of the last step.
        to: f32,
        /// The way between them.
        shape: Shape,
    },
}

/// How a ramp goes from its first number to its last, as in the extension sd-dynamic-thresholding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// By as much in each step.
    #[default]
    Linear,
    /// Slowly at first and fast at last, by the share `1 - cos(π/2 · step / last)`.
    Cosine,
}

impl Shape {
    const ALL: [(Self, &str); 2] = [(Self::Linear, "linear"), (Self::Cosine, "cosine")];

    /// How much of the way is behind a share of the steps.
    fn share(self, of: f32) -> f32 {
        match self {
            Self::Linear => of,
            Self::Cosine => 1.0 - (of * std::f32::consts::FRAC_PI_2).cos(),
        }
    }
}

impl PerStep {
    /// The most numbers of a list: one for each step of the longest run.
    pub const MOST: usize = Schedule::MAX_STEPS;

    /// The number of a step, from 0, of so many.
    pub fn at(&self, step: usize, steps: usize) -> f32 {
        match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => numbers.get(step).or(numbers.last()).copied().unwrap_or(1.0),
            Self::Ramp { from, to, shape } => match steps.saturating_sub(1) {
                0 => *from,
                last if step >= last => *to,
                last => from + (to - from) * shape.share(step as f32 / last as f32),
            },
        }
    }

    /// The largest of its numbers.
    pub fn largest(&self) -> f32 {
        self.numbers().fold(f32::NEG_INFINITY, f32::max)
    }

    /// The first of the numbers that it is made of which is not in a range, such as NaN.
    pub fn outside(&self, range: &RangeInclusive<f32>) -> Option<f32> {
        self.numbers().find(|number| !range.contains(number))
    }

    /// The one number that it is in all steps, if it is written as one.
    pub fn same(&self) -> Option<f32> {
        match self {
            Self::Same(number) => Some(*number),
            Self::Each(_) | Self::Ramp { .. } => None,
        }
    }

    /// The numbers that it is made of; a ramp goes from the one to the other and nowhere beyond.
    fn numbers(&self) -> impl Iterator<Item = f32> {
        let (list, ends) = match self {
            Self::Same(number) => (&[][..], vec![*number]),
            Self::Each(numbers) => (&numbers[..], Vec::new()),
            Self::Ramp { from, to, .. } => (&[][..], vec![*from, *to]),
        };
        list.iter().copied().chain(ends)
    }
}

/// 1 in all steps.
impl Default for PerStep {
    fn default() -> Self {
        Self::Same(1.0)
    }
}

impl From<f32> for PerStep {
    fn from(number: f32) -> Self {
        Self::Same(number)
    }
}

/// As infotexts and flags have it, so that it reads as what it was: `7`, `[7, 5, 3]`, `7..1.5`, `7..1.5 cosine`.
impl fmt::Display for PerStep {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Same(number) => write!(f, "{number}"),
            Self::Each(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
                write!(f, "[{}]", numbers.join(", "))
            }
            Self::Ramp { from, to, shape: Shape::Linear } => write!(f, "{from}..{to}"),
            Self::Ramp { from, to, shape: Shape::Cosine } => write!(f, "{from}..{to} cosine"),
        }
    }
}

impl FromStr for PerStep {
    type Err = NotPerStep;

    /// A number, numbers in brackets, or a ramp: `7..1.5`, with `linear` or `cosine` behind it. Without brackets `1,5` is no list: many
    /// write one and a half so.
    fn from_str(text: &str) -> Result<Self, NotPerStep> {
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f32| number.is_finite()).ok_or(NotPerStep);
        let text = text.trim();
        if let Some((from, behind)) = text.split_once("..") {
            let (to, shape) = behind.trim().split_once(char::is_whitespace).unwrap_or((behind, "linear"));
            let is_called = |name: &str| name.eq_ignore_ascii_case(shape.trim());
            let (shape, _) = Shape::ALL.into_iter().find(|(_, name)| is_called(name)).ok_or(NotPerStep)?;
            return Ok(Self::Ramp { from: number(from)?, to: number(to)?, shape });
        }
        let Some(inside) = text.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) else {
            return number(text).map(Self::Same);
        };
        let numbers: Vec<f32> = inside.split(',').map(number).collect::<Result<_, _>>()?;
        (numbers.len() <= Self::MOST).then_some(Self::Each(numbers)).ok_or(NotPerStep)
    }
}

/// A text that is no [`PerStep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number, a list of at most {} numbers or a ramp such as `7..1.5` or `7..1.5 cosine`", PerStep::MOST)]
pub struct NotPerStep;

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str, steps: usize) -> Vec<f32> {
        let per_step: PerStep = text.parse().unwrap();
        (0..steps).map(|step| per_step.at(step, steps)).collect()
    }

    #[test]
    fn a_list_says_each_step_and_its_last_number_goes_on() {
        assert_eq!(steps("7", 3), [7.0; 3]);
        assert_eq!(steps("[7, 5,3.5]", 3), [7.0, 5.0, 3.5]);
        assert_eq!(steps("[7, 5]", 4), [7.0, 5.0, 5.0, 5.0]);
        assert_eq!(steps("[7, 5, 3]", 2), [7.0, 5.0]);
        assert_eq!(steps("[2]", 2), [2.0, 2.0]);
    }

    #[test]
    fn a_ramp_begins_and_ends_at_its_numbers() {
        assert_eq!(steps("7..1", 4), [7.0, 5.0, 3.0, 1.0]);
        assert_eq!(steps("1 .. 7 Linear", 4), [1.0, 3.0, 5.0, 7.0]);
        assert_eq!(steps("7..1", 1), [7.0]);
        let cosine = steps("7..1 cosine", 3);
        assert_eq!([cosine[0], cosine[2]], [7.0, 1.0]);
        assert!((cosine[1] - (1.0 + 6.0 * 0.5f32.sqrt())).abs() < 1e-6, "{cosine:?}");
        // Neither a pass without steps nor a call behind the last one leaves it.
        assert_eq!(
            [(0, 0), (9, 4)].map(|(step, steps)| PerStep::from_str("7..1").unwrap().at(step, steps)),
            [7.0, 1.0]
        );
    }

    #[test]
    fn what_is_written_reads_as_what_it_was() {
        for text in ["7", "7.1", "[7, 5.5, 3]", "[7]", "7..1.5", "1..7.25 cosine", "0.1..1000000"] {
            assert_eq!(text.parse::<PerStep>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "x",
            "nan",
            "inf",
            "7,",
            "[7",
            "7]",
            "[]",
            "7..",
            "..7",
            "7..x",
            "7..1 round",
            "7..1..2",
            "7 5",
            "1,5",
            "7, 5, 3",
            "1e99",
        ] {
            assert_eq!(text.parse::<PerStep>(), Err(NotPerStep), "{text}");
        }
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(list(PerStep::MOST).parse::<PerStep>().is_ok());
        assert!(list(PerStep::MOST + 1).parse::<PerStep>().is_err());
        assert_eq!("[7, 0.5]".parse::<PerStep>().unwrap().outside(&(1.0..=100.0)), Some(0.5));
        assert!(PerStep::Same(f32::NAN).outside(&(1.0..=100.0)).is_some());
    }
}
