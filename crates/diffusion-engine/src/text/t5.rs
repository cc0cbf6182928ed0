//! The encoder of T5 version 1.1 (Raffel et al. 2020; gated GELU by Shazeer 2020), as Hugging Face names its parameters.
//!
//! Reference: transformers `T5EncoderModel`.

use crate::{Error, Inside, Site, T5Tokenizer};
use core_tensor::{
    Blocks, Declare, Device, Layout, Tensor, Weights,
    layers::{Attention, Linear, RmsNorm, Table},
    ops::{self, Activation, Bias},
    tensor,
};

/// A T5 v1.1 encoder of any width and depth.
#[derive(Debug)]
pub struct T5 {
    tokens: Table,
    blocks: Blocks<Block>,
    bias: RelativeBias,
    final_layer_norm: RmsNorm,
    dimensions: T5Dimensions,
}

/// How large a T5 encoder is, as its tensors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct T5Dimensions {
    /// Words that it has vectors for.
    pub vocabulary: usize,
    /// The name of their table, of which files have one or both.
    pub words: &'static str,
    /// Width of the vectors that it makes.
    pub width: usize,
    /// Width of queries, keys and values: all heads together.
    pub inner: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the blocks' inner layers.
    pub mlp: usize,
    /// Blocks.
    pub blocks: usize,
}

impl T5Dimensions {
    /// Reads the dimensions off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing; a T5 of version 1.0, which has no gate, lacks `wi_0`. A relative of T5's: other words, a table of
    /// distances in every block, or other heads.
    pub fn of(w: &Weights) -> Result<Self, Error> {
        let w = w.before(T5::MARK);
        // Files that were saved with the decoder's tying undone have only the second.
        let names = ["shared.weight", "encoder.embed_tokens.weight"];
        let words = names.into_iter().find(|n| w.shape(n).is_some()).unwrap_or(names[0]);
        let [vocabulary, width] = w.dims(words)?;
        let model =
            |what, expected: String, found: usize| Err(Error::Model { what, expected, found: found.to_string() });
        if !(T5Tokenizer::VOCABULARY..=MAX_VOCABULARY).contains(&vocabulary) {
            let expected = format!("{} to {MAX_VOCABULARY}", T5Tokenizer::VOCABULARY);
            return model("the T5 vocabulary", expected, vocabulary);
        }
        let blocks = w.at("encoder.block");
        if blocks.shape("1.layer.0.SelfAttention.relative_attention_bias.weight").is_some() {
            let (expected, found) = ("one, in the first block".into(), "one in every block, as in uMT5".into());
            return Err(Error::Model { what: "T5's table of distances", expected, found });
        }
        let attention = blocks.at("0.layer.0.SelfAttention");
        let [buckets, heads] = attention.dims("relative_attention_bias.weight")?;
        if buckets != BUCKETS {
            return model("the number of T5's distance buckets", BUCKETS.to_string(), buckets);
        }
        if heads > MAX_HEADS {
            return model("the number of T5's heads", format!("at most {MAX_HEADS}"), heads);
        }
        let [inner, _] = attention.dims("q.weight")?;
        let [mlp, _] = blocks.at("0.layer.1.DenseReluDense").dims("wi_0.weight")?;
        if inner % heads != 0 {
            return model("the width of T5's attention", format!("a multiple of its {heads} heads"), inner);
        }
        Ok(Self { vocabulary, words, width, inner, heads, mlp, blocks: blocks.depth()? })
    }

    /// Every tensor of such an encoder, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        Layout::of(|l| {
            l.table(self.words, [self.vocabulary, self.width]);
            l.table(format!("encoder.block.0.layer.0.{DISTANCES}"), [BUCKETS, self.heads]);
            (0..self.blocks).for_each(|i| Block::declare(&mut l.at("encoder.block").at(i), self));
            l.parameter("encoder.final_layer_norm.weight", &[self.width]);
        })
    }
}

/// The table of distances in a block's first layer.
const DISTANCES: &str = "SelfAttention.relative_attention_bias.weight";
const EPS: f64 = 1e-6; // transformers T5Config: layer_norm_epsilon
const MAX_VOCABULARY: usize = 32_128; // transformers T5Config: vocab_size, which is T5Tokenizer::VOCABULARY rounded up
const BUCKETS: usize = 32; // transformers T5Config: relative_attention_num_buckets
const MAX_HEADS: usize = 128; // T5 v1.1 XXL has 64
const MAX_DISTANCE: usize = 128; // transformers T5Config: relative_attention_max_distance

impl T5 {
    /// A tensor that every T5 encoder has; before its name stands the file's prefix.
    pub const MARK: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";

