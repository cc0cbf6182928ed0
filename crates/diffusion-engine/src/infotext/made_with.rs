//! What a text says that its picture was made with: models, autoencoders, adapters, and the program.

use serde_json::{Map, Value};

use super::{Infotext, keys::plain};
use crate::{Ingredient, Provenance};

/// Where programs have the model's name.
const MODELS: [&str; 13] = [
    "model",
    "modelname",
    "sdmodelname",
    "sdmodelcheckpoint",
    "checkpoint",
    "ckptname",
    "unet",
    "unetname",
    "basemodel",
    "usestablediffusionmodel",
    "stablediffusionmodel",
    "modelweights",
    "diffusionmodel",
];
const MODEL_HASHES: [&str; 3] = ["modelhash", "basemodelhash", "sdmodelhash"];
const VAES: [&str; 4] = ["vae", "vaename", "usevaemodel", "vaemodel"];
const VAE_HASHES: [&str; 1] = ["vaehash"];

impl Infotext {
    /// What the picture was made with; what the text does not say stays empty.
    pub fn provenance(&self) -> Provenance {
        let mut made = Provenance::default();
        for (key, value) in self.pairs.iter().filter(|(_, value)| !is_none(value)) {
            let name = plain(key);
            let is = |names: &[&str]| names.contains(&name.as_str());
            match name.as_str() {
                _ if is(&MODELS) => fill(&mut made.model, of_value(value)),
                _ if is(&VAES) => fill(&mut made.vae, of_value(value)),
                _ if is(&MODEL_HASHES) => fill(&mut made.model, hash(value)),
                _ if is(&VAE_HASHES) => fill(&mut made.vae, hash(value)),
                "refiner" => fill(&mut made.refiner, titled(value)),
                "lorahashes" => made.loras.extend(hashes(value)),
                "tihashes" => made.embeddings.extend(hashes(value)),
                "hashes" => made.add_hashes(value),
                "civitairesources" => made.add_resources(value),
                "version" => made.version = Some(value.clone()),
                name if name.strip_prefix("module").is_some_and(is_number) => made.modules.push(value.clone()),
                _ => {}
            }
        }
        // The resources of a site may repeat what stands in the hashes.
        for list in [&mut made.loras, &mut made.embeddings] {
            let mut known: Vec<Ingredient> = Vec::new();
            for found in std::mem::take(list) {
                match known.iter_mut().find(|other| found.name.is_some() && other.name == found.name) {
                    Some(other) => fill(other, found),
                    None => known.push(found),
                }
            }
            *list = known;
        }
        made
    }
}

impl Provenance {
    /// Whether a key of a text is read into this alone: a name or a hash of the model or its autoencoder, or the version.
    pub fn is_named_by(key: &str) -> bool {
        let name = plain(key);
        let lists: [&[&str]; 5] = [&MODELS, &MODEL_HASHES, &VAES, &VAE_HASHES, &["version"]];
        lists.iter().any(|names| names.contains(&name.as_str()))
    }

    /// `Hashes`, an object by kind and name: `model`, `vae`, `lora:name`, `embed:name`.
    fn add_hashes(&mut self, value: &str) {
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(value) else { return };
        for (of, digits) in object {
            let Some(digits) = digits.as_str() else { continue };
            let found = |name: &str| Ingredient { name: Some(name.to_owned()), hash: Some(digits.to_owned()) };
            match of.split_once(':') {
                None if of == "model" => fill(&mut self.model, hash(digits)),
                None if of == "vae" => fill(&mut self.vae, hash(digits)),
                Some(("lora" | "lyco", name)) => self.loras.push(found(name)),
                Some(("embed", name)) => self.embeddings.push(found(name)),
                Some(_) | None => {}
            }
        }
    }

    /// `Civitai resources`, a list of what the site knows by a number of its own.
    fn add_resources(&mut self, value: &str) {
        let Ok(resources) = serde_json::from_str::<Vec<Value>>(value) else { return };
        for resource in resources {
            let text = |key: &str| resource.get(key).and_then(Value::as_str).map(str::to_owned);
            let found = Ingredient { name: text("modelName").or_else(|| text("air")), hash: text("hash") };
            match text("type").as_deref() {
                Some("checkpoint") => fill(&mut self.model, found),
                Some("lora" | "locon" | "dora") => self.loras.push(found),
                Some("embed" | "textualinversion" | "ti") => self.embeddings.push(found),
                Some("vae") => fill(&mut self.vae, found),
                Some(_) | None => {}
            }
        }
    }
}

/// Adds what is not known yet.
fn fill(known: &mut Ingredient, found: Ingredient) {
    known.name = known.name.take().or(found.name);
    known.hash = known.hash.take().or(found.hash);
}

