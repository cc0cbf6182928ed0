//! `config.json`, which stands in a model's folder or beside its file: what the tensors don't tell, and what they must agree with.

use std::path::{Path, PathBuf};

use core_tensor::Weights;
use diffusion_engine::{AutoencoderKl, Clip};
use flux::{T5, Transformer};
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::{container::read_bounded, kind::Role};
use crate::{Error, Result};

/// The longest `config.json` that is read; those of diffusers are a kilobyte.
const LIMIT: u64 = 1 << 20;

/// What a model's own `config.json` says.
pub(crate) struct ModelConfig {
    path: PathBuf,
    json: Value,
    /// Whether its counts are this model's for sure: it lies in the model's folder, or beside its file and names its class.
    binding: bool,
}

impl ModelConfig {
    /// The config of the model at a path; `None` where there is none, or where it is another kind of model's.
    ///
    /// # Errors
    /// A config that can't be read.
    pub(crate) fn of(model: &Path, role: Role) -> Result<Option<Self>> {
        let folder = if model.is_dir() { model } else { model.parent().unwrap_or(Path::new("")) };
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(None);
        }
        let load = |source| Error::Load { path: path.clone(), source: Box::new(source) };
        let text = read_bounded(&path, LIMIT).map_err(load)?;
        let json: Value =
            serde_json::from_slice(&text).map_err(|source| Error::ModelConfig { path: path.clone(), source })?;
        // diffusers writes `_class_name`, transformers `architectures`.
        let class = json.get("_class_name").or_else(|| json.get("architectures")?.get(0)).and_then(Value::as_str);
        let json = match class {
            // A whole CLIP describes its halves apart.
            Some("CLIPModel") if role == Role::Clip => json.get("text_config").cloned().unwrap_or_default(),
            Some(class) if !class.starts_with(classes(role)) => return Ok(None),
            Some(_) | None => json.clone(),
        };
        let binding = class.is_some() || model.is_dir();
        Ok(Some(Self { path, json, binding }))
    }

    /// What it says beside the tensors.
    pub(crate) fn hints<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.json.clone())
            .map_err(|source| Error::ModelConfig { path: self.path.clone(), source })
    }

    /// Holds its counts and widths against the tensors.
    ///
    /// # Errors
    /// [`Error::Contradiction`] for the first that differs; a value of another kind than its key's.
    pub(crate) fn agrees(&self, role: Role, w: &Weights) -> Result<()> {
        if !self.binding {
            return Ok(());
        }
        let (mark, claims) = match role {
            Role::Transformer => (Transformer::MARK, TRANSFORMER),
            Role::Clip => (Clip::MARK, CLIP),
            Role::T5 => (T5::MARK, T5_ENCODER),
            Role::Autoencoder => (AutoencoderKl::MARK, AUTOENCODER),
        };
        let w = w.before(mark);
        for Claim { key, found } in claims {
            let Some(said) = self.json.get(*key).filter(|value| !value.is_null()) else { continue };
            let Some(found) = found(&w) else { continue };
            if !same_kind(said, &found) {
                let source =
                    serde_json::Error::custom(format_args!("`{key}` is {said}, expected a value like {found}"));
                return Err(Error::ModelConfig { path: self.path.clone(), source });
            }
            if *said != found {
                let (expected, found) = (said.to_string(), found.to_string());
                return Err(Error::Contradiction { path: self.path.clone(), key, expected, found });
            }
        }
        Ok(())
    }
}

/// How the classes of a part's configs begin.
fn classes(role: Role) -> &'static str {
    match role {
        Role::Transformer => "FluxTransformer",
        Role::Clip => "CLIPText",
        Role::T5 => "T5",
        Role::Autoencoder => "AutoencoderKL",
    }
}

/// Whole numbers, truth values, or lists of whole numbers.
fn same_kind(said: &Value, found: &Value) -> bool {
    match (said, found) {
        (Value::Array(said), Value::Array(_)) => said.iter().all(Value::is_u64),
        (said, Value::Bool(_)) => said.is_boolean(),
        (said, _) => said.is_u64(),
    }
}

