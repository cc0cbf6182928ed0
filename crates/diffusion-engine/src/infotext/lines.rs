//! A1111's form: the prompt, `Negative prompt: …`, and a line of pairs.

use super::{
    Infotext, TextFault, Writer,
    keys::{Meaning, meaning, plain},
    pairs::{MAX_PAIRS, Pair, key, pairs},
    settings::{NEGATIVE, are_settings, is_known, is_steps},
    unfold::{unfolded, with_one_line_end},
};
use crate::Key;

/// Reads a text of this form; one without settings is a prompt alone.
pub(super) fn read(text: &str, knobs: &[Key]) -> Result<Infotext, TextFault> {
    let windows = text.replace("\r\n", "\n");
    let end = |c: char| c.is_whitespace() || c == '\0';
    let text = windows.trim_end_matches(end);
    let (prompts, pairs) = split(text, knobs)?;
    // What is whole as it stands has the steps at the beginning of a line: whatever looks like a line's end in its values is none.
    if text[prompts.len()..].trim_start_matches('\n').starts_with("Steps: ") {
        // This engine's own prompts may hold any line end.
        let is_own = writer(&pairs) == Writer::Forge;
        let prompts = if is_own { prompts.to_owned() } else { with_one_line_end(prompts) };
        return Ok(infotext(&prompts, pairs, knobs));
    }
    let text = unfolded(text, knobs);
    let (prompts, pairs) = split(text.trim_end_matches(end), knobs)?;
    Ok(infotext(prompts, pairs, knobs))
}

fn infotext(prompts: &str, mut pairs: Vec<Pair>, knobs: &[Key]) -> Infotext {
    let from = writer(&pairs);
    let (prompt, negative) = match from {
        Writer::Forge => {
            // What this form can't hold, this engine repeats in the last line.
            let (prompt, negative) = split_negative(prompts, Mark::Own);
            let again = |key| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
            (
                again("Prompt").unwrap_or_else(|| prompt.to_owned()),
                again("Negative").unwrap_or_else(|| negative.to_owned()),
            )
        }
        from => {
            // What these write themselves has one spelling.
            let exactly = matches!(from, Writer::A1111 | Writer::ForgeWebUi | Writer::SdNext);
            let mark = if exactly { Mark::Written } else { Mark::Any };
            let (prompt, negative) = split_negative(prompts.trim_start_matches('\u{feff}'), mark);
            let or = |plain: &str, other: Meaning| {
                let said = || {
                    pairs
                        .iter()
                        .find(|(key, _)| meaning(key, from, knobs) == Some(other))
                        .map(|(_, value)| value.clone())
                };
                let plain = stripped(plain);
                if plain.is_empty() { said().unwrap_or_default() } else { plain }
            };
            let (mut prompt, negative) = (or(prompt, Meaning::Prompt), or(negative, Meaning::Negative));
            // All in one line.
            if prompt.is_empty() && pairs.first().is_some_and(|(_, value)| value.is_empty()) {
                prompt = pairs.remove(0).0;
            }
            (prompt, negative)
        }
    };
    Infotext { prompt, negative, pairs, from, rest: Vec::new(), fault: None }
}

