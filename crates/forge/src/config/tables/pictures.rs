//! The keys of the picture that a run starts from, and of the part of it that is drawn anew.

use std::path::PathBuf;

use diffusion_engine::{Fallback, Fill, Key, Kind, Resize};

use super::{Entry, Table, open, whole};
use crate::config::{
    choices::{InpaintArea, SWITCH, SoftInpainting},
    setting::{Setting, initial},
};

const fn number(min: f64, max: f64) -> Kind {
    Kind::Number { min, max }
}

tables! {
    /// the picture that `forge img2img` starts from
    img2img: Img2img {
        /// Picture to start from
        image: Option<PathBuf> = Key::of(Kind::File, open("none: a run starts from noise", "\"photo.png\""))
            .docs(
                "the picture that a run starts from, a PNG, JPEG or WebP; `forge img2img IMAGE` names it, and `forge txt2img` sets it aside",
            )
            .flag("image");
        /// Share of the picture that becomes noise, above 0, to 1
        strength: f64 = Key::of(number(0.0, 1.0), Fallback::Number(0.75))
            .docs("the share of the picture that becomes noise, above 0; at 1 nothing is left of it with Flux, and with Stable Diffusion a trace below the highest noise level, but where the profile `diffusers` draws a part anew; the profile says how many of the steps are then taken")
            .flag("strength")
            .label("Denoising strength");
        /// Take all steps, of a longer schedule: on or off
        exact_steps: bool = Key::of(Kind::Choice(&SWITCH), Fallback::Text("off"))
            .docs("`on` takes as many steps as `sampling.steps` says, the last ones of a longer schedule, whatever the strength")
            .flag("exact-steps")
            .label("Exact steps");
        /// How many times as large as the picture the run is; 0 for --width and --height
        scale: f64 = Key::of(number(0.0, 16.0), Fallback::Number(1.0))
            .docs(
                "how many times as large as the picture the run is, its sides rounded down to multiples of 16; 0 takes `image.width` and \
                 `image.height`, as the flags `--width` and `--height` do",
            )
            .flag("scale");
        /// How the picture is brought to the size of the run
        resize: Resize = Key::of(Kind::Choice(&Resize::IDS), Fallback::Text("just"))
            .docs(
                "how the picture is brought to the size of the run: stretched, cropped, filled up with the colours of its edges, or encoded as \
                 it is and stretched as a latent",
            )
            .flag("resize")
            .label("Resize mode");
        /// What the noise is multiplied with
        noise_multiplier: f32 = Key::of(number(0.0, 10.0), Fallback::Number(1.0))
            .docs("what the noise that is added to the picture is multiplied with")
            .flag("noise-multiplier")
            .label("Noise multiplier");
        /// Pick the latent by the seed from what the autoencoder knows: on or off
        sampled: bool = Key::of(Kind::Choice(&SWITCH), Fallback::Text("off"))
            .docs(
                "`on` picks the latent by the seed's first noise from what the autoencoder knows of the picture, as diffusers does; else it is \
                 the mean",
            )
            .flag("sampled")
            .label("Sampled latent");
        /// Spread the result's colours as the picture's: on or off
        colour_correction: bool = Key::of(Kind::Choice(&SWITCH), Fallback::Text("off"))
            .docs("`on` spreads the colours of what is drawn as those of the picture")
            .flag("colour-correction")
            .label("Color correction");
    }

    /// the part of that picture that is drawn anew; docs/inpainting.md says more
    inpaint: Inpaint {
        /// Picture that is white, or opaque, where it is drawn anew
        mask: Option<PathBuf> = Key::of(Kind::File, open("none: everything is drawn anew", "\"mask.png\""))
            .docs("a picture that says what is drawn anew: by its opacity where it is not opaque all over, else by its brightness; for `forge batch` also a folder of them")
            .flag("mask");
        /// Feathering of the mask's edges, in pixels
        blur: f32 = Key::of(number(0.0, 64.0), Fallback::Number(4.0))
            .docs("how far the mask's edges are feathered: the deviation of a Gauss curve, in pixels")
            .flag("mask-blur")
            .label("Mask blur");
        /// Draw each pixel of a latent anew, or not at all: on or off
        round: bool = Key::of(Kind::Choice(&SWITCH), Fallback::Text("on"))
            .docs("`off` mixes pixels of a latent that are masked in part in every step; soft inpainting does so anyway")
            .flag("mask-round")
            .label("Mask round");
        /// Draw the rest anew: on or off
        invert: bool = Key::of(Kind::Choice(&SWITCH), Fallback::Text("off"))
            .docs("`on` draws anew what is not masked")
            .flag("mask-invert")
            .label("Mask mode");
        /// What is under the mask at first
        fill: Fill = Key::of(Kind::Choice(&Fill::IDS), Fallback::Text("original"))
            .docs("what is under the mask at first: the colours around it, the picture itself, noise for the latent, or nothing for the latent")
            .flag("inpaint-fill")
            .label("Masked content");
        /// What of the picture is worked on: whole or masked
        area: InpaintArea = Key::of(Kind::Choice(&InpaintArea::IDS), Fallback::Text("whole"))
            .docs(
                "what of the picture is worked on; of `masked` it is the part that the mask covers, at the size of the run, and put back into the \
                 picture, which keeps its own size",
            )
            .flag("inpaint-area")
            .label("Inpaint area");
        /// Pixels around the masked part that are worked on with it
        padding: usize = Key::of(whole(0, 256, 1), Fallback::Whole(32))
            .docs("pixels around the masked part that are worked on with it, where `area` is `masked`")
            .flag("inpaint-padding")
            .label("Masked area padding");
        /// How much a model for inpainting does not see of what is masked
        hidden: f32 = Key::of(number(0.0, 1.0), Fallback::Number(1.0))
            .docs("how much of what is masked is hidden from models for inpainting, which are shown the picture")
            .flag("inpaint-hidden")
            .label("Conditional mask weight");
        /// Soft inpainting: off, blended or differential
        soft: SoftInpainting = Key::of(Kind::Choice(&SoftInpainting::IDS), Fallback::Text("off"))
            .docs("how places that are masked in part are mixed with the picture: as A1111's soft inpainting, or as differential diffusion")
            .flag("soft")
            .label("Soft inpainting enabled");
        /// How much earlier the picture is kept
        soft_schedule_bias: f32 = Key::of(number(0.0, 8.0), Fallback::Number(1.0))
            .docs("of `blended`: the power of the noise level in the mask's exponent; above 1 the picture is kept earlier")
            .flag("soft-schedule-bias")
            .label("Soft inpainting schedule bias");
        /// How strongly what is masked in part is kept
        soft_preservation: f32 = Key::of(number(0.0, 8.0), Fallback::Number(0.5))
            .docs("of `blended`: the factor of the mask's exponent; the higher, the more of the picture is kept")
            .flag("soft-preservation")
            .label("Soft inpainting preservation strength");
        /// How much contrast is given back where both are mixed
        soft_contrast: f32 = Key::of(number(1.0, 32.0), Fallback::Number(4.0))
            .docs("of `blended`: the power in which lengths of latents are mixed; the higher, the more contrast")
            .flag("soft-contrast")
            .label("Soft inpainting transition contrast boost");
        /// How much the mask counts for what is kept in the end
        soft_mask_influence: f32 = Key::of(number(0.0, 1.0), Fallback::Number(0.0))
            .docs("of `blended`: how much the mask counts for what is kept in the end")
            .flag("soft-mask-influence")
            .label("Soft inpainting mask influence");
        /// How far a place may change until half of it is kept
        soft_threshold: f32 = Key::of(number(0.0, 8.0), Fallback::Number(0.5))
            .docs("of `blended`: how far a place may change until half of it is kept in the end")
            .flag("soft-threshold")
            .label("Soft inpainting difference threshold");
        /// How sharp the edge of what is kept is
        soft_threshold_contrast: f32 = Key::of(number(0.0, 8.0), Fallback::Number(2.0))
            .docs("of `blended`: how sharp the edge is between what is kept and what is not")
            .flag("soft-threshold-contrast")
            .label("Soft inpainting difference contrast");
    }
    /// the picture that says what goes where, for models and LoRAs that are shown one
    control: Control {
        /// Control picture, for a model or a LoRA that is shown one
        image: Option<PathBuf> = Key::of(Kind::File, open("none", "\"edges.png\""))
            .docs(
                "a picture that says what goes where, such as edges or depths, stretched to the size of the run; Flux Canny and Depth are shown it \
                 beside the latent, as is any Flux under one of their LoRAs",
            )
            .flag("control");
    }
}
