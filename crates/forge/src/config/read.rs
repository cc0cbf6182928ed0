//! From TOML to a config: every value by its key's entry, and what is wrong with one told with its place in the file.

use std::fmt;

use diffusion_engine::{Key, Value};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor},
};

use super::{
    Config,
    list::{find, keys},
    tables::TABLES,
};

/// The list of tables `[[lora]]`.
const LORA: &str = "lora";

/// Reads a config, without looking at the values of some keys.
pub(super) fn read(text: &str, without: &[&Key]) -> Result<Config, toml::de::Error> {
    Tables { without }.deserialize(toml::Deserializer::parse(text)?)
}

struct Tables<'a> {
    without: &'a [&'a Key],
}

impl<'de> DeserializeSeed<'de> for Tables<'_> {
    type Value = Config;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Config, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tables<'_> {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("tables of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).chain([LORA]).collect();
        while let Some(table) = map.next_key_seed(Known(&names))? {
            if table == LORA {
                config.loras = map.next_value()?;
                continue;
            }
            map.next_value_seed(Keys { table: &table, without: self.without, config: &mut config })?;
        }
        Ok(config)
    }
}

struct Keys<'a> {
    table: &'a str,
    without: &'a [&'a Key],
    config: &'a mut Config,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the table `[{}]`", self.table)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { table, without, config } = self;
        let names: Vec<&str> = keys().filter(|key| key.table == table).map(|key| key.name).collect();
        while let Some(name) = map.next_key_seed(Known(&names))? {
            let key = find(table, &name).expect("a name that is known is a key's");
            if without.contains(&key) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Put { key, config })?;
            }
        }
        Ok(())
    }
}

/// The value of one key.
struct Put<'a> {
    key: &'static Key,
    config: &'a mut Config,
}

impl<'de> DeserializeSeed<'de> for Put<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = value(toml::Value::deserialize(deserializer)?);
        let Self { key, config } = self;
        config.put(key, &value).map_err(|expected| {
            D::Error::custom(format_args!("`{}` is {}, expected {expected}", key.path(), value.shown()))
        })
    }
}

/// One of these names.
struct Known<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Known<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let name = String::deserialize(deserializer)?;
        if self.0.contains(&name.as_str()) {
            return Ok(name);
        }
        let known: Vec<String> = self.0.iter().map(|known| format!("`{known}`")).collect();
        Err(D::Error::custom(format_args!("unknown field `{name}`, expected one of {}", known.join(", "))))
    }
}

fn value(written: toml::Value) -> Value {
    match written {
        toml::Value::String(text) => Value::Text(text),
        toml::Value::Integer(n) => Value::Whole(n.into()),
        toml::Value::Float(x) => Value::Number(x),
        toml::Value::Array(list) => Value::List(list.into_iter().map(value).collect()),
        toml::Value::Table(table) => Value::Table(table.into_iter().map(|(name, v)| (name, value(v))).collect()),
        other @ (toml::Value::Boolean(_) | toml::Value::Datetime(_)) => Value::Other(other.to_string()),
    }
}
