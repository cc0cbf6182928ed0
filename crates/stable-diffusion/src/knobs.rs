use diffusion_engine::{Fallback, Key, Kind, Size};

/// What an infotext says only where it is set.
const fn open(means: &'static str, example: &'static str) -> Fallback {
    Fallback::Open { means, example }
}

const PIXELS: Kind = Kind::Whole { min: 0, max: Size::MAX, step: 1 };
const WIDTH: Fallback = open("the width", "1024");
const HEIGHT: Fallback = open("the height", "1024");
const SCORE: Kind = Kind::Number { min: 0.0, max: 10.0 };

/// Which layer of the text encoders, from the last.
pub const CLIP_SKIP: Key = Key::of(Kind::Whole { min: 1, max: 12, step: 1 }, open("1, the last", "2"))
    .at("prompt", "clip_skip", "Layer of CLIP that is taken, from the last")
    .docs("which layer of the text encoders is taken, from the last; XL takes the last but one at least")
    .flag("clip-skip")
    .label("Clip skip")
    .api("clip_skip");

/// What the UNet predicts.
pub const PREDICTION: Key = Key::of(Kind::Choice(&["auto", "eps", "v"]), open("`auto`", "\"v\""))
    .at("sampling", "prediction", "What the UNet predicts")
    .docs("what the UNet predicts, noise (`eps`) or velocity (`v`); `auto` is what a config or a YAML file beside the model says, or the mark \
         `v_pred` in it, or `modelspec` in its metadata, or in 2.x the spread of its last transformer's first bias")
    .flag("prediction")
    .label("Prediction");

/// Whether the last noise level has no signal.
pub const ZERO_SNR: Key = Key::of(Kind::Choice(&["auto", "on", "off"]), open("`auto`", "\"on\""))
    .at("sampling", "zero_snr", "Whether noise levels end without any signal")
    .docs("whether noise levels end without any signal, for models trained so; `auto` is what the config of the model's folder says, or the \
         mark `ztsnr` in its file")
    .flag("zero-snr")
    .label("Zero terminal SNR");

/// Width of the picture that XL is told to be drawing a part of.
pub const ORIGINAL_WIDTH: Key = Key::of(PIXELS, WIDTH)
    .at("image", "original_width", "Width that XL is told of the original")
    .docs("the width that Stable Diffusion XL is told of the original, of which the picture is a part; small ones look blurred")
    .label("Original width");

/// Height of the same.
pub const ORIGINAL_HEIGHT: Key = Key::of(PIXELS, HEIGHT)
    .at("image", "original_height", "Height that XL is told of the original")
    .docs("the height that Stable Diffusion XL is told of the original")
    .label("Original height");

/// Where XL is told that the original was cut, from the left.
pub const CROP_LEFT: Key = Key::of(PIXELS, open("0", "8"))
    .at("image", "crop_left", "Where XL is told that the original was cut, from the left")
    .docs(
        "where Stable Diffusion XL is told that the original was cut, from the left; above 0 things stand at the edge",
    )
    .label("Crop left");

/// The same from the top.
pub const CROP_TOP: Key = Key::of(PIXELS, open("0", "8"))
    .at("image", "crop_top", "Where XL is told that the original was cut, from the top")
    .docs("where Stable Diffusion XL is told that the original was cut, from the top")
    .label("Crop top");

/// Width that XL is told to aim at.
pub const TARGET_WIDTH: Key = Key::of(PIXELS, WIDTH)
    .at("image", "target_width", "Width that XL is told to aim at")
    .docs("the width that Stable Diffusion XL is told to aim at")
    .label("Target width");

/// Height that XL is told to aim at.
pub const TARGET_HEIGHT: Key = Key::of(PIXELS, HEIGHT)
    .at("image", "target_height", "Height that XL is told to aim at")
    .docs("the height that Stable Diffusion XL is told to aim at")
    .label("Target height");

/// How beautiful the refiner is told that the picture is.
pub const AESTHETIC_SCORE: Key = Key::of(SCORE, open("6", "7.5")) // Forge modules/shared_options.py, dfdcbab
    .at("prompt", "aesthetic_score", "Score of looks that XL's refiner draws for")
    .docs("the score of looks that Stable Diffusion XL's refiner draws for")
    .label("Aesthetic score");

/// The same of the picture that is not wanted.
pub const NEGATIVE_AESTHETIC_SCORE: Key =
    Key::of(SCORE, open("2.5", "4.0")) // the same file
        .at("prompt", "negative_aesthetic_score", "Score of looks that XL's refiner draws away from")
        .docs("the score of looks that Stable Diffusion XL's refiner draws away from")
        .label("Negative aesthetic score");

/// What can be set of a Stable Diffusion beside what every model has.
pub fn knobs() -> &'static [Key] {
    const KNOBS: &[Key] = &[
        CLIP_SKIP,
        PREDICTION,
        ZERO_SNR,
        ORIGINAL_WIDTH,
        ORIGINAL_HEIGHT,
        CROP_LEFT,
        CROP_TOP,
        TARGET_WIDTH,
        TARGET_HEIGHT,
        AESTHETIC_SCORE,
        NEGATIVE_AESTHETIC_SCORE,
    ];
    KNOBS
}
