use core_tensor::Format;

/// How tensors are quantised, where their names or number formats tell.
///
/// In ascending order of how much a name tells: of a file in which several are found, the last is the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Truth values where numbers belong, which nobody's names explain.
    Bool,
    /// Unsigned bytes, likewise.
    U8,
    /// Integers of 16 bits, likewise.
    Int16,
    /// Integers of 32 bits or more, likewise.
    Int32,
    /// Eight-bit integers without a name that tells whose.
    Int8,
    /// The same, with a scale for each matrix; what its names alone would call [`Scheme::ScaledFp8`].
    ScaledInt8,
    /// Eight-bit floats, `F8_E4M3` or `F8_E5M2`.
    Fp8,
    /// The same, with a scale for each matrix (`scale_weight`, `weight_scale`).
    ScaledFp8,
    /// Blocks of 32 four-bit floats with a scale that is a power of two.
    Mxfp4,
    /// NVIDIA's blocks of 16 four-bit floats.
    Nvfp4,
    /// bitsandbytes' eight-bit integers.
    Bnb8,
    /// bitsandbytes' four bits, of which the file does not tell the kind.
    Bnb4,
    /// bitsandbytes' four-bit floats.
    Fp4,
    /// bitsandbytes' four-bit normal floats.
    Nf4,
    /// quanto's integers or floats.
    Quanto,
    /// torchao's subclasses of tensors.
    TorchAo,
    /// HQQ's integers.
    Hqq,
    /// SD.Next's integers.
    Sdnq,
    /// compressed-tensors' packed integers.
    CompressedTensors,
    /// AWQ's four-bit integers.
    Awq,
    /// GPTQ's four-bit integers.
    Gptq,
    /// Nunchaku's four-bit matrices with a low-rank branch.
    SvdQuant,
}

