//! The strict stack: which crate may use which.
//!
//! The table is ARCHITECTURE.md's; Cargo.toml files that disagree with it are faults, dev-dependencies included.

use std::error::Error;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

const STACK: &[Layer] = &[
    Layer { folder: "kernels", package: "kernels", rank: 0, may_use: &[] },
    Layer { folder: "core-tensor", package: "core-tensor", rank: 1, may_use: &["kernels"] },
    Layer { folder: "memory", package: "memory", rank: 2, may_use: &["core-tensor"] },
    Layer { folder: "samplers", package: "samplers", rank: 3, may_use: &["core-tensor"] },
    Layer {
        folder: "diffusion-engine",
        package: "diffusion-engine",
        rank: 4,
        may_use: &["core-tensor", "memory", "samplers"],
    },
    Layer {
        folder: "flux",
        package: "flux",
        rank: 5,
        may_use: &["core-tensor", "memory", "samplers", "diffusion-engine"],
    },
    Layer {
        folder: "stable-diffusion",
        package: "stable-diffusion",
        rank: 5,
        may_use: &["core-tensor", "memory", "samplers", "diffusion-engine"],
    },
    Layer { folder: "upscale", package: "upscale", rank: 5, may_use: &["core-tensor", "diffusion-engine"] },
    Layer {
        folder: "lora",
        package: "lora",
        rank: 6,
        may_use: &["core-tensor", "diffusion-engine", "flux", "stable-diffusion"],
    },
    Layer { folder: "quant", package: "quant", rank: 7, may_use: &["kernels", "core-tensor"] },
    Layer {
        folder: "forge",
        package: "forge",
        rank: 8,
        may_use: &[
            "kernels",
            "core-tensor",
            "memory",
            "samplers",
            "diffusion-engine",
            "flux",
            "stable-diffusion",
            "lora",
            "quant",
            "upscale",
        ],
    },
    Layer {
        folder: "cli",
        package: "forge-cli",
        rank: 9,
        may_use: &[
            "kernels",
            "core-tensor",
            "memory",
            "samplers",
            "diffusion-engine",
            "flux",
            "stable-diffusion",
            "quant",
            "forge",
        ],
    },
];

struct Layer {
    folder: &'static str,
    package: &'static str,
    rank: u8,
    may_use: &'static [&'static str],
}

/// A line `name = …` of a dependency section.
pub(super) struct Dependency<'a> {
    pub package: String,
    pub line: usize,
    pub value: &'a DeValue<'a>,
}

/// `crates/*/Cargo.toml` and `xtask/Cargo.toml`.
pub(super) fn is_manifest(path: &str) -> bool {
    folder(path).is_some() || path == "xtask/Cargo.toml"
}

/// The faults of every `(path, text)` under `crates/`; an unreadable manifest is an error.
pub(super) fn check(manifests: &[(&str, &str)]) -> Result<Vec<Fault>, Box<dyn Error>> {
    let of_crates = manifests.iter().filter_map(|&(path, text)| Some((path, folder(path)?, text)));
    let faults = of_crates.map(|(path, folder, text)| {
        let Some(layer) = STACK.iter().find(|layer| layer.folder == folder) else {
            let message =
                format!("`{folder}` has no rank: give it one in ARCHITECTURE.md and in xtask/src/tidy/stack.rs");
            return Ok(vec![Fault::new(path, None, message)]);
        };
        let document = parse(path, text)?;
        let edges = dependencies(&document, text);
        Ok(edges.iter().filter_map(|edge| Some(Fault::new(path, edge.line, layer.objection(&edge.package)?))).collect())
    });
    faults.collect::<Result<Vec<_>, _>>().map(|faults| faults.concat())
}

pub(super) fn parse<'a>(path: &str, text: &'a str) -> Result<Spanned<DeTable<'a>>, Box<dyn Error>> {
    DeTable::parse(text).map_err(|error| format!("cannot read `{path}`: {error}").into())
}

/// Every dependency of a manifest: normal, dev and build, for all targets and for one.
pub(super) fn dependencies<'a>(manifest: &'a Spanned<DeTable<'a>>, text: &str) -> Vec<Dependency<'a>> {
    let manifest = manifest.get_ref();
    let targets = manifest.get("target").and_then(|target| target.get_ref().as_table());
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(|one| one.get_ref().as_table()));
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| table.get(kind)))
        .filter_map(|section| section?.get_ref().as_table())
        .flat_map(|section| section.iter())
        .map(|(name, value)| Dependency {
            package: package(name.get_ref(), value.get_ref()),
            line: line(text, name),
            value: value.get_ref(),
        })
        .collect()
}

/// The line of a key, counted from 1.
pub(super) fn line<T>(text: &str, key: &Spanned<T>) -> usize {
    text[..key.span().start].matches('\n').count() + 1
}

