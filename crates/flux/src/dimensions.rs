/// How large a transformer is, as its tensors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Channels of a packed latent: four times the autoencoder's.
    pub in_channels: usize,
    /// Channels that it is shown beside a packed latent: those of a masked picture and its mask for Flux Fill, those of a control picture for
    /// Flux Canny and Depth, 0 for the others.
    pub beside: usize,
    /// Width of the T5 vectors.
    pub context: usize,
    /// Width of the CLIP vector.
    pub pooled: usize,
    /// Width of the transformer.
    pub hidden: usize,
    /// Width of the blocks' inner layers.
    pub mlp: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks with separate streams for picture and text.
    pub double_blocks: usize,
    /// Blocks over both.
    pub single_blocks: usize,
    /// Whether it was distilled with a guidance input (dev) or not (schnell).
    pub guidance: bool,
    /// How many of a head's channels rotate with each of the three position axes.
    pub axes: [usize; 3],
}
