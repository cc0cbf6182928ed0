//! LoRAs: which one a name means, and how they get into a model and out of it again.

mod asked;
mod index;
mod inspected;
mod loaded;
mod metadata;

pub use asked::{Asked, Steps};
pub use index::LoraIndex;
pub use inspected::InspectedLora;
pub(crate) use inspected::inspected;
pub(crate) use loaded::{LoadedLora, LoraSet, Strengths, Version, read as read_lora, version};
pub use metadata::{Metadata, lora_hash, metadata};
