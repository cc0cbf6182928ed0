//! A header's JSON, read into a [`Manifest`] and its short notes, without keeping anything else.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};

use super::FORMATS;
use crate::Manifest;

/// The most dimensions that a tensor may have; those of diffusion models have at most five.
pub(super) const RANK_LIMIT: usize = 8;

/// The longest name of a tensor, in bytes; those of known files have less than 200.
pub const NAME_LIMIT: usize = 1024;

/// The least that a tensor takes in a header: `"":{"dtype":"U8","shape":[],"data_offsets":[0,0]},`.
const LEAST: usize = 50;

/// The longest note that is kept, in bytes, and how many are; most of what a training kept is longer.
const NOTE_LIMIT: usize = 256;
const MOST_NOTES: usize = 64;

/// How keys begin under which a model's file says what it is, wherever they stand among others: Stability's specification
/// (github.com/Stability-AI/ModelSpec), and Forge's own.
const OF_MODELS: [&str; 2] = ["modelspec.", "forge."];

/// The longest note under such a key, which may be a small picture or a `config.json`.
const MODEL_NOTE_LIMIT: usize = 1 << 20;

/// Reads a header of less than 4 GiB: its tensors, and its short notes by their keys.
pub(super) fn parse(json: &[u8]) -> Result<(Manifest, BTreeMap<String, String>), Fault> {
    // A copy, as nothing may change the text behind a `str`; whole, as the reference checks also what is skipped below.
    let json = String::from_utf8(json.to_vec()).map_err(|e| Fault::Json(serde_json::Error::custom(e)))?;
    let manifest = Manifest::for_header(json.len(), LEAST, RANK_LIMIT);
    let mut reading = Reading { manifest, notes: BTreeMap::new(), fault: None };
    let mut deserializer = serde_json::Deserializer::from_str(&json);
    let read = Header(&mut reading).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    drop(json);
    let Reading { mut manifest, notes, fault } = reading;
    match (read, fault) {
        (Err(_), Some(fault)) => Err(fault),
        (Err(error), None) => Err(Fault::Json(error)),
        (Ok(()), _) => match manifest.close() {
            Some(name) => Err(Fault::Twice(name.to_owned())),
            None => Ok((manifest, notes)),
        },
    }
}

/// What can be wrong with a header.
#[derive(Debug)]
pub(super) enum Fault {
    /// Not the JSON that the format asks for.
    Json(serde_json::Error),
    /// A name that occurs twice.
    Twice(String),
    /// The name of a tensor of too many dimensions.
    Rank(String),
    /// The beginning of a name that is too long.
    LongName(String),
    /// A tensor of a number format that does not exist.
    Format { name: String, found: String },
}

/// A manifest in the making, and the fault that ended it, which a JSON error has no place for.
struct Reading {
    manifest: Manifest,
    notes: BTreeMap<String, String>,
    fault: Option<Fault>,
}

impl Reading {
    /// Notes a fault, and ends the reading.
    fn fail<E: serde::de::Error>(&mut self, fault: Fault) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }
}

/// A visitor as the seed of its value. `deserialize_any` where no string belongs: with any other method serde_json makes the error.
macro_rules! seed {
    ($visitor:ty, $value:ty, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for $visitor {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$method(self)
            }
        }
    };
}

/// The error for a string where none belongs. serde's own repeats all of it, with up to six bytes for one.
macro_rules! no_string {
    () => {
        fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::invalid_type(Unexpected::Other("a string"), &self))
        }
    };
}

struct Header<'r>(&'r mut Reading);

seed!(Header<'_>, (), deserialize_any);

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    no_string!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut annotated = false;
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            if name != "__metadata__" {
                map.next_value_seed(Tensor { reading: self.0, name })?;
                continue;
            }
            map.next_value_seed(Notes(self.0))?;
            if std::mem::replace(&mut annotated, true) {
                return Err(self.0.fail(Fault::Twice(name)));
            }
        }
        Ok(())
    }
}

struct Name<'r>(&'r mut Reading);

seed!(Name<'_>, String, deserialize_str);

impl Visitor<'_> for Name<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a tensor's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        if name.len() > NAME_LIMIT {
            return Err(self.0.fail(Fault::LongName(beginning(name))));
        }
        Ok(name.to_owned())
    }
}

struct Tensor<'r> {
    reading: &'r mut Reading,
    name: String,
}

seed!(Tensor<'_>, (), deserialize_any);

impl<'de> Visitor<'de> for Tensor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of `dtype`, `shape` and `data_offsets`")
    }

    no_string!();

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key_seed(Keyword)? {
            let twice = match key {
                Key::Dtype => dtype.replace(map.next_value_seed(Format(&mut self))?).is_some(),
                Key::Shape => shape.replace(map.next_value_seed(Shape(&mut self))?).is_some(),
                Key::Offsets => offsets.replace(map.next_value_seed(Offsets)?).is_some(),
                Key::Other => {
                    map.next_value_seed(Anything)?;
                    false
                }
            };
            if twice {
                return Err(A::Error::duplicate_field(key.name()));
            }
        }
        let dtype = dtype.ok_or_else(|| A::Error::missing_field("dtype"))?;
        let (dims, rank) = shape.ok_or_else(|| A::Error::missing_field("shape"))?;
        let [start, end] = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
        self.reading.manifest.push(&self.name, dtype, &dims[..rank], [start as u64, end as u64]);
        Ok(())
    }
}