/// A key of a config, and what the tensors say in its place; `None` where they don't.
struct Claim {
    key: &'static str,
    found: fn(&Weights) -> Option<Value>,
}

const fn claim(key: &'static str, found: fn(&Weights) -> Option<Value>) -> Claim {
    Claim { key, found }
}

/// A dimension of a tensor.
fn of(w: &Weights, name: &str, dimension: usize) -> Option<Value> {
    w.shape(name)?.get(dimension).map(|&n| n.into())
}

/// The depth of a stack, where it has any layer.
fn depth(w: &Weights, stack: &str) -> Option<Value> {
    w.at(stack).depth().ok().filter(|&depth| depth > 0).map(Into::into)
}

/// A dimension of one tensor divided by that of another.
fn ratio(w: &Weights, name: &str, by: (&str, usize)) -> Option<Value> {
    let whole = *w.shape(name)?.first()?;
    let part = *w.shape(by.0)?.get(by.1)?;
    whole.checked_div(part).map(Into::into)
}

const NORM: &str = "double_blocks.0.img_attn.norm.query_norm.scale";

const TRANSFORMER: &[Claim] = &[
    claim("num_layers", |w| depth(w, "double_blocks")),
    claim("num_single_layers", |w| depth(w, "single_blocks")),
    claim("in_channels", |w| of(w, "img_in.weight", 1)),
    claim("attention_head_dim", |w| of(w, NORM, 0)),
    claim("num_attention_heads", |w| ratio(w, "img_in.weight", (NORM, 0))),
    claim("joint_attention_dim", |w| of(w, "txt_in.weight", 1)),
    claim("pooled_projection_dim", |w| of(w, "vector_in.in_layer.weight", 1)),
    claim("guidance_embeds", |w| Some(w.shape("guidance_in.in_layer.weight").is_some().into())),
];

const CLIP: &[Claim] = &[
    claim("num_hidden_layers", |w| depth(w, "encoder.layers")),
    claim("hidden_size", |w| of(w, "embeddings.token_embedding.weight", 1)),
    claim("vocab_size", |w| of(w, "embeddings.token_embedding.weight", 0)),
    claim("intermediate_size", |w| of(w, "encoder.layers.0.mlp.fc1.weight", 0)),
    claim("max_position_embeddings", |w| of(w, "embeddings.position_embedding.weight", 0)),
];

const ATTENTION: &str = "encoder.block.0.layer.0.SelfAttention";
const BIAS: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

const T5_ENCODER: &[Claim] = &[
    claim("num_layers", |w| depth(w, "encoder.block")),
    claim("num_hidden_layers", |w| depth(w, "encoder.block")),
    claim("d_model", |w| of(w, "shared.weight", 1).or_else(|| of(w, "encoder.embed_tokens.weight", 1))),
    claim("vocab_size", |w| of(w, "shared.weight", 0).or_else(|| of(w, "encoder.embed_tokens.weight", 0))),
    claim("d_ff", |w| of(w, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0)),
    claim("num_heads", |w| of(w, BIAS, 1)),
    claim("d_kv", |w| ratio(&w.at(ATTENTION), "q.weight", ("relative_attention_bias.weight", 1))),
    claim("relative_attention_num_buckets", |w| of(w, BIAS, 0)),
];

const AUTOENCODER: &[Claim] = &[
    claim("latent_channels", |w| of(w, "decoder.conv_in.weight", 1)),
    claim("out_channels", |w| of(w, "decoder.conv_out.weight", 0)),
    claim("block_out_channels", |w| {
        let levels = w.at("decoder.up").depth().ok().filter(|&levels| levels > 0)?;
        (0..levels).map(|level| of(w, &format!("decoder.up.{level}.block.0.conv1.weight"), 0)).collect()
    }),
    // The decoder has one more than the encoder, of which the config speaks.
    claim("layers_per_block", |w| Some(w.at("decoder.up.0.block").depth().ok()?.checked_sub(1)?.into())),
];
