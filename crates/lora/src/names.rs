//! Which module of a model an adapter means.

use std::collections::HashMap;

use diffusion_engine::family::{Duty, Span};

use crate::Target;

/// The modules of a model's parts, by every name that they have.
pub(crate) struct Names<'t> {
    targets: &'t [Target],
    /// By their names with `_` for every point: which part, and which of its rows.
    modules: HashMap<String, Vec<(usize, Vec<Span>)>>,
}

/// Words of which what stands before a module's name is made, and which part they mean.
const WORDS: &[(&str, Meant)] = &[
    ("lora", Meant::Any),
    ("lycoris", Meant::Any),
    ("base", Meant::Any),
    ("model", Meant::Any),
    ("encoders", Meant::Any),
    ("default", Meant::Any),
    ("unet", Meant::Denoiser),
    ("transformer", Meant::Denoiser),
    ("diffusion", Meant::Denoiser),
    ("dit", Meant::Denoiser),
    ("te", Meant::First),
    ("te1", Meant::First),
    ("te2", Meant::Second),
    ("te3", Meant::Third),
    ("text", Meant::First),
    ("encoder", Meant::Any),
    ("clip", Meant::First),
    ("l", Meant::First),
    ("h", Meant::First),
    ("g", Meant::Second),
    ("t5", Meant::Third),
    ("t5xxl", Meant::Third),
    ("1", Meant::First),
    ("2", Meant::Second),
    ("3", Meant::Third),
];

/// Which part of a model a prefix means: text encoders are counted as Stable Diffusion 3 has them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meant {
    Any,
    Denoiser,
    First,
    Second,
    Third,
}

impl Meant {
    /// The meaning of two words behind each other: that of a text encoder goes before the `transformer` in it, and a number before
    /// `text_encoder`.
    fn then(self, next: Self) -> Self {
        let rank = |meant| match meant {
            Self::Any => 0,
            Self::Denoiser => 1,
            Self::First => 2,
            Self::Second | Self::Third => 3,
        };
        if rank(next) > rank(self) { next } else { self }
    }

    /// Whether it may be a part. T5 stands second in Flux, and some programs count it so.
    fn may_be(self, target: &Target) -> bool {
        let is_t5 = target.duty == Duty::T5;
        let is_second = target.part.ends_with("_g");
        match self {
            Self::Any => true,
            Self::Denoiser => target.duty == Duty::DENOISER,
            Self::First => is_t5 || target.duty == Duty::CLIP && !is_second,
            Self::Second => is_t5 || target.duty == Duty::CLIP && is_second,
            Self::Third => is_t5,
        }
    }
}

impl<'t> Names<'t> {
    /// Those of a model's parts.
    pub(crate) fn of(targets: &'t [Target]) -> Self {
        let mut modules: HashMap<String, Vec<(usize, Vec<Span>)>> = HashMap::new();
        for (part, target) in targets.iter().enumerate() {
            let own = target.layout.needs().iter().filter_map(|need| module_of(&need.name));
            let own = own.map(|module| (module, vec![Span { rows: None, module: module.to_owned(), start: 0 }]));
            let others = target.spellings.iter().map(|spelling| (spelling.name.as_str(), spelling.spans.clone()));
            for (name, spans) in own.chain(others) {
                let known = modules.entry(joined(name)).or_default();
                if known.iter().all(|(of, _)| *of != part) {
                    known.push((part, spans));
                }
            }
        }
        Self { targets, modules }
    }

    /// The part and the rows that a module's name in a file means; `None` where the model has no such module.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, &[Span])> {
        let name = joined(name);
        let (mut rest, mut meant) = (name.as_str(), Meant::Any);
        loop {
            let fits = |(part, _): &&(usize, Vec<Span>)| meant.may_be(&self.targets[*part]);
            if let Some((part, spans)) = self.modules.get(rest).and_then(|known| known.iter().find(fits)) {
                return Some((*part, spans));
            }
            let (word, behind) = rest.split_once('_')?;
            let (_, next) = WORDS.iter().find(|(known, _)| *known == word)?;
            (rest, meant) = (behind, meant.then(*next));
        }
    }

    /// The module's name that is the most like one which the model does not have.
    pub(crate) fn nearest(&self, name: &str) -> Option<String> {
        let name = joined(name);
        let alike = |known: &str| {
            let same = |(a, b): &(u8, u8)| a == b;
            let ends = known.bytes().rev().zip(name.bytes().rev()).take_while(same).count();
            let bare = prefixless(&name);
            let starts = known.bytes().zip(bare.bytes()).take_while(same).count();
            (ends + starts, std::cmp::Reverse(known.len()))
        };
        let all = self.targets.iter().flat_map(|target| target.layout.needs()).filter_map(|need| module_of(&need.name));
        let spelled = self.targets.iter().flat_map(|target| &target.spellings).map(|spelling| spelling.name.as_str());
        all.chain(spelled).max_by_key(|known| (alike(&joined(known)), std::cmp::Reverse(*known))).map(str::to_owned)
    }
}

/// A name behind all words that may stand before a module's.
fn prefixless(name: &str) -> &str {
    let mut rest = name;
    while let Some((word, behind)) = rest.split_once('_')
        && WORDS.iter().any(|(known, _)| *known == word)
    {
        rest = behind;
    }
    rest
}

/// The module of a tensor that adapters can change.
fn module_of(tensor: &str) -> Option<&str> {
    let (module, leaf) = tensor.rsplit_once('.')?;
    matches!(leaf, "weight" | "scale").then_some(module)
}

/// A name as programs join its steps.
fn joined(name: &str) -> String {
    name.replace(['.', ':'], "_")
}
