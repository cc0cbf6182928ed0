//! `[[lora]]`: LoRAs that every picture is drawn with.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::{Asked, Error, Result, paths};

/// A LoRA of a config.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Its file.
    pub path: PathBuf,
    /// How much it counts in what denoises.
    #[serde(default = "whole")]
    pub strength: f32,
    /// How much it counts in the text encoders; as `strength` where nothing is said.
    #[serde(default)]
    pub text: Option<f32>,
    /// Weights of blocks: a preset, a list, or names with weights.
    #[serde(default)]
    pub blocks: Option<String>,
    /// The first and the last of the steps that it counts in, from 1.
    #[serde(default)]
    pub steps: Option<[usize; 2]>,
    /// How DoRA's magnitudes are understood where its file does not say it: `forge` or `paper`.
    #[serde(default)]
    pub dora: Option<String>,
}

fn whole() -> f32 {
    1.0
}

impl Lora {
    /// What a flag says: `NAME[:STRENGTH[:TEXT]]`, where the name is a path if it ends as one of a file.
    ///
    /// # Errors
    /// [`Error::Value`] for a strength that is no number.
    pub fn of_flag(text: &str) -> Result<Self> {
        let mut parts: Vec<&str> = text.rsplitn(3, ':').collect();
        parts.reverse();
        // A path may have colons of its own, and strengths are numbers.
        let numbers =
            parts.iter().rev().take_while(|part| part.trim().parse::<f32>().is_ok()).count().min(parts.len() - 1);
        let name = parts[..parts.len() - numbers].join(":");
        let wrong = || Error::Value {
            key: "--lora".into(),
            expected: "NAME, NAME:STRENGTH or NAME:STRENGTH:TEXT".into(),
            found: format!("`{text}`"),
        };
        let number =
            |part: &&str| part.trim().parse::<f32>().ok().filter(|number| number.is_finite()).ok_or_else(wrong);
        let numbers = parts[parts.len() - numbers..].iter().map(number).collect::<Result<Vec<_>>>()?;
        if name.is_empty() || !is_file(Path::new(&name)) && name.contains(':') {
            return Err(wrong());
        }
        let (strength, text) = (numbers.first().copied().unwrap_or(1.0), numbers.get(1).copied());
        Self { path: name.into(), strength, text, blocks: None, steps: None, dora: None }
            .within("--lora", Path::new(""))
    }

    /// What prompts call it, where it is the only one.
    pub fn name(&self) -> String {
        match is_file(&self.path) {
            true => called(&self.path, 0),
            false => self.path.to_string_lossy().into_owned(),
        }
    }

    /// Whether both mean one file, as far as that can be told without looking it up.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.file(), other.file()) {
            (Some(own), Some(others)) => own == others,
            (None, _) | (_, None) => self.name() == other.name(),
        }
    }

    /// What prompts call each of a config's: a file by its name without its ending, and with as many of the folders before it as tell it from
    /// another file of that name.
    ///
    /// # Errors
    /// [`Error::Value`] for two files that no folder tells apart, and for a name that no prompt can hold.
    pub(crate) fn names(loras: &[Self]) -> Result<Vec<String>> {
        let name = |lora: &Self| {
            let Some(path) = lora.file() else { return Ok(lora.name()) };
            let apart = |folders: &usize| {
                let of = |other: &Self| other.file().map_or_else(|| other.name(), |file| called(file, *folders));
                loras.iter().all(|other| other.path == *path || of(other) != called(path, *folders))
            };
            let wrong = |expected: &str, found: String| {
                Err(Error::Value { key: "lora.path".into(), expected: expected.into(), found })
            };
            let Some(folders) = (0..=path.components().count()).find(apart) else {
                return wrong("files of different names", format!("`{}` and another of that name", path.display()));
            };
            let name = called(path, folders);
            match name.contains([':', '<', '>', '{', '}', '|']) {
                true => {
                    wrong("a file that a prompt can name, without `:`, `<`, `>`, `{`, `}` and `|`", format!("`{name}`"))
                }
                false => Ok(name),
            }
        };
        loras.iter().map(name).collect()
    }

    /// The tag that asks for it by a name; `None` where the prompts name it themselves.
    pub(crate) fn tag(&self, name: &str, prompts: [&str; 2]) -> Option<String> {
        let is_named = prompts.iter().any(|prompt| {
            diffusion_engine::extra_networks(prompt).iter().any(|network| network.is_lora() && network.name == name)
        });
        let steps = self.steps.map(|[first, last]| format!("{first}-{last}"));
        let more = [("lbw", self.blocks.as_deref()), ("step", steps.as_deref()), ("dora", self.dora.as_deref())];
        let more: Vec<(&str, &str)> = more.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
        (!is_named).then(|| Asked::tag(name, self.strength, self.text.unwrap_or(self.strength), &more))
    }

    /// The file that it names itself; `None` for the name of one in the folder of LoRAs.
    pub(crate) fn file(&self) -> Option<&Path> {
        is_file(&self.path).then_some(self.path.as_path())
    }

    /// The same with the path of a file relative to a folder; an error calls it `called`.
    pub(super) fn within(self, called: &str, folder: &Path) -> Result<Self> {
        match is_file(&self.path) {
            true => Ok(Self { path: paths::to_read(called, &self.path, folder)?, ..self }),
            false => Ok(self),
        }
    }
}

