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

/// Where the parameters of a part are.
fn placed(part: &Part, share: Share) -> String {
    match (part.weights, of_parameters(part, share)) {
        (Bytes(0), _) => String::new(),
        (_, Share::All) => "unpacked".to_owned(),
        (weights, Share::UpTo(bytes)) => format!("{bytes} unpacked, the rest of {weights} stays in its file"),
        (weights, Share::Nothing) => format!("stays in its file; {weights} of parameters"),
    }
}

/// How much of a part's parameters is unpacked.
fn of_parameters(part: &Part, share: Share) -> Share {
    if part.in_file { Share::Nothing } else { share }
}

fn held(stage: &Stage) -> String {
    let held = |Held { name, bytes }: &Held| format!("{name} {bytes}");
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
        json!({ "name": part.name, "bytes": part.bytes(*share), "weights": part.weights, "place": place })
    };
    let stage = |stage: &Stage| {
        let holds = stage.holds.iter().map(|Held { name, bytes }| json!({ "name": name, "bytes": bytes }));
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
