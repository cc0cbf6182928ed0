//! What changes from picture to picture of a grid.

use std::collections::BTreeSet;

use diffusion_engine::{Key, Kind};
use forge::{Config, keys::keys};

use crate::error::Result;

/// The most values of an axis, and the most pictures of a grid.
pub(super) const MOST: usize = 1000;

/// The name of an axis of words: each of its values stands in the place of the first one in the prompts.
const WORDS: &str = "words";

/// What changes along a side of a grid: one key, and what it is set to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What the command line calls the side: `--x`.
    flag: &'static str,
    /// What it calls the key.
    pub(super) name: String,
    what: What,
    /// As they are written.
    pub(super) values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Key(&'static Key),
    Words,
}

impl Axis {
    /// What `text` says, `KEY=VALUE,VALUE`: a flag or a key of the config, and values that it has in `config`. A value in quotes may have
    /// commas. Numbers may be ranges as A1111 writes them, `1-5`, `10-30 (+5)` and `0-1 [5]`.
    pub(super) fn read(flag: &'static str, text: &str, config: &Config) -> Result<Self> {
        let wrong = |expected: &str, found: String| wrong(flag, expected, found);
        let Some((name, values)) = text.split_once('=') else {
            return Err(wrong("KEY=VALUE,VALUE", format!("`{text}`")));
        };
        let name = name.trim().trim_start_matches("--").to_owned();
        let what = match (name == WORDS, key(&name)) {
            (true, _) => What::Words,
            (false, Some(key)) if is_free(key) => What::Key(key),
            (false, Some(_)) => return Err(wrong("a key that says something of the picture", format!("`{name}`"))),
            (false, None) => {
                return Err(wrong(
                    "a flag of `forge txt2img` without its hyphens, a key as `sampling.steps`, or `words`",
                    format!("`{name}`"),
                ));
            }
        };
        let Some(written) = listed(values) else {
            return Err(wrong("a quote at both ends of a value", format!("`{values}`")));
        };
        let axis = Self { flag, name, what, values: Vec::new() };
        let mut all = Vec::new();
        let first = written.first().cloned().unwrap_or_default();
        for value in written {
            match (axis.set(&mut config.clone(), &value, &first), range(&value)) {
                (Ok(()), _) => all.push(value),
                (Err(_), Some(numbers)) if !numbers.is_empty() => all.extend(numbers),
                (Err(error), _) => return Err(error),
            }
        }
        match all.len() {
            0 => Err(wrong("a value at least", "none".into())),
            1..=MOST => Ok(Self { values: all, ..axis }),
            many => Err(wrong(&format!("{MOST} values at most"), many.to_string())),
        }
    }

    /// A config with one of the values; `first` is the first one.
    pub(super) fn set(&self, config: &mut Config, value: &str, first: &str) -> Result<()> {
        match self.what {
            What::Key(key) => Ok(config.set(key, &key.read(value), self.flag)?),
            What::Words => {
                let prompts = [&mut config.prompt.positive, &mut config.prompt.negative];
                if !prompts.iter().any(|prompt| prompt.contains(first)) {
                    return Err(wrong(self.flag, "first words that a prompt has", format!("`{first}`")));
                }
                prompts.into_iter().for_each(|prompt| *prompt = prompt.replace(first, value));
                Ok(())
            }
        }
    }

    /// Whether another model is needed for each value, or another device.
    pub(super) fn changes_model(&self) -> bool {
        matches!(self.what, What::Key(key) if matches!(key.table, "model" | "device") || key.path().ends_with(".checkpoint"))
    }

    /// What stands at the place of a value.
    pub(super) fn label(&self, value: &str) -> String {
        match self.what {
            What::Words => value.to_owned(),
            What::Key(key) if matches!(key.kind, Kind::File) => {
                let stem = std::path::Path::new(value).file_stem();
                stem.map_or_else(|| value.to_owned(), |stem| stem.to_string_lossy().into_owned())
            }
            What::Key(_) => format!("{} {value}", self.name),
        }
    }
}

/// No two axes of one key.
pub(super) fn apart(axes: &[Option<Axis>; 3]) -> Result<()> {
    let mut known = BTreeSet::new();
    for axis in axes.iter().flatten() {
        let path = match axis.what {
            What::Key(key) => key.path(),
            What::Words => WORDS.to_owned(),
        };
        if !known.insert(path) {
            return Err(wrong(axis.flag, "another key than the other axes have", format!("`{}`", axis.name)));
        }
    }
    Ok(())
}

pub(super) fn wrong(flag: &str, expected: &str, found: String) -> crate::error::Error {
    forge::Error::Value { key: flag.to_owned(), expected: expected.to_owned(), found }.into()
}

