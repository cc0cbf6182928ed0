//! What becomes of each tensor, and where it will stand.

use std::sync::Arc;

use core_tensor::{Form, Format, WeightSource};
use diffusion_engine::family::Duty;
use quant::{
    Entry, GGUF_ALIGNMENT, GGUF_RANK,
    encode::{BLOCK, FourBits},
    gguf_header, is_in_gguf, safetensors_header,
};

use super::{
    Kept, NOTES, Recipe, Target,
    merging::{Merging, as_network},
    rules::Place,
};
use crate::{
    Error, Families, Result,
    convert_fault::ConvertFault,
    model_files::{ModelFile, abridged, owner},
};

/// Everything about a file but the bytes of its tensors.
pub(super) struct Plan {
    pub(super) tensors: Vec<Planned>,
    texts: Vec<(String, String)>,
}

/// A tensor that will be written.
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) source: Arc<dyn WeightSource>,
    pub(super) from: Format,
    pub(super) weights: u64,
    pub(super) to: Stored,
    /// Itself, and behind it what belongs to it.
    pub(super) entries: Vec<Entry>,
    /// What describes four bits; empty where there are none.
    pub(super) state: Vec<u8>,
}

/// How a tensor is stored in the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// As it was, byte by byte.
    Copied(Format),
    /// Anew.
    As(Target),
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Copied(format) => format.fmt(f),
            Self::As(target) => target.fmt(f),
        }
    }
}

/// The tensor by which readers tell that matrices of eight-bit floats have scales.
const MARKER: &str = "scaled_fp8";

impl Plan {
    pub(super) fn of(
        file: &ModelFile,
        families: &Families,
        recipe: &Recipe,
        merging: &Merging,
        kept: Kept,
    ) -> Result<Self> {
        let targets = std::iter::once(recipe.target).chain(recipe.rules.iter().map(|rule| rule.target()));
        for target in targets {
            if !target.is_in(kept) {
                let other = if kept == Kept::Gguf { Kept::Safetensors } else { Kept::Gguf };
                let [kept, other] = [kept, other].map(Kept::name);
                return Err(ConvertFault::NotHeld { kept, target: target.name(), other }.into());
            }
        }
        let mut tensors = Vec::new();
        let (source, prefix) = as_network(file, families);
        let merged = merging.over(source.clone())?;
        let parts = &file.parts;
        let mut used = vec![false; recipe.rules.len()];
        for (name, form) in source.manifest().iter() {
            let owner = if prefix.is_some() { parts.first() } else { owner(parts, name).map(|part| &parts[part]) };
            let part = prefix.as_deref().unwrap_or_else(|| owner.map_or("", |part| &part.prefix));
            let bare = name.strip_prefix(part).unwrap_or(name);
            let is_kept = match owner {
                Some(part) => part.kind.duty == Duty::AUTOENCODER,
                None => !parts.is_empty(),
            };
            let shown = if prefix.is_some() { bare } else { name };
            let rule = recipe.rules.iter().position(|rule| rule.matches(shown));
            if let Some(rule) = rule {
                used[rule] = true;
            }
            let place = Place { name: bare, form, is_kept };
            let target = match rule {
                Some(rule) => place.ruled(recipe.rules[rule].target()),
                None => place.usual(recipe.target),
            };
            tensors.push(Planned::of(shown, name, merged.clone(), form, target, kept)?);
        }
        if let Some(rule) = used.iter().position(|used| !used) {
            return Err(ConvertFault::Unmatched { rule: recipe.rules[rule].text().to_owned() }.into());
        }
        // Wide numbers first, so that each begins at a multiple of its size; blocks say nothing of where they like to begin.
        if kept == Kept::Safetensors {
            tensors.sort_by_key(|tensor: &Planned| std::cmp::Reverse(tensor.entries[0].format.bytes()));
        }
        Ok(Self { tensors, texts: texts(file, families, kept) })
    }

    fn entries(&self) -> Vec<Entry> {
        let marked = self.tensors.iter().any(|tensor| matches!(tensor.to, Stored::As(Target::EightBits(_))));
        let marker = Entry { name: MARKER.into(), format: Format::F8_E4M3, shape: vec![0] };
        let entries = self.tensors.iter().flat_map(|tensor| tensor.entries.iter().cloned());
        entries.chain(marked.then_some(marker)).collect()
    }

    /// Everything before the tensors' bytes.
    pub(super) fn header(&self, kept: Kept) -> Result<Vec<u8>> {
        let header = match kept {
            Kept::Gguf => gguf_header(&self.texts, &self.entries()),
            Kept::Safetensors => safetensors_header(&self.texts, &self.entries()),
        };
        header.ok_or_else(|| ConvertFault::Size.into())
    }

    /// How many bytes the tensors take, which the header was made for.
    pub(super) fn bytes(&self, kept: Kept) -> u64 {
        let of = |entry: &Entry| {
            let bytes = entry.bytes().unwrap_or(0);
            if kept == Kept::Gguf { bytes.next_multiple_of(GGUF_ALIGNMENT) } else { bytes }
        };
        self.tensors.iter().flat_map(|tensor| &tensor.entries).map(of).sum()
    }
}

