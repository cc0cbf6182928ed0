//! Every dependency has its reason written down in docs/dependencies.md.
//!
//! Both ways: a dependency without a row is a fault, and so is a row without a dependency.

use std::error::Error;

use toml::de::DeValue;

use super::{Fault, stack};

const REASONS: &str = "docs/dependencies.md";

/// Compares `[workspace.dependencies]` with the rows `` | `name` | reason | ``, and sends crates through the workspace.
pub(super) fn check(workspace: &str, manifests: &[(&str, &str)], reasons: &str) -> Result<Vec<Fault>, Box<dyn Error>> {
    let document = stack::parse("Cargo.toml", workspace)?;
    let declared = document.get_ref().get("workspace").and_then(|table| table.get_ref().get("dependencies"));
    let declared = declared.and_then(|table| table.get_ref().as_table()).into_iter().flat_map(|table| table.iter());
    let ours = |value: &DeValue| value.get("path").is_some();
    let declared: Vec<_> = declared
        .filter(|(_, value)| !ours(value.get_ref()))
        .map(|(name, _)| (name.get_ref().as_ref(), stack::line(workspace, name)))
        .collect();
    let rows = rows(reasons);

    let unexplained =
        declared.iter().filter(|(name, _)| !rows.iter().any(|row| row.name == *name)).map(|(name, line)| {
            let message = format!("`{name}` has no row in {REASONS}: add `` | `{name}` | why we need it | ``");
            Fault::new("Cargo.toml", *line, message)
        });
    let stale = rows.iter().filter(|row| !declared.iter().any(|(name, _)| row.name == *name)).map(|row| {
        let message = format!("`{}` is not in [workspace.dependencies]: remove the row", row.name);
        Fault::new(REASONS, row.line, message)
    });
    let unreasoned = rows.iter().filter(|row| row.reason.is_empty()).map(|row| {
        let message = format!("the row of `{}` is empty: say why we need it", row.name);
        Fault::new(REASONS, row.line, message)
    });
    let faults: Vec<_> = unexplained.chain(stale).chain(unreasoned).collect();
    let strays = manifests.iter().map(|(path, text)| strays(path, text)).collect::<Result<Vec<_>, _>>()?;
    Ok([faults, strays.concat()].concat())
}

struct Row<'a> {
    name: &'a str,
    reason: &'a str,
    line: usize,
}

fn rows(reasons: &str) -> Vec<Row<'_>> {
    let numbered = (1..).zip(reasons.lines());
    numbered
        .filter_map(|(line, text)| {
            let (name, rest) = text.strip_prefix("| `")?.split_once('`')?;
            let reason = rest.trim_matches(|c: char| c == '|' || c.is_whitespace());
            Some(Row { name, reason, line })
        })
        .collect()
}

/// Dependencies with a version of their own, which would pass by the list of reasons.
fn strays(path: &str, text: &str) -> Result<Vec<Fault>, Box<dyn Error>> {
    let document = stack::parse(path, text)?;
    let dependencies = stack::dependencies(&document, text);
    let inherited = |value: &DeValue| value.get("workspace").is_some() || value.get("path").is_some();
    let strays = dependencies.iter().filter(|dependency| !inherited(dependency.value)).map(|dependency| {
        let message = format!(
            "`{}` has a version of its own: declare it in [workspace.dependencies] and write `workspace = true` here",
            dependency.package
        );
        Fault::new(path, dependency.line, message)
    });
    Ok(strays.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str =
        "[workspace.dependencies]\nflux = { path = \"crates/flux\" }\nhalf = \"2\"\npng = \"0.18\"\n";

    fn told(manifests: &[(&str, &str)], reasons: &str) -> Vec<String> {
        check(WORKSPACE, manifests, reasons).unwrap().iter().map(Fault::to_string).collect()
    }

    #[test]
    fn every_dependency_but_our_own_needs_a_row() {
        assert_eq!(
            told(&[], "| `png` | reads and writes PNG |\n"),
            ["Cargo.toml:3: `half` has no row in docs/dependencies.md: add `` | `half` | why we need it | ``"]
        );
    }

    #[test]
    fn a_row_that_outlived_its_dependency_is_told() {
        let reasons = "| `half` | f16 |\n| `png` | PNG |\n| `rand` | dice |\n";
        let expected = "docs/dependencies.md:3: `rand` is not in [workspace.dependencies]: remove the row";
        assert_eq!(told(&[], reasons), [expected]);
    }

    #[test]
    fn a_row_must_give_a_reason() {
        let expected = "docs/dependencies.md:1: the row of `half` is empty: say why we need it";
        assert_eq!(told(&[], "| `half` | |\n| `png` | PNG |\n"), [expected]);
    }

    #[test]
    fn a_crate_may_not_bring_a_version_of_its_own() {
        let reasons = "| `half` | f16 |\n| `png` | PNG |\n";
        let manifest = "[dependencies]\nhalf.workspace = true\n\n[dev-dependencies]\nrand = \"0.9\"\n";
        assert_eq!(
            told(&[("crates/quant/Cargo.toml", manifest)], reasons),
            ["crates/quant/Cargo.toml:5: `rand` has a version of its own: declare it in [workspace.dependencies] and \
              write `workspace = true` here"]
        );
    }
}