/// A key by its flag or by its path.
fn key(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.flag == Some(name) || key.path() == name)
}

/// Whether a key may change from picture to picture: where they go, and how many there are, may not.
fn is_free(key: &Key) -> bool {
    const SET: [&str; 5] = ["image.output", "image.batch", "image.batches", "sampling.noise", "device.threads"];
    key.table != "preview" && key.kind != Kind::Options && !SET.contains(&key.path().as_str())
}

/// Values between commas, some of which may be in quotes; `None` where a quote has no end.
fn listed(text: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut rest = text;
    loop {
        let (value, behind) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let (value, behind) = quoted.split_once('"')?;
                let behind = behind.trim_start();
                (value.to_owned(), if behind.is_empty() { None } else { Some(behind.strip_prefix(',')?) })
            }
            None => match rest.split_once(',') {
                Some((value, behind)) => (value.trim().to_owned(), Some(behind)),
                None => (rest.trim().to_owned(), None),
            },
        };
        values.push(value);
        match behind {
            Some(behind) => rest = behind,
            None => return Some(values),
        }
    }
}

/// The numbers of a range: `1-5`, with a step in `1-10 (+3)`, or so many of them in `0-1 [5]`. `None` for what is none, or has more than an
/// axis may.
///
/// A1111 scripts/xyz_grid.py, as Forge has it at dfdcbab.
fn range(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let (ends, how) = match text.split_once(['(', '[']) {
        Some((ends, how)) => (ends.trim(), Some(how.trim())),
        None => (text, None),
    };
    let (at, _) = ends.char_indices().skip(1).find(|(_, c)| *c == '-')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let (from, to) = (number(&ends[..at])?, number(&ends[at + 1..])?);
    let numbers: Vec<f64> = match how {
        Some(how) if text.contains('[') => {
            let count: usize = how.strip_suffix(']')?.trim().parse().ok().filter(|count| (2..=MOST).contains(count))?;
            (0..count).map(|i| from + (to - from) * i as f64 / (count - 1) as f64).collect()
        }
        how => {
            let step = match how {
                Some(how) => number(how.strip_suffix(')')?)?,
                None => {
                    if to < from {
                        -1.0
                    } else {
                        1.0
                    }
                }
            };
            let count = ((to - from) / step + 1e-9).floor();
            if !(0.0..MOST as f64).contains(&count) {
                return None;
            }
            (0..=count as usize).map(|i| from + step * i as f64).collect()
        }
    };
    // What a number is rounded to hides the last bits of sums.
    Some(numbers.into_iter().map(|number| format!("{}", (number * 1e9).round() / 1e9)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        Axis::read("--x", text, &Config::default()).unwrap().values
    }

    #[test]
    fn values_are_listed_quoted_and_counted() {
        assert_eq!(values("steps=10, 20"), ["10", "20"]);
        assert_eq!(values("sampling.steps=1-3,7"), ["1", "2", "3", "7"]);
        assert_eq!(values("--steps=10-30 (+10)"), ["10", "20", "30"]);
        assert_eq!(values("cfg=1-2 [5]"), ["1", "1.25", "1.5", "1.75", "2"]);
        assert_eq!(values("steps=3-1"), ["3", "2", "1"]);
        assert_eq!(values("cfg=1-2 (+0.1)").len(), 11);
        assert_eq!(values("sampler=euler,dpmpp_2m"), ["euler", "dpmpp_2m"]);
        let mut config = Config::default();
        config.prompt.positive = "a red, shiny cat".into();
        let axis = Axis::read("--y", "words=\"red, shiny\",\"blue, dull\"", &config).unwrap();
        axis.set(&mut config, &axis.values[1], &axis.values[0]).unwrap();
        assert_eq!(config.prompt.positive, "a blue, dull cat");
    }

    #[test]
    fn what_is_no_axis_is_an_error_that_names_it() {
        for (text, told) in [
            ("steps", "KEY=VALUE,VALUE"),
            ("stepz=1", "`stepz`"),
            ("steps=x", "`x`"),
            ("steps=1-100000", "`1-100000`"),
            ("steps=1-5 (+0)", "(+0)"),
            ("output=a.png", "says something of the picture"),
            ("words=zebra,cat", "`zebra`"),
            ("sampler=\"euler", "a quote at both ends"),
        ] {
            let error = Axis::read("--x", text, &Config::default()).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        let config = Config::default();
        let axis = |text| Some(Axis::read("--x", text, &config).unwrap());
        assert!(apart(&[axis("steps=1,2"), axis("cfg=1,2"), None]).is_ok());
        assert!(apart(&[axis("steps=1,2"), axis("sampling.steps=3"), None]).is_err());
    }
}
