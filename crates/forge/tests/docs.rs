//! The tables of `docs/config.md` are what the table of keys says; `UPDATE_DOCS=1 cargo test -p forge --test docs` writes them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{env, fs, path::Path};

use forge::{
    diffusion_engine::{Fallback, Key, Kind},
    keys::{keys, names, tables},
};

/// What ends the part that is written.
const END: &str = "<!-- end of the keys -->";

#[test]
fn the_docs_are_what_the_keys_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let found = fs::read_to_string(&path).unwrap();
    let expected = tables().iter().fold(found.clone(), |page, table| {
        let start = format!("<!-- keys of [{}] -->\n", table.name);
        let (before, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no `{start}` in docs/config.md"));
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("no `{END}` behind `{start}`"));
        format!("{before}{start}\n{}\n{END}{after}", rows(table.name))
    });
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == expected, "docs/config.md is stale: UPDATE_DOCS=1 cargo test -p forge --test docs");
}

fn rows(table: &str) -> String {
    let head = "| key | type | default | range | flag | meaning |\n|---|---|---|---|---|---|\n";
    head.to_owned() + &keys().filter(|key| key.table == table).map(row).collect::<String>()
}

fn row(key: &Key) -> String {
    let default = match (key.initial(), key.default) {
        (Some(value), _) => format!("`{value}`"),
        (None, Fallback::Open { means, .. }) => means.to_owned(),
        (None, other) => panic!("{other:?} of {}", key.path()),
    };
    let range = match key.kind {
        // Few enough to be listed.
        Kind::Profile => names(&key.kind, &forge::catalog()).iter().map(|name| format!("`{name}`")).collect(),
        kind => vec![kind.range()],
    };
    let flag = match (key.flag, key.kind) {
        (None, _) => String::new(),
        (Some(flag), Kind::Options) => format!("`--{flag} NAME=VALUE`"),
        (Some(flag), Kind::Words { file }) => format!("`--{flag}`, `--{file}`"),
        (Some(flag), _) => format!("`--{flag}`"),
    };
    let (name, kind, docs) = (key.name, key.kind.name(), key.docs);
    format!("| `{name}` | {kind} | {default} | {} | {flag} | {docs} |\n", range.join(", "))
}
