//! What model files hold, as their headers tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use diffusion_engine::family::{Parts, Role, Settings};
use quant::Scheme;
use serde::Serialize;

use crate::{
    Error, Families, Finding, Group, InspectedLora, Result,
    beside::beside,
    loras::inspected,
    model_files::{Count, LORA, MOST_FAULTS, ModelConfig, ModelFile, OtherConfig, Surveyed, UNKNOWN, abridged},
    with_causes,
};

/// What a model file holds, as its header tells; of a file of several parts the fields but [`Inspection::parts`] and those behind
/// it are the first's.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The model, such as `flux-dev`, or the dialect of a LoRA; empty where there is no telling.
    pub family: String,
    /// Its part in the model, such as `a T5 encoder`, or what else it is.
    pub role: String,
    /// How many parameters it has.
    pub parameters: u64,
    /// Parameters by number format.
    pub dtypes: BTreeMap<String, u64>,
    /// How it is quantised, where it is.
    pub quantised: Option<&'static str>,
    /// What its role needs and the file lacks or has in another shape; at most [`MOST_MISSING`], and then how many more. Of a LoRA, why
    /// no run would take it.
    pub missing: Vec<String>,
    /// Each part of the file.
    pub parts: Vec<InspectedPart>,
    /// Tensors that no layer asks for, by the beginning of their names.
    pub unread: Vec<Group>,
    /// What else is odd.
    pub findings: Vec<Finding>,
    /// What a LoRA says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<InspectedLora>,
}

/// A part of a model file.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedPart {
    /// What its tensors' names begin with.
    pub prefix: String,
    /// As [`Inspection::family`].
    pub family: String,
    /// As [`Inspection::role`].
    pub role: String,
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
    /// What its files say of its training that no shape tells, and what told it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<String>,
}

/// The most complaints about a part that are told one by one.
pub const MOST_MISSING: usize = 20;

/// Reads a model file's header, or those of a folder's files.
///
/// # Errors
/// A file that is no valid safetensors file, a folder that is not whole, or a `config.json` with it that is not valid.
pub fn inspect(path: &Path) -> Result<Inspection> {
    inspect_with(&Families::builtin(), path)
}

/// The same, as families know it that a program may have added its own to.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(families: &Families, path: &Path) -> Result<Inspection> {
    let file = ModelFile::open(path, families.kinds())?;
    if let Some(dialect) = file.lora() {
        let whole = whole(&file, LORA, dialect.name());
        return Ok(match inspected(path) {
            Ok(lora) => Inspection { lora: Some(lora), ..whole },
            // What a run would refuse is no reason to say nothing of the rest.
            Err(error) => Inspection { missing: [whole.missing, vec![with_causes(&error)]].concat(), ..whole },
        });
    }
    if file.parts.is_empty() {
        return Ok(whole(&file, UNKNOWN, ""));
    }
    let mut read = BTreeSet::new();
    let mut looked_at = Vec::new();
    let mut parts = Vec::new();
    for part in 0..file.parts.len() {
        let (inspected, fits) = inspect_part(families, &file, part)?;
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
    findings.extend(other_config(families, &file)?);
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
        lora: None,
    })
}

/// A file that is one thing as a whole.
fn whole(file: &ModelFile, role: &str, family: &str) -> Inspection {
    let Count { parameters, dtypes, quantised, tensors, .. } = file.total();
    let missing = if tensors == 0 { vec!["the file holds no tensor".to_owned()] } else { Vec::new() };
    let quantised = quantised.found().map(|(scheme, _)| scheme.name());
    Inspection {
        family: family.to_owned(),
        role: role.to_owned(),
        parameters,
        dtypes,
        quantised,
        missing,
        parts: Vec::new(),
        unread: Vec::new(),
        findings: Vec::new(),
        lora: None,
    }
}

