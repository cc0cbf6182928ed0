//! CLIP's text encoders (Radford et al. 2021; Ilharco et al. 2021), as Hugging Face names their parameters.
//!
//! Reference: transformers `CLIPTextModel` and `CLIPTextModelWithProjection`.

use core_tensor::{
    Blocks, Parameter, Tensor, Weights,
    layers::{Attention, LayerNorm, Linear, Table},
    ops,
};

use super::clip_dimensions::{Activation, ClipConfig, ClipDimensions};
use crate::{ClipTokenizer, Error, Inside, Site};

/// A CLIP text encoder of any width and depth.
#[derive(Debug)]
pub struct Clip {
    name: &'static str,
    tokens: Table,
    positions: Parameter<2>,
    layers: Blocks<Layer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    dimensions: ClipDimensions,
}

/// What an encoder sees at once: token ids, and vectors that stand in the place of some.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The ids with their marks, each below the size of the vocabulary.
    pub ids: Vec<usize>,
    /// Vectors `[n, width]` and the place of the first of them among the ids.
    pub vectors: Vec<(usize, Tensor<2>)>,
}

impl Tokens {
    /// Ids alone.
    pub fn of(ids: Vec<usize>) -> Self {
        Self { ids, vectors: Vec::new() }
    }
}

const EPS: f64 = 1e-5; // transformers CLIPTextConfig: layer_norm_eps

impl Clip {
    /// A tensor that every CLIP text encoder has and no other model; before its name stands the file's prefix.
    pub const MARK: &str = ClipDimensions::MARK;

