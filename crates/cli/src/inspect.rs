use std::{collections::BTreeMap, path::Path};

use core_tensor::{Survey, Weights};
use diffusion_engine::{AutoencoderKl, Clip};
use flux::{T5, Transformer};
use lora::Dialect;
use quant::Scheme;
use serde::Serialize;

use crate::{
    Result,
    load::{Role, config_json, open},
};

/// What a model file holds, as its header tells.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The model, such as `flux-dev`, or the dialect of a LoRA; empty where there is no telling.
    pub family: &'static str,
    /// Its part in the model, such as `a T5 encoder`.
    pub role: &'static str,
    /// How many parameters it has.
    pub parameters: u64,
    /// Parameters by number format.
    pub dtypes: BTreeMap<String, u64>,
    /// How it is quantised, where it is.
    pub quantised: Option<&'static str>,
    /// What its role needs and the file lacks or has in another shape.
    pub missing: Vec<String>,
}

/// Reads a model file's header, or those of a folder's files.
///
/// # Errors
/// A file that is no valid safetensors file, or a `config.json` with it that is not valid.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let source = open(path)?;
    let names = source.names();
    let mut dtypes = BTreeMap::new();
    let mut forms = Vec::new();
    for name in &names {
        let Some((dtype, shape)) = source.form(name) else {
            continue;
        };
        let count = shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
        *dtypes.entry(format!("{dtype:?}")).or_insert(0) += count;
        forms.push((name.as_str(), dtype));
    }
    let survey = Survey::default();
    let w = Weights::survey(&*source, &survey);
    let role = Role::of(&names);
    let (family, loaded) = match role {
        Role::Transformer => {
            let loaded = Transformer::load(&w, &config_json(path, "FluxTransformer")?);
            let distilled = loaded.as_ref().is_ok_and(|t| t.dimensions().guidance);
            (if distilled { "flux-dev" } else { "flux-schnell" }, loaded.map(drop))
        }
        Role::T5 => ("t5 v1.1", T5::load(&w).map(drop)),
        Role::Clip => ("clip", Clip::load(&w, &config_json(path, "CLIPText")?).map(drop)),
        Role::Autoencoder => {
            ("autoencoder-kl", AutoencoderKl::load(&w, &config_json(path, "AutoencoderKL")?).map(drop))
        }
        Role::Lora => (Dialect::of(names.iter().map(String::as_str)).map_or("", Dialect::name), Ok(())),
        Role::Unet | Role::Sd3Transformer | Role::Unknown => ("", Ok(())),
    };
    let mut missing: Vec<String> = survey.complaints().iter().map(ToString::to_string).collect();
    missing.extend(loaded.err().map(|e| e.to_string()));
    Ok(Inspection {
        family,
        role: role.name(),
        parameters: dtypes.values().sum(),
        dtypes,
        quantised: Scheme::of(forms.into_iter()).map(Scheme::name),
        missing,
    })
}
