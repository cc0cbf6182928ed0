//! Bytes: how many there are, how many may be used, and what is therefore unpacked.

#![warn(missing_docs)]

mod plan;
mod report;

pub use plan::{Held, Part, Plan, Share, Stage};
pub use report::{DeviceReport, MemoryReport};

use std::{fmt, str::FromStr};

/// A number of bytes; written and read as `512 MiB`, `1.5GiB` or plain digits, and in JSON as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (unit, size) = UNITS.into_iter().find(|(_, size)| self.0 >= *size).unwrap_or(("B", 1));
        let amount = self.0 as f64 / size as f64;
        // Upwards, so that what is written is enough where it is read again.
        if size == 1 || amount >= 100.0 {
            write!(f, "{:.0} {unit}", amount.ceil())
        } else {
            write!(f, "{:.1} {unit}", (amount * 10.0).ceil() / 10.0)
        }
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotBytes { found: text.to_owned() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
        let (amount, unit) = trimmed.split_at(digits);
        let unit = if unit.is_empty() { "B" } else { unit };
        let (_, size) = UNITS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
        let amount: f64 = amount.trim().parse().map_err(|_| wrong())?;
        let bytes = amount * size as f64;
        if (0.0..u64::MAX as f64).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

/// What can be wrong with a number of bytes or a plan.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// Not a size.
    #[error("`{found}` is not a size, expected for example `16 GiB`")]
    NotBytes {
        /// What was found.
        found: String,
    },
    /// The ceiling is too low.
    #[error("the model needs {needed}, {by} is {ceiling} ({parts})")]
    TooLittle {
        /// The least that would do.
        needed: Bytes,
        /// What is allowed.
        ceiling: Bytes,
        /// What says so.
        by: String,
        /// Where the bytes would go.
        parts: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [("16 GiB", 16 << 30), ("1.5gib", 3 << 29), ("512MiB", 512 << 20), ("7", 7), ("0 B", 0)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1 GiB", "nan GiB", "1e30 TiB", "16 GB", "1 2 GiB", "inf"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(Bytes(300 << 20).to_string(), "300 MiB");
        for bytes in [999, 3_400_000, (3 << 20) + 1, (100 << 20) + 1, 12_345_678_901] {
            let read: Bytes = Bytes(bytes).to_string().parse().unwrap();
            assert!((bytes..bytes + bytes / 20).contains(&read.0), "{bytes} {read:?}");
        }
    }
}
