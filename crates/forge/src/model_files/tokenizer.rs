//! The tokenizer of a text encoder's folder, which is not read but for the words that somebody added to CLIP's.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use diffusion_engine::ClipTokenizer;
use serde_json::Value;

use super::{abridged, model_config::read_object};

/// How the folders of text encoders and of their tokenizers begin in diffusers' layout: `text_encoder_2` has `tokenizer_2`.
const ENCODER: &str = "text_encoder";
const TOKENIZER: &str = "tokenizer";

/// The files that are read of the tokenizer beside a text encoder's folder.
pub(crate) fn tokenizer_files(encoder: &Path) -> Option<[PathBuf; 2]> {
    let number = encoder.file_name()?.to_str()?.strip_prefix(ENCODER)?;
    let folder = encoder.parent()?.join(format!("{TOKENIZER}{number}"));
    let files = ["added_tokens.json", "tokenizer_config.json"].map(|name| folder.join(name));
    (encoder.is_dir() && folder.is_dir()).then_some(files)
}

/// Words that the tokenizer beside a CLIP's folder has behind CLIP's own, as a training of new words adds them; what can't be read has none.
pub(crate) fn added_words(encoder: &Path) -> Vec<String> {
    let Some(files) = tokenizer_files(encoder) else { return Vec::new() };
    let is_new = |id: u64| id > ClipTokenizer::END as u64;
    let [added, config] = files.map(|file| read_object(&file).unwrap_or_default());
    let by_word = added.as_object().into_iter().flatten();
    let by_word = by_word.filter(|(_, id)| id.as_u64().is_some_and(is_new)).map(|(word, _)| word.as_str());
    let by_id = config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let by_id = by_id.filter(|(id, _)| id.parse().is_ok_and(is_new));
    let by_id = by_id.filter_map(|(_, word)| word.get("content")?.as_str());
    by_word.chain(by_id).map(abridged).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn words_behind_those_of_clip_are_told_and_a_tokenizer_that_cannot_be_read_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let [encoder, tokenizer] = [ENCODER, TOKENIZER].map(|name| folder.path().join(format!("{name}_2")));
        assert!(added_words(&encoder).is_empty());
        fs::create_dir(&encoder).unwrap();
        fs::create_dir(&tokenizer).unwrap();
        assert!(added_words(&encoder).is_empty());
        let write = |name: &str, text: &str| fs::write(tokenizer.join(name), text).unwrap();
        write("added_tokens.json", r#"{"<cat-toy>": 49408, "<|endoftext|>": 49407, "odd": "x"}"#);
        write(
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"49407": {"content": "<|endoftext|>"}, "49409": {"content": "sks"}, "x": 1}}"#,
        );
        assert_eq!(added_words(&encoder), ["<cat-toy>", "sks"]);
        for broken in ["", "[]", "{", "{\"added_tokens_decoder\": 5}", "\0"] {
            write("tokenizer_config.json", broken);
            assert_eq!(added_words(&encoder), ["<cat-toy>"], "{broken}");
        }
    }
}
