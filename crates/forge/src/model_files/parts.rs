//! The parts of a file: which models it holds, and which tensor belongs to which.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use core_tensor::Manifest;

use super::kind::{KINDS, Kind, Layout, Role};

/// A model in a file, under a prefix that all its names have.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is.
    pub(crate) kind: &'static Kind,
    /// Its names' prefix, empty or with a point at its end.
    pub(crate) prefix: String,
}

/// Shapes of tensors under a prefix.
pub(crate) struct Shapes<'a> {
    manifest: &'a Manifest,
    prefix: &'a str,
}

impl<'a> Shapes<'a> {
    /// A dimension of a tensor.
    pub(crate) fn of(&self, name: &str, dimension: usize) -> Option<usize> {
        self.shape(name)?.get(dimension).copied()
    }

    /// How many dimensions a tensor has.
    pub(crate) fn rank(&self, name: &str) -> Option<usize> {
        Some(self.shape(name)?.len())
    }

    /// Columns of the matrix that takes a latent, where those are more than the rows of the matrix that gives one.
    pub(crate) fn beside(&self, input: &str, output: &str) -> Option<usize> {
        let ([_, input], [output, _]) = (self.matrix(input)?, self.matrix(output)?);
        (input > output && output > 0).then_some(input)
    }

    /// How many words a T5 has vectors for.
    pub(crate) fn words(&self) -> Option<usize> {
        let tables = ["shared.weight", "encoder.embed_tokens.weight"];
        let [words, _] = tables.into_iter().find_map(|table| self.matrix(table))?;
        Some(words)
    }

    fn matrix(&self, name: &str) -> Option<[usize; 2]> {
        self.shape(name)?.try_into().ok()
    }

    fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.manifest.get(&format!("{}{name}", self.prefix)).map(|form| form.shape)
    }
}

/// The most prefixes that are looked at; files have one for each part and some of a submodule that looks like a mark.
const MOST_PREFIXES: usize = 1024;

/// The longest prefix that is looked at: it comes back in every message about its tensors.
const LONGEST_PREFIX: usize = 256;

/// The most models of one place that are told of a file; those that are made to be used have one or two.
const MOST_OF_A_PLACE: usize = 8;

/// The models in a file: of each place those that the rows of [`KINDS`] find under a prefix of the file, the most telling first.
pub(crate) fn parts(manifest: &Manifest) -> Vec<Part> {
    let mut found: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for name in manifest.names() {
        let Some(mark) = mark(name) else { continue };
        let prefix = &name[..name.len() - mark.len()];
        if let Some(marks) = found.get_mut(prefix) {
            marks.insert(mark);
        } else if found.len() < MOST_PREFIXES && prefix.len() <= LONGEST_PREFIX {
            found.insert(prefix.to_owned(), [mark].into());
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    for role in Role::ALL {
        let of_role = found.iter().filter_map(|(prefix, marks)| {
            let shapes = Shapes { manifest, prefix };
            let holds = |kind: &&Kind| {
                kind.place == role && kind.marks.iter().all(|mark| marks.contains(mark)) && (kind.fits)(&shapes)
            };
            let kind = KINDS.iter().flat_map(|kinds| kinds.iter()).find(holds)?;
            Some(Part { kind, prefix: prefix.clone() })
        });
        // An average of a model's training lies beside the model; what can be used comes before what can't.
        let mut of_role: Vec<_> = of_role.collect();
        of_role.sort_by_key(|part| (part.kind.usable.is_none(), part.prefix.contains("ema"), part.prefix.len()));
        parts.extend(of_role.into_iter().take(MOST_OF_A_PLACE));
    }
    parts
}

/// The longest mark that a name ends with.
fn mark(name: &str) -> Option<&'static str> {
    static MARKS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
        let mut marks: HashMap<_, Vec<_>> = HashMap::new();
        for mark in KINDS.iter().flat_map(|kinds| kinds.iter()).flat_map(|kind| kind.marks) {
            let same_end = marks.entry(end(mark)).or_default();
            if !same_end.contains(mark) {
                same_end.push(*mark);
            }
        }
        marks.values_mut().for_each(|marks| marks.sort_by_key(|mark| std::cmp::Reverse(mark.len())));
        marks
    });
    let ends_in =
        |mark: &&&str| name.strip_suffix(**mark).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    let last = name.rsplit('.').next()?;
    [end(name), last].into_iter().filter_map(|end| MARKS.get(end)).flatten().find(ends_in).copied()
}

/// The last two steps of a name.
fn end(name: &str) -> &str {
    name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
}

impl Part {
    /// Where it can be used, and in which layout it is.
    pub(crate) fn usable(&self) -> Option<(Role, Layout)> {
        Some((self.kind.place, self.kind.usable?))
    }
}

/// Which of a file's parts a tensor belongs to; `None` where it lies outside of all.
pub(crate) fn owner(parts: &[Part], name: &str) -> Option<usize> {
    let under = |part: &Part| name.strip_prefix(&*part.prefix);
    let longest = parts.iter().filter(|part| under(part).is_some()).map(|part| part.prefix.len()).max()?;
    let mut candidates =
        parts.iter().enumerate().filter(|(_, part)| part.prefix.len() == longest && under(part).is_some());
    let (first, part) = candidates.next()?;
    let rest = &name[part.prefix.len()..];
    if candidates.next().is_none() {
        return Some(first);
    }
    // Several models without a prefix of their own: their first steps tell.
    let place = place_of(rest);
    let same_prefix = |part: &&Part| part.prefix.len() == longest && under(part).is_some();
    let at = |role| parts.iter().position(|part| same_prefix(&part) && part.kind.place == role);
    at(place).or_else(|| at(Role::Transformer)).or(Some(first))
}

/// The place of a tensor by the first steps of its name.
fn place_of(rest: &str) -> Role {
    let begins = |starts: &[&str]| starts.iter().any(|start| rest.starts_with(start));
    if begins(&["shared.", "lm_head.", "spiece_model"])
        || ["encoder.", "decoder."].iter().any(|half| {
            let after = rest.strip_prefix(half).unwrap_or("");
            ["block.", "final_layer_norm.", "embed_tokens."].iter().any(|start| after.starts_with(start))
        })
    {
        Role::T5
    } else if begins(&["text_model.", "vision_model.", "text_projection", "visual_projection", "logit_scale"])
        || begins(&["embeddings.", "encoder.layers.", "final_layer_norm.", "positional_embedding", "token_embedding."])
    {
        Role::Clip
    } else if begins(&["encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "bn."]) {
        Role::Autoencoder
    } else {
        Role::Transformer
    }
}
