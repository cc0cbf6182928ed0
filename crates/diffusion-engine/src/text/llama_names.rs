use core_tensor::{Branch, Error, Manifest, Stored, WeightSource};

/// A text encoder under the names that GGUF files have them, under Hugging Face's names.
///
/// References: `gguf-py/gguf/tensor_mapping.py` of llama.cpp, the architectures `t5` and `t5encoder`;
/// `models/convert_hf_to_gguf.py` of clip.cpp, commit 3484ffc.
#[derive(Debug)]
pub struct LlamaNames<S> {
    source: S,
    prefix: String,
    names: &'static Names,
    manifest: Manifest,
}

/// A name on either side of a table.
type Pair = (&'static str, &'static str);

/// Hugging Face's names of an encoder's tensors, each with that in GGUF files.
#[derive(Debug)]
struct Names {
    whole: &'static [Pair],
    /// What stands before a block's number.
    blocks: Pair,
    /// A block's modules, in lists of which encoders share some.
    modules: &'static [&'static [Pair]],
}

static T5: Names = Names {
    whole: &[("shared.weight", "token_embd.weight"), ("encoder.final_layer_norm.weight", "enc.output_norm.weight")],
    blocks: ("encoder.block.", "enc.blk."),
    modules: &[&[
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.0.SelfAttention.q", "attn_q"),
        ("layer.0.SelfAttention.k", "attn_k"),
        ("layer.0.SelfAttention.v", "attn_v"),
        ("layer.0.SelfAttention.o", "attn_o"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
        ("layer.1.layer_norm", "ffn_norm"),
        ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
        ("layer.1.DenseReluDense.wi_1", "ffn_up"),
        ("layer.1.DenseReluDense.wo", "ffn_down"),
    ]],
};

/// As clip.cpp names CLIP, which calls the matrix down that makes vectors longer.
static CLIP: Names = Names {
    whole: CLIP_WHOLE,
    blocks: CLIP_BLOCKS,
    modules: &[CLIP_MODULES, &[("mlp.fc1", "ffn_down"), ("mlp.fc2", "ffn_up")]],
};

/// The same where the one is called up that makes them longer, as in llama.cpp.
static CLIP_UP: Names = Names {
    whole: CLIP_WHOLE,
    blocks: CLIP_BLOCKS,
    modules: &[CLIP_MODULES, &[("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down")]],
};

const CLIP_WHOLE: &[Pair] = &[
    ("text_model.embeddings.token_embedding.weight", "t.token_embd.weight"),
    ("text_model.embeddings.position_embedding.weight", "t.position_embd.weight"),
    ("text_model.final_layer_norm.weight", "t.post_ln.weight"),
    ("text_model.final_layer_norm.bias", "t.post_ln.bias"),
    ("text_projection.weight", "text_projection.weight"),
];

const CLIP_MODULES: &[Pair] = &[
    ("layer_norm1", "ln1"),
    ("layer_norm2", "ln2"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.out_proj", "attn_out"),
];

const CLIP_BLOCKS: Pair = ("text_model.encoder.layers.", "t.blk.");

/// The matrix by whose shape it is told which of a CLIP's is called up.
const CLIP_UP_MATRIX: &str = "t.blk.0.ffn_up.weight";

impl Names {
    /// Hugging Face's name of a tensor of the file's.
    fn ours(&self, name: &str) -> Option<String> {
        let (ours, theirs) = self.blocks;
        renamed(
            name,
            (theirs, ours),
            self.whole.iter().map(swapped),
            self.modules.iter().copied().flatten().map(swapped),
        )
    }

    /// The file's name of a tensor of Hugging Face's.
    fn theirs(&self, name: &str) -> Option<String> {
        renamed(name, self.blocks, self.whole.iter().copied(), self.modules.iter().copied().flatten().copied())
    }
}

fn swapped(&(a, b): &Pair) -> Pair {
    (b, a)
}

/// The name that stands on the other side of a table.
fn renamed(
    name: &str,
    (from, to): Pair,
    mut whole: impl Iterator<Item = Pair>,
    mut modules: impl Iterator<Item = Pair>,
) -> Option<String> {
    let Some((i, rest)) = name.strip_prefix(from).and_then(|name| name.split_once('.')) else {
        return whole.find(|(a, _)| *a == name).map(|(_, b)| b.to_owned());
    };
    let (module, leaf) = rest.rsplit_once('.').filter(|(_, leaf)| ["weight", "bias"].contains(leaf))?;
    let (_, module) = modules.find(|(a, _)| *a == module)?;
    Some(format!("{to}{i}.{module}.{leaf}"))
}

impl<S: WeightSource> LlamaNames<S> {
    /// Wraps the part of a source under llama.cpp's names of a T5 that begin with `prefix`; the prefix stays, and the source's other
    /// tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        Self::of(&T5, prefix.into(), source)
    }

    /// The same of a CLIP's text encoder, under the names of clip.cpp.
    pub fn clip_under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let up = source.manifest().get(&format!("{prefix}{CLIP_UP_MATRIX}")).map(|form| form.shape);
        let names = match up {
            Some([rows, columns]) if rows > columns => &CLIP_UP,
            Some(_) | None => &CLIP,
        };
        Self::of(names, prefix, source)
    }

    fn of(names: &'static Names, prefix: String, source: S) -> Self {
        let renamed = source.manifest().under(&prefix).filter_map(|(name, form)| {
            let name = names.ours(name)?;
            Some((format!("{prefix}{name}"), form.format, form.shape.to_vec()))
        });
        Self { manifest: renamed.collect(), source, prefix, names }
    }

    fn theirs(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, self.names.theirs(name.strip_prefix(&self.prefix)?)?))
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
        for names in [&T5, &CLIP, &CLIP_UP] {
            let (ours, theirs) = names.blocks;
            let modules = names
                .modules
                .iter()
                .copied()
                .flatten()
                .map(|(a, b)| (format!("{ours}7.{a}.weight"), format!("{theirs}7.{b}.weight")));
            let whole = names.whole.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            for (a, b) in modules.chain(whole) {
                assert_eq!((names.ours(&b).as_ref(), names.theirs(&a).as_ref()), (Some(&a), Some(&b)));
            }
        }
        let decoder = ("dec.blk.0.attn_q.weight", "decoder.block.0.layer.0.SelfAttention.q.weight");
        assert_eq!((T5.ours(decoder.0), T5.theirs(decoder.1)), (None, None));
        assert_eq!(CLIP.ours("v.blk.0.attn_q.weight"), None);
    }

    #[test]
    fn a_clip_has_the_names_of_clip_cpp() {
        let names = std::fs::read(fixtures::path("golden/clip/clip_cpp_names.json")).unwrap();
        let names: std::collections::BTreeMap<String, String> = serde_json::from_slice(&names).unwrap();
        assert!(names.len() > 30);
        for (ours, theirs) in names {
            assert_eq!((CLIP.ours(&theirs), CLIP.theirs(&ours)), (Some(ours.clone()), Some(theirs.clone())));
        }
    }
}
