use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::{print, print_json};
use forge::{InspectedLora, InspectedPart, Inspection};

use crate::error::Result;

/// Prints what a model file holds.
pub(crate) fn show_inspection(path: &Path, found: &Inspection, as_json: bool) -> Result<()> {
    if as_json {
        let mut value = json!(found);
        value["path"] = json!(path.to_string_lossy());
        return print_json(&value);
    }
    let mut lines = vec![path.display().to_string()];
    match found.parts.as_slice() {
        [] => lines.extend(described(&Described {
            role: &found.role,
            family: &found.family,
            parameters: found.parameters,
            dtypes: &found.dtypes,
            quantised: found.quantised,
            missing: &found.missing,
            training: &[],
            is_other: false,
        })),
        parts => {
            for part in parts {
                if parts.len() > 1 {
                    let under = if part.prefix.is_empty() { "without a prefix" } else { &part.prefix };
                    lines.push(format!("  part        {under}"));
                }
                lines.extend(described(&Described::from(part)));
            }
        }
    }
    lines.extend(found.lora.iter().flat_map(of_lora));
    lines.extend(found.unread.iter().map(|group| match group.tensors {
        1 => format!("  unread      {}", group.first),
        tensors => format!("  unread      {} under {}, such as {}", grouped(tensors as u64), group.under, group.first),
    }));
    lines.extend(found.findings.iter().map(|finding| format!("  note        {finding}")));
    print(&lines.join("\n"))
}

/// What a LoRA says of itself.
fn of_lora(lora: &InspectedLora) -> Vec<String> {
    let InspectedLora { algorithms, ranks, modules, made_for, triggers, words } = lora;
    let ranks = match ranks.as_slice() {
        [] => String::new(),
        [rank] => format!(" of rank {rank}"),
        [first, .., last] => format!(" of ranks {first} to {last}"),
    };
    let line = |name: &str, list: &[String]| (!list.is_empty()).then(|| format!("  {name:<11} {}", list.join(", ")));
    let changes = format!("  changes     {} modules by {}{ranks}", grouped(*modules as u64), algorithms.join(", "));
    let made_for = made_for.iter().map(|model| format!("  made for    {model}"));
    let lists = [line("triggers", triggers), line("brings", words)];
    std::iter::once(changes).chain(made_for).chain(lists.into_iter().flatten()).collect()
}

/// What is told of a part, or of a file that is one thing.
struct Described<'a> {
    role: &'a str,
    family: &'a str,
    parameters: u64,
    dtypes: &'a BTreeMap<String, u64>,
    quantised: Option<&'a str>,
    missing: &'a [String],
    training: &'a [String],
    /// Whether it is a model that no role here takes.
    is_other: bool,
}

impl<'a> From<&'a InspectedPart> for Described<'a> {
    fn from(part: &'a InspectedPart) -> Self {
        Self {
            role: &part.role,
            family: &part.family,
            parameters: part.parameters,
            dtypes: &part.dtypes,
            quantised: part.quantised,
            missing: &part.missing,
            training: &part.training,
            is_other: !part.usable && part.missing.is_empty(),
        }
    }
}

fn described(d: &Described) -> Vec<String> {
    let family = if d.family.is_empty() { String::new() } else { format!(" ({})", d.family) };
    let dtypes: Vec<_> = d.dtypes.iter().map(|(dtype, n)| format!("{dtype} {}", grouped(*n))).collect();
    let mut lines = vec![
        format!("  role        {}{family}", d.role),
        format!("  parameters  {}", grouped(d.parameters)),
        format!("  dtypes      {}", dtypes.join(", ")),
    ];
    lines.extend(d.training.iter().map(|told| format!("  training    {told}")));
    lines.extend(d.quantised.map(|scheme| format!("  quantised   {scheme}")));
    match d.missing {
        [] if d.is_other => lines.push("  usable      no, this engine has no place for it".to_owned()),
        [] => lines.push("  missing     nothing".to_owned()),
        missing => lines.extend(missing.iter().map(|m| format!("  missing     {m}"))),
    }
    lines
}

/// A number in groups of three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, rest) = digits.split_at(first);
    let groups = rest.as_bytes().chunks(3).map(|c| String::from_utf8_lossy(c).into_owned());
    std::iter::once(head.to_owned()).chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(11_901_408_320)],
            ["0", "999", "1,000", "11,901,408,320"]
        );
    }
}
