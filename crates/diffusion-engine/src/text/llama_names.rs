use core_tensor::{Branch, Error, Manifest, Stored, WeightSource};

/// A T5 encoder under the names of llama.cpp, as GGUF files have them, under Hugging Face's names.
///
/// Reference: `gguf-py/gguf/tensor_mapping.py` of llama.cpp, the architectures `t5` and `t5encoder`.
#[derive(Debug)]
pub struct LlamaNames<S> {
    source: S,
    prefix: String,
    manifest: Manifest,
}

const WHOLE: &[(&str, &str)] =
    &[("shared.weight", "token_embd.weight"), ("encoder.final_layer_norm.weight", "enc.output_norm.weight")];

const OF_BLOCK: &[(&str, &str)] = &[
    ("layer.0.layer_norm.weight", "attn_norm.weight"),
    ("layer.0.SelfAttention.q.weight", "attn_q.weight"),
    ("layer.0.SelfAttention.k.weight", "attn_k.weight"),
    ("layer.0.SelfAttention.v.weight", "attn_v.weight"),
    ("layer.0.SelfAttention.o.weight", "attn_o.weight"),
    ("layer.0.SelfAttention.relative_attention_bias.weight", "attn_rel_b.weight"),
    ("layer.1.layer_norm.weight", "ffn_norm.weight"),
    ("layer.1.DenseReluDense.wi_0.weight", "ffn_gate.weight"),
    ("layer.1.DenseReluDense.wi_1.weight", "ffn_up.weight"),
    ("layer.1.DenseReluDense.wo.weight", "ffn_down.weight"),
];

const OUR_BLOCKS: &str = "encoder.block.";
const THEIR_BLOCKS: &str = "enc.blk.";

/// Hugging Face's name of a tensor of llama.cpp's.
fn ours(name: &str) -> Option<String> {
    let Some((i, rest)) = name.strip_prefix(THEIR_BLOCKS).and_then(|name| name.split_once('.')) else {
        return WHOLE.iter().find(|(_, theirs)| *theirs == name).map(|(ours, _)| (*ours).to_owned());
    };
    let (ours, _) = OF_BLOCK.iter().find(|(_, theirs)| *theirs == rest)?;
    Some(format!("{OUR_BLOCKS}{i}.{ours}"))
}

/// llama.cpp's name of a tensor of Hugging Face's.
fn theirs(name: &str) -> Option<String> {
    let Some((i, rest)) = name.strip_prefix(OUR_BLOCKS).and_then(|name| name.split_once('.')) else {
        return WHOLE.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| (*theirs).to_owned());
    };
    let (_, theirs) = OF_BLOCK.iter().find(|(ours, _)| *ours == rest)?;
    Some(format!("{THEIR_BLOCKS}{i}.{theirs}"))
}

impl<S: WeightSource> LlamaNames<S> {
    /// Wraps the part of a source under llama.cpp's names that begin with `prefix`; the prefix stays, and the source's other
    /// tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let renamed = source.manifest().under(&prefix).filter_map(|(name, form)| {
            let name = ours(name)?;
            Some((format!("{prefix}{name}"), form.format, form.shape.to_vec()))
        });
        Self { manifest: renamed.collect(), source, prefix }
    }

    fn theirs(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, theirs(name.strip_prefix(&self.prefix)?)?))
    }
}

impl<S: WeightSource> WeightSource for LlamaNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        self.source.read(&self.theirs(name).ok_or_else(missing)?)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.theirs(name).map_or_else(Vec::new, |name| self.source.branches(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_on_the_other_side() {
        let blocks = OF_BLOCK.iter().map(|(a, b)| (format!("{OUR_BLOCKS}7.{a}"), format!("{THEIR_BLOCKS}7.{b}")));
        let whole = WHOLE.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        for (a, b) in blocks.chain(whole) {
            assert_eq!((ours(&b).as_ref(), theirs(&a).as_ref()), (Some(&a), Some(&b)));
        }
        assert_eq!(
            (ours("dec.blk.0.attn_q.weight"), theirs("decoder.block.0.layer.0.SelfAttention.q.weight")),
            (None, None)
        );
    }
}
