//! Random choices: `{red|blue}`, `{2$$a|b|c}`, `__name__`, in the language of the extension sd-dynamic-prompts.

use std::collections::{BTreeMap, BTreeSet};

use super::{PromptFault, comments, random::Random};

/// Gives the text of a wildcard by its name, one choice a line; `None` where there is none of that name, or why it can't be read. A
/// name has `/` between its folders, and `*` for any characters.
pub type Wildcards<'a> = dyn Fn(&str) -> Result<Option<String>, String> + 'a;

/// The deepest that choices may lie in the choices of others, by braces and by wildcards.
const DEEPEST: usize = 32;

/// The most choices that are made for one prompt.
const MOST: usize = 10_000;

/// The longest prompt that choices make, in bytes.
const LONGEST: usize = 64 << 10;

/// What a prompt comes to once its choices are made: by a seed always the same. Its comments are left out, and what stands in them.
///
/// The negative prompt has choices of its own.
///
/// # Errors
/// [`PromptFault::NoWildcard`], [`PromptFault::WildcardFile`], [`PromptFault::Variables`], [`PromptFault::Choices`].
pub fn chosen(template: &str, seed: u64, negative: bool, wildcards: &Wildcards) -> Result<String, PromptFault> {
    let mut choosing =
        Choosing { wildcards, random: Random::of(seed, u64::from(negative)), made: 0, text: String::new() };
    let words = comments::stripped(template);
    choosing.write(&Template::of(&words), 0, words.len(), 0)?;
    Ok(if words == template { choosing.text } else { choosing.text.trim().to_owned() })
}

/// Whether a prompt has choices.
pub fn has_choices(prompt: &str) -> bool {
    let prompt = &*comments::stripped(prompt);
    let template = Template::of(prompt);
    let has_braces = template.braces.values().any(Braces::is_choice);
    has_braces
        || (0..prompt.len()).any(|at| prompt.is_char_boundary(at) && wildcard(prompt, at, prompt.len()).is_some())
}

/// A text and where the braces in it are.
struct Template<'a> {
    text: &'a str,
    /// By where they open.
    braces: BTreeMap<usize, Braces>,
}

/// A pair of braces.
struct Braces {
    end: usize,
    /// Bars inside, but not inside further braces.
    bars: Vec<usize>,
    /// The first two `$$` inside, likewise.
    dollars: Vec<usize>,
}

impl Braces {
    fn is_choice(&self) -> bool {
        !self.bars.is_empty() || !self.dollars.is_empty()
    }
}

impl<'a> Template<'a> {
    fn of(text: &'a str) -> Self {
        let (mut braces, mut open) = (BTreeMap::new(), Vec::<(usize, Braces)>::new());
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'{' => open.push((at, Braces { end: at, bars: Vec::new(), dollars: Vec::new() })),
                b'}' => {
                    if let Some((from, pair)) = open.pop() {
                        braces.insert(from, Braces { end: at, ..pair });
                    }
                }
                b'|' => {
                    if let Some((_, pair)) = open.last_mut() {
                        pair.bars.push(at);
                    }
                }
                b'$' if text[at..].starts_with("$$") => {
                    if let Some((_, pair)) = open.last_mut().filter(|(_, pair)| pair.dollars.len() < 2) {
                        pair.dollars.push(at);
                    }
                    bytes.next();
                }
                _ => {}
            }
        }
        Self { text, braces }
    }
}

/// One of the things that may be chosen: a stretch of a template.
#[derive(Clone, Copy)]
struct Choice {
    from: usize,
    to: usize,
    weight: f64,
}

struct Choosing<'a> {
    wildcards: &'a Wildcards<'a>,
    random: Random,
    made: usize,
    text: String,
}

