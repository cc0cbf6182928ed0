//! ComfyUI's graph as nodes and links: `{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "model": ["4", 0]}}}`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{MAX_TEXT, TextFault};

/// How many links are followed one after the other; no graph is so deep.
const DEEPEST: usize = 256;

/// A graph by the names of its nodes.
pub(super) struct Graph<'a>(BTreeMap<&'a str, Node<'a>>);

/// A node of a graph.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) id: &'a str,
    pub(super) class: &'a str,
    inputs: Option<&'a Map<String, Value>>,
}

/// A link: the node that it comes from, and which of its outputs.
pub(super) type Link<'a> = (Node<'a>, u64);

impl<'a> Node<'a> {
    pub(super) fn input(&self, name: &str) -> Option<&'a Value> {
        self.inputs?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.inputs.into_iter().flatten()
    }

    pub(super) fn unknown(&self, what: &'static str) -> TextFault {
        TextFault::UnknownNode { node: self.id.to_owned(), class: self.class.to_owned(), what }
    }
}

impl<'a> Graph<'a> {
    pub(super) fn of(object: &'a Map<String, Value>) -> Self {
        let node = |(id, node): (&'a String, &'a Value)| {
            let class = node.get("class_type")?.as_str()?;
            Some((id.as_str(), Node { id, class, inputs: node.get("inputs").and_then(Value::as_object) }))
        };
        Self(object.iter().filter_map(node).collect())
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Node<'a>> {
        self.0.values().copied()
    }

