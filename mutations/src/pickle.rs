//! PyTorch's files of which a part is damaged, inside of an archive that is whole.

use crate::{Dice, damage::damage};

/// A damaged pickle or another damaged entry in an archive that counts its bytes, or a file that is damaged anywhere.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut file = dice.pick(seeds).clone();
    let Some(mut entries) = entries(&file).filter(|entries| !entries.is_empty() && !dice.one_in(10)) else {
        // Of the old format, whose pickles have no lengths; what lies behind them are few bytes.
        some(dice, &mut file, seeds, tokens);
        return file;
    };
    let pickle = entries.iter().position(|(name, _)| name.ends_with(b"data.pkl")).unwrap_or(0);
    let at = if dice.one_in(8) { dice.roll(entries.len()) } else { pickle };
    match dice.roll(24) {
        0 => drop(entries.remove(at)),
        1 => {
            let entry = entries[at].clone();
            entries.push(entry);
        }
        2 => damage(dice, &mut entries[at].0, seeds, tokens),
        _ => some(dice, &mut entries[at].1, seeds, tokens),
    }
    zip(&entries)
}

/// Changes single bytes, which leaves most of a pickle's form as it is, or more.
fn some(dice: &mut Dice, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], tokens: &[&str]) {
    const NUMBERS: [u8; 8] = [0, 1, 2, 5, 0x7f, 0x80, 0xfe, 0xff];
    if bytes.is_empty() || dice.one_in(3) {
        return damage(dice, bytes, seeds, tokens);
    }
    loop {
        let (at, from) = (dice.roll(bytes.len()), dice.roll(bytes.len()));
        bytes[at] = if dice.one_in(2) { *dice.pick(&NUMBERS) } else { bytes[from] };
        if !dice.one_in(3) {
            return;
        }
    }
}

/// The names and bytes of an archive's entries; `None` for another file, or one whose directory is not where it says.
fn entries(file: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let number = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let end = file.strip_prefix(b"PK").and_then(|_| file.len().checked_sub(22))?;
    let mut at = number(end + 16)?;
    let mut entries = Vec::new();
    while file.get(at..)?.starts_with(b"PK\x01\x02") {
        let (size, start) = (number(at + 24)?, number(at + 42)?);
        let name = file.get(at + 46..)?.get(..short(at + 28)?)?;
        let data = start + 30 + short(start + 26)? + short(start + 28)?;
        entries.push((name.to_vec(), file.get(data..)?.get(..size)?.to_vec()));
        at += 46 + short(at + 28)? + short(at + 30)? + short(at + 32)?;
    }
    Some(entries)
}

/// An archive of stored entries (APPNOTE.TXT 4.3).
fn zip(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let [at, size] = [file.len(), data.len()].map(|n| (n as u32).to_le_bytes());
        let length = (name.len() as u16).to_le_bytes();
        let form = [&[0; 14][..], &size, &size, &length, &[0; 2]].concat();
        file.extend([b"PK\x03\x04\0\0", &form[2..], name, data].concat());
        directory.extend([b"PK\x01\x02\0\0", &*form, &[0; 10], &at, name].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [at, size] = [file.len(), directory.len()].map(|n| (n as u32).to_le_bytes());
    [&*file, &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &at, &[0; 2]].concat()
}
