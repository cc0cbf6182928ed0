//! The prompt language of Stable Diffusion's interfaces.
//!
//! A prompt goes through comments, what it names in angle brackets, `AND`, words that change, and weights, in this order.

mod attention;
mod changes;
mod choices;
mod comments;
mod composition;
mod extra_networks;
mod fault;
mod letters;
mod random;
mod styles;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use samplers::{Options, Value};

pub use choices::{Wildcards, chosen, has_choices};
pub use extra_networks::ExtraNetwork;
pub use fault::PromptFault;
pub use styles::{Style, Styles};

use changes::Changes;

/// What a pass draws: one prompt, or several at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    /// At least one.
    pub(crate) parts: Vec<Part>,
}

/// One prompt of those that are drawn at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// How much it counts.
    pub(crate) weight: f32,
    /// What it says from call to call, at least once.
    pub(crate) editions: Vec<Edition>,
}

/// What a prompt says until it says something else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edition {
    /// The last call that it is for, counted from 0; what comes last goes on behind it.
    pub(crate) until: usize,
    /// How often it is among what A1111 encodes at once: for each time at which words change there, also where these don't.
    pub(crate) times: usize,
    /// None where it says nothing at all.
    pub(crate) pieces: Vec<Piece>,
}

/// How a prompt's own times come to calls of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// Calls of the pass, as its sampler most often has them.
    pub(crate) calls: usize,
    /// Calls of the passes before: what a time that is a number of steps has behind it.
    pub(crate) calls_before: usize,
    /// What a time that is a share of the steps has behind it.
    pub(crate) shares_before: f64,
}

impl Script {
    /// The most prompts that the words of one may change to.
    pub(crate) const MOST: usize = 256;

    /// What a positive prompt says; `applied` is what it may name beside its words, as that is in the model.
    ///
    /// # Errors
    /// As [`checked`], and [`PromptFault::Editions`].
    pub(crate) fn positive(
        prompt: &str,
        emphasis: Emphasis,
        time: Timeline,
        applied: &[ExtraNetwork],
    ) -> Result<Self, PromptFault> {
        let words = checked(prompt, |network| applied.contains(network))?;
        let part = |part: composition::Part| {
            let editions = editions(part.text, emphasis, time)?;
            Ok(Part { weight: part.weight, editions })
        };
        Ok(Self { parts: composition::parts(&words)?.into_iter().map(part).collect::<Result<_, _>>()? })
    }

    /// What a negative prompt says: `AND` is a word in it.
    ///
    /// # Errors
    /// As [`Script::positive`].
    pub(crate) fn negative(
        prompt: &str,
        emphasis: Emphasis,
        time: Timeline,
        applied: &[ExtraNetwork],
    ) -> Result<Self, PromptFault> {
        let editions = editions(&checked(prompt, |network| applied.contains(network))?, emphasis, time)?;
        Ok(Self { parts: vec![Part { weight: 1.0, editions }] })
    }
}

fn editions(words: &str, emphasis: Emphasis, time: Timeline) -> Result<Vec<Edition>, PromptFault> {
    let editions = Changes::of(words).editions(time, Script::MOST)?.into_iter();
    let read = |changes::Edition { until, times, text }| {
        Ok(Edition { until, times, pieces: attention::pieces(&text, emphasis)? })
    };
    editions.map(read).collect()
}

/// The words of a prompt, with all marks but comments and without spaces around them, if nothing is wrong with it that can be told without
/// a pass; `may` says what may be named beside them.
///
/// # Errors
/// [`PromptFault::ExtraNetwork`], [`PromptFault::TooDeep`], [`PromptFault::Weight`].
pub(crate) fn checked(prompt: &str, may: impl Fn(&ExtraNetwork) -> bool) -> Result<String, PromptFault> {
    let (words, networks) = extra_networks::split(&comments::stripped(prompt));
    if let Some(network) = networks.into_iter().find(|network| !may(network)) {
        return Err(PromptFault::ExtraNetwork { network });
    }
    composition::parts(&words)?;
    attention::pieces(&words, Emphasis::Original)?;
    Ok(words.trim().to_owned())
}

/// Whether a prompt is more than one that counts as it is, so that it is drawn by what it adds to the negative one.
pub(crate) fn is_composed(prompt: &str) -> bool {
    let (words, _) = extra_networks::split(&comments::stripped(prompt));
    !composition::parts(&words).is_ok_and(|parts| matches!(parts[..], [composition::Part { weight: 1.0, .. }]))
}

