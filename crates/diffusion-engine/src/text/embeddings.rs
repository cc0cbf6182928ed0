use std::sync::{Arc, Mutex, PoisonError};

use super::{clip_tokenizer::ClipTokenizer, embedding::Embedding};
use crate::Error;

/// The textual inversions that prompts may name.
///
/// A name alone is found among a prompt's tokens, as A1111 and Forge do: in any case, wherever its tokens stand, the one with most
/// tokens first. ComfyUI's `embedding:name` is found in the text; there it is the longest name, and one that is not there is an error.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// Those of more tokens first.
    by_tokens: Vec<(Vec<usize>, Arc<Embedding>)>,
    /// In lower case, longer names first.
    by_name: Vec<(String, Arc<Embedding>)>,
}

/// Textual inversions that come and go while a model is in use, as LoRAs bring some. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LentEmbeddings(Arc<Mutex<Vec<Embedding>>>);

impl LentEmbeddings {
    /// Has prompts find these from now on, and none of those before.
    pub fn set(&self, embeddings: Vec<Embedding>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = embeddings;
    }

    /// Those that prompts find now.
    pub fn get(&self) -> Vec<Embedding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Stretch<'t> {
    Words(&'t str),
    /// What `embedding:name` stands for.
    Named(Arc<Embedding>),
}

/// What ComfyUI writes before the name of a textual inversion.
const MARK: &str = "embedding:";

/// Endings that ComfyUI allows behind such a name.
const ENDINGS: [&str; 3] = [".safetensors", ".pt", ".bin"];

impl Embeddings {
    /// Makes these known by their names; of two with one name the latter.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn of(tokenizer: &ClipTokenizer, embeddings: Vec<Embedding>) -> Result<Self, Error> {
        Self::default().and(tokenizer, embeddings)
    }

    /// These and others.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn and(self, tokenizer: &ClipTokenizer, embeddings: Vec<Embedding>) -> Result<Self, Error> {
        let mut known = self;
        for embedding in embeddings.into_iter().map(Arc::new) {
            let (ids, name) = (tokenizer.text(embedding.name())?, embedding.name().to_lowercase());
            known.by_tokens.retain(|(_, other)| other.name() != embedding.name());
            known.by_name.retain(|(_, other)| other.name() != embedding.name());
            // A name without tokens is found nowhere.
            if !ids.is_empty() {
                known.by_tokens.push((ids, embedding.clone()));
                known.by_name.push((name, embedding));
            }
        }
        known.by_tokens.sort_by_key(|(ids, _)| std::cmp::Reverse(ids.len()));
        known.by_name.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(known)
    }

    /// The one whose name's tokens these begin with, and how many they are.
    pub(super) fn at(&self, ids: &[usize]) -> Option<(&Arc<Embedding>, usize)> {
        let (name, embedding) = self.by_tokens.iter().find(|(name, _)| ids.starts_with(name))?;
        Some((embedding, name.len()))
    }

    /// A text, cut where it says `embedding:name`.
    ///
    /// # Errors
    /// [`Error::NoEmbedding`] for one that is not there.
    pub(super) fn named<'t>(&self, text: &'t str) -> Result<Vec<Stretch<'t>>, Error> {
        let (mut stretches, mut begin, mut look) = (Vec::new(), 0, 0);
        while let Some(at) = find_mark(text, look) {
            let behind = &text[at + MARK.len()..];
            look = at + MARK.len();
            if behind.starts_with(char::is_whitespace) || behind.is_empty() {
                continue;
            }
            let (embedding, length) = self.beginning(behind).ok_or_else(|| {
                let name = behind.split(|c: char| c.is_whitespace() || c == ',').next().unwrap_or(behind);
                Error::NoEmbedding { name: name.to_owned() }
            })?;
            stretches.push(Stretch::Words(&text[begin..at]));
            stretches.push(Stretch::Named(embedding.clone()));
            look += length;
            begin = look;
        }
        stretches.push(Stretch::Words(&text[begin..]));
        Ok(stretches)
    }

    /// The one whose name a text begins with, and how many bytes it and its ending take.
    fn beginning(&self, text: &str) -> Option<(&Arc<Embedding>, usize)> {
        self.by_name.iter().find_map(|(name, embedding)| {
            let named = lowered_prefix(text, name)?;
            let ending = ENDINGS.iter().find(|ending| text[named..].starts_with(**ending)).map_or(0, |e| e.len());
            let length = [named + ending, named].into_iter().find(|length| !goes_on(&text[*length..]))?;
            Some((embedding, length))
        })
    }
}

/// Whether a name goes on in what is behind it.
fn goes_on(behind: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    behind.strip_prefix('.').unwrap_or(behind).starts_with(part)
}

/// Where `embedding:` next stands at the beginning of a word.
fn find_mark(text: &str, from: usize) -> Option<usize> {
    let is_mark = |at: usize| {
        let mark = text.as_bytes()[at..].get(..MARK.len());
        mark.is_some_and(|mark| mark.eq_ignore_ascii_case(MARK.as_bytes()))
    };
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    text[from..].char_indices().map(|(at, _)| from + at).find(|&at| is_mark(at) && begins(at))
}

/// How many bytes of a text are `name`, which is in lower case.
fn lowered_prefix(text: &str, name: &str) -> Option<usize> {
    let mut rest = name;
    for (at, c) in text.char_indices() {
        if rest.is_empty() {
            return Some(at);
        }
        for lower in c.to_lowercase() {
            rest = rest.strip_prefix(lower)?;
        }
    }
    rest.is_empty().then_some(text.len())
}
