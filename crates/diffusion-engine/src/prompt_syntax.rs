//! What a prompt says in the prompt languages of other programs, and this engine draws as plain words.

use std::fmt;

/// A kind of prompt syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Syntax {
    /// `embedding:name`, a textual inversion.
    Embedding,
    /// `{{word}}`: NovelAI's way to say that a word weighs more.
    Braces,
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Embedding => "no folder of textual inversions is set, `[prompt] embeddings`",
            Self::Braces => "weights are written with round brackets, `((word))` or `(word:1.2)`",
        })
    }
}

/// A place in a prompt that is drawn as plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainWords {
    /// What its writer may have meant.
    pub syntax: Syntax,
    /// The first place of the kind, as it stands in the prompt, at most [`PlainWords::LONGEST`] characters.
    pub text: String,
}

impl PlainWords {
    /// The most characters that are quoted.
    pub const LONGEST: usize = 60;

    /// The first place of each kind, in the order of the prompt. A bracket after a backslash is a plain one.
    pub fn of(prompt: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut note = |syntax: Syntax, text: &str| {
            if !found.iter().any(|known| known.syntax == syntax) {
                found.push(Self { syntax, text: text.chars().take(Self::LONGEST).collect() });
            }
        };
        let mut escaped = false;
        let mut before = ' ';
        for (at, c) in prompt.char_indices() {
            let rest = &prompt[at..];
            if !escaped {
                if let Some((syntax, text)) = braced(rest) {
                    note(syntax, text);
                }
                if let Some((syntax, text)) = word(rest).filter(|_| !before.is_alphanumeric()) {
                    note(syntax, text);
                }
            }
            escaped = c == '\\' && !escaped;
            before = c;
        }
        found
    }
}

/// How far a brace or a word may reach and still be taken for syntax; names are short.
const REACH: usize = 200;

/// What a brace at the start of `rest` begins.
fn braced(rest: &str) -> Option<(Syntax, &str)> {
    let inside = rest.strip_prefix('{')?;
    let end = inside.bytes().take(REACH).position(|byte| byte == b'}')?;
    inside.starts_with('{').then_some((Syntax::Braces, &rest[..end + 2]))
}

/// What a word at the start of `rest` means.
fn word(rest: &str) -> Option<(Syntax, &str)> {
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ')' | ']' | '>');
    let end = rest.char_indices().take(REACH).find(|(_, c)| ends(*c)).map_or(rest.len(), |(end, _)| end);
    let word = &rest[..end];
    let names = word.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("embedding:"));
    (names && word.len() > 10).then_some((Syntax::Embedding, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_with_its_place() {
        for (prompt, expected) in [
            ("a {{cat}}", vec![(Syntax::Braces, "{{cat}")]),
            ("a {red|blue} cat", vec![]),
            ("embedding:easynegative, cat", vec![(Syntax::Embedding, "embedding:easynegative")]),
            ("(embedding:bad:1.2)", vec![(Syntax::Embedding, "embedding:bad:1.2")]),
        ] {
            let found = PlainWords::of(prompt);
            let found: Vec<_> = found.iter().map(|p| (p.syntax, p.text.as_str())).collect();
            assert_eq!(found, expected, "{prompt}");
        }
    }

    #[test]
    fn plain_words_and_what_is_drawn_as_it_says_are_not_told() {
        for prompt in [
            "a cat (on a mat), 3:4, time 12:30",
            "a \\{cat|dog\\}",
            "a (cat:1.4) and [dog:cat:0.5] AND [a|b] BREAK c",
            "a __ b, snake__case, -- __init",
            "{plain}",
            "an embedding: of words",
            "",
        ] {
            assert_eq!(PlainWords::of(prompt), [], "{prompt}");
        }
    }

    #[test]
    fn brackets_without_end_take_no_time() {
        let start = std::time::Instant::now();
        PlainWords::of(&"([<{".repeat(16_000));
        PlainWords::of(&"_".repeat(64_000));
        assert!(start.elapsed().as_secs() < 5);
    }
}
