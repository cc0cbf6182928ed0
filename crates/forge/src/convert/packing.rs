//! Tensors on their way into a file, a piece at a time.

use std::{
    io::{self, Write},
    path::Path,
};

use core_tensor::{Format, Stored as Tensor, WeightSource};
use diffusion_engine::{Cancel, Error as RunError};
use quant::encode::{BLOCK, EightBits, FourBits, packed};

use super::{
    Target,
    plan::{Planned, Stored},
};
use crate::{Error, NotANumber, convert_fault::ConvertFault, model_files::abridged};

/// Why a file was not finished.
pub(super) enum Stop {
    /// The system did not take its bytes.
    Write(io::Error),
    /// Something else.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Weights that are unpacked and packed at once, about.
const AT_ONCE: usize = 1 << 22;

/// A file in the making.
pub(super) struct Packing<'a> {
    out: &'a mut dyn Write,
    at: u64,
    input: &'a Path,
    cancel: &'a Cancel,
}

/// What weights became of.
#[derive(Clone, Copy, Default)]
pub(super) struct Loss {
    /// The sum of the squares of the weights.
    pub(super) squares: f64,
    /// The sum of the squares of what they are off.
    pub(super) off: f64,
    /// The most that one is off.
    pub(super) most: f32,
}

impl<'a> Packing<'a> {
    pub(super) fn to(out: &'a mut dyn Write, input: &'a Path, cancel: &'a Cancel) -> Self {
        Self { out, at: 0, input, cancel }
    }

    /// How many bytes there are.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.out.write_all(bytes).map_err(Stop::Write)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to the next multiple of some bytes.
    pub(super) fn pad(&mut self, alignment: u64) -> Result<(), Stop> {
        let zeros = self.at.next_multiple_of(alignment) - self.at;
        self.put(&vec![0; zeros as usize])
    }

    /// A tensor and what belongs to it.
    pub(super) fn tensor(&mut self, planned: &Planned) -> Result<Loss, Stop> {
        let stored = planned.source.read(&planned.name)?;
        match planned.to {
            Stored::Copied(_) => {
                let bytes = stored.to_bytes();
                self.put(&bytes)?;
                let rest = planned.entries[0].bytes().unwrap_or(0).saturating_sub(bytes.len() as u64);
                self.put(&vec![0; rest as usize])?;
                Ok(Loss::default())
            }
            // Nothing is lost where a format is kept, and nothing need be unpacked.
            Stored::As(Target::Plain(format)) => self.plain(planned, &stored, format),
            Stored::As(Target::FourBits(kind)) => self.four_bits(planned, &stored, kind),
            Stored::As(Target::EightBits(kind)) => self.eight_bits(planned, &stored, kind),
        }
    }

    fn plain(&mut self, planned: &Planned, stored: &Tensor, format: Format) -> Result<Loss, Stop> {
        let (mut loss, mut values) = (Loss::default(), Vec::new());
        let unpack = format.unpack().ok_or(ConvertFault::Size)?;
        self.each(planned, stored, |packing, weights| {
            let bytes = packed(format, weights).ok_or(ConvertFault::Size)?;
            values.resize(weights.len(), 0.0);
            unpack(&bytes, &mut values);
            packing.see(planned, &mut loss, weights, &values)?;
            packing.put(&bytes)
        })?;
        Ok(loss)
    }

    fn four_bits(&mut self, planned: &Planned, stored: &Tensor, kind: FourBits) -> Result<Loss, Stop> {
        let (mut loss, mut scales, mut values) = (Loss::default(), Vec::new(), Vec::new());
        let table = kind.values();
        self.each(planned, stored, |packing, weights| {
            let (bytes, of_blocks) = kind.packed(weights);
            let number = |i: usize| usize::from(bytes[i / 2] >> (if i.is_multiple_of(2) { 4 } else { 0 }) & 15);
            values.clear();
            values.extend((0..weights.len()).map(|i| table[number(i)] * of_blocks[i / BLOCK]));
            packing.see(planned, &mut loss, weights, &values)?;
            scales.extend(of_blocks);
            packing.put(&bytes)
        })?;
        self.floats(&scales)?;
        self.floats(&table)?;
        self.put(&planned.state)?;
        Ok(loss)
    }

