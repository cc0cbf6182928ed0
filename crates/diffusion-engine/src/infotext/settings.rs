//! What tells settings from the words of a prompt.

use super::{
    Writer,
    keys::{Meaning, Second, meaning},
    pairs::Pair,
    values,
};
use crate::{Emphasis, Key, PerStep, Value};

/// What stands before the negative prompt.
pub(super) const NEGATIVE: &str = "Negative prompt:";

/// Whether pairs are settings and not a prompt with colons: A1111's own rule is that they begin with the steps, or are three or more.
/// Here one of three at least has to be a known key, and fewer do if every one is and has a value that fits.
pub(super) fn are_settings(pairs: &[Pair], knobs: &[Key]) -> bool {
    let keyed = pairs.iter().filter(|(_, value)| !value.is_empty()).count();
    match pairs {
        [] => false,
        [first, ..] if is_steps(first) => true,
        _ if keyed >= 3 => pairs.iter().any(|pair| is_known(pair, knobs)),
        _ => pairs.iter().all(|pair| is_known(pair, knobs) && fits(pair, knobs)),
    }
}

pub(super) fn is_steps((key, _): &Pair) -> bool {
    meaning(key, Writer::Unknown, &[]) == Some(Meaning::Steps)
}

pub(super) fn is_known((key, _): &Pair, knobs: &[Key]) -> bool {
    meaning(key, Writer::Unknown, knobs).is_some_and(|meaning| !is_text(meaning))
}

/// Whether what a meaning's key says are words.
fn is_text(meaning: Meaning) -> bool {
    matches!(
        meaning,
        Meaning::Prompt
            | Meaning::Negative
            | Meaning::Template
            | Meaning::NegativeTemplate
            | Meaning::Second(Second::Prompt | Second::Negative)
    )
}

/// Whether a value is such as its key asks for, as far as that can be told without the registry.
fn fits((key, value): &Pair, knobs: &[Key]) -> bool {
    match meaning(key, Writer::Unknown, knobs) {
        Some(
            Meaning::Steps | Meaning::Seed | Meaning::VariationSeed | Meaning::Width | Meaning::Height | Meaning::Batch,
        ) => values::whole(value).is_some(),
        Some(Meaning::Second(Second::Steps)) => values::whole(value).is_some(),
        Some(Meaning::Second(Second::Strength | Second::Scale) | Meaning::RefinerSwitch) => {
            values::number(value).is_some()
        }
        Some(Meaning::Second(Second::Cfg)) => value.parse::<PerStep>().is_ok(),
        Some(Meaning::Knob(at)) => !matches!(knobs[at].read(value), Value::Text(_)),
        Some(Meaning::Cfg) => value.parse::<PerStep>().is_ok(),
        Some(Meaning::Scale | Meaning::VariationStrength) => values::number(value).is_some(),
        Some(Meaning::Emphasis) => value.parse::<Emphasis>().is_ok(),
        Some(Meaning::Size | Meaning::ResizedFrom) => values::size(value).is_some(),
        Some(
            Meaning::Prompt
            | Meaning::Negative
            | Meaning::Template
            | Meaning::NegativeTemplate
            | Meaning::Sampler
            | Meaning::Schedule
            | Meaning::Rng
            | Meaning::SeedMode
            | Meaning::Sigmas
            | Meaning::Profile
            | Meaning::Version
            | Meaning::Second(_)
            | Meaning::Refiner
            | Meaning::RefinerPasses,
        )
        | None => false,
    }
}
