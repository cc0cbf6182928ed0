//! The text in a picture that says how it was made: this engine's, which is A1111's form, and those of other programs.
//!
//! A1111's form is the prompt, then `Negative prompt: …`, then one line of `key: value` pairs (keys and order: A1111 1.10
//! `create_infotext`). Prompts that it can't hold unambiguously are repeated as JSON strings in the last line, so [`parse`] always returns
//! what [`render`] was given. Other programs write JSON, which is brought into the same shape.
//!
//! A text is read as its writer meant it, or it is an error that says whose it is. docs/infotext.md has the tables.

mod comfy;
mod dream;
mod flat;
mod graph;
mod json;
mod keys;
mod lines;
mod made_with;
mod pairs;
mod pictures;
mod render;
mod request;
mod settings;
mod unfold;
mod values;

pub use render::render;
pub use request::Reading;

use crate::{Key, TextFault, Writer};

/// The longest text that is read, in bytes. A few kilobytes of a PNG can unpack to gigabytes.
pub(crate) const MAX_TEXT: usize = 2 << 20;

/// What an infotext says.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Infotext {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show.
    pub negative: String,
    /// Its settings as `key: value`, in order; a value that is not plain is JSON.
    pub pairs: Vec<(String, String)>,
    /// Whose it is.
    pub from: Writer,
    /// What else it has, which is nothing that this engine could use: nodes of a graph, objects beside the settings.
    rest: Vec<String>,
    fault: Option<TextFault>,
}

/// Reads an infotext of any program; what it does not have stays empty. `knobs` are the keys that families have of their own.
///
/// A text of which nothing else can be made is a prompt. Whether there is a request in it, [`Infotext::reading`] tells.
pub fn parse(text: &str, knobs: &[Key]) -> Infotext {
    // Text that was Latin-1 may be twice as long as UTF-8.
    if text.len() > 2 * MAX_TEXT {
        return Infotext::faulty(Writer::Unknown, TextFault::TooLong { bytes: text.len() });
    }
    let object = json::read(text, knobs);
    if let Some(Ok(infotext)) = object {
        return infotext;
    }
    match lines::read(text, knobs) {
        Ok(lines) if !lines.pairs.is_empty() => return lines,
        Ok(_) => {}
        Err(fault) => return Infotext::faulty(Writer::Unknown, fault),
    }
    if let Some(Err((from, fault))) = object {
        return Infotext::faulty(from, fault);
    }
    (dream::read(text))
        .or_else(|| json::behind_a_prompt(text, knobs))
        .or_else(|| json::is_json(text).then(|| Infotext::faulty(Writer::Unknown, TextFault::UnknownJson)))
        .unwrap_or_else(|| Infotext { prompt: text.to_owned(), ..Infotext::default() })
}

impl Infotext {
    /// Whether the text is more than words: settings, or another program's form.
    pub fn says_something(&self) -> bool {
        let is_fault = self.fault.as_ref().is_some_and(|fault| *fault != TextFault::UnknownJson);
        !self.pairs.is_empty() || self.from != Writer::Unknown || is_fault
    }
}

#[cfg(test)]
mod tests;
