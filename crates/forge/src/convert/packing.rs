//! Tensors on their way into a file, a piece at a time.

use std::{
    io::{self, Write},
    path::Path,
};

use core_tensor::{Format, Stored as Tensor, WeightSource};
use diffusion_engine::{Cancel, Error as RunError};
use quant::encode::{BLOCK, EightBits, FourBits, packed};
use rayon::prelude::*;

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

/// Weights that one thread compares or unpacks, one after the other: whole blocks of every format. The sums over a tensor are those of
/// its parts in their order, so that they are the same for any number of threads.
const OF_A_THREAD: usize = 1 << 14;

/// A file in the making.
pub(super) struct Packing<'a> {
    out: &'a mut dyn Write,
    at: u64,
    input: &'a Path,
    cancel: &'a Cancel,
}

/// What weights became of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Loss {
    /// The sum of the squares of the weights.
    pub(super) squares: f64,
    /// The sum of the squares of what they are off.
    pub(super) off: f64,
    /// The most that one is off.
    pub(super) most: f32,
}

impl Loss {
    /// What some weights became of.
    fn of(weights: &[f32], values: &[f32]) -> Self {
        let parts = weights.par_chunks(OF_A_THREAD).zip(values.par_chunks(OF_A_THREAD));
        let parts: Vec<Self> = parts.map(|(weights, values)| Self::of_part(weights, values)).collect();
        parts.into_iter().fold(Self::default(), Self::and)
    }

    fn of_part(weights: &[f32], values: &[f32]) -> Self {
        weights.iter().zip(values).fold(Self::default(), |loss, (weight, value)| {
            let difference = (weight - value).abs();
            let squares = f64::from(*weight) * f64::from(*weight);
            let off = f64::from(difference) * f64::from(difference);
            loss.and(Self { squares, off, most: difference })
        })
    }

    fn and(self, other: Self) -> Self {
        let Self { squares, off, most } = other;
        Self { squares: self.squares + squares, off: self.off + off, most: self.most.max(most) }
    }
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
            let of_part = OF_A_THREAD / format.weights() * format.bytes();
            let parts = values.par_chunks_mut(OF_A_THREAD).zip(bytes.par_chunks(of_part));
            parts.for_each(|(values, bytes)| unpack(bytes, values));
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
            let values_of = (0..weights.len()).into_par_iter().with_min_len(OF_A_THREAD);
            values_of.map(|i| table[number(i)] * of_blocks[i / BLOCK]).collect_into_vec(&mut values);
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
            let values_of = bytes.par_iter().with_min_len(OF_A_THREAD);
            values_of.map(|byte| kind.value(*byte) * scale).collect_into_vec(&mut values);
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
        let here @ Loss { squares, off, .. } = Loss::of(weights, values);
        *loss = loss.and(here);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_the_same_to_the_bit_for_any_number_of_threads() {
        let weights: Vec<f32> = (0..5 * OF_A_THREAD + 77).map(|i| (i as f32 * 0.37).sin()).collect();
        let values: Vec<f32> = weights.iter().map(|weight| (weight * 16.0).round() / 16.0).collect();
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Loss::of(&weights, &values))
        });
        assert_eq!(one, three);
        // and what one after the other comes to, but for the order of the sums
        let squares: f64 = weights.iter().map(|weight| f64::from(*weight).powi(2)).sum();
        let off: f64 = weights.iter().zip(&values).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        assert!((one.squares - squares).abs() < 1e-9 * squares && (one.off - off).abs() < 1e-9 * off, "{one:?}");
        assert!(one.most <= 1.0 / 32.0 && one.most > 0.9 / 32.0, "{one:?}");
        // A number that is none is not lost among others.
        assert!(Loss::of(&[1.0, f32::NAN], &[1.0, 0.0]).squares.is_nan());
        assert!(Loss::of(&[1.0, 2.0], &[1.0, f32::INFINITY]).off.is_infinite());
    }
}