/// The name of a model's title, and its hash where that stands behind it: `sd_xl_refiner_1.0 [7440042bbd]`.
pub(super) fn titled(title: &str) -> Ingredient {
    let is_hash = |hash: &str| !hash.is_empty() && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    let title = title.trim();
    match title.strip_suffix(']').and_then(|title| title.rsplit_once(" [")) {
        Some((name, hash)) if is_hash(hash) => {
            Ingredient { name: Some(name.trim_end().to_owned()), hash: Some(hash.to_owned()) }
        }
        Some(_) | None => Ingredient::named(title),
    }
}

fn hash(digits: &str) -> Ingredient {
    Ingredient { name: None, hash: Some(digits.trim().to_owned()) }
}

/// A name, or an object of one with its hash, as InvokeAI has it.
fn of_value(value: &str) -> Ingredient {
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(value) else {
        return Ingredient::named(value.trim());
    };
    let text = |keys: [&str; 2]| keys.iter().find_map(|key| Some(object.get(*key)?.as_str()?.to_owned()));
    Ingredient { name: text(["name", "model_name"]), hash: text(["hash", "model_hash"]) }
}

/// `name: hash, name: hash`.
fn hashes(value: &str) -> Vec<Ingredient> {
    let one = |piece: &str| {
        let (name, hash) = piece.trim().rsplit_once(':')?;
        let [name, hash] = [name, hash].map(|text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()));
        Some(Ingredient { name, hash })
    };
    value.split(',').filter_map(one).collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// What programs write where there is nothing.
fn is_none(value: &str) -> bool {
    matches!(value.trim(), "" | "None" | "none" | "null" | "Automatic" | "false" | "Default (model)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn made_with(text: &str) -> Provenance {
        parse(text, &[]).provenance()
    }

    fn ingredient(name: &str, hash: &str) -> Ingredient {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ingredient { name: some(name), hash: some(hash) }
    }

    #[test]
    fn a_line_of_settings_names_what_the_picture_was_made_with() {
        let made = made_with(
            "a\nSteps: 20, Seed: 5, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, \
             VAE: vae-ft-mse-840000.safetensors, Lora hashes: \"ink: 0123456789ab, more: ba9876543210\", \
             TI hashes: \"bad: c74b4e810b, bad: c74b4e810b\", Version: v1.10.1",
        );
        assert_eq!(made.model, ingredient("v1-5-pruned-emaonly", "6ce0161689"));
        assert_eq!(made.vae, ingredient("vae-ft-mse-840000.safetensors", "735e4c3a44"));
        assert_eq!(made.loras, [ingredient("ink", "0123456789ab"), ingredient("more", "ba9876543210")]);
        assert_eq!(made.embeddings, [ingredient("bad", "c74b4e810b")]);
        assert_eq!(made.version.as_deref(), Some("v1.10.1"));
    }

    #[test]
    fn hashes_modules_and_resources_are_read_too() {
        let made = made_with(
            "a\nSteps: 20, Seed: 5, Model: m, VAE: Automatic, Module 1: ae, Module 2: clip_l, Hashes: {\"model\": \"6ce0161689\", \
             \"lora:ink\": \"0123456789\", \"embed:bad\": \"c74b4e810b\", \"vae\": \"735e4c3a44\"}, Version: f2.0.1v1.10.1",
        );
        assert_eq!(made.model, ingredient("m", "6ce0161689"));
        assert_eq!(made.vae, ingredient("", "735e4c3a44"));
        assert_eq!(made.modules, ["ae", "clip_l"]);
        assert_eq!(
            (made.loras, made.embeddings),
            (vec![ingredient("ink", "0123456789")], vec![ingredient("bad", "c74b4e810b")])
        );
        let made = made_with(
            "a\nSteps: 20, Seed: 5, Civitai resources: [{\"type\":\"checkpoint\",\"modelVersionId\":1,\"modelName\":\"Juggernaut: X, Y\"},\
             {\"type\":\"lora\",\"weight\":0.8,\"modelName\":\"Ink\"}], Civitai metadata: {}",
        );
        assert_eq!(made.model, ingredient("Juggernaut: X, Y", ""));
        assert_eq!(made.loras, [ingredient("Ink", "")]);
        let made = made_with(
            r#"{"positive_prompt": "a", "seed": 3, "steps": 4, "app_version": "5.4.1",
                "model": {"key": "k", "hash": "blake3:12", "name": "FLUX Dev"}, "vae": {"name": "ae", "hash": "blake3:34"}}"#,
        );
        assert_eq!((made.model, made.vae), (ingredient("FLUX Dev", "blake3:12"), ingredient("ae", "blake3:34")));
        assert_eq!(made_with("a cat"), Provenance::default());
        // what is no list and no object says nothing
        for odd in ["Hashes: x", "Hashes: [1]", "Civitai resources: {}", "Civitai resources: [1, {}]", "Lora hashes: x"]
        {
            assert_eq!(made_with(&format!("a\nSteps: 1, Seed: 1, {odd}")), Provenance::default(), "{odd}");
        }
    }
}
