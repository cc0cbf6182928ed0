//! What model files hold, as their headers tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use core_tensor::{Compute, Survey};
use diffusion_engine::{AutoencoderKl, Clip};
use flux::{T5, Transformer};
use quant::Scheme;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Finding, Group, Result,
    model_files::{Count, LORA, ModelConfig, ModelFile, Role, Surveyed, UNKNOWN},
};

/// What a model file holds, as its header tells; of a file of several parts the fields but [`Inspection::parts`] and those behind
/// it are the first's.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The model, such as `flux-dev`, or the dialect of a LoRA; empty where there is no telling.
    pub family: &'static str,
    /// Its part in the model, such as `a T5 encoder`, or what else it is.
    pub role: &'static str,
    /// How many parameters it has.
    pub parameters: u64,
    /// Parameters by number format.
    pub dtypes: BTreeMap<String, u64>,
    /// How it is quantised, where it is.
    pub quantised: Option<&'static str>,
    /// What its role needs and the file lacks or has in another shape; at most [`MOST_MISSING`], and then how many more.
    pub missing: Vec<String>,
    /// Each part of the file.
    pub parts: Vec<InspectedPart>,
    /// Tensors that no layer asks for, by the beginning of their names.
    pub unread: Vec<Group>,
    /// What else is odd.
    pub findings: Vec<Finding>,
}

/// A part of a model file.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedPart {
    /// What its tensors' names begin with.
    pub prefix: String,
    /// As [`Inspection::family`].
    pub family: &'static str,
    /// As [`Inspection::role`].
    pub role: &'static str,
    /// Whether this engine has a use for it.
    pub usable: bool,
    /// How many parameters it has.
    pub parameters: u64,
    /// Parameters by number format.
    pub dtypes: BTreeMap<String, u64>,
    /// How it is quantised, where it is.
    pub quantised: Option<&'static str>,
    /// As [`Inspection::missing`].
    pub missing: Vec<String>,
}

/// The most complaints about a part that are told one by one.
pub const MOST_MISSING: usize = 20;

/// Reads a model file's header, or those of a folder's files.
///
/// # Errors
/// A file that is no valid safetensors file, a folder that is not whole, or a `config.json` with it that is not valid.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let file = ModelFile::open(path)?;
    if let Some(dialect) = file.lora() {
        return Ok(whole(&file, LORA, dialect.name()));
    }
    if file.parts.is_empty() {
        return Ok(whole(&file, UNKNOWN, ""));
    }
    let mut read = BTreeSet::new();
    let mut looked_at = Vec::new();
    let mut parts = Vec::new();
    for part in 0..file.parts.len() {
        let (inspected, fits) = inspect_part(&file, part)?;
        if let Some(asked) = fits {
            looked_at.push(part);
            read.extend(asked);
        }
        parts.push(inspected);
    }
    let mut findings = file.findings(&looked_at, &read);
    let unread = findings.iter().position(|finding| matches!(finding, Finding::Unread { .. }));
    let unread = match unread.map(|at| findings.remove(at)) {
        Some(Finding::Unread { groups, .. }) => groups,
        Some(_) | None => Vec::new(),
    };
    let first = parts[0].clone();
    Ok(Inspection {
        family: first.family,
        role: first.role,
        parameters: first.parameters,
        dtypes: first.dtypes,
        quantised: first.quantised,
        missing: first.missing,
        parts,
        unread,
        findings,
    })
}

/// A file that is one thing as a whole.
fn whole(file: &ModelFile, role: &'static str, family: &'static str) -> Inspection {
    let Count { parameters, dtypes, quantised, .. } = file.total();
    let quantised = quantised.found().map(|(scheme, _)| scheme.name());
    Inspection {
        family,
        role,
        parameters,
        dtypes,
        quantised,
        missing: Vec::new(),
        parts: Vec::new(),
        unread: Vec::new(),
        findings: Vec::new(),
    }
}

