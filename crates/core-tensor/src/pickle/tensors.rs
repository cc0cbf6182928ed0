//! Storages and tensors as a pickle makes them, and the names that its dictionaries give them.

use super::{
    fault::{Fault, Placed, beginning},
    globals::{GLOBALS, Meaning},
    values::{Built, RANK_LIMIT, Span, Storage, Tensor, Value},
};

/// The longest name of a tensor, in bytes, as in a header of safetensors.
const NAME_LIMIT: usize = 1024;

/// How deep dictionaries may lie in each other.
const DEPTH_LIMIT: usize = 16;

impl Built {
    /// The storage of a persistent id: `('storage', type, key, device, count)`, in the old format with a view or nothing behind.
    pub(super) fn storage(&mut self, pickle: &[u8], id: Value, at: usize) -> Result<Value, Fault> {
        let wrong =
            |found: &'static str| Fault::Operand { opcode: "BINPERSID", expected: "the name of a storage", found };
        let Value::Tuple(span) = id else { return Err(wrong(id.kind())) };
        let (number, key, count) = match self.items[span.range()] {
            [
                Value::Text(tag),
                Value::Global(number),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
                ref view @ ..,
            ] if &pickle[tag.range()] == b"storage" => match view {
                [] | [Value::None] => (number, key, count),
                _ => return Err(Fault::View { key: beginning(&pickle[key.range()]) }),
            },
            _ => return Err(wrong("another tuple")),
        };
        let Meaning::Storage(format) = GLOBALS[usize::from(number)].meaning else {
            return Err(wrong("a tuple without a type of storage"));
        };
        let count = u64::try_from(count).map_err(|_| Fault::Negative { what: "storage's size", found: count })?;
        let Self { room, storages, .. } = self;
        room.push(storages, Storage { key, format, count, at: at as u32 }).map(|number| Value::Storage(number as u32))
    }

    /// The tensor of `(storage, offset, shape, strides, requires_grad, hooks)`, and its number format behind where it is `typed`.
    pub(super) fn tensor(
        &mut self,
        function: &'static str,
        arguments: Span,
        typed: bool,
        at: usize,
    ) -> Result<Value, Fault> {
        let wrong = |expected, found: Value| Fault::Operand { opcode: function, expected, found: found.kind() };
        let arguments = &self.items[arguments.range()];
        let argument = |i: usize| arguments.get(i).copied().unwrap_or(Value::None);
        let Value::Storage(storage) = argument(0) else { return Err(wrong("a storage", argument(0))) };
        let Value::Int(offset) = argument(1) else { return Err(wrong("an offset", argument(1))) };
        let Value::Tuple(dims) = argument(2) else { return Err(wrong("a shape", argument(2))) };
        let Value::Tuple(strides) = argument(3) else { return Err(wrong("strides", argument(3))) };
        let dtype = match argument(6) {
            Value::Global(number) if typed => match GLOBALS[usize::from(number)].meaning {
                Meaning::Dtype(format) => Some(format),
                _ => return Err(wrong("a number format", argument(6))),
            },
            other if typed => return Err(wrong("a number format", other)),
            _ => None,
        };
        let held = self.storages[storage as usize];
        let format = match (dtype, held.format) {
            (Some(tensor), Some(storage)) if tensor != storage => {
                return Err(Fault::Format { tensor: tensor.name(), storage: storage.name() });
            }
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) => return Err(Fault::NoFormat),
        };
        if dims.length != strides.length {
            return Err(Fault::Strides { dims: dims.length as usize, strides: strides.length as usize });
        }
        let rank = dims.length as usize;
        if rank > RANK_LIMIT {
            return Err(Fault::Rank { found: rank, limit: RANK_LIMIT });
        }
        let numbers = |span: Span, what| {
            let mut numbers = [0; RANK_LIMIT];
            for (number, &value) in numbers.iter_mut().zip(&self.items[span.range()]) {
                let Value::Int(value) = value else { return Err(wrong("whole numbers", value)) };
                *number = counted(what, value)?;
            }
            Ok(numbers)
        };
        let tensor = Tensor {
            storage,
            format,
            offset: counted("offset", offset)?,
            rank: rank as u8,
            dims: numbers(dims, "dimension")?,
            strides: numbers(strides, "stride")?,
            at: at as u32,
        };
        let count = if held.format.is_some() { held.count } else { held.count / format.bytes() as u64 };
        if !lies_within(&tensor, count) {
            return Err(Fault::Outside {
                shape: tensor.shape().to_vec(),
                strides: tensor.strides().to_vec(),
                offset: tensor.offset,
                storage: count,
            });
        }
        let Self { room, tensors, .. } = self;
        room.push(tensors, tensor).map(|number| Value::Tensor(number as u32))
    }
}

