//! Tensors on their way into a file, a piece at a time.

use std::{
    io::{self, Write},
    path::Path,
};

use core_tensor::{Format, Round, Stored as Tensor, WeightSource};
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

/// Weights that are unpacked and packed at once: whole blocks of every format.
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
    /// The largest weight, without its sign.
    largest: f32,
    /// Whether any value is not 0.
    is_left: bool,
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
            loss.and(Self { squares, off, most: difference, largest: weight.abs(), is_left: *value != 0.0 })
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            off: self.off + other.off,
            most: self.most.max(other.most),
            largest: self.largest.max(other.largest),
            is_left: self.is_left || other.is_left,
        }
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
        let target = match planned.to {
            Stored::Copied(_) => {
                let whole = stored.byte_len();
                for start in (0..whole).step_by(AT_ONCE) {
                    self.go_on()?;
                    self.put(&stored.bytes_of(start..whole.min(start + AT_ONCE)))?;
                }
                let rest = planned.entries[0].bytes().unwrap_or(0).saturating_sub(whole as u64);
                self.put(&vec![0; rest as usize])?;
                return Ok(Loss::default());
            }
            Stored::As(target) => target,
        };
        let loss = match target {
            Target::Plain(format) => self.plain(planned, &stored, format),
            Target::FourBits(kind) => self.four_bits(planned, &stored, kind),
            Target::EightBits(kind) => self.eight_bits(planned, &stored, kind),
        }?;
        if loss.largest > 0.0 && !loss.is_left {
            let (tensor, most) = (abridged(&planned.name), loss.largest);
            return Err(ConvertFault::Vanished { tensor, target: target.name(), most }.into());
        }
        Ok(loss)
    }

    /// The bytes of a tensor that keeps its format, with what is beside them; its weights are looked at all the same.
    fn kept(&mut self, planned: &Planned, stored: &Tensor) -> Result<Loss, Stop> {
        let (format, mut loss) = (stored.format(), Loss::default());
        let bytes = |weights: usize| weights.div_ceil(format.weights()) * format.bytes();
        self.each(planned, stored, |packing, first, weights| {
            packing.see(planned, &mut loss, weights, weights)?;
            packing.put(&stored.bytes_of(bytes(first)..bytes(first + weights.len())))
        })?;
        Ok(loss)
    }

    fn plain(&mut self, planned: &Planned, stored: &Tensor, format: Format) -> Result<Loss, Stop> {
        // What has no weights in the old file may need one in the new.
        if stored.format() == format && stored.is_in_its_bytes() && !stored.shape().contains(&0) {
            return self.kept(planned, stored);
        }
        let (mut loss, mut values) = (Loss::default(), Vec::new());
        let unpack = format.unpack().ok_or(ConvertFault::Size)?;
        self.each(planned, stored, |packing, _, weights| {
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
        let table = kind.values();
        let has_kind = stored.format() == kind.format();
        if let Some((scales, _)) = has_kind.then(|| stored.scales_of_runs(BLOCK)).flatten() {
            let loss = self.kept(planned, stored)?;
            self.floats(&scales)?;
            self.floats(&table)?;
            self.put(&planned.state)?;
            return Ok(loss);
        }
        let (mut loss, mut scales, mut values) = (Loss::default(), Vec::new(), Vec::new());
        self.each(planned, stored, |packing, _, weights| {
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
        if let Some(scale) = one_scale(stored, kind) {
            let loss = self.kept(planned, stored)?;
            self.floats(&[scale])?;
            self.put(&planned.state)?;
            return Ok(loss);
        }
        let mut most = 0.0f32;
        self.each(planned, stored, |packing, _, weights| {
            packing.see(planned, &mut Loss::default(), weights, weights)?;
            most = weights.iter().fold(most, |most, x| most.max(x.abs()));
            Ok(())
        })?;
        let scale = most / kind.largest();
        // Such small weights have no scale that a float could hold.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        let (mut loss, mut values) = (Loss::default(), Vec::new());
        self.each(planned, stored, |packing, _, weights| {
            let bytes = kind.packed(weights, scale);
            let values_of = bytes.par_iter().with_min_len(OF_A_THREAD);
            values_of.map(|byte| kind.value(*byte) * scale).collect_into_vec(&mut values);
            packing.see(planned, &mut loss, weights, &values)?;
            packing.put(&bytes)
        })?;
        self.floats(&[scale])?;
        self.put(&planned.state)?;
        Ok(loss)
    }

    fn floats(&mut self, floats: &[f32]) -> Result<(), Stop> {
        let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Finds out whether somebody wants it to end.
    fn go_on(&self) -> Result<(), Stop> {
        if self.cancel.is_asked() { Err(RunError::Cancelled.into()) } else { Ok(()) }
    }

    /// Calls `work` with all weights and the number of the first of them, so many at a time that every piece but the last is whole blocks of
    /// any format, wherever rows end.
    fn each(
        &mut self,
        planned: &Planned,
        stored: &Tensor,
        mut work: impl FnMut(&mut Self, usize, &[f32]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if !stored.format().is_float() {
            let (name, source_name) = (planned.name.clone(), planned.source.label().to_owned());
            return Err(core_tensor::Error::Format { name, source_name, found: stored.format() }.into());
        }
        let all = stored.shape().iter().product::<usize>();
        let mut weights = vec![0.0; all.min(AT_ONCE)];
        for first in (0..all).step_by(AT_ONCE) {
            self.go_on()?;
            let weights = &mut weights[..AT_ONCE.min(all - first)];
            let parts = weights.par_chunks_mut(OF_A_THREAD).enumerate();
            parts.for_each(|(i, part)| stored.read(first + i * OF_A_THREAD, part));
            work(self, first, weights)?;
        }
        // What has no weights, such as a marker, becomes a zero where it must have one.
        match all {
            0 if planned.weights > 0 => work(self, 0, &vec![0.0; planned.weights as usize]),
            _ => Ok(()),
        }
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

/// The scale of a matrix that is of floats of eight bits already: that of all of it, or 1 where there is none; `None` where it is of other
/// numbers, or has several scales.
fn one_scale(stored: &Tensor, kind: EightBits) -> Option<f32> {
    if stored.format() != kind.format() || stored.shape().contains(&0) {
        return None;
    }
    if stored.is_in_its_bytes() {
        return Some(1.0);
    }
    let (scales, round) = stored.scales_of_runs(stored.shape().iter().skip(1).product())?;
    let first = *scales.first()?;
    (round == Round::No && scales.iter().all(|scale| *scale == first)).then_some(first)
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
