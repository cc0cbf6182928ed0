//! What can be set, as data: a config's keys, flags, help, schema and docs are derived from one entry each.

use std::{collections::BTreeMap, fmt};

use crate::{PerStep, PictureFormat, Upscaler};

/// One key of a config: what it is called, what it may be, and what it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The config's table that it stands in.
    pub table: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is where nothing sets it.
    pub default: Fallback,
    /// What it does: one phrase, which is its flag's help.
    pub about: &'static str,
    /// What the docs, the template and the schema say of it.
    pub docs: &'static str,
    /// The flag that sets it, without its dashes.
    pub flag: Option<&'static str>,
    /// What infotexts call it.
    pub label: Option<&'static str>,
    /// What other programs' infotexts call it.
    pub aliases: &'static [&'static str],
    /// The field of A1111's `/sdapi/v1/txt2img` that sets it.
    pub api: Option<&'static str>,
}

/// What a [`Key`] may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Words of any kind.
    Words {
        /// The flag that names a file with them, without its dashes.
        file: &'static str,
    },
    /// A file or folder that is read.
    File,
    /// A folder that is read.
    Folder,
    /// The name of a picture that is written.
    Output,
    /// One of these names, in any case.
    Choice(&'static [&'static str]),
    /// A sampler of the registry.
    Sampler,
    /// A schedule of the registry.
    Schedule,
    /// A profile of the registry.
    Profile,
    /// A whole number of a range, whose ends belong to it.
    Whole {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
        /// What it is a multiple of; how the next ones are told is the model's affair.
        step: usize,
    },
    /// A number of a range, whose ends belong to it.
    Number {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A number of a range, whose ends belong to it, or what it is from step to step: a list, or a ramp.
    PerStep {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// So many numbers.
    Numbers {
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Places in a stack, from 0: whole numbers and ranges such as `7-9`, with commas between them.
    Places,
    /// Names, as many as one likes.
    Names,
    /// An amount of memory.
    Size,
    /// A seed, or `random`.
    Seed,
    /// A back end, and which of its devices.
    Backend,
    /// Where noise comes from.
    Noise,
    /// What makes a picture larger: one of those that need no file, or a network's file.
    Upscaler,
    /// Options of the sampler and the schedule.
    Options,
}

/// What a [`Key`] is where nothing sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// A whole number.
    Whole(usize),
    /// A number.
    Number(f64),
    /// A text.
    Text(&'static str),
    /// Something that depends on the rest.
    Open {
        /// On what, for people.
        means: &'static str,
        /// What it might be set to, in TOML.
        example: &'static str,
    },
}

impl Key {
    /// A key of this kind that is called as its place says; `table` and `name` are still to be given.
    pub const fn of(kind: Kind, default: Fallback) -> Self {
        Self {
            table: "",
            name: "",
            kind,
            default,
            about: "",
            docs: "",
            flag: None,
            label: None,
            aliases: &[],
            api: None,
        }
    }

    /// The key in this place, with what it does.
    pub const fn at(self, table: &'static str, name: &'static str, about: &'static str) -> Self {
        Self { table, name, about, ..self }
    }

    /// The key with what it does.
    pub const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// The key with what the docs say of it.
    pub const fn docs(self, docs: &'static str) -> Self {
        Self { docs, ..self }
    }

    /// The key with a flag.
    pub const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    /// The key with a name in infotexts.
    pub const fn label(self, label: &'static str) -> Self {
        Self { label: Some(label), ..self }
    }

    /// The key with its names in the infotexts of other programs.
    pub const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// The key with a field of A1111's API.
    pub const fn api(self, api: &'static str) -> Self {
        Self { api: Some(api), ..self }
    }

    /// Its place, such as `sampling.steps`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// Its value where nothing sets it; `None` where that depends on the rest.
    pub fn initial(&self) -> Option<Value> {
        match self.default {
            Fallback::Whole(n) => Some(Value::Whole(n as i128)),
            Fallback::Number(x) => Some(Value::Number(x)),
            Fallback::Text(text) => Some(Value::Text(text.to_owned())),
            Fallback::Open { .. } => None,
        }
    }

    /// What an option is as this key's value, which may be of another kind.
    pub fn value(&self, option: &samplers::Value) -> Value {
        match (option, self.kind) {
            (samplers::Value::Number(x), Kind::Whole { .. }) if x.fract() == 0.0 => Value::Whole(*x as i128),
            (samplers::Value::Number(x), _) => Value::Number(*x),
            (samplers::Value::Name(name), _) => Value::Text(name.clone()),
        }
    }

    /// Reads what a flag says. What is not of the key's kind stays the text that it is.
    pub fn read(&self, text: &str) -> Value {
        let numbers = |text: &str| {
            let numbers = text.split(',').map(|x| x.trim().parse().map(Value::Number));
            numbers.collect::<Result<_, _>>().ok().map(Value::List)
        };
        let number = match self.kind {
            Kind::Whole { .. } => text.parse().ok().map(Value::Whole),
            Kind::Number { .. } => text.parse().ok().map(Value::Number),
            Kind::PerStep { .. } => {
                let bare = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
                match bare {
                    None if !text.contains(',') => text.parse().ok().map(Value::Number),
                    list => numbers(list.unwrap_or(text)),
                }
            }
            Kind::Numbers { .. } => numbers(text),
            Kind::Names => {
                let names = text.split(',').map(|name| Value::Text(name.trim().to_owned()));
                Some(Value::List(names.collect()))
            }
            Kind::Words { .. } | Kind::File | Kind::Folder | Kind::Output | Kind::Choice(_) | Kind::Upscaler => None,
            Kind::Size | Kind::Seed | Kind::Places => None,
            Kind::Sampler | Kind::Schedule | Kind::Profile | Kind::Backend | Kind::Noise | Kind::Options => None,
        };
        number.unwrap_or_else(|| Value::Text(text.to_owned()))
    }
}

/// What a [`Key`] is set to, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i128),
    /// Any number.
    Number(f64),
    /// Several.
    List(Vec<Value>),
    /// Several with names.
    Table(BTreeMap<String, Value>),
    /// What no key takes, such as a date: how it is written.
    Other(String),
}

impl From<&PerStep> for Value {
    fn from(per_step: &PerStep) -> Self {
        let number = |number: &f32| Self::Number(f64::from(*number));
        match per_step {
            PerStep::Same(same) => number(same),
            PerStep::Each(numbers) => Self::List(numbers.iter().map(number).collect()),
            PerStep::Ramp { .. } => Self::Text(per_step.to_string()),
        }
    }
}

/// As a config has it, with quotes around texts.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Text(text) => {
                let escaped = text.chars().map(|c| match c {
                    '"' | '\\' => format!("\\{c}"),
                    c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
                    c => c.to_string(),
                });
                write!(f, "\"{}\"", escaped.collect::<String>())
            }
            Self::Whole(n) => write!(f, "{n}"),
            // A number that is whole has its point, so that it is read as what it was.
            Self::Number(x) => write!(f, "{x:?}"),
            Self::List(list) => {
                write!(f, "[{}]", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::Table(table) => {
                let pairs = table.iter().map(|(name, value)| format!("{name} = {value}"));
                write!(f, "{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            Self::Other(written) => f.write_str(written),
        }
    }
}

impl Value {
    /// The number that it is, whole or not.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(n) => Some(*n as f64),
            Self::Number(x) => Some(*x),
            Self::Text(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }

    /// What it says from step to step: a number, a list of numbers, or the text of a ramp.
    pub fn per_step(&self) -> Option<PerStep> {
        match self {
            Self::Whole(_) | Self::Number(_) => self.number().map(|number| PerStep::Same(number as f32)),
            Self::List(list) if !(1..=PerStep::MOST).contains(&list.len()) => None,
            Self::List(list) => {
                let number = |value: &Self| value.number().map(|number| number as f32);
                list.iter().map(number).collect::<Option<_>>().map(PerStep::Each)
            }
            Self::Text(text) => text.parse().ok().filter(|parsed| matches!(parsed, PerStep::Ramp { .. })),
            Self::Table(_) | Self::Other(_) => None,
        }
    }

    /// As [`Pass::knobs`](crate::Pass::knobs) have it: a number, or a name in lower case; `None` for what is neither.
    pub fn option(&self) -> Option<samplers::Value> {
        match (self.number(), self) {
            (Some(number), _) => Some(samplers::Value::Number(number)),
            (None, Self::Text(name)) => Some(samplers::Value::Name(name.to_lowercase())),
            (None, _) => None,
        }
    }

    /// As a message quotes it.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("`{text}`"),
            // Not a hundred digits.
            Self::Number(x) if x.is_finite() && x.abs() >= 1e15 => format!("{x:?}"),
            Self::Number(x) => x.to_string(),
            Self::Whole(_) => self.to_string(),
            Self::List(_) | Self::Table(_) | Self::Other(_) => format!("`{self}`"),
        }
    }
}