/// The weight of a prompt that is drawn alone, if a number behind a colon at its end says one: `a cat:1.2`.
pub fn end_weight(prompt: &str) -> Option<f32> {
    let (words, _) = extra_networks::split(&comments::stripped(prompt));
    match composition::parts(&words).ok()?[..] {
        [composition::Part { weight, .. }] => Some(weight).filter(|weight| *weight != 1.0),
        _ => None,
    }
}

/// What a prompt names in angle brackets, in its order: `<lora:name:0.8>`.
pub fn extra_networks(prompt: &str) -> Vec<ExtraNetwork> {
    extra_networks::split(&comments::stripped(prompt)).1
}

/// A prompt, and all that is said about its encoding: what encoded prompts are kept by.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its words, and where chunks of tokens begin; none where it says nothing at all.
    pub pieces: Vec<Piece>,
    /// The family's own settings.
    pub settings: Options,
}

/// The setting of a prompt that is not wanted.
const NEGATIVE: &str = "negative";
/// The setting of how the weights of words count.
const EMPHASIS: &str = "emphasis";

impl Prompt {
    /// The same as one that is not wanted, which some models encode in another way.
    #[must_use]
    pub fn negative(mut self) -> Self {
        self.settings.set(NEGATIVE, Value::Number(1.0));
        self
    }

    /// Whether it is one that is not wanted.
    pub fn is_negative(&self) -> bool {
        self.settings.value(NEGATIVE).is_some()
    }

    /// The same with a way in which the weights of its words count.
    #[must_use]
    pub fn weighed(mut self, emphasis: Emphasis) -> Self {
        self.settings.set(EMPHASIS, Value::Name(emphasis.id().into()));
        self
    }

    /// How the weights of its words count.
    pub fn emphasis(&self) -> Emphasis {
        self.settings.name(EMPHASIS).and_then(|name| name.parse().ok()).unwrap_or_default()
    }

    /// The words of all pieces, without their weights; a space stands for each [`Piece::Break`].
    pub fn text(&self) -> String {
        let words = |piece: &Piece| match piece {
            Piece::Words { text, .. } => text.clone(),
            Piece::Break => " ".to_owned(),
        };
        self.pieces.iter().map(words).collect()
    }
}

/// A stretch of a prompt between the marks of its language.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words that are drawn alike.
    Words {
        /// The words, without marks and escapes, their spaces kept.
        text: String,
        /// How much they count: 1 where nothing is said, 1.1 for `(words)`, 1.3 for `(words:1.3)`.
        weight: f32,
    },
    /// `BREAK`: what follows begins a new chunk of tokens.
    Break,
}

impl Piece {
    /// Words that count as they are.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Words { text: text.into(), weight: 1.0 }
    }
}

/// How the weights of words change what a text encoder makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Each token's vector is multiplied by its weight, and then all of a chunk by what brings back their mean.
    #[default]
    Original,
    /// Each token's vector is multiplied by its weight.
    NoNorm,
    /// The marks are read and the weights left out.
    Ignore,
    /// The marks are words like all others.
    None,
}

impl Emphasis {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Original, Self::NoNorm, Self::Ignore, Self::None];

    /// The names of all in configs.
    pub const IDS: [&str; 4] = ["original", "no-norm", "ignore", "none"];

    /// What they are called in configs, for errors.
    pub(crate) const NAMES: &str = "original, no-norm, ignore or none";

    /// Its name in configs.
    pub fn id(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::NoNorm => "no-norm",
            Self::Ignore => "ignore",
            Self::None => "none",
        }
    }

    /// Its name in infotexts, as A1111 and Forge write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Original => "Original",
            Self::NoNorm => "No norm",
            Self::Ignore => "Ignore",
            Self::None => "None",
        }
    }
}

impl FromStr for Emphasis {
    type Err = UnknownEmphasis;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_called =
            |emphasis: &Self| [emphasis.id(), emphasis.label()].iter().any(|name| name.eq_ignore_ascii_case(text));
        Self::ALL.into_iter().find(is_called).ok_or(UnknownEmphasis)
    }
}

/// A text that names no [`Emphasis`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected original, no-norm, ignore or none")]
pub struct UnknownEmphasis;
