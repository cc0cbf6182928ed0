use memory::{Bytes, Held, Part, Plan, Share, Stage};
use serde_json::{Value, json};

use forge::{Ceiling, CeilingOf};

use super::{print, print_json};
use crate::error::Result;

/// Prints what a run holds of memory, as a table or as one JSON object.
pub(crate) fn show_plan(model: &str, plan: &Plan, ceiling: &Ceiling, as_json: bool) -> Result<()> {
    if as_json {
        return print_json(&object(model, plan, ceiling));
    }
    let parts = plan.parts.iter().map(|(part, share)| line(&part.name, part.bytes(*share), &placed(part, *share)));
    let stages = plan.stages.iter().map(|stage| line(&stage.name, stage.total(), &held(stage)));
    let peak = plan.largest().map_or_else(String::new, |stage| format!("all parts, and the stage `{}`", stage.name));
    let ends = [line("at most", plan.total(), &peak), line("allowed", ceiling.bytes, &ceiling.from.to_string())];
    let lines = [model.to_owned()].into_iter().chain(parts).chain(stages).chain(ends);
    print(&lines.collect::<Vec<_>>().join("\n"))
}

fn line(name: &str, bytes: Bytes, about: &str) -> String {
    let bytes = if bytes == Bytes(u64::MAX) { "no limit".to_owned() } else { bytes.to_string() };
    format!("  {name:<22} {bytes:>9}  {about}").trim_end().to_owned()
}

/// Where the parameters of a part are, and as what.
fn placed(part: &Part, share: Share) -> String {
    match (part.weights, of_parameters(part, share), part.as_stored) {
        (Bytes(0), _, _) => String::new(),
        (_, Share::All, Bytes(0)) => "unpacked".to_owned(),
        (weights, Share::All, as_stored) if as_stored == weights => "as stored".to_owned(),
        (_, Share::All, as_stored) => format!("{as_stored} as stored, the rest unpacked"),
        (weights, Share::UpTo(bytes), _) => format!("{bytes} in memory, the rest of {weights} stays in its file"),
        (weights, Share::Nothing, _) => format!("stays in its file; {weights} of parameters"),
    }
}

/// How much of a part's parameters is unpacked.
fn of_parameters(part: &Part, share: Share) -> Share {
    if part.in_file { Share::Nothing } else { share }
}

fn held(stage: &Stage) -> String {
    let held = |Held { name, bytes, tiles }: &Held| match tiles {
        Some(tiles) if *tiles > 1 => format!("{name} {bytes} in {tiles} tiles"),
        _ => format!("{name} {bytes}"),
    };
    stage.holds.iter().filter(|held| held.bytes.0 > 0).map(held).collect::<Vec<_>>().join(", ")
}

fn object(model: &str, plan: &Plan, ceiling: &Ceiling) -> Value {
    let part = |(part, share): &(Part, Share)| {
        let place = match (part.weights, of_parameters(part, *share)) {
            (Bytes(0), _) => None,
            (_, Share::All) => Some("memory"),
            (_, Share::UpTo(_)) => Some("both"),
            (_, Share::Nothing) => Some("file"),
        };
        json!({
            "name": part.name, "bytes": part.bytes(*share), "weights": part.weights, "as_stored": part.as_stored, "place": place,
        })
    };
    let stage = |stage: &Stage| {
        let holds = stage
            .holds
            .iter()
            .map(|Held { name, bytes, tiles }| json!({ "name": name, "bytes": bytes, "tiles": tiles }));
        json!({
            "name": stage.name, "bytes": stage.total(), "holds": holds.collect::<Vec<_>>(), "total": plan.at(&stage.name),
        })
    };
    let (from, folder) = match &ceiling.from {
        CeilingOf::Config => ("memory", None),
        CeilingOf::Machine => ("machine", None),
        CeilingOf::ControlGroup(folder) => ("control group", Some(folder.display().to_string())),
        CeilingOf::AddressSpace => ("address space", None),
        CeilingOf::Data => ("data", None),
        CeilingOf::Device => ("device", None),
        CeilingOf::Nobody => ("nobody", None),
    };
    json!({
        "model": model,
        "bytes": plan.total(),
        "peak": plan.largest().map(|stage| &stage.name),
        "ceiling": { "bytes": Some(ceiling.bytes).filter(|bytes| bytes.0 < u64::MAX), "from": from, "folder": folder },
        "parts": plan.parts.iter().map(part).collect::<Vec<_>>(),
        "stages": plan.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_as_what_they_are_in_memory() {
        let mib = |mib: u64| Bytes(mib << 20);
        let part = |as_stored| Part { weights: mib(10), as_stored: mib(as_stored), ..Part::fixed("unet", mib(10)) };
        for (as_stored, share, expected) in [
            (0, Share::All, "unpacked"),
            (10, Share::All, "as stored"),
            (8, Share::All, "8.0 MiB as stored, the rest unpacked"),
            (8, Share::UpTo(mib(4)), "4.0 MiB in memory, the rest of 10.0 MiB stays in its file"),
            (8, Share::Nothing, "stays in its file; 10.0 MiB of parameters"),
        ] {
            assert_eq!(placed(&part(as_stored), share), expected);
        }
        // what always stays there says so, and what has no parameters nothing
        let in_file = Part { in_file: true, ..part(8) };
        assert_eq!(placed(&in_file, Share::All), "stays in its file; 10.0 MiB of parameters");
        assert_eq!(placed(&Part::fixed("latents", mib(1)), Share::All), "");
    }
}
