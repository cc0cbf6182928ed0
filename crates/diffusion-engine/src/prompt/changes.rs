//! Words that change during a run: `[from:to:when]`, `[to:when]`, `[from::when]`, `[a|b]`.
//!
//! The rules are those of A1111 1.10 and Forge (modules/prompt_parser.py). Their parser leaves some prompts with stray brackets to
//! chance; here a bracket that can begin a change does.

use std::collections::HashSet;

use super::{PromptFault, Timeline};

/// A prompt, as what is written out from its start and where the writing jumps.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    ops: Vec<Op<'a>>,
    /// All times at which something changes.
    whens: Vec<When>,
    /// Whether something changes at each call.
    alternates: bool,
}

#[derive(Debug)]
enum Op<'a> {
    Text(&'a str),
    /// Goes on at `before` up to a call, and at `after` from then on.
    Switch {
        when: When,
        before: usize,
        after: usize,
    },
    /// Goes on at one of these, another one at each call.
    Turn(Vec<usize>),
    Jump(usize),
}

/// When words change.
#[derive(Clone, Copy, Debug)]
struct When {
    number: f64,
    /// A number with a point is a share of the steps.
    is_share: bool,
}

/// Words, and the last call that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edition {
    pub(super) until: usize,
    /// How many of the times at which any words of the prompt change, and of its end, it has.
    pub(super) times: usize,
    pub(super) text: String,
}

impl<'a> Changes<'a> {
    pub(super) fn of(prompt: &'a str) -> Self {
        Parser::default().parsed(prompt).unwrap_or_else(|| Self {
            ops: vec![Op::Text(prompt)],
            whens: Vec::new(),
            alternates: false,
        })
    }

    /// The words from call to call, at least one edition; neighbours differ.
    ///
    /// # Errors
    /// [`PromptFault::Editions`] for more than `most`.
    pub(super) fn editions(&self, time: Timeline, most: usize) -> Result<Vec<Edition>, PromptFault> {
        let mut untils: Vec<usize> = self.whens.iter().map(|when| when.call(time)).filter(|&call| call >= 1).collect();
        if self.alternates {
            untils.extend(1..time.calls);
        }
        untils.push(time.calls);
        untils.sort_unstable();
        untils.dedup();
        let mut editions: Vec<Edition> = Vec::new();
        let mut known = HashSet::new();
        for until in untils {
            let text = self.at(until, time);
            match editions.last_mut() {
                Some(last) if last.text == text => {
                    last.until = until;
                    last.times += 1;
                }
                _ => {
                    if known.len() == most && !known.contains(&text) {
                        return Err(PromptFault::Editions { most });
                    }
                    known.insert(text.clone());
                    editions.push(Edition { until, times: 1, text });
                }
            }
        }
        Ok(editions)
    }

    /// The words of a call, from 1.
    fn at(&self, call: usize, time: Timeline) -> String {
        let (mut text, mut at) = (String::new(), 0);
        while let Some(op) = self.ops.get(at) {
            at = match op {
                Op::Text(words) => {
                    text += words;
                    at + 1
                }
                Op::Switch { when, before, after } => {
                    if call <= when.call(time) {
                        *before
                    } else {
                        *after
                    }
                }
                Op::Turn(options) => options[(call - 1) % options.len()],
                Op::Jump(to) => *to,
            };
        }
        text
    }
}

impl When {
    /// A number as it stands before a closing bracket; spaces may stand around it.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let known = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E');
        let number = text.bytes().all(known).then(|| text.parse().ok())??;
        Some(Self { number, is_share: text.contains('.') })
    }

    /// The last call before the change; none where it is before the first.
    fn call(self, time: Timeline) -> usize {
        let passed = if self.is_share { time.shares_before } else { time.calls_before as f64 };
        let of = if self.is_share { time.calls as f64 } else { 1.0 };
        // Negative numbers become 0.
        (((self.number - passed) * of) as usize).min(time.calls)
    }
}

/// A bracket that is open.
struct Open {
    is_square: bool,
    /// Its place among the ops.
    at: usize,
    /// The colons and bars inside, but not inside further brackets.
    marks: Vec<usize>,
    colons: usize,
    /// Whether something inside is no more than a character, so that it is none itself.
    is_broken: bool,
}

