//! What the networks have in common: their bounds and what watches them.

use crate::{Cost, Lie};

/// The largest factor of a network that is run; the largest known is 8.
pub(crate) const MAX_FACTOR: usize = 16;

/// How upscalers are called where hooks look inside.
pub(crate) const NETWORK: &str = "upscaler";

/// The stack of blocks of either.
pub(crate) const BODY: &str = "body";

/// What is told when a block is done.
pub(crate) type Watch<'w> = &'w dyn Fn();

/// What the dimensions of a network say of it.
pub(crate) trait Said {
    /// How many times as wide and high a picture becomes.
    fn factor(&self) -> usize;

    /// How its tiles lie.
    fn lie(&self) -> Lie;

    /// Blocks of a tile, each of which is watched.
    fn blocks(&self) -> usize;

    /// What it is, for people.
    fn about(&self) -> String;

    /// What a tile takes, for each of its pixels.
    ///
    /// `packed` is what a convolution packs of so many channels, in values.
    fn cost(&self, packed: fn(u64) -> u64) -> Cost;
}