    fn eight_bits(&mut self, planned: &Planned, stored: &Tensor, kind: EightBits) -> Result<Loss, Stop> {
        let mut most = 0.0f32;
        self.each(planned, stored, |packing, weights| {
            packing.see(planned, &mut Loss::default(), weights, weights)?;
            most = weights.iter().fold(most, |most, x| most.max(x.abs()));
            Ok(())
        })?;
        let scale = most / kind.largest();
        // Such small weights have no scale that a float could hold.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        let (mut loss, mut values) = (Loss::default(), Vec::new());
        self.each(planned, stored, |packing, weights| {
            let bytes = kind.packed(weights, scale);
            values.clear();
            values.extend(bytes.iter().map(|byte| kind.value(*byte) * scale));
            packing.see(planned, &mut loss, weights, &values)?;
            packing.put(&bytes)
        })?;
        self.floats(&[scale])?;
        Ok(loss)
    }

    fn floats(&mut self, floats: &[f32]) -> Result<(), Stop> {
        let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Calls `work` with all weights, so many whole rows at a time that every piece is whole blocks of any format.
    fn each(
        &mut self,
        planned: &Planned,
        stored: &Tensor,
        mut work: impl FnMut(&mut Self, &[f32]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let source = planned.source.label();
        let format =
            |found| core_tensor::Error::Format { name: planned.name.clone(), source_name: source.to_owned(), found };
        let floats = |part: &Tensor| part.to_f32().ok_or_else(|| format(part.format()));
        let height = stored.shape().first().copied().unwrap_or(1);
        let width = stored.shape().iter().skip(1).product::<usize>().max(1);
        let rows = (AT_ONCE / width).next_multiple_of(BLOCK).max(BLOCK);
        let mut start = 0;
        while start < height {
            if self.cancel.is_asked() {
                return Err(RunError::Cancelled.into());
            }
            let end = start.saturating_add(rows).min(height);
            // Rows that are no whole blocks of the file are read together.
            match if start == 0 && end == height { Ok(stored.clone()) } else { stored.rows(start..end) } {
                Ok(part) => work(self, &floats(&part)?)?,
                Err(_) if start == 0 => return work(self, &floats(stored)?),
                Err(error) => return Err(error.into()),
            }
            start = end;
        }
        // What has no weights, such as a marker, becomes a zero where it must have one.
        let lacking = planned.weights.saturating_sub((height * width) as u64);
        if stored.shape().contains(&0) && lacking > 0 {
            return work(self, &vec![0.0; planned.weights as usize]);
        }
        Ok(())
    }

    /// Adds what some weights became of.
    ///
    /// # Errors
    /// A weight that is no number, or becomes none.
    fn see(&self, planned: &Planned, loss: &mut Loss, weights: &[f32], values: &[f32]) -> Result<(), Stop> {
        let (mut squares, mut off) = (0.0, 0.0);
        for (weight, value) in weights.iter().zip(values) {
            let difference = (weight - value).abs();
            squares += f64::from(*weight) * f64::from(*weight);
            off += f64::from(difference) * f64::from(difference);
            loss.most = loss.most.max(difference);
        }
        loss.squares += squares;
        loss.off += off;
        if !squares.is_finite() {
            let source = NotANumber { path: self.input.to_owned(), tensor: abridged(&planned.name) };
            return Err(Error::Damaged { what: "the weights can't be converted".into(), source }.into());
        }
        if !off.is_finite() {
            let target = match planned.to {
                Stored::As(target) => target.name(),
                Stored::Copied(format) => format.name(),
            };
            return Err(ConvertFault::Range { tensor: abridged(&planned.name), target }.into());
        }
        Ok(())
    }
}