/// A part, and the tensors that its layers ask for where it would load.
fn inspect_part(
    families: &Families,
    file: &ModelFile,
    part: usize,
) -> Result<(InspectedPart, Option<BTreeSet<String>>)> {
    let (found, Count { parameters, dtypes, quantised, .. }) = (&file.parts[part], file.count(part).clone());
    let (quantised, told_by) = (quantised.found(), abridged(quantised.told_by()));
    let of_scheme = quantised.map(|(scheme, tensors)| {
        let they = if tensors == 1 { "1 tensor is".to_owned() } else { format!("{tensors} tensors are") };
        format!("{they} {}", scheme.complaint(&told_by))
    });
    // What is wrong with a tensor explains what else there is of its scheme.
    let malformed = file.count(part).malformed().map(|error| error.to_string());
    let mut missing: Vec<String> = malformed.or(of_scheme).into_iter().collect();
    missing.extend(file.count(part).unscaled().map(|error| error.to_string()));
    let plain_names = match quantised {
        // The matrices have their own names and shapes, and only their format is another.
        None | Some((Scheme::Fp8 | Scheme::ScaledFp8, _)) => true,
        Some(_) => false,
    };
    let mut family = String::new();
    let mut read = None;
    let mut training = Vec::new();
    let place = families.place_of(&found.kind);
    if let Some((of_family, role)) = place {
        let seen = Seen::of(file, part, role)?;
        family = seen.family;
        let looked_at = file.part((part, &found.kind), role.key.clone(), seen.settings);
        training = of_family.told(&beside(Some(&file.path), None, Parts::of("", [looked_at]))?);
        if plain_names {
            if seen.complaints.is_empty() && missing.is_empty() {
                read = Some(seen.read);
            }
            let more = seen.complaints.len().saturating_sub(MOST_MISSING);
            missing.extend(seen.complaints.into_iter().take(MOST_MISSING));
            match more {
                0 => {}
                // No more are looked for.
                more if more + MOST_MISSING >= MOST_FAULTS => missing.push(format!("and {more} more, or above")),
                more => missing.push(format!("and {more} more")),
            }
        }
    }
    let inspected = InspectedPart {
        prefix: found.prefix.clone(),
        family,
        role: found.kind.name.clone(),
        usable: place.is_some() && missing.is_empty(),
        parameters,
        dtypes,
        quantised: quantised.map(|(scheme, _)| scheme.name()),
        missing,
        training,
    };
    Ok((inspected, read))
}

/// What a part of a role comes to.
struct Seen {
    family: String,
    complaints: Vec<String>,
    read: BTreeSet<String>,
    settings: Settings,
}

impl Seen {
    fn of(file: &ModelFile, part: usize, role: &Role) -> Result<Self> {
        let kind = &file.parts[part].kind;
        let network = kind.network(&role.network);
        let config = ModelConfig::of(file, network)?.config;
        // How much memory it would take is of no interest here, so neither is the device.
        let surveyed =
            file.survey((part, kind), network, config.as_ref(), core_tensor::Place::Device(core_tensor::Compute::F32));
        let Surveyed { variant, fits, agrees, faults, read, .. } = surveyed;
        let failed = match (fits, &config) {
            (Err(error), Some(config)) => match config.fault(error, |error| error) {
                error @ Error::ModelConfig { .. } => return Err(error),
                error => Some(error.to_string()),
            },
            (fits, _) => fits.err().map(|error| error.to_string()),
        };
        let contradiction = agrees.err().map(|error| error.to_string());
        let complaints = faults.iter().map(ToString::to_string).chain(failed).chain(contradiction).collect();
        let settings = config.as_ref().map(ModelConfig::settings).unwrap_or_default();
        Ok(Self { family: variant, complaints, read, settings })
    }
}

/// Another kind of model's config beside a file, if it is none of the file's parts'.
fn other_config(families: &Families, file: &ModelFile) -> Result<Option<Finding>> {
    let mut other = None;
    for network in file.parts.iter().filter_map(|part| families.network_of(&part.kind)) {
        let beside = ModelConfig::of(file, network)?;
        if beside.config.is_some() {
            return Ok(None);
        }
        other = other.or(beside.other);
    }
    Ok(other.map(|OtherConfig { path, class }| Finding::OtherConfig { config: path, class }))
}