    /// The node that an input is linked to; none if it is a value or not there.
    pub(super) fn link(&self, node: Node<'a>, input: &str, what: &'static str) -> Result<Option<Link<'a>>, TextFault> {
        let Some((id, output)) = node.input(input).and_then(link) else { return Ok(None) };
        match self.0.get(id.as_str()) {
            Some(node) => Ok(Some((*node, output))),
            None => Err(TextFault::NoNode { node: id, what }),
        }
    }

    /// The first of some inputs that is linked.
    pub(super) fn first_link(
        &self,
        node: Node<'a>,
        inputs: &[&str],
        what: &'static str,
    ) -> Result<Option<Link<'a>>, TextFault> {
        inputs.iter().find_map(|input| self.link(node, input, what).transpose()).transpose()
    }

    /// Every node that one of these is made from, with them.
    pub(super) fn made_from(&self, ends: impl Iterator<Item = Node<'a>>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut left: Vec<_> = ends.collect();
        while let Some(node) = left.pop() {
            if found.insert(node.id) {
                let linked = node.inputs().filter_map(|(_, value)| self.0.get(link(value)?.0.as_str()).copied());
                left.extend(linked);
            }
        }
        found
    }

    /// A number or a name, which may stand in a node of its own.
    pub(super) fn value(&self, node: Node<'a>, input: &str, what: &'static str) -> Result<Option<String>, TextFault> {
        let mut node = node;
        let mut input = input;
        for _ in 0..DEEPEST {
            let Some(next) = self.link(node, input, what)?.map(|(next, _)| next) else {
                return Ok(node.input(input).map(plain));
            };
            // Nodes that compute have several inputs; one that only holds a value has it under a name of these.
            const NAMES: [&str; 10] =
                ["value", "seed", "noise_seed", "int", "float", "number", "Number", "sampler_name", "scheduler", ""];
            let name = NAMES.iter().find(|name| next.input(name).is_some());
            let only = next.inputs().count() == 1;
            input = match (name, next.inputs().next()) {
                (Some(name), _) => name,
                (None, Some((name, _))) if only => name,
                (None, _) => return Err(next.unknown(what)),
            };
            node = next;
        }
        Err(TextFault::Endless { node: node.id.to_owned() })
    }

    /// At which layer from its last a text encoder is left: what such an input says with a minus, where that is not the last.
    pub(super) fn skipped(&self, node: Node<'a>, input: &str) -> Option<String> {
        let layer = node.input(input)?.as_i64()?;
        (layer < -1).then(|| layer.unsigned_abs().to_string())
    }

    /// A text, which may stand in nodes of its own.
    pub(super) fn text(&self, node: Node<'a>, input: &str, what: &'static str) -> Result<Option<String>, TextFault> {
        self.text_within(node, input, what, &mut Bounds { depth: 0, left: MAX_TEXT })
    }

    fn text_within(
        &self,
        node: Node<'a>,
        input: &str,
        what: &'static str,
        bounds: &mut Bounds,
    ) -> Result<Option<String>, TextFault> {
        /// Nodes whose output is another text than their input.
        const MAKERS: [&str; 14] = [
            "random",
            "wildcard",
            "replace",
            "format",
            "regex",
            "generat",
            "llm",
            "gpt",
            "process",
            "style",
            "enhanc",
            "split",
            "translat",
            "interrogat",
        ];
        const HOLDERS: [&str; 6] = ["primitive", "literal", "string", "text", "prompt", "reroute"];
        let endless = || TextFault::Endless { node: node.id.to_owned() };
        let Some((next, _)) = self.link(node, input, what)? else {
            let text = node.input(input).map(plain);
            // One text may be joined with itself again and again.
            let length = text.as_ref().map_or(0, String::len) + 1;
            bounds.left = bounds.left.checked_sub(length).ok_or_else(endless)?;
            return Ok(text);
        };
        let mut deeper = Bounds { depth: bounds.depth + 1, left: bounds.left };
        if deeper.depth > DEEPEST {
            return Err(endless());
        }
        let mut part = |name| Ok(self.text_within(next, name, what, &mut deeper)?.unwrap_or_default());
        if next.class == "StringConcatenate" {
            let text = part("string_a")? + &part("delimiter")? + &part("string_b")?;
            bounds.left = deeper.left;
            return Ok(Some(text));
        }
        if next.input("populated_text").is_some() {
            let text = part("populated_text")?;
            bounds.left = deeper.left;
            return Ok(Some(text));
        }
        let class = next.class.to_lowercase();
        let mut texts = next.inputs().filter(|(_, value)| value.is_string() || link(value).is_some());
        match (texts.next(), texts.next()) {
            (Some((name, _)), None)
                if HOLDERS.iter().any(|word| class.contains(word))
                    && !MAKERS.iter().any(|word| class.contains(word)) =>
            {
                let text = part(name)?;
                bounds.left = deeper.left;
                Ok(Some(text))
            }
            _ => Err(next.unknown(what)),
        }
    }

    /// Goes from node to node until `step` is done or says nothing more.
    pub(super) fn follow<T>(
        &self,
        start: Option<Link<'a>>,
        mut step: impl FnMut(Link<'a>) -> Result<Next<'a, T>, TextFault>,
    ) -> Result<Option<T>, TextFault> {
        let mut at = start;
        for _ in 0..DEEPEST {
            let Some(link) = at else { return Ok(None) };
            match step(link)? {
                Next::Done(found) => return Ok(Some(found)),
                Next::Go(next) => at = next,
            }
        }
        let node = at.map_or_else(String::new, |(node, _)| node.id.to_owned());
        Err(TextFault::Endless { node })
    }
}

/// How deep one is in nodes that hold texts, and how many bytes they may still have.
struct Bounds {
    depth: usize,
    left: usize,
}

/// What comes after a node.
pub(super) enum Next<'a, T> {
    Go(Option<Link<'a>>),
    Done(T),
}

/// A link, as it stands in a graph: `["4", 0]`. Some programs write the output as text.
fn link(value: &Value) -> Option<(String, u64)> {
    match value.as_array()?.as_slice() {
        [Value::String(id), output] => Some((id.clone(), place(output)?)),
        [Value::Number(id), output] => Some((id.to_string(), place(output)?)),
        _ => None,
    }
}

fn place(output: &Value) -> Option<u64> {
    output.as_u64().or_else(|| output.as_str()?.parse().ok())
}

/// A value as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
