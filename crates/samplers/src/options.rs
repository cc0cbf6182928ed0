//! What can be set of a sampler or a schedule: typed, with a default and a range.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use crate::Error;

/// Something that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name in configs and flags.
    pub name: Cow<'static, str>,
    /// Its key in infotexts: A1111's own where it has one.
    pub label: Cow<'static, str>,
    /// What it may be, and what it is if it isn't set.
    pub kind: Kind,
    /// One sentence about what it does.
    pub about: Cow<'static, str>,
}

/// What a [`Param`] may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A number of a range, whose ends belong to it.
    Number {
        /// The value if it isn't set.
        default: f64,
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A whole number of a range, whose ends belong to it.
    Whole {
        /// The value if it isn't set.
        default: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// One of these names; the first, if it isn't set.
    Choice(Vec<Cow<'static, str>>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Number { min, max, .. } => write!(f, "{min} to {max}"),
            Self::Whole { min, max, .. } => write!(f, "a whole number from {min} to {max}"),
            Self::Choice(names) => write!(f, "{}", names.join(", ")),
        }
    }
}

impl Kind {
    /// What it is if it isn't set, as text.
    pub fn default(&self) -> String {
        match self {
            Self::Number { default, .. } => default.to_string(),
            Self::Whole { default, .. } => default.to_string(),
            Self::Choice(names) => names.first().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number { min, max, .. }, Value::Number(x)) => (min..=max).contains(&x),
            (Self::Whole { min, max, .. }, Value::Number(x)) => {
                x.fract() == 0.0 && (*min as f64..=*max as f64).contains(x)
            }
            (Self::Choice(names), Value::Name(name)) => names.iter().any(|n| n == name),
            _ => false,
        }
    }
}

/// What a [`Param`] is set to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, whole or not.
    Number(f64),
    /// A name, in lower case.
    Name(String),
}

impl FromStr for Value {
    type Err = std::convert::Infallible;

    /// A number if it is one, and a name if not.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.trim().parse().map_or_else(|_| Self::Name(text.trim().to_lowercase()), Self::Number))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Number(x) => write!(f, "{x}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// The options of a sampler and its schedule that are set; every other has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(BTreeMap<String, Value>);

impl Options {
    /// Sets one more, by its name, in place of what it was.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_lowercase(), value);
    }

    /// What the option of a name is set to.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The number that the option of a name is set to, if it is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Number(number) => Some(*number),
            Value::Name(_) => None,
        }
    }

    /// The name that the option of a name is set to, if it is one.
    pub fn name(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Name(name) => Some(name),
            Value::Number(_) => None,
        }
    }

    /// The same with those of `others` that are among `params` and not set.
    pub fn or(mut self, others: &Self, params: &[Param]) -> Self {
        for (name, value) in others.iter().filter(|(name, _)| params.iter().any(|param| param.name == *name)) {
            self.0.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
        self
    }

    /// What is set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// These options, if each of them is one of `params` and has a value in its range.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name, [`Error::Option`] for a value.
    pub fn checked(&self, params: &[Param]) -> Result<(), Error> {
        for (name, value) in &self.0 {
            let Some(param) = params.iter().find(|p| p.name == *name) else {
                let known = params.iter().map(|p| p.name.to_string()).collect();
                return Err(Error::UnknownName { kind: "option", name: name.clone(), known });
            };
            if !param.kind.holds(value) {
                let (expected, found) = (param.kind.to_string(), value.to_string());
                return Err(Error::Option { name: param.name.to_string(), expected, found });
            }
        }
        Ok(())
    }

    /// What an option is set to, or its default.
    pub fn get<T>(&self, setting: &Setting<T>) -> T {
        (setting.read)(&setting.param.kind, self.0.get(&*setting.param.name))
    }
}

/// A [`Param`] with the type that it is read as: a number is an `f64`, a whole number a `usize`, and a choice the place of its name.
///
/// ```
/// use samplers::{Options, Setting};
///
/// let gain = Setting::number("gain", "Gain", [1.0, 0.0, 2.0], "What the slope is multiplied by.");
/// assert_eq!(Options::default().get(&gain), 1.0);
/// ```
#[derive(Clone, Debug)]
pub struct Setting<T> {
    param: Param,
    read: fn(&Kind, Option<&Value>) -> T,
}

impl<T> Setting<T> {
    /// What configs, docs and infotexts know of it; an entry lists it among its `params`.
    pub fn param(&self) -> Param {
        self.param.clone()
    }
}

impl Setting<f64> {
    /// A number: its default, the least and the most.
    pub fn number(
        name: impl Into<Cow<'static, str>>,
        label: impl Into<Cow<'static, str>>,
        [default, min, max]: [f64; 3],
        about: impl Into<Cow<'static, str>>,
    ) -> Self {
        let kind = Kind::Number { default, min, max };
        Self { param: Param { name: name.into(), label: label.into(), kind, about: about.into() }, read: read_number }
    }
}

