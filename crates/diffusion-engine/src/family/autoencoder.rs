//! The autoencoder that latent diffusion came with, in every layout and with any number of channels.

use std::sync::Arc;

use core_tensor::{Compute, Place, Residency, Weights};

use super::{Count, Duty, Is, Kind, Network, Part, Placement, Word};
use crate::{AutoencoderKl, Error, LatentScaling, LdmNames, VaeConfig, VaeDimensions, vae::EncoderHalf};

/// The id of one that is under no other.
pub const AUTOENCODER: &str = "autoencoder";

/// What messages call it.
pub const NAME: &str = "an autoencoder";

const CONV_IN: &str = "decoder.conv_in.weight";
const MIDDLE: &str = "decoder.mid_block.resnets.0.conv1.weight";

/// Loads one from its part: its decoder now, and its encoder, where the file has one, whenever pictures are encoded.
///
/// # Errors
/// As [`AutoencoderKl::load`], in [`Error::InPart`].
pub fn load(part: &Part, at: &Placement, config: &VaeConfig, scaling: LatentScaling) -> Result<AutoencoderKl, Error> {
    let vae = part.load(at, Residency::Unpacked, |w| AutoencoderKl::load(w, config, scaling))?;
    if !part.look(|w| Ok(VaeDimensions::has_encoder(w)))? {
        return Ok(vae);
    }
    let (part, at, config) = (part.clone(), at.clone(), config.clone());
    Ok(vae.encoding(move || part.load(&at, Residency::Unpacked, |w| EncoderHalf::load(w, &config))))
}

/// What the weights of a part's encoder take of memory at most, in bytes, once nothing is wrong with its headers.
///
/// # Errors
/// [`Error::NoEncoder`], a tensor that is missing or has the wrong shape, or halves that don't fit each other; in [`Error::InPart`].
pub fn encoder_bytes(part: &Part, config: &VaeConfig) -> Result<u64, Error> {
    let at = Place::Device(Compute::F32);
    part.look(|w| {
        if !VaeDimensions::has_encoder(w) {
            return Err(Error::NoEncoder);
        }
        let of = |dimensions: VaeDimensions| w.before(AutoencoderKl::MARK).laid_out(dimensions.layout());
        let both = of(VaeDimensions::of_both(w, config.groups())?);
        if let Some(fault) = both.faults().next() {
            return Err(fault.into());
        }
        let [[both, _], [decoder, _]] = [both, of(VaeDimensions::of(w, config.groups())?)].map(|w| w.bytes(at));
        Ok(both.saturating_sub(decoder))
    })
}

/// One of any number of channels, by the id [`AUTOENCODER`]; those of [`of_channels`] stand before it.
pub fn kinds() -> Vec<Kind> {
    let of = |mark: &str| Kind::of(Duty::AUTOENCODER, NAME, [mark]).id(AUTOENCODER);
    vec![
        named(of(MIDDLE)),
        named(of("decoder.up_blocks.0.resnets.0.conv1.weight")),
        named(of(CONV_IN)),
        named(of("decoder.mid.block_1.conv1.weight")),
        Kind::of(
            Duty::AUTOENCODER,
            "the encoder half of an autoencoder, which draws nothing",
            ["encoder.conv_in.weight"],
        ),
    ]
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
        Word::of("up_block_types", Is::Each("UpDecoderBlock2D".into())),
        Word::of("down_block_types", Is::Each("DownEncoderBlock2D".into())),
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