impl Choosing<'_> {
    /// Writes a stretch of a template, with its choices made.
    fn write(&mut self, template: &Template, from: usize, to: usize, depth: usize) -> Result<(), PromptFault> {
        if depth > DEEPEST {
            return Err(PromptFault::Choices);
        }
        let text = template.text;
        let mut at = from;
        while let Some(c) = text[at..to].chars().next() {
            let escaped = || text[at + 1..to].chars().next().map_or(0, char::len_utf8);
            let pair = if c == '{' { template.braces.get(&at).filter(|pair| pair.end < to) } else { None };
            at = match (c, pair) {
                ('$', _) if text[at..to].starts_with("${") => return Err(PromptFault::Variables),
                ('{', Some(pair)) if pair.is_choice() => {
                    self.write_choice(template, at, pair, depth + 1)?;
                    pair.end + 1
                }
                ('_', _) if let Some(name) = wildcard(text, at, to) => {
                    self.write_wildcard(name, [1, 1], ",", depth + 1)?;
                    at + name.len() + 4
                }
                _ => {
                    let end = at + c.len_utf8() + if c == '\\' { escaped() } else { 0 };
                    self.text += &text[at..end];
                    end
                }
            };
            if self.text.len() > LONGEST {
                return Err(PromptFault::Choices);
            }
        }
        Ok(())
    }

    /// Writes one choice or several of those between braces.
    fn write_choice(
        &mut self,
        template: &Template,
        open: usize,
        pair: &Braces,
        depth: usize,
    ) -> Result<(), PromptFault> {
        let text = template.text;
        let header = Header::of(text, open + 1, pair);
        let marked = |from: usize| if is_chosen_by_mark(&text[from..pair.end]) { from + 1 } else { from };
        let from = header.as_ref().map_or_else(|| marked(open + 1), |header| header.end);
        let bars = || pair.bars.iter().copied().filter(|&bar| bar >= from);
        let starts = std::iter::once(from).chain(bars().map(|bar| bar + 1));
        let choices: Vec<Choice> =
            starts.zip(bars().chain([pair.end])).map(|(from, to)| Choice::of(text, from, to)).collect();
        let (bounds, joint) = header.map_or(([1, 1], ","), |header| (header.bounds(), header.joint));
        if let [Choice { from, to, .. }] = choices[..] {
            // Several of one wildcard are lines of it.
            return match wildcard(text, from, to).filter(|name| from + name.len() + 4 == to) {
                Some(name) => self.write_wildcard(name, bounds, joint, depth),
                None => self.write(template, from, to, depth),
            };
        }
        self.write_some(template, choices, bounds, joint, depth)
    }

    /// Writes some lines of a wildcard.
    fn write_wildcard(&mut self, name: &str, bounds: [usize; 2], joint: &str, depth: usize) -> Result<(), PromptFault> {
        let unmarked = if is_chosen_by_mark(name) { &name[1..] } else { name };
        let name = unmarked.split(['/', '\\']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let text = (self.wildcards)(&name).map_err(|why| PromptFault::WildcardFile { name: name.clone(), why })?;
        let missing = || PromptFault::NoWildcard { name: name.clone() };
        let text = text.ok_or_else(missing)?;
        let template = Template::of(&text);
        let (mut choices, mut known, mut from) = (Vec::new(), BTreeSet::new(), 0);
        for line in text.split_inclusive(['\n', '\r']) {
            let marks = if from == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
            let words = line.find('#').unwrap_or(line.len());
            let choice = Choice::of(&text, from + marks, from + words.max(marks));
            // A line that stands there twice counts once.
            if choice.from < choice.to && known.insert(&text[choice.from..choice.to]) {
                choices.push(choice);
            }
            from += line.len();
        }
        if choices.is_empty() {
            return Err(missing());
        }
        self.write_some(&template, choices, bounds, joint, depth)
    }

    /// Writes as many of the choices as the bounds say, none twice.
    fn write_some(
        &mut self,
        template: &Template,
        mut choices: Vec<Choice>,
        bounds: [usize; 2],
        joint: &str,
        depth: usize,
    ) -> Result<(), PromptFault> {
        let [low, high] = bounds.map(|bound| bound.min(choices.len()));
        self.made += 1;
        if self.made > MOST {
            return Err(PromptFault::Choices);
        }
        let count = if low < high { low + self.random.below(high - low + 1) } else { low };
        for i in 0..count {
            let next = self.random.weighted(choices.iter().map(|choice| choice.weight));
            let Choice { from, to, .. } = choices.remove(next);
            if i > 0 {
                self.text += joint;
            }
            self.write(template, from, to, depth)?;
        }
        Ok(())
    }
}