#[derive(Default)]
struct Parser<'a> {
    ops: Vec<Op<'a>>,
    open: Vec<Open>,
    whens: Vec<When>,
    alternates: bool,
}

impl<'a> Parser<'a> {
    /// `None` where the rules have no place for a bar or a backslash: then the whole prompt is words.
    fn parsed(mut self, prompt: &'a str) -> Option<Changes<'a>> {
        let mut at = 0;
        while let Some(c) = prompt[at..].chars().next() {
            let end = match c {
                '[' | '(' | ']' | ')' | ':' | '|' => at + 1,
                _ => words(prompt, at)?,
            };
            let op = self.ops.len();
            self.ops.push(Op::Text(&prompt[at..end]));
            match c {
                '[' | '(' => {
                    let is_square = c == '[';
                    self.open.push(Open { is_square, at: op, marks: Vec::new(), colons: 0, is_broken: false });
                }
                ']' | ')' => self.close(c == ']', op)?,
                ':' | '|' => match self.open.last_mut() {
                    Some(open) => {
                        open.marks.push(op);
                        open.colons += usize::from(c == ':');
                    }
                    None if c == '|' => return None,
                    None => {}
                },
                _ => {}
            }
            at = end;
        }
        self.all_are_characters()?;
        let Self { ops, whens, alternates, .. } = self;
        Some(Changes { ops, whens, alternates })
    }

    fn close(&mut self, is_square: bool, end: usize) -> Option<()> {
        let Some(open) = self.open.pop_if(|open| open.is_square == is_square) else {
            return self.all_are_characters();
        };
        let bars = open.marks.len() - open.colons;
        let when = match (open.is_broken, is_square, open.colons, bars) {
            (false, false, 0 | 1, 0) | (false, true, 0, 0) => return Some(()),
            (false, true, 0, 1..) => {
                self.turn(&open, end);
                return Some(());
            }
            (false, true, 1 | 2, 0) => self.when(&open, end),
            _ => None,
        };
        match when {
            Some(when) => self.switch(&open, when, end),
            None => {
                if bars > 0 {
                    return None;
                }
                if let Some(around) = self.open.last_mut() {
                    around.is_broken = true;
                }
            }
        }
        Some(())
    }

    /// What stands between the last colon and the closing bracket, where that is a number.
    fn when(&self, open: &Open, end: usize) -> Option<When> {
        match &self.ops[open.marks.last()? + 1..end] {
            [Op::Text(text)] => When::of(text),
            _ => None,
        }
    }

    fn switch(&mut self, open: &Open, when: When, end: usize) {
        let [first, last] = [open.marks[0], open.marks[open.marks.len() - 1]];
        let (before, after) = if first == last { (end + 1, open.at + 1) } else { (open.at + 1, first + 1) };
        self.ops[open.at] = Op::Switch { when, before, after };
        self.ops[first] = Op::Jump(end + 1);
        self.ops[last] = Op::Jump(end + 1);
        self.ops[end] = Op::Text("");
        self.whens.push(when);
    }

    fn turn(&mut self, open: &Open, end: usize) {
        let options = std::iter::once(open.at).chain(open.marks.iter().copied()).map(|mark| mark + 1).collect();
        self.ops[open.at] = Op::Turn(options);
        for &mark in &open.marks {
            self.ops[mark] = Op::Jump(end + 1);
        }
        self.ops[end] = Op::Text("");
        self.alternates = true;
    }

    /// All brackets that are open are no more than characters.
    fn all_are_characters(&mut self) -> Option<()> {
        let no_bars = self.open.iter().all(|open| open.marks.len() == open.colons);
        self.open.clear();
        no_bars.then_some(())
    }
}

/// Where words end that begin at a place; a backslash belongs to the character behind it.
fn words(prompt: &str, from: usize) -> Option<usize> {
    let mut chars = prompt[from..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next().filter(|(_, escaped)| *escaped != '\n')?;
            }
            '[' | '(' | ']' | ')' | ':' | '|' => return Some(from + at),
            _ => {}
        }
    }
    Some(prompt.len())
}
