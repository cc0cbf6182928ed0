use std::{
    error::Error as _,
    io::{Write, stderr, stdout},
    path::Path,
};

use forge::{
    Error, Inspection,
    diffusion_engine::Infotext,
    hint,
    samplers::{SAMPLERS, SCHEDULES},
};
use serde_json::json;

/// Prints a line of results. A reader that has gone, such as `head`, ends the command in peace.
pub fn print(text: &str) {
    if writeln!(stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints an error, its causes and what to do about it; with `json` as an event on standard output.
pub fn report(error: &Error, json: bool) {
    let chain = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = chain.map(ToString::to_string).collect();
    if json {
        let value = json!({
            "event": "error", "error": error.to_string(), "causes": causes, "hint": hint(error), "code": error.exit_code(),
        });
        return print(&value.to_string());
    }
    let mut text = format!("error: {error}\n");
    for cause in causes {
        text += &format!("  cause: {}\n", cause.trim_end().replace('\n', "\n         "));
    }
    if let Some(hint) = hint(error) {
        text += &format!("  hint: {hint}\n");
    }
    let _ = write!(stderr(), "{text}");
}

/// Prints the registry.
pub fn list_samplers(as_json: bool) {
    if as_json {
        let samplers: Vec<_> = (SAMPLERS.iter())
            .map(|s| {
                json!({
                    "id": s.id, "label": s.label, "aliases": s.aliases, "evals_per_step": s.evals_per_step,
                    "stochastic": s.stochastic,
                })
            })
            .collect();
        let schedules: Vec<_> =
            SCHEDULES.iter().map(|s| json!({"id": s.id, "label": s.label, "aliases": s.aliases})).collect();
        return print(&json!({"samplers": samplers, "schedules": schedules}).to_string());
    }
    print("sampler          label          calls  noise   also known as");
    for s in SAMPLERS {
        let noise = if s.stochastic { "each" } else { "start" };
        print(&format!("{:<16} {:<14} {:<6} {noise:<7} {}", s.id, s.label, s.evals_per_step, s.aliases.join(", ")));
    }
    print("\nschedule         label          also known as");
    for s in SCHEDULES {
        print(format!("{:<16} {:<14} {}", s.id, s.label, s.aliases.join(", ")).trim_end());
    }
}

/// Prints what a model file holds.
pub fn show_inspection(path: &Path, found: &Inspection, as_json: bool) {
    if as_json {
        let mut value = json!(found);
        value["path"] = json!(path.to_string_lossy());
        return print(&value.to_string());
    }
    print(&format!("{}", path.display()));
    let family = if found.family.is_empty() { String::new() } else { format!(" ({})", found.family) };
    print(&format!("  role        {}{family}", found.role));
    print(&format!("  parameters  {}", grouped(found.parameters)));
    let dtypes: Vec<_> = found.dtypes.iter().map(|(dtype, n)| format!("{dtype} {}", grouped(*n))).collect();
    print(&format!("  dtypes      {}", dtypes.join(", ")));
    if let Some(scheme) = found.quantised {
        print(&format!("  quantised   {scheme}"));
    }
    match found.missing.as_slice() {
        [] => print("  missing     nothing"),
        missing => missing.iter().for_each(|m| print(&format!("  missing     {m}"))),
    }
}

/// Prints what an infotext says as one JSON object.
pub fn show_infotext(infotext: &Infotext) {
    let r = &infotext.request;
    let value = json!({
        "prompt": r.prompt, "negative": r.negative, "seed": r.seed, "steps": r.steps, "sampler": r.sampler.id,
        "schedule": r.schedule.id, "cfg": r.cfg, "guidance": r.guidance, "width": r.size.width, "height": r.size.height,
        "batch": r.batch, "noise": r.noise.id(), "profile": r.profile.id(), "t5_length": r.t5_length,
        "pairs": infotext.pairs.iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>(),
    });
    print(&value.to_string());
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
