//! The autoencoder that latent diffusion came with, in every layout and with any number of channels.

use std::sync::Arc;

use core_tensor::{Compute, Place, Residency, Weights};

use super::{Count, Duty, Is, Kind, Network, Part, Placement, Word};
use crate::{
    AnyVae, AnyVaeDimensions, AutoencoderKl, Error, LatentScaling, LdmNames, TinyAutoencoder, TinyDimensions,
    TinyNames, VaeConfig, VaeDimensions, vae::EncoderHalf,
};

/// The id of one that is under no other.
pub const AUTOENCODER: &str = "autoencoder";

/// What messages call it.
pub const NAME: &str = "an autoencoder";

const CONV_IN: &str = "decoder.conv_in.weight";
const MIDDLE: &str = "decoder.mid_block.resnets.0.conv1.weight";

/// How large one is, by its headers; `both` is whether its model can't do without the encoder. Where it can, an encoder with which something is
/// wrong counts as none, until [`encoder_bytes`] is asked for it.
///
/// # Errors
/// As [`AnyVaeDimensions::of`] and [`AnyVaeDimensions::of_both`], in [`Error::InPart`].
pub fn dimensions(part: &Part, config: &VaeConfig, both: bool) -> Result<AnyVaeDimensions, Error> {
    part.look(|w| match both {
        true => AnyVaeDimensions::of_both(w, config.groups()),
        false => AnyVaeDimensions::of_both(w, config.groups()).or_else(|_| AnyVaeDimensions::of(w, config.groups())),
    })
}

/// Loads one from its part: its decoder now, and its encoder, where the file has one, whenever pictures are encoded; a tiny one as a whole.
///
/// # Errors
/// As [`AutoencoderKl::load`] and [`TinyAutoencoder::load`], in [`Error::InPart`].
pub fn load(part: &Part, at: &Placement, config: &VaeConfig, scaling: LatentScaling) -> Result<AnyVae, Error> {
    if part.look(|w| Ok(TinyDimensions::are_of(w)))? {
        return Ok(part.load(at, Residency::Unpacked, TinyAutoencoder::load)?.into());
    }
    let vae = part.load(at, Residency::Unpacked, |w| AutoencoderKl::load(w, config, scaling))?;
    if !part.look(|w| Ok(VaeDimensions::has_encoder(w)))? {
        return Ok(vae.into());
    }
    let (part, at, config) = (part.clone(), at.clone(), config.clone());
    Ok(vae.encoding(move || part.load(&at, Residency::Unpacked, |w| EncoderHalf::load(w, &config))).into())
}

/// What the weights of a part's encoder take of memory at most beside the part, in bytes, once nothing is wrong with its headers; 0 for a tiny
/// one, which is loaded with its decoder.
///
/// # Errors
/// [`Error::NoEncoder`], a tensor that is missing or has the wrong shape, or halves that don't fit each other; in [`Error::InPart`].
pub fn encoder_bytes(part: &Part, config: &VaeConfig) -> Result<u64, Error> {
    let at = Place::Device(Compute::F32);
    part.look(|w| {
        if TinyDimensions::are_of(w) {
            return AnyVaeDimensions::of_both(w, config.groups()).map(|_| 0);
        }
        if !VaeDimensions::has_encoder(w) {
            return Err(Error::NoEncoder);
        }
        let of = |dimensions: VaeDimensions| w.before(AutoencoderKl::MARK).laid_out(dimensions.layout());
        let both = of(VaeDimensions::of_both(w, config.groups())?);
        if let Some(fault) = both.faults().next() {
            return Err(fault.into());
        }
        let [both, decoder] = [both, of(VaeDimensions::of(w, config.groups())?)].map(|w| w.bytes(at).unpacked);
        Ok(both.saturating_sub(decoder))
    })
}

/// One of any number of channels, by the id [`AUTOENCODER`]; those of [`of_channels`] stand before it. Tiny ones go by the [`id`] of their
/// channels.
pub fn kinds() -> Vec<Kind> {
    let of = |mark: &str| Kind::of(Duty::AUTOENCODER, NAME, [mark]).id(AUTOENCODER);
    let full = vec![
        named(of(MIDDLE)),
        named(of("decoder.up_blocks.0.resnets.0.conv1.weight")),
        named(of(CONV_IN)),
        named(of("decoder.mid.block_1.conv1.weight")),
        Kind::of(
            Duty::AUTOENCODER,
            "the encoder half of an autoencoder, which draws nothing",
            ["encoder.conv_in.weight"],
        ),
    ];
    full.into_iter().chain(tiny()).collect()
}