    /// Loads an encoder without a projection under any prefix: `text_model.`, none, or that of a file with more in it.
    ///
    /// # Errors
    /// As [`ClipDimensions::of`], or a tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        Self::of(w, ClipDimensions::of(w, config)?, config)
    }

    /// [`Clip::load`] with the projection.
    ///
    /// # Errors
    /// As [`ClipDimensions::of_projected`], or a tensor that is missing or has the wrong shape.
    pub fn load_projected(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        Self::of(w, ClipDimensions::of_projected(w, config)?, config)
    }

    fn of(w: &Weights, dimensions: ClipDimensions, config: &ClipConfig) -> Result<Self, Error> {
        let root = dimensions.within(w).laid_out(dimensions.layout());
        let w = match dimensions.beside() {
            "" => root.clone(),
            beside => root.at(beside),
        };
        let activation = config.activation(dimensions.width);
        let layer = |i| Layer::load(&w.at("encoder.layers").at(i), dimensions.heads, activation);
        let projection = dimensions.projection.map(|_| Linear::load(&root.at("text_projection")));
        Ok(Self {
            name: "clip",
            tokens: w.table("embeddings.token_embedding.weight")?,
            positions: w.parameter("embeddings.position_embedding.weight")?,
            layers: Blocks::load(dimensions.layers, layer)?,
            final_layer_norm: LayerNorm::load(&w.at("final_layer_norm"), EPS)?,
            text_projection: projection.transpose()?,
            dimensions,
        })
    }

    /// The same under another name where hooks look inside; `clip` without one.
    pub fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// How large it is.
    pub fn dimensions(&self) -> &ClipDimensions {
        &self.dimensions
    }

    /// The vector that stands for the whole prompt, `[1, width]`: the last layer's at the first end mark.
    ///
    /// # Errors
    /// Those of [`Inside::after`]; [`Error::Request`] for more ids than it has positions.
    pub fn pooled(&self, ids: &[usize], inside: &Inside) -> Result<Tensor<2>, Error> {
        let chunk = [Tokens::of(ids.to_vec())];
        let x = self.embedded(&chunk, inside)?;
        let x = self.layers.each(x, |x, i, layer| self.layer(x, i, layer, inside))?;
        Ok(self.pool(x, &chunk))
    }

    /// One vector for each token of each chunk, `[chunks, tokens, width]`, as they come out of layer `skip` from the end, counted
    /// from 1: the last but one is 2. With the final layer norm on top where they are to be `normed`. Chunks have one length.
    ///
    /// # Errors
    /// [`Error::Request`] for a layer that there is not, no chunk, or more ids than it has positions; those of [`Inside::after`].
    ///
    /// # Panics
    /// If chunks differ in length, or vectors in width.
    pub fn states(&self, chunks: &[Tokens], skip: usize, normed: bool, inside: &Inside) -> Result<Tensor<3>, Error> {
        let depth = self.depth_without(skip)?;
        let x = self.embedded(chunks, inside)?;
        let x = self.layers.each(x, |x, i, layer| match i < depth {
            true => self.layer(x, i, layer, inside),
            false => Ok(x),
        })?;
        Ok(if normed { self.final_layer_norm.forward(x) } else { x })
    }

    /// [`Clip::states`], and the vector that stands for each chunk, `[chunks, width]`: the last layer's at the first end mark,
    /// normed, not projected.
    ///
    /// # Errors
    /// As [`Clip::states`].
    ///
    /// # Panics
    /// As [`Clip::states`].
    pub fn states_and_pooled(
        &self,
        chunks: &[Tokens],
        skip: usize,
        normed: bool,
        inside: &Inside,
    ) -> Result<(Tensor<3>, Tensor<2>), Error> {
        let depth = self.depth_without(skip)?;
        let x = self.embedded(chunks, inside)?;
        let (x, states) = self.layers.each((x.clone(), x), |(x, states), i, layer| {
            let x = self.layer(x, i, layer, inside)?;
            let states = if i < depth { x.clone() } else { states };
            Ok::<_, Error>((x, states))
        })?;
        let states = if normed { self.final_layer_norm.forward(states) } else { states };
        Ok((states, self.pool(x, chunks)))
    }

    /// Pooled vectors, `[n, width]`, through the projection.
    ///
    /// # Errors
    /// [`Error::NoProjection`] where it was loaded without.
    pub fn projected(&self, pooled: Tensor<2>) -> Result<Tensor<2>, Error> {
        let projection = self.text_projection.as_ref().ok_or(Error::NoProjection)?;
        Ok(projection.forward(pooled))
    }

    /// How many layers run where `skip - 1` are left out.
    fn depth_without(&self, skip: usize) -> Result<usize, Error> {
        let layers = self.layers.depth();
        let left = skip.checked_sub(1).and_then(|skipped| layers.checked_sub(skipped)).filter(|left| *left > 0);
        left.ok_or_else(|| Error::Request {
            what: "clip_skip",
            expected: format!("1 to {layers}, the layers of `{}`", self.name),
            found: skip.to_string(),
        })
    }

    /// Each chunk's tokens and their positions, `[chunks, tokens, width]`.
    fn embedded(&self, chunks: &[Tokens], inside: &Inside) -> Result<Tensor<3>, Error> {
        let length = chunks.first().map_or(0, |chunk| chunk.ids.len());
        let positions = self.dimensions.positions;
        if length == 0 || length > positions {
            let (expected, found) = (format!("1 to {positions}"), length.to_string());
            return Err(Error::Request { what: "the number of tokens in a chunk", expected, found });
        }
        let place = self.positions.value().narrow(0, 0, length);
        let vectors = chunks.iter().map(|chunk| (self.vectors(chunk) + place.clone()).unsqueeze()).collect();
        inside.after(Site::layer(self.name, "embeddings"), Tensor::cat(vectors, 0))
    }

    /// A chunk's tokens, `[tokens, width]`. What a vector leaves of a chunk's end is cut.
    fn vectors(&self, chunk: &Tokens) -> Tensor<2> {
        let words = self.tokens.rows(&chunk.ids);
        let [length, width] = words.dims();
        chunk.vectors.iter().fold(words, |words, (at, vectors)| {
            let n = vectors.dims()[0].min(length.saturating_sub(*at));
            match n {
                0 => words,
                _ => words.slice_assign([*at..at + n, 0..width], vectors.clone().narrow(0, 0, n)),
            }
        })
    }

    fn layer(&self, x: Tensor<3>, i: usize, layer: &Layer, inside: &Inside) -> Result<Tensor<3>, Error> {
        inside.after(Site::block(self.name, "layers", i), layer.forward(x))
    }

    /// What the last layer made of each chunk's first end mark, or of its last token where it has none.
    fn pool(&self, x: Tensor<3>, chunks: &[Tokens]) -> Tensor<2> {
        let [_, length, width] = x.dims();
        let normal = self.final_layer_norm.forward(x);
        let of_chunk = |(i, chunk): (usize, &Tokens)| {
            let end = chunk.ids.iter().position(|&id| id == ClipTokenizer::END).unwrap_or(length - 1);
            normal.clone().narrow(0, i, 1).narrow(1, end, 1).reshape([1, width])
        };
        Tensor::cat(chunks.iter().enumerate().map(of_chunk).collect(), 0)
    }
}

#[derive(Debug)]
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
