//! Pictures of which a part is damaged, under checksums that are right.

use crate::{Dice, damage::damage};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A PNG with a damaged chunk, or another picture damaged anywhere.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut file = dice.pick(seeds).clone();
    let Some(mut chunks) = chunks(&file).filter(|chunks| !chunks.is_empty() && !dice.one_in(20)) else {
        damage(dice, &mut file, seeds, tokens);
        return file;
    };
    // Often enough in what is no pixels and no end.
    let telling: Vec<usize> =
        (0..chunks.len()).filter(|&i| !matches!(&chunks[i].0, b"IHDR" | b"IDAT" | b"IEND")).collect();
    let at = if telling.is_empty() || dice.one_in(10) { dice.roll(chunks.len()) } else { *dice.pick(&telling) };
    match dice.roll(12) {
        0 => {
            chunks[at].0 =
                **dice.pick(&[b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"acTL", b"fcTL"])
        }
        1 => drop(chunks.remove(at)),
        2 => {
            let (chunk, to) = (chunks[at].clone(), dice.roll(chunks.len() + 1));
            chunks.insert(to, chunk);
        }
        _ => damage(dice, &mut chunks[at].1, seeds, tokens),
    }
    let mut png = PNG.to_vec();
    for (kind, data) in &chunks {
        png.extend((data.len() as u32).to_be_bytes());
        let start = png.len();
        png.extend(kind);
        png.extend(data);
        let sum = crc(&png[start..]);
        png.extend(sum.to_be_bytes());
    }
    png
}

/// The chunks of a PNG; `None` for another file.
fn chunks(file: &[u8]) -> Option<Vec<([u8; 4], Vec<u8>)>> {
    let mut rest = file.strip_prefix(PNG)?;
    let mut chunks = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (kind, after) = after.split_first_chunk::<4>()?;
        chunks.push((*kind, after.get(..length)?.to_vec()));
        rest = after.get(length + 4..)?;
    }
    Some(chunks)
}

/// The checksum of a chunk's kind and data (PNG specification, annex D).
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut c, mut k) = (n as u32, 0);
            while k < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                k += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c: u32, &byte| TABLE[((c ^ u32::from(byte)) & 255) as usize] ^ (c >> 8))
}
