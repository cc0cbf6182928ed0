//! What Flux and its relatives are told apart by: the marks are those of their own files and of diffusers' conversions.

use std::sync::Arc;

use diffusion_engine::family::{Duty, Kind, Shapes, autoencoder};

use crate::BflNames;

/// The id of a transformer that can be run.
pub(super) const FLUX: &str = "flux";

/// What messages call it.
pub(super) const NAME: &str = "a Flux transformer";

const CHROMA: &str = "a Chroma transformer";
const FLUX_2: &str = "a Flux.2 transformer";
const HUNYUAN_VIDEO: &str = "a HunyuanVideo transformer";
const CONCATENATED: &str = "a Flux that takes another picture beside the latent";
const NUNCHAKU: &str = "a Flux transformer in Nunchaku's layout";

/// Columns of Flux Fill's first matrix, which takes a masked picture and its mask beside the latent.
pub(super) const FILL: usize = 384;

/// The same of Flux Canny and Depth, which take a control picture.
pub(super) const CONTROL: usize = 128;

const QKV: &str = "double_blocks.0.img_attn.qkv.weight";
const LAST: &str = "final_layer.linear.weight";

/// Transformers, the most specific first.
pub(super) fn transformers() -> Vec<Kind> {
    let of = |name: &str, marks: &[&str]| Kind::of(Duty::DENOISER, name, marks);
    // What comes in beside a latent makes the first matrix wider than the last is high.
    let bfl = |name: &str, other: &str, beside: fn(usize) -> bool| {
        of(name, &["img_in.weight", other]).shaped(move |s| wider(s, "img_in.weight", LAST).is_some_and(beside))
    };
    let diffusers = |name: &str, beside: fn(usize) -> bool| {
        of(name, &["x_embedder.weight", "single_transformer_blocks.0.proj_mlp.weight"])
            .shaped(move |s| wider(s, "x_embedder.weight", "proj_out.weight").is_some_and(beside))
    };
    let flux = |marks: &[&str]| of(NAME, marks).id(FLUX);
    let converted = |marks: &[&str]| flux(marks).renamed(|source, prefix| Arc::new(BflNames::under(prefix, source)));
    vec![
        of(CHROMA, &["distilled_guidance_layer.norms.0.scale"]),
        of(CHROMA, &["distilled_guidance_layer.0.norms.0.scale"]),
        of(CHROMA, &["distilled_guidance_layer.in_proj.weight"]),
        of(FLUX_2, &["double_stream_modulation_img.lin.weight"]),
        of(FLUX_2, &["double_stream_modulation_img.linear.weight"]),
        of(FLUX_2, &["single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"]),
        of(HUNYUAN_VIDEO, &["txt_in.individual_token_refiner.blocks.0.norm1.weight"]),
        of(HUNYUAN_VIDEO, &["txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight"]),
        of(HUNYUAN_VIDEO, &["context_embedder.token_refiner.refiner_blocks.0.norm1.weight"]),
        of(HUNYUAN_VIDEO, &["double_blocks.0.img_attn_qkv.weight"]),
        bfl(CONCATENATED, QKV, |columns| ![FILL, CONTROL].contains(&columns)),
        diffusers(CONCATENATED, |columns| ![FILL, CONTROL].contains(&columns)),
        of(NUNCHAKU, &["single_transformer_blocks.0.qkv_proj.qweight"]),
        of(NUNCHAKU, &["single_transformer_blocks.0.mlp_fc1.qweight"]),
        flux(&[QKV]),
        flux(&["double_blocks.0.img_mlp.0.weight"]),
        flux(&["single_blocks.0.linear1.weight"]),
        flux(&["double_blocks.0.img_attn.norm.query_norm.scale", "img_in.weight"]),
        converted(&["single_transformer_blocks.0.proj_mlp.weight"]),
        converted(&["x_embedder.weight", "transformer_blocks.0.ff_context.net.0.proj.weight"]),
    ]
}

/// Columns of the matrix that takes a latent, where those are more than the rows of the matrix that gives one.
fn wider(shapes: &Shapes, input: &str, output: &str) -> Option<usize> {
    let ([_, input], [output, _]) = (shapes.matrix(input)?, shapes.matrix(output)?);
    (input > output && output > 0).then_some(input)
}

/// Autoencoders, of which those of relatives are known by their channels.
pub(super) fn autoencoders() -> Vec<Kind> {
    let relatives = [
        (32, "the autoencoder of Flux.2, whose latents have 32 channels"),
        (4, "the autoencoder of Stable Diffusion 1, 2 or XL, whose latents have 4 channels"),
    ];
    let relatives = relatives.into_iter().flat_map(|(channels, name)| autoencoder::of_channels(channels, name));
    relatives.chain(autoencoder::kinds()).collect()
}
