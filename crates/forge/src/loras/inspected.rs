use std::{cmp::Reverse, collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{Metadata, loaded::read};
use crate::Result;

/// What a LoRA file holds, as its header and its metadata tell.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedLora {
    /// How its changes are computed.
    pub algorithms: Vec<String>,
    /// Their ranks, from the lowest.
    pub ranks: Vec<usize>,
    /// How many modules it changes.
    pub modules: usize,
    /// The models that it was made for, where there is telling.
    pub made_for: Option<String>,
    /// Words that it was trained with: those that its author names, or its captions' most frequent.
    pub triggers: Vec<String>,
    /// Words that it brings vectors for.
    pub words: Vec<String>,
}

/// The most words that are told.
const MOST_WORDS: usize = 10;

/// Reads a LoRA file.
pub(crate) fn inspected(path: &Path) -> Result<InspectedLora> {
    let (file, metadata) = read(path)?;
    let algorithms = file.algorithms().into_iter().map(|(algorithm, is_dora)| match is_dora {
        true => format!("{} with DoRA", algorithm.name()),
        false => algorithm.name().to_owned(),
    });
    Ok(InspectedLora {
        algorithms: algorithms.collect(),
        ranks: file.ranks(),
        modules: file.modules(),
        made_for: file.made_for().map(str::to_owned).or_else(|| base(&metadata)),
        triggers: triggers(&metadata),
        words: file.words().map(str::to_owned).collect(),
    })
}

/// The model that a trainer says it began from.
fn base(metadata: &Metadata) -> Option<String> {
    let keys = ["modelspec.architecture", "ss_base_model_version", "ss_sd_model_name"];
    keys.iter().find_map(|key| metadata.get(*key)).map(|base| abridged(base))
}

/// The words that an author names, or the most frequent of the captions as kohya's scripts count them.
fn triggers(metadata: &Metadata) -> Vec<String> {
    if let Some(phrase) = metadata.get("modelspec.trigger_phrase").filter(|phrase| !phrase.trim().is_empty()) {
        return vec![abridged(phrase.trim())];
    }
    let counts = metadata.get("ss_tag_frequency");
    let counts: Option<BTreeMap<String, BTreeMap<String, u64>>> =
        counts.and_then(|json| serde_json::from_str(json).ok());
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in counts.into_iter().flat_map(BTreeMap::into_values).flatten() {
        let sum = words.entry(word.trim().to_owned()).or_default();
        *sum = sum.saturating_add(count);
    }
    let mut words: Vec<(String, u64)> = words.into_iter().filter(|(word, _)| !word.is_empty()).collect();
    words.sort_by_key(|(_, count)| Reverse(*count));
    words.into_iter().take(MOST_WORDS).map(|(word, _)| abridged(&word)).collect()
}

/// A text of a file as a list shows it.
fn abridged(text: &str) -> String {
    crate::model_files::abridged(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_authors_or_the_most_frequent() {
        let of = |key: &str, value: &str| triggers(&Metadata::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(of("modelspec.trigger_phrase", " in sks style "), ["in sks style"]);
        let tags = r#"{"10_a": {"cat": 3, "sks": 9}, "2_b": {"cat": 7, " ": 99}}"#;
        assert_eq!(of("ss_tag_frequency", tags), ["cat", "sks"]);
        for nothing in ["", "{", "[]", r#"{"a": 1}"#, r#"{"a": {"b": -1}}"#] {
            assert_eq!(of("ss_tag_frequency", nothing), [""; 0], "{nothing}");
        }
    }
}