impl Scheme {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::Int16 => "I16",
            Self::Int32 => "integers of 32 or 64 bits",
            Self::Int8 => "int8",
            Self::ScaledInt8 => "int8 with a scale",
            Self::Fp8 => "fp8",
            Self::ScaledFp8 => "scaled fp8",
            Self::Mxfp4 => "MXFP4",
            Self::Nvfp4 => "NVFP4",
            Self::Bnb8 => "bitsandbytes int8",
            Self::Bnb4 => "bitsandbytes 4-bit",
            Self::Fp4 => "bitsandbytes fp4",
            Self::Nf4 => "bitsandbytes nf4",
            Self::Quanto => "quanto",
            Self::TorchAo => "torchao",
            Self::Hqq => "HQQ",
            Self::Sdnq => "SDNQ",
            Self::CompressedTensors => "compressed-tensors",
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::SvdQuant => "SVDQuant",
        }
    }

    /// What is wrong with tensors in it, behind "is" or "are"; `told_by` is the first whose name or format tells of it.
    pub fn complaint(self, told_by: &str) -> String {
        match self {
            Self::Bool | Self::U8 | Self::Int16 | Self::Int32 => {
                format!("stored as {}, where numbers with a point belong", self.name())
            }
            Self::Int8 => {
                format!("quantised ({}) without scales, of which bitsandbytes' (`SCB`) are read", self.name())
            }
            // What is whole is decoded, and its parts are not seen.
            Self::ScaledFp8 | Self::Bnb8 | Self::Bnb4 | Self::Fp4 | Self::Nf4 => {
                format!("quantised ({}) in part: `{told_by}` is there, and not what it belongs to", self.name())
            }
            // Those of other makers are decoded.
            Self::Fp8 => format!(
                "in eight-bit floats of AMD's kind (FNUZ), such as `{told_by}`, which are not read as E4M3 and E5M2 are"
            ),
            Self::ScaledInt8
            | Self::Mxfp4
            | Self::Nvfp4
            | Self::Quanto
            | Self::TorchAo
            | Self::Hqq
            | Self::Sdnq
            | Self::CompressedTensors
            | Self::Awq
            | Self::Gptq
            | Self::SvdQuant => {
                format!("quantised ({}), such as `{told_by}`, which is not supported yet", self.name())
            }
        }
    }

    /// The scheme that one tensor tells, by its name and number format; `None` where it is plain.
    fn of(name: &str, format: Format) -> Option<Self> {
        let last = name.rsplit('.').next().unwrap_or(name);
        let ends = |ends: &[&str]| ends.contains(&last);
        if name.ends_with("quant_state.bitsandbytes__nf4") {
            Some(Self::Nf4)
        } else if name.ends_with("quant_state.bitsandbytes__fp4") {
            Some(Self::Fp4)
        } else if ends(&["wscales", "wcscales", "wtscale", "smooth_factor", "smooth_orig"]) {
            Some(Self::SvdQuant)
        } else if ends(&["g_idx"]) {
            Some(Self::Gptq)
        } else if ends(&["qzeros"]) {
            Some(Self::Awq)
        } else if ends(&["weight_packed", "weight_zero_point"]) {
            Some(Self::CompressedTensors)
        } else if ends(&["zero_point"]) {
            Some(Self::Sdnq)
        } else if ends(&["W_q"]) {
            Some(Self::Hqq)
        } else if last.contains(":_") {
            Some(Self::TorchAo)
        } else if ends(&["quant_map", "absmax", "nested_quant_map", "nested_absmax"]) {
            Some(Self::Bnb4)
        } else if ends(&["SCB", "weight_format"]) {
            Some(Self::Bnb8)
        } else if ends(&["_data", "_scale", "_shift", "_packed"]) {
            Some(Self::Quanto)
        } else if ends(&["weight_scale_2"]) || (format == Format::F4 && last == "weight") {
            Some(Self::Nvfp4)
        } else if format == Format::F8_E8M0 || ends(&["weight_blocks", "weight_scales"]) {
            Some(Self::Mxfp4)
        } else if ends(SCALES) {
            Some(Self::ScaledFp8)
        } else if is_fp8(format) {
            Some(Self::Fp8)
        } else if last == "weight" && format == Format::I8 {
            Some(Self::Int8)
        } else if last == "weight" {
            let bare = [(Self::Bool, BOOL), (Self::U8, U8), (Self::Int16, INT16), (Self::Int32, INT32)];
            bare.into_iter().find(|(_, formats)| formats.contains(&format)).map(|(scheme, _)| scheme)
        } else {
            None
        }
    }

    /// The number format or the tensor by which a matrix in this scheme is counted.
    fn counts(self, name: &str, format: Format) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        match self {
            Self::Bool => last == "weight" && format == Format::BOOL,
            Self::U8 => last == "weight" && format == Format::U8,
            Self::Int16 => last == "weight" && INT16.contains(&format),
            Self::Int32 => last == "weight" && INT32.contains(&format),
            Self::ScaledInt8 | Self::Sdnq => last == "weight" && [Format::I8, Format::U8].contains(&format),
            Self::Bnb4 => last == "quant_map",
            Self::TorchAo => last.ends_with(":_data"),
            Self::Hqq => last == "W_q",
            Self::CompressedTensors => last == "weight_packed",
            Self::Int8 | Self::Bnb8 => last == "weight" && format == Format::I8,
            Self::Fp8 | Self::ScaledFp8 => is_fp8(format),
            Self::Mxfp4 => format == Format::F8_E8M0 || last == "weight_blocks",
            Self::Nvfp4 => last == "weight_scale_2" || format == Format::F4,
            Self::Fp4 => name.ends_with("quant_state.bitsandbytes__fp4"),
            Self::Nf4 => name.ends_with("quant_state.bitsandbytes__nf4"),
            Self::Quanto => matches!(last, "_data" | "_packed"),
            Self::Gptq | Self::Awq | Self::SvdQuant => last == "qweight",
        }
    }
}

/// Whether a tensor is of eight-bit floats that nobody has decoded.
fn is_fp8(format: Format) -> bool {
    let known = [Format::F8_E4M3, Format::F8_E5M2, Format::F8_E4M3FNUZ, Format::F8_E5M2FNUZ];
    known.contains(&format) && !format.is_float()
}

/// What each of the schemes without a name of its own stores.
const BOOL: &[Format] = &[Format::BOOL];
const U8: &[Format] = &[Format::U8];
const INT16: &[Format] = &[Format::I16, Format::U16];
const INT32: &[Format] = &[Format::I32, Format::U32, Format::I64, Format::U64];