    /// Loads an encoder under any prefix: none, or that of an all-in-one file.
    ///
    /// # Errors
    /// As [`T5Dimensions::of`], or a tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights) -> Result<Self, Error> {
        let w = w.before(Self::MARK);
        let dimensions @ T5Dimensions { heads, .. } = T5Dimensions::of(&w)?;
        let w = w.laid_out(dimensions.layout());
        let blocks = w.at("encoder.block");
        Ok(Self {
            tokens: w.table(dimensions.words)?,
            bias: RelativeBias { table: blocks.table(&format!("0.layer.0.{DISTANCES}"))?, heads },
            blocks: Blocks::load(dimensions.blocks, |i| Block::load(&blocks.at(i), heads))?,
            final_layer_norm: RmsNorm::load(&w.at("encoder.final_layer_norm"), "weight", EPS)?,
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &T5Dimensions {
        &self.dimensions
    }

    /// One vector for each id, `[1, ids.len(), width]`.
    ///
    /// # Errors
    /// Those of [`Inside::after`].
    pub fn encode(&self, ids: &[usize], inside: &Inside) -> Result<Tensor<3>, Error> {
        let x: Tensor<3> = self.tokens.rows(ids).unsqueeze();
        let bias = self.bias.over(ids.len(), &x.device())?;
        let x =
            self.blocks.each(x, |x, i, block| inside.after(Site::block("t5", "block", i), block.forward(x, &bias)))?;
        Ok(self.final_layer_norm.forward(x))
    }
}

#[derive(Debug)]
struct Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    dense_norm: RmsNorm,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
    scores: Attention,
    heads: usize,
}

impl Block {
    fn declare(l: &mut Declare, dimensions: &T5Dimensions) {
        let T5Dimensions { width, inner, mlp, .. } = *dimensions;
        l.parameter("layer.0.layer_norm.weight", &[width]);
        let mut attention = l.at("layer.0.SelfAttention");
        ["q", "k", "v"].into_iter().for_each(|name| attention.unbiased(name, width, inner));
        attention.unbiased("o", inner, width);
        l.parameter("layer.1.layer_norm.weight", &[width]);
        let mut dense = l.at("layer.1.DenseReluDense");
        ["wi_0", "wi_1"].into_iter().for_each(|name| dense.unbiased(name, width, mlp));
        dense.unbiased("wo", mlp, width);
    }

    fn load(w: &Weights, heads: usize) -> Result<Self, Error> {
        let attention = w.at("layer.0.SelfAttention");
        let dense = w.at("layer.1.DenseReluDense");
        Ok(Self {
            attention_norm: RmsNorm::load(&w.at("layer.0.layer_norm"), "weight", EPS)?,
            q: Linear::load(&attention.at("q"))?,
            k: Linear::load(&attention.at("k"))?,
            v: Linear::load(&attention.at("v"))?,
            o: Linear::load(&attention.at("o"))?,
            dense_norm: RmsNorm::load(&w.at("layer.1.layer_norm"), "weight", EPS)?,
            wi_0: Linear::load(&dense.at("wi_0"))?,
            wi_1: Linear::load(&dense.at("wi_1"))?,
            wo: Linear::load(&dense.at("wo"))?,
            // T5 does not scale its scores: the factor is part of the weights.
            scores: Attention::of(w).scaled_by(1.0),
            heads,
        })
    }

    fn forward(&self, x: Tensor<3>, bias: &Bias) -> Tensor<3> {
        let normal = self.attention_norm.forward(x.clone());
        let head = |linear: &Linear| ops::split_heads(linear.forward(normal.clone()), self.heads);
        let attended = self.scores.forward_biased(head(&self.q), head(&self.k), head(&self.v), bias.clone());
        let x = self.o.forward_onto(ops::merge_heads(attended), x);
        let normal = self.dense_norm.forward(x.clone());
        let gate = self.wi_0.forward(normal.clone());
        self.wo.forward_onto(ops::gated(Activation::GeluTanh, self.wi_1.forward(normal), gate), x)
    }
}

/// What attention adds to a score for the distance between its tokens; the first block's table serves all.
#[derive(Debug)]
struct RelativeBias {
    table: Table,
    heads: usize,
}

impl RelativeBias {
    /// A number for each head and distance among `n` tokens.
    fn over(&self, n: usize, device: &Device) -> Result<Bias, Error> {
        let buckets = self.table.height();
        let rows = core_tensor::on_host(&self.table.rows(&(0..buckets).collect::<Vec<_>>()))?;
        let distances = (n + n).saturating_sub(1);
        let bucket: Vec<usize> = (0..distances).map(|i| bucket(i as i64 - (n as i64 - 1), buckets)).collect();
        let of_head = |head: usize| bucket.iter().map(move |&bucket| (bucket, head));
        let values = (0..self.heads).flat_map(of_head).map(|(bucket, head)| rows[bucket * self.heads + head]).collect();
        Ok(Bias::Relative(tensor(values, [self.heads, distances], device)))
    }
}

/// The bucket of a distance `key - query`: half of them for each direction, one each for near distances and logarithmically
/// wider ones up to [`MAX_DISTANCE`].
///
/// Reference: transformers `T5Attention._relative_position_bucket`, whose f32 logarithm this keeps.
fn bucket(distance: i64, buckets: usize) -> usize {
    let half = buckets / 2;
    let side = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    let exact = half / 2;
    if distance < exact {
        return side + distance;
    }
    let scale = (MAX_DISTANCE as f32 / exact as f32).ln();
    let beyond = (distance as f32 / exact as f32).ln() / scale * (half - exact) as f32;
    side + (exact + beyond as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_the_buckets_of_the_reference() {
        // transformers T5Attention._relative_position_bucket(bidirectional, 32, 128)
        let expected = [
            (0, 0),
            (-1, 1),
            (1, 17),
            (-7, 7),
            (7, 23),
            (-8, 8),
            (-11, 8),
            (-12, 9),
            (-16, 10),
            (16, 26),
            (-32, 12),
            (-64, 14),
            (-90, 14),
            (-91, 15),
            (-128, 15),
            (500, 31),
        ];
        for (distance, expected) in expected {
            assert_eq!(bucket(distance, 32), expected, "{distance}");
        }
    }
}
