//! `config.json`, which stands in a model's folder or beside its file: what the tensors don't tell, and what they must agree with.

use std::path::{Path, PathBuf};

use core_tensor::Weights;
use quant::{Container, HEAD};
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::{
    abridged,
    container::{described, read_bounded},
    kind::Role,
};
use crate::{Error, Result};

/// The longest `config.json` that is read; those of diffusers are a kilobyte.
const LIMIT: u64 = 1 << 20;

/// What lies beside a model's tensors under the name `config.json`.
#[derive(Default)]
pub(crate) struct Beside {
    /// The model's own.
    pub(crate) config: Option<ModelConfig>,
    /// Another kind of model's.
    pub(crate) other: Option<OtherConfig>,
}

/// The `config.json` of another kind of model than the file that it lies beside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OtherConfig {
    pub(crate) path: PathBuf,
    pub(crate) class: String,
}

/// What a model's own `config.json` says.
pub(crate) struct ModelConfig {
    path: PathBuf,
    json: Value,
    /// Whether its counts are this model's for sure: it lies in the model's folder, or beside its file and names its class.
    binding: bool,
}

impl ModelConfig {
    /// Where it stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What lies beside the model at a path.
    ///
    /// # Errors
    /// A config that can't be read, and one of another kind of model in a model's own folder.
    pub(crate) fn beside(model: &Path, role: Role) -> Result<Beside> {
        let folder = if model.is_dir() { model } else { model.parent().unwrap_or(Path::new("")) };
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(Beside::default());
        }
        let json = read_object(&path)?;
        let class = class(&json, role);
        if let Some(class) = class.clone().filter(|class| !is_of(role, class)) {
            if model.is_dir() {
                return Err(Error::OtherClass { path, class, expected: format!("`{}`", classes(role)[0]) });
            }
            return Ok(Beside { config: None, other: Some(OtherConfig { path, class }) });
        }
        // A whole CLIP describes its halves apart.
        let json = match json.get("text_config") {
            Some(half @ Value::Object(_)) if role == Role::Clip => half.clone(),
            Some(half) if role == Role::Clip && !half.is_null() => {
                return Err(Error::Unsupported {
                    path,
                    key: "text_config",
                    expected: "a JSON object".into(),
                    found: half.to_string(),
                });
            }
            Some(_) | None => json,
        };
        let binding = class.is_some() || model.is_dir();
        Ok(Beside { config: Some(Self { path, json, binding }), other: None })
    }

    /// What it says beside the tensors.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.json.clone())
            .map_err(|source| Error::ModelConfig { path: self.path.clone(), source })
    }

    /// Holds what it says of the arithmetic against what is computed.
    fn computed(&self, role: Role) -> Result<()> {
        let words = match role {
            Role::Transformer => TRANSFORMER_WORDS,
            Role::Clip => CLIP_WORDS,
            Role::T5 => T5_WORDS,
            Role::Autoencoder => AUTOENCODER_WORDS,
        };
        for Word { key, is } in words {
            let Some(said) = self.json.get(*key).filter(|value| !value.is_null()) else { continue };
            let expected = match is {
                Is::Number(number) if !said.as_f64().is_some_and(|said| near(said, *number)) => number.to_string(),
                Is::Text(text) if said.as_str() != Some(text) => format!("\"{text}\""),
                Is::Truth(truth) if said.as_bool() != Some(*truth) => truth.to_string(),
                Is::Positive if !said.as_f64().is_some_and(|said| said > 0.0) => "a number above 0".to_owned(),
                Is::Absent => "null".to_owned(),
                Is::Each(text) if !said.as_array().is_some_and(|all| all.iter().all(|one| one == text)) => {
                    format!("a list of \"{text}\"")
                }
                Is::Number(_) | Is::Text(_) | Is::Truth(_) | Is::Positive | Is::Each(_) => continue,
            };
            let found = abridged(&said.to_string());
            return Err(Error::Unsupported { path: self.path.clone(), key, expected, found });
        }
        Ok(())
    }

    /// Holds its counts and widths against the tensors, of which `w` is the view behind the file's prefix.
    ///
    /// # Errors
    /// [`Error::Contradiction`] for the first that differs; a value of another kind than its key's.
    pub(crate) fn agrees(&self, role: Role, w: &Weights) -> Result<()> {
        if !self.binding {
            return Ok(());
        }
        let claims = match role {
            Role::Transformer => TRANSFORMER,
            Role::Clip => CLIP,
            Role::T5 => T5_ENCODER,
            Role::Autoencoder => AUTOENCODER,
        };
        self.computed(role)?;
        for Claim { key, found } in claims {
            let Some(said) = self.json.get(*key).filter(|value| !value.is_null()) else { continue };
            let Some(found) = found(w) else { continue };
            let said = &counted(key, said);
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

/// Reads a small file that holds a JSON object.
///
/// # Errors
/// [`Error::NotAnObject`] that says what it is in place of one; JSON that is broken; a file that can't be read.
pub(crate) fn read_object(path: &Path) -> Result<Value> {
    let load = |source| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let text = read_bounded(path, LIMIT).map_err(load)?;
    let found = match serde_json::from_slice(&text) {
        Ok(json @ Value::Object(_)) => return Ok(json),
        Ok(Value::Null) => "`null`".to_owned(),
        Ok(Value::Bool(_)) => "a truth value".to_owned(),
        Ok(Value::Number(_)) => "a number".to_owned(),
        Ok(Value::String(_)) => "a text in quotes".to_owned(),
        Ok(Value::Array(_)) => "a list".to_owned(),
        Err(source) => match Container::of(&text[..text.len().min(HEAD)]) {
            None | Some(Container::Json | Container::Index) => {
                return Err(Error::ModelConfig { path: path.to_owned(), source });
            }
            Some(container) => described(container, &text),
        },
    };
    Err(Error::NotAnObject { path: path.to_owned(), found })
}

/// The class that a config names: diffusers writes `_class_name`, transformers `architectures`, and both may leave only the
/// `model_type`. Of several the first that fits the role.
fn class(json: &Value, role: Role) -> Option<String> {
    let architectures = json.get("architectures").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<_> = json.get("_class_name").into_iter().chain(architectures).filter_map(Value::as_str).collect();
    let named = named.iter().find(|class| is_of(role, class)).or(named.first()).copied();
    named.or_else(|| json.get("model_type")?.as_str()).map(abridged)
}

fn is_of(role: Role, class: &str) -> bool {
    classes(role).contains(&class)
}

/// The classes and types of a part's configs, the usual one first.
fn classes(role: Role) -> &'static [&'static str] {
    match role {
        Role::Transformer => &["FluxTransformer2DModel"],
        Role::Clip => {
            &["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel", "clip_text_model", "clip", "clip_text"]
        }
        Role::T5 => &["T5EncoderModel", "T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel", "t5"],
        Role::Autoencoder => &["AutoencoderKL"],
    }
}

/// A value to compare: of a list of a level's blocks it is their number.
fn counted(key: &str, said: &Value) -> Value {
    match said {
        Value::Array(blocks) if key.ends_with("_block_types") => blocks.len().into(),
        said => said.clone(),
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

/// A key of a config that nothing reads, and the one value of it that is computed with.
struct Word {
    key: &'static str,
    is: Is,
}

/// What a value must be.
enum Is {
    Number(f64),
    Text(&'static str),
    Truth(bool),
    Positive,
    Absent,
    /// A list of nothing but this.
    Each(&'static str),
}

const fn word(key: &'static str, is: Is) -> Word {
    Word { key, is }
}

/// Equal as numbers of single precision, in which some configs were written.
fn near(said: f64, number: f64) -> bool {
    (said - number).abs() <= number.abs() * 1e-6
}

// diffusers/models/transformers/transformer_flux.py: pixels are packed before the transformer.
const TRANSFORMER_WORDS: &[Word] = &[word("patch_size", Is::Number(1.0))];

// transformers/models/clip/modeling_clip.py
const CLIP_WORDS: &[Word] = &[word("layer_norm_eps", Is::Number(1e-5))];

// transformers/models/t5/modeling_t5.py, with the values of version 1.1
const T5_WORDS: &[Word] = &[
    word("relative_attention_max_distance", Is::Number(128.0)),
    word("feed_forward_proj", Is::Text("gated-gelu")),
    word("is_gated_act", Is::Truth(true)),
    word("dense_act_fn", Is::Text("gelu_new")),
    word("layer_norm_epsilon", Is::Number(1e-6)),
];

// diffusers/models/autoencoders/autoencoder_kl.py, with the values of Flux
const AUTOENCODER_WORDS: &[Word] = &[
    word("scaling_factor", Is::Positive),
    word("act_fn", Is::Text("silu")),
    word("mid_block_add_attention", Is::Truth(true)),
    word("up_block_types", Is::Each("UpDecoderBlock2D")),
    word("down_block_types", Is::Each("DownEncoderBlock2D")),
    word("latents_mean", Is::Absent),
    word("latents_std", Is::Absent),
];

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
    claim("out_channels", |w| of(w, "final_layer.linear.weight", 0)),
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
    claim("up_block_types", |w| depth(w, "decoder.up")),
    claim("down_block_types", |w| depth(w, "decoder.up")),
    // Where its tensors are there, they are told as unread.
    claim("use_post_quant_conv", |w| w.shape("post_quant_conv.weight").is_none().then_some(false.into())),
    // The decoder has one more than the encoder, of which the config speaks.
    claim("layers_per_block", |w| Some(w.at("decoder.up.0.block").depth().ok()?.checked_sub(1)?.into())),
];