impl Setting<usize> {
    /// A whole number: its default, the least and the most.
    pub fn whole(
        name: impl Into<Cow<'static, str>>,
        label: impl Into<Cow<'static, str>>,
        [default, min, max]: [usize; 3],
        about: impl Into<Cow<'static, str>>,
    ) -> Self {
        let kind = Kind::Whole { default, min, max };
        Self { param: Param { name: name.into(), label: label.into(), kind, about: about.into() }, read: read_whole }
    }

    /// One of some names in lower case, of which the first is the default.
    pub fn choice(
        name: impl Into<Cow<'static, str>>,
        label: impl Into<Cow<'static, str>>,
        names: impl IntoIterator<Item = impl Into<Cow<'static, str>>>,
        about: impl Into<Cow<'static, str>>,
    ) -> Self {
        let kind = Kind::Choice(names.into_iter().map(Into::into).collect());
        Self { param: Param { name: name.into(), label: label.into(), kind, about: about.into() }, read: read_choice }
    }
}

fn read_number(kind: &Kind, set: Option<&Value>) -> f64 {
    match (set, kind) {
        (Some(Value::Number(x)), _) => *x,
        (_, Kind::Number { default, .. }) => *default,
        (_, Kind::Whole { default, .. }) => *default as f64,
        (_, Kind::Choice(_)) => 0.0,
    }
}

fn read_whole(kind: &Kind, set: Option<&Value>) -> usize {
    read_number(kind, set) as usize
}

fn read_choice(kind: &Kind, set: Option<&Value>) -> usize {
    match (set, kind) {
        (Some(Value::Name(name)), Kind::Choice(names)) => names.iter().position(|n| n == name).unwrap_or(0),
        _ => 0,
    }
}

/// [`Setting::number`] for a static.
pub(crate) const fn number(
    name: &'static str,
    label: &'static str,
    [default, min, max]: [f64; 3],
    about: &'static str,
) -> Setting<f64> {
    Setting { param: param(name, label, Kind::Number { default, min, max }, about), read: read_number }
}

/// [`Setting::whole`] for a static.
pub(crate) const fn whole(
    name: &'static str,
    label: &'static str,
    [default, min, max]: [usize; 3],
    about: &'static str,
) -> Setting<usize> {
    Setting { param: param(name, label, Kind::Whole { default, min, max }, about), read: read_whole }
}

const fn param(name: &'static str, label: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name: Cow::Borrowed(name), label: Cow::Borrowed(label), kind, about: Cow::Borrowed(about) }
}

/// How much of a step's noise is drawn anew.
pub(crate) static ETA: Setting<f64> =
    number("eta", "Eta", [1.0, 0.0, 1.0], "How much of a step's noise is drawn anew; 0 draws none.");

/// [`ETA`] for samplers that are deterministic unless it is set.
pub(crate) static ETA_0: Setting<f64> =
    number("eta", "Eta", [0.0, 0.0, 1.0], "How much of a step's noise is drawn anew; 0 draws none.");

/// The seed of the noise that steps draw, counted from the picture's (A1111: eta_noise_seed_delta, of the samplers with `uses_ensd`).
///
/// Whoever draws the noise has to know it; samplers don't.
pub static ENSD: Setting<usize> = whole(
    "ensd",
    "ENSD",
    [0, 0, u32::MAX as usize],
    "What is added to the seed for the noise of steps, which then begins anew; 0 goes on with that of the start.",
);

/// The strength of drawn noise.
pub(crate) static S_NOISE: Setting<f64> =
    number("s_noise", "Sigma noise", [1.0, 0.0, 10.0], "What drawn noise is multiplied by.");

#[cfg(test)]
mod tests {
    use super::*;

    static ORDER: Setting<usize> = whole("order", "Order", [3, 1, 4], "");

    fn kind() -> Setting<usize> {
        Setting::choice("kind", "Kind", ["a", "b"], "")
    }

    fn options(text: &str) -> Options {
        let mut options = Options::default();
        for (name, value) in text.split_whitespace().map(|pair| pair.split_once('=').unwrap()) {
            options.set(name, value.parse().unwrap());
        }
        options
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let none = Options::default();
        assert_eq!((none.get(&ETA), none.get(&ORDER), none.get(&kind())), (1.0, 3, 0));
        let some = options("eta=0.5 order=2 kind=B");
        assert_eq!((some.get(&ETA), some.get(&ORDER), some.get(&kind())), (0.5, 2, 1));
    }

    #[test]
    fn a_wrong_name_or_value_is_an_error() {
        let params = [ETA.param(), ORDER.param(), kind().param()];
        assert!(options("eta=0 order=4 kind=a").checked(&params).is_ok());
        assert!(matches!(options("etta=0").checked(&params), Err(Error::UnknownName { kind: "option", .. })));
        for wrong in ["eta=-1", "eta=nan", "eta=inf", "eta=x", "order=2.5", "order=5", "kind=c", "kind=1"] {
            assert!(matches!(options(wrong).checked(&params), Err(Error::Option { .. })), "{wrong}");
        }
    }
}
