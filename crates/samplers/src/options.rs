//! What can be set of a sampler or a schedule: typed, with a default and a range.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::Error;

/// Something that can be set.
#[derive(Debug)]
pub struct Param {
    /// Its name in configs and flags.
    pub name: &'static str,
    /// Its key in infotexts: A1111's own where it has one.
    pub label: &'static str,
    /// What it may be, and what it is if it isn't set.
    pub kind: Kind,
    /// One sentence about what it does.
    pub about: &'static str,
}

/// What a [`Param`] may be.
#[derive(Debug, PartialEq)]
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
    Choice(&'static [&'static str]),
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
            Self::Choice(names) => (*names.first().unwrap_or(&"")).to_owned(),
        }
    }

    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number { min, max, .. }, Value::Number(x)) => (min..=max).contains(&x),
            (Self::Whole { min, max, .. }, Value::Number(x)) => {
                x.fract() == 0.0 && (*min as f64..=*max as f64).contains(x)
            }
            (Self::Choice(names), Value::Name(name)) => names.contains(&name.as_str()),
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

/// What is set of a sampler and its schedule; everything else has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(BTreeMap<String, Value>);

impl Options {
    /// Sets one more, by its name, in place of what it was.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_lowercase(), value);
    }

    /// What one is set to.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// What is set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// These options, if each of them is one of `params` and has a value in its range.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name, [`Error::Option`] for a value.
    pub fn checked(&self, params: &[&'static Param]) -> Result<(), Error> {
        for (name, value) in &self.0 {
            let Some(param) = params.iter().find(|p| p.name == name) else {
                let known = params.iter().map(|p| p.name).collect();
                return Err(Error::UnknownName { kind: "option", name: name.clone(), known });
            };
            if !param.kind.holds(value) {
                let (expected, found) = (param.kind.to_string(), value.to_string());
                return Err(Error::Option { name: param.name, expected, found });
            }
        }
        Ok(())
    }

    pub(crate) fn number(&self, param: &Param) -> f64 {
        match (self.0.get(param.name), &param.kind) {
            (Some(Value::Number(x)), _) => *x,
            (_, Kind::Number { default, .. }) => *default,
            (_, Kind::Whole { default, .. }) => *default as f64,
            (_, Kind::Choice(_)) => 0.0,
        }
    }

    /// What a whole number is set to, or its default.
    pub fn whole(&self, param: &Param) -> usize {
        self.number(param) as usize
    }

    /// The place of the name in its [`Kind::Choice`].
    pub(crate) fn choice(&self, param: &Param) -> usize {
        match (self.0.get(param.name), &param.kind) {
            (Some(Value::Name(name)), Kind::Choice(names)) => names.iter().position(|n| n == name).unwrap_or(0),
            _ => 0,
        }
    }
}

/// A [`Param`] that is a number.
pub(crate) const fn number(
    name: &'static str,
    label: &'static str,
    [default, min, max]: [f64; 3],
    about: &'static str,
) -> Param {
    Param { name, label, kind: Kind::Number { default, min, max }, about }
}

/// A [`Param`] that is a whole number.
pub(crate) const fn whole(
    name: &'static str,
    label: &'static str,
    [default, min, max]: [usize; 3],
    about: &'static str,
) -> Param {
    Param { name, label, kind: Kind::Whole { default, min, max }, about }
}

/// How much of a step's noise is drawn anew.
pub(crate) static ETA: Param =
    number("eta", "Eta", [1.0, 0.0, 1.0], "How much of a step's noise is drawn anew; 0 draws none.");

/// [`ETA`] for samplers that are deterministic unless it is set.
pub(crate) static ETA_0: Param =
    number("eta", "Eta", [0.0, 0.0, 1.0], "How much of a step's noise is drawn anew; 0 draws none.");

/// The seed of the noise that steps draw, counted from the picture's (A1111: eta_noise_seed_delta, of the samplers with `uses_ensd`).
///
/// Whoever draws the noise has to know it; samplers don't.
pub static ENSD: Param = whole(
    "ensd",
    "ENSD",
    [0, 0, u32::MAX as usize],
    "What is added to the seed for the noise of steps, which then begins anew; 0 goes on with that of the start.",
);

/// The strength of drawn noise.
pub(crate) static S_NOISE: Param =
    number("s_noise", "Sigma noise", [1.0, 0.0, 10.0], "What drawn noise is multiplied by.");

#[cfg(test)]
mod tests {
    use super::*;

    static ORDER: Param = whole("order", "Order", [3, 1, 4], "");
    static KIND: Param = Param { name: "kind", label: "Kind", kind: Kind::Choice(&["a", "b"]), about: "" };

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
        assert_eq!((none.number(&ETA), none.whole(&ORDER), none.choice(&KIND)), (1.0, 3, 0));
        let some = options("eta=0.5 order=2 kind=B");
        assert_eq!((some.number(&ETA), some.whole(&ORDER), some.choice(&KIND)), (0.5, 2, 1));
    }

    #[test]
    fn a_wrong_name_or_value_is_an_error() {
        let params = [&ETA, &ORDER, &KIND];
        assert!(options("eta=0 order=4 kind=a").checked(&params).is_ok());
        assert!(matches!(options("etta=0").checked(&params), Err(Error::UnknownName { kind: "option", .. })));
        for wrong in ["eta=-1", "eta=nan", "eta=inf", "eta=x", "order=2.5", "order=5", "kind=c", "kind=1"] {
            assert!(matches!(options(wrong).checked(&params), Err(Error::Option { .. })), "{wrong}");
        }
    }
}
