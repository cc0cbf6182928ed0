//! Numbers for modules by patterns of their names, as PEFT's configs have them.
//!
//! Reference: PEFT 0.21.2 `get_pattern_key`: the first key of the file's order for which `re.match(rf"(.*\.)?({key})$", module)` holds.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Numbers by patterns, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Patterns<T>(Vec<(Pattern, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[derive(Clone, Debug)]
enum Pattern {
    /// No more than letters and points, of which one stands for any letter. diffusers writes one for each module, so these are compared
    /// without compiling them.
    Name(String),
    Expression(Regex),
}

/// Why a pattern of a PEFT config is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternFault {
    /// It is longer than any that somebody wrote.
    TooLong {
        /// The limit, in bytes.
        most: usize,
        /// Its length.
        found: usize,
    },
    /// More regular expressions than anybody wrote; names don't count.
    TooMany {
        /// The limit.
        most: usize,
    },
    /// It has what Python's `re` and the expressions here read differently.
    Ambiguous {
        /// What it has.
        found: &'static str,
    },
    /// It is no regular expression, or one with what is not read here, such as a look ahead.
    Unreadable {
        /// Why, in the words of what compiles it.
        why: String,
    },
}

/// The longest expression that is compiled, in bytes.
const LONGEST: usize = 1000;

/// The most expressions of a config, and the memory that each of them may take: what a file can ask for stays bounded.
const MOST_EXPRESSIONS: usize = 64;
const LARGEST_PROGRAM: usize = 1 << 20;

