//! The zip archive that `torch.save` writes since PyTorch 1.6: `NAME/data.pkl`, and each storage as `NAME/data/KEY`.
//!
//! Reference: PyTorch's `caffe2/serialize/inline_container.h`, which stores every entry as it is.

use std::ops::Range;

use rawzip::{CompressionMethod, ZipArchive};

use super::{
    Contents, PICKLE_LIMIT,
    fault::{Fault, Placed, beginning},
    machine,
    values::{Built, Room},
};

/// Reads the archive's directory and its pickle, and finds every storage.
pub(super) fn read(bytes: &[u8]) -> Result<Contents<'_>, Placed> {
    let mut built = Built::of(bytes.len() as u64);
    let entries = entries(bytes, &mut built.room).map_err(|fault| fault.at(0))?;
    let called = |name: &[u8]| entries.iter().filter(move |entry| entry.name.ends_with(name)).collect::<Vec<_>>();
    if !called(b"/constants.pkl").is_empty() {
        return Err(Fault::TorchScript.at(0));
    }
    let &[entry] = called(b"/data.pkl").as_slice() else {
        return Err(Fault::Pickles { found: called(b"/data.pkl").len() }.at(0));
    };
    let folder = entry.name.strip_suffix(b"data.pkl").unwrap_or_default();
    let find =
        |path: &[&[u8]]| entries.binary_search_by(|entry| entry.name.cmp(&path.concat())).ok().map(|i| &entries[i]);
    if let Some(order) = find(&[folder, b"byteorder"])
        && &bytes[order.data.clone()] != b"little"
    {
        return Err(Fault::BigEndian.at(order.data.start as u64));
    }
    let start = entry.data.start as u64;
    let pickle = &bytes[entry.data.clone()];
    if pickle.len() as u64 > PICKLE_LIMIT {
        return Err(Fault::TooLong { found: pickle.len() as u64, limit: PICKLE_LIMIT }.at(start));
    }
    let moved = |placed: Placed| placed.fault.at(start + placed.at);
    let (value, end) = machine::run(pickle, 0, &mut built).map_err(moved)?;
    if end != pickle.len() {
        return Err(Fault::BytesBehind { end: start + end as u64 }.at(start + end as u64));
    }
    let mut ranges = Vec::new();
    for i in 0..built.storages.len() {
        let storage = built.storages[i];
        let key = &pickle[storage.key.range()];
        let place = |fault: Fault| fault.at(start + u64::from(storage.at));
        let entry = find(&[folder, b"data/", key]);
        let Range { start, end } = entry.ok_or_else(|| place(Fault::NoStorage { key: beginning(key) }))?.data;
        let found = (end - start) as u64;
        if storage.bytes() != Some(found) {
            let expected = storage.bytes().unwrap_or(u64::MAX);
            return Err(place(Fault::StorageSize { key: beginning(key), expected, found }));
        }
        built.room.push(&mut ranges, start as u64).map_err(place)?;
    }
    Ok(Contents { pickle, start, built, value, ranges })
}

/// A stored entry.
struct Entry<'b> {
    name: &'b [u8],
    /// Where its header begins.
    start: usize,
    data: Range<usize>,
}

/// All entries, sorted by name: stored as they are, apart from each other and before the directory.
fn entries<'b>(bytes: &'b [u8], room: &mut Room) -> Result<Vec<Entry<'b>>, Fault> {
    let archive = ZipArchive::from_slice(bytes).map_err(Fault::Directory)?;
    let end = archive.end_offset();
    if end != bytes.len() as u64 {
        return Err(Fault::BytesBehind { end });
    }
    let mut entries = Vec::new();
    let mut listed = archive.entries();
    while let Some(record) = listed.next_entry().map_err(Fault::Directory)? {
        let raw = record.file_path();
        let entry = beginning(raw.as_bytes());
        if record.flags().is_encrypted() {
            return Err(Fault::Encrypted { entry });
        }
        if record.compression_method() != CompressionMethod::STORE {
            return Err(Fault::Compressed { entry, method: record.compression_method().as_u16() });
        }
        let (stored, size) = (record.compressed_size_hint(), record.uncompressed_size_hint());
        if stored != size {
            return Err(Fault::EntrySize { entry, stored, size });
        }
        if !is_plain(raw.as_bytes()) {
            return Err(Fault::EntryPath { entry });
        }
        let held = archive.get_entry(record.wayfinder()).map_err(Fault::Directory)?;
        let header = held.local_header();
        if header.file_path().as_bytes() != raw.as_bytes() {
            return Err(Fault::EntryRenamed { entry, found: beginning(header.file_path().as_bytes()) });
        }
        let (start, end) = held.compressed_data_range();
        let name = &bytes[NAME_AT + record.local_header_offset() as usize..][..raw.as_bytes().len()];
        let data = start as usize..end as usize;
        room.push(&mut entries, Entry { name, start: record.local_header_offset() as usize, data })?;
    }
    let (expected, found) = (archive.entries_hint(), entries.len() as u64);
    if expected != found {
        return Err(Fault::EntryCount { expected, found });
    }
    entries.sort_unstable_by_key(|entry| entry.start);
    let behind = entries.iter().skip(1).map(|entry| entry.start).chain([archive.directory_offset() as usize]);
    if let Some((entry, limit)) = entries.iter().zip(behind).find(|(entry, limit)| entry.data.end > *limit) {
        let (end, limit) = (entry.data.end as u64, limit as u64);
        return Err(Fault::Overlap { entry: beginning(entry.name), end, limit });
    }
    entries.sort_unstable_by_key(|entry| entry.name);
    match entries.array_windows().find(|[a, b]| a.name == b.name) {
        Some([twice, _]) => Err(Fault::EntryTwice { entry: beginning(twice.name) }),
        None => Ok(entries),
    }
}

/// Where a local header has its entry's name (APPNOTE.TXT 4.3.7).
const NAME_AT: usize = 30;

/// Whether a name is a path below a folder, on any system.
fn is_plain(name: &[u8]) -> bool {
    let odd = |part: &[u8]| part == b".." || part.iter().any(|byte| matches!(byte, b'\\' | b':' | 0));
    !name.is_empty() && !name.starts_with(b"/") && !name.split(|&byte| byte == b'/').any(odd)
}
