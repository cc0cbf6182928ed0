//! The metadata: which keys there are and where their values lie. Values stay in the file until they are asked for.

use std::ops::Range;

use super::{MOST_DIMENSIONS, cursor::Cursor, fault::Placed};
use crate::{GgufFault, error::abridged};

/// The least that an entry takes: the length of its key and a letter, its type, and a byte.
pub(super) const LEAST: u64 = 8 + 1 + 4 + 1;

/// The most entries that are read; files of language models have a few dozen, and those with a shape for each tensor some
/// thousands.
const MOST_ENTRIES: u64 = 1 << 16;

/// The longest key; the format says so.
const LONGEST_KEY: usize = (1 << 16) - 1;

/// How deep lists may lie inside of lists.
const DEEPEST: u32 = 4;

const ALIGNMENT: &str = "general.alignment";

/// Where tensors begin that the file says nothing about.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The largest alignment that is taken.
const LARGEST_ALIGNMENT: u64 = 1 << 16;

/// What a value of metadata is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'b> {
    /// An integer without a sign.
    Unsigned(u64),
    /// An integer with a sign.
    Signed(i64),
    /// A float.
    Float(f64),
    /// A truth value.
    Truth(bool),
    /// A text.
    Text(&'b str),
    /// Values of one type.
    List(List<'b>),
}

/// Values of one type, one after the other.
#[derive(Clone, Copy)]
pub struct List<'b> {
    of: Type,
    count: u64,
    bytes: &'b [u8],
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} values", self.count)
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of && self.count == other.count && self.bytes == other.bytes
    }
}

impl<'b> List<'b> {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values.
    pub fn values(self) -> impl Iterator<Item = Value<'b>> {
        let mut cursor = Cursor::over(self.bytes);
        (0..self.count).map_while(move |_| value(&mut cursor, self.of))
    }
}

/// The types of values, by the numbers of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Truth,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Type {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Truth,
        Self::Text,
        Self::List,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(cursor: &mut Cursor, key: &str) -> Result<Self, Placed> {
        let at = cursor.at();
        let found = cursor.u32("a type of metadata")?;
        let known = usize::try_from(found).ok().and_then(|number| Self::ALL.get(number));
        known.copied().ok_or_else(|| GgufFault::ValueType { key: abridged(key), found }.at(at))
    }

    /// Bytes of a value; of those that have no fixed size the least.
    fn bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Truth => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::List => 12,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "an unsigned integer of 8 bits",
            Self::I8 => "an integer of 8 bits",
            Self::U16 => "an unsigned integer of 16 bits",
            Self::I16 => "an integer of 16 bits",
            Self::U32 => "an unsigned integer of 32 bits",
            Self::I32 => "an integer of 32 bits",
            Self::F32 => "a float of 32 bits",
            Self::Truth => "a truth value",
            Self::Text => "a text",
            Self::List => "a list",
            Self::U64 => "an unsigned integer of 64 bits",
            Self::I64 => "an integer of 64 bits",
            Self::F64 => "a float of 64 bits",
        }
    }
}

/// Every key, and where its value lies.
#[derive(Debug)]
pub(super) struct Metadata {
    /// In the order of the file.
    entries: Vec<Entry>,
    /// Their numbers, in the order of their keys.
    by_key: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    key: Range<usize>,
    of: Type,
    value: usize,
}

impl Entry {
    fn key<'b>(&self, bytes: &'b [u8]) -> &'b str {
        std::str::from_utf8(&bytes[self.key.clone()]).expect("a key was checked to be a text when it was read")
    }
}

impl Metadata {
    /// Reads so many entries, and checks their values.
    pub(super) fn read(cursor: &mut Cursor, count: u64) -> Result<Self, Placed> {
        if count > MOST_ENTRIES {
            return Err(GgufFault::Many { what: "entries of metadata", found: count, limit: MOST_ENTRIES }.at(16));
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let key = cursor.name("a key of the metadata", LONGEST_KEY)?;
            let end = cursor.at() as usize;
            let of = Type::read(cursor, key)?;
            entries.push(Entry { key: end - key.len()..end, of, value: cursor.at() as usize });
            skip(cursor, of, key, 0)?;
        }
        let bytes = cursor.bytes();
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        let key = |i: &u32| entries[*i as usize].key(bytes);
        by_key.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        if let Some([first, _]) = by_key.array_windows().find(|[a, b]| key(a) == key(b)) {
            let at = entries[*first as usize].key.start as u64;
            return Err(GgufFault::KeyTwice { key: abridged(key(first)) }.at(at));
        }
        Ok(Self { entries, by_key })
    }

