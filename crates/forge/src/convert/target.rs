//! The formats that tensors can be written in, by name.

use std::{fmt, str::FromStr};

use core_tensor::Format;
use quant::{
    encode::{EightBits, FourBits, WRITTEN},
    is_in_gguf,
};

use super::Kept;
use crate::convert_fault::ConvertFault;

/// A format that tensors are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Numbers, or blocks of them, one after the other.
    Plain(Format),
    /// bitsandbytes' four bits, with scales beside them.
    FourBits(FourBits),
    /// Floats of eight bits, with a scale for all.
    EightBits(EightBits),
}

/// Those that are no [`Target::Plain`], by name.
const SCALED: [(&str, Target); 4] = [
    ("NF4", Target::FourBits(FourBits::Nf4)),
    ("FP4", Target::FourBits(FourBits::Fp4)),
    ("F8_E4M3", Target::EightBits(EightBits::E4m3)),
    ("F8_E5M2", Target::EightBits(EightBits::E5m2)),
];

impl Target {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        WRITTEN.into_iter().map(Self::Plain).chain(SCALED.map(|(_, target)| target))
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain(format) => format.name(),
            scaled => SCALED.iter().find(|(_, known)| *known == scaled).map_or("", |(name, _)| name),
        }
    }

    /// Whether it is one of floats that are all as they would be elsewhere.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::Plain(format) if format.weights() == 1)
    }

    /// Whether a kind of file holds it.
    pub(super) fn is_in(self, kept: Kept) -> bool {
        match (self, kept) {
            (Self::Plain(format), Kept::Gguf) => is_in_gguf(format),
            (Self::Plain(_), Kept::Safetensors) => self.is_float(),
            (Self::FourBits(_) | Self::EightBits(_), Kept::Gguf) => false,
            (Self::FourBits(_) | Self::EightBits(_), Kept::Safetensors) => true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = ConvertFault;

    fn from_str(text: &str) -> Result<Self, ConvertFault> {
        let is = |target: &Self| target.name().eq_ignore_ascii_case(text);
        Self::all().find(is).ok_or_else(|| ConvertFault::Type {
            found: text.to_owned(),
            known: Self::all().map(|target| target.name().to_lowercase()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_found_by_its_name_in_any_case_and_is_in_one_kind_of_file_at_least() {
        for target in Target::all() {
            assert_eq!(target.name().to_lowercase().parse::<Target>().unwrap(), target);
            assert!(target.is_in(Kept::Gguf) || target.is_in(Kept::Safetensors), "{target}");
        }
        for text in ["", "q4", "q4_k_m", "iq1_s", "Q4_K "] {
            assert!(matches!(text.parse::<Target>(), Err(ConvertFault::Type { .. })), "{text}");
        }
    }
}