/// How the tensors of a model are quantised, gathered one by one.
#[derive(Clone, Debug, Default)]
pub struct Quantised {
    scheme: Option<Scheme>,
    /// The first tensor that tells of it, and how many do.
    told_by: String,
    telling: usize,
    /// Matrices that count under each scheme.
    counts: [usize; ALL.len()],
}

/// Last steps of names beside a matrix in eight bits.
const SCALES: &[&str] = &["scale_weight", "weight_scale", "weight_scale_inv", "scale_inv", "scaled_fp8"];

const ALL: [Scheme; 22] = [
    Scheme::Bool,
    Scheme::U8,
    Scheme::Int16,
    Scheme::Int32,
    Scheme::Int8,
    Scheme::ScaledInt8,
    Scheme::Fp8,
    Scheme::ScaledFp8,
    Scheme::Mxfp4,
    Scheme::Nvfp4,
    Scheme::Bnb8,
    Scheme::Bnb4,
    Scheme::Fp4,
    Scheme::Nf4,
    Scheme::Quanto,
    Scheme::TorchAo,
    Scheme::Hqq,
    Scheme::Sdnq,
    Scheme::CompressedTensors,
    Scheme::Awq,
    Scheme::Gptq,
    Scheme::SvdQuant,
];

impl Quantised {
    /// Looks at another tensor.
    pub fn see(&mut self, name: &str, format: Format) {
        self.tell(Scheme::of(name, format), name, 1);
        for (scheme, count) in ALL.iter().zip(&mut self.counts) {
            *count += usize::from(scheme.counts(name, format));
        }
    }

    /// Adds what was gathered of other tensors.
    pub fn add(&mut self, other: &Self) {
        self.tell(other.scheme, &other.told_by, other.telling);
        self.counts.iter_mut().zip(other.counts).for_each(|(count, other)| *count += other);
    }

    fn tell(&mut self, scheme: Option<Scheme>, by: &str, count: usize) {
        if scheme > self.scheme {
            (self.scheme, self.told_by, self.telling) = (scheme, by.to_owned(), 0);
        }
        self.telling += if scheme == self.scheme { count } else { 0 };
    }

    /// The first tensor that tells of the scheme.
    pub fn told_by(&self) -> &str {
        &self.told_by
    }

    /// The scheme, and how many tensors are stored in it, or tell of it where none is; `None` where all are plain.
    pub fn found(&self) -> Option<(Scheme, usize)> {
        let named = self.scheme?;
        // The names of a scale are the same for floats and for integers.
        let integers = self.count(Scheme::ScaledFp8) == 0 && self.count(Scheme::ScaledInt8) > 0;
        let scheme = if named == Scheme::ScaledFp8 && integers { Scheme::ScaledInt8 } else { named };
        let count = if self.count(scheme) > 0 { self.count(scheme) } else { self.telling };
        // One tensor of integers is no way of storing a model: it is told by its own name.
        let is_stray = matches!(scheme, Scheme::Bool | Scheme::U8 | Scheme::Int16 | Scheme::Int32) && count == 1;
        (!is_stray).then_some((scheme, count))
    }

