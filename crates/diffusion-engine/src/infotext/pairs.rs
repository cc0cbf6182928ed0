//! A line of `key: value` pairs.
//!
//! A comma ends a value only if another key stands behind it, so prompts, lists and names may hold commas. A value in double quotes is a
//! JSON string, and brackets hold what they hold, JSON or not.

use super::{TextFault, Writer, keys::meaning};
use crate::Key;

/// More keys than any program writes; Forge with every extension has about a hundred.
pub(super) const MAX_PAIRS: usize = 4096;
const LONGEST_KEY: usize = 80;
/// How many bytes are read in all to find that a bracket or a quote is never closed. Texts of nothing but those would take
/// forever.
const IN_VAIN: usize = 4 << 20;

pub(super) type Pair = (String, String);

/// The pairs of a line, in order. A piece between commas that has no key is a key without a value.
pub(super) fn pairs(line: &str, knobs: &[Key]) -> Result<Vec<Pair>, TextFault> {
    let mut pairs = Vec::new();
    let mut left = IN_VAIN;
    let mut rest = line.trim_start_matches(SEPARATOR);
    while !rest.is_empty() {
        if pairs.len() == MAX_PAIRS {
            return Err(TextFault::TooManyKeys { max: MAX_PAIRS });
        }
        let length = match key(rest, knobs) {
            // a heading before the first key: `Parameters: Steps: 20`
            Some((heading, start))
                if !is_known(heading, knobs)
                    && key(&rest[start..], knobs).is_some_and(|(key, _)| is_known(key, knobs)) =>
            {
                pairs.push((heading.to_owned(), String::new()));
                start
            }
            Some((key, start)) => {
                let (value, length) = value(&rest[start..], &mut left, knobs);
                pairs.push((key.to_owned(), value));
                start + length
            }
            None => {
                let length = plain_length(rest, knobs);
                pairs.push((rest[..length].trim().to_owned(), String::new()));
                length
            }
        };
        rest = rest[length..].trim_start_matches(SEPARATOR);
    }
    Ok(pairs)
}

fn is_known(key: &str, knobs: &[Key]) -> bool {
    meaning(key, Writer::Unknown, knobs).is_some()
}

const SEPARATOR: [char; 3] = [',', ' ', '\t'];

/// The key that a text begins with, and where its value starts.
///
/// A colon without a space behind it ends a key only if that key is known: `Steps:20`, but not `https://`.
pub(super) fn key<'a>(text: &'a str, knobs: &[Key]) -> Option<(&'a str, usize)> {
    let end = text.bytes().take(LONGEST_KEY + 1).position(|b| matches!(b, b':' | b',' | b'"' | b'[' | b'{' | b'\n'))?;
    let (key, rest) = (text[..end].trim(), text[end..].strip_prefix(':')?);
    if key.is_empty() || key.starts_with(['(', ')', ']', '}', '<', '>', '\'']) {
        return None;
    }
    let spaced = rest.is_empty() || rest.starts_with([' ', '\t', ',']);
    let start = text.len() - rest.trim_start_matches([' ', '\t']).len();
    (spaced || is_known(key, knobs)).then_some((key, start))
}

/// The value that a text begins with, and how many bytes it takes. `left` is what may still be read in vain.
fn value(text: &str, left: &mut usize, knobs: &[Key]) -> (String, usize) {
    let window = &text.as_bytes()[..text.len().min(*left)];
    let (closed, read) = match window.first() {
        Some(b'"') => quoted(window),
        Some(b'[' | b'{' | b'(') => bracketed(window),
        _ => (false, 0),
    };
    let is_last = || text[read..].trim_start_matches([' ', '\t']).chars().next().is_none_or(|c| c == ',');
    if closed && is_last() {
        if !text.starts_with('"') {
            return (text[..read].to_owned(), read);
        }
        if let Ok(value) = serde_json::from_str(&text[..read]) {
            return (value, read);
        }
    }
    *left -= read;
    let length = plain_length(text, knobs);
    (text[..length].trim_end_matches(SEPARATOR).to_owned(), length)
}

/// How far a value goes: to a comma behind which another key stands, or to the end.
fn plain_length(text: &str, knobs: &[Key]) -> usize {
    let is_last = |at: &usize| {
        let behind = text[at + 1..].trim_start_matches([' ', '\t']);
        behind.is_empty() || key(behind, knobs).is_some()
    };
    text.match_indices(',').map(|(at, _)| at).find(is_last).unwrap_or(text.len())
}

