//! The command line that InvokeAI wrote into pictures before its version 3: `"a cat [dogs]" -s 50 -S 7 -W 512 -H 512 -C 7.5 -A k_lms`.

use super::{Infotext, Writer, flat::split_brackets};

/// Reads such a text; none if it is none.
pub(super) fn read(text: &str) -> Option<Infotext> {
    let (prompt, flags) = text.trim().strip_prefix('"')?.rsplit_once('"')?;
    let mut pairs = Vec::new();
    let mut words = flags.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            return None;
        }
        // a value may be glued to its letter
        let (flag, glued) = match word.char_indices().nth(2) {
            Some((at, _)) if !word.starts_with("--") => word.split_at(at),
            _ => word.split_once('=').unwrap_or((word, "")),
        };
        let is_value = |word: &&str| !word.starts_with('-') || word[1..].starts_with(|c: char| c.is_ascii_digit());
        let value = if glued.is_empty() { words.next_if(is_value).unwrap_or_default() } else { glued };
        let key = match flag {
            "-s" | "--steps" => "steps",
            "-S" | "--seed" => "seed",
            "-W" | "--width" => "width",
            "-H" | "--height" => "height",
            "-C" | "--cfg_scale" => "cfg_scale",
            "-A" | "--sampler" | "--sampler_name" => "sampler",
            other => other,
        };
        pairs.push((key.to_owned(), value.to_owned()));
    }
    let (prompt, negative) = split_brackets(prompt);
    let is_one = pairs.iter().any(|(key, _)| key == "steps" || key == "seed");
    is_one.then(|| Infotext { prompt, negative, pairs, from: Writer::InvokeAi, ..Infotext::default() })
}