    fn count(&self, scheme: Scheme) -> usize {
        ALL.iter().zip(self.counts).find(|(s, _)| **s == scheme).map_or(0, |(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tensors: &[(&str, Format)]) -> Option<(Scheme, usize)> {
        let mut quantised = Quantised::default();
        tensors.iter().for_each(|(name, format)| quantised.see(name, *format));
        quantised.found()
    }

    #[test]
    fn schemes_are_known_by_names_and_formats() {
        const BF16: Format = Format::BF16;
        const F8_E4M3: Format = Format::F8_E4M3;
        const F8_E5M2: Format = Format::F8_E5M2;
        const F8_E8M0: Format = Format::F8_E8M0;
        const F16: Format = Format::F16;
        const F32: Format = Format::F32;
        const I8: Format = Format::I8;
        const I32: Format = Format::I32;
        const U8: Format = Format::U8;
        type Case = (&'static [(&'static str, Format)], Option<(Scheme, usize)>);
        let cases: [Case; 33] = [
            (&[("x.weight", I8), ("x.weight_scale", F32), ("y.weight", I8)], Some((Scheme::ScaledInt8, 2))),
            (&[("x.weight", U8), ("x.scale_weight", F32)], Some((Scheme::ScaledInt8, 1))),
            (&[("x.weight", Format::I16), ("y.weight", Format::U16)], Some((Scheme::Int16, 2))),
            (&[("x.weight", U8), ("y.weight", U8), ("y.bias", F16)], Some((Scheme::U8, 2))),
            (&[("x.weight", Format::BOOL), ("y.weight", Format::BOOL)], Some((Scheme::Bool, 2))),
            (&[("x.weight", I32), ("y.weight", Format::I64)], Some((Scheme::Int32, 2))),
            (&[("x.weight", U8), ("x.scale", F16), ("x.zero_point", F16)], Some((Scheme::Sdnq, 1))),
            (&[("x.weight_packed", I32), ("x.weight_scale", F16)], Some((Scheme::CompressedTensors, 1))),
            (&[("x.W_q", U8), ("x.scale", F16), ("x.zero", F16)], Some((Scheme::Hqq, 1))),
            (&[("x.weight_blocks", U8), ("x.weight_scales", U8)], Some((Scheme::Mxfp4, 1))),
            (&[("x.weight:_data", I8), ("x.weight:_scale", F16)], Some((Scheme::TorchAo, 1))),
            (&[("x.weight", U8), ("x.weight.absmax", U8), ("x.weight.quant_map", F32)], Some((Scheme::Bnb4, 1))),
            (&[("x.weight.quant_map", F32), ("x.weight.quant_state.bitsandbytes__nf4", U8)], Some((Scheme::Nf4, 1))),
            (&[("x.weight", F16), ("x.weight_scale_inv", F32)], Some((Scheme::ScaledFp8, 1))),
            (&[("x.weight", BF16), ("x.weight_scale", F32)], Some((Scheme::ScaledFp8, 1))),
            (&[("x.weight", F8_E4M3), ("x.weight_scale_inv", F32)], Some((Scheme::ScaledFp8, 1))),
            (&[("x.weight", BF16), ("x.scale_weight", F32), ("y.scale_weight", F32)], Some((Scheme::ScaledFp8, 2))),
            (&[("x.bias", U8)], None),
            (&[("x.weight", F16)], None),
            (&[("position_ids", Format::I64), ("x.weight", BF16)], None),
            (&[("x.weight", I32), ("y.weight", BF16)], None),
            (&[("x.weight", U8), ("x.weight.quant_state.bitsandbytes__nf4", U8)], Some((Scheme::Nf4, 1))),
            (&[("x.weight", U8), ("x.weight.quant_state.bitsandbytes__fp4", U8)], Some((Scheme::Fp4, 1))),
            (&[("x.weight", I8), ("x.SCB", F32)], Some((Scheme::Bnb8, 1))),
            (&[("x.weight", I8), ("y.weight", I8)], Some((Scheme::Int8, 2))),
            (&[("x.weight", F8_E4M3), ("y.weight", F8_E5M2), ("z.weight", BF16)], Some((Scheme::Fp8, 2))),
            (&[("x.weight", F8_E4M3), ("x.scale_weight", F32)], Some((Scheme::ScaledFp8, 1))),
            (&[("x.weight", F8_E4M3), ("scaled_fp8", F8_E4M3)], Some((Scheme::ScaledFp8, 2))),
            (&[("x.weight", U8), ("x.weight_scale", F8_E4M3), ("x.weight_scale_2", F32)], Some((Scheme::Nvfp4, 1))),
            (&[("x.weight", U8), ("x.weight_scale", F8_E8M0)], Some((Scheme::Mxfp4, 1))),
            (&[("x.weight._data", I8), ("x.weight._scale", F16), ("x.input_scale", F32)], Some((Scheme::Quanto, 1))),
            (&[("x.qweight", I32), ("x.qzeros", I32), ("x.scales", F16)], Some((Scheme::Awq, 1))),
            (
                &[("x.qweight", I8), ("x.wscales", BF16), ("x.proj_down", BF16), ("x.smooth", BF16)],
                Some((Scheme::SvdQuant, 1)),
            ),
        ];
        for (tensors, expected) in cases {
            assert_eq!(found(tensors), expected, "{tensors:?}");
        }
        assert_eq!(found(&[("x.qweight", I32), ("x.qzeros", I32), ("x.g_idx", I32)]), Some((Scheme::Gptq, 1)));
    }
}
