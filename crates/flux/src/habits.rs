//! What the engines that profiles are named after do with Flux, by a profile's id.

use diffusion_engine::Profile;

/// How an engine shifts time and pads prompts.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// The image tokens that every picture is shifted for; `None` for the picture's own.
    shifted_as: Option<usize>,
    /// T5 tokens that a prompt is padded to, without distilled guidance (schnell) and with it (dev).
    t5_length: [usize; 2],
}

/// Black Forest Labs' (flux/cli.py, 802fb47).
const MAKERS: Habits = Habits { shifted_as: None, t5_length: [256, 512] };

/// ComfyUI shifts every picture as if it were 1024 × 1024 (ModelSamplingFlux, v0.3.64) and pads to at least 256 tokens, here to exactly
/// 256.
const COMFY: Habits = Habits { shifted_as: Some(4096), t5_length: [256, 256] };

/// diffusers does as the makers, though FluxPipeline's own default is 512 tokens for schnell too; A1111, which runs no Flux, as ComfyUI.
const HABITS: [(&str, Habits); 5] =
    [("forge", MAKERS), ("a1111", COMFY), ("comfy", COMFY), ("diffusers", MAKERS), ("bfl", MAKERS)];

impl Habits {
    /// A profile's; a profile that this family does not know does as the makers do.
    fn of(profile: &Profile) -> Self {
        HABITS.iter().find(|(id, _)| *id == profile.id).map_or(MAKERS, |(_, habits)| *habits)
    }
}

/// The image tokens that a picture's time is shifted for.
pub(crate) fn shifted_as(profile: &Profile, image_tokens: usize) -> usize {
    Habits::of(profile).shifted_as.unwrap_or(image_tokens)
}

/// T5 tokens that prompts are padded to where nothing else is asked for.
pub(crate) fn t5_length(profile: &Profile, guidance_distilled: bool) -> usize {
    Habits::of(profile).t5_length[usize::from(guidance_distilled)]
}

#[cfg(test)]
mod tests {
    use diffusion_engine::Catalog;

    use super::*;

    #[test]
    fn every_built_in_profile_is_known_and_another_does_as_the_makers() {
        let catalog = Catalog::builtin();
        let ids: Vec<&str> = catalog.profiles().iter().map(|profile| profile.id.as_str()).collect();
        assert_eq!(HABITS.map(|(id, _)| id).to_vec(), ids);
        let told = |profile: Profile| {
            let lengths = [false, true].map(|distilled| t5_length(&profile, distilled));
            (lengths, shifted_as(&profile, 1024))
        };
        assert_eq!(told(Profile::new("unheard_of")), told(catalog.profile("bfl").unwrap()));
        assert_eq!(told(catalog.profile("comfy").unwrap()), ([256, 256], 4096));
        assert_eq!(told(Profile::default()), ([256, 512], 1024));
    }
}
