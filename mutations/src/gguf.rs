//! GGUF files of which numbers are damaged where they stand, or anything anywhere.

use crate::{Dice, damage::damage};

/// A file with damaged numbers, which leaves its form as it is, or damaged elsewhere; behind it there are bytes for tensors that
/// moved.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut file = dice.pick(seeds).clone();
    if dice.one_in(3) {
        damage(dice, &mut file, seeds, tokens);
    } else {
        numbers(dice, &mut file);
    }
    if !dice.one_in(4) {
        file.resize(file.len() + 512, 0);
    }
    file
}

/// Puts numbers at the edges of their types, or others of the file, in the places of some.
fn numbers(dice: &mut Dice, file: &mut [u8]) {
    const EDGES: [u64; 16] =
        [0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 256, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];
    loop {
        let width = *dice.pick(&[1, 1, 1, 4, 8]);
        let Some(last) = file.len().checked_sub(width) else { return };
        let (at, from) = (dice.roll(last + 1), dice.roll(last + 1));
        match dice.one_in(2) {
            true => file[at..at + width].copy_from_slice(&dice.pick(&EDGES).to_le_bytes()[..width]),
            false => file.copy_within(from..from + width, at),
        }
        if !dice.one_in(3) {
            return;
        }
    }
}
