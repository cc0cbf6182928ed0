//! All keys that a config has: those of every model, and those that families of models have of their own.

mod schema;
mod template;

use diffusion_engine::{Catalog, Kind, Upscaler};

pub use crate::config::{find, keys, tables};
pub use schema::schema;
pub use template::template;

/// The names to offer for a kind of key, none where it has none; a registry accepts other spellings too.
pub fn names(kind: &Kind, registry: &Catalog) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match kind {
        Kind::Choice(names) => owned(names),
        Kind::Sampler => registry.samplers().iter().map(|s| s.id.clone()).collect(),
        Kind::Schedule => registry.schedules().iter().map(|s| s.id.clone()).collect(),
        Kind::Profile => registry.profiles().iter().map(|p| p.id.clone()).collect(),
        Kind::Backend => owned(&["cpu", "cuda:0", "vulkan", "vulkan:0", "vulkan:software"]),
        Kind::Noise => owned(&["cpu", "nv"]),
        Kind::Upscaler => owned(&Upscaler::IDS),
        Kind::Words { .. } | Kind::File | Kind::Folder | Kind::Output | Kind::Options | Kind::Names => Vec::new(),
        Kind::Places => Vec::new(),
        Kind::Whole { .. } | Kind::Number { .. } | Kind::PerStep { .. } | Kind::Numbers { .. } => Vec::new(),
        Kind::Size | Kind::Seed => Vec::new(),
    }
}
