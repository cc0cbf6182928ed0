//! Models of families that don't run here, by which a file in a model's place is called by its name.

use diffusion_engine::family::{Duty, Kind, autoencoder, clip, t5};

/// All of them; a family's own word goes before one that is no more specific. Of each duty the most specific stand first.
pub(crate) fn kinds() -> Vec<Kind> {
    [
        adapters(),
        transformers(),
        unets(),
        clip::kinds(),
        t5::kinds(),
        languages(),
        autoencoders(),
        sized_autoencoders(),
        autoencoder::kinds(),
    ]
    .concat()
}

fn of(duty: Duty, rows: &[(&str, &[&str])]) -> Vec<Kind> {
    rows.iter().map(|(name, marks)| Kind::of(duty, *name, *marks)).collect()
}

const CONTROLNET: &str = "a ControlNet";
const IP_ADAPTER: &str = "an IP-Adapter";
const UPSCALER: &str = "an upscaler";
const EMBEDDING: &str = "a textual inversion, words that a text encoder learnt";
const MOTION: &str = "an AnimateDiff motion module";

/// What stands beside a model, some of it with copies of the model's own blocks.
fn adapters() -> Vec<Kind> {
    let beside_denoisers = of(
        Duty::DENOISER,
        &[
            (CONTROLNET, &["controlnet_blocks.0.weight"]),
            (CONTROLNET, &["controlnet_x_embedder.weight"]),
            (CONTROLNET, &["controlnet_cond_embedding.conv_in.weight"]),
            (CONTROLNET, &["control_model.input_blocks.0.0.weight"]),
            (CONTROLNET, &["input_hint_block.0.weight"]),
            (CONTROLNET, &["controlnet_down_blocks.0.weight"]),
            ("a T2I adapter", &["adapter.body.0.resnets.0.block1.weight"]),
            ("a T2I adapter", &["body.0.block1.weight", "conv_in.weight"]),
            (IP_ADAPTER, &["ip_adapter.1.to_k_ip.weight"]),
            (IP_ADAPTER, &["ip_adapter_proj_model.proj.weight"]),
            (IP_ADAPTER, &["image_proj.proj.weight"]),
            (IP_ADAPTER, &["image_proj.latents"]),
            (IP_ADAPTER, &["double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"]),
            ("Flux Redux, which turns pictures into prompts", &["redux_up.weight"]),
            ("a PuLID adapter", &["pulid_ca.0.norm1.weight"]),
            (MOTION, &["down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"]),
            (UPSCALER, &["conv_first.weight", "conv_last.weight"]),
            (UPSCALER, &["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"]),
            (UPSCALER, &["conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"]),
        ],
    );
    let beside_encoders = of(Duty::CLIP, &[(EMBEDDING, &["emb_params"]), (EMBEDDING, &["clip_g", "clip_l"])]);
    beside_denoisers.into_iter().chain(beside_encoders).map(Kind::telling).collect()
}

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

fn transformers() -> Vec<Kind> {
    of(
        Duty::DENOISER,
        &[
            (SD35, &["joint_blocks.0.x_block.attn.ln_q.weight"]),
            (SD3, &["joint_blocks.0.x_block.attn.qkv.weight"]),
            (SD3, &["joint_blocks.0.context_block.attn.qkv.weight"]),
            (QWEN_IMAGE, &["transformer_blocks.0.img_mod.1.weight"]),
            (QWEN_IMAGE, &["txt_norm.weight", "img_in.weight"]),
            (AURA_FLOW, &["double_layers.0.attn.w1q.weight"]),
            (AURA_FLOW, &["joint_transformer_blocks.0.attn.add_q_proj.weight"]),
            (SD35, &["pos_embed.proj.weight", "transformer_blocks.0.attn.norm_added_q.weight"]),
            (SD3, &["pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"]),
            (WAN, &["head.modulation"]),
            (WAN, &["condition_embedder.text_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"]),
            (LTX, &["adaln_single.emb.timestep_embedder.linear_1.weight", "patchify_proj.weight"]),
            (LTX, &["scale_shift_table", "proj_in.weight", "caption_projection.linear_1.weight"]),
            (SANA, &["blocks.0.mlp.inverted_conv.conv.weight"]),
            (SANA, &["transformer_blocks.0.ff.conv_inverted.weight"]),
            (PIXART, &["t_block.1.weight"]),
            (PIXART, &["adaln_single.emb.timestep_embedder.linear_1.weight", "pos_embed.proj.weight"]),
            (Z_IMAGE, &["cap_pad_token"]),
            ("an OmniGen 2 transformer", &["ref_image_patch_embedder.weight"]),
            (LUMINA, &["cap_embedder.1.weight"]),
            (LUMINA, &["time_caption_embed.caption_embedder.1.weight"]),
            (HIDREAM, &["caption_projection.0.linear.weight"]),
            ("a Hunyuan-DiT transformer", &["mlp_t5.0.weight"]),
            ("a Mochi video transformer", &["t5_yproj.weight"]),
            ("a CogVideoX transformer", &["patch_embed.text_proj.weight"]),
            ("a Kandinsky 5 transformer", &["visual_transformer_blocks.0.cross_attention.key_norm.weight"]),
            (COSMOS, &["blocks.block0.blocks.0.block.attn.to_q.0.weight"]),
            (COSMOS, &["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"]),
            (CASCADE, &["clf.1.weight"]),
            (CASCADE, &["effnet_mapper.0.weight"]),
            ("an OmniGen transformer", &["llm.layers.0.self_attn.qkv_proj.weight"]),
            ("a Stable Audio transformer", &["transformer.rotary_pos_emb.inv_freq"]),
            ("a transformer of another family", &["transformer_blocks.0.attn.to_q.weight"]),
        ],
    )
}

