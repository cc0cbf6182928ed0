//! Where branches are put in and taken out while a layer holds the tensor.

use super::Branch;
use crate::Error;

/// A tensor that a layer holds, for whoever changes what is added to it.
pub trait Socket: Send + Sync {
    /// Puts an adapter's branches in place of those that it had here; none takes it out. What is put in under two names is added in the
    /// names' order, whichever came first.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Branch`] of a branch that does not fit; all stays as it was.
    fn put(&self, adapter: &str, branches: &[Branch]) -> Result<(), Error>;
}