/// What is accepted, as a message says it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Words { .. } | Self::Sampler | Self::Schedule | Self::Profile => f.write_str("text"),
            Self::File | Self::Folder | Self::Output => f.write_str("a path"),
            Self::Choice(_) | Self::Backend | Self::Noise | Self::Upscaler => f.write_str(&self.range()),
            Self::Whole { min, max, .. } => write!(f, "a whole number from {min} to {max}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::PerStep { min, max } => {
                write!(f, "a number from {min} to {max}, a list of such numbers or a ramp such as `7..1.5`")
            }
            Self::Numbers { min, max } => write!(f, "a list of {min} to {max} numbers"),
            Self::Places => f.write_str("numbers such as `2, 7-9`"),
            Self::Names => f.write_str("a list of names"),
            Self::Size => f.write_str("a size such as `16 GiB`"),
            Self::Seed => f.write_str(&self.range()),
            Self::Options => f.write_str("numbers and names"),
        }
    }
}

impl Kind {
    /// The values that are accepted, of those of its type; empty for any.
    pub fn range(&self) -> String {
        match self {
            Self::Words { .. } | Self::File | Self::Folder => String::new(),
            Self::Names | Self::Options | Self::Profile => String::new(),
            Self::Places => "such as `2, 7-9`".to_owned(),
            Self::Sampler => "see `forge samplers`".to_owned(),
            Self::Schedule => "see `forge schedules`".to_owned(),
            Self::Output => format!("a name that ends in {}, or `-`", PictureFormat::ENDINGS),
            Self::Choice(names) => either(names),
            Self::Whole { min, max, step: 1 } => format!("{min} to {max}"),
            Self::Whole { min, max, step } => format!("{min} to {max}, a multiple of {step}"),
            Self::Number { min, max } | Self::PerStep { min, max } => format!("{min} to {max}"),
            Self::Numbers { min, max } => format!("{min} to {max} of them"),
            Self::Size => "such as `16 GiB`".to_owned(),
            Self::Seed => format!("`random` or 0 to {}", u64::MAX),
            Self::Backend => either(&["cpu", "cuda:N", "vulkan:N", "vulkan:software"]),
            Self::Noise => "`cpu`, `nv` or a `.safetensors` file".to_owned(),
            Self::Upscaler => format!("{} or a network's file", Upscaler::IDS.map(|id| format!("`{id}`")).join(", ")),
        }
    }

