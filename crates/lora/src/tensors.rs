//! The tensors that a file has for one module.

use std::collections::BTreeMap;

use core_tensor::Stored;

use crate::{leaf::Leaf, misfit::Misfit};

/// What a file has for a module, each leaf once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tensors(BTreeMap<Leaf, Stored>);

impl Tensors {
    /// Puts a tensor there; gives it back where the module has one already.
    pub(crate) fn put(&mut self, leaf: Leaf, stored: Stored) -> Option<Stored> {
        if self.0.contains_key(&leaf) {
            return Some(stored);
        }
        self.0.insert(leaf, stored);
        None
    }

    /// The same with another tensor in the place of one.
    pub(crate) fn with(&self, leaf: Leaf, stored: Stored) -> Self {
        let mut with = self.clone();
        with.0.insert(leaf, stored);
        with
    }

    /// Whether there is one.
    pub(crate) fn has(&self, leaf: Leaf) -> bool {
        self.0.contains_key(&leaf)
    }

    /// One that is there.
    pub(crate) fn get(&self, leaf: Leaf) -> Option<&Stored> {
        self.0.get(&leaf)
    }

    /// One that the algorithm needs; `called` is its name in messages.
    pub(crate) fn need(&self, leaf: Leaf, called: &'static str) -> Result<&Stored, Misfit> {
        self.get(leaf).ok_or(Misfit::Incomplete { missing: called })
    }

    /// The rank of its factors, by those that the input meets; `None` where they have none.
    pub(crate) fn rank(&self) -> Option<usize> {
        const RANKED: [Leaf; 5] = [Leaf::Down, Leaf::Hada1B, Leaf::Lokr2B, Leaf::Lokr1B, Leaf::A2];
        RANKED.iter().find_map(|&leaf| self.get(leaf)?.shape().first().copied())
    }

    /// Which ones there are.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Leaf> {
        self.0.keys().copied()
    }

    /// The one number of a tensor of one; `None` where there is no such tensor.
    pub(crate) fn number(&self, leaf: Leaf) -> Result<Option<f32>, Misfit> {
        let Some(stored) = self.get(leaf) else { return Ok(None) };
        match (count(stored.shape()), whole(stored)) {
            (1, Some(number)) => Ok(Some(number)),
            (1, None) => Ok(values(stored)?.first().copied()),
            _ => Err(Misfit::Alpha { found: stored.shape().to_vec() }),
        }
    }

    /// Finds out whether all are numbers that can be computed with.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let factors = self.0.iter().filter(|(leaf, _)| **leaf != Leaf::Alpha);
        factors.map(|(_, stored)| stored).try_for_each(|stored| values(stored).map(drop))
    }
}

/// The whole number that some programs store as one; `None` for a tensor of another format.
fn whole(stored: &Stored) -> Option<f32> {
    let bytes = stored.bytes_of(0..stored.byte_len());
    match stored.format().name() {
        "I64" => Some(i64::from_le_bytes(bytes.as_ref().try_into().ok()?) as f32),
        "I32" => Some(i32::from_le_bytes(bytes.as_ref().try_into().ok()?) as f32),
        "I16" => Some(f32::from(i16::from_le_bytes(bytes.as_ref().try_into().ok()?))),
        _ => None,
    }
}

/// The values of a tensor, all of them numbers.
pub(crate) fn values(stored: &Stored) -> Result<Vec<f32>, Misfit> {
    let values = stored.to_f32().ok_or(Misfit::Format { found: stored.format().name() })?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(Misfit::NotFinite),
    }
}

/// How many numbers a shape has.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}
