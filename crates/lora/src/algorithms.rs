//! How a module's tensors become changes of its weight.

mod delta;
mod dora;
mod glora;
mod low_rank;
mod oft;

use core_tensor::{Change, Computed, Rule, Stored};
use std::ops::Range;

use crate::{
    leaf::Leaf,
    misfit::Misfit,
    scale::Scale,
    tensors::{Tensors, count, values},
};
use delta::Delta;

/// How a file's changes are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `up · down`, for convolutions LoCon (Hu et al. 2021).
    Lora,
    /// The element-wise product of two of these (Hyeon-Woo et al. 2021).
    Loha,
    /// The Kronecker product of two matrices (Yeh et al. 2023).
    Lokr,
    /// `W · A + B` (Chavan et al. 2023).
    Glora,
    /// Rotations of blocks of the outputs (Qiu et al. 2023).
    Oft,
    /// The same in butterflies (Liu et al. 2023).
    Boft,
    /// The difference itself, or the new weight.
    Full,
}

impl Algorithm {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lora => "LoRA",
            Self::Loha => "LoHa",
            Self::Lokr => "LoKr",
            Self::Glora => "GLoRA",
            Self::Oft => "OFT",
            Self::Boft => "BOFT",
            Self::Full => "full",
        }
    }

    /// The one that a module's tensors are of; `None` where they are of none.
    pub(crate) fn of(tensors: &Tensors) -> Option<Self> {
        tensors.leaves().find_map(|leaf| match leaf {
            Leaf::Down | Leaf::Up | Leaf::Mid => Some(Self::Lora),
            Leaf::Hada1A | Leaf::Hada1B | Leaf::Hada2A | Leaf::Hada2B | Leaf::Hada1T | Leaf::Hada2T => Some(Self::Loha),
            Leaf::Lokr1 | Leaf::Lokr1A | Leaf::Lokr1B => Some(Self::Lokr),
            Leaf::Lokr2 | Leaf::Lokr2A | Leaf::Lokr2B | Leaf::Lokr2T => Some(Self::Lokr),
            Leaf::A1 | Leaf::A2 | Leaf::B1 | Leaf::B2 => Some(Self::Glora),
            Leaf::OftBlocks => {
                let is_butterfly = tensors.get(leaf).is_some_and(|blocks| blocks.shape().len() == 4);
                Some(if is_butterfly { Self::Boft } else { Self::Oft })
            }
            Leaf::Diff | Leaf::DiffBias | Leaf::Set => Some(Self::Full),
            Leaf::UpBias | Leaf::Alpha | Leaf::DoraScale | Leaf::Magnitude | Leaf::Rescale => None,
        })
    }
}

impl Algorithm {
    /// Whether a tensor is a part of it, or of what may stand beside it: an alpha, magnitudes, and what is added to a bias.
    fn takes(self, leaf: Leaf) -> bool {
        match leaf {
            Leaf::Alpha | Leaf::UpBias | Leaf::DiffBias => true,
            Leaf::DoraScale | Leaf::Magnitude => self != Self::Full,
            Leaf::Down | Leaf::Up | Leaf::Mid => self == Self::Lora,
            Leaf::Hada1A | Leaf::Hada1B | Leaf::Hada2A | Leaf::Hada2B | Leaf::Hada1T | Leaf::Hada2T => {
                self == Self::Loha
            }
            Leaf::Lokr1 | Leaf::Lokr1A | Leaf::Lokr1B => self == Self::Lokr,
            Leaf::Lokr2 | Leaf::Lokr2A | Leaf::Lokr2B | Leaf::Lokr2T => self == Self::Lokr,
            Leaf::A1 | Leaf::A2 | Leaf::B1 | Leaf::B2 => self == Self::Glora,
            Leaf::OftBlocks | Leaf::Rescale => matches!(self, Self::Oft | Self::Boft),
            Leaf::Diff | Leaf::Set => self == Self::Full,
        }
    }
}

/// Whose norm the magnitudes of DoRA's outputs are held against where a file does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dora {
    /// The weight's own, as Forge and ComfyUI compute it.
    #[default]
    Forge,
    /// The changed weight's, as in the paper (Liu et al. 2024) and in PEFT.
    Paper,
}

/// The weight that a module's tensors change.
pub(crate) struct Site<'s> {
    /// Its module's name, for messages.
    pub(crate) module: &'s str,
    /// Its shape: of the rows alone that are changed.
    pub(crate) shape: Vec<usize>,
    /// Its values as they are stored.
    pub(crate) base: &'s dyn Fn() -> Result<Stored, Misfit>,
    /// Whether inputs are multiplied with it, and it is not read as it is.
    pub(crate) multiplies: bool,
    pub(crate) dora: Dora,
}

