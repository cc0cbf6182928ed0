//! CLIP's text encoders, in every layout and of every size that image models come with.

use std::sync::Arc;

use core_tensor::{Layout, Weights};

use super::{Count, Duty, Is, Kind, Network, Spelling, Word};
use crate::{Clip, ClipConfig, ClipDimensions, LlamaNames, OpenClipNames};

/// The id of a CLIP-L, and of any CLIP of a size that no other kind is known by, under Hugging Face's names.
pub const CLIP: &str = "clip";
/// The id of a CLIP-G (bigG), under Hugging Face's names.
pub const CLIP_G: &str = "clip-g";
/// The id of a CLIP-H, under Hugging Face's names.
pub const CLIP_H: &str = "clip-h";
/// The id of a CLIP of another size in OpenCLIP's layout, which comes under Hugging Face's names.
pub const OPEN_CLIP: &str = "open-clip";

const TABLE: &str = "text_model.embeddings.token_embedding.weight";
const BARE_TABLE: &str = "embeddings.token_embedding.weight";
const RESBLOCKS: [&str; 2] = ["transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"];

/// The same under the names of clip.cpp.
const LLAMA_TABLE: &str = "t.token_embd.weight";
const LLAMA_MARKS: [&str; 2] = [LLAMA_TABLE, "t.blk.0.attn_q.weight"];

const G: &str = "CLIP-G, a text encoder of width 1280";
const H: &str = "CLIP-H, a text encoder of width 1024";
// Prompts are cut into chunks of 75 tokens for it too, so that it draws what it was trained for with any family.
const LONG: &str = "LongCLIP, a CLIP text encoder of which 77 of its 248 positions are used";
const VISION: &str = "the vision half of a CLIP";

/// What CLIPs are told apart by.
pub fn kinds() -> Vec<Kind> {
    let of = |name: &str, marks: &[&str]| Kind::of(Duty::CLIP, name, marks);
    let sized = |name: &str, marks: &[&str], table: &'static str, width: usize| {
        of(name, marks).shaped(move |s| s.of(table, 1) == Some(width))
    };
    let long =
        |marks: &[&str], positions: &'static str| of(LONG, marks).shaped(move |s| s.of(positions, 0) == Some(248));
    vec![
        of("a SigLIP, whose vocabulary is another than CLIP's", &[TABLE, "text_model.head.weight"]),
        long(&[TABLE], "text_model.embeddings.position_embedding.weight").id(CLIP),
        long(&[BARE_TABLE], "embeddings.position_embedding.weight").id(CLIP),
        sized(G, &[TABLE], TABLE, 1280).id(CLIP_G),
        sized(H, &[TABLE], TABLE, 1024).id(CLIP_H),
        sized(G, &[BARE_TABLE], BARE_TABLE, 1280).id(CLIP_G),
        sized(H, &[BARE_TABLE], BARE_TABLE, 1024).id(CLIP_H),
        renamed(sized(G, &RESBLOCKS, RESBLOCKS[1], 1280).id(CLIP_G)),
        renamed(sized(H, &RESBLOCKS, RESBLOCKS[1], 1024).id(CLIP_H)),
        renamed(long(&RESBLOCKS, "positional_embedding").id(OPEN_CLIP)),
        renamed(of("a CLIP in OpenCLIP's layout", &RESBLOCKS).id(OPEN_CLIP)),
        from_gguf(long(&LLAMA_MARKS, "t.position_embd.weight").id(CLIP)),
        from_gguf(sized(G, &LLAMA_MARKS, LLAMA_TABLE, 1280).id(CLIP_G)),
        from_gguf(sized(H, &LLAMA_MARKS, LLAMA_TABLE, 1024).id(CLIP_H)),
        from_gguf(of(NAME, &LLAMA_MARKS).id(CLIP)),
        of(NAME, &[TABLE]).id(CLIP),
        of(NAME, &[BARE_TABLE]).id(CLIP),
        of(NAME, &["text_model.encoder.layers.0.self_attn.q_proj.weight"]).id(CLIP),
        of(VISION, &["vision_model.embeddings.patch_embedding.weight"]),
        of(VISION, &["visual.conv1.weight", "visual.class_embedding"]),
        of(VISION, &["v.blk.0.attn_q.weight"]),
        of("a BERT text encoder, as Chinese CLIPs have", &["embeddings.word_embeddings.weight"]),
    ]
}

