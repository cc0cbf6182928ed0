use diffusion_engine::LatentRgb;

use crate::Edition;

/// What each channel of an edition's latents adds to a picture's colours.
///
/// Fitted by linear regression (ComfyUI comfy/latent_formats.py `latent_rgb_factors` of `SD15` and `SDXL`, 040a324).
pub(crate) fn of(edition: Edition) -> LatentRgb {
    match edition {
        Edition::One | Edition::Two => LatentRgb {
            factors: &[
                [0.3512, 0.2297, 0.3227],
                [0.3250, 0.4974, 0.2350],
                [-0.2829, 0.1762, 0.2721],
                [-0.2120, -0.2616, -0.7177],
            ],
            bias: [0.0; 3],
        },
        Edition::Xl | Edition::Refiner => LatentRgb {
            factors: &[
                [0.3651, 0.4232, 0.4341],
                [-0.2533, -0.0042, 0.1068],
                [0.1076, 0.1111, -0.0362],
                [-0.3165, -0.2492, -0.2188],
            ],
            bias: [0.1084, -0.0175, -0.0011],
        },
    }
}

/// Channels of the latents, and pixels of a picture that one of theirs stands for, in each direction.
pub(crate) const LATENT: [usize; 2] = [4, 8];