    /// What its type is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Words { .. } | Self::Choice(_) | Self::Sampler | Self::Schedule | Self::Profile => "text",
            Self::Backend | Self::Noise => "text",
            Self::Upscaler => "text or path",
            Self::File | Self::Folder | Self::Output => "path",
            Self::Whole { .. } => "whole number",
            Self::Number { .. } => "number",
            Self::PerStep { .. } => "number, list or text",
            Self::Numbers { .. } => "list of numbers",
            Self::Places => "text",
            Self::Names => "list of names",
            Self::Size | Self::Seed => "text or whole number",
            Self::Options => "table",
        }
    }

    /// Whether a value is of the kind's type and range, as far as that can be told without anything else.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let is_text = matches!(value, Value::Text(_));
        let fits = match self {
            Self::Whole { min, max, .. } => match value {
                Value::Whole(n) if !(*min as i128..=*max as i128).contains(n) => return Err(format!("{min} to {max}")),
                value => matches!(value, Value::Whole(_)),
            },
            Self::Number { min, max } => match value.number() {
                Some(x) if !(*min..=*max).contains(&x) => return Err(self.range()),
                number => number.is_some(),
            },
            Self::PerStep { min, max } => match value.per_step() {
                Some(per_step) if per_step.outside(&(*min as f32..=*max as f32)).is_some() => {
                    return Err(if per_step.same().is_some() {
                        self.range()
                    } else {
                        format!("{} in each step", self.range())
                    });
                }
                per_step => per_step.is_some(),
            },
            Self::Numbers { min, max } => match value {
                Value::List(list) => (*min..=*max).contains(&list.len()) && list.iter().all(|x| x.number().is_some()),
                _ => false,
            },
            Self::Places => value.places().is_some(),
            Self::Names => match value {
                Value::List(list) => list.iter().all(|name| matches!(name, Value::Text(_))),
                _ => false,
            },
            Self::Choice(names) => {
                matches!(value, Value::Text(text) if names.iter().any(|name| name.eq_ignore_ascii_case(text)))
            }
            Self::Size | Self::Seed => matches!(value, Value::Text(_) | Value::Whole(_)),
            Self::Options => match value {
                Value::Table(table) => table.values().all(|v| v.number().is_some() || matches!(v, Value::Text(_))),
                _ => false,
            },
            Self::Words { .. } | Self::File | Self::Folder | Self::Output => is_text,
            Self::Sampler | Self::Schedule | Self::Profile | Self::Backend | Self::Noise | Self::Upscaler => is_text,
        };
        if fits { Ok(()) } else { Err(self.to_string()) }
    }
}

