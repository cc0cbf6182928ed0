//! The `forge` command, for programs that have more to offer than comes with the engine; see [`command`](fn@command).

#![warn(missing_docs)]

mod caches;
mod command;
mod error;
mod hashing;
mod hints;
mod out_of_memory;
mod signals;
mod standard_output;

pub use command::command;
pub use forge;
pub use out_of_memory::out_of_memory;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/extending.md")]
struct Extending;
