//! What the keys of all programs mean.

use super::Writer;
use crate::Key;

/// What a key says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meaning {
    Prompt,
    Negative,
    /// The prompt before its choices were made.
    Template,
    NegativeTemplate,
    /// How weights of words count.
    Emphasis,
    Steps,
    Sampler,
    Schedule,
    Cfg,
    /// `cfg`, or the knob of the model that stands in its place.
    Scale,
    Seed,
    VariationSeed,
    VariationStrength,
    /// The size that noise is carried over from.
    ResizedFrom,
    Size,
    Width,
    Height,
    Batch,
    Rng,
    /// How Draw Things makes noise.
    SeedMode,
    /// A family's own key, by its place among them.
    Knob(usize),
    Sigmas,
    Profile,
    Version,
    /// Something of a second pass at another size.
    Second(Second),
    Refiner,
    RefinerSwitch,
    RefinerPasses,
}

/// What is said of a second pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Second {
    Strength,
    Scale,
    Sides,
    Upscaler,
    Steps,
    Sampler,
    Schedule,
    Cfg,
    /// As [`Meaning::Knob`].
    Knob(usize),
    Prompt,
    Negative,
    Model,
}

impl Second {
    /// What a plain key of A1111 or Forge means.
    fn of(key: &str, knobs: &[Key]) -> Option<Self> {
        if key == "denoisingstrength" {
            return Some(Self::Strength);
        }
        Some(match key.strip_prefix("hires")? {
            "upscale" => Self::Scale,
            "resize" => Self::Sides,
            "upscaler" => Self::Upscaler,
            "steps" => Self::Steps,
            "sampler" => Self::Sampler,
            "scheduletype" => Self::Schedule,
            "cfgscale" => Self::Cfg,
            "prompt" => Self::Prompt,
            "negativeprompt" => Self::Negative,
            "checkpoint" => Self::Model,
            key => Self::Knob(knobs.iter().position(|knob| is_called(knob, key))?),
        })
    }
}

/// A key without what programs spell differently: case, spaces, underscores, hyphens.
pub(super) fn plain(key: &str) -> String {
    plain_chars(key).collect()
}

fn plain_chars(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase)
}

/// What a family's key is called by whose value `Guidance scale` may be.
const SCALE: &str = "guidancescale";

/// The family's key, by its place, that a text means by `Guidance scale` where it does not mean `cfg`.
pub(super) fn own_scale(knobs: &[Key]) -> Option<usize> {
    knobs.iter().position(|knob| is_called(knob, SCALE))
}

/// Whether a family's key is called so, plainly.
fn is_called(knob: &Key, name: &str) -> bool {
    let is_it = |other: &&str| plain_chars(other).eq(name.chars());
    knob.label.is_some_and(|label| [label, knob.name].iter().chain(knob.aliases).any(is_it))
}

/// What a key means in a program's text; none if neither this engine nor a family's `knobs` have anything of the kind.
pub(super) fn meaning(key: &str, writer: Writer, knobs: &[Key]) -> Option<Meaning> {
    let key = plain(key);
    let own = matches!(writer, Writer::Forge | Writer::Unknown);
    if own || matches!(writer, Writer::A1111 | Writer::ForgeWebUi) {
        let of_refiner = match key.as_str() {
            "refiner" => Some(Meaning::Refiner),
            "refinerswitchat" => Some(Meaning::RefinerSwitch),
            "hiresrefiner" => Some(Meaning::RefinerPasses),
            _ => Second::of(&key, knobs).map(Meaning::Second),
        };
        if of_refiner.is_some() {
            return of_refiner;
        }
    }
    Some(match key.as_str() {
        "steps" | "numinferencesteps" | "inferencesteps" | "samplingsteps" => Meaning::Steps,
        // diffusers' schedulers are samplers, and InvokeAI's are diffusers'
        "scheduler" if writer == Writer::InvokeAi => Meaning::Sampler,
        "sampler" | "samplername" | "samplingmethod" | "samplemethod" | "comfyuisampler" => Meaning::Sampler,
        "scheduletype" | "schedule" | "scheduler" | "schedulername" | "sigmaschedule" | "comfyuischeduler" => {
            Meaning::Schedule
        }
        "noiseschedule" if writer == Writer::NovelAi => Meaning::Schedule,
        "cfg" | "cfgscale" | "truecfg" | "truecfgscale" | "txtcfg" => Meaning::Cfg,
        SCALE => Meaning::Scale,
        "scale" if matches!(writer, Writer::NovelAi | Writer::DrawThings) => Meaning::Scale,
        "seed" | "noiseseed" => Meaning::Seed,
        "variationseed" | "subseed" => Meaning::VariationSeed,
        "variationseedstrength" | "variationstrength" | "subseedstrength" => Meaning::VariationStrength,
        "seedresizefrom" => Meaning::ResizedFrom,
        "size" | "resolution" | "imagesize" => Meaning::Size,
        "width" | "imagewidth" => Meaning::Width,
        "height" | "imageheight" => Meaning::Height,
        "rng" => Meaning::Rng,
        "randdevice" if writer == Writer::InvokeAi => Meaning::Rng,
        "seedmode" => Meaning::SeedMode,
        "sigmas" | "customsigmas" => Meaning::Sigmas,
        "version" | "app" | "software" | "swarmversion" | "appversion" => Meaning::Version,
        "prompt" => Meaning::Prompt,
        "negative" | "negativeprompt" => Meaning::Negative,
        "template" => Meaning::Template,
        "negativetemplate" => Meaning::NegativeTemplate,
        "emphasis" => Meaning::Emphasis,
        "batch" if own => Meaning::Batch,
        "profile" if own => Meaning::Profile,
        key => return knobs.iter().position(|knob| is_called(knob, key)).map(Meaning::Knob),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fallback, Kind};

    #[test]
    fn a_key_means_the_same_in_every_spelling() {
        for key in ["CFG scale", "CFG Scale", "cfg_scale", "cfgscale", "CFG-Scale", "cfg", "CFG", "cfg scale"] {
            assert_eq!(meaning(key, Writer::Unknown, &[]), Some(Meaning::Cfg), "{key}");
        }
        let key = |name, label| Key { label, ..Key::of(Kind::Sampler, Fallback::Number(0.0)).at("", name, "") };
        let knobs = [key("warmth", None), key("warmth", Some("Warmth of Light")).aliases(&["lamp_scale"])];
        for key in ["Warmth of Light", "warmth", "LampScale", "lamp_scale"] {
            assert_eq!(meaning(key, Writer::A1111, &knobs), Some(Meaning::Knob(1)), "{key}");
        }
        for key in ["Hires VAE", "Image CFG scale", "Hires Module 1", "Noise Schedule", "Batch size"] {
            assert_eq!(meaning(key, Writer::A1111, &[]), None, "{key}");
        }
        let second = |key| meaning(key, Writer::A1111, &knobs);
        assert_eq!(second("Hires CFG Scale"), Some(Meaning::Second(Second::Cfg)));
        assert_eq!(second("Hires Lamp scale"), Some(Meaning::Second(Second::Knob(1))));
        assert_eq!(meaning("Hires upscale", Writer::SdNext, &[]), None);
        assert_eq!(meaning("scheduler", Writer::SwarmUi, &[]), Some(Meaning::Schedule));
        assert_eq!(meaning("scheduler", Writer::InvokeAi, &[]), Some(Meaning::Sampler));
        assert_eq!(meaning("noise_schedule", Writer::NovelAi, &[]), Some(Meaning::Schedule));
        assert_eq!(meaning("profile", Writer::Fooocus, &[]), None);
    }
}