/// A change, and what it is multiplied with beside the user's strength.
pub(crate) type Scaled = (Change, f32);

impl Site<'_> {
    /// What the tensors add to the weight.
    pub(crate) fn changes(&self, tensors: &Tensors, scale: Scale) -> Result<Vec<Scaled>, Misfit> {
        tensors.check()?;
        let Some(algorithm) = Algorithm::of(tensors) else { return Err(Misfit::Unknown) };
        let both = tensors.has(Leaf::Diff) && tensors.has(Leaf::Set);
        let other = tensors.leaves().find(|leaf| !algorithm.takes(*leaf) || (both && *leaf == Leaf::Set));
        if let Some(other) = other {
            let algorithm = if algorithm == Algorithm::Full { "a change in full" } else { algorithm.name() };
            return Err(Misfit::Beside { algorithm, found: other.called() });
        }
        if algorithm == Algorithm::Full {
            return self.full(tensors);
        }
        if !self.multiplies {
            return Err(self.mismatch(&[]));
        }
        let delta = match algorithm {
            Algorithm::Lora if !dora::is_in(tensors) => return low_rank::changes(self, tensors, scale),
            Algorithm::Lora => low_rank::delta(self, tensors, scale)?,
            Algorithm::Loha => delta::hadamard(self, tensors, scale)?,
            Algorithm::Lokr => delta::kronecker(self, tensors, scale)?,
            Algorithm::Glora if !dora::is_in(tensors) => return glora::changes(self, tensors, scale),
            Algorithm::Oft if !dora::is_in(tensors) => return oft::rotation(self, tensors),
            Algorithm::Boft if !dora::is_in(tensors) => return oft::butterfly(self, tensors),
            Algorithm::Glora | Algorithm::Oft | Algorithm::Boft => {
                return Err(Misfit::Beside { algorithm: algorithm.name(), found: Leaf::DoraScale.called() });
            }
            Algorithm::Full => return self.full(tensors),
        };
        match dora::is_in(tensors) {
            true => dora::changes(self, tensors, delta),
            false => Ok(vec![(Change::Computed(Computed::by(Plain { shape: self.shape.clone(), delta })), 1.0)]),
        }
    }

    /// A difference, or what the weight becomes.
    fn full(&self, tensors: &Tensors) -> Result<Vec<Scaled>, Misfit> {
        if let Some(difference) = tensors.get(Leaf::Diff) {
            return Ok(vec![(Change::Difference(self.shaped(difference)?), 1.0)]);
        }
        let Some(new) = tensors.get(Leaf::Set) else { return Ok(Vec::new()) };
        let (new, base) = (values(&self.shaped(new)?)?, values(&(self.base)()?)?);
        let difference: Vec<f32> = new.iter().zip(&base).map(|(new, base)| new - base).collect();
        Ok(vec![(Change::Difference(Stored::of(&difference, self.shape.clone())), 1.0)])
    }

    /// A tensor of as many numbers as the weight has, in the weight's shape.
    fn shaped(&self, stored: &Stored) -> Result<Stored, Misfit> {
        match stored.shape().first() == self.shape.first() && count(stored.shape()) == count(&self.shape) {
            true => Ok(stored.clone().reshape(self.shape.clone())),
            false => Err(self.mismatch(stored.shape())),
        }
    }

    /// Outputs, and numbers to each of them.
    pub(crate) fn flat(&self) -> [usize; 2] {
        [self.shape[0], count(&self.shape[1..])]
    }

    /// Places of a convolution's kernel; 1 of a matrix.
    pub(crate) fn places(&self) -> usize {
        count(self.shape.get(2..).unwrap_or_default())
    }

    pub(crate) fn mismatch(&self, found: &[usize]) -> Misfit {
        Misfit::Shape { module: self.module.to_owned(), expected: self.shape.clone(), found: found.to_vec() }
    }
}

/// A change that does not depend on the weight.
struct Plain {
    shape: Vec<usize>,
    delta: Delta,
}

impl Rule for Plain {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: Range<usize>, strength: f32) -> Vec<f32> {
        let mut values = self.delta.rows(rows);
        if strength != 1.0 {
            values.iter_mut().for_each(|value| *value *= strength);
        }
        values
    }
}
