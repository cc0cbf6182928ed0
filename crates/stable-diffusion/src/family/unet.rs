use core_tensor::Weights;
use diffusion_engine::family::{Count, Duty, Is, Network, Word};
use samplers::Prediction;

use crate::{Edition, Unet, UnetConfig, UnetDimensions, model::INPAINTING, spellings::spellings, trained};

const INPUT: &str = "input_blocks.0.0.weight";

/// [`Unet`], under the names of latent-diffusion.
pub(super) fn network() -> Network {
    Network::of(Duty::DENOISER, Unet::MARK, |w, settings| {
        Ok(UnetDimensions::of(w, &settings.read::<UnetConfig>()?)?.layout())
    })
    .variant(variant)
    .spellings(spellings)
    .classes(["UNet2DConditionModel"])
    // diffusers/models/unets/unet_2d_condition.py, with the values of Stable Diffusion's own configs
    .words([
        Word::of("act_fn", Is::Text("silu".into())),
        Word::of("addition_embed_type", Is::Text("text_time".into())),
        Word::of("attention_type", Is::Text("default".into())),
        Word::of("center_input_sample", Is::Truth(false)),
        Word::of("class_embed_type", Is::Absent),
        Word::of("conv_in_kernel", Is::Number(3.0)),
        Word::of("conv_out_kernel", Is::Number(3.0)),
        Word::of("down_block_types", each(["CrossAttnDownBlock2D", "DownBlock2D"])),
        Word::of("downsample_padding", Is::Number(1.0)),
        Word::of("dual_cross_attention", Is::Truth(false)),
        Word::of("encoder_hid_dim", Is::Absent),
        Word::of("flip_sin_to_cos", Is::Truth(true)),
        Word::of("freq_shift", Is::Number(0.0)),
        Word::of("mid_block_scale_factor", Is::Number(1.0)),
        Word::of("mid_block_type", any(["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"])),
        Word::of("norm_eps", Is::Number(1e-5)),
        Word::of("num_class_embeds", Is::Absent),
        Word::of("only_cross_attention", Is::Any(vec![Is::Truth(false), Is::Each(Is::Truth(false).into())])),
        Word::of("resnet_time_scale_shift", Is::Text("default".into())),
        Word::of("time_cond_proj_dim", Is::Absent),
        Word::of("time_embedding_act_fn", Is::Absent),
        Word::of("time_embedding_type", Is::Text("positional".into())),
        Word::of("timestep_post_act", Is::Absent),
        Word::of("up_block_types", each(["CrossAttnUpBlock2D", "UpBlock2D"])),
    ])
    .counts([
        Count::dimension("in_channels", INPUT, 1),
        Count::dimension("out_channels", "out.2.weight", 0),
        Count::dimension("projection_class_embeddings_input_dim", "label_emb.0.0.weight", 1),
        Count::of("use_linear_projection", |w| {
            let projection = w.shape("middle_block.1.proj_in.weight")?;
            Some((projection.len() == 2).into())
        }),
    ])
}

/// One of these texts.
fn any<const N: usize>(texts: [&str; N]) -> Is {
    Is::Any(texts.map(|text| Is::Text(text.into())).to_vec())
}

/// A list of nothing but these texts.
fn each<const N: usize>(texts: [&str; N]) -> Is {
    Is::Each(any(texts).into())
}

/// What lists call it: the edition, whether its own tensors say that it predicts velocity, and what it takes beside the latent.
fn variant(w: &Weights) -> String {
    let Ok(dimensions) = UnetDimensions::of(w, &UnetConfig::default()) else { return String::new() };
    let beside = match dimensions.in_channels {
        INPAINTING => "-inpainting",
        channels if channels == dimensions.out_channels => "",
        _ => "-with-picture",
    };
    let edition = Edition::of(&dimensions, w, None);
    let velocity = if trained::guess(edition, &dimensions, w).0 == Prediction::V { "-v" } else { "" };
    format!("{}{velocity}{beside}", edition.id())
}
