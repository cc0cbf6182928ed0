//! CLIP's text encoder (Radford et al. 2021), as Hugging Face names its parameters.
//!
//! Reference: transformers `CLIPTextModel`. Only the text half, without a projection: Flux takes the pooled vector as it is.

use core_tensor::{
    Blocks, Declare, Layout, Parameter, Tensor, Weights,
    layers::{Attention, LayerNorm, Linear, Table},
    ops,
};

use crate::{ClipTokenizer, Error, Inside, Site};

/// A CLIP text encoder of any width and depth.
pub struct Clip {
    tokens: Table,
    positions: Parameter<2>,
    layers: Blocks<Layer>,
    final_layer_norm: LayerNorm,
    dimensions: ClipDimensions,
}

/// What the tensors of a CLIP file don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct ClipConfig {
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

/// How large a CLIP text encoder is, as its tensors and its config say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipDimensions {
    /// Words that it has vectors for.
    pub vocabulary: usize,
    /// Width of the vector that it makes.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the layers' inner layers.
    pub inner: usize,
    /// Layers.
    pub layers: usize,
}

impl ClipDimensions {
    /// Reads the dimensions off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing, another vocabulary than CLIP's, or heads that can't be told.
    pub fn of(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        let w = w.before(Clip::MARK);
        let [vocabulary, width] = w.dims("embeddings.token_embedding.weight")?;
        if !(WORDS..=WORDS + MORE_WORDS).contains(&vocabulary) {
            let expected = format!("{WORDS}");
            return Err(Error::Model { what: "the CLIP vocabulary", expected, found: vocabulary.to_string() });
        }
        let heads = match config.num_attention_heads {
            Some(heads) if heads > 0 && width % heads == 0 => heads,
            None if width % 64 == 0 => width / 64,
            _ => {
                let source_name = w.label().to_owned();
                return Err(Error::Untold { source_name, what: "the number of CLIP's attention heads" });
            }
        };
        let layers = w.at("encoder.layers");
        let depth = layers.depth()?;
        let inner = if depth == 0 { 0 } else { layers.dims::<2>("0.mlp.fc1.weight")?[0] };
        Ok(Self { vocabulary, width, heads, inner, layers: depth })
    }

    /// Every tensor of such an encoder, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        let Self { vocabulary, width, inner, layers, .. } = *self;
        Layout::of(|l| {
            l.table("embeddings.token_embedding.weight", [vocabulary, width]);
            l.parameter("embeddings.position_embedding.weight", &[ClipTokenizer::LENGTH, width]);
            (0..layers).for_each(|i| Layer::declare(&mut l.at("encoder.layers").at(i), width, inner));
            l.norm("final_layer_norm", width);
        })
    }
}

impl Clip {
    /// A tensor that every CLIP text encoder has and no other model; before its name stands the file's prefix.
    pub const MARK: &str = "embeddings.token_embedding.weight";

    /// Loads an encoder under any prefix: `text_model.`, none, or that of an all-in-one file.
    ///
    /// # Errors
    /// As [`ClipDimensions::of`], or a tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        let w = w.before(Self::MARK);
        let dimensions = ClipDimensions::of(&w, config)?;
        let w = w.laid_out(dimensions.layout());
        let activation = config.hidden_act.unwrap_or(Activation::QuickGelu);
        let layer = |i| Layer::load(&w.at("encoder.layers").at(i), dimensions.heads, activation);
        Ok(Self {
            tokens: w.table("embeddings.token_embedding.weight")?,
            positions: w.parameter("embeddings.position_embedding.weight")?,
            layers: Blocks::load(dimensions.layers, layer)?,
            final_layer_norm: LayerNorm::load(&w.at("final_layer_norm"), EPS)?,
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &ClipDimensions {
        &self.dimensions
    }

    /// The vector that stands for the whole prompt, `[1, width]`: the last layer's at the first end mark.
    ///
    /// # Errors
    /// Those of [`Inside::after`].
    pub fn pooled(&self, ids: &[usize], inside: &Inside) -> Result<Tensor<2>, Error> {
        let x: Tensor<3> = (self.tokens.rows(ids) + self.positions.value()).unsqueeze();
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
    fn declare(l: &mut Declare, width: usize, inner: usize) {
        l.norm("layer_norm1", width);
        ["q_proj", "k_proj", "v_proj", "out_proj"]
            .into_iter()
            .for_each(|proj| l.at("self_attn").linear(proj, width, width));
        l.norm("layer_norm2", width);
        l.linear("mlp.fc1", width, inner);
        l.linear("mlp.fc2", inner, width);
    }

    fn load(w: &Weights, heads: usize, activation: Activation) -> Result<Self, Error> {
        Ok(Self {
            layer_norm1: LayerNorm::load(&w.at("layer_norm1"), EPS)?,
            q_proj: Linear::load(&w.at("self_attn.q_proj"))?,
            k_proj: Linear::load(&w.at("self_attn.k_proj"))?,
            v_proj: Linear::load(&w.at("self_attn.v_proj"))?,
            out_proj: Linear::load(&w.at("self_attn.out_proj"))?,
            layer_norm2: LayerNorm::load(&w.at("layer_norm2"), EPS)?,
            fc1: Linear::load(&w.at("mlp.fc1"))?,
            fc2: Linear::load(&w.at("mlp.fc2"))?,
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