impl Planned {
    fn of(
        shown: &str,
        name: &str,
        source: Arc<dyn WeightSource>,
        form: Form,
        target: Target,
        kept: Kept,
    ) -> Result<Self> {
        let is_held = |format: Format| kept == Kept::Safetensors && !format.is_float() || is_in_gguf(format);
        let to = match form.format.is_float() {
            true => Stored::As(target),
            false if is_held(form.format) => Stored::Copied(form.format),
            false => {
                let (tensor, format) = (abridged(name), form.format.name().to_owned());
                return Err(ConvertFault::Numbers { tensor, format, kept: kept.name() }.into());
            }
        };
        let mut shape = form.shape.to_vec();
        if kept == Kept::Gguf {
            if shape.len() > GGUF_RANK {
                let (tensor, found) = (abridged(name), shape.len());
                return Err(ConvertFault::Rank { tensor, found, most: GGUF_RANK }.into());
            }
            // There are no tensors without weights; a marker is told by its name.
            shape.iter_mut().for_each(|dim| *dim = (*dim).max(1));
        }
        let weights = shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim as u64)).ok_or(ConvertFault::Size)?;
        let entry = |name: String, format, shape| Entry { name, format, shape };
        let whole = |format| entry(shown.to_owned(), format, shape.clone());
        let mut state = Vec::new();
        let entries = match to {
            Stored::Copied(format) | Stored::As(Target::Plain(format)) => vec![whole(format)],
            Stored::As(target @ Target::EightBits(_)) => {
                let layer = shown.strip_suffix("weight").unwrap_or(shown);
                vec![whole(target.format()), entry(format!("{layer}scale_weight"), Format::F32, Vec::new())]
            }
            Stored::As(Target::FourBits(kind)) => {
                state = described(kind, form.format, &shape);
                let bytes = usize::try_from(weights.div_ceil(2)).map_err(|_| ConvertFault::Size)?;
                let beside = |part: &str, format, shape| entry(format!("{shown}.{part}"), format, shape);
                vec![
                    entry(shown.to_owned(), Format::U8, vec![bytes, 1]),
                    beside("absmax", Format::F32, vec![(weights as usize).div_ceil(BLOCK)]),
                    beside("quant_map", Format::F32, vec![16]),
                    beside(&format!("quant_state.bitsandbytes__{}", kind.name()), Format::U8, vec![state.len()]),
                ]
            }
        };
        if entries.iter().any(|entry| entry.bytes().is_none()) {
            return Err(ConvertFault::Size.into());
        }
        Ok(Self { name: name.to_owned(), source, from: form.format, weights, to, entries, state })
    }
}

/// What bitsandbytes' readers are told of a matrix of four bits; filled up with spaces, so that what follows begins where numbers may.
fn described(kind: FourBits, from: Format, shape: &[usize]) -> Vec<u8> {
    let dtype = match from.name() {
        "F32" | "F64" => "float32",
        "BF16" => "bfloat16",
        _ => "float16",
    };
    let json = serde_json::json!({ "quant_type": kind.name(), "blocksize": BLOCK, "dtype": dtype, "shape": shape });
    let mut json = json.to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    json
}

/// What the file says of itself, and what GGUF's readers go by.
fn texts(file: &ModelFile, families: &Families, kept: Kept) -> Vec<(String, String)> {
    let noted = NOTES.iter().filter_map(|key| Some(((*key).to_owned(), file.note(key)?.to_owned())));
    let architecture = match kept {
        Kept::Gguf => variant(file, families).and_then(|variant| architecture(&variant)),
        Kept::Safetensors => None,
    };
    let architecture = architecture.map(|name| ("general.architecture".to_owned(), name.to_owned()));
    let format = (kept == Kept::Safetensors).then(|| ("format".to_owned(), "pt".to_owned()));
    architecture.into_iter().chain(format).chain(noted).collect()
}

/// Which variant of its network the first part is; none of what no role takes.
fn variant(file: &ModelFile, families: &Families) -> Option<String> {
    let kind = &file.parts.first()?.kind;
    let network = kind.network(&families.role_of(kind)?.network);
    Some(file.survey((0, kind), network, None, core_tensor::Place::Device(core_tensor::Compute::F32)).variant)
}

/// What ComfyUI-GGUF and stable-diffusion.cpp call the architecture of a variant.
fn architecture(variant: &str) -> Option<&'static str> {
    let known = [("flux", "flux"), ("sdxl", "sdxl"), ("sd2", "sd2"), ("sd1", "sd1"), ("t5", "t5encoder")];
    known.iter().find(|(start, _)| variant.starts_with(start)).map(|(_, name)| *name)
}

impl From<ConvertFault> for Error {
    fn from(fault: ConvertFault) -> Self {
        Self::Convert(fault.into())
    }
}
