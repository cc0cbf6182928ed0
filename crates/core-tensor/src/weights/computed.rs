//! Changes of weights that are no product of small factors, computed a few rows at a time.

use std::{fmt, ops::Range, sync::Arc};

use super::{Stored, Strength, stored::WHOLE_ROWS};

/// How the rows of a change come about.
pub trait Rule: Send + Sync {
    /// The shape of the whole change: that of the rows of the weight which it changes.
    fn shape(&self) -> &[usize];

    /// What is added to some of these rows at a strength, row-major; the rows are counted from the change's own first.
    fn rows(&self, rows: Range<usize>, strength: f32) -> Vec<f32>;
}

/// A change by a [`Rule`], or some rows of it. Clones share the rule.
#[derive(Clone)]
pub struct Computed {
    rule: Arc<dyn Rule>,
    rows: Range<usize>,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Computed").field("shape", &self.shape()).finish_non_exhaustive()
    }
}

impl Computed {
    /// All rows of a rule.
    pub fn by(rule: impl Rule + 'static) -> Self {
        let rows = 0..rule.shape().first().copied().unwrap_or(0);
        Self { rule: Arc::new(rule), rows }
    }

    /// The shape of these rows.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.rule.shape().to_vec();
        if let Some(height) = shape.first_mut() {
            *height = self.rows.len();
        }
        shape
    }

    /// How many rows there are.
    pub(super) fn height(&self) -> usize {
        self.rows.len()
    }

    /// Some of these rows, counted from the first of them.
    pub(super) fn rows_of(&self, rows: Range<usize>) -> Self {
        let rows = self.rows.start + rows.start..self.rows.start + rows.end;
        Self { rule: self.rule.clone(), rows }
    }

    /// The values of all of these rows at a strength.
    pub fn values(&self, strength: f32) -> Vec<f32> {
        self.rule.rows(self.rows.clone(), strength)
    }
}

/// Where the values of a factor come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// They are stored.
    Stored(Stored),
    /// They are computed whenever they are needed, with the branch's scale and strength in them.
    Computed { computed: Computed, scale: f32, strength: Strength },
}

impl Origin {
    /// How many rows there are.
    pub(super) fn height(&self) -> usize {
        match self {
            Self::Stored(stored) => stored.shape()[0],
            Self::Computed { computed, .. } => computed.height(),
        }
    }

    /// Some of the rows.
    pub(super) fn rows(&self, rows: Range<usize>) -> Stored {
        match self {
            Self::Stored(stored) => stored.rows(rows).expect(WHOLE_ROWS),
            Self::Computed { computed, scale, strength } => {
                let part = computed.rows_of(rows);
                let mut values = part.values(strength.get());
                if *scale != 1.0 {
                    values.iter_mut().for_each(|value| *value *= scale);
                }
                Stored::of(&values, part.shape())
            }
        }
    }
}
