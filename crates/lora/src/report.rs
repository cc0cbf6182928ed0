//! What of a file found its place in a model.

use std::fmt;

use crate::Misfit;

/// What became of a file's tensors. Nothing is left out in silence: what did not match is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file.
    pub label: String,
    /// The model.
    pub model: String,
    /// Modules whose change is in the model.
    pub matched: usize,
    /// Modules that the file changes.
    pub total: usize,
    /// What did not match, in the order of their names.
    pub unmatched: Vec<Unmatched>,
}

/// A module of a file that did not find its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its name in the file.
    pub name: String,
    /// Why.
    pub why: Misfit,
}

/// The most that a message lists.
const LISTED: usize = 3;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { label, model, matched, total, unmatched } = self;
        write!(f, "{label} matches {matched} of {total} modules of {model}")?;
        for Unmatched { name, why } in unmatched.iter().take(LISTED) {
            write!(f, "; `{name}`: {why}")?;
        }
        match unmatched.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
