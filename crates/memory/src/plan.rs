use crate::{Bytes, Error};

/// What lives as long as a run does: a part of a model, or whatever else is held from its beginning to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is called in a report.
    pub name: String,
    /// What it takes when all of it is in memory: unpacked, but for what is computed with as it is stored.
    pub unpacked: Bytes,
    /// What it takes when as much of it as possible stays in its file.
    pub mapped: Bytes,
    /// Whether most of it stays in its file in any case.
    pub in_file: bool,
    /// What all of its parameters would take in memory; nothing for what has none.
    pub weights: Bytes,
    /// What of that would be held as it is stored.
    pub as_stored: Bytes,
    /// Whether some of it can be unpacked and the rest left in its file, to the byte as far as a plan goes.
    pub in_shares: bool,
}

/// How much of a part is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    All,
    /// What takes so much, beside what it takes in any case.
    UpTo(Bytes),
    /// Nothing.
    Nothing,
}

impl Part {
    /// What takes the same in any case.
    pub fn fixed(name: impl Into<String>, bytes: Bytes) -> Self {
        let (weights, as_stored) = (Bytes(0), Bytes(0));
        let (in_file, in_shares) = (false, false);
        Self { name: name.into(), unpacked: bytes, mapped: bytes, in_file, weights, as_stored, in_shares }
    }

    /// What it takes where so much of it is unpacked.
    pub fn bytes(&self, share: Share) -> Bytes {
        match share {
            Share::All => self.unpacked,
            Share::UpTo(more) => Bytes(self.mapped.0.saturating_add(more.0)),
            Share::Nothing => self.mapped,
        }
    }

    /// Whether it can be left in its file.
    pub fn has_a_choice(&self) -> bool {
        self.unpacked != self.mapped
    }
}

/// A stage of a run, and what is held while it lasts, beside the parts. Stages follow each other: of two of them the larger counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it is called in a report.
    pub name: String,
    /// What it holds at its peak, all at once.
    pub holds: Vec<Held>,
}

/// One of the things that a stage holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// What it is.
    pub name: String,
    /// What it takes.
    pub bytes: Bytes,
    /// In how many tiles it is computed, for maps of autoencoders: 1 for the whole, as always with tiny ones.
    pub tiles: Option<usize>,
}

impl Held {
    /// What takes the same in any case.
    pub fn fixed(name: impl Into<String>, bytes: Bytes) -> Self {
        Self { name: name.into(), bytes, tiles: None }
    }
}

impl Stage {
    /// What it holds together.
    pub fn total(&self) -> Bytes {
        sum(self.holds.iter().map(|held| held.bytes))
    }
}