impl Layer {
    /// Why this layer may not use `package`; none for what it may, and for what is not ours.
    fn objection(&self, package: &str) -> Option<String> {
        let used = STACK.iter().find(|layer| layer.package == package)?;
        let Layer { folder, rank, may_use, .. } = self;
        if may_use.contains(&package) {
            None
        } else if used.rank > *rank {
            Some(format!(
                "`{folder}` (rank {rank}) uses `{package}` (rank {}), an upward edge: move what both need into a crate \
                 below `{folder}`, or let `{package}` implement a trait of `{folder}`",
                used.rank
            ))
        } else {
            let may_use = if may_use.is_empty() { "no crate of ours".to_string() } else { may_use.join(", ") };
            Some(format!(
                "`{folder}` (rank {rank}) may use {may_use}, and `{package}` is not among them: drop the dependency, \
                 or change the table in ARCHITECTURE.md and in xtask/src/tidy/stack.rs"
            ))
        }
    }
}

fn folder(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml").filter(|folder| !folder.contains('/'))
}

/// The package that a dependency names, which its key need not: `package = "…"` renames, `path = "…"` points.
fn package(key: &str, value: &DeValue) -> String {
    let renamed = value.get("package").and_then(|package| package.get_ref().as_str());
    let folder = value.get("path").and_then(|path| path.get_ref().as_str()?.rsplit('/').next());
    let pointed = STACK.iter().find(|layer| Some(layer.folder) == folder).map(|layer| layer.package);
    renamed.or(pointed).unwrap_or(key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> Vec<String> {
        check(&[(path, text)]).unwrap().iter().map(Fault::to_string).collect()
    }

    #[test]
    fn an_upward_edge_is_told_with_its_line() {
        let manifest =
            "[package]\nname = \"flux\"\n\n[dependencies]\ncore-tensor.workspace = true\nquant.workspace = true\n";
        assert_eq!(
            told("crates/flux/Cargo.toml", manifest),
            [
                "crates/flux/Cargo.toml:6: `flux` (rank 5) uses `quant` (rank 7), an upward edge: move what both need into \
              a crate below `flux`, or let `quant` implement a trait of `flux`"
            ]
        );
    }

    #[test]
    fn a_downward_edge_off_the_table_is_told() {
        let faults = told("crates/quant/Cargo.toml", "[dependencies]\nflux = { workspace = true }\n");
        assert_eq!(
            faults,
            [
                "crates/quant/Cargo.toml:2: `quant` (rank 7) may use kernels, core-tensor, and `flux` is not among them: drop the \
              dependency, or change the table in ARCHITECTURE.md and in xtask/src/tidy/stack.rs"
            ]
        );
    }

    #[test]
    fn no_kind_of_dependency_hides_an_upward_edge() {
        for manifest in [
            "[dev-dependencies]\nflux.workspace = true\n",
            "[build-dependencies]\nflux.workspace = true\n",
            "[target.'cfg(unix)'.dependencies]\nflux.workspace = true\n",
            "[dependencies.flux]\nworkspace = true\n",
            "[dependencies]\nmodel = { package = \"flux\", path = \"../flux\" }\n",
            "[dependencies]\nmodel = { path = \"../flux\" }\n",
            "[dependencies]\nengine = { path = \"../cli\" }\n",
        ] {
            assert_eq!(told("crates/samplers/Cargo.toml", manifest).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn what_the_table_lists_and_what_is_not_ours_pass() {
        let manifest =
            "[dependencies]\nburn.workspace = true\ncore-tensor.workspace = true\nsamplers.workspace = true\n";
        assert_eq!(told("crates/diffusion-engine/Cargo.toml", manifest), [""; 0]);
        assert_eq!(told("crates/cli/Cargo.toml", "[dependencies]\nflux.workspace = true\n"), [""; 0]);
    }

    #[test]
    fn a_model_does_not_go_past_the_operations_to_the_kernels() {
        let faults = told("crates/flux/Cargo.toml", "[dependencies]\nkernels.workspace = true\n");
        assert!(faults[0].contains("`kernels` is not among them"), "{faults:?}");
        assert_eq!(told("crates/core-tensor/Cargo.toml", "[dependencies]\nkernels.workspace = true\n"), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_rank_is_told() {
        let faults = told("crates/video/Cargo.toml", "[dependencies]\n");
        assert!(faults[0].starts_with("crates/video/Cargo.toml: `video` has no rank"), "{faults:?}");
    }

    #[test]
    fn a_broken_manifest_is_an_error_with_its_path() {
        let error = check(&[("crates/flux/Cargo.toml", "[dependencies\n")]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read `crates/flux/Cargo.toml`"), "{error}");
    }

    #[test]
    fn every_layer_uses_only_lower_ranks() {
        for layer in STACK {
            for used in layer.may_use {
                let used = STACK.iter().find(|other| other.package == *used).unwrap();
                assert!(used.rank < layer.rank, "{} uses {}", layer.folder, used.folder);
            }
        }
    }
}
