//! All keys that a config has: those of every model, and those that families of models have of their own.

mod schema;
mod template;

use diffusion_engine::{Catalog, Key, Kind};

pub use schema::schema;
pub use template::template;

use crate::config::{ENTRIES, Entry, TABLES, Table};

/// The tables of a config, in their order there.
pub fn tables() -> &'static [Table] {
    TABLES
}

/// Every key, table by table; in each the keys of every model first, and then those of families.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| {
        let own = ENTRIES.iter().map(|entry| &entry.key);
        own.chain(flux::knobs()).filter(|key| key.table == table.name)
    })
}

/// The key of this name in this table.
pub fn find(table: &str, name: &str) -> Option<&'static Key> {
    keys().find(|key| key.table == table && key.name == name)
}

/// The names to offer for a kind of key, none where it has none; a registry accepts other spellings too.
pub fn names(kind: &Kind, registry: &Catalog) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match kind {
        Kind::Choice(names) => owned(names),
        Kind::Sampler => registry.samplers().iter().map(|s| s.id.clone()).collect(),
        Kind::Schedule => registry.schedules().iter().map(|s| s.id.clone()).collect(),
        Kind::Profile => registry.profiles().iter().map(|p| p.id.clone()).collect(),
        Kind::Backend => owned(&["cpu", "cuda:0", "vulkan:0"]),
        Kind::Noise => owned(&["cpu", "nv"]),
        Kind::Words { .. } | Kind::File | Kind::Folder | Kind::Output | Kind::Options => Vec::new(),
        Kind::Whole { .. } | Kind::Number { .. } | Kind::Numbers { .. } | Kind::Size | Kind::Seed => Vec::new(),
    }
}

/// Where a config has a key of every model; a family's is among its knobs.
pub(crate) fn entry(key: &Key) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.key.table == key.table && entry.key.name == key.name)
}