/// A prompt as A1111 reads it: its lines without spaces around them, and what stands behind a further mark of negative prompts.
fn stripped(prompt: &str) -> String {
    let lines = prompt.trim_end_matches('\n').split('\n').map(|line| {
        let line = line.trim();
        line.strip_prefix(NEGATIVE).map_or(line, str::trim)
    });
    lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

/// What stands before the settings, and the settings.
///
/// They are the last line, and the lines before it if each setting has its own. Some extensions write lines of their own behind.
fn split<'a>(text: &'a str, knobs: &[Key]) -> Result<(&'a str, Vec<Pair>), TextFault> {
    let (mut before, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let last = pairs(last, knobs)?;
    if !are_settings(&last, knobs) {
        return Ok(with_lines_behind(text, knobs)?.unwrap_or((text, Vec::new())));
    }
    let mut has_steps = last.iter().any(is_steps);
    let (mut count, mut lines) = (last.len(), vec![last]);
    while !has_steps {
        let (above, line) = before.rsplit_once('\n').unwrap_or(("", before));
        let more = pairs(line, knobs)?;
        if more.is_empty() || !more.iter().all(|pair| is_known(pair, knobs)) {
            break;
        }
        count += more.len();
        if count > MAX_PAIRS {
            return Err(TextFault::TooManyKeys { max: MAX_PAIRS });
        }
        has_steps = more.iter().any(is_steps);
        lines.push(more);
        before = above;
    }
    Ok((before, lines.into_iter().rev().flatten().collect()))
}

/// Settings that begin with the steps and are not the last line. What stands behind them is kept among the pairs.
fn with_lines_behind<'a>(text: &'a str, knobs: &[Key]) -> Result<Option<(&'a str, Vec<Pair>)>, TextFault> {
    let mut end = text.len();
    while let Some((at, line)) = last_line(&text[..end]) {
        if key(line, knobs).is_some_and(|(key, _)| plain(key) == "steps") {
            let mut found = pairs(line, knobs)?;
            if are_settings(&found, knobs) && found.len() >= 3 {
                for behind in text[end..].lines().filter(|line| !line.trim().is_empty()) {
                    if found.len() == MAX_PAIRS {
                        return Err(TextFault::TooManyKeys { max: MAX_PAIRS });
                    }
                    found.push(match key(behind, knobs) {
                        Some((key, start)) => (key.to_owned(), behind[start..].to_owned()),
                        None => (behind.to_owned(), String::new()),
                    });
                }
                return Ok(Some((text[..at].strip_suffix('\n').unwrap_or_default(), found)));
            }
        }
        end = at.saturating_sub(1);
        if at == 0 {
            break;
        }
    }
    Ok(None)
}

/// The last line of a text, and where it begins.
fn last_line(text: &str) -> Option<(usize, &str)> {
    let at = text.rfind('\n').map_or(0, |newline| newline + 1);
    (!text.is_empty()).then(|| (at, &text[at..]))
}

/// Whose the pairs are: as they say, or by a key that one program alone writes.
fn writer(pairs: &[Pair]) -> Writer {
    let said = |name: &str| pairs.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value.as_str());
    // A number without a letter is A1111's only where no other program names itself.
    let named = ["app", "software"].into_iter().filter_map(said).find(|name| !name.is_empty());
    let is_bare = |writer: &Writer| *writer == Writer::A1111 && named.is_some();
    let version = (named.and_then(Writer::of_version))
        .or_else(|| said("version").and_then(Writer::of_version).filter(|writer| !is_bare(writer)));
    version
        .or_else(|| said("seedmode").map(|_| Writer::DrawThings))
        .or_else(|| said("sdcpp").map(|_| Writer::StableDiffusionCpp))
        .or_else(|| said("civitairesources").or(said("civitaimetadata")).map(|_| Writer::Civitai))
        .unwrap_or(Writer::Unknown)
}

/// How the mark of the negative prompt is spelt.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mark {
    /// As this engine writes it, so that prompts may hold others.
    Own,
    /// As A1111 writes it, with spaces before it or not.
    Written,
    /// In any case; but if it is there as A1111 writes it, so.
    Any,
}

/// Prompt and negative prompt.
pub(super) fn split_negative(text: &str, spelt: Mark) -> (&str, &str) {
    let mark = |line: &str| {
        let start = line.len() - line.trim_start().len();
        let written = line[start..].starts_with(NEGATIVE).then_some(start + NEGATIVE.len());
        match spelt {
            Mark::Own => written.filter(|_| start == 0),
            Mark::Written => written,
            Mark::Any => written.or_else(|| {
                let end = start + line[start..].bytes().take(NEGATIVE.len() + 1).position(|b| b == b':')?;
                (plain(&line[start..end]) == "negativeprompt").then_some(end + 1)
            }),
        }
    };
    if spelt == Mark::Any && text.lines().any(|line| line.trim_start().starts_with(NEGATIVE)) {
        return split_negative(text, Mark::Written);
    }
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(length) = mark(line) {
            let negative = &text[at + length..];
            let prompt = text[..at].strip_suffix('\n').unwrap_or_default();
            return (prompt, negative.strip_prefix(' ').unwrap_or(negative));
        }
        at += line.len();
    }
    (text, "")
}
