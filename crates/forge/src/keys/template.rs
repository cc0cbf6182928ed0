use diffusion_engine::{Fallback, Key};

use crate::config::{keys, tables};

/// The widest line.
const COLUMNS: usize = 100;

/// A config of every key, with what it does: each has its default, and those whose default depends on the rest are in comments.
pub fn template() -> String {
    let mut text = comment(
        "Paths are relative to this file, and a flag of `forge txt2img` wins over it. Only the model has to be given.",
    );
    for table in tables() {
        text += &format!("\n# {}\n[{}]\n", table.about, table.name);
        for key in keys().filter(|key| key.table == table.name) {
            text += &format!("\n{}{}", comment(&format!("{}{}", key.docs, how(key))), line(key));
        }
    }
    text
}

/// What a key may be, what it is without a value, and its flag.
fn how(key: &Key) -> String {
    let range = Some(key.kind.range()).filter(|range| !range.is_empty());
    let open = match key.default {
        Fallback::Open { means, .. } => Some(format!("without it {means}")),
        Fallback::Whole(_) | Fallback::Number(_) | Fallback::Text(_) => None,
    };
    let flag = key.flag.map(|flag| format!("flag `--{flag}`"));
    [range, open, flag].into_iter().flatten().map(|part| format!("; {part}")).collect()
}

fn line(key: &Key) -> String {
    match (key.initial(), key.default) {
        (Some(value), _) => format!("{} = {value}\n", key.name),
        (None, Fallback::Open { example, .. }) => format!("# {} = {example}\n", key.name),
        (None, _) => String::new(),
    }
}

/// The text as lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= COLUMNS) {
            Some(line) => *line += &format!(" {word}"),
            None => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n") + "\n"
}
