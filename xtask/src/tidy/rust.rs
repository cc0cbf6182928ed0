//! Rules for Rust files: of a length to read, no `unsafe` but where it is argued for, no note without an issue.
//!
//! Reads code and comments apart, so that neither a string nor a comment about `unsafe` is taken for the keyword.

use super::Fault;

/// The one memory map, the kernels, and the one place that takes over what a kernel has written.
const UNSAFE_ALLOWED: &[&str] = &[
    "crates/core-tensor/src/mapped.rs",
    "crates/core-tensor/src/cpu.rs",
    "crates/core-tensor/src/cuda/driver.rs",
    "crates/core-tensor/src/cuda/pinned.rs",
    "card/src/driver.rs",
    "card/src/memory.rs",
    "crates/core-tensor/src/vulkan/driver.rs",
    "crates/kernels/",
];

const NOTES: &[&str] = &["TODO", "FIXME"];

/// More than can be read in one go: it is about several things.
const MOST_LINES: usize = 500;

/// The faults of one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Fault> {
    let lines = text.lines().count();
    let long = (lines > MOST_LINES).then(|| {
        let message = format!("{lines} lines, {MOST_LINES} at most: split it by subject");
        Fault::new(path, None, message)
    });
    let words = pieces(text).filter_map(|piece| Some(Fault::new(path, piece.line(text), piece.objection(path, text)?)));
    long.into_iter().chain(words).collect()
}

/// The words and signs of a text with the places where they begin: neither comments nor literals.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let words = pieces(text).filter(|piece| matches!(piece.kind, Kind::Word | Kind::Symbol));
    words.map(|piece| (piece.start, &text[piece.start..piece.end]))
}

/// Whether a file, or the folder that it is in, is among [`UNSAFE_ALLOWED`].
fn is_unsafe_allowed(path: &str) -> bool {
    UNSAFE_ALLOWED.iter().any(|&allowed| path == allowed || allowed.ends_with('/') && path.starts_with(allowed))
}

struct Piece {
    kind: Kind,
    start: usize,
    end: usize,
}

enum Kind {
    /// A keyword, a name or a number.
    Word,
    Comment,
    /// A string or a character.
    Literal,
    /// White space, a bracket, an operator.
    Symbol,
}

impl Piece {
    fn objection(&self, path: &str, text: &str) -> Option<String> {
        let (piece, after) = (&text[self.start..self.end], &text[self.end..]);
        let note = match self.kind {
            Kind::Word if piece == "unsafe" && !is_unsafe_allowed(path) => {
                let allowed = UNSAFE_ALLOWED.join(", ");
                return Some(format!("`unsafe` is allowed in {allowed} only: find a safe way"));
            }
            Kind::Word if piece == "todo" && after.starts_with('!') => "todo!",
            Kind::Word | Kind::Comment => piece.split(|c| !is_word(c)).find(|word| NOTES.contains(word))?,
            Kind::Literal | Kind::Symbol => return None,
        };
        let to_line_end = text[self.start..].split_inclusive('\n').next().unwrap_or_default();
        let comment_or_line = if matches!(self.kind, Kind::Comment) { piece } else { to_line_end };
        let names_issue = comment_or_line.split('#').skip(1).any(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
        let message = || format!("`{note}` without an issue: do it now, or open one and write `#<number>`");
        (!names_issue).then(message)
    }

    /// The line that the piece begins in, counted from 1.
    fn line(&self, text: &str) -> usize {
        text[..self.start].matches('\n').count() + 1
    }
}

/// A Rust file cut into pieces, without a gap.
fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    std::iter::successors(piece_at(text, 0), move |last| piece_at(text, last.end))
}

