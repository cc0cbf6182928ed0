//! What the engines that profiles are named after do with Stable Diffusion, by a profile's id.

use diffusion_engine::Profile;

use crate::times::Timing;

/// How an engine times noise levels and conditions XL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Habits {
    /// How a noise level becomes the network's time.
    pub(crate) timing: Timing,
    /// Whether an empty negative prompt of XL is all zeros, and not what the text encoders make of no words.
    pub(crate) zeroed: Zeroed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Zeroed {
    Always,
    Never,
    /// As the model's folder says; else it is.
    AsSaid,
}

/// Forge backend/modules/k_prediction.py `Prediction.timestep` and backend/diffusion_engine/sdxl.py `force_zero_negative_prompt`, dfdcbab.
const FORGE: Habits = Habits { timing: Timing::Nearest, zeroed: Zeroed::Always };

/// A1111 modules/sd_samplers_kdiffusion.py (`enable_quantization` is off) and modules/sd_models_xl.py `force_zero_negative_prompt`, 1.10.
const A1111: Habits = Habits { timing: Timing::Between, zeroed: Zeroed::Always };

/// ComfyUI comfy/model_sampling.py `ModelSamplingDiscrete.timestep`, v0.3.64.
const COMFY: Habits = Habits { timing: Timing::Nearest, zeroed: Zeroed::Never };

/// diffusers `EulerDiscreteScheduler` and StableDiffusionXLPipeline's `force_zeros_for_empty_prompt`, 0.42.1, which asks whether there is a
/// negative prompt at all: an empty one stands for none here.
const DIFFUSERS: Habits = Habits { timing: Timing::Between, zeroed: Zeroed::AsSaid };

/// Black Forest Labs' code runs no Stable Diffusion.
const HABITS: [(&str, Habits); 5] =
    [("forge", FORGE), ("a1111", A1111), ("comfy", COMFY), ("diffusers", DIFFUSERS), ("bfl", FORGE)];

impl Habits {
    /// A profile's; a profile that this family does not know does as Forge does.
    pub(crate) fn of(profile: &Profile) -> Self {
        HABITS.iter().find(|(id, _)| *id == profile.id).map_or(FORGE, |(_, habits)| *habits)
    }

    /// Whether an empty negative prompt of XL is all zeros for a model of whose folder's index `said` is the word on it.
    pub(crate) fn zeroes(&self, said: Option<bool>) -> bool {
        match self.zeroed {
            Zeroed::Always => true,
            Zeroed::Never => false,
            Zeroed::AsSaid => said.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use diffusion_engine::Catalog;

    use super::*;

    #[test]
    fn every_built_in_profile_is_known_and_another_does_as_forge() {
        let catalog = Catalog::builtin();
        let ids: Vec<&str> = catalog.profiles().iter().map(|profile| profile.id.as_str()).collect();
        assert_eq!(HABITS.map(|(id, _)| id).to_vec(), ids);
        assert_eq!(Habits::of(&Profile::new("unheard_of")), Habits::of(&catalog.profile("forge").unwrap()));
        assert_eq!(Habits::of(&catalog.profile("a1111").unwrap()).timing, Timing::Between);
    }

    #[test]
    fn what_a_folder_says_of_empty_negative_prompts_counts_where_diffusers_reads_it() {
        for (id, zeroes) in [
            ("forge", [true, true, true]),
            ("a1111", [true, true, true]),
            ("comfy", [false, false, false]),
            ("diffusers", [true, true, false]),
        ] {
            let habits = Habits::of(&Catalog::builtin().profile(id).unwrap());
            assert_eq!([None, Some(true), Some(false)].map(|said| habits.zeroes(said)), zeroes, "{id}");
        }
    }
}
