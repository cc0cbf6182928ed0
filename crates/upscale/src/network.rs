//! What the networks have in common: their bounds and what watches them.

/// The largest factor of a network that is run; the largest known is 8.
pub(crate) const MAX_FACTOR: usize = 16;

/// How upscalers are called where hooks look inside.
pub(crate) const NETWORK: &str = "upscaler";

/// The stack of blocks of either.
pub(crate) const BODY: &str = "body";

/// What is told when a block is done.
pub(crate) type Watch<'w> = &'w dyn Fn();
