//! A1111's form whose line ends were lost or changed on the way: by other systems, in a page, in a shell.

use super::{
    Writer,
    keys::{Meaning, meaning, plain},
    pairs::{key, pairs},
    settings::{NEGATIVE, are_settings, is_known, is_steps},
};
use crate::Key;

/// Line ends of other systems. Windows' is a piece of the second of these: what passes through two of its programs has `\r\r\n`.
const ENDS: [&str; 8] = ["\r\r\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}"];
/// Line ends as other languages write them. They count where the settings or the negative prompt stand behind them.
const WRITTEN: [&str; 5] = ["\\r\\n", "\\n", "<br>", "<br/>", "<br />"];

/// The text with one `\n` for each line end, and with its three parts on lines of their own.
pub(super) fn unfolded(text: &str, knobs: &[Key]) -> String {
    let mut text = with_one_line_end(text);
    for end in WRITTEN {
        let is_end = |(at, _): (usize, &str)| {
            let behind = text[at + end.len()..].trim_start();
            ["Steps:", NEGATIVE].iter().any(|word| starts_with(behind, word))
        };
        if text.match_indices(end).any(is_end) {
            text = text.replace(end, "\n");
        }
    }
    let text = plain_signs(text);
    apart(&text, knobs).unwrap_or(text)
}

/// The text with one `\n` for each line end of any system.
pub(super) fn with_one_line_end(text: &str) -> String {
    ENDS.iter().fold(text.to_owned(), |text, end| text.replace(end, "\n"))
}

/// The text with ASCII colons and commas in its settings, and with `Steps: 20` for `Steps=20`.
fn plain_signs(text: String) -> String {
    if !text.contains(['：', '=']) {
        return text;
    }
    let line = |line: &str| {
        if let Some(at) = find(line, "Steps：") {
            let settings = line[at..].replace('：', ": ").replace('，', ", ");
            return line[..at].replace("Negative prompt：", NEGATIVE) + &settings;
        }
        if find(line, "Steps=") == Some(0) {
            let pairs: Vec<_> = line.split(',').map(|pair| pair.replacen('=', ": ", 1)).collect();
            return pairs.join(",");
        }
        line.replace("Negative prompt：", NEGATIVE)
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The text with line ends before its negative prompt and its settings, if the settings stand behind words in one line.
fn apart(text: &str, knobs: &[Key]) -> Option<String> {
    let is_first = |line: &str| key(line.trim_start(), knobs).is_some_and(|(key, _)| plain(key) == "steps");
    if text.lines().any(is_first) {
        return None;
    }
    let at = text.split_inclusive('\n').scan(0, |end, line| {
        let start = *end;
        *end += line.len();
        Some((start, line))
    });
    let (start, at) =
        at.filter_map(|(start, line)| Some((start, start + settings_within(line.trim_end(), knobs)?))).last()?;
    let (before, settings) = text.split_at(at);
    let words = before.trim_end_matches([' ', '\t', ',']);
    let mut prompts = words.to_owned();
    let is_mark = |line: &str| starts_with(line.trim_start(), NEGATIVE);
    if !words.lines().any(is_mark)
        && let Some(mark) = find(&words[start..], NEGATIVE)
    {
        let (prompt, negative) = words.split_at(start + mark);
        prompts = format!("{}\n{negative}", prompt.trim_end_matches([' ', '\t', ',']));
    }
    let prompts = match key(&prompts, knobs) {
        Some((key, start)) if meaning(key, Writer::Unknown, knobs) == Some(Meaning::Prompt) => &prompts[start..],
        Some(_) | None => &prompts,
    };
    Some(format!("{prompts}\n{settings}"))
}

/// Where in a line that begins with words its settings begin.
fn settings_within(line: &str, knobs: &[Key]) -> Option<usize> {
    /// Words before `steps` that make another key of it.
    const OTHERS: [&str; 12] = [
        "hires",
        "hr",
        "refiner",
        "sampling",
        "inference",
        "second",
        "detailer",
        "upscale",
        "warmup",
        "skip",
        "total",
        "prior",
    ];
    let is_setting = |key: &str| {
        meaning(key, Writer::Unknown, knobs).is_some_and(|m| !matches!(m, Meaning::Prompt | Meaning::Negative))
    };
    if key(line, knobs).is_some_and(|(key, _)| is_setting(key)) {
        return None;
    }
    let mut from = 0;
    // A line has few of these; one of nothing else is not worth the time.
    for _ in 0..16 {
        let at = from + find(&line[from..], "Steps:")?;
        from = at + "Steps:".len();
        let before = line[..at].trim_end();
        let last = before.rsplit([' ', ',', '\t']).next().unwrap_or_default().to_lowercase();
        let number = line[from..].trim_start().starts_with(|c: char| c.is_ascii_digit());
        if before.is_empty()
            || before.ends_with(':') && !starts_with(last_words(before), NEGATIVE)
            || !number
            || OTHERS.contains(&last.as_str())
        {
            continue;
        }
        let found = pairs(&line[at..], knobs).ok()?;
        let is_whole = found.first().is_some_and(is_steps) && are_settings(&found, knobs);
        if is_whole && found.iter().filter(|pair| is_known(pair, knobs)).count() >= 2 {
            return Some(at);
        }
    }
    None
}

/// The last two words.
fn last_words(text: &str) -> &str {
    let at = text.rmatch_indices(' ').nth(1).map_or(0, |(at, _)| at + 1);
    &text[at..]
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Where a word first stands in a text, in any case, and not as the end of another.
fn find(text: &str, word: &str) -> Option<usize> {
    let is_apart = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
    let first = word.chars().next()?;
    text.match_indices([first.to_ascii_uppercase(), first.to_ascii_lowercase()])
        .map(|(at, _)| at)
        .find(|&at| starts_with(&text[at..], word) && is_apart(at))
}
