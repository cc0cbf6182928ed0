//! The format of `torch.save` before PyTorch 1.6: five pickles, and behind them each storage's size and bytes.
//!
//! Reference: `torch.serialization._legacy_save`.

use super::{
    Contents, PICKLE_LIMIT,
    fault::{Fault, Placed, beginning},
    machine,
    values::{Built, Span, Value},
};

/// The first pickle without its protocol: the magic number `0x1950a86a20f9469cfc6c`.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// What pickles of protocol 4 and 5 may have in front: the length of a frame.
const FRAME: usize = 9;

/// Reads the pickles, and finds every storage behind them.
pub(super) fn read(bytes: &[u8]) -> Result<Contents<'_>, Placed> {
    let magic = match bytes {
        [0x80, 2..=5, rest @ ..] if rest.starts_with(MAGIC) => 2 + MAGIC.len(),
        [0x80, 4..=5, 0x95, ..] if bytes.get(2 + FRAME..).is_some_and(|rest| rest.starts_with(MAGIC)) => {
            2 + FRAME + MAGIC.len()
        }
        _ => return Err(Fault::NotTorch.at(0)),
    };
    let mut built = Built::of(bytes.len() as u64);
    // All pickles end within it, or the file is refused.
    let head = &bytes[..bytes.len().min(PICKLE_LIMIT as usize)];
    let cut = |placed: Placed| match placed.fault {
        Fault::Truncated { .. } if head.len() < bytes.len() => {
            Fault::TooLong { found: bytes.len() as u64, limit: PICKLE_LIMIT }.at(placed.at)
        }
        fault => fault.at(placed.at),
    };
    let (version, at) = machine::run(head, magic, &mut built).map_err(cut)?;
    if version != Value::Int(1001) {
        return Err(Fault::Version.at(magic as u64));
    }
    let (system, end) = machine::run(head, at, &mut built).map_err(cut)?;
    let little = match system {
        Value::Dict(dict) => built.entry(head, dict, "little_endian", usize::MAX),
        _ => None,
    };
    if little != Some(Value::Bool(true)) {
        return Err(Fault::BigEndian.at(at as u64));
    }
    let (value, keys_at) = machine::run(head, end, &mut built).map_err(cut)?;
    let (keys, end) = machine::run(head, keys_at, &mut built).map_err(cut)?;
    let Value::List(keys) = keys else {
        let fault = Fault::Operand { opcode: "the list of storages", expected: "a list", found: keys.kind() };
        return Err(fault.at(keys_at as u64));
    };
    let ranges = storages(bytes, head, &mut built, keys, (keys_at, end))?;
    Ok(Contents { pickle: head, start: 0, built, value, ranges })
}

/// Where each storage's bytes begin, which follow each other in the order of `keys`, each behind its size.
fn storages(
    bytes: &[u8],
    head: &[u8],
    built: &mut Built,
    keys: u32,
    (keys_at, mut end): (usize, usize),
) -> Result<Vec<u64>, Placed> {
    let text = |span: Span| &head[span.range()];
    let placed = |fault: Fault| fault.at(keys_at as u64);
    // Of each storage the first that was named, in the order of their keys.
    let mut order = Vec::new();
    for number in 0..built.storages.len() as u32 {
        built.room.push(&mut order, number).map_err(placed)?;
    }
    let storages = &built.storages;
    order.sort_unstable_by_key(|&number| (text(storages[number as usize].key), number));
    let agree = |a: u32, b: u32| {
        let [a, b] = [a, b].map(|number| storages[number as usize]);
        text(a.key) != text(b.key) || (a.format == b.format && a.count == b.count)
    };
    if let Some([number, _]) = order.array_windows().find(|[a, b]| !agree(*a, *b)) {
        let storage = storages[*number as usize];
        return Err(Fault::StorageConflict { key: beginning(text(storage.key)) }.at(storage.at.into()));
    }
    let mut ranges = Vec::new();
    for _ in storages {
        built.room.push(&mut ranges, None).map_err(placed)?;
    }
    for &key in &built.lists[keys as usize] {
        let Value::Text(span) = key else {
            return Err(placed(Fault::Operand {
                opcode: "the list of storages",
                expected: "texts",
                found: key.kind(),
            }));
        };
        let key = || beginning(text(span));
        let first = order.partition_point(|&number| text(storages[number as usize].key) < text(span));
        let same = order[first..].iter().take_while(|&&number| text(storages[number as usize].key) == text(span));
        let Some(&&number) = same.clone().peekable().peek() else {
            return Err(placed(Fault::NoStorage { key: key() }));
        };
        let left = (bytes.len() - end) as u64;
        let size = bytes[end..].first_chunk().ok_or(Fault::Truncated { needed: 8, left }.at(end as u64))?;
        let (size, start) = (u64::from_le_bytes(*size), end + 8);
        let storage = storages[number as usize];
        let expected = storage.bytes().unwrap_or(u64::MAX);
        if size != storage.count {
            let per_value = storage.format.map_or(1, |format| format.bytes() as u64);
            let found = size.saturating_mul(per_value);
            return Err(Fault::StorageSize { key: key(), expected, found }.at(end as u64));
        }
        let left = (bytes.len() - start) as u64;
        if expected > left {
            return Err(Fault::Truncated { needed: expected, left }.at(start as u64));
        }
        for &number in same {
            if ranges[number as usize].replace(start as u64).is_some() {
                return Err(placed(Fault::StorageTwice { key: key() }));
            }
        }
        end = start + expected as usize;
    }
    if end != bytes.len() {
        return Err(Fault::BytesBehind { end: end as u64 }.at(end as u64));
    }
    let missing = |number: usize| {
        let storage = storages[number];
        Fault::NoStorage { key: beginning(text(storage.key)) }.at(storage.at.into())
    };
    ranges.into_iter().enumerate().map(|(number, start)| start.ok_or_else(|| missing(number))).collect()
}