impl Choice {
    /// A stretch of a text without the spaces around it, and without the weight before it: `3::red`.
    fn of(text: &str, from: usize, to: usize) -> Self {
        let whole = &text[from..to];
        let weighted = whole.split_once("::").and_then(|(weight, behind)| {
            let number = weight.trim();
            let is_number = number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
            Some((is_number.then(|| number.parse::<f64>().ok())??, behind)).filter(|(weight, _)| weight.is_finite())
        });
        let (weight, choice) = weighted.unwrap_or((1.0, whole));
        let from = to - choice.trim_start().len();
        Self { from, to: from + choice.trim().len(), weight }
    }
}

/// What stands before the choices: `2$$`, `1-3$$ and $$`.
struct Header<'a> {
    low: Option<usize>,
    high: Option<usize>,
    /// What stands between two that are chosen.
    joint: &'a str,
    /// Where the choices begin.
    end: usize,
}

impl<'a> Header<'a> {
    fn of(text: &'a str, from: usize, pair: &Braces) -> Option<Self> {
        let (&first, second) = (pair.dollars.first()?, pair.dollars.get(1).copied());
        let count = text[from..first].trim();
        let count = if is_chosen_by_mark(count) { &count[1..] } else { count };
        let number = |text: &str| match text.trim() {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let (low, high) = match count.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => {
                let exact = number(count)??;
                (Some(exact), Some(exact))
            }
        };
        let (joint, end) = match second {
            Some(second) => (&text[first + 2..second], second + 2),
            None => (",", first + 2),
        };
        Some(Self { low, high, joint, end })
    }

    fn bounds(&self) -> [usize; 2] {
        [self.low.unwrap_or(1), self.high.unwrap_or(usize::MAX)]
    }
}

/// Whether something is chosen in a way of its own: `~` at random, `@` in turn, `!` all of them. Here all is chosen at random.
fn is_chosen_by_mark(text: &str) -> bool {
    text.starts_with(['~', '@', '!'])
}

