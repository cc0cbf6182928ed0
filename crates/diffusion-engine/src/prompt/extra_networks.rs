//! `<lora:name:0.8>` and its relatives, which are no words.

use std::fmt;

use super::letters::is_of_word;

/// What a prompt names beside its words: a LoRA, a hypernetwork, … .
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraNetwork {
    /// `lora`, `lyco`, `hypernet`, … .
    pub kind: String,
    /// Which one.
    pub name: String,
    /// What stands behind its name, between colons: weights mostly.
    pub args: Vec<String>,
}

impl ExtraNetwork {
    /// Whether it names a LoRA, or one of its relatives, which A1111's older versions called by another word.
    pub fn is_lora(&self) -> bool {
        matches!(&*self.kind, "lora" | "lyco")
    }
}

impl fmt::Display for ExtraNetwork {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "<{}:{}", self.kind, self.name)?;
        self.args.iter().try_for_each(|arg| write!(f, ":{arg}"))?;
        f.write_str(">")
    }
}

/// A prompt without what it names in angle brackets, and that, in its order.
///
/// As A1111 1.10 and Forge have it: modules/extra_networks.py `parse_prompt`.
pub(super) fn split(prompt: &str) -> (String, Vec<ExtraNetwork>) {
    let (mut words, mut networks) = (String::new(), Vec::new());
    let mut rest = prompt;
    while let Some(open) = rest.find('<') {
        let (before, inside) = (&rest[..open], &rest[open + 1..]);
        let Some(end) = inside.find('>') else { break };
        let named = inside[..end].split_once(':');
        let named = named.filter(|(kind, name)| !kind.is_empty() && kind.chars().all(is_of_word) && !name.is_empty());
        words += before;
        rest = match named {
            Some((kind, named)) => {
                let mut items = named.split(':').map(str::to_owned);
                let name = items.next().unwrap_or_default();
                networks.push(ExtraNetwork { kind: kind.to_owned(), name, args: items.collect() });
                &inside[end + 1..]
            }
            None => {
                words.push('<');
                inside
            }
        };
    }
    (words + rest, networks)
}
