//! Several prompts at once: `a cat AND a dog :0.5`.

use super::{PromptFault, letters::is_word};

/// A prompt of several that are drawn at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    /// How much it counts; may be negative.
    pub(super) weight: f32,
}

/// The parts of a prompt, at least one. A number behind a colon at the end of a part is its weight, also where there is no other part.
///
/// As A1111 1.10 and Forge have it: modules/prompt_parser.py `get_multicond_prompt_list`.
///
/// # Errors
/// [`PromptFault::Weight`].
pub(super) fn parts(prompt: &str) -> Result<Vec<Part<'_>>, PromptFault> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, and) in prompt.match_indices("AND") {
        if is_word(prompt, at, and.len()) {
            parts.push(part(&prompt[from..at])?);
            from = at + and.len();
        }
    }
    parts.push(part(&prompt[from..])?);
    Ok(parts)
}

fn part(text: &str) -> Result<Part<'_>, PromptFault> {
    let text = text.trim_end();
    let weighted = text.rsplit_once(':').and_then(|(words, number)| Some((words.trim_end(), weight(number)?)));
    let (text, weight) = weighted.unwrap_or((text, 1.0));
    if !weight.is_finite() {
        return Err(PromptFault::Weight { words: text.to_owned() });
    }
    Ok(Part { text, weight })
}

/// A number of digits alone, with a sign and a point.
fn weight(text: &str) -> Option<f32> {
    let text = text.trim_start();
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-')).then(|| text.parse().ok())?
}