/// What a run holds: its parts all the time, of which some are unpacked or some of one, and the stages in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each part, and how much of it is unpacked.
    pub parts: Vec<(Part, Share)>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Unpacks what fits: all parts if it can, otherwise it leaves the largest in their files, one after the other. Of those that can be
    /// unpacked in shares, the last one gets what is left then.
    ///
    /// # Errors
    /// [`Error::TooLittle`] if the run doesn't fit even when all parts stay in their files.
    pub fn under(ceiling: Bytes, parts: Vec<Part>, stages: Vec<Stage>) -> Result<Self, Error> {
        let mut plan = Self { parts: parts.into_iter().map(|part| (part, Share::All)).collect(), stages };
        let mut last = None;
        while plan.total() > ceiling {
            let largest = (plan.parts.iter_mut().enumerate())
                .filter(|(_, (part, share))| *share == Share::All && part.has_a_choice())
                .max_by_key(|(_, (part, _))| part.unpacked);
            let Some((place, (_, share))) = largest else {
                return Err(Error::TooLittle {
                    needed: plan.total(),
                    ceiling,
                    by: "`memory`".into(),
                    parts: plan.described(),
                });
            };
            *share = Share::Nothing;
            last = Some(place);
        }
        let left = plan.left_of(ceiling);
        let last = last.and_then(|place| plan.parts.get_mut(place)).filter(|(part, _)| part.in_shares && left.0 > 0);
        if let Some((_, share)) = last {
            *share = Share::UpTo(left);
        }
        Ok(plan)
    }

    /// What may be held of things in tiles, in every stage that has some, so that a run fits where all parts stay in their files; `None`
    /// where no stage has any. Whether it fits then is another question: tiles can't be as small as one likes.
    pub fn room(ceiling: Bytes, parts: &[Part], stages: &[Stage]) -> Option<Bytes> {
        let parts = sum(parts.iter().map(|part| part.mapped));
        let rest = |stage: &Stage| {
            let in_tiles = sum(stage.holds.iter().filter(|held| held.tiles.is_some()).map(|held| held.bytes));
            (in_tiles.0 > 0).then(|| sum([parts, Bytes(stage.total().0.saturating_sub(in_tiles.0))]))
        };
        stages.iter().filter_map(rest).max().map(|most| Bytes(ceiling.0.saturating_sub(most.0)))
    }

    /// The most that the run holds: all parts, and the largest of the stages.
    pub fn total(&self) -> Bytes {
        sum([self.resident(), self.largest().map_or(Bytes(0), Stage::total)])
    }

    /// What the run never holds of so many bytes.
    pub fn left_of(&self, ceiling: Bytes) -> Bytes {
        Bytes(ceiling.0.saturating_sub(self.total().0))
    }

    /// What the run holds at the peak of a stage; nothing for a stage that it has not.
    pub fn at(&self, stage: &str) -> Option<Bytes> {
        let most = self.stages.iter().filter(|of| of.name == stage).map(Stage::total).max()?;
        Some(sum([self.resident(), most]))
    }

    /// What the parts hold together.
    pub fn resident(&self) -> Bytes {
        sum(self.parts.iter().map(|(part, share)| part.bytes(*share)))
    }

    /// The stage that holds the most.
    pub fn largest(&self) -> Option<&Stage> {
        // The first of equals.
        self.stages.iter().rev().max_by_key(|stage| stage.total())
    }

    /// The most tiles that something of a stage is computed in, where that is not at once.
    pub fn tiles(&self) -> Option<usize> {
        let tiles = self.stages.iter().flat_map(|stage| &stage.holds).filter_map(|held| held.tiles);
        tiles.max().filter(|tiles| *tiles > 1)
    }

    /// How much of the part of this name is unpacked; nothing of one that it has not.
    pub fn unpacks(&self, name: &str) -> Share {
        self.parts.iter().find(|(part, _)| part.name == name).map_or(Share::Nothing, |(_, share)| *share)
    }

    fn described(&self) -> String {
        let parts = self.parts.iter().map(|(part, share)| format!("{} {}", part.name, part.bytes(*share)));
        let stage = self.largest().map(|stage| format!("{} {}", stage.name, stage.total()));
        parts.chain(stage).collect::<Vec<_>>().join(", ")
    }
}

