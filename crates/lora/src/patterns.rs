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
    /// The same behind a `^`, which only the whole name of a module fits.
    WholeName(String),
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
    /// It takes more memory than any that somebody wrote.
    TooLarge {
        /// The limit, in bytes.
        most: usize,
    },
}

/// How many expressions a config may still have, whatever prefixes and keys they stand under.
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_EXPRESSIONS)
    }
}

/// The longest expression that is compiled, in bytes.
const LONGEST: usize = 1000;

/// The most expressions of a config, and the memory that each of them may take, 16 MiB for all.
const MOST_EXPRESSIONS: usize = 64;
const LARGEST_PROGRAM: usize = 1 << 18;

impl<T: Copy> Patterns<T> {
    /// Compiles them, which a config's budget pays for.
    ///
    /// # Errors
    /// The pattern that is not taken, and why.
    pub(crate) fn of(all: Vec<(String, T)>, budget: &mut Budget) -> Result<Self, (String, PatternFault)> {
        let compiled = all.into_iter().map(|(text, number)| match Pattern::of(&text, budget) {
            Ok(pattern) => Ok((pattern, number)),
            Err(fault) => Err((text, fault)),
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The number of the first that fits a module's name.
    pub(crate) fn get(&self, module: &str) -> Option<T> {
        let fits = |pattern: &Pattern| match pattern {
            Pattern::Name(name) => {
                before(name, module).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
            Pattern::WholeName(name) => before(name, module) == Some(""),
            // `re.match` takes what begins with the text; the leftmost place is found first.
            Pattern::Expression(regex) => regex.find(module).is_some_and(|found| found.start() == 0),
        };
        self.0.iter().find(|(pattern, _)| fits(pattern)).map(|(_, number)| *number)
    }
}

impl Pattern {
    fn of(text: &str, budget: &mut Budget) -> Result<Self, PatternFault> {
        let behind = text.strip_prefix('^');
        // PEFT puts a `$` behind each pattern, so one more says nothing.
        let name = behind.unwrap_or(text);
        let name = name.strip_suffix('$').unwrap_or(name);
        if !name.contains(['\\', '^', '$', '*', '+', '?', '{', '}', '[', ']', '(', ')', '|']) {
            return Ok(if behind.is_some() { Self::WholeName(name.to_owned()) } else { Self::Name(name.to_owned()) });
        }
        budget.0 = budget.0.checked_sub(1).ok_or(PatternFault::TooMany { most: MOST_EXPRESSIONS })?;
        expression(text).map(Self::Expression)
    }
}

/// What of a module's name stands before an end that a name without operators means; `None` where it ends otherwise.
fn before<'m>(name: &str, module: &'m str) -> Option<&'m str> {
    let mut letters = module.chars();
    let fits = |expected| letters.next_back().is_some_and(|letter| expected == '.' || expected == letter);
    let is_end = name.chars().rev().all(fits);
    is_end.then_some(letters.as_str())
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
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(most) => PatternFault::TooLarge { most },
        error => {
            // A syntax error draws the expression first, and says what is wrong in its last line.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            PatternFault::Unreadable { why: last.trim_start_matches("error: ").to_owned() }
        }
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
            Self::TooMany { most } => write!(f, "expected at most {most} regular expressions in all, found one more"),
            Self::Ambiguous { found } => {
                write!(f, "expected a regular expression that means the same here as in Python, found {found}")
            }
            Self::Unreadable { why } => write!(f, "expected a regular expression without look-around, found: {why}"),
            Self::TooLarge { most } => {
                write!(f, "expected an expression that takes at most {most} bytes, found one that takes more")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[(&str, u32)]) -> Result<Patterns<u32>, (String, PatternFault)> {
        let patterns = patterns.iter().map(|(text, number)| ((*text).to_owned(), *number)).collect();
        Patterns::of(patterns, &mut Budget::default())
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
            ("^a.to_k", "a.to_k", true),
            ("^a.to_k", "a_to_k", true),
            ("^a.to_k", "xa.to_k", false),
            ("^a.to_k", "b.a.to_k", false),
            ("^a.to_k$", "a.to_k", true),
            ("^a.to_k$", "b.a.to_k", false),
            ("^a.to_k", "to_k", false),
            ("^", "to_k", false),
            (r"to_k\$", "to_k", false),
            ("^to_k|to_v", "a.to_k", false),
            ("^to_k|to_v", "a.to_v", true),
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
            (r"(?:\w+\.)*\w+_blocks\.\d+\.\w+\.\w+_k", "a.b.up_blocks.12.attn.to_k", true),
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
        for pattern in ["(?=a)b", "(?<!a)b", r"(a)\1", "(", "[", "*", r"a\Z"] {
            assert!(matches!(why(pattern), PatternFault::Unreadable { .. }), "{pattern}");
        }
        let look = why("(?=a)b").to_string();
        assert!(!look.contains('\n') && look.contains("look-around"), "{look}");
        assert_eq!(why(&"a*".repeat(600)), PatternFault::TooLong { most: 1000, found: 1200 });
        assert_eq!(why(r"\w{1000}{1000}"), PatternFault::TooLarge { most: 1 << 18 });
        let many: Vec<(String, u32)> = (0..65).map(|i| (format!("a{i}+"), i)).collect();
        let of = |all: Vec<_>| Patterns::of(all, &mut Budget::default());
        assert_eq!(of(many).unwrap_err(), ("a64+".into(), PatternFault::TooMany { most: 64 }));
        // Names are as many as a model's modules.
        let names = of((0..5000).map(|i| (format!("a.{i}.to_k"), i)).collect()).unwrap();
        assert_eq!(names.get("b.a.4321.to_k"), Some(4321));
        // and so they are as diffusers writes them
        let names = of((0..500).map(|i| (format!("^a.{i}.to_k"), i)).collect()).unwrap();
        assert_eq!((names.get("a.432.to_k"), names.get("b.a.432.to_k")), (Some(432), None));
    }
}
