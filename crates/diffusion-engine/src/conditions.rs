use crate::{
    Piece,
    prompt::{Part, Script},
};

/// Under which of its prompts the model is asked in each call of a pass.
///
/// The prompts are a list: first those that are said to be drawn, each once, then the negative ones.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// At least one.
    positive: Vec<Weighted>,
    negative: Option<Turns>,
    /// How many of the prompts are positive.
    positives: usize,
}

#[derive(Clone, Debug)]
struct Weighted {
    weight: f32,
    turns: Turns,
}

/// What the words of one prompt come to in a pass, each once, and how often A1111 encodes it.
pub(crate) type Editions<'a> = Vec<(&'a [Piece], usize)>;

/// From call to call: the last call of each, and the prompt's place in the list; at least one.
#[derive(Clone, Debug)]
struct Turns(Vec<(usize, usize)>);

impl Conditions {
    /// One prompt, and a negative one behind it if there is one, the same in all calls.
    pub fn constant(has_negative: bool) -> Self {
        let turns = |prompt| Turns(vec![(usize::MAX, prompt)]);
        let positive = vec![Weighted { weight: 1.0, turns: turns(0) }];
        Self { positive, negative: has_negative.then(|| turns(1)), positives: 1 }
    }

    /// What two prompts say, and what is to be encoded for them: the list of prompts, in stretches of what one of them comes to.
    pub(crate) fn of<'a>(positive: &'a Script, negative: Option<&'a Script>) -> (Self, Vec<Editions<'a>>) {
        let (mut all, mut count) = (Vec::new(), 0);
        let mut turns = |part: &'a Part| {
            let (turns, editions) = Turns::of(part, count);
            count += editions.len();
            all.push(editions);
            turns
        };
        let parts = positive.parts.iter();
        let positive = parts.map(|part| Weighted { weight: part.weight, turns: turns(part) }).collect();
        let negative = negative.map(|script| turns(&script.parts[0]));
        let of_negative = if negative.is_some() { all.last().map_or(0, Vec::len) } else { 0 };
        let positives = all.iter().map(Vec::len).sum::<usize>() - of_negative;
        (Self { positive, negative, positives }, all)
    }

    /// How many of the prompts are positive; the others are negative.
    pub fn positives(&self) -> usize {
        self.positives
    }

    /// The prompts of a call and their weights.
    pub(crate) fn positive(&self, call: usize) -> impl Iterator<Item = (f32, usize)> {
        self.positive.iter().map(move |part| (part.weight, part.turns.at(call)))
    }

    /// The negative prompt of a call, if there is one.
    pub(crate) fn negative(&self, call: usize) -> Option<usize> {
        self.negative.as_ref().map(|turns| turns.at(call))
    }

    /// Whether it is one prompt that counts as it is.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(&self.positive[..], [Weighted { weight: 1.0, .. }])
    }
}

impl Turns {
    /// Those of a part, whose first edition comes to this place in the list, and its editions, each once.
    fn of(part: &Part, first: usize) -> (Self, Editions<'_>) {
        let (mut turns, mut editions) = (Vec::new(), Editions::new());
        for edition in &part.editions {
            let known = editions.iter().position(|(pieces, _)| *pieces == edition.pieces);
            let at = known.unwrap_or_else(|| {
                editions.push((&edition.pieces, 0));
                editions.len() - 1
            });
            editions[at].1 += edition.times;
            turns.push((edition.until, first + at));
        }
        (Self(turns), editions)
    }

    fn at(&self, call: usize) -> usize {
        let turn = self.0.iter().find(|(until, _)| call <= *until).or(self.0.last());
        turn.expect("there is at least one turn").1
    }
}