/// The name of a file without its ending, behind so many of its folders.
fn called(path: &Path, folders: usize) -> String {
    let stem = path.with_extension("");
    let steps = stem.components().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    steps[steps.len().saturating_sub(folders + 1)..].join("/")
}

/// Whether a name of a LoRA is that of a file.
fn is_file(name: &Path) -> bool {
    let ending = name.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ["safetensors", "pt", "bin", "ckpt"].contains(&&*ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_names_a_lora_and_how_much_it_counts() {
        let of =
            |text: &str| Lora::of_flag(text).map(|lora| (lora.path.display().to_string(), lora.strength, lora.text));
        assert_eq!(of("fur").unwrap(), ("fur".into(), 1.0, None));
        assert_eq!(of("fur:0.8").unwrap(), ("fur".into(), 0.8, None));
        let (path, strength, text) = of("d/a.safetensors:0.8:-1").unwrap();
        assert!(path.ends_with("d/a.safetensors"), "{path}");
        assert_eq!((strength, text), (0.8, Some(-1.0)));
        for wrong in ["", ":0.8", "fur:x", "fur:0.8:x", "fur:nan"] {
            assert!(matches!(of(wrong), Err(Error::Value { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_lora_of_a_config_is_a_tag_of_the_prompt_unless_that_has_one() {
        let lora = Lora {
            blocks: Some("OUTALL".into()),
            steps: Some([2, 9]),
            dora: Some("paper".into()),
            ..Lora::of_flag("a/fur.safetensors:0.8:0.5").unwrap()
        };
        assert_eq!(lora.tag("fur", ["a cat", ""]).unwrap(), "<lora:fur:0.5:0.8:lbw=OUTALL:step=2-9:dora=paper>");
        assert_eq!(lora.tag("fur", ["a <lora:fur:0.2> cat", ""]), None);
    }

    #[test]
    fn files_of_one_name_are_told_apart_by_their_folders() {
        let of = |paths: &[&str]| {
            let loras: Vec<Lora> = paths.iter().map(|path| Lora::of_flag(path).unwrap()).collect();
            Lora::names(&loras)
        };
        assert_eq!(of(&["/x/a/same.safetensors", "/x/b/same.safetensors"]).unwrap(), ["a/same", "b/same"]);
        assert_eq!(of(&["/a/c/same.safetensors", "/b/c/same.safetensors"]).unwrap(), ["a/c/same", "b/c/same"]);
        assert_eq!(of(&["/a/fur.safetensors", "/b/ink.safetensors", "fur"]).unwrap(), ["a/fur", "ink", "fur"]);
        assert_eq!(of(&["/a/fur.safetensors", "/a/fur.safetensors"]).unwrap(), ["fur", "fur"]);
        for wrong in [&["/a/fur.safetensors", "/a/fur.pt"][..], &["/a/f>r.safetensors"], &["/a/{a|b}.safetensors"]] {
            assert!(matches!(of(wrong), Err(Error::Value { .. })), "{wrong:?}");
        }
    }
}
