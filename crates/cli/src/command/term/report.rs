use std::{
    error::Error as _,
    io::{ErrorKind, Write, stderr, stdout},
};

use diffusion_engine::Catalog;
use samplers::{End, Param};
use serde_json::json;

use crate::error::{Error, Result};

/// Prints a line of results. Text from files can't command the terminal: control characters are shown, not sent.
///
/// A reader that has gone, such as `head`, is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    written(writeln!(stdout(), "{}", shown(text)))
}

/// What comes of writing results.
pub(crate) fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => {
            Err(forge::Error::Write { path: "standard output".into(), source: source.into() }.into())
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Tells what a person should know, where no run does; as an event among others.
pub(crate) fn note(note: &str, as_event: bool) -> Result<()> {
    if as_event {
        return print_json(&json!({ "event": "note", "note": note }));
    }
    let _ = writeln!(stderr(), "note: {}", shown(note));
    Ok(())
}

/// Text from files can't command the terminal: control characters are shown, not sent.
pub(crate) fn shown(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if commands(c) => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// Whether a terminal does something else with a character than to show it: control characters, what breaks lines, and what turns the
/// direction of writing round.
fn commands(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a value as JSON on one line. What terminals take for commands is escaped as JSON has it.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    let escape = |c: char| if commands(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    print(&value.to_string().chars().map(escape).collect::<String>())
}

/// What is shown of an error's message: names from files may be as long as the file.
const LONGEST_MESSAGE: usize = 2000;

/// What is shown of a line of a cause that quotes several, such as those of a config file.
const LONGEST_LINE: usize = 240;

/// The beginning of a text, which says so.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

/// Prints an error, its causes and what to do about it; with `json` as an event on standard output.
pub(crate) fn report(error: &Error, json: bool) {
    // A line's end in a path must not begin a message of its own.
    let message = cut(&error.to_string(), LONGEST_MESSAGE).replace('\n', "\\n");
    let chain = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = chain.map(|cause| cut(&cause.to_string(), LONGEST_MESSAGE)).collect();
    let hint = error.hint().map(|hint| cut(&hint, LONGEST_MESSAGE));
    if json {
        let value = json!({
            "event": "error", "error": message, "causes": causes, "hint": hint, "code": error.exit_code(),
        });
        let _ = print_json(&value);
        return;
    }
    let mut text = format!("error: {message}\n");
    for cause in causes {
        let lines: Vec<&str> = cause.trim_end().lines().collect();
        let most = if lines.len() > 1 { LONGEST_LINE } else { LONGEST_MESSAGE };
        let lines: Vec<String> = lines.into_iter().map(|line| cut(line, most)).collect();
        text += &format!("  cause: {}\n", lines.join("\n         "));
    }
    if let Some(hint) = hint {
        text += &format!("  hint: {hint}\n");
    }
    let _ = write!(stderr(), "{}", shown(&text));
}

/// Prints the samplers of a registry.
pub(crate) fn list_samplers(registry: &Catalog, as_json: bool) -> Result<()> {
    if as_json {
        let samplers: Vec<_> = (registry.samplers().iter())
            .map(|s| {
                json!({
                    "id": s.id, "label": s.label, "aliases": s.aliases, "about": s.about,
                    "calls_per_step": s.calls.per_step(), "stochastic": s.stochastic, "needs_negative": s.needs_negative,
                    "processes": s.processes.id(), "automatic": s.automatic.id, "options": options(&s.params),
                })
            })
            .collect();
        return print_json(&json!({"samplers": samplers}));
    }
    let mut lines = vec![format!("{:<31} {:<31} calls  noise  models     also known as", "sampler", "label")];
    for s in registry.samplers() {
        let noise = if s.stochastic { "each" } else { "start" };
        let calls = s.calls.per_step().map_or("varies".to_owned(), |n| n.to_string());
        let (models, aliases) = (s.processes.id(), s.aliases.join(", "));
        let line = format!("{:<31} {:<31} {calls:<6} {noise:<6} {models:<10} {aliases}", s.id, s.label);
        lines.push(line.trim_end().to_owned());
    }
    lines.push("\ncalls: model calls in a step; --json tells more, options too".to_owned());
    print(&lines.join("\n"))
}

/// Prints the schedules of a registry.
pub(crate) fn list_schedules(registry: &Catalog, as_json: bool) -> Result<()> {
    if as_json {
        let schedules: Vec<_> = (registry.schedules().iter())
            .map(|s| {
                json!({
                    "id": s.id, "label": s.label, "aliases": s.aliases, "about": s.about, "spaces": s.spaces.id(),
                    "ends_in_zero": s.end == End::Zero, "options": options(&s.params),
                })
            })
            .collect();
        return print_json(&json!({"schedules": schedules}));
    }
    let mut lines = vec![format!("{:<24} {:<26} models    also known as", "schedule", "label")];
    for s in registry.schedules() {
        let line = format!("{:<24} {:<26} {:<9} {}", s.id, s.label, s.spaces.id(), s.aliases.join(", "));
        lines.push(line.trim_end().to_owned());
    }
    print(&lines.join("\n"))
}

fn options(params: &[Param]) -> Vec<serde_json::Value> {
    let option =
        |p: &Param| json!({"name": p.name, "is": p.kind.to_string(), "default": p.kind.default(), "about": p.about});
    params.iter().map(option).collect()
}
