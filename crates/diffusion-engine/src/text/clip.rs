//! CLIP's text encoder (Radford et al. 2021), as Hugging Face names its parameters.
//!
//! Reference: transformers `CLIPTextModel`. Only the text half, without a projection: Flux takes the pooled vector as it is.

use core_tensor::{
    Blocks, Tensor, Weights,
    layers::{Attention, LayerNorm, Linear, Table},
    ops,
};

use crate::{ClipTokenizer, Error, Inside, Site};

/// A CLIP text encoder of any width and depth.
pub struct Clip {
    tokens: Table,
    positions: Tensor<2>,
    layers: Blocks<Layer>,
    final_layer_norm: LayerNorm,
    width: usize,
}

/// What the tensors of a CLIP file don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct ClipHints {
    /// Attention heads; 64 channels each where not given, as in every CLIP that image models use.
    pub num_attention_heads: Option<usize>,
    /// `quick_gelu` where not given, as in OpenAI's own models; `gelu` in OpenCLIP's.
    pub hidden_act: Option<Activation>,
}

/// A CLIP layer's activation function.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// By the error function.
    Gelu,
}

const WORDS: usize = ClipTokenizer::END + 1; // transformers CLIPTextConfig: vocab_size
const MORE_WORDS: usize = 1024; // words that were added behind, which no prompt here asks for; other vocabularies differ by more
const EPS: f64 = 1e-5; // transformers CLIPTextConfig: layer_norm_eps

impl Clip {
    /// A tensor that every CLIP text encoder has and no other model; before its name stands the file's prefix.
    pub const MARK: &str = "embeddings.token_embedding.weight";

    /// Loads an encoder under any prefix: `text_model.`, none, or that of an all-in-one file.
    ///
    /// # Errors
    /// A tensor that is missing or has the wrong shape, or heads that can't be told.
    pub fn load(w: &Weights, hints: &ClipHints) -> Result<Self, Error> {
        let w = w.before(Self::MARK);
        let embeddings = w.at("embeddings");
        let [vocabulary, width] = embeddings.dims("token_embedding.weight")?;
        if !(WORDS..=WORDS + MORE_WORDS).contains(&vocabulary) {
            let expected = format!("{WORDS}");
            return Err(Error::Model { what: "the CLIP vocabulary", expected, found: vocabulary.to_string() });
        }
        let heads = match hints.num_attention_heads {
            Some(heads) if heads > 0 && width % heads == 0 => heads,
            None if width % 64 == 0 => width / 64,
            _ => {
                return Err(Error::Untold {
                    source_name: w.label().to_owned(),
                    what: "the number of CLIP's attention heads",
                });
            }
        };
        let activation = hints.hidden_act.unwrap_or(Activation::QuickGelu);
        let layers = w.at("encoder.layers");
        Ok(Self {
            tokens: embeddings.table("token_embedding.weight", [vocabulary, width])?,
            positions: embeddings.tensor("position_embedding.weight", [ClipTokenizer::LENGTH, width])?,
            layers: Blocks::load(layers.depth()?, |i| Layer::load(&layers.at(i), width, heads, activation))?,
            final_layer_norm: LayerNorm::load(&w.at("final_layer_norm"), width, EPS)?,
            width,
        })
    }

    /// Width of the vector that it makes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vector that stands for the whole prompt, `[1, width]`: the last layer's at the first end mark.
    ///
    /// # Errors
    /// Those of [`Inside::after`].
    pub fn pooled(&self, ids: &[usize], inside: &Inside) -> Result<Tensor<2>, Error> {
        let x: Tensor<3> = (self.tokens.rows(ids) + self.positions.clone()).unsqueeze();
        let x = inside.after(Site::layer("clip", "embeddings"), x)?;
        let x = self.layers.each(x, |x, i, layer| inside.after(Site::block("clip", "layers", i), layer.forward(x)))?;
        let end = ids.iter().position(|&id| id == ClipTokenizer::END).unwrap_or(ids.len() - 1);
        let [_, _, width] = x.dims();
        Ok(self.final_layer_norm.forward(x).narrow(1, end, 1).reshape([1, width]))
    }
}

struct Layer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    attention: Attention,
    heads: usize,
    activation: ops::Activation,
}

impl Layer {
    fn load(w: &Weights, width: usize, heads: usize, activation: Activation) -> Result<Self, Error> {
        let [inner, _] = w.dims("mlp.fc1.weight")?;
        Ok(Self {
            layer_norm1: LayerNorm::load(&w.at("layer_norm1"), width, EPS)?,
            q_proj: Linear::load(&w.at("self_attn.q_proj"), width, width)?,
            k_proj: Linear::load(&w.at("self_attn.k_proj"), width, width)?,
            v_proj: Linear::load(&w.at("self_attn.v_proj"), width, width)?,
            out_proj: Linear::load(&w.at("self_attn.out_proj"), width, width)?,
            layer_norm2: LayerNorm::load(&w.at("layer_norm2"), width, EPS)?,
            fc1: Linear::load(&w.at("mlp.fc1"), width, inner)?,
            fc2: Linear::load(&w.at("mlp.fc2"), inner, width)?,
            attention: Attention::of(w).causal(),
            heads,
            activation: match activation {
                Activation::QuickGelu => ops::Activation::QuickGelu,
                Activation::Gelu => ops::Activation::GeluErf,
            },
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let normal = self.layer_norm1.forward(x.clone());
        let head = |proj: &Linear| ops::split_heads(proj.forward(normal.clone()), self.heads);
        let attended = self.attention.forward(head(&self.q_proj), head(&self.k_proj), head(&self.v_proj));
        let x = self.out_proj.forward_onto(ops::merge_heads(attended), x);
        let inner = self.fc1.forward_then(self.layer_norm2.forward(x.clone()), self.activation);
        self.fc2.forward_onto(inner, x)
    }
}