/// Tiny ones under each of their names, for as many channels as there are published ones of, and halves that are no whole.
fn tiny() -> Vec<Kind> {
    // Two tensors of the first block, and what takes the latent; a file of one half has nothing before its numbers.
    let decoders = [
        (["decoder.layers.2.conv.0.weight", "decoder.layers.2.conv.2.weight"], TinyAutoencoder::MARK),
        (["decoder.3.conv.0.weight", "decoder.3.conv.2.weight"], "decoder.1.weight"),
        (["taesd_decoder.3.conv.0.weight", "taesd_decoder.3.conv.2.weight"], "taesd_decoder.1.weight"),
        (["3.conv.0.weight", "3.conv.2.weight"], "1.weight"),
    ];
    let encoders = [
        (["encoder.layers.1.conv.0.weight", "encoder.layers.1.conv.2.weight"], "encoder.layers.0.weight"),
        (["encoder.1.conv.0.weight", "encoder.1.conv.2.weight"], "encoder.0.weight"),
        (["taesd_encoder.1.conv.0.weight", "taesd_encoder.1.conv.2.weight"], "taesd_encoder.0.weight"),
        (["1.conv.0.weight", "1.conv.2.weight"], "0.weight"),
    ];
    let of = |name: &str, (marks, input): ([&'static str; 2], &'static str), channels: Option<usize>| {
        let kind = Kind::of(Duty::AUTOENCODER, name, marks).telling();
        kind.shaped(move |s| {
            s.rank(input) == Some(4) && channels.is_none_or(|channels| s.of(input, 1) == Some(channels))
        })
    };
    let network = tiny_network();
    let usable = TINY.into_iter().flat_map(|(channels, name)| {
        let network = &network;
        decoders.into_iter().map(move |names| {
            let kind = of(name, names, Some(channels)).id(id(channels)).computed_by(network.clone());
            kind.renamed(|source, prefix| Arc::new(TinyNames::under(prefix, source)))
        })
    });
    let others = decoders.into_iter().map(|names| of("a tiny autoencoder of another number of channels", names, None));
    let half = "the encoder half of a tiny autoencoder, which draws nothing";
    usable.chain(others).chain(encoders.into_iter().map(|names| of(half, names, None))).collect()
}

/// Channels of the latents that there are tiny autoencoders for.
const TINY: [(usize, &str); 2] = [
    (4, "a tiny autoencoder whose latents have 4 channels (TAESD, TAESDXL)"),
    (16, "a tiny autoencoder whose latents have 16 channels (TAEF1)"),
];

/// [`TinyAutoencoder`], under diffusers' names; its latents are those that a model denoises. The encoder may be missing.
fn tiny_network() -> Network {
    Network::of(Duty::AUTOENCODER, TinyAutoencoder::MARK, |w, _| Ok(TinyDimensions::of(w)?.layout()))
        .variant(|_: &Weights| "autoencoder-tiny".into())
        .classes(["AutoencoderTiny"])
        // diffusers/models/autoencoders/autoencoder_tiny.py
        .words([
            Word::of("act_fn", Is::Text("relu".into())),
            Word::of("upsample_fn", Is::Text("nearest".into())),
            Word::of("upsampling_scaling_factor", Is::Number(2.0)),
            Word::of("scaling_factor", Is::Number(1.0)),
            Word::of("shift_factor", Is::Number(0.0)),
        ])
        .counts([
            Count::dimension("latent_channels", TinyAutoencoder::MARK, 1),
            Count::dimension("in_channels", "encoder.layers.0.weight", 1),
        ])
}

/// One whose latents have so many channels, which messages call `name`; its id is that of [`id`].
pub fn of_channels(channels: usize, name: &str) -> Vec<Kind> {
    let of = |marks: &[&str]| {
        let kind = Kind::of(Duty::AUTOENCODER, name, marks).id(id(channels));
        kind.shaped(move |s| s.of(CONV_IN, 1) == Some(channels))
    };
    vec![named(of(&[CONV_IN, MIDDLE])), named(of(&[CONV_IN]))]
}

/// The id of one whose latents have so many channels, where a family tells it apart by them.
pub fn id(channels: usize) -> String {
    format!("{AUTOENCODER}-{channels}")
}

/// The same under the original names, which files in that layout too may lack in their attention.
fn named(kind: Kind) -> Kind {
    kind.renamed(|source, prefix| Arc::new(LdmNames::under(prefix, source)))
}

/// [`AutoencoderKl`], under the original names, whose latents are scaled as a family has it. Of its tensors the decoder's are needed.
pub fn network(scaling: LatentScaling) -> Network {
    let widths = |w: &Weights| {
        let levels = w.at("decoder.up").depth().ok().filter(|&levels| levels > 0)?;
        let width = |level| w.shape(&format!("decoder.up.{level}.block.0.conv1.weight"))?.first().copied();
        (0..levels).map(width).collect()
    };
    Network::of(Duty::AUTOENCODER, AutoencoderKl::MARK, move |w, settings| {
        let config: VaeConfig = settings.read()?;
        let dimensions = VaeDimensions::of(w, config.groups())?;
        scaling.replaced_by(&config)?;
        Ok(dimensions.layout())
    })
    .variant(|_: &Weights| "autoencoder-kl".into())
    .classes(["AutoencoderKL"])
    // diffusers/models/autoencoders/autoencoder_kl.py
    .words([
        Word::of("scaling_factor", Is::Positive),
        Word::of("act_fn", Is::Text("silu".into())),
        Word::of("mid_block_add_attention", Is::Truth(true)),
        Word::of("up_block_types", Is::Each(Is::Text("UpDecoderBlock2D".into()).into())),
        Word::of("down_block_types", Is::Each(Is::Text("DownEncoderBlock2D".into()).into())),
        Word::of("latents_mean", Is::Absent),
        Word::of("latents_std", Is::Absent),
    ])
    .counts([
        Count::dimension("latent_channels", CONV_IN, 1),
        Count::dimension("out_channels", "decoder.conv_out.weight", 0),
        Count::of("block_out_channels", widths),
        Count::depth("up_block_types", "decoder.up"),
        Count::depth("down_block_types", "decoder.up"),
        // Where its tensors are there, they are told as unread.
        Count::of("use_post_quant_conv", |w| w.shape("post_quant_conv.weight").is_none().then_some(false.into())),
        // The decoder has one more than the encoder, of which the config speaks.
        Count::of("layers_per_block", |w| Some(w.at("decoder.up.0.block").depth().ok()?.checked_sub(1)?.into())),
    ])
}
