//! `[[lora]]`: LoRAs that every picture is drawn with.

use std::path::{Path, PathBuf};

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

    /// What prompts call it.
    pub fn name(&self) -> String {
        match is_file(&self.path) {
            true => self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            false => self.path.to_string_lossy().into_owned(),
        }
    }

    /// The tag that asks for it; `None` where the prompts name it themselves.
    pub(crate) fn tag(&self, prompts: [&str; 2]) -> Option<String> {
        let name = self.name();
        let is_named = prompts.iter().any(|prompt| {
            diffusion_engine::extra_networks(prompt).iter().any(|network| network.is_lora() && network.name == name)
        });
        let steps = self.steps.map(|[first, last]| format!("{first}-{last}"));
        let more = [("lbw", self.blocks.as_deref()), ("step", steps.as_deref()), ("dora", self.dora.as_deref())];
        let more: Vec<(&str, &str)> = more.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
        (!is_named).then(|| Asked::tag(&name, self.strength, self.text.unwrap_or(self.strength), &more))
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
        assert_eq!(lora.tag(["a cat", ""]).unwrap(), "<lora:fur:0.5:0.8:lbw=OUTALL:step=2-9:dora=paper>");
        assert_eq!(lora.tag(["a <lora:fur:0.2> cat", ""]), None);
    }
}
