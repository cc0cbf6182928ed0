//! Weights and chunks: what `(words:1.2)`, `((words))`, `[words]` and `BREAK` make of a text.
//!
//! The rules are those of A1111 1.10 and Forge (modules/prompt_parser.py `parse_prompt_attention`), also for brackets that no other
//! one closes.

use super::{Emphasis, Piece, PromptFault, letters::is_word};

/// What a round bracket multiplies weights by, and what a square one divides them by.
const STRESS: f64 = 1.1; // modules/prompt_parser.py round_bracket_multiplier

/// The most brackets that are open at once.
pub(super) const MOST_OPEN: usize = 250;

/// The pieces of a text; none where there is no text, while marks without words are a piece without words.
///
/// # Errors
/// [`PromptFault::TooDeep`], [`PromptFault::Weight`].
pub(super) fn pieces(text: &str, emphasis: Emphasis) -> Result<Vec<Piece>, PromptFault> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if emphasis == Emphasis::None {
        return Ok(vec![Piece::plain(text)]);
    }
    let parts = parts(text)?;
    let piece = |part: Part| {
        if part.text == BREAK && part.weight == BREAK_WEIGHT {
            return Ok(Piece::Break);
        }
        let weight = if emphasis == Emphasis::Ignore { 1.0 } else { part.weight as f32 };
        if !weight.is_finite() {
            return Err(PromptFault::Weight { words: part.text });
        }
        Ok(Piece::Words { text: part.text, weight })
    };
    parts.into_iter().map(piece).collect()
}

/// Text, and what it is multiplied by; in double precision, as the weights decide what is one text.
#[derive(Debug)]
struct Part {
    text: String,
    weight: f64,
}

/// How a break stands among the parts. A bracket around it changes the weight and makes a word of it, as in A1111.
const BREAK: &str = "BREAK";
const BREAK_WEIGHT: f64 = -1.0;

fn parts(text: &str) -> Result<Vec<Part>, PromptFault> {
    let mut parts = Parts::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\\' => {
                let escaped = rest[1..].chars().next().filter(|c| matches!(c, '(' | ')' | '[' | ']' | '\\'));
                let taken = 1 + escaped.map_or(0, char::len_utf8);
                parts.add(&rest[1..taken], 1.0);
                taken
            }
            '(' | '[' => {
                parts.open(c)?;
                1
            }
            ':' => match weight(rest) {
                Some((taken, weight)) if !parts.round.is_empty() => {
                    parts.close('(', weight);
                    taken
                }
                Some((taken, _)) => {
                    parts.words(&rest[..taken]);
                    taken
                }
                None => {
                    parts.words(":");
                    1
                }
            },
            ')' if !parts.round.is_empty() => {
                parts.close('(', STRESS);
                1
            }
            ']' if !parts.square.is_empty() => {
                parts.close('[', 1.0 / STRESS);
                1
            }
            ')' | ']' => {
                parts.words(&rest[..1]);
                1
            }
            _ => {
                let taken = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                parts.words(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    Ok(parts.finished())
}

/// What `:1.2)` at the start of a text says, and its length; spaces may stand around the number.
fn weight(text: &str) -> Option<(usize, f64)> {
    let inner = &text[1..];
    let number = inner.trim_start();
    let end = number.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(number.len());
    let (number, behind) = number.split_at(end);
    let closed = behind.trim_start().strip_prefix(')')?;
    Some((text.len() - closed.len(), number.parse().ok()?))
}

/// The parts so far, and the numbers of the parts before which brackets opened that are still open.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Parts {
    fn add(&mut self, text: &str, weight: f64) {
        self.parts.push(Part { text: text.to_owned(), weight });
    }

    /// Words, and the breaks in them.
    fn words(&mut self, text: &str) {
        let mut rest = text;
        while let Some((before, after)) = split_at_break(rest) {
            self.add(before, 1.0);
            self.add(BREAK, BREAK_WEIGHT);
            rest = after;
        }
        self.add(rest, 1.0);
    }

    fn open(&mut self, bracket: char) -> Result<(), PromptFault> {
        if self.round.len() + self.square.len() == MOST_OPEN {
            return Err(PromptFault::TooDeep { most: MOST_OPEN });
        }
        let at = self.parts.len();
        if bracket == '(' {
            self.round.push(at)
        } else {
            self.square.push(at)
        }
        Ok(())
    }

    /// Closes the last bracket of its kind, if one is open.
    fn close(&mut self, bracket: char, weight: f64) {
        let open = if bracket == '(' { self.round.pop() } else { self.square.pop() };
        let inside = open.map_or(&mut [][..], |open| &mut self.parts[open..]);
        inside.iter_mut().for_each(|part| part.weight *= weight);
    }

    /// All of them, once brackets that are still open are closed at the end, and neighbours of the same weight are one.
    fn finished(mut self) -> Vec<Part> {
        // From the outermost in, which decides how products round.
        for (open, weight) in [(&self.round, STRESS), (&self.square, 1.0 / STRESS)] {
            for &open in open {
                self.parts[open..].iter_mut().for_each(|part| part.weight *= weight);
            }
        }
        let mut merged: Vec<Part> = Vec::new();
        for part in self.parts {
            match merged.last_mut() {
                Some(last) if last.weight == part.weight => last.text += &part.text,
                _ => merged.push(part),
            }
        }
        merged.retain(|part| !part.text.is_empty());
        if merged.is_empty() {
            merged.push(Part { text: String::new(), weight: 1.0 });
        }
        merged
    }
}

/// What is before and behind the first word `BREAK`, without the spaces around it.
fn split_at_break(text: &str) -> Option<(&str, &str)> {
    let at = text.match_indices(BREAK).map(|(at, _)| at).find(|&at| is_word(text, at, BREAK.len()))?;
    Some((text[..at].trim_end(), text[at + BREAK.len()..].trim_start()))
}