/// A count of a pickle's, which are signed.
fn counted(what: &'static str, number: i64) -> Result<u64, Fault> {
    u64::try_from(number).map_err(|_| Fault::Negative { what, found: number })
}

/// Whether all values lie in a storage of so many, and are not more than it has: a view that repeats them is no parameter.
fn lies_within(tensor: &Tensor, storage: u64) -> bool {
    let count = tensor.shape().iter().try_fold(1u64, |n, &dim| n.checked_mul(dim.max(1)));
    let last =
        tensor.shape().iter().zip(tensor.strides()).try_fold(tensor.offset, |last, (&dim, &stride)| {
            last.checked_add(dim.saturating_sub(1).checked_mul(stride)?)
        });
    let empty = tensor.shape().contains(&0);
    match (count, last) {
        (Some(_), Some(_)) if empty => tensor.offset <= storage,
        (Some(count), Some(last)) => last < storage && count <= storage,
        (None, _) | (_, None) => false,
    }
}

/// Calls `found` with the name of each tensor: the keys on the way to it, joined by points. That of `state_dict`, if there is one.
pub(super) fn named(
    pickle: &[u8],
    built: &Built,
    value: Value,
    found: &mut dyn FnMut(&str, &Tensor) -> Result<(), Fault>,
) -> Result<(), Placed> {
    let (Value::Dict(top) | Value::Parameters(top)) = value else {
        return Err(Fault::NoTensors { found: value.kind() }.at(0));
    };
    let top = match built.entry(pickle, top, "state_dict", usize::MAX) {
        Some(Value::Dict(inner)) => inner,
        Some(_) | None => top,
    };
    let left = pickle.len();
    Walk { pickle, built, name: String::new(), left, found }.dict(top, 0)
}

struct Walk<'p, 'f> {
    pickle: &'p [u8],
    built: &'p Built,
    /// The name so far.
    name: String,
    /// Entries that may still be looked at: each takes a byte at least, unless dictionaries are shared.
    left: usize,
    found: &'f mut dyn FnMut(&str, &Tensor) -> Result<(), Fault>,
}

impl Walk<'_, '_> {
    fn dict(&mut self, dict: u32, depth: usize) -> Result<(), Placed> {
        if depth == DEPTH_LIMIT {
            return Err(Fault::Depth { limit: DEPTH_LIMIT }.at(0));
        }
        for [key, value] in self.built.items_of(dict).as_chunks().0 {
            self.left = self.left.checked_sub(1).ok_or_else(|| Fault::Entries { limit: self.pickle.len() }.at(0))?;
            let Value::Text(key) = key else { continue };
            let before = self.name.len();
            match value {
                Value::Tensor(number) => {
                    let tensor = &self.built.tensors[*number as usize];
                    self.extend(*key)
                        .and_then(|()| (self.found)(&self.name, tensor))
                        .map_err(|f| f.at(tensor.at.into()))?;
                }
                Value::Dict(inner) | Value::Parameters(inner) => {
                    self.extend(*key).map_err(|fault| fault.at(key.start.into()))?;
                    self.dict(*inner, depth + 1)?;
                }
                Value::None | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Global(_) => {}
                Value::Tuple(_) | Value::List(_) | Value::Storage(_) | Value::Inert => {}
            }
            self.name.truncate(before);
        }
        Ok(())
    }

    /// Adds a key to the name.
    fn extend(&mut self, key: Span) -> Result<(), Fault> {
        let key = &self.pickle[key.range()];
        if self.name.len() + 1 + key.len() > NAME_LIMIT {
            return Err(Fault::LongName {
                start: beginning(if self.name.is_empty() { key } else { self.name.as_bytes() }),
                limit: NAME_LIMIT,
            });
        }
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(std::str::from_utf8(key).map_err(|_| Fault::Text)?);
        Ok(())
    }
}