/// `a`, `b` or `c`.
fn either(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_kind_or_range_is_refused_with_what_was_expected() {
        let scale = Key::of(Kind::Number { min: 0.0, max: 100.0 }, Fallback::Number(3.5));
        let length = Key::of(Kind::Whole { min: 1, max: 9, step: 1 }, Fallback::Open { means: "", example: "3" });
        let course = Key::of(Kind::PerStep { min: 1.0, max: 9.0 }, Fallback::Number(1.0));
        let levels = Key::of(Kind::Numbers { min: 2, max: 3 }, Fallback::Open { means: "", example: "[1, 0]" });
        for (key, text, expected) in [
            (scale, "0", Ok(())),
            (scale, "-1", Err("0 to 100")),
            (scale, "nan", Err("0 to 100")),
            (scale, "x", Err("a number from 0 to 100")),
            (course, "9", Ok(())),
            (course, "9, 2.5", Ok(())),
            (course, "[9]", Ok(())),
            (course, "9..1 cosine", Ok(())),
            (course, "nan", Err("1 to 9")),
            (course, "10", Err("1 to 9")),
            (course, "9, -1", Err("1 to 9 in each step")),
            (course, "9..0.5", Err("1 to 9 in each step")),
            (course, "9, nan", Err("1 to 9 in each step")),
            (course, "9..", Err("a number from 1 to 9, a list of such numbers or a ramp such as `7..1.5`")),
            (length, "9", Ok(())),
            (length, "10", Err("1 to 9")),
            (length, "99999999999999999999", Err("1 to 9")),
            (length, "1.5", Err("a whole number from 1 to 9")),
            (levels, "1, 0.5", Ok(())),
            (levels, "1", Err("a list of 2 to 3 numbers")),
            (levels, "1,x", Err("a list of 2 to 3 numbers")),
        ] {
            assert_eq!(key.kind.check(&key.read(text)), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_value_is_written_as_a_config_has_it() {
        for (value, written) in [
            (Value::Text("a \"b\" \\ \n".into()), r#""a \"b\" \\ \u000A""#),
            (Value::Number(1.0), "1.0"),
            (Value::List(vec![Value::Number(0.5), Value::Whole(2)]), "[0.5, 2]"),
            (Value::Table([("eta".to_owned(), Value::Number(0.5))].into()), "{ eta = 0.5 }"),
        ] {
            assert_eq!(value.to_string(), written);
        }
    }
}
