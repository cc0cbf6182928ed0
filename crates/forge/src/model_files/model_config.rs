//! `config.json`, which stands in a model's folder or beside its file: what the tensors don't tell, and what they must agree with.

use std::path::{Path, PathBuf};

use core_tensor::Weights;
use diffusion_engine::family::{Count, Is, Network, Settings, Word};
use quant::{Container, HEAD};
use serde::de::Error as _;
use serde_json::Value;

use super::{
    ModelFile, abridged,
    container::{described, read_bounded},
};
use crate::{Error, Result};

/// The longest `config.json` that is read; those of diffusers are a kilobyte.
const LIMIT: u64 = 1 << 20;

/// What a file calls the text of the `config.json` that lay beside the one that it was converted from.
pub(crate) const CONFIG: &str = "forge.config";

/// What lies beside a model's tensors under the name `config.json`.
#[derive(Default)]
pub(crate) struct Beside {
    /// The model's own.
    pub(crate) config: Option<ModelConfig>,
    /// Another kind of model's.
    pub(crate) other: Option<OtherConfig>,
}

/// The `config.json` of another kind of model than the file that it lies beside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OtherConfig {
    pub(crate) path: PathBuf,
    pub(crate) class: String,
}

/// What a model's own `config.json` says.
pub(crate) struct ModelConfig {
    path: PathBuf,
    /// All of it, which of a model of two halves is more than what says something of this one.
    whole: Value,
    json: Value,
    held: Held,
}

/// What of a config is held against what is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nothing, as it may be another model's.
    Nothing,
    /// What it says of the arithmetic: the model's file keeps it, and it names its class.
    Words,
    /// Its counts too, which are this model's for sure: it lies in the model's folder, or beside its file and names its class.
    All,
}

impl ModelConfig {
    /// Where it stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All that it says, of this model and the half that it is of, but for where somebody had it.
    pub(crate) fn text(&self) -> String {
        let mut whole = self.whole.clone();
        if let Value::Object(keys) = &mut whole {
            keys.remove("_name_or_path");
        }
        whole.to_string()
    }

    /// What lies beside a model, or what its file keeps of what did; the former where it is this model's for sure.
    ///
    /// # Errors
    /// A config that can't be read, and one of another kind of model in a model's own folder.
    pub(crate) fn of(file: &ModelFile, network: &Network) -> Result<Beside> {
        let beside = Self::beside(&file.path, network)?;
        let is_sure = beside.config.as_ref().is_some_and(|config| config.held == Held::All);
        let Some(text) = file.note(CONFIG).filter(|_| !is_sure) else { return Ok(beside) };
        let json = object_of(&file.path, text.as_bytes())?;
        let held = match class(&json, network) {
            Some(class) if !network.classes.contains(&class) => return Ok(beside),
            Some(_) => Held::Words,
            None => Held::Nothing,
        };
        let kept = Some(Self::read(file.path.clone(), json, network, held)?);
        Ok(Beside { config: kept, ..beside })
    }

    fn beside(model: &Path, network: &Network) -> Result<Beside> {
        let folder = if model.is_dir() { model } else { model.parent().unwrap_or(Path::new("")) };
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(Beside::default());
        }
        let json = read_object(&path)?;
        let class = class(&json, network);
        if let Some(class) = class.clone().filter(|class| !network.classes.contains(class)) {
            if model.is_dir() {
                let expected = network.classes.first().map_or_else(String::new, |class| format!("`{class}`"));
                return Err(Error::OtherClass { path, class, expected });
            }
            return Ok(Beside { config: None, other: Some(OtherConfig { path, class }) });
        }
        let held = if class.is_some() || model.is_dir() { Held::All } else { Held::Nothing };
        Ok(Beside { config: Some(Self::read(path, json, network, held)?), other: None })
    }

    fn read(path: PathBuf, whole: Value, network: &Network, held: Held) -> Result<Self> {
        let half = network.half.as_ref().and_then(|key| Some((key, whole.get(key)?)));
        let json = match half {
            Some((_, half @ Value::Object(_))) => half.clone(),
            Some((_, Value::Null)) | None => whole.clone(),
            Some((key, half)) => {
                let (key, found) = (key.clone(), half.to_string());
                return Err(Error::Unsupported { path, key, expected: "a JSON object".into(), found });
            }
        };
        Ok(Self { path, whole, json, held })
    }

    /// What it says.
    pub(crate) fn settings(&self) -> Settings {
        Settings::of(self.json.clone())
    }

    /// The error of a network that can't do with what it says: about the config itself where a value has another type than its key's.
    pub(crate) fn fault(&self, error: diffusion_engine::Error, other: impl FnOnce(Error) -> Error) -> Error {
        match error {
            diffusion_engine::Error::Settings { source } => Error::ModelConfig { path: self.path.clone(), source },
            error => other(error.into()),
        }
    }

    /// Holds what it says of the arithmetic against what is computed.
    fn computed(&self, network: &Network) -> Result<()> {
        for Word { key, is } in &network.words {
            let Some(said) = self.json.get(key).filter(|value| !value.is_null()) else { continue };
            if !is_so(is, said) {
                let (key, expected, found) = (key.clone(), in_words(is), abridged(&said.to_string()));
                return Err(Error::Unsupported { path: self.path.clone(), key, expected, found });
            }
        }
        Ok(())
    }

    /// Holds its counts and widths against the tensors, of which `w` is the view behind the file's prefix.
    ///
    /// # Errors
    /// [`Error::Contradiction`] for the first that differs; a value of another kind than its key's.
    pub(crate) fn agrees(&self, network: &Network, w: &Weights) -> Result<()> {
        if self.held == Held::Nothing {
            return Ok(());
        }
        self.computed(network)?;
        if self.held == Held::Words {
            return Ok(());
        }
        for count in &network.counts {
            let Count { key, .. } = count;
            let Some(said) = self.json.get(key).filter(|value| !value.is_null()) else { continue };
            let Some(found) = count.found(w) else { continue };
            let said = &counted(key, said);
            if !same_kind(said, &found) {
                let source =
                    serde_json::Error::custom(format_args!("`{key}` is {said}, expected a value like {found}"));
                return Err(Error::ModelConfig { path: self.path.clone(), source });
            }
            if *said != found {
                let (key, expected, found) = (key.clone(), said.to_string(), found.to_string());
                return Err(Error::Contradiction { path: self.path.clone(), key, expected, found });
            }
        }
        Ok(())
    }
}