impl<T: Copy> Patterns<T> {
    /// Compiles them.
    ///
    /// # Errors
    /// The pattern that is not taken, and why.
    pub(crate) fn of(all: Vec<(String, T)>) -> Result<Self, (String, PatternFault)> {
        let mut expressions = 0;
        let compiled = all.into_iter().map(|(text, number)| {
            if !text.contains(['\\', '^', '$', '*', '+', '?', '{', '}', '[', ']', '(', ')', '|']) {
                return Ok((Pattern::Name(text), number));
            }
            expressions += 1;
            let compiled = match expressions > MOST_EXPRESSIONS {
                true => Err(PatternFault::TooMany { most: MOST_EXPRESSIONS }),
                false => expression(&text),
            };
            compiled.map(|regex| (Pattern::Expression(regex), number)).map_err(|fault| (text, fault))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The number of the first that fits a module's name.
    pub(crate) fn get(&self, module: &str) -> Option<T> {
        let fits = |pattern: &Pattern| match pattern {
            Pattern::Name(name) => is_at_end(name, module),
            // `re.match` takes what begins with the text; the leftmost place is found first.
            Pattern::Expression(regex) => regex.find(module).is_some_and(|found| found.start() == 0),
        };
        self.0.iter().find(|(pattern, _)| fits(pattern)).map(|(_, number)| *number)
    }
}

/// Whether a module's name ends with whole steps that a name without operators means.
fn is_at_end(name: &str, module: &str) -> bool {
    let mut letters = module.chars().rev();
    name.chars().rev().all(|expected| letters.next().is_some_and(|letter| expected == '.' || expected == letter))
        && letters.next().is_none_or(|before| before == '.')
}

fn expression(text: &str) -> Result<Regex, PatternFault> {
    if text.len() > LONGEST {
        return Err(PatternFault::TooLong { most: LONGEST, found: text.len() });
    }
    if let Some(found) = ambiguous(text) {
        return Err(PatternFault::Ambiguous { found });
    }
    let built = RegexBuilder::new(&format!(r"(.*\.)?({text})$"))
        .size_limit(LARGEST_PROGRAM)
        .dfa_size_limit(LARGEST_PROGRAM)
        .build();
    built.map_err(|error| {
        // A syntax error draws the expression first, and says what is wrong in its last line.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        PatternFault::Unreadable { why: last.trim_start_matches("error: ").to_owned() }
    })
}

/// What of an expression is one to Python as well as here, but not the same one.
fn ambiguous(text: &str) -> Option<&'static str> {
    let mut letters = text.chars().peekable();
    let mut in_class = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let escaped = letters.next();
                let is_edge = matches!(escaped, Some('b' | 'B')) && letters.peek() == Some(&'{');
                if is_edge || matches!(escaped, Some('<' | '>')) {
                    return Some("an edge of a word other than `\\b`");
                }
            }
            '[' if in_class => return Some("a `[` between brackets"),
            '&' | '-' | '~' if in_class && letters.peek() == Some(&letter) => {
                return Some("`&&`, `--` or `~~` between brackets");
            }
            '[' => {
                in_class = true;
                letters.next_if_eq(&'^');
                letters.next_if_eq(&']');
            }
            ']' => in_class = false,
            '*' | '+' | '?' | '}' if !in_class && letters.peek() == Some(&'+') => {
                return Some("a possessive repetition");
            }
            _ => {}
        }
    }
    None
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::TooLong { most, found } => write!(f, "expected at most {most} bytes, found {found}"),
            Self::TooMany { most } => write!(f, "expected at most {most} regular expressions, found one more"),
            Self::Ambiguous { found } => {
                write!(f, "expected a regular expression that means the same here as in Python, found {found}")
            }
            Self::Unreadable { why } => write!(f, "expected a regular expression without look-around, found: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[(&str, u32)]) -> Result<Patterns<u32>, (String, PatternFault)> {
        Patterns::of(patterns.iter().map(|(text, number)| ((*text).to_owned(), *number)).collect())
    }

    #[test]
    fn a_pattern_is_matched_as_python_matches_it() {
        // What `re.match(rf"(.*\.)?({key})$", module)` of Python 3.11 says.
        for (pattern, module, fits) in [
            ("to_k", "a.attn.to_k", true),
            ("to_k", "to_k", true),
            ("to_k", "a.add_to_k", false),
            ("to_k", "a.to_k.b", false),
            ("attn.to_k", "a.attn.to_k", true),
            ("attn.to_k", "a.attn_to_k", true),
            ("attn.to_k", "xattn.to_k", false),
            ("", "to_k", false),
            ("^to_k", "a.to_k", false),
            ("^to_k", "to_k", true),
            ("^a.*", "a.to_k", true),
            ("to_k$", "a.to_k", true),
            ("to_k|to_v", "a.to_v", true),
            ("to_k|to_v", "a.to_vx", false),
            (r".*attn2\.to_k", "a.attn2.to_k", true),
            (r".*attn2\.to_k", "a.xattn2.to_k", true),
            (r".*attn2\.to_k", "a.attn2_to_k", false),
            (r"blocks\.\d+\.to_[kv]", "a.blocks.12.to_k", true),
            (r"blocks\.\d+\.to_[kv]", "a.blocks.x.to_k", false),
            (r"blocks\.[^]1-3]\.to", "blocks.4.to", true),
            (r"blocks\.[^]1-3]\.to", "blocks.3.to", false),
            (r"(?:up|down)\.to_k", "a.up.to_k", true),
            ("a)(b", "ab", true),
            // Only the last of two ways is held to the end.
            ("a)|(b", "axx", true),
            ("a)|(b", "xxb", false),
        ] {
            assert_eq!(of(&[(pattern, 1)]).unwrap().get(module).is_some(), fits, "{pattern} of {module}");
        }
        let first = of(&[("to_k", 2), ("attn1.to_k", 16), (".*", 3)]).unwrap();
        assert_eq!((first.get("attn1.to_k"), first.get("attn1.to_q")), (Some(2), Some(3)));
    }

    #[test]
    fn a_pattern_that_can_not_be_matched_so_is_refused() {
        let why = |pattern: &str| {
            let (text, fault) = of(&[("to_k", 1), (pattern, 2)]).unwrap_err();
            assert_eq!(text, pattern);
            fault
        };
        for pattern in ["a*+", "a?+", "a{2}+", r"\<a", r"a\>", r"\b{start}a", "[[a]]", "[a&&b]", "[a--b]", "[a~~b]"] {
            assert!(matches!(why(pattern), PatternFault::Ambiguous { .. }), "{pattern}");
        }
        for pattern in ["(?=a)b", "(?<!a)b", r"(a)\1", "(", "[", "*", r"a\Z", r"\w{1000}{1000}"] {
            assert!(matches!(why(pattern), PatternFault::Unreadable { .. }), "{pattern}");
        }
        let look = why("(?=a)b").to_string();
        assert!(!look.contains('\n') && look.contains("look-around"), "{look}");
        assert_eq!(why(&"a*".repeat(600)), PatternFault::TooLong { most: 1000, found: 1200 });
        let many: Vec<(String, u32)> = (0..65).map(|i| (format!("a{i}$"), i)).collect();
        assert_eq!(Patterns::of(many).unwrap_err(), ("a64$".into(), PatternFault::TooMany { most: 64 }));
        // Names are as many as a model's modules.
        let names = Patterns::of((0..5000).map(|i| (format!("a.{i}.to_k"), i)).collect()).unwrap();
        assert_eq!(names.get("b.a.4321.to_k"), Some(4321));
    }
}
