//! T5's encoder, and its relatives that are mistaken for it.

use std::sync::Arc;

use core_tensor::Weights;

use super::{Count, Duty, Is, Kind, Network, Shapes, Word};
use crate::{LlamaNames, T5 as Encoder, T5Dimensions};

/// The id of a T5 of version 1.1.
pub const T5: &str = "t5";

/// What messages call it.
pub const NAME: &str = "a T5 encoder";

const UMT5: &str = "uMT5, which has a table of distances in every block and other words than T5";
const MT5: &str = "mT5, whose vocabulary is another than T5's";
const BYT5: &str = "ByT5, which reads bytes and no words";
const OLD: &str = "a T5 of version 1.0, whose layers have no gate";
const Q: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";
/// The same under the names of llama.cpp.
const LLAMA_Q: &str = "enc.blk.0.attn_q.weight";

/// What T5s are told apart by.
pub fn kinds() -> Vec<Kind> {
    let of = |name: &str, marks: &[&str]| Kind::of(Duty::T5, name, marks);
    let sized =
        |name: &str, mark: &str, fits: fn(usize) -> bool| of(name, &[mark]).shaped(move |s| words(s).is_some_and(fits));
    let of_words = |name: &str, fits: fn(usize) -> bool| sized(name, Q, fits);
    vec![
        of(UMT5, &["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]),
        of(UMT5, &["blocks.0.pos_embedding.embedding.weight"]),
        of_words(UMT5, |words| (256_000..=256_512).contains(&words)),
        of_words(MT5, |words| (250_000..=250_240).contains(&words)),
        of_words(BYT5, |words| words < 2048),
        of(OLD, &["encoder.block.0.layer.1.DenseReluDense.wi.weight"]),
        of(UMT5, &["enc.blk.1.attn_rel_b.weight"]),
        sized(UMT5, LLAMA_Q, |words| (256_000..=256_512).contains(&words)),
        sized(MT5, LLAMA_Q, |words| (250_000..=250_240).contains(&words)),
        of(NAME, &[LLAMA_Q]).id(T5).renamed(|source, prefix| Arc::new(LlamaNames::under(prefix, source))),
        of(NAME, &[Q]).id(T5),
        of(NAME, &["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]).id(T5),
    ]
}

/// How many words there are vectors for.
fn words(shapes: &Shapes) -> Option<usize> {
    let tables = ["shared.weight", "encoder.embed_tokens.weight", "token_embd.weight"];
    let [words, _] = tables.into_iter().find_map(|table| shapes.matrix(table))?;
    Some(words)
}

const BIAS: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

/// [`T5`](crate::T5), of version 1.1.
pub fn network() -> Network {
    let of_table = |key: &str, dimension: usize| {
        let of = move |w: &Weights, table: &str| w.shape(table)?.get(dimension).copied();
        Count::of(key, move |w| of(w, "shared.weight").or_else(|| of(w, "encoder.embed_tokens.weight")).map(Into::into))
    };
    Network::of(Duty::T5, Encoder::MARK, |w, _| Ok(T5Dimensions::of(w)?.layout()))
        .variant(|_: &Weights| "t5 v1.1".into())
        .classes(["T5EncoderModel", "T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel", "t5"])
        // transformers/models/t5/modeling_t5.py, with the values of version 1.1
        .words([
            Word::of("relative_attention_max_distance", Is::Number(128.0)),
            Word::of("feed_forward_proj", Is::Text("gated-gelu".into())),
            Word::of("is_gated_act", Is::Truth(true)),
            Word::of("dense_act_fn", Is::Text("gelu_new".into())),
            Word::of("layer_norm_epsilon", Is::Number(1e-6)),
        ])
        .counts([
            Count::depth("num_layers", "encoder.block"),
            Count::depth("num_hidden_layers", "encoder.block"),
            of_table("d_model", 1),
            of_table("vocab_size", 0),
            Count::dimension("d_ff", "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0),
            Count::dimension("num_heads", BIAS, 1),
            Count::ratio("d_kv", Q, (BIAS, 1)),
            Count::dimension("relative_attention_num_buckets", BIAS, 0),
        ])
}