/// Whether a value is what is computed with.
fn is_so(is: &Is, said: &Value) -> bool {
    match is {
        Is::Number(number) => said.as_f64().is_some_and(|said| near(said, *number)),
        Is::Text(text) => said.as_str() == Some(text),
        Is::Truth(truth) => said.as_bool() == Some(*truth),
        Is::Positive => said.as_f64().is_some_and(|said| said > 0.0),
        Is::Absent => said.is_null(),
        Is::Each(one) => said.as_array().is_some_and(|all| all.iter().all(|said| is_so(one, said))),
        Is::Any(some) => some.iter().any(|is| is_so(is, said)),
    }
}

/// What is computed with, for an error.
fn in_words(is: &Is) -> String {
    match is {
        Is::Number(number) => number.to_string(),
        Is::Text(text) => format!("\"{text}\""),
        Is::Truth(truth) => truth.to_string(),
        Is::Positive => "a number above 0".to_owned(),
        Is::Absent => "null".to_owned(),
        Is::Each(one) => format!("a list of {}", in_words(one)),
        Is::Any(some) => some.iter().map(in_words).collect::<Vec<_>>().join(" or "),
    }
}

/// Reads a small file that holds a JSON object.
///
/// # Errors
/// [`Error::NotAnObject`] that says what it is in place of one; JSON that is broken; a file that can't be read.
pub(crate) fn read_object(path: &Path) -> Result<Value> {
    let load = |source| Error::Load { path: path.to_owned(), source: Box::new(source) };
    object_of(path, &read_bounded(path, LIMIT).map_err(load)?)
}

/// The JSON object that a text is, of the file at a path.
///
/// # Errors
/// As [`read_object`], but for files that can't be read.
pub(crate) fn object_of(path: &Path, text: &[u8]) -> Result<Value> {
    let found = match serde_json::from_slice(text) {
        Ok(json @ Value::Object(_)) => return Ok(json),
        Ok(Value::Null) => "`null`".to_owned(),
        Ok(Value::Bool(_)) => "a truth value".to_owned(),
        Ok(Value::Number(_)) => "a number".to_owned(),
        Ok(Value::String(_)) => "a text in quotes".to_owned(),
        Ok(Value::Array(_)) => "a list".to_owned(),
        Err(source) => match Container::of(&text[..text.len().min(HEAD)]) {
            None | Some(Container::Json | Container::Index) => {
                return Err(Error::ModelConfig { path: path.to_owned(), source });
            }
            Some(container) => described(container, text),
        },
    };
    Err(Error::NotAnObject { path: path.to_owned(), found })
}

/// The class that a config names: diffusers writes `_class_name`, transformers `architectures`, and both may leave only the
/// `model_type`. Of several the first that is the network's.
fn class(json: &Value, network: &Network) -> Option<String> {
    let architectures = json.get("architectures").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<_> = json.get("_class_name").into_iter().chain(architectures).filter_map(Value::as_str).collect();
    let named = named.iter().find(|class| network.classes.iter().any(|own| own == *class)).or(named.first()).copied();
    named.or_else(|| json.get("model_type")?.as_str()).map(abridged)
}

/// A value to compare: of a list of a level's blocks it is their number.
fn counted(key: &str, said: &Value) -> Value {
    match said {
        Value::Array(blocks) if key.ends_with("_block_types") => blocks.len().into(),
        said => said.clone(),
    }
}

/// Whole numbers, truth values, or lists of whole numbers.
fn same_kind(said: &Value, found: &Value) -> bool {
    match (said, found) {
        (Value::Array(said), Value::Array(_)) => said.iter().all(Value::is_u64),
        (said, Value::Bool(_)) => said.is_boolean(),
        (said, _) => said.is_u64(),
    }
}

/// Equal as numbers of single precision, in which some configs were written.
fn near(said: f64, number: f64) -> bool {
    (said - number).abs() <= number.abs() * 1e-6
}
