//! What a set of tensors is, told by names and shapes that go together; the most specific row that holds wins.
//!
//! The marks are those of the models' own files and of diffusers' conversions.

use super::parts::Shapes;

/// A part of a Flux model, which is what a config asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// What denoises.
    Transformer,
    /// The text encoder of the pooled vector.
    Clip,
    /// The text encoder of the tokens' vectors.
    T5,
    /// What decodes a latent.
    Autoencoder,
}

impl Role {
    /// From the most telling to the least: a file of several parts is shown as the first of them.
    pub(crate) const ALL: [Self; 4] = [Self::Transformer, Self::T5, Self::Clip, Self::Autoencoder];

    /// A tensor that every network of the role has; before its name stands the file's prefix.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Transformer => flux::Transformer::MARK,
            Self::Clip => diffusion_engine::Clip::MARK,
            Self::T5 => diffusion_engine::T5::MARK,
            Self::Autoencoder => diffusion_engine::AutoencoderKl::MARK,
        }
    }

    /// As it is called in a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transformer => "a Flux transformer",
            Self::Clip => "a CLIP text encoder",
            Self::T5 => "a T5 encoder",
            Self::Autoencoder => "an autoencoder",
        }
    }
}

/// Whose names a part's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The names that the networks here ask for.
    Original,
    /// diffusers' conversion.
    Diffusers,
}

/// A model, or a part of one.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As it is called in a message.
    pub(crate) name: &'static str,
    /// What it is, or what it would be taken for if only some names were looked at.
    pub(crate) place: Role,
    /// Whether it can be used in that place, and in which layout it is.
    pub(crate) usable: Option<Layout>,
    /// Tensors that go together.
    pub(crate) marks: &'static [&'static str],
    /// What their shapes must say.
    pub(crate) fits: fn(&Shapes) -> bool,
}

