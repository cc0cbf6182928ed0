//! Damage to bytes of any kind: what readers of lengths, numbers and texts are known to fall over.

use crate::Dice;

/// The longest input; what takes long on more is a matter of bounds, which have their own tests.
const LONGEST: usize = 1 << 14;

/// Numbers at the edges of what types hold.
const NUMBERS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "7",
    "8",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "0.5",
    "-0",
];

/// Bytes that mean something to texts.
const MARKS: &[u8] = b"\0\n\r\t \"'\\/,:;=[]{}()<>#-+.%\x7f\x80\xc2\xff";

/// One of the seeds, damaged in some places.
pub(crate) fn damaged(dice: &mut Dice, seeds: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut bytes = dice.pick(seeds).clone();
    damage(dice, &mut bytes, seeds, tokens);
    bytes
}

/// Damages bytes in one place, or with falling chances in more; `others` is where foreign parts come from.
pub(crate) fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>], tokens: &[&str]) {
    loop {
        once(dice, bytes, others, tokens);
        bytes.truncate(LONGEST);
        if !dice.one_in(3) {
            return;
        }
    }
}

fn once(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>], tokens: &[&str]) {
    let at = dice.roll(bytes.len() + 1);
    let to = (at + dice.roll(1 + dice.clone().roll(24))).min(bytes.len());
    match dice.roll(14) {
        0 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
        1 if at < bytes.len() => bytes[at] = *dice.pick(MARKS),
        0..=2 => drop(bytes.splice(at..at, dice.pick(tokens).bytes())),
        3 => drop(bytes.splice(at..to, dice.pick(tokens).bytes())),
        4 => drop(bytes.drain(at..to)),
        5 => {
            let part = bytes[at..to].to_vec();
            let times = 1 << dice.roll(7);
            bytes.splice(at..at, part.repeat(times));
        }
        6 => {
            let other = dice.pick(others);
            let from = dice.roll(other.len() + 1);
            let part = &other[from..(from + dice.roll(64)).min(other.len())];
            bytes.splice(at..to, part.iter().copied());
        }
        7 => {
            let end = at.saturating_sub(dice.roll(64));
            bytes[end..at].reverse();
        }
        8..=10 => letter(dice, bytes, at),
        _ => number(dice, bytes, at),
    }
}

/// Puts another letter or digit in the place of the next one, which leaves the form as it is.
fn letter(dice: &mut Dice, bytes: &mut [u8], at: usize) {
    if let Some(letter) = bytes[at..].iter_mut().find(|b| b.is_ascii_alphanumeric()) {
        *letter = if letter.is_ascii_digit() { b'0' + dice.roll(10) as u8 } else { b'a' + dice.roll(26) as u8 };
    }
}

/// Puts another number in the place of the next one.
fn number(dice: &mut Dice, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|ahead| at + ahead) else { return };
    let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let number = match dice.roll(3) {
        0 => dice.roll(100).to_string(),
        _ => (*dice.pick(&NUMBERS)).to_owned(),
    };
    bytes.splice(start..start + length, number.into_bytes());
}
