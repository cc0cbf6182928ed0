//! All keys that a config has: those of every model, and those that families of models have of their own.

use std::sync::LazyLock;

use diffusion_engine::Key;

use super::tables::{Entry, TABLES, Table, entries};
use crate::Families;

/// The tables of a config, in their order there.
pub fn tables() -> &'static [Table] {
    &TABLES
}

/// Every key, table by table; in each the keys of every model first, and then those of families.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| {
        let own = entries().map(|entry| &entry.key);
        own.chain(KNOBS.iter().copied()).filter(|key| key.table == table.name)
    })
}

/// The key of this name in this table.
pub fn find(table: &str, name: &str) -> Option<&'static Key> {
    keys().find(|key| key.table == table && key.name == name)
}

/// Those of the families that come with the engine.
static KNOBS: LazyLock<Vec<&'static Key>> = LazyLock::new(|| Families::builtin().knobs());

/// Where a config has a key of every model; a family's is among its knobs.
pub(crate) fn entry(key: &Key) -> Option<&'static Entry> {
    entries().find(|entry| entry.key.table == key.table && entry.key.name == key.name)
}
