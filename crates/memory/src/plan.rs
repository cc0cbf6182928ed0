use crate::{Bytes, Error};

/// What lives as long as a run does: a part of a model, or whatever else is held from its beginning to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is called in a report.
    pub name: String,
    /// What it takes when it is unpacked.
    pub unpacked: Bytes,
    /// What it takes when as much of it as possible stays in its file.
    pub mapped: Bytes,
    /// Whether most of it stays in its file in any case.
    pub in_file: bool,
    /// What all of its parameters would take if they were unpacked; nothing for what has none.
    pub weights: Bytes,
}

impl Part {
    /// What takes the same in any case.
    pub fn fixed(name: impl Into<String>, bytes: Bytes) -> Self {
        Self { name: name.into(), unpacked: bytes, mapped: bytes, in_file: false, weights: Bytes(0) }
    }

    /// What it takes where it is unpacked, or where it is not.
    pub fn bytes(&self, unpacked: bool) -> Bytes {
        if unpacked { self.unpacked } else { self.mapped }
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
}

impl Stage {
    /// What it holds together.
    pub fn total(&self) -> Bytes {
        sum(self.holds.iter().map(|held| held.bytes))
    }
}

/// What a run holds: its parts all the time, of which some are unpacked, and the stages in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each part, and whether it is unpacked.
    pub parts: Vec<(Part, bool)>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Unpacks what fits: all parts if it can, otherwise it leaves the largest in their files, one after the other.
    ///
    /// # Errors
    /// [`Error::TooLittle`] if the run doesn't fit even when all parts stay in their files.
    pub fn under(ceiling: Bytes, parts: Vec<Part>, stages: Vec<Stage>) -> Result<Self, Error> {
        let mut plan = Self { parts: parts.into_iter().map(|part| (part, true)).collect(), stages };
        while plan.total() > ceiling {
            let largest = (plan.parts.iter_mut())
                .filter(|(part, unpacked)| *unpacked && part.has_a_choice())
                .max_by_key(|(part, _)| part.unpacked);
            let Some((_, unpacked)) = largest else {
                return Err(Error::TooLittle { needed: plan.total(), ceiling, parts: plan.described() });
            };
            *unpacked = false;
        }
        Ok(plan)
    }

    /// The most that the run holds: all parts, and the largest of the stages.
    pub fn total(&self) -> Bytes {
        sum([self.resident(), self.largest().map_or(Bytes(0), Stage::total)])
    }

    /// What the run holds at the peak of a stage; nothing for a stage that it has not.
    pub fn at(&self, stage: &str) -> Option<Bytes> {
        let most = self.stages.iter().filter(|of| of.name == stage).map(Stage::total).max()?;
        Some(sum([self.resident(), most]))
    }

    /// What the parts hold together.
    pub fn resident(&self) -> Bytes {
        sum(self.parts.iter().map(|(part, unpacked)| part.bytes(*unpacked)))
    }

    /// The stage that holds the most.
    pub fn largest(&self) -> Option<&Stage> {
        // The first of equals.
        self.stages.iter().rev().max_by_key(|stage| stage.total())
    }

    /// Whether the part of this name is unpacked.
    pub fn unpacks(&self, name: &str) -> bool {
        self.parts.iter().any(|(part, unpacked)| part.name == name && *unpacked)
    }

    fn described(&self) -> String {
        let parts = self.parts.iter().map(|(part, unpacked)| format!("{} {}", part.name, part.bytes(*unpacked)));
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
        let held = |&(name, mib): &(&str, u64)| Held { name: name.to_owned(), bytes: Bytes(mib * MIB) };
        Stage { name: name.to_owned(), holds: holds.iter().map(held).collect() }
    }

    #[test]
    fn the_largest_part_stays_in_its_file_first() {
        let parts = vec![part("a", 100, 1), part("b", 450, 5), part("c", 300, 3)];
        let plan = Plan::under(Bytes(500 * MIB), parts, Vec::new()).unwrap();
        assert!(plan.unpacks("a") && !plan.unpacks("b") && plan.unpacks("c"));
        assert_eq!(plan.total(), Bytes(405 * MIB));
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
    fn a_ceiling_below_the_least_is_an_error_that_names_the_parts() {
        let stages = vec![stage("encode", &[("blocks", 1)]), stage("decode", &[("levels", 2)])];
        let error = Plan::under(Bytes(3 * MIB), vec![part("a", 100, 1), part("b", 450, 5)], stages).unwrap_err();
        let text = "the model needs 8.0 MiB, `memory` allows 3.0 MiB (a 1.0 MiB, b 5.0 MiB, decode 2.0 MiB)";
        assert_eq!(error.to_string(), text);
    }
}
