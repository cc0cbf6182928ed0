//! How a value of a config is read and written, for each type that one is stored as.

use std::path::PathBuf;

use diffusion_engine::{Emphasis, Key, Kind, PerStep, RefinedPasses, Value};
use memory::Bytes;
use samplers::Options;

/// What a key of a config is stored as.
pub(super) trait Setting: Sized {
    /// Takes a value that the key's [`Kind`](diffusion_engine::Kind) accepts, or says what was expected.
    fn read(value: &Value) -> Result<Self, String>;

    /// The value; nothing where it depends on the rest.
    fn value(&self) -> Option<Value>;

    /// The path that it is, if it is one.
    fn path(&mut self) -> Option<&mut PathBuf> {
        None
    }
}

/// What a key is where nothing sets it.
pub(super) fn initial<T: Setting + Default>(key: &Key) -> T {
    key.initial().map_or_else(T::default, |value| {
        T::read(&value).expect("a default is a value of its own key, as the tests find of each")
    })
}

impl<T: Setting> Setting for Option<T> {
    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn value(&self) -> Option<Value> {
        T::value(self.as_ref()?)
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        T::path(self.as_mut()?)
    }
}

/// The text that a value is.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Whole(_) | Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => Err("text".into()),
    }
}

/// The whole number that a value is.
pub(super) fn whole(value: &Value) -> Result<usize, String> {
    let expected = || "a whole number from 0 on".to_owned();
    match value {
        Value::Whole(n) => usize::try_from(*n).map_err(|_| expected()),
        Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => Err(expected()),
    }
}

impl Setting for String {
    fn read(value: &Value) -> Result<Self, String> {
        text(value).map(str::to_owned)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.clone()))
    }
}

impl Setting for usize {
    fn read(value: &Value) -> Result<Self, String> {
        whole(value)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Whole(*self as i128))
    }
}

impl Setting for f32 {
    fn read(value: &Value) -> Result<Self, String> {
        value.number().map(|x| x as f32).ok_or_else(|| "a number".into())
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Number(f64::from(*self)))
    }
}

impl Setting for f64 {
    fn read(value: &Value) -> Result<Self, String> {
        value.number().ok_or_else(|| "a number".into())
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Number(*self))
    }
}

impl Setting for PerStep {
    fn read(value: &Value) -> Result<Self, String> {
        value.per_step().ok_or_else(|| "a number, a list of numbers or a ramp".into())
    }

    fn value(&self) -> Option<Value> {
        Some(self.into())
    }
}

impl Setting for Vec<f64> {
    fn read(value: &Value) -> Result<Self, String> {
        let expected = || "a list of numbers".to_owned();
        match value {
            Value::List(list) => list.iter().map(|x| x.number().ok_or_else(expected)).collect(),
            Value::Text(_) | Value::Whole(_) | Value::Number(_) | Value::Table(_) | Value::Other(_) => Err(expected()),
        }
    }

    fn value(&self) -> Option<Value> {
        Some(Value::List(self.iter().copied().map(Value::Number).collect()))
    }
}

impl Setting for Vec<String> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(list) => list.iter().map(|name| text(name).map(str::to_owned)).collect(),
            Value::Text(_) | Value::Whole(_) | Value::Number(_) | Value::Table(_) | Value::Other(_) => {
                Err("a list of names".into())
            }
        }
    }

    fn value(&self) -> Option<Value> {
        let list = self.iter().cloned().map(Value::Text).collect();
        (!self.is_empty()).then_some(Value::List(list))
    }
}

impl Setting for Emphasis {
    fn read(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| Kind::Choice(&Self::IDS).range())
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.id().to_owned()))
    }
}

impl Setting for RefinedPasses {
    fn read(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|()| Kind::Choice(&Self::IDS).range())
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.id().to_owned()))
    }
}

impl Setting for PathBuf {
    fn read(value: &Value) -> Result<Self, String> {
        text(value).map(Self::from)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.display().to_string()))
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        Some(self)
    }
}

impl Setting for Bytes {
    fn read(value: &Value) -> Result<Self, String> {
        let written = match value {
            Value::Whole(bytes) => bytes.to_string(),
            other => text(other)?.to_owned(),
        };
        written.parse().map_err(|_| "a size such as `16 GiB`".into())
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.0.to_string()))
    }
}

impl Setting for Options {
    fn read(value: &Value) -> Result<Self, String> {
        let Value::Table(table) = value else { return Err("a table".into()) };
        let mut options = Self::default();
        for (name, value) in table {
            options.set(
                name,
                match value.number() {
                    Some(x) => samplers::Value::Number(x),
                    None => samplers::Value::Name(text(value)?.to_lowercase()),
                },
            );
        }
        Ok(options)
    }

    fn value(&self) -> Option<Value> {
        let entry = |(name, value): (&str, &samplers::Value)| {
            let value = match value {
                samplers::Value::Number(x) => Value::Number(*x),
                samplers::Value::Name(name) => Value::Text(name.clone()),
            };
            (name.to_owned(), value)
        };
        let table: std::collections::BTreeMap<_, _> = self.iter().map(entry).collect();
        (!table.is_empty()).then_some(Value::Table(table))
    }
}
