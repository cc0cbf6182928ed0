//! What becomes of each tensor, and where it will stand.

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{
    Form, Format, Round, WeightSource,
    safetensors::{HEADER_LIMIT, NAME_LIMIT},
};
use diffusion_engine::family::Duty;
use quant::{
    Entry, GGUF_ALIGNMENT, GGUF_RANK,
    encode::{BLOCK, EightBits, FourBits},
    gguf_header, is_in_gguf, safetensors_header,
};

use super::{
    Kept, NOTES, Recipe, Rule, Target,
    merging::{Merging, as_network},
    rules::Place,
};
use crate::{
    Error, Families, Result, beside,
    convert_fault::ConvertFault,
    model_files::{ModelFile, abridged, owner},
};

/// Everything about a file but the bytes of its tensors.
pub(super) struct Plan {
    pub(super) tensors: Vec<Planned>,
    /// Behind them: without weights, but for their names.
    markers: Vec<Entry>,
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
    /// What describes its numbers to readers, in the last of the entries; empty where nothing does.
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

/// The tensor by which readers tell that matrices have scales (`scale_weight`), which they take for E4M3 whatever its own type is. Those of E5M2
/// are described one by one (`comfy_quant`), which those readers know who read such scales at all.
const MARKER: &str = "scaled_fp8";
const MARKED: EightBits = EightBits::E4m3;

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
        let (merged, own) = (merging.over(source.clone())?, file.tensors());
        let parts = &file.parts;
        let beside = match (&prefix, parts.first()) {
            (Some(_), Some(only)) => file.beside_source(0, &only.kind),
            (Some(_) | None, _) => Vec::new(),
        };
        let beside = beside.into_iter().filter_map(|name| Some((name, own.manifest().get(name)?, &own)));
        let named = source.manifest().iter().map(|(name, form)| (name, form, &merged)).chain(beside);
        let mut rules = Used::of(&recipe.rules);
        let mut markers = BTreeMap::new();
        for (name, form, source) in named {
            let owner = if prefix.is_some() { parts.first() } else { owner(parts, name).map(|part| &parts[part]) };
            let part = prefix.as_deref().unwrap_or_else(|| owner.map_or("", |part| &part.prefix));
            let bare = name.strip_prefix(part).unwrap_or(name);
            let is_kept = match owner {
                Some(part) => part.kind.duty == Duty::AUTOENCODER,
                None => !parts.is_empty(),
            };
            let shown = if prefix.is_some() { bare } else { name };
            let place = Place { name: bare, form, is_kept };
            let target = match rules.first(shown) {
                Some(rule) => place.ruled(rule.target()),
                None => place.usual(recipe.target),
            };
            let planned = Planned::of(shown, name, source.clone(), form, target, kept)?;
            if planned.to == Stored::As(Target::EightBits(MARKED)) {
                let prefix = if prefix.is_some() { "" } else { part };
                markers.entry(prefix.to_owned()).or_insert_with(|| shown.to_owned());
            }
            tensors.push(planned);
        }
        rules.are_all_used()?;
        if tensors.is_empty() {
            return Err(ConvertFault::Nothing { path: file.path.clone() }.into());
        }
        each_name_once(&tensors, &markers, kept)?;
        // Wide numbers first, so that each begins at a multiple of its size; blocks say nothing of where they like to begin.
        if kept == Kept::Safetensors {
            tensors.sort_by_key(|tensor: &Planned| std::cmp::Reverse(tensor.entries[0].format.bytes()));
        }
        let marker =
            |prefix: &String| Entry { name: format!("{prefix}{MARKER}"), format: MARKED.format(), shape: vec![0] };
        let markers = markers.keys().map(marker).collect();
        Ok(Self { tensors, markers, texts: texts(file, families, kept)? })
    }

    fn entries(&self) -> Vec<Entry> {
        let entries = self.tensors.iter().flat_map(|tensor| &tensor.entries);
        entries.chain(&self.markers).cloned().collect()
    }

    /// Everything before the tensors' bytes.
    pub(super) fn header(&self, kept: Kept) -> Result<Vec<u8>> {
        let header = match kept {
            Kept::Gguf => gguf_header(&self.texts, &self.entries()),
            Kept::Safetensors => safetensors_header(&self.texts, &self.entries()),
        };
        let header = header.ok_or(ConvertFault::Size)?;
        match (kept, header.len() as u64) {
            (Kept::Safetensors, found) if found > HEADER_LIMIT => {
                Err(ConvertFault::Header { found, most: HEADER_LIMIT }.into())
            }
            _ => Ok(header),
        }
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

/// Rules, and the tensors that they speak of.
struct Used<'r> {
    rules: &'r [Rule],
    /// Of each, whether it is the first for any tensor.
    counts: Vec<bool>,
    /// Of each that is not, a tensor that it speaks of, and the rule that is the first for that.
    taken: Vec<Option<(String, usize)>>,
}

impl<'r> Used<'r> {
    fn of(rules: &'r [Rule]) -> Self {
        Self { rules, counts: vec![false; rules.len()], taken: vec![None; rules.len()] }
    }

