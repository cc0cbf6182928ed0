use std::{fmt, sync::Arc};

use core_tensor::{Layout, Weights};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Duty, Spelling};
use crate::Error;

/// What is computed with a part, as far as its files must say it: which tensors it needs, and what a `config.json` with them may say.
#[derive(Clone)]
pub struct Network {
    /// What it is there for.
    pub duty: Duty,
    /// A tensor that every such network has; before its name stands the file's prefix.
    pub mark: String,
    /// The classes and types that the part's `config.json` may name, the usual one first.
    pub classes: Vec<String>,
    /// The key under which a `config.json` of several networks describes this one.
    pub half: Option<String>,
    /// What a `config.json` may say of the arithmetic.
    pub words: Vec<Word>,
    /// What a `config.json` may say that the tensors say too.
    pub counts: Vec<Count>,
    layout: Arc<LayoutOf>,
    variant: Arc<VariantOf>,
    spellings: Arc<SpellingsOf>,
}

type LayoutOf = dyn Fn(&Weights, &Settings) -> Result<Layout, Error> + Send + Sync;
type VariantOf = dyn Fn(&Weights) -> String + Send + Sync;
type SpellingsOf = dyn Fn(&Layout) -> Vec<Spelling> + Send + Sync;

impl Network {
    /// A network whose layout is read off the tensors' shapes, behind the file's prefix, and what its config adds.
    pub fn of(
        duty: Duty,
        mark: impl Into<String>,
        layout: impl Fn(&Weights, &Settings) -> Result<Layout, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            duty,
            mark: mark.into(),
            classes: Vec::new(),
            half: None,
            words: Vec::new(),
            counts: Vec::new(),
            layout: Arc::new(layout),
            variant: Arc::new(|_| String::new()),
            spellings: Arc::new(|_| Vec::new()),
        }
    }

    /// The same with the names by which adapters call its modules beside its own.
    pub fn spellings(self, spellings: impl Fn(&Layout) -> Vec<Spelling> + Send + Sync + 'static) -> Self {
        Self { spellings: Arc::new(spellings), ..self }
    }

    /// The same with the name of the variant that tensors are of, such as `sd15`.
    pub fn variant(self, variant: impl Fn(&Weights) -> String + Send + Sync + 'static) -> Self {
        Self { variant: Arc::new(variant), ..self }
    }

    /// The same with the classes that its `config.json` may name.
    pub fn classes(self, classes: impl IntoIterator<Item = impl ToString>) -> Self {
        Self { classes: classes.into_iter().map(|class| class.to_string()).collect(), ..self }
    }

    /// The same, described under a key of its `config.json` where that has it.
    pub fn half(self, key: impl Into<String>) -> Self {
        Self { half: Some(key.into()), ..self }
    }

    /// The same with what its `config.json` may say of the arithmetic.
    pub fn words(self, words: impl IntoIterator<Item = Word>) -> Self {
        Self { words: words.into_iter().collect(), ..self }
    }

    /// The same with what its `config.json` is held to.
    pub fn counts(self, counts: impl IntoIterator<Item = Count>) -> Self {
        Self { counts: counts.into_iter().collect(), ..self }
    }

    /// Every tensor that it needs, by the headers.
    ///
    /// # Errors
    /// Tensors that make no such network, or settings that are not its own.
    pub fn layout(&self, w: &Weights, settings: &Settings) -> Result<Layout, Error> {
        (self.layout)(w, settings)
    }

    /// The names by which adapters call the modules of such a network, beside those of its layout.
    pub fn spellings_of(&self, layout: &Layout) -> Vec<Spelling> {
        (self.spellings)(layout)
    }

    /// Which variant the tensors are of; empty where there is one only.
    pub fn variant_of(&self, w: &Weights) -> String {
        (self.variant)(w)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Network").field("duty", &self.duty.id).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// What the `config.json` of a part says; nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Option<Value>);

impl Settings {
    /// What a config's JSON object says.
    pub fn of(json: Value) -> Self {
        Self(Some(json))
    }

    /// What it says beside the tensors.
    ///
    /// # Errors
    /// [`Error::Settings`] for a value of another type than its key's.
    pub fn read<T: DeserializeOwned + Default>(&self) -> Result<T, Error> {
        let read = |json: &Value| serde_json::from_value(json.clone()).map_err(|source| Error::Settings { source });
        self.0.as_ref().map_or_else(|| Ok(T::default()), read)
    }

    /// Whether it says that a key is true; `None` where it says neither that nor that it is false.
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.0.as_ref()?.get(key)?.as_bool()
    }
}

/// A key of a config that nothing reads, and the one value of it that is computed with.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The key.
    pub key: String,
    /// Its value.
    pub is: Is,
}

impl Word {
    /// A key that must be this where it is there.
    pub fn of(key: impl Into<String>, is: Is) -> Self {
        Self { key: key.into(), is }
    }
}

/// What a value of a config must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Is {
    /// This number, in single precision.
    Number(f64),
    /// This text.
    Text(String),
    /// This truth value.
    Truth(bool),
    /// A number above 0.
    Positive,
    /// `null`.
    Absent,
    /// A list of nothing but this.
    Each(Box<Is>),
    /// One of these.
    Any(Vec<Is>),
}

/// A key of a config, and what the tensors say in its place.
#[derive(Clone)]
pub struct Count {
    /// The key.
    pub key: String,
    found: Arc<Found>,
}

type Found = dyn Fn(&Weights) -> Option<Value> + Send + Sync;

impl Count {
    /// A key, and its value by the tensors' shapes; `None` where they don't tell it.
    pub fn of(key: impl Into<String>, found: impl Fn(&Weights) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self { key: key.into(), found: Arc::new(found) }
    }

    /// A key that is a dimension of a tensor.
    pub fn dimension(key: impl Into<String>, name: &'static str, dimension: usize) -> Self {
        Self::of(key, move |w| w.shape(name)?.get(dimension).map(|&n| n.into()))
    }

    /// A key that is the depth of a stack of layers, where it has any.
    pub fn depth(key: impl Into<String>, stack: &'static str) -> Self {
        Self::of(key, move |w| w.at(stack).depth().ok().filter(|&depth| depth > 0).map(Into::into))
    }

    /// A key that is how often a dimension of a tensor goes into the rows of another.
    pub fn ratio(key: impl Into<String>, name: &'static str, by: (&'static str, usize)) -> Self {
        Self::of(key, move |w| {
            let whole = *w.shape(name)?.first()?;
            let part = *w.shape(by.0)?.get(by.1)?;
            whole.checked_div(part).map(Into::into)
        })
    }

    /// What the tensors say.
    pub fn found(&self, w: &Weights) -> Option<Value> {
        (self.found)(w)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Count").field(&self.key).finish()
    }
}