fn sum(bytes: impl IntoIterator<Item = Bytes>) -> Bytes {
    Bytes(bytes.into_iter().map(|bytes| bytes.0).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn part(name: &str, unpacked: u64, mapped: u64) -> Part {
        Part { mapped: Bytes(mapped * MIB), ..Part::fixed(name, Bytes(unpacked * MIB)) }
    }

    fn stage(name: &str, holds: &[(&str, u64)]) -> Stage {
        let held = |&(name, mib): &(&str, u64)| Held::fixed(name, Bytes(mib * MIB));
        Stage { name: name.to_owned(), holds: holds.iter().map(held).collect() }
    }

    #[test]
    fn the_largest_part_stays_in_its_file_first() {
        let parts = vec![part("a", 100, 1), part("b", 450, 5), part("c", 300, 3)];
        let plan = Plan::under(Bytes(500 * MIB), parts, Vec::new()).unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| plan.unpacks(name)),
            [Share::All, Share::Nothing, Share::All, Share::Nothing]
        );
        assert_eq!(plan.total(), Bytes(405 * MIB));
    }

    #[test]
    fn what_is_left_goes_to_the_last_part_that_stays_in_its_file_where_it_takes_shares() {
        let in_shares = |part: Part| Part { in_shares: true, ..part };
        let parts = || vec![part("a", 100, 1), in_shares(part("b", 450, 5)), in_shares(part("c", 300, 3))];
        let under = |ceiling: u64| Plan::under(Bytes(ceiling * MIB), parts(), vec![stage("encode", &[("blocks", 7)])]);
        let shares = |plan: &Plan| ["a", "b", "c"].map(|name| plan.unpacks(name));
        let plan = under(500).unwrap();
        assert_eq!(shares(&plan), [Share::All, Share::UpTo(Bytes(88 * MIB)), Share::All]);
        assert_eq!(plan.total(), Bytes(500 * MIB));
        let plan = under(150).unwrap();
        assert_eq!(shares(&plan), [Share::All, Share::Nothing, Share::UpTo(Bytes(35 * MIB))]);
        assert_eq!(plan.total(), Bytes(150 * MIB));
        // Nothing is left, or the last one takes no shares.
        assert_eq!(shares(&under(115).unwrap()), [Share::All, Share::Nothing, Share::Nothing]);
        assert_eq!(shares(&under(100).unwrap()), [Share::Nothing; 3]);
        assert_eq!(shares(&under(857).unwrap()), [Share::All; 3]);
    }

    #[test]
    fn of_the_stages_the_largest_counts_and_what_it_holds_counts_together() {
        let stages = vec![stage("encode", &[("blocks", 30)]), stage("decode", &[("levels", 20), ("pixels", 15)])];
        let plan = Plan::under(Bytes(u64::MAX), vec![part("a", 100, 1)], stages).unwrap();
        assert_eq!((plan.total(), plan.resident()), (Bytes(135 * MIB), Bytes(100 * MIB)));
        assert_eq!(plan.largest().map(|stage| &*stage.name), Some("decode"));
        assert_eq!([plan.at("encode"), plan.at("sample")], [Some(Bytes(130 * MIB)), None]);
    }

    #[test]
    fn what_is_in_tiles_gets_what_every_stage_leaves() {
        let tiled = |name: &str, others: u64| {
            let maps = Held { tiles: Some(1), ..Held::fixed("maps", Bytes(500 * MIB)) };
            let mut stage = stage(name, &[("others", others)]);
            stage.holds.push(maps);
            stage
        };
        let room = |ceiling: u64, stages: &[Stage]| {
            let parts = [part("a", 100, 10), part("b", 50, 50)];
            Plan::room(Bytes(ceiling * MIB), &parts, stages).map(|room| room.0 / MIB)
        };
        let [sample, enlarge, decode] = [stage("sample", &[("maps", 400)]), tiled("enlarge", 30), tiled("decode", 7)];
        assert_eq!(room(300, &[sample.clone(), decode.clone()]), Some(233));
        assert_eq!(room(300, &[sample.clone(), enlarge.clone(), decode.clone()]), Some(210));
        assert_eq!(room(60, &[enlarge, decode]), Some(0));
        assert_eq!(room(300, &[sample]), None);
    }

    #[test]
    fn a_ceiling_below_the_least_is_an_error_that_names_the_parts() {
        let stages = vec![stage("encode", &[("blocks", 1)]), stage("decode", &[("levels", 2)])];
        let error = Plan::under(Bytes(3 * MIB), vec![part("a", 100, 1), part("b", 450, 5)], stages).unwrap_err();
        let text = "the model needs 8.0 MiB, `memory` is 3.0 MiB (a 1.0 MiB, b 5.0 MiB, decode 2.0 MiB)";
        assert_eq!(error.to_string(), text);
    }
}