    /// The first rule that speaks of a tensor.
    fn first(&mut self, tensor: &str) -> Option<&'r Rule> {
        let first = self.rules.iter().position(|rule| rule.matches(tensor))?;
        self.counts[first] = true;
        for later in first + 1..self.rules.len() {
            if self.taken[later].is_none() && self.rules[later].matches(tensor) {
                self.taken[later] = Some((abridged(tensor), first));
            }
        }
        Some(&self.rules[first])
    }

    /// Finds out whether each rule was of use.
    fn are_all_used(self) -> Result<()> {
        let Some(at) = self.counts.iter().position(|counts| !counts) else { return Ok(()) };
        let text = |rule: usize| self.rules[rule].text().to_owned();
        Err(match &self.taken[at] {
            Some((tensor, earlier)) => {
                ConvertFault::Shadowed { rule: text(at), earlier: text(*earlier), tensor: tensor.clone() }.into()
            }
            None => ConvertFault::Unmatched { rule: text(at) }.into(),
        })
    }
}

/// Finds out whether a reader of the new file would find every tensor by its name.
fn each_name_once(
    tensors: &[Planned],
    markers: &BTreeMap<String, String>,
    kept: Kept,
) -> std::result::Result<(), ConvertFault> {
    /// What a header of safetensors has beside tensors.
    const METADATA: &str = "__metadata__";
    let of_tensors =
        tensors.iter().flat_map(|tensor| tensor.entries.iter().map(|entry| (entry.name.clone(), &tensor.name)));
    let of_markers = markers.iter().map(|(prefix, tensor)| (format!("{prefix}{MARKER}"), tensor));
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, of) in of_tensors.chain(of_markers) {
        if !(1..=NAME_LIMIT).contains(&name.len()) {
            return Err(ConvertFault::Name { found: name.len(), name: abridged(&name), most: NAME_LIMIT });
        }
        if kept == Kept::Safetensors && name == METADATA {
            return Err(ConvertFault::Reserved { tensor: name, kept: kept.name() });
        }
        if let Some(other) = names.insert(name.clone(), of) {
            let of = if other == name { of } else { other };
            return Err(ConvertFault::Twice { name: abridged(&name), of: abridged(of) });
        }
    }
    Ok(())
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
            Stored::As(Target::EightBits(kind)) => {
                let scale = |name| entry(name, Format::F32, Vec::new());
                let mut entries = vec![whole(kind.format())];
                match (shown.strip_suffix("weight"), kind) {
                    (Some(layer), MARKED) => entries.push(scale(format!("{layer}scale_weight"))),
                    (Some(layer), EightBits::E5m2) => {
                        state = br#"{"format": "float8_e5m2"}"#.to_vec();
                        let described = entry(format!("{layer}comfy_quant"), Format::U8, vec![state.len()]);
                        entries.extend([scale(format!("{shown}_scale")), described]);
                    }
                    (None, _) => entries.push(scale(format!("{shown}_scale"))),
                }
                entries
            }
            Stored::As(Target::FourBits(kind)) => {
                state = described(kind, dtype(&*source, name, form.format, kind)?, &shape);
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

/// What bitsandbytes' readers round weights to: what those were, or were rounded to before.
fn dtype(source: &dyn WeightSource, name: &str, from: Format, kind: FourBits) -> Result<&'static str> {
    // What a LoRA changed is of this format no more.
    let rounded = match source.manifest().get(name).is_some_and(|form| form.format == kind.format()) {
        true => source.read(name)?.scales_of_runs(BLOCK).map(|(_, round)| round),
        false => None,
    };
    Ok(match (rounded, from.name()) {
        (Some(Round::No), _) | (None, "F32" | "F64") => "float32",
        (Some(Round::Bf16), _) | (None, "BF16") => "bfloat16",
        (Some(Round::F16), _) | (None, _) => "float16",
    })
}

/// What bitsandbytes' readers are told of a matrix of four bits; filled up with spaces, so that what follows begins where numbers may.
fn described(kind: FourBits, dtype: &str, shape: &[usize]) -> Vec<u8> {
    let json = serde_json::json!({ "quant_type": kind.name(), "blocksize": BLOCK, "dtype": dtype, "shape": shape });
    let mut json = json.to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    json
}

/// What the file says of itself, what lies beside it and says more, and what GGUF's readers go by.
fn texts(file: &ModelFile, families: &Families, kept: Kept) -> Result<Vec<(String, String)>> {
    let noted = NOTES.iter().filter_map(|key| Some(((*key).to_owned(), file.note(key)?.to_owned())));
    let architecture = match kept {
        Kept::Gguf => variant(file, families).and_then(|variant| architecture(&variant)),
        Kept::Safetensors => None,
    };
    let architecture = architecture.map(|name| ("general.architecture".to_owned(), name.to_owned()));
    let format = (kept == Kept::Safetensors).then(|| ("format".to_owned(), "pt".to_owned()));
    let beside = beside::kept(file, families)?.into_iter().map(|(key, text)| (key.to_owned(), text));
    Ok(architecture.into_iter().chain(format).chain(noted).chain(beside).collect())
}

/// Which variant of its network the first part is; none of what no role takes.
fn variant(file: &ModelFile, families: &Families) -> Option<String> {
    let kind = &file.parts.first()?.kind;
    let network = families.network_of(kind)?;
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
