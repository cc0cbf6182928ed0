//! What a prompt says in the prompt language of Stable Diffusion's interfaces, and this engine draws as plain words.

use std::fmt;

/// A kind of prompt syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Syntax {
    /// `<lora:name:weight>` and its relatives `<lyco:…>`, `<hypernet:…>`.
    ExtraNetwork,
    /// `embedding:name`, a textual inversion.
    Embedding,
    /// `(word:1.3)`, `((word))`, `{{word}}`: more or less weight.
    Emphasis,
    /// `[word]`: less weight.
    LessEmphasis,
    /// `[from:to:when]`, `[a|b]`: words that change during the run.
    Scheduled,
    /// `{a|b}`, `__name__`: a random choice.
    Wildcard,
    /// `BREAK`: a new chunk of tokens.
    Break,
    /// `AND`: several prompts at once.
    And,
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::ExtraNetwork => "LoRA and other extra networks are not applied yet",
            Self::Embedding => "embeddings are not loaded yet",
            Self::Emphasis | Self::LessEmphasis => "weights are not supported yet",
            Self::Scheduled => "words that change during a run are not supported yet",
            Self::Wildcard => "wildcards are not supported",
            Self::Break => "chunks of tokens are not supported yet",
            Self::And => "several prompts at once are not supported yet",
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
                if let Some((syntax, text)) = bracketed(c, rest) {
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

/// How many bytes a bracket may reach and still be taken for syntax; names and weights are short.
const REACH: usize = 200;

/// What a bracket begins.
fn bracketed(open: char, rest: &str) -> Option<(Syntax, &str)> {
    let close = match open {
        '<' => b'>',
        '(' => b')',
        '[' => b']',
        '{' => b'}',
        _ => return None,
    };
    let end = rest.bytes().take(REACH).position(|byte| byte == close)?;
    let (text, inner) = (&rest[..=end], &rest[1..end]);
    let has = |c| inner.contains(c);
    match open {
        '<' => {
            let (kind, name) = inner.split_once(':')?;
            let is_word = kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !kind.is_empty();
            (is_word && !name.is_empty()).then_some((Syntax::ExtraNetwork, text))
        }
        '(' if inner.starts_with('(') => Some((Syntax::Emphasis, text)),
        '(' => {
            let weight = inner.rsplit_once(':')?.1.trim();
            weight.parse::<f32>().is_ok().then_some((Syntax::Emphasis, text))
        }
        '[' if has(':') || has('|') => Some((Syntax::Scheduled, text)),
        '[' => (!inner.trim().is_empty()).then_some((Syntax::LessEmphasis, text)),
        _ if inner.starts_with('{') => Some((Syntax::Emphasis, text)),
        _ => has('|').then_some((Syntax::Wildcard, text)),
    }
}

/// What a word at the start of `rest` means.
fn word(rest: &str) -> Option<(Syntax, &str)> {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ')' | ']' | '>')).unwrap_or(rest.len());
    let word = &rest[..end];
    match word {
        "BREAK" => Some((Syntax::Break, word)),
        "AND" => Some((Syntax::And, word)),
        _ if word.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("embedding:")) && word.len() > 10 => {
            Some((Syntax::Embedding, word))
        }
        _ => {
            let name = word.strip_prefix("__")?.split_once("__")?.0;
            (!name.is_empty()).then_some((Syntax::Wildcard, word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_with_its_place() {
        for (prompt, expected) in [
            ("a cat <lora:fur:0.8>, <lora:b:1>", vec![(Syntax::ExtraNetwork, "<lora:fur:0.8>")]),
            ("<hypernet:x:1> cat", vec![(Syntax::ExtraNetwork, "<hypernet:x:1>")]),
            ("a (cat:1.4) and (dog:0.5)", vec![(Syntax::Emphasis, "(cat:1.4)")]),
            ("a ((cat))", vec![(Syntax::Emphasis, "((cat)")]),
            ("a {{cat}}", vec![(Syntax::Emphasis, "{{cat}")]),
            ("a [cat]", vec![(Syntax::LessEmphasis, "[cat]")]),
            ("a [cat:dog:0.5]", vec![(Syntax::Scheduled, "[cat:dog:0.5]")]),
            ("a [cat|dog]", vec![(Syntax::Scheduled, "[cat|dog]")]),
            ("a {red|blue} cat", vec![(Syntax::Wildcard, "{red|blue}")]),
            ("a __colour__ cat", vec![(Syntax::Wildcard, "__colour__")]),
            ("embedding:easynegative, cat", vec![(Syntax::Embedding, "embedding:easynegative")]),
            (
                "(embedding:bad:1.2)",
                vec![(Syntax::Emphasis, "(embedding:bad:1.2)"), (Syntax::Embedding, "embedding:bad:1.2")],
            ),
            ("a cat BREAK a dog", vec![(Syntax::Break, "BREAK")]),
            ("a cat AND a dog", vec![(Syntax::And, "AND")]),
            ("a cat,AND,dog", vec![(Syntax::And, "AND")]),
        ] {
            let found = PlainWords::of(prompt);
            let found: Vec<_> = found.iter().map(|p| (p.syntax, p.text.as_str())).collect();
            assert_eq!(found, expected, "{prompt}");
        }
    }

    #[test]
    fn plain_words_are_no_syntax() {
        for prompt in [
            "a cat (on a mat), 3:4, time 12:30",
            "a \\(cat:1.4\\) \\[x\\]",
            "I <3 you, a > b, x<y:z",
            "the band ANDROID, a breakfast, BREAKFAST, and",
            "a __ b, snake__case, -- __init",
            "(a",
            "[]",
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
        PlainWords::of(&"([<{".repeat(1000));
        assert!(start.elapsed().as_secs() < 5);
    }
}
