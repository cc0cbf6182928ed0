//! `docs/samplers.md` is what the catalog says; `UPDATE_DOCS=1 cargo test -p flux --test docs` writes it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{env, fmt::Write, fs, path::Path};

use diffusion_engine::Catalog;
use samplers::{End, Param};

#[test]
fn the_docs_are_what_the_catalog_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samplers.md");
    let expected = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/samplers.md is stale: UPDATE_DOCS=1 cargo test -p flux --test docs");
}

fn page() -> String {
    let mut page = String::from(
        "# Samplers and schedules\n\nMade from the registry, `crates/samplers/src/samplers` and `schedules`; a test keeps it true. Names are \
         accepted in any case and with spaces, `_` or `-` in any place, a sampler's with `k_` before it or a schedule behind it.\nOptions are set with `--option NAME=VALUE` or in `[sampling.options]`.\n\n## Samplers\n",
    );
    let catalog = flux::register(Catalog::builtin()).unwrap();
    for s in catalog.samplers() {
        let calls = s.calls.per_step().map_or("as many model calls as it takes".to_owned(), |n| match n {
            1 => "one model call a step".to_owned(),
            n => format!("{n} model calls a step"),
        });
        let noise = if s.stochastic { ", noise in steps" } else { "" };
        let negative = if s.needs_negative { ", two calls where `cfg` is 1 too" } else { "" };
        writeln!(page, "\n### `{}`: {}\n\n{}\n", s.id, s.label, s.about).unwrap();
        writeln!(page, "- {calls}{noise}{negative}; models: {}; `automatic` is `{}`", s.processes.id(), s.automatic.id)
            .unwrap();
        let dropping = catalog.profiles().iter().filter(|profile| profile.is_dropping(s));
        let dropping: Vec<_> = dropping.map(|profile| profile.id.as_str()).collect();
        if !dropping.is_empty() {
            writeln!(page, "- the last level but one is left out by {}", dropping.join(", ")).unwrap();
        }
        names_and_options(&mut page, &s.aliases, &s.params);
    }
    page += "\n## Schedules\n";
    for s in catalog.schedules() {
        let end = if s.end == End::Last { "; does not end in 0" } else { "" };
        writeln!(page, "\n### `{}`: {}\n\n{}\n\n- models: {}{end}", s.id, s.label, s.about, s.spaces.id()).unwrap();
        names_and_options(&mut page, &s.aliases, &s.params);
    }
    page
}

fn names_and_options(page: &mut String, aliases: &[String], params: &[Param]) {
    if !aliases.is_empty() {
        writeln!(page, "- also `{}`", aliases.join("`, `")).unwrap();
    }
    for p in params {
        writeln!(page, "- option `{}` ({}; default {}): {}", p.name, p.kind, p.kind.default(), p.about).unwrap();
    }
}