/// Whether a string in double quotes is closed, and how far it goes, with them.
fn quoted(bytes: &[u8]) -> (bool, usize) {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return (true, at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    (false, bytes.len())
}

/// Whether a bracket is closed, and how far it goes, with what is nested in it; brackets in double quotes don't count.
fn bracketed(bytes: &[u8]) -> (bool, usize) {
    let mut open = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => match quoted(&bytes[at..]) {
                (true, length) => at += length - 1,
                (false, _) => return (false, bytes.len()),
            },
            b'[' => open.push(b']'),
            b'{' => open.push(b'}'),
            b'(' => open.push(b')'),
            close @ (b']' | b'}' | b')') => {
                if open.pop() != Some(close) {
                    return (false, at);
                }
                if open.is_empty() {
                    return (true, at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    (false, bytes.len())
}

/// A value as it stands in a line: quoted where it would end the pair, start another or look quoted.
pub(super) fn pair_value(value: &str) -> String {
    if value.is_empty()
        || value.contains([',', ':', '\n', '\r'])
        || value.starts_with(['"', '[', '{'])
        || value.trim() != value
    {
        return serde_json::Value::from(value).to_string();
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<(String, String)> {
        pairs(line, &[]).unwrap()
    }

    fn same(line: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(line), expected, "{line}");
    }

    #[test]
    fn a_comma_ends_a_value_where_a_key_stands_behind_it() {
        same("Seed: 28,Size: 768x512", &[("Seed", "28"), ("Size", "768x512")]);
        same("Seed:28,Size:768x512", &[("Seed", "28"), ("Size", "768x512")]);
        same("Model: a, b, Seed: 5", &[("Model", "a, b"), ("Seed", "5")]);
        same("Model: a,b", &[("Model", "a,b")]);
        same("Model: , RNG: cuda", &[("Model", ""), ("RNG", "cuda")]);
        same("Model:, RNG: cuda, ", &[("Model", ""), ("RNG", "cuda")]);
        same("TE: a, TE: b", &[("TE", "a"), ("TE", "b")]);
        same(
            "Date: 2024-01-01 12:30:00, Url: https://a.b/c, Seed: 1",
            &[("Date", "2024-01-01 12:30:00"), ("Url", "https://a.b/c"), ("Seed", "1")],
        );
        same("Parameters: Steps: 20, Seed: 1", &[("Parameters", ""), ("Steps", "20"), ("Seed", "1")]);
        same("bare, Seed: 1", &[("bare", ""), ("Seed", "1")]);
        same("", &[]);
        same(" , ,", &[]);
    }

    #[test]
    fn quotes_and_brackets_hold_commas_and_keys() {
        same("Model: \"a, b: c\", Seed: 1", &[("Model", "a, b: c"), ("Seed", "1")]);
        same("Skip layers: [7, 8, 9, ], Seed: 1", &[("Skip layers", "[7, 8, 9, ]"), ("Seed", "1")]);
        same("Styles: ['a: b', 'c'], Seed: 1", &[("Styles", "['a: b', 'c']"), ("Seed", "1")]);
        same("Crop: (0, 0), Seed: 1", &[("Crop", "(0, 0)"), ("Seed", "1")]);
        same(
            "H: {\"a\": \"}, b: c\", \"d\": [1, {\"e\": 2}]}, Seed: 1",
            &[("H", "{\"a\": \"}, b: c\", \"d\": [1, {\"e\": 2}]}"), ("Seed", "1")],
        );
        // what is never closed is a value like another
        same("A: [1, 2, Seed: 1", &[("A", "[1, 2"), ("Seed", "1")]);
        same("A: \"x, Seed: 1", &[("A", "\"x"), ("Seed", "1")]);
        same("A: [1) b, Seed: 1", &[("A", "[1) b"), ("Seed", "1")]);
        same("A: [1] b, Seed: 1", &[("A", "[1] b"), ("Seed", "1")]);
        same("A: \"x\" b, Seed: 1", &[("A", "\"x\" b"), ("Seed", "1")]);
    }

    #[test]
    fn a_line_of_any_length_takes_no_time() {
        let start = std::time::Instant::now();
        let many =
            |piece: &str, count: usize| (0..count).map(|i| piece.replace('#', &i.to_string())).collect::<String>();
        for line in [
            many("k#: v, ", MAX_PAIRS),
            many("k#: [, ", MAX_PAIRS) + &" ".repeat(1 << 17),
            many("k#: \", ", MAX_PAIRS) + &"x".repeat(1 << 17),
            many("k#: [\", ", MAX_PAIRS) + &"x".repeat(1 << 17),
            many("a,", 1 << 17),
            many("k#: [", MAX_PAIRS) + &"x".repeat(1 << 17) + &"]".repeat(MAX_PAIRS) + "z",
            many("k#: (, ", MAX_PAIRS) + &"x".repeat(1 << 17) + &")".repeat(MAX_PAIRS) + "z",
            ",".repeat(1 << 18) + "x",
            format!("a: {}x", ",".repeat(1 << 18)),
            format!("a: {}x", ", ".repeat(1 << 17)),
            "[".repeat(1 << 18),
            format!("a: {}", "(".repeat(1 << 18)),
        ] {
            let _ = pairs(&line, &[]);
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        assert_eq!(read(&many("k#: v, ", MAX_PAIRS)).len(), MAX_PAIRS);
        let more = pairs(&many("k#: v, ", 80_000), &[]);
        assert_eq!(more, Err(TextFault::TooManyKeys { max: MAX_PAIRS }));
    }
}
