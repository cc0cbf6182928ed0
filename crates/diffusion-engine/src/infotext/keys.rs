//! What the keys of all programs mean.

use super::Writer;

/// What a key says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meaning {
    Prompt,
    Negative,
    Steps,
    Sampler,
    Schedule,
    Cfg,
    Guidance,
    /// `cfg` or `guidance`, whatever the model has.
    Scale,
    Seed,
    Size,
    Width,
    Height,
    Batch,
    Rng,
    /// How Draw Things makes noise.
    SeedMode,
    TextLength,
    Sigmas,
    Profile,
    Version,
}

/// A key without what programs spell differently: case, spaces, underscores, hyphens.
pub(super) fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// What a key means in a program's text; none if this engine has nothing of the kind.
pub(super) fn meaning(key: &str, writer: Writer) -> Option<Meaning> {
    let key = plain(key);
    let own = matches!(writer, Writer::Forge | Writer::Unknown);
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
        "distilledcfg"
        | "distilledcfgscale"
        | "guidance"
        | "distilledguidance"
        | "distilledguidancescale"
        | "fluxguidance"
        | "fluxguidancescale" => Meaning::Guidance,
        "guidancescale" => Meaning::Scale,
        "scale" if matches!(writer, Writer::NovelAi | Writer::DrawThings) => Meaning::Scale,
        "seed" | "noiseseed" => Meaning::Seed,
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
        "batch" if own => Meaning::Batch,
        "t5length" if own => Meaning::TextLength,
        "profile" if own => Meaning::Profile,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_the_same_in_every_spelling() {
        for key in ["CFG scale", "CFG Scale", "cfg_scale", "cfgscale", "CFG-Scale", "cfg", "CFG", "cfg scale"] {
            assert_eq!(meaning(key, Writer::Unknown), Some(Meaning::Cfg), "{key}");
        }
        for key in ["Distilled CFG Scale", "Guidance", "fluxguidancescale", "distilled_cfg", "FluxGuidance"] {
            assert_eq!(meaning(key, Writer::A1111), Some(Meaning::Guidance), "{key}");
        }
        for key in
            ["Hires CFG Scale", "Image CFG scale", "Hires sampler", "Variation seed", "Noise Schedule", "Batch size"]
        {
            assert_eq!(meaning(key, Writer::A1111), None, "{key}");
        }
        assert_eq!(meaning("scheduler", Writer::SwarmUi), Some(Meaning::Schedule));
        assert_eq!(meaning("scheduler", Writer::InvokeAi), Some(Meaning::Sampler));
        assert_eq!(meaning("noise_schedule", Writer::NovelAi), Some(Meaning::Schedule));
        assert_eq!(meaning("profile", Writer::Fooocus), None);
    }
}