/// A model that is known and can't be used.
const fn other(place: Role, name: &'static str, marks: &'static [&'static str]) -> Kind {
    Kind { name, place, usable: None, marks, fits: |_| true }
}

/// The same, where shapes tell it from its relatives.
const fn shaped(place: Role, name: &'static str, marks: &'static [&'static str], fits: fn(&Shapes) -> bool) -> Kind {
    Kind { name, place, usable: None, marks, fits }
}

/// A model that can be used.
const fn usable(place: Role, layout: Layout, marks: &'static [&'static str]) -> Kind {
    let name = match place {
        Role::Transformer => "a Flux transformer",
        Role::Clip => "a CLIP text encoder",
        Role::T5 => "a T5 encoder",
        Role::Autoencoder => "an autoencoder",
    };
    Kind { name, place, usable: Some(layout), marks, fits: |_| true }
}

use Layout::{Diffusers, Original};
use Role::{Autoencoder, Clip, T5, Transformer};

/// Of each place the most specific first.
pub(crate) static KINDS: &[&[Kind]] = &[ADAPTERS, FLUX, TRANSFORMERS, UNETS, CLIPS, T5S, AUTOENCODERS];

const CONTROLNET: &str = "a ControlNet";
const IP_ADAPTER: &str = "an IP-Adapter";
const UPSCALER: &str = "an upscaler";
const EMBEDDING: &str = "a textual inversion, words that a text encoder learnt";
const MOTION: &str = "an AnimateDiff motion module";

/// What stands beside a model, some of it with copies of the model's own blocks.
const ADAPTERS: &[Kind] = &[
    other(Transformer, CONTROLNET, &["controlnet_blocks.0.weight"]),
    other(Transformer, CONTROLNET, &["controlnet_x_embedder.weight"]),
    other(Transformer, CONTROLNET, &["controlnet_cond_embedding.conv_in.weight"]),
    other(Transformer, CONTROLNET, &["control_model.input_blocks.0.0.weight"]),
    other(Transformer, CONTROLNET, &["input_hint_block.0.weight"]),
    other(Transformer, CONTROLNET, &["controlnet_down_blocks.0.weight"]),
    other(Transformer, "a T2I adapter", &["adapter.body.0.resnets.0.block1.weight"]),
    other(Transformer, "a T2I adapter", &["body.0.block1.weight", "conv_in.weight"]),
    other(Transformer, IP_ADAPTER, &["ip_adapter.1.to_k_ip.weight"]),
    other(Transformer, IP_ADAPTER, &["ip_adapter_proj_model.proj.weight"]),
    other(Transformer, IP_ADAPTER, &["image_proj.proj.weight"]),
    other(Transformer, IP_ADAPTER, &["image_proj.latents"]),
    other(Transformer, IP_ADAPTER, &["double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"]),
    other(Transformer, "Flux Redux, which turns pictures into prompts", &["redux_up.weight"]),
    other(Transformer, "a PuLID adapter", &["pulid_ca.0.norm1.weight"]),
    other(Transformer, MOTION, &["down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"]),
    other(Clip, EMBEDDING, &["emb_params"]),
    other(Clip, EMBEDDING, &["clip_g", "clip_l"]),
    other(Transformer, UPSCALER, &["conv_first.weight", "conv_last.weight"]),
    other(Transformer, UPSCALER, &["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"]),
    other(Transformer, UPSCALER, &["conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"]),
];

const CHROMA: &str = "a Chroma transformer";
const FLUX_2: &str = "a Flux.2 transformer";
const HUNYUAN_VIDEO: &str = "a HunyuanVideo transformer";
const FILL: &str = "Flux Fill, which takes a masked picture beside the latent";
const CONTROL: &str = "Flux Canny or Depth, which takes a control picture beside the latent";
const CONCATENATED: &str = "a Flux that takes another picture beside the latent";
const NUNCHAKU: &str = "a Flux transformer in Nunchaku's layout";

const FLUX: &[Kind] = &[
    other(Transformer, CHROMA, &["distilled_guidance_layer.norms.0.scale"]),
    other(Transformer, CHROMA, &["distilled_guidance_layer.0.norms.0.scale"]),
    other(Transformer, CHROMA, &["distilled_guidance_layer.in_proj.weight"]),
    other(Transformer, FLUX_2, &["double_stream_modulation_img.lin.weight"]),
    other(Transformer, FLUX_2, &["double_stream_modulation_img.linear.weight"]),
    other(Transformer, FLUX_2, &["single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"]),
    other(Transformer, HUNYUAN_VIDEO, &["txt_in.individual_token_refiner.blocks.0.norm1.weight"]),
    other(Transformer, HUNYUAN_VIDEO, &["txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight"]),
    other(Transformer, HUNYUAN_VIDEO, &["context_embedder.token_refiner.refiner_blocks.0.norm1.weight"]),
    other(Transformer, HUNYUAN_VIDEO, &["double_blocks.0.img_attn_qkv.weight"]),
    shaped(Transformer, FILL, &["img_in.weight", "final_layer.linear.weight"], |s| {
        s.beside("img_in.weight", "final_layer.linear.weight") == Some(384)
    }),
    shaped(Transformer, FILL, &["x_embedder.weight", "single_transformer_blocks.0.proj_mlp.weight"], |s| {
        s.beside("x_embedder.weight", "proj_out.weight") == Some(384)
    }),
    shaped(Transformer, CONTROL, &["img_in.weight", "final_layer.linear.weight"], |s| {
        s.beside("img_in.weight", "final_layer.linear.weight") == Some(128)
    }),
    shaped(Transformer, CONTROL, &["x_embedder.weight", "single_transformer_blocks.0.proj_mlp.weight"], |s| {
        s.beside("x_embedder.weight", "proj_out.weight") == Some(128)
    }),
    shaped(Transformer, CONCATENATED, &["img_in.weight", "double_blocks.0.img_attn.qkv.weight"], |s| {
        s.beside("img_in.weight", "final_layer.linear.weight").is_some()
    }),
    shaped(Transformer, CONCATENATED, &["x_embedder.weight", "single_transformer_blocks.0.proj_mlp.weight"], |s| {
        s.beside("x_embedder.weight", "proj_out.weight").is_some()
    }),
    other(Transformer, NUNCHAKU, &["single_transformer_blocks.0.qkv_proj.qweight"]),
    other(Transformer, NUNCHAKU, &["single_transformer_blocks.0.mlp_fc1.qweight"]),
    usable(Transformer, Original, &["double_blocks.0.img_attn.qkv.weight"]),
    usable(Transformer, Original, &["double_blocks.0.img_mlp.0.weight"]),
    usable(Transformer, Original, &["single_blocks.0.linear1.weight"]),
    usable(Transformer, Original, &["double_blocks.0.img_attn.norm.query_norm.scale", "img_in.weight"]),
    usable(Transformer, Diffusers, &["single_transformer_blocks.0.proj_mlp.weight"]),
    usable(Transformer, Diffusers, &["x_embedder.weight", "transformer_blocks.0.ff_context.net.0.proj.weight"]),
];

const SD3: &str = "a Stable Diffusion 3 transformer";
const SD35: &str = "a Stable Diffusion 3.5 transformer";
const AURA_FLOW: &str = "an AuraFlow transformer";
const QWEN_IMAGE: &str = "a Qwen-Image transformer";
const WAN: &str = "a Wan video transformer";
const LTX: &str = "an LTX video transformer";
const PIXART: &str = "a PixArt transformer";
const SANA: &str = "a Sana transformer";
const Z_IMAGE: &str = "a Z-Image transformer";
const LUMINA: &str = "a Lumina transformer";
const HIDREAM: &str = "a HiDream transformer";
const CASCADE: &str = "a Stable Cascade model";
const COSMOS: &str = "a Cosmos transformer";

/// Transformers of other families.
const TRANSFORMERS: &[Kind] = &[
    other(Transformer, SD35, &["joint_blocks.0.x_block.attn.ln_q.weight"]),
    other(Transformer, SD3, &["joint_blocks.0.x_block.attn.qkv.weight"]),
    other(Transformer, SD3, &["joint_blocks.0.context_block.attn.qkv.weight"]),
    other(Transformer, QWEN_IMAGE, &["transformer_blocks.0.img_mod.1.weight"]),
    other(Transformer, QWEN_IMAGE, &["txt_norm.weight", "img_in.weight"]),
    other(Transformer, AURA_FLOW, &["double_layers.0.attn.w1q.weight"]),
    other(Transformer, AURA_FLOW, &["joint_transformer_blocks.0.attn.add_q_proj.weight"]),
    other(Transformer, SD35, &["pos_embed.proj.weight", "transformer_blocks.0.attn.norm_added_q.weight"]),
    other(Transformer, SD3, &["pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"]),
    other(Transformer, WAN, &["head.modulation"]),
    other(Transformer, WAN, &["condition_embedder.text_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"]),
    other(Transformer, LTX, &["adaln_single.emb.timestep_embedder.linear_1.weight", "patchify_proj.weight"]),
    other(Transformer, LTX, &["scale_shift_table", "proj_in.weight", "caption_projection.linear_1.weight"]),
    other(Transformer, SANA, &["blocks.0.mlp.inverted_conv.conv.weight"]),
    other(Transformer, SANA, &["transformer_blocks.0.ff.conv_inverted.weight"]),
    other(Transformer, PIXART, &["t_block.1.weight"]),
    other(Transformer, PIXART, &["adaln_single.emb.timestep_embedder.linear_1.weight", "pos_embed.proj.weight"]),
    other(Transformer, Z_IMAGE, &["cap_pad_token"]),
    other(Transformer, "an OmniGen 2 transformer", &["ref_image_patch_embedder.weight"]),
    other(Transformer, LUMINA, &["cap_embedder.1.weight"]),
    other(Transformer, LUMINA, &["time_caption_embed.caption_embedder.1.weight"]),
    other(Transformer, HIDREAM, &["caption_projection.0.linear.weight"]),
    other(Transformer, "a Hunyuan-DiT transformer", &["mlp_t5.0.weight"]),
    other(Transformer, "a Mochi video transformer", &["t5_yproj.weight"]),
    other(Transformer, "a CogVideoX transformer", &["patch_embed.text_proj.weight"]),
    other(Transformer, "a Kandinsky 5 transformer", &["visual_transformer_blocks.0.cross_attention.key_norm.weight"]),
    other(Transformer, COSMOS, &["blocks.block0.blocks.0.block.attn.to_q.0.weight"]),
    other(Transformer, COSMOS, &["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"]),
    other(Transformer, CASCADE, &["clf.1.weight"]),
    other(Transformer, CASCADE, &["effnet_mapper.0.weight"]),
    other(Transformer, "an OmniGen transformer", &["llm.layers.0.self_attn.qkv_proj.weight"]),
    other(Transformer, "a Stable Audio transformer", &["transformer.rotary_pos_emb.inv_freq"]),
    other(Transformer, "a transformer of another family", &["transformer_blocks.0.attn.to_q.weight"]),
];

const SD_1: &str = "a Stable Diffusion 1 UNet";
const SD_2: &str = "a Stable Diffusion 2 UNet";
const SDXL: &str = "an SDXL UNet";
const REFINER: &str = "the UNet of SDXL's refiner";
const UNET: &str = "a Stable Diffusion UNet";
const VIDEO_UNET: &str = "a Stable Video Diffusion UNet";
const LDM: &[&str] = &["input_blocks.0.0.weight"];
const DIFFUSERS: &[&str] = &["down_blocks.0.resnets.0.time_emb_proj.weight"];
const LDM_KEYS: &str = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
const DIFFUSERS_KEYS: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";

/// UNets, by the width of their first level and of the text that they attend to.
const UNETS: &[Kind] = &[
    other(Transformer, VIDEO_UNET, &["input_blocks.0.0.weight", "input_blocks.1.0.time_stack.in_layers.0.weight"]),
    other(Transformer, VIDEO_UNET, &["down_blocks.0.resnets.0.spatial_res_block.time_emb_proj.weight"]),
    shaped(Transformer, REFINER, &["input_blocks.0.0.weight", "label_emb.0.0.weight"], |s| {
        s.of("input_blocks.0.0.weight", 0) == Some(384)
    }),
    shaped(Transformer, REFINER, &["conv_in.weight", "add_embedding.linear_1.weight"], |s| {
        s.of("conv_in.weight", 0) == Some(384)
    }),
    other(Transformer, SDXL, &["input_blocks.0.0.weight", "label_emb.0.0.weight"]),
    other(Transformer, SDXL, &["conv_in.weight", "add_embedding.linear_1.weight"]),
    shaped(Transformer, SD_1, LDM, |s| s.of(LDM_KEYS, 1) == Some(768)),
    shaped(Transformer, SD_2, LDM, |s| s.of(LDM_KEYS, 1) == Some(1024)),
    shaped(Transformer, SD_1, DIFFUSERS, |s| s.of(DIFFUSERS_KEYS, 1) == Some(768)),
    shaped(Transformer, SD_2, DIFFUSERS, |s| s.of(DIFFUSERS_KEYS, 1) == Some(1024)),
    other(Transformer, UNET, LDM),
    other(Transformer, UNET, DIFFUSERS),
];

const TABLE: &str = "text_model.embeddings.token_embedding.weight";
const BARE_TABLE: &str = "embeddings.token_embedding.weight";
const OPEN_CLIP: &[&str] = &["transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight"];
const CLIP_G: &str = "CLIP-G, SDXL's second text encoder";
const CLIP_H: &str = "CLIP-H, the text encoder of Stable Diffusion 2";
const LONG_CLIP: &str = "LongCLIP, which has 248 positions in place of 77";
const CLIP_VISION: &str = "the vision half of a CLIP";
const SIGLIP: &str = "a SigLIP, whose vocabulary is another than CLIP's";
const BERT: &str = "a BERT text encoder, as Chinese CLIPs have";

const CLIPS: &[Kind] = &[
    other(Clip, SIGLIP, &[TABLE, "text_model.head.weight"]),
    shaped(Clip, LONG_CLIP, &[TABLE], |s| s.of("text_model.embeddings.position_embedding.weight", 0) == Some(248)),
    shaped(Clip, LONG_CLIP, &[BARE_TABLE], |s| s.of("embeddings.position_embedding.weight", 0) == Some(248)),
    shaped(Clip, CLIP_G, &[TABLE], |s| s.of(TABLE, 1) == Some(1280)),
    shaped(Clip, CLIP_H, &[TABLE], |s| s.of(TABLE, 1) == Some(1024)),
    shaped(Clip, CLIP_G, &[BARE_TABLE], |s| s.of(BARE_TABLE, 1) == Some(1280)),
    shaped(Clip, CLIP_H, &[BARE_TABLE], |s| s.of(BARE_TABLE, 1) == Some(1024)),
    shaped(Clip, CLIP_G, OPEN_CLIP, |s| s.of("token_embedding.weight", 1) == Some(1280)),
    shaped(Clip, CLIP_H, OPEN_CLIP, |s| s.of("token_embedding.weight", 1) == Some(1024)),
    shaped(Clip, LONG_CLIP, OPEN_CLIP, |s| s.of("positional_embedding", 0) == Some(248)),
    other(Clip, "a CLIP in OpenCLIP's layout", OPEN_CLIP),
    usable(Clip, Original, &[TABLE]),
    usable(Clip, Original, &[BARE_TABLE]),
    usable(Clip, Original, &["text_model.encoder.layers.0.self_attn.q_proj.weight"]),
    other(Clip, CLIP_VISION, &["vision_model.embeddings.patch_embedding.weight"]),
    other(Clip, CLIP_VISION, &["visual.conv1.weight", "visual.class_embedding"]),
    other(Clip, BERT, &["embeddings.word_embeddings.weight"]),
];

const UMT5: &str = "uMT5, the text encoder of Wan, which has a table of distances in every block and other words";
const MT5: &str = "mT5, whose vocabulary is another than T5's";
const BYT5: &str = "ByT5, which reads bytes and no words";
const OLD_T5: &str = "a T5 of version 1.0, whose layers have no gate; Flux needs version 1.1";
const T5_Q: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";
const LLAMA: &str = "model.layers.0.self_attn.q_proj.weight";

const T5S: &[Kind] = &[
    other(T5, UMT5, &["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]),
    other(T5, UMT5, &["blocks.0.pos_embedding.embedding.weight"]),
    shaped(T5, UMT5, &[T5_Q], |s| s.words().is_some_and(|words| (256_000..=256_512).contains(&words))),
    shaped(T5, MT5, &[T5_Q], |s| s.words().is_some_and(|words| (250_000..=250_240).contains(&words))),
    shaped(T5, BYT5, &[T5_Q], |s| s.words().is_some_and(|words| words < 2048)),
    other(T5, OLD_T5, &["encoder.block.0.layer.1.DenseReluDense.wi.weight"]),
    usable(T5, Original, &[T5_Q]),
    usable(T5, Original, &["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]),
    other(T5, "Gemma, a language model", &[LLAMA, "model.layers.0.pre_feedforward_layernorm.weight"]),
    other(T5, "Qwen-VL, a language model", &[LLAMA, "visual.blocks.0.attn.qkv.weight"]),
    other(T5, "Qwen, a language model", &[LLAMA, "model.layers.0.self_attn.q_norm.weight"]),
    other(T5, "Qwen, a language model", &[LLAMA, "model.layers.0.self_attn.q_proj.bias"]),
    other(T5, "a language model", &[LLAMA]),
];

const VIDEO_VAE: &str = "the autoencoder of a video model, whose convolutions have three dimensions";
const WAN_VAE: &str = "the autoencoder of Wan or Qwen-Image, whose convolutions have three dimensions";
const SD_VAE: &str = "the autoencoder of Stable Diffusion 1, 2 or XL, whose latents have 4 channels where Flux has 16";
const FLUX_2_VAE: &str = "the autoencoder of Flux.2, whose latents have 32 channels where Flux has 16";
const TAESD: &str = "a tiny autoencoder (TAESD), which only previews";
const CONV_IN: &str = "decoder.conv_in.weight";

const AUTOENCODERS: &[Kind] = &[
    other(Autoencoder, WAN_VAE, &["decoder.middle.0.residual.0.gamma"]),
    other(Autoencoder, WAN_VAE, &["decoder.mid_block.resnets.0.norm1.gamma"]),
    other(Autoencoder, VIDEO_VAE, &["decoder.conv_in.conv.weight"]),
    shaped(Autoencoder, VIDEO_VAE, &[CONV_IN], |s| s.rank(CONV_IN) == Some(5)),
    other(Autoencoder, VIDEO_VAE, &["decoder.conv1.weight", "decoder.head.0.gamma"]),
    other(Autoencoder, VIDEO_VAE, &[CONV_IN, "decoder.time_conv_out.weight"]),
    other(Autoencoder, TAESD, &["decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"]),
    other(Autoencoder, TAESD, &["decoder.1.weight", "decoder.3.conv.0.weight"]),
    other(Autoencoder, TAESD, &["3.conv.0.weight", "4.conv.0.weight"]),
    other(Autoencoder, TAESD, &["taesd_decoder.1.weight"]),
    other(Autoencoder, "the autoencoder of Sana", &["decoder.stages.0.op_list.0.main.conv1.conv.weight"]),
    other(Autoencoder, "the first stage of Stable Cascade", &["vquantizer.codebook.weight"]),
    other(Autoencoder, "a quantising autoencoder (VQ)", &[CONV_IN, "quantize.embedding.weight"]),
    shaped(Autoencoder, FLUX_2_VAE, &[CONV_IN], |s| s.of(CONV_IN, 1) == Some(32)),
    shaped(Autoencoder, SD_VAE, &[CONV_IN], |s| s.of(CONV_IN, 1) == Some(4)),
    usable(Autoencoder, Diffusers, &["decoder.mid_block.resnets.0.conv1.weight"]),
    usable(Autoencoder, Diffusers, &["decoder.up_blocks.0.resnets.0.conv1.weight"]),
    usable(Autoencoder, Original, &[CONV_IN]),
    usable(Autoencoder, Original, &["decoder.mid.block_1.conv1.weight"]),
    other(Autoencoder, "the encoder half of an autoencoder, which draws nothing", &["encoder.conv_in.weight"]),
];
