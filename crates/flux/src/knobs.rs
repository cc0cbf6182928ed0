use diffusion_engine::{Fallback, Key, Kind};

pub(crate) const DEFAULT_GUIDANCE: f64 = 3.5; // flux/cli.py 802fb47: guidance

/// The most tokens that a prompt is padded to.
const LONGEST: usize = 4096;

/// Distilled guidance.
pub const GUIDANCE: Key = Key::of(Kind::Number { min: 0.0, max: 100.0 }, Fallback::Number(DEFAULT_GUIDANCE))
    .at("sampling", "guidance", "Distilled guidance, for Flux dev")
    .docs("distilled guidance, for dev; schnell has no input for it")
    .flag("guidance")
    .label("Distilled CFG Scale")
    .aliases(&[
        "Distilled CFG",
        "Distilled Guidance",
        "Distilled Guidance Scale",
        "Flux Guidance",
        "Flux Guidance Scale",
        "Guidance Scale",
    ])
    .api("distilled_cfg_scale");

/// How many T5 tokens a prompt is padded to, and cut at.
pub const T5_LENGTH: Key =
    Key::of(Kind::Whole { min: 1, max: LONGEST, step: 1 }, Fallback::Open { means: "the profile's", example: "512" })
        .at("prompt", "t5_length", "T5 tokens that the prompt is padded to")
        .docs("T5 tokens that the prompt is padded to, and cut at")
        .flag("t5-length")
        .label("T5 length");

/// What can be set of a Flux beside what every model has.
pub fn knobs() -> &'static [Key] {
    const KNOBS: &[Key] = &[GUIDANCE, T5_LENGTH];
    KNOBS
}