/// One in OpenCLIP's layout under Hugging Face's names.
fn renamed(kind: Kind) -> Kind {
    let kind = kind.renamed(|source, prefix| Arc::new(OpenClipNames::under(prefix, source)));
    kind.placed(OpenClipNames::place_of)
}

/// One under the names of clip.cpp, as GGUF files have them, under Hugging Face's.
fn from_gguf(kind: Kind) -> Kind {
    kind.renamed(|source, prefix| Arc::new(LlamaNames::clip_under(prefix, source)))
}

/// What messages call it.
pub const NAME: &str = "a CLIP text encoder";

/// [`Clip`], under Hugging Face's names.
pub fn network() -> Network {
    Network::of(Duty::CLIP, Clip::MARK, |w, settings| {
        Ok(ClipDimensions::of(w, &settings.read::<ClipConfig>()?)?.layout())
    })
    .variant(|_: &Weights| "clip".into())
    .spellings(spellings)
    .classes(["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel", "clip_text_model", "clip", "clip_text"])
    .half("text_config")
    .words([Word::of("layer_norm_eps", Is::Number(1e-5))]) // transformers/models/clip/modeling_clip.py
    .counts([
        Count::depth("num_hidden_layers", "encoder.layers"),
        Count::dimension("hidden_size", BARE_TABLE, 1),
        Count::dimension("vocab_size", BARE_TABLE, 0),
        Count::dimension("intermediate_size", "encoder.layers.0.mlp.fc1.weight", 0),
        Count::dimension("max_position_embeddings", "embeddings.position_embedding.weight", 0),
    ])
}

/// How adapters call the modules of a CLIP text encoder: by Hugging Face's names with and without `text_model.`, by OpenCLIP's, by
/// diffusers' before PEFT, and by cloneofsimo's numbers.
pub fn spellings(layout: &Layout) -> Vec<Spelling> {
    const TEXT_MODEL: &str = "text_model.";
    let matrices = layout.needs().iter().filter_map(|need| Some((need.name.strip_suffix(".weight")?, need)));
    let mut spellings = Vec::new();
    for (module, need) in matrices {
        let bare = module.strip_prefix(TEXT_MODEL).unwrap_or(module);
        spellings.extend([bare.to_owned(), format!("{TEXT_MODEL}{bare}")].map(|name| Spelling::whole(name, module)));
        let Some((layer, rest)) = bare.strip_prefix("encoder.layers.").and_then(|name| name.split_once('.')) else {
            continue;
        };
        let theirs = format!("transformer.resblocks.{layer}");
        if let Some((_, name)) = OPEN_CLIP_MODULES.iter().find(|(ours, _)| *ours == rest) {
            spellings.push(Spelling::whole(format!("{theirs}.{name}"), module));
        }
        let Some(at) = ATTENTION.iter().position(|(name, _)| *name == rest) else { continue };
        let before = module.strip_suffix(rest).unwrap_or_default();
        let (_, old) = ATTENTION[at];
        spellings.push(Spelling::whole(format!("{TEXT_MODEL}encoder.layers.{layer}.self_attn.{old}_lora"), module));
        if let Ok(layer) = layer.parse::<usize>() {
            spellings.push(Spelling::whole(format!("text_encoder:{}", layer * ATTENTION.len() + at), module));
        }
        if let (true, Some(&height)) = (rest == "self_attn.q_proj", need.shape.first()) {
            let parts = ["q", "k", "v"].map(|part| (format!("{before}self_attn.{part}_proj"), height));
            spellings.push(Spelling::stacked(format!("{theirs}.attn.in_proj"), parts));
        }
    }
    spellings
}

/// A layer's modules but those of attention, and how OpenCLIP calls them.
const OPEN_CLIP_MODULES: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
];

/// A layer's attention in the order in which transformers' `CLIPAttention` makes its modules, by which cloneofsimo counts, and how
/// diffusers' processors called them.
const ATTENTION: [(&str, &str); 4] = [
    ("self_attn.k_proj", "to_k"),
    ("self_attn.v_proj", "to_v"),
    ("self_attn.q_proj", "to_q"),
    ("self_attn.out_proj", "to_out"),
];
