//! Safetensors files whose headers are damaged and whose lengths still say where they end.

use crate::{Dice, damage::damage};

/// A damaged header before whole or cut data; now and then the length is damaged too.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut file = dice.pick(seeds).clone();
    if dice.one_in(20) {
        damage(dice, &mut file, seeds, tokens);
        return file;
    }
    let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let data = file.split_off((8 + length).min(file.len()));
    let mut header = file.split_off(8.min(file.len()));
    damage(dice, &mut header, seeds, tokens);
    let data = if dice.one_in(20) { &data[..dice.roll(data.len() + 1)] } else { &data };
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat()
}
