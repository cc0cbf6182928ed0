//! What the networks of each role read off a file's header: how large they are, and which tensors they need.

use core_tensor::{Layout, Weights};
use diffusion_engine::{ClipConfig, ClipDimensions, Error, T5Dimensions, VaeConfig, VaeDimensions};
use flux::{Dimensions, LATENT_SCALING, TransformerConfig};

/// A network's dimensions and its layout.
pub(crate) type Network<D> = Result<(D, Layout), Error>;

pub(crate) fn transformer(w: &Weights, config: &TransformerConfig) -> Network<Dimensions> {
    let dimensions = Dimensions::of(w, config)?;
    Ok((dimensions, dimensions.layout()))
}

pub(crate) fn clip(w: &Weights, config: &ClipConfig) -> Network<ClipDimensions> {
    let dimensions = ClipDimensions::of(w, config)?;
    Ok((dimensions, dimensions.layout()))
}

pub(crate) fn t5(w: &Weights) -> Network<T5Dimensions> {
    let dimensions = T5Dimensions::of(w)?;
    Ok((dimensions, dimensions.layout()))
}

/// The decoder alone: pictures are not encoded yet.
pub(crate) fn autoencoder(w: &Weights, config: &VaeConfig) -> Network<VaeDimensions> {
    let dimensions = VaeDimensions::of(w, config.groups())?;
    LATENT_SCALING.replaced_by(config)?;
    let layout = dimensions.layout();
    Ok((dimensions, layout))
}