/// What a tensor's keys are.
#[derive(Clone, Copy)]
enum Key {
    Dtype,
    Shape,
    Offsets,
    Other,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Dtype => "dtype",
            Self::Shape => "shape",
            Self::Offsets => "data_offsets",
            Self::Other => "",
        }
    }
}

struct Keyword;

seed!(Keyword, Key, deserialize_str);

impl Visitor<'_> for Keyword {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
        Ok([Key::Dtype, Key::Shape, Key::Offsets].into_iter().find(|k| k.name() == key).unwrap_or(Key::Other))
    }
}

struct Format<'t, 'r>(&'t mut Tensor<'r>);

seed!(Format<'_, '_>, crate::Format, deserialize_str);

impl Visitor<'_> for Format<'_, '_> {
    type Value = crate::Format;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a number format")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<crate::Format, E> {
        FORMATS.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let fault = Fault::Format { name: self.0.name.clone(), found: beginning(name) };
            self.0.reading.fail(fault)
        })
    }
}

/// A tensor's dimensions, and how many of them it has.
struct Shape<'t, 'r>(&'t mut Tensor<'r>);

seed!(Shape<'_, '_>, ([usize; RANK_LIMIT], usize), deserialize_any);

impl<'de> Visitor<'de> for Shape<'_, '_> {
    type Value = ([usize; RANK_LIMIT], usize);

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    no_string!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut dims, mut rank) = ([0; RANK_LIMIT], 0);
        while let Some(n) = list.next_element_seed(Count)? {
            let Some(dim) = dims.get_mut(rank) else {
                let fault = Fault::Rank(self.0.name.clone());
                return Err(self.0.reading.fail(fault));
            };
            (*dim, rank) = (n, rank + 1);
        }
        Ok((dims, rank))
    }
}

struct Offsets;

seed!(Offsets, [usize; 2], deserialize_any);

impl<'de> Visitor<'de> for Offsets {
    type Value = [usize; 2];

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("where a tensor's bytes begin and end")
    }

    no_string!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<[usize; 2], A::Error> {
        let mut next = |i| list.next_element_seed(Count)?.ok_or_else(|| A::Error::invalid_length(i, &self));
        Ok([next(0)?, next(1)?]) // a third is the JSON reader's to refuse
    }
}

/// A whole number from 0 on.
struct Count;

seed!(Count, usize, deserialize_any);

impl Visitor<'_> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a whole number")
    }

    no_string!();

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<usize, E> {
        usize::try_from(n).map_err(E::custom)
    }
}

/// `__metadata__`: notes, of which a model's and the first short ones are kept, or `null`.
struct Notes<'r>(&'r mut Reading);

seed!(Notes<'_>, (), deserialize_any);

impl<'de> Visitor<'de> for Notes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of strings, or null")
    }

    no_string!();

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // How many there are of a model, and of anything else.
        let mut counts = [0; 2];
        while let Some(key) = map.next_key_seed(UpTo(NOTE_LIMIT))? {
            let is_other = key.as_ref().is_none_or(|key| !OF_MODELS.iter().any(|start| key.starts_with(start)));
            let limit = if is_other { NOTE_LIMIT } else { MODEL_NOTE_LIMIT };
            let count = &mut counts[usize::from(is_other)];
            if let (Some(key), Some(note)) = (key, map.next_value_seed(UpTo(limit))?)
                && *count < MOST_NOTES
            {
                *count += 1;
                self.0.notes.entry(key).or_insert(note);
            }
        }
        Ok(())
    }
}

/// A string that is kept if it has at most so many bytes.
struct UpTo(usize);

seed!(UpTo, Option<String>, deserialize_str);

impl Visitor<'_> for UpTo {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok((text.len() <= self.0).then(|| text.to_owned()))
    }
}

/// A string that nothing keeps.
struct Text;

seed!(Text, (), deserialize_str);

impl Visitor<'_> for Text {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// A value under a key that the format does not know: any JSON, of which nothing is kept. serde's own `IgnoredAny` lets pass what is no
/// JSON, such as half a surrogate pair.
struct Anything;

seed!(Anything, (), deserialize_any);

impl<'de> Visitor<'de> for Anything {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(()) = list.next_element_seed(Anything)? {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(()) = map.next_key_seed(Text)? {
            map.next_value_seed(Anything)?;
        }
        Ok(())
    }
}

/// As much of a text from a file as an error repeats.
fn beginning(text: &str) -> String {
    const LENGTH: usize = 120;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
