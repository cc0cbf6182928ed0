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
#[derive(Clone, Copy)]
struct Names {
    /// Tensors that every UNet of the layout has.
    marks: [&'static str; 1],
    input: &'static str,
    output: &'static str,
    /// Takes the vector beside the prompt.
    adm: &'static str,
    /// Lets pixels into the transformer in the middle.
    projection: &'static str,
    /// Takes the prompt there.
    keys: &'static str,
}

const LDM: Names = Names {
    marks: ["input_blocks.0.0.weight"],
    input: "input_blocks.0.0.weight",
    output: "out.2.weight",
    adm: "label_emb.0.0.weight",
    projection: "middle_block.1.proj_in.weight",
    keys: "middle_block.1.transformer_blocks.0.attn2.to_k.weight",
};

const DIFFUSERS: Names = Names {
    marks: ["down_blocks.0.resnets.0.time_emb_proj.weight"],
    input: "conv_in.weight",
    output: "conv_out.weight",
    adm: "add_embedding.linear_1.weight",
    projection: "mid_block.attentions.0.proj_in.weight",
    keys: "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
};

/// What a UNet is called by its edition.
fn edition(s: &Shapes, names: &Names) -> &'static str {
    const REFINER_WIDTH: usize = 384; // sd_xl_refiner.yaml: model_channels
    const REFINER_ADM: usize = 2560; // the same file: adm_in_channels
    let adm = s.of(names.adm, 1);
    match (adm, s.rank(names.projection)) {
        (Some(REFINER_ADM), _) => "the UNet of SDXL's refiner",
        (Some(_), _) if s.of(names.input, 0) == Some(REFINER_WIDTH) => "the UNet of SDXL's refiner",
        (Some(_), _) => "an SDXL UNet",
        (None, Some(4)) => "a Stable Diffusion 1 UNet",
        (None, Some(2)) => "a Stable Diffusion 2 UNet",
        (None, _) => NAME,
    }
}

const EDITIONS: [&str; 5] =
    ["the UNet of SDXL's refiner", "an SDXL UNet", "a Stable Diffusion 1 UNet", "a Stable Diffusion 2 UNet", NAME];

/// What a UNet takes beside the latent, by the channels of its input.
const BESIDE: [(usize, &str); 3] =
    [(CHANNELS, ""), (9, ", for inpainting"), (8, ", which edits a picture as it is told (instruct-pix2pix)")];

/// UNets, those that can't be run first.
pub(super) fn unets() -> Vec<Kind> {
    [LDM, DIFFUSERS].into_iter().flat_map(relatives).chain([LDM, DIFFUSERS].into_iter().flat_map(usable)).collect()
}

fn usable(names: Names) -> Vec<Kind> {
    let of = |of_edition: &'static str, (channels, beside): (usize, &str)| {
        let kind = Kind::of(Duty::DENOISER, format!("{of_edition}{beside}"), names.marks).id(UNET);
        let kind = kind.shaped(move |s| {
            edition(s, &names) == of_edition
                && s.of(names.input, 1) == Some(channels)
                && s.of(names.output, 0) == Some(CHANNELS)
        });
        match names.input == DIFFUSERS.input {
            true => kind.renamed(|source, prefix| Arc::new(LdmUnetNames::under(prefix, source))),
            false => kind,
        }
    };
    EDITIONS.into_iter().flat_map(|of_edition| BESIDE.map(|beside| of(of_edition, beside))).collect()
}

fn relatives(names: Names) -> Vec<Kind> {
    let taking = |name: &str, channels: usize| {
        Kind::of(Duty::DENOISER, name, names.marks).shaped(move |s| s.of(names.input, 1) == Some(channels))
    };
    let video = match names.input == DIFFUSERS.input {
        true => vec!["down_blocks.0.resnets.0.spatial_res_block.time_emb_proj.weight"],
        false => vec![LDM.input, "input_blocks.1.0.time_stack.in_layers.0.weight"],
    };
    const OPEN_CLIP_H: usize = 1024;
    let unclip = [names.marks[0], names.adm];
    vec![
        Kind::of(Duty::DENOISER, VIDEO_UNET, video),
        Kind::of(Duty::DENOISER, UNCLIP, unclip).shaped(move |s| s.of(names.keys, 1) == Some(OPEN_CLIP_H)),
        taking(UPSCALER, 7),
        taking(DEPTH, 5),
    ]
}

/// Autoencoders, of which those of relatives are known by their channels.
pub(super) fn autoencoders() -> Vec<Kind> {
    let own = (CHANNELS, "the autoencoder of Stable Diffusion 1, 2 or XL, whose latents have 4 channels");
    let relatives = [
        own,
        (16, "an autoencoder whose latents have 16 channels"),
        (32, "the autoencoder of Flux.2, whose latents have 32 channels"),
    ];
    let relatives = relatives.into_iter().flat_map(|(channels, name)| autoencoder::of_channels(channels, name));
    relatives.chain(autoencoder::kinds()).collect()
}
