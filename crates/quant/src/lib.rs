//! Containers and quantised tensors, recognised by their bytes and names.
//!
//! Quantised files are not run yet; the engine knows them so that one given as a model is named for what it is.

#![warn(missing_docs)]

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `GGUF`, llama.cpp's format of blocks.
    Gguf,
    /// A zip archive: a PyTorch checkpoint, which can run code when it is opened.
    Zip,
    /// A bare pickle, which can run code when it is opened.
    Pickle,
    /// The length of a header and a brace, as safetensors begin.
    Safetensors,
}

impl Container {
    /// The container of a file whose first nine bytes are `head`, or all of them if it has fewer; `None` for anything else.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'G', b'G', b'U', b'F', ..] => Some(Self::Gguf),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            [.., b'{'] if head.len() == 9 => Some(Self::Safetensors),
            [0x80, 2..=5, ..] => Some(Self::Pickle),
            _ => None,
        }
    }
}

/// How a file's tensors are quantised, where their names or number formats tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// bitsandbytes' four-bit normal floats.
    Nf4,
    /// bitsandbytes' four-bit floats.
    Fp4,
    /// Eight-bit floats, `F8_E4M3` or `F8_E5M2`.
    Fp8,
}

impl Scheme {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "bitsandbytes nf4",
            Self::Fp4 => "bitsandbytes fp4",
            Self::Fp8 => "fp8",
        }
    }

    /// The scheme of a file's tensors, by name and number format; `None` where they are plain.
    pub fn of<'a>(mut tensors: impl Iterator<Item = (&'a str, core_tensor::Dtype)>) -> Option<Self> {
        use core_tensor::Dtype;
        tensors.find_map(|(name, dtype)| {
            if name.ends_with("quant_state.bitsandbytes__nf4") {
                Some(Self::Nf4)
            } else if name.ends_with("quant_state.bitsandbytes__fp4") {
                Some(Self::Fp4)
            } else {
                matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2).then_some(Self::Fp8)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::Dtype;

    use super::*;

    #[test]
    fn containers_are_known_by_their_first_bytes() {
        assert_eq!(Container::of(b"GGUF\x03\0\0\0"), Some(Container::Gguf));
        assert_eq!(Container::of(b"PK\x03\x04"), Some(Container::Zip));
        assert_eq!(Container::of(b"\x80\x02}q\0"), Some(Container::Pickle));
        assert_eq!(Container::of(b"\x80\x02\0\0\0\0\0\0{"), Some(Container::Safetensors));
        for head in [&b""[..], b"G", b"\x80", b"{", b"\x89PNG\r\n\x1a\n"] {
            assert_eq!(Container::of(head), None);
        }
    }

    #[test]
    fn schemes_are_known_by_names_and_formats() {
        let of = |name, dtype| Scheme::of([("a", Dtype::BF16), (name, dtype)].into_iter());
        assert_eq!(of("x.weight.quant_state.bitsandbytes__nf4", Dtype::U8), Some(Scheme::Nf4));
        assert_eq!(of("x.weight", Dtype::F8_E4M3), Some(Scheme::Fp8));
        assert_eq!(of("x.weight", Dtype::F16), None);
    }
}
