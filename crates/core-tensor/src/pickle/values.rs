//! What a pickle builds, in memory that is counted before it is taken.

use std::ops::Range;

use super::{
    fault::Fault,
    globals::{GLOBALS, Meaning},
};
use crate::Format;

/// The most dimensions that a tensor may have; those of diffusion models have at most five.
pub(super) const RANK_LIMIT: usize = 8;

/// A value of a pickle, as far as it matters. Texts stay in the pickle, the items of the rest lie in [`Built`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// UTF-8.
    Text(Span),
    /// The number of a global.
    Global(u8),
    Tuple(Span),
    List(u32),
    Dict(u32),
    /// A dictionary whose entries come with its state.
    Parameters(u32),
    Storage(u32),
    Tensor(u32),
    /// Something that holds no tensor of a model.
    Inert,
}

/// A part of the pickle's bytes, or of [`Built::items`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub start: u32,
    pub length: u32,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

impl Value {
    /// The kind, with its article.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Text(_) => "a text",
            Self::Global(number) => match GLOBALS[usize::from(number)].meaning {
                Meaning::Dtype(_) => "a number format",
                Meaning::Dict | Meaning::Parameters | Meaning::Key => "a class",
                Meaning::Tensor { .. } | Meaning::Parameter | Meaning::Storage(_) | Meaning::Inert => "a function",
            },
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) | Self::Parameters(_) => "a dictionary",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Inert => "a value without tensors",
        }
    }
}

/// The numbers of one storage, as a pickle speaks of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    /// What it is called in the file.
    pub key: Span,
    /// `None` for bytes, of which each tensor says what they are.
    pub format: Option<Format>,
    /// How many numbers, or bytes.
    pub count: u64,
    /// Where in the pickle it was named.
    pub at: u32,
}

impl Storage {
    /// How many bytes it takes; `None` where that is more than 64 bits can count.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(self.format.map_or(1, |format| format.bytes() as u64))
    }
}

/// A tensor, which lies in its storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    pub storage: u32,
    pub format: Format,
    /// The place of its first value in the storage, in values.
    pub offset: u64,
    pub rank: u8,
    pub dims: [u64; RANK_LIMIT],
    pub strides: [u64; RANK_LIMIT],
    /// Where in the pickle it was made.
    pub at: u32,
}

impl Tensor {
    pub(super) fn shape(&self) -> &[u64] {
        &self.dims[..usize::from(self.rank)]
    }

    pub(super) fn strides(&self) -> &[u64] {
        &self.strides[..usize::from(self.rank)]
    }

    /// How many values it has, which was counted when it was made.
    pub(super) fn count(&self) -> u64 {
        self.shape().iter().product()
    }

    /// Whether its values lie one after the other, in order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut next = 1;
        let in_order = self.shape().iter().zip(self.strides()).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == next;
            next *= dim.max(1);
            fits
        });
        in_order || self.count() == 0
    }
}

/// All that pickles have built.
pub(super) struct Built {
    pub room: Room,
    /// What tuples hold.
    pub items: Vec<Value>,
    /// What lists hold, and dictionaries: a key and its value in turn.
    pub lists: Vec<Vec<Value>>,
    pub storages: Vec<Storage>,
    pub tensors: Vec<Tensor>,
}

impl Built {
    /// Nothing yet, from a file of so many bytes.
    pub(super) fn of(file: u64) -> Self {
        Self { room: Room::of(file), items: vec![], lists: vec![], storages: vec![], tensors: vec![] }
    }

    /// A new list or dictionary without items.
    pub(super) fn list(&mut self) -> Result<u32, Fault> {
        let Self { room, lists, .. } = self;
        room.push(lists, vec![]).map(|number| number as u32)
    }

    /// Adds to a list or dictionary.
    pub(super) fn extend(&mut self, list: u32, items: &[Value]) -> Result<(), Fault> {
        let Self { room, lists, .. } = self;
        let list = &mut lists[list as usize];
        items.iter().try_for_each(|item| room.push(list, *item).map(drop))
    }

    /// A tuple of these.
    pub(super) fn tuple(&mut self, values: &[Value]) -> Result<Value, Fault> {
        let Self { room, items, .. } = self;
        let start = items.len() as u32;
        values.iter().try_for_each(|value| room.push(items, *value).map(drop))?;
        Ok(Value::Tuple(Span { start, length: values.len() as u32 }))
    }

    /// The items of a list, or the keys and values of a dictionary.
    pub(super) fn items_of(&self, list: u32) -> &[Value] {
        &self.lists[list as usize]
    }

    /// The value of a dictionary's first key of this text, if it is among the first `many`.
    pub(super) fn entry(&self, pickle: &[u8], dict: u32, key: &str, many: usize) -> Option<Value> {
        let is_key = |value: &Value| matches!(value, Value::Text(text) if &pickle[text.range()] == key.as_bytes());
        self.items_of(dict).as_chunks().0.iter().take(many).find(|[name, _]| is_key(name)).map(|[_, value]| *value)
    }
}

/// How much memory may still be taken.
///
/// Less than four times a small file and 16 MiB beyond, so that no file costs more; a real checkpoint's pickle has a thousandth of its bytes.
#[derive(Clone)]
pub(super) struct Room {
    left: u64,
    limit: u64,
}

impl Room {
    fn of(file: u64) -> Self {
        let limit = (12 << 20) + 2 * file.min(64 << 20);
        Self { left: limit, limit }
    }

    /// Counts so many bytes.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), Fault> {
        self.left = self.left.checked_sub(bytes).ok_or(Fault::Room { limit: self.limit })?;
        Ok(())
    }

    /// Adds to a list, and says at which place; what the list takes is counted, also while it moves.
    pub(super) fn push<T>(&mut self, list: &mut Vec<T>, item: T) -> Result<usize, Fault> {
        if list.len() == list.capacity() {
            let more = list.capacity().max(2);
            self.spend((list.capacity() + more) as u64 * size_of::<T>() as u64)?;
            list.reserve_exact(more);
        }
        list.push(item);
        Ok(list.len() - 1)
    }
}
