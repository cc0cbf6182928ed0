//! What Stable Diffusion and its relatives are told apart by: the marks are those of the original releases and of diffusers'
//! conversions.

use std::sync::Arc;

use diffusion_engine::family::{Duty, Kind, Shapes, autoencoder};

use crate::LdmUnetNames;

/// The id of a UNet that can be run.
pub(super) const UNET: &str = "sd-unet";
/// What messages call it.
pub(super) const NAME: &str = "a Stable Diffusion UNet";
/// Channels of the latents.
pub(super) const CHANNELS: usize = 4;

const VIDEO_UNET: &str = "a Stable Video Diffusion UNet";
const UPSCALER: &str = "the UNet of Stable Diffusion's upscaler, which takes a small picture beside the latent";
const UNCLIP: &str = "the UNet of Stable unCLIP, which varies pictures";
const DEPTH: &str = "a Stable Diffusion UNet that takes a depth map beside the latent";

/// A layout of the same network.
#[derive(Clone, Copy, Debug)]
struct Names {
    /// A tensor that every UNet of the layout has.
    mark: &'static str,
    input: &'static str,
    /// Takes the vector beside the prompt.
    adm: &'static str,
    /// Lets pixels into the transformer in the middle.
    projection: &'static str,
    /// Take the prompt, on the finest level and in the middle.
    keys: [&'static str; 2],
}

const LDM: Names = Names {
    mark: "input_blocks.0.0.weight",
    input: "input_blocks.0.0.weight",
    adm: "label_emb.0.0.weight",
    projection: "middle_block.1.proj_in.weight",
    keys: [
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight",
    ],
};

const DIFFUSERS: Names = Names {
    mark: "down_blocks.0.resnets.0.time_emb_proj.weight",
    input: "conv_in.weight",
    adm: "add_embedding.linear_1.weight",
    projection: "mid_block.attentions.0.proj_in.weight",
    keys: [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    ],
};

const REFINER: &str = "the UNet of SDXL's refiner";
const XL: &str = "an SDXL UNet";
const ONE: &str = "a Stable Diffusion 1 UNet";
const TWO: &str = "a Stable Diffusion 2 UNet";
const EDITIONS: [&str; 5] = [REFINER, XL, ONE, TWO, NAME];

/// What a UNet is called by its edition.
fn edition(s: &Shapes, names: &Names) -> &'static str {
    const REFINER_WIDTH: usize = 384; // sd_xl_refiner.yaml: model_channels
    const REFINER_ADM: usize = 2560; // the same file: adm_in_channels
    match (s.of(names.adm, 1), s.rank(names.projection), prompts(s, names)) {
        (Some(REFINER_ADM), ..) => REFINER,
        (Some(_), ..) if s.of(names.input, 0) == Some(REFINER_WIDTH) => REFINER,
        (Some(_), ..) => XL,
        // Through a convolution or a matrix.
        (None, Some(4), _) | (None, None, Some(768)) => ONE,
        (None, Some(2), _) | (None, None, Some(OPEN_CLIP_H)) => TWO,
        (None, ..) => NAME,
    }
}

const OPEN_CLIP_H: usize = 1024;

/// Width of the prompts.
fn prompts(s: &Shapes, names: &Names) -> Option<usize> {
    names.keys.into_iter().find_map(|keys| s.of(keys, 1))
}

/// What a UNet takes beside the latent, by the channels of its input.
const BESIDE: [(usize, &str); 3] =
    [(CHANNELS, ""), (9, ", for inpainting"), (8, ", which edits a picture as it is told (instruct-pix2pix)")];

/// UNets, those that can't be run first.
pub(super) fn unets() -> Vec<Kind> {
    [LDM, DIFFUSERS].into_iter().flat_map(relatives).chain([LDM, DIFFUSERS].into_iter().flat_map(usable)).collect()
}

fn usable(names: Names) -> Vec<Kind> {
    let of = |of_edition: &'static str, (channels, beside): (usize, &str)| {
        let marks = if [REFINER, XL].contains(&of_edition) { vec![names.mark, names.adm] } else { vec![names.mark] };
        let kind = Kind::of(Duty::DENOISER, format!("{of_edition}{beside}"), marks).id(UNET);
        let kind = kind
            .shaped(move |s| edition(s, &names) == of_edition && s.of(names.input, 1).unwrap_or(CHANNELS) == channels);
        match names.input == DIFFUSERS.input {
            true => kind.renamed(|source, prefix| Arc::new(LdmUnetNames::under(prefix, source))),
            false => kind,
        }
    };
    EDITIONS.into_iter().flat_map(|of_edition| BESIDE.map(|beside| of(of_edition, beside))).collect()
}

fn relatives(names: Names) -> Vec<Kind> {
    let of = |name: &str, marks: &[&str]| Kind::of(Duty::DENOISER, name, marks);
    let taking =
        |name: &str, channels: usize| of(name, &[names.mark]).shaped(move |s| s.of(names.input, 1) == Some(channels));
    let video = match names.input == DIFFUSERS.input {
        true => &["down_blocks.0.resnets.0.spatial_res_block.time_emb_proj.weight"][..],
        false => &[LDM.mark, "input_blocks.1.0.time_stack.in_layers.0.weight"],
    };
    let unclip = of(UNCLIP, &[names.mark, names.adm]).shaped(move |s| prompts(s, &names) == Some(OPEN_CLIP_H));
    vec![of(VIDEO_UNET, video), unclip, taking(UPSCALER, 7), taking(DEPTH, 5)]
}

/// The id of a CLIP under Hugging Face's names that has a projection, and a size that nobody published: it may be a second encoder.
pub(super) const PROJECTED: &str = "clip-projected";

/// Widths of the published text encoders, which say themselves what they are: CLIP-L, CLIP-H and CLIP-G.
const CLIPS: [usize; 3] = [768, 1024, 1280];

/// Text encoders with a projection, of other sizes than the published ones.
pub(super) fn projected() -> Vec<Kind> {
    const TABLE: &str = "text_model.embeddings.token_embedding.weight";
    let kind = Kind::of(Duty::CLIP, "a CLIP text encoder with a projection", [TABLE, "text_projection.weight"]);
    vec![kind.id(PROJECTED).shaped(|s| s.of(TABLE, 1).is_some_and(|width| !CLIPS.contains(&width)))]
}

/// Autoencoders, of which those of the own latents are known by their channels.
pub(super) fn autoencoders() -> Vec<Kind> {
    let name = "the autoencoder of Stable Diffusion 1, 2 or XL, whose latents have 4 channels";
    [autoencoder::of_channels(CHANNELS, name), autoencoder::kinds()].concat()
}