    pub(super) fn keys<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = &'b str> {
        self.entries.iter().map(|entry| entry.key(bytes))
    }

    pub(super) fn get<'b>(&self, bytes: &'b [u8], key: &str) -> Option<Value<'b>> {
        let entry = self.entry(bytes, key)?;
        value(&mut Cursor::starting(bytes, entry.value), entry.of)
    }

    fn entry(&self, bytes: &[u8], key: &str) -> Option<&Entry> {
        let of = |i: &u32| &self.entries[*i as usize];
        let at = self.by_key.binary_search_by(|i| of(i).key(bytes).cmp(key)).ok()?;
        Some(of(&self.by_key[at]))
    }

    /// Finds out whether the file stands for itself: of a model that `llama-gguf-split` laid in several each tells which it is.
    pub(super) fn is_of_whole(&self, bytes: &[u8]) -> Result<(), Placed> {
        let Some(entry) = self.entry(bytes, "split.count") else { return Ok(()) };
        match (self.get(bytes, "split.count"), self.get(bytes, "split.no")) {
            (Some(Value::Unsigned(of)), number) if of > 1 => {
                let number = if let Some(Value::Unsigned(number)) = number { number.saturating_add(1) } else { 1 };
                Err(GgufFault::Part { number, of }.at(entry.value as u64))
            }
            _ => Ok(()),
        }
    }

    /// What tensors are aligned to.
    pub(super) fn alignment(&self, bytes: &[u8]) -> Result<u64, Placed> {
        let Some(entry) = self.entry(bytes, ALIGNMENT) else { return Ok(DEFAULT_ALIGNMENT) };
        let (at, expected) = (entry.value as u64, Type::U32.name());
        let found = match (entry.of, value(&mut Cursor::starting(bytes, entry.value), entry.of)) {
            (Type::U32 | Type::U64, Some(Value::Unsigned(found))) => found,
            (of, _) => {
                return Err(
                    GgufFault::WrongType { key: ALIGNMENT.to_owned(), expected, found: of.name().to_owned() }.at(at)
                );
            }
        };
        if !(found.is_power_of_two() && found <= LARGEST_ALIGNMENT) {
            return Err(GgufFault::Alignment { found, limit: LARGEST_ALIGNMENT }.at(at));
        }
        Ok(found)
    }

    /// The shape that a tensor had before it was laid in rows that are whole blocks, outermost dimension first, and where it
    /// stands. ComfyUI-GGUF's converter writes it.
    pub(super) fn original_shape(&self, bytes: &[u8], tensor: &str) -> Result<Option<(Vec<i128>, u64)>, Placed> {
        let key = format!("comfy.gguf.orig_shape.{tensor}");
        let Some(entry) = self.entry(bytes, &key) else { return Ok(None) };
        let at = entry.value as u64;
        let wrong = |found: String| {
            let expected = "a list of integers";
            GgufFault::WrongType { key: abridged(&key), expected, found }.at(at)
        };
        let Some(Value::List(list)) = value(&mut Cursor::starting(bytes, entry.value), entry.of) else {
            return Err(wrong(entry.of.name().to_owned()));
        };
        let integer = |value| match value {
            Value::Unsigned(n) => Some(n.into()),
            Value::Signed(n) => Some(n.into()),
            Value::Float(_) | Value::Truth(_) | Value::Text(_) | Value::List(_) => None,
        };
        let shape = list.values().take(MOST_DIMENSIONS as usize + 1).map(integer).collect::<Option<Vec<_>>>();
        shape
            .map(|shape| Some((shape, at)))
            .ok_or_else(|| wrong(format!("a list, of which each is {}", list.of.name())))
    }
}

/// Checks a value and goes behind it.
fn skip(cursor: &mut Cursor, of: Type, key: &str, depth: u32) -> Result<(), Placed> {
    let at = cursor.at();
    match of {
        Type::Text => cursor.raw_text("a text of the metadata").map(drop),
        Type::Truth => match cursor.array("a truth value")? {
            [0 | 1] => Ok(()),
            [found] => Err(GgufFault::Truth { key: abridged(key), found }.at(at)),
        },
        Type::List => {
            if depth == DEEPEST {
                return Err(GgufFault::Depth { key: abridged(key), limit: DEEPEST }.at(at));
            }
            let of = Type::read(cursor, key)?;
            let count = cursor.count("values of a list", of.bytes())?;
            match of {
                Type::Text | Type::Truth | Type::List => (0..count).try_for_each(|_| skip(cursor, of, key, depth + 1)),
                // A count of them has room in the file, so that their bytes can be counted.
                _ => cursor.take(count * of.bytes(), "a list of the metadata").map(drop),
            }
        }
        Type::U8 | Type::I8 | Type::U16 | Type::I16 | Type::U32 | Type::I32 | Type::F32 => {
            cursor.take(of.bytes(), "a value of the metadata").map(drop)
        }
        Type::U64 | Type::I64 | Type::F64 => cursor.take(of.bytes(), "a value of the metadata").map(drop),
    }
}

/// A value that was checked when the file was opened; `None` for a text that is not UTF-8, which only keys and names must be.
fn value<'b>(cursor: &mut Cursor<'b>, of: Type) -> Option<Value<'b>> {
    const WHAT: &str = "a value of the metadata";
    fn number<const N: usize>(cursor: &mut Cursor) -> Option<[u8; N]> {
        cursor.array(WHAT).ok()
    }
    Some(match of {
        Type::U8 => Value::Unsigned(number::<1>(cursor)?[0].into()),
        Type::I8 => Value::Signed(i8::from_le_bytes(number(cursor)?).into()),
        Type::U16 => Value::Unsigned(u16::from_le_bytes(number(cursor)?).into()),
        Type::I16 => Value::Signed(i16::from_le_bytes(number(cursor)?).into()),
        Type::U32 => Value::Unsigned(u32::from_le_bytes(number(cursor)?).into()),
        Type::I32 => Value::Signed(i32::from_le_bytes(number(cursor)?).into()),
        Type::F32 => Value::Float(f32::from_le_bytes(number(cursor)?).into()),
        Type::Truth => Value::Truth(number::<1>(cursor)? != [0]),
        Type::U64 => Value::Unsigned(u64::from_le_bytes(number(cursor)?)),
        Type::I64 => Value::Signed(i64::from_le_bytes(number(cursor)?)),
        Type::F64 => Value::Float(f64::from_le_bytes(number(cursor)?)),
        Type::Text => Value::Text(cursor.text(WHAT).ok()?),
        Type::List => {
            let of = Type::read(cursor, "").ok()?;
            let count = cursor.u64(WHAT).ok()?;
            let start = cursor.at() as usize;
            (0..count).try_for_each(|_| skip(cursor, of, "", 1)).ok()?;
            Value::List(List { of, count, bytes: &cursor.bytes()[start..cursor.at() as usize] })
        }
    })
}
