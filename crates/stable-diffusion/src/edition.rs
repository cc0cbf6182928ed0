use core_tensor::Weights;
use diffusion_engine::LatentScaling;

use crate::UnetDimensions;

/// Which of the published models a network is made like. All of them have one network; they differ in what conditions it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// 1.x, with CLIP-L.
    One,
    /// 2.x, with OpenCLIP-H.
    Two,
    /// XL, with CLIP-L and OpenCLIP-bigG, and the picture's size.
    Xl,
    /// The refiner of XL, with OpenCLIP-bigG, the picture's size and a score of its looks.
    Refiner,
}

/// Numbers of a picture as a whole that XL's network is told: its original size, where it was cut, the size aimed at.
pub(crate) const XL_NUMBERS: usize = 6;
/// The same of the refiner's: the original size, where it was cut, its score.
pub(crate) const REFINER_NUMBERS: usize = 5;
/// Channels that each of these numbers becomes.
pub(crate) const NUMBER_CHANNELS: usize = 256; // sd_xl_base.yaml: ConcatTimestepEmbedderND outdim

impl Edition {
    /// The edition of a UNet, whose dimensions and headers these are; `pooled` is the width of the vector that the larger text encoder
    /// makes of a whole prompt, 1280 where that is not known.
    pub fn of(dimensions: &UnetDimensions, w: &Weights, pooled: Option<usize>) -> Self {
        let Some(adm) = dimensions.adm else {
            return if has_linear_projections(w) { Self::Two } else { Self::One };
        };
        let numbers = adm.saturating_sub(pooled.unwrap_or(BIG_G)) / NUMBER_CHANNELS;
        if numbers == REFINER_NUMBERS { Self::Refiner } else { Self::Xl }
    }

    /// As lists and messages have it.
    pub fn id(self) -> &'static str {
        match self {
            Self::One => "sd1",
            Self::Two => "sd2",
            Self::Xl => "sdxl",
            Self::Refiner => "sdxl-refiner",
        }
    }

    /// How its latents are scaled.
    pub fn latent_scaling(self) -> LatentScaling {
        let scale = match self {
            Self::One | Self::Two => 0.18215, // v1-inference.yaml, v2-inference.yaml: scale_factor
            Self::Xl | Self::Refiner => 0.13025, // sd_xl_base.yaml, sd_xl_refiner.yaml: scale_factor
        };
        LatentScaling { scale, shift: 0.0 }
    }

    /// How many numbers of a picture as a whole its network is told.
    pub(crate) fn numbers(self) -> usize {
        match self {
            Self::One | Self::Two => 0,
            Self::Xl => XL_NUMBERS,
            Self::Refiner => REFINER_NUMBERS,
        }
    }

    /// Whether a text encoder beside CLIP-L, or in its place, makes a vector of the whole prompt.
    pub(crate) fn has_vector(self) -> bool {
        self.numbers() > 0
    }
}

const BIG_G: usize = 1280; // open_clip ViT-bigG-14.json: embed_dim

/// Whether pixels go into the transformers through matrices, as from 2.0 on, and not through 1 × 1 convolutions.
fn has_linear_projections(w: &Weights) -> bool {
    let w = w.before(crate::Unet::MARK);
    let inputs = w.at("input_blocks");
    let transformers = (0..inputs.depth().unwrap_or(0)).map(|i| inputs.at(i).at(1)).chain([w.at("middle_block").at(1)]);
    transformers.filter_map(|w| w.shape("proj_in.weight").map(<[usize]>::len)).next() == Some(2)
}