/// A part, and the tensors that its layers ask for where it would load.
fn inspect_part(file: &ModelFile, part: usize) -> Result<(InspectedPart, Option<BTreeSet<String>>)> {
    let (found, Count { parameters, dtypes, quantised, .. }) = (&file.parts[part], file.count(part).clone());
    let quantised = quantised.found();
    let mut missing = Vec::new();
    missing.extend(quantised.map(|(scheme, tensors)| {
        let they = if tensors == 1 { "1 tensor is".to_owned() } else { format!("{tensors} tensors are") };
        format!("{they} quantised ({}), which is not supported yet", scheme.name())
    }));
    let plain_names = match quantised {
        // The matrices have their own names and shapes, and only their format is another.
        None | Some((Scheme::Fp8 | Scheme::ScaledFp8, _)) => true,
        Some(_) => false,
    };
    let mut family = "";
    let mut read = None;
    if let Some((role, _)) = found.usable() {
        let seen = Seen::of(file, part, role)?;
        family = seen.family;
        if plain_names {
            if seen.complaints.is_empty() && missing.is_empty() {
                read = Some(seen.read);
            }
            let more = seen.complaints.len().saturating_sub(MOST_MISSING);
            missing.extend(seen.complaints.into_iter().take(MOST_MISSING));
            match more {
                0 => {}
                // A survey ends with that many.
                more if more + MOST_MISSING >= Survey::MOST => missing.push(format!("and {more} more, or above")),
                more => missing.push(format!("and {more} more")),
            }
        }
    }
    let inspected = InspectedPart {
        prefix: found.prefix.clone(),
        family,
        role: found.kind.name,
        usable: found.usable().is_some() && missing.is_empty(),
        parameters,
        dtypes,
        quantised: quantised.map(|(scheme, _)| scheme.name()),
        missing,
    };
    Ok((inspected, read))
}

/// What a part of a role comes to.
struct Seen {
    family: &'static str,
    complaints: Vec<String>,
    read: BTreeSet<String>,
}

impl Seen {
    fn of(file: &ModelFile, part: usize, role: Role) -> Result<Self> {
        let config = ModelConfig::of(&file.path, role)?;
        match role {
            Role::Transformer => {
                let hints = hints(config.as_ref())?;
                let seen = file.survey(part, ON_CPU, |w| {
                    let loaded = Transformer::load(w, &hints).map(|t| t.dimensions().guidance);
                    Ok((loaded, agreement(config.as_ref(), role, w)))
                });
                // One that does not load is told apart by the tensor alone.
                let guided = |guidance: &bool| *guidance;
                Ok(Self::from(seen, |t| if t.as_ref().is_ok_and(guided) { "flux-dev" } else { "flux-schnell" }))
            }
            Role::T5 => {
                let seen = file.survey(part, ON_CPU, |w| Ok((T5::load(w), agreement(config.as_ref(), role, w))));
                Ok(Self::from(seen, |_| "t5 v1.1"))
            }
            Role::Clip => {
                let hints = hints(config.as_ref())?;
                let seen =
                    file.survey(part, ON_CPU, |w| Ok((Clip::load(w, &hints), agreement(config.as_ref(), role, w))));
                Ok(Self::from(seen, |_| "clip"))
            }
            Role::Autoencoder => {
                let hints = hints(config.as_ref())?;
                let seen = file.survey(part, ON_CPU, |w| {
                    Ok((AutoencoderKl::load(w, &hints), agreement(config.as_ref(), role, w)))
                });
                Ok(Self::from(seen, |_| "autoencoder-kl"))
            }
        }
    }

    fn from<T>(seen: Surveyed<(Loaded<T>, Option<String>)>, family: impl FnOnce(&Loaded<T>) -> &'static str) -> Self {
        let mut complaints: Vec<String> = seen.complaints.iter().map(ToString::to_string).collect();
        let family = match seen.loaded {
            Ok((loaded, agreement)) => {
                let family = family(&loaded);
                complaints.extend(loaded.err().map(|e| e.to_string()));
                complaints.extend(agreement);
                family
            }
            Err(error) => {
                complaints.push(error.to_string());
                ""
            }
        };
        Self { family, complaints, read: seen.read }
    }
}

type Loaded<T> = std::result::Result<T, diffusion_engine::Error>;

/// Sizes in memory are of no interest here.
const ON_CPU: Option<Compute> = None;

fn hints<T: DeserializeOwned + Default>(config: Option<&ModelConfig>) -> Result<T> {
    config.map_or_else(|| Ok(T::default()), ModelConfig::hints)
}

/// What a part's own config contradicts.
fn agreement(config: Option<&ModelConfig>, role: Role, w: &core_tensor::Weights) -> Option<String> {
    config?.agrees(role, w).err().map(|error| error.to_string())
}
