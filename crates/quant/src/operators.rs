//! What is done with weights of each format, by operation and device.

use core_tensor::Format;
use serde::Serialize;

use crate::{
    FP4, INT8, NF4,
    decoded::{E4M3, E5M2},
    encode::WRITTEN,
    formats::BLOCK_FORMATS,
};

/// How an operation comes by weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// They are put into the kernels' order when they are loaded, in the precision that is computed in. Where they stay in their file
    /// that is done for some rows at a time, in each product.
    Panels,
    /// They are multiplied in their own format: on the CPU where they stay in their file, and as [`How::Panels`] otherwise; on another
    /// device wherever they are, and the device unpacks them for each product, or in it where rows are few.
    Packed,
    /// The rows that are asked for become f32, each time.
    Rows,
    /// They become f32 when they are loaded.
    Unpacked,
}

impl How {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panels => "panels",
            Self::Packed => "as packed",
            Self::Rows => "rows",
            Self::Unpacked => "f32",
        }
    }
}

/// What is computed with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// Matrices.
    Linear,
    /// Tables of which rows are looked up.
    Embedding,
    /// Convolutions.
    Conv2d,
    /// Norms' weights, biases, and whatever else has one dimension.
    Parameter,
}

impl Operator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Embedding, Self::Conv2d, Self::Parameter];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Embedding => "embedding",
            Self::Conv2d => "conv2d",
            Self::Parameter => "parameter",
        }
    }
}

/// Where is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The CPU, with kernels of our own.
    Cpu,
    /// Burn's back ends for other devices.
    Other,
}

/// Every format that models are computed with.
pub fn computed() -> impl Iterator<Item = Format> {
    let floats = [Format::F64, Format::F32, Format::F16, Format::BF16, E4M3, E5M2];
    floats.into_iter().chain(BLOCK_FORMATS.iter().copied()).chain([NF4, FP4, INT8])
}

/// Whether `forge convert` writes a format.
pub fn is_written(format: Format) -> bool {
    WRITTEN.contains(&format) || [NF4, FP4, E4M3, E5M2].contains(&format)
}

/// How an operation comes by weights of a format; all formats are weights of all operations.
pub fn how(format: Format, operator: Operator, place: Place) -> How {
    match (operator, place) {
        (Operator::Linear, Place::Cpu) if format.product().is_some() => How::Packed,
        (Operator::Linear, Place::Other) if format.bits().is_some() => How::Packed,
        (Operator::Linear | Operator::Conv2d, Place::Cpu) => How::Panels,
        (Operator::Embedding, Place::Cpu | Place::Other) => How::Rows,
        (Operator::Linear | Operator::Conv2d, Place::Other) => How::Unpacked,
        (Operator::Parameter, Place::Cpu | Place::Other) => How::Unpacked,
    }
}

/// Bits that a weight takes, without scales that lie elsewhere.
pub fn bits(format: Format) -> f64 {
    8.0 * format.bytes() as f64 / format.weights() as f64
}