/// The name of a wildcard that stands at a place: `__colour__`, `__folder/name__`.
fn wildcard(text: &str, at: usize, to: usize) -> Option<&str> {
    let before = text[..at].chars().next_back();
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let rest = text[at..to].strip_prefix("__")?;
    let is_of_name = |c: char| c.is_alphanumeric() || "_-/\\.*? &+'".contains(c);
    let mut length = usize::from(is_chosen_by_mark(rest));
    while !rest[length..].starts_with("__") {
        let c = rest[length..].chars().next().filter(|c| is_of_name(*c) && length < 200)?;
        length += c.len_utf8();
    }
    let name = &rest[..length];
    let is_name = name.contains(|c: char| c.is_alphanumeric() || c == '*') && name.trim() == name;
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn lines(name: &str) -> Result<Option<String>, String> {
        let text = match name {
            "colour" => "\u{feff}red\r\n# a comment\n\n  green  \rred\n3::blue # a comment\n",
            "pets/cat" => "a __colour__ cat\n{big|small} cat",
            "loop" => "a __loop__",
            "blow" => "__blow2__ __blow2__ __blow2__",
            "blow2" => "__blow__ __blow__",
            "empty" => "# nothing\n",
            "locked" => return Err("no".to_owned()),
            _ => return Ok(None),
        };
        Ok(Some(text.to_owned()))
    }

    /// All that a template comes to over many seeds.
    fn all(template: &str) -> BTreeSet<String> {
        (0..400).map(|seed| chosen(template, seed, false, &lines).unwrap()).collect()
    }

    fn set(expected: &[&str]) -> BTreeSet<String> {
        expected.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn comments_are_left_out_before_anything_is_chosen() {
        assert_eq!(all("a {b|c} # {d|e} __nothing__\nf"), set(&["a b \nf", "a c \nf"]));
        assert_eq!(all("# __nothing__\n{b|c}"), set(&["b", "c"]));
        assert!(!has_choices("a # {b|c} __nothing__"));
    }

    #[test]
    fn one_of_several_is_chosen_and_all_come_up() {
        assert_eq!(all("a {red|blue} cat"), set(&["a red cat", "a blue cat"]));
        assert_eq!(all("{ a | b |}"), set(&["a", "b", ""]));
        assert_eq!(all("{a|{b|c} d}"), set(&["a", "b d", "c d"]));
        for marked in ["{~a|b}", "{@a|b}", "{!a|b}"] {
            assert_eq!(all(marked), set(&["a", "b"]));
        }
        assert_eq!(all("{0::a|b}"), set(&["b"]));
        let often = (0..1000).filter(|&seed| chosen("{9::a|b}", seed, false, &lines).unwrap() == "a").count();
        assert!((860..940).contains(&often), "{often}");
    }

    #[test]
    fn several_of_several_are_chosen_and_none_twice() {
        assert_eq!(all("{2$$a|b|c}"), set(&["a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]));
        assert_eq!(all("{2$$ and $$a|b}"), set(&["a and b", "b and a"]));
        assert_eq!(all("{1-2$$, $$a|b}"), set(&["a", "b", "a, b", "b, a"]));
        assert_eq!(all("{-1$$a|b}"), set(&["a", "b"]));
        assert_eq!(all("{2-$$a|b}"), set(&["a,b", "b,a"]));
        assert_eq!(all("{5$$a|b}"), set(&["a,b", "b,a"]));
        assert_eq!(all("{0$$a|b}"), set(&[""]));
        assert_eq!(all("{2$$ and $$__colour__}").len(), 6);
    }

    #[test]
    fn wildcards_are_lines_of_their_text() {
        assert_eq!(all("a __colour__ cat"), set(&["a red cat", "a green cat", "a blue cat"]));
        let cats = all("__pets/cat__");
        assert!(cats.contains("a red cat") && cats.contains("small cat") && cats.len() == 5, "{cats:?}");
        let missing = |template| chosen(template, 0, false, &lines).unwrap_err();
        assert_eq!(missing("a __nothing__"), PromptFault::NoWildcard { name: "nothing".into() });
        assert_eq!(missing("a __empty__"), PromptFault::NoWildcard { name: "empty".into() });
        let locked = PromptFault::WildcardFile { name: "locked".into(), why: "no".into() };
        assert_eq!(missing("a __locked__"), locked);
        for same in ["__pets/cat__", "__/pets//cat/__", "__pets\\cat__", "__~pets/cat__", "__@pets/cat__"] {
            assert_eq!(all(same), cats, "{same}");
        }
        // red stands there twice and counts once, and blue thrice as much as another
        let blue = (0..1000).filter(|&seed| chosen("__colour__", seed, false, &lines).unwrap() == "blue").count();
        assert!((550..650).contains(&blue), "{blue}");
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        for prompt in [
            "",
            "a {plain} {{cat}}",
            "a } b { c",
            "\\{a|b\\}",
            "snake__case__x",
            "a __ b__",
            "____",
            "a|b",
            "5$ $$",
            "é{",
        ] {
            assert_eq!(chosen(prompt, 1, false, &lines).unwrap(), prompt);
            assert!(!has_choices(prompt), "{prompt}");
        }
        assert!(has_choices("{a|b}") && has_choices("a __b__"));
        assert_eq!(all("{{a|b}}"), set(&["{a}", "{b}"]));
    }

    #[test]
    fn a_seed_always_chooses_the_same_and_the_negative_prompt_by_itself() {
        let of = |seed, negative| chosen(&"{a|b|c|d}".repeat(8), seed, negative, &lines).unwrap();
        assert_eq!(of(7, false), of(7, false));
        assert_ne!(of(7, false), of(8, false));
        assert_ne!(of(7, false), of(7, true));
        // which stays so from version to version
        assert_eq!([of(0, false), of(42, false)], ["ccbcdadb", "bdbacaac"]);
    }

    #[test]
    fn choices_without_end_are_refused() {
        let refused = |template: &str| chosen(template, 0, false, &lines).unwrap_err();
        assert_eq!(refused("__loop__"), PromptFault::Choices);
        assert_eq!(refused("__blow__"), PromptFault::Choices);
        assert_eq!(refused(&("{1$$".repeat(20_000) + &"}".repeat(20_000))), PromptFault::Choices);
        assert_eq!(refused("${x=!{a|b}} ${x}"), PromptFault::Variables);
        let start = std::time::Instant::now();
        for unit in ["{", "{a|", "}", "__", "{1$$", "_a", "$$", "\\", "{a}"] {
            drop(chosen(&unit.repeat(20_000), 0, false, &lines));
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn every_template_comes_to_a_prompt_or_is_refused(template in "[{}|$_a-c0-3:é\\\\ ~-]{0,40}", seed: u64) {
            drop(chosen(&template, seed, false, &lines));
        }
    }
}