fn piece_at(text: &str, start: usize) -> Option<Piece> {
    let rest = &text[start..];
    let first = rest.chars().next()?;
    let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let (kind, length) = if rest.starts_with("//") {
        (Kind::Comment, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (Kind::Comment, block_comment(rest))
    } else if let Some(length) = literal(&rest[..word], &rest[word..]) {
        (Kind::Literal, word + length)
    } else if word > 0 {
        (Kind::Word, word)
    } else {
        (Kind::Symbol, first.len_utf8())
    };
    Some(Piece { kind, start, end: start + length })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the block comment that `text` starts with; block comments nest.
fn block_comment(text: &str) -> usize {
    let mut end = "/*".len();
    loop {
        let rest = &text[end..];
        end += match (rest.find("/*"), rest.find("*/")) {
            (Some(open), Some(close)) if open < close => open + block_comment(&rest[open..]),
            (_, Some(close)) => return end + close + "*/".len(),
            (_, None) => return text.len(),
        };
    }
}

/// The length of the literal that `text` starts with, behind its prefix; none if it is no literal.
fn literal(prefix: &str, text: &str) -> Option<usize> {
    let body = text.trim_start_matches('#');
    match prefix {
        "" | "b" | "c" if text.starts_with('"') => Some(1 + through_unescaped('"', &text[1..])),
        "" | "b" if text.starts_with('\'') && !is_lifetime(text) => Some(1 + through_unescaped('\'', &text[1..])),
        "r" | "br" | "cr" if body.starts_with('"') => {
            let hashes = text.len() - body.len();
            let close = format!("\"{}", "#".repeat(hashes));
            Some(body[1..].find(&close).map_or(text.len(), |end| hashes + 1 + end + close.len()))
        }
        _ => None,
    }
}

fn is_lifetime(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    characters.next() != Some('\\') && characters.next() != Some('\'')
}

/// The length of `text` up to its first unescaped `quote`, this included.
fn through_unescaped(quote: char, text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + quote.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_told(path: &str, text: &str) -> Vec<usize> {
        check(path, text).iter().filter_map(|fault| fault.line).collect()
    }

    #[test]
    fn unsafe_is_told_outside_the_memory_map_and_the_kernels() {
        let text = "fn main() {\n    let x = unsafe { *p };\n}\n";
        assert_eq!(lines_told("crates/quant/src/gguf.rs", text), [2]);
        assert_eq!(lines_told("crates/core-tensor/src/ops.rs", text), [2]);
        assert_eq!(lines_told("crates/core-tensor/src/mapped.rs", text), [0; 0]);
        assert_eq!(lines_told("crates/kernels/src/simd.rs", text), [0; 0]);
    }

    #[test]
    fn the_word_unsafe_elsewhere_is_no_keyword() {
        for text in [
            "// unsafe\n",
            "/* a /* nested */ unsafe */ fn f() {}\n",
            "const A: &str = \"unsafe\";\n",
            "const A: &str = \"\\\"unsafe\";\n",
            "const A: &str = r#\"\" unsafe\"#;\n",
            "const A: &[u8] = br\"unsafe\";\n",
            "const A: &str = \"first \\\n unsafe\";\n",
            "#![forbid(unsafe_code)]\n",
            "const QUOTE: char = '\"'; // unsafe \"\n",
            "const QUOTE: char = '\\''; const A: &str = \"unsafe\";\n",
        ] {
            assert_eq!(check("crates/flux/src/rope.rs", text), [], "{text}");
        }
    }

    #[test]
    fn literals_do_not_hide_the_code_behind_them() {
        for text in [
            "f('\"', unsafe { g() })",
            "f('\\u{22}', unsafe { g() })",
            "fn f<'a>(x: &'a str) { unsafe { g(x) } }",
            "f(r#\"\"#, unsafe { g() })",
            "f(b\"\\\\\", unsafe { g() })",
            "f(r#type, unsafe { g() })",
            "/* \" */ unsafe { g() }",
        ] {
            assert_eq!(lines_told("crates/flux/src/rope.rs", text), [1], "{text}");
        }
        assert_eq!(lines_told("crates/flux/src/rope.rs", "f(\"a\\\nb\");\nunsafe { g() }"), [3]);
    }

    #[test]
    fn a_note_needs_an_issue() {
        let text = "// TODO: faster\n// TODO(#12): faster\nfn f() { todo!() }\nfn g() { todo!(\"#7\") }\n/* FIXME */\n";
        assert_eq!(lines_told("crates/flux/src/rope.rs", text), [1, 3, 5]);
        assert_eq!(
            check("crates/flux/src/rope.rs", "// FIXME\n")[0].to_string(),
            "crates/flux/src/rope.rs:1: `FIXME` without an issue: do it now, or open one and write `#<number>`"
        );
    }

    #[test]
    fn a_string_or_a_longer_word_is_no_note() {
        for text in ["const A: &str = \"TODO\";\n", "// TODOS\n", "fn todo() {}\n"] {
            assert_eq!(check("crates/flux/src/rope.rs", text), [], "{text}");
        }
    }

    #[test]
    fn a_long_file_is_told_with_its_length() {
        let lines = |count: usize| "fn f() {}\n".repeat(count);
        assert_eq!(check("crates/flux/src/rope.rs", &lines(500)), []);
        let [fault] = <[Fault; 1]>::try_from(check("crates/flux/src/rope.rs", &lines(501))).unwrap();
        assert_eq!(fault.to_string(), "crates/flux/src/rope.rs: 501 lines, 500 at most: split it by subject");
    }
}