const SD_1: &str = "a Stable Diffusion 1 UNet";
const SD_2: &str = "a Stable Diffusion 2 UNet";
const SDXL: &str = "an SDXL UNet";
const REFINER: &str = "the UNet of SDXL's refiner";
const UNET: &str = "a UNet whose first convolution or width of text is not one of Stable Diffusion's";
const VIDEO_UNET: &str = "a Stable Video Diffusion UNet";
const LDM: &str = "input_blocks.0.0.weight";
const LDM_KEYS: &str = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
const DIFFUSERS: &str = "down_blocks.0.resnets.0.time_emb_proj.weight";
const DIFFUSERS_KEYS: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
const ADDED: [&str; 2] = ["conv_in.weight", "add_embedding.linear_1.weight"];
const LABELLED: [&str; 2] = [LDM, "label_emb.0.0.weight"];

/// UNets, by the width of their first level and of the text that they attend to.
fn unets() -> Vec<Kind> {
    let unet = |name: &str, marks: &[&str]| Kind::of(Duty::DENOISER, name, marks);
    let wide = |name: &str, marks: [&'static str; 2], width: usize| {
        unet(name, &marks).shaped(move |s| s.of(marks[0], 0) == Some(width))
    };
    let attending = |name: &str, mark: &str, keys: &'static str, width: usize| {
        unet(name, &[mark]).shaped(move |s| s.of(keys, 1) == Some(width))
    };
    vec![
        unet(VIDEO_UNET, &[LDM, "input_blocks.1.0.time_stack.in_layers.0.weight"]).telling(),
        unet(VIDEO_UNET, &["down_blocks.0.resnets.0.spatial_res_block.time_emb_proj.weight"]).telling(),
        wide(REFINER, LABELLED, 384),
        wide(REFINER, ADDED, 384),
        unet(SDXL, &LABELLED),
        unet(SDXL, &ADDED),
        attending(SD_1, LDM, LDM_KEYS, 768),
        attending(SD_2, LDM, LDM_KEYS, 1024),
        attending(SD_1, DIFFUSERS, DIFFUSERS_KEYS, 768),
        attending(SD_2, DIFFUSERS, DIFFUSERS_KEYS, 1024),
        unet(UNET, &[LDM]),
        unet(UNET, &[DIFFUSERS]),
    ]
}

/// Autoencoders that their channels tell apart, so that none of them is taken for one of any family.
fn sized_autoencoders() -> Vec<Kind> {
    let sized = [
        (4, "the autoencoder of Stable Diffusion 1, 2 or XL, whose latents have 4 channels"),
        (32, "the autoencoder of Flux.2, whose latents have 32 channels"),
    ];
    sized.into_iter().flat_map(|(channels, name)| autoencoder::of_channels(channels, name)).collect()
}

const LLAMA: &str = "model.layers.0.self_attn.q_proj.weight";

/// Language models, which stand in the place of a T5 in later families.
fn languages() -> Vec<Kind> {
    of(
        Duty::T5,
        &[
            ("Gemma, a language model", &[LLAMA, "model.layers.0.pre_feedforward_layernorm.weight"]),
            ("Qwen-VL, a language model", &[LLAMA, "visual.blocks.0.attn.qkv.weight"]),
            ("Qwen, a language model", &[LLAMA, "model.layers.0.self_attn.q_norm.weight"]),
            ("Qwen, a language model", &[LLAMA, "model.layers.0.self_attn.q_proj.bias"]),
            ("a language model", &[LLAMA]),
        ],
    )
}

const VIDEO_VAE: &str = "the autoencoder of a video model, whose convolutions have three dimensions";
const WAN_VAE: &str = "the autoencoder of Wan or Qwen-Image, whose convolutions have three dimensions";
const TAESD: &str = "a tiny autoencoder (TAESD) without its first block";
const VQ: &str = "a quantising autoencoder (VQ)";
const CONV_IN: &str = "decoder.conv_in.weight";

fn autoencoders() -> Vec<Kind> {
    let solid = Kind::of(Duty::AUTOENCODER, VIDEO_VAE, [CONV_IN]).shaped(|s| s.rank(CONV_IN) == Some(5));
    let rows = of(
        Duty::AUTOENCODER,
        &[
            (WAN_VAE, &["decoder.middle.0.residual.0.gamma"]),
            (WAN_VAE, &["decoder.mid_block.resnets.0.norm1.gamma"]),
            (VIDEO_VAE, &["decoder.conv_in.conv.weight"]),
            (VIDEO_VAE, &["decoder.conv1.weight", "decoder.head.0.gamma"]),
            (VIDEO_VAE, &[CONV_IN, "decoder.time_conv_out.weight"]),
            (TAESD, &["taesd_decoder.1.weight"]),
            ("the autoencoder of Sana", &["decoder.stages.0.op_list.0.main.conv1.conv.weight"]),
            ("the first stage of Stable Cascade", &["vquantizer.codebook.weight"]),
            (VQ, &[CONV_IN, "quantize.embedding.weight"]),
        ],
    );
    rows.into_iter().chain([solid]).map(Kind::telling).collect()
}
