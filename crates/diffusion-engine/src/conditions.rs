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

    /// What two prompts say, and the list of all that is to be encoded for them.
    pub(crate) fn of<'a>(positive: &'a Script, negative: Option<&'a Script>) -> (Self, Vec<&'a [Piece]>) {
        let mut prompts = Vec::new();
        let of_part = |part: &'a Part, prompts: &mut Vec<&'a [Piece]>, from| Weighted {
            weight: part.weight,
            turns: Turns::of(part, prompts, from),
        };
        let positive = positive.parts.iter().map(|part| of_part(part, &mut prompts, 0)).collect();
        let positives = prompts.len();
        let negative = negative.map(|script| of_part(&script.parts[0], &mut prompts, positives).turns);
        (Self { positive, negative, positives }, prompts)
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
    /// Adds what is not yet on the list behind its first `from`.
    fn of<'a>(part: &'a Part, prompts: &mut Vec<&'a [Piece]>, from: usize) -> Self {
        let mut place = |pieces: &'a [Piece]| {
            let known = prompts[from..].iter().position(|known| *known == pieces);
            known.map_or_else(
                || {
                    prompts.push(pieces);
                    prompts.len() - 1
                },
                |known| from + known,
            )
        };
        Self(part.editions.iter().map(|edition| (edition.until, place(&edition.pieces))).collect())
    }

    fn at(&self, call: usize) -> usize {
        let turn = self.0.iter().find(|(until, _)| call <= *until).or(self.0.last());
        turn.expect("there is at least one turn").1
    }
}
