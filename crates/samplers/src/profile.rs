use crate::{Error, Sampler, Schedule, Sigmas, Start, mu, noise::NoiseSource, registry::unknown, schedules};

/// Whose habits a run follows where the engines disagree.
///
/// With Flux `a1111`, which has none of its own, follows ComfyUI, and `forge` the model's makers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// This engine's own choice: as `bfl`.
    #[default]
    Forge,
    /// Stable Diffusion WebUI.
    A1111,
    /// ComfyUI.
    Comfy,
    /// Hugging Face diffusers: as `bfl` (FluxPipeline's own default is 512 T5 tokens for schnell too).
    Diffusers,
    /// Black Forest Labs' reference code.
    Bfl,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 5] = [Self::Forge, Self::A1111, Self::Comfy, Self::Diffusers, Self::Bfl];

    /// The name in configs and flags.
    pub fn id(self) -> &'static str {
        match self {
            Self::Forge => "forge",
            Self::A1111 => "a1111",
            Self::Comfy => "comfy",
            Self::Diffusers => "diffusers",
            Self::Bfl => "bfl",
        }
    }

    /// The profile of a name.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn named(name: &str) -> Result<Self, Error> {
        (Self::ALL.into_iter())
            .find(|p| p.id().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown("profile", name, Self::ALL.into_iter().map(Self::id)))
    }

    /// The shift's logarithm for a Flux picture of so many image tokens; `None` for a model without distilled guidance
    /// (schnell), whose time is not shifted.
    ///
    /// ComfyUI shifts every picture as if it were 1024 × 1024 (ModelSamplingFlux, v0.3.64).
    pub fn mu(self, guidance_distilled: bool, image_tokens: usize) -> Option<f64> {
        let tokens = match self {
            Self::Forge | Self::Diffusers | Self::Bfl => image_tokens,
            Self::A1111 | Self::Comfy => 4096,
        };
        guidance_distilled.then(|| mu(tokens))
    }

    /// How many T5 tokens a Flux prompt is padded to: 512 with distilled guidance (dev) and 256 without (schnell) by flux/cli.py
    /// 802fb47, at least 256 in ComfyUI, and exactly 256 here.
    pub fn t5_length(self, guidance_distilled: bool) -> usize {
        match self {
            Self::Forge | Self::Diffusers | Self::Bfl if guidance_distilled => 512,
            Self::Forge | Self::Diffusers | Self::Bfl | Self::A1111 | Self::Comfy => 256,
        }
    }

    /// Where the noise comes from if nothing is said: A1111's default is the graphics card's.
    pub fn noise(self) -> NoiseSource {
        match self {
            Self::A1111 => NoiseSource::Nv,
            Self::Forge | Self::Comfy | Self::Diffusers | Self::Bfl => NoiseSource::Cpu,
        }
    }

    /// What is added to the seed for the noise that steps draw, which then begins anew; 0 where it goes on with the noise of the start.
    ///
    /// ComfyUI on a CPU: comfy/k_diffusion/sampling.py `default_noise_sampler`, ee71d5c.
    pub fn ensd(self) -> u64 {
        match self {
            Self::Comfy => 1,
            Self::Forge | Self::A1111 | Self::Diffusers | Self::Bfl => 0,
        }
    }

    /// What this engine means by a schedule's name: Forge and A1111 have their own `beta`, `kl_optimal` and `align_your_steps`, and
    /// on flows `normal` and `sgm_uniform` (modules/sd_schedulers.py, dfdcbab).
    pub fn variant(self, schedule: &Schedule) -> Schedule {
        match (self, schedule.id.as_str()) {
            (Self::Forge | Self::A1111, "normal") => schedules::normal_forge::schedule(),
            (Self::Forge | Self::A1111, "sgm_uniform") => schedules::sgm_uniform_forge::schedule(),
            (Self::Forge | Self::A1111, "beta") => schedules::beta_forge::schedule(),
            (Self::Forge | Self::A1111, "kl_optimal") => schedules::kl_optimal_forge::schedule(),
            (Self::Forge | Self::A1111, "align_your_steps") => schedules::align_your_steps_forge::schedule(),
            _ => schedule.clone(),
        }
    }

    /// Whether this engine leaves out the last level above 0 with a sampler, and spaces one step more for it.
    ///
    /// Forge: `discard_next_to_last_sigma` of modules/sd_samplers_kdiffusion.py, dfdcbab; ComfyUI: `DISCARD_PENULTIMATE_SIGMA_SAMPLERS` of
    /// comfy/samplers.py, v0.3.64.
    pub fn drops_penultimate(self, sampler: &Sampler) -> bool {
        let dropping: &[&str] = match self {
            Self::Forge | Self::A1111 => &["dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde"],
            Self::Comfy => &["dpm_2", "dpm_2_ancestral", "unipc", "unipc_bh2"],
            Self::Diffusers | Self::Bfl => &[],
        };
        dropping.contains(&sampler.id.as_str())
    }

    /// The noise levels of a run with this engine's rule for the last but one.
    ///
    /// # Errors
    /// As [`Schedule::sigmas`].
    pub fn levels(self, schedule: &Schedule, sampler: &Sampler, start: &Start) -> Result<Sigmas, Error> {
        let Start { space, steps, options } = *start;
        if self.drops_penultimate(sampler) && steps < Schedule::MAX_STEPS {
            Ok(schedule.sigmas(&space, steps + 1, options)?.without_penultimate())
        } else {
            schedule.sigmas(&space, steps, options)
        }
    }

    /// How a picture that is only partly noised is taken through a schedule: the steps that the schedule is made for, and how
    /// many of its last are taken.
    ///
    /// `strength` is the share of the noise, above 0 to 1. Forge takes that share of the steps and one (modules/sd_samplers_common.py
    /// `setup_img2img_steps`, dfdcbab); ComfyUI takes all that were asked for, of a longer schedule (comfy/samplers.py
    /// `KSampler.set_steps`, v0.3.64); diffusers takes the share (`StableDiffusionImg2ImgPipeline.get_timesteps`, 0.42).
    pub fn img2img_steps(self, steps: usize, strength: f64) -> (usize, usize) {
        const MOST: f64 = 0.999; // Forge setup_img2img_steps
        match self {
            Self::Forge | Self::A1111 => (steps, ((strength.min(MOST) * steps as f64) as usize + 1).min(steps)),
            Self::Comfy if strength > 0.9999 => (steps, steps),
            Self::Comfy => ((steps as f64 / strength) as usize, steps),
            Self::Diffusers | Self::Bfl => (steps, ((strength * steps as f64) as usize).min(steps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Registry, SigmaSpace};

    #[test]
    fn forge_means_its_own_schedules_by_the_names_that_it_shares() {
        for (name, forge) in [
            ("beta", "beta_forge"),
            ("kl_optimal", "kl_optimal_forge"),
            ("ays", "align_your_steps_forge"),
            ("normal", "normal_forge"),
            ("SGM Uniform", "sgm_uniform_forge"),
            ("karras", "karras"),
        ] {
            let named = Registry::builtin().schedule(name).unwrap();
            assert_eq!(Profile::Forge.variant(&named).id, forge);
            assert_eq!(Profile::Comfy.variant(&named), named);
        }
    }

    #[test]
    fn the_last_level_but_one_is_left_out_by_profile_and_sampler() {
        let options = Options::default();
        let start = Start { space: SigmaSpace::Discrete, steps: 5, options: &options };
        let registry = Registry::builtin();
        let karras = registry.schedule("karras").unwrap();
        let levels = |profile: Profile, name| {
            profile.levels(&karras, &registry.sampler(name).unwrap(), &start).unwrap().to_vec()
        };
        let six = karras.sigmas(&start.space, 6, &options).unwrap();
        let expected: Vec<f32> = six[..5].iter().copied().chain([0.0]).collect();
        assert_eq!(levels(Profile::Forge, "DPM2"), expected);
        assert_eq!(levels(Profile::Forge, "DPM++ 3M SDE"), expected);
        assert_eq!(levels(Profile::Comfy, "uni_pc"), expected);
        assert_ne!(levels(Profile::Comfy, "DPM++ 3M SDE"), expected);
        assert_ne!(levels(Profile::Bfl, "DPM2"), expected);
    }

    #[test]
    fn a_partly_noised_picture_takes_the_steps_of_its_profile() {
        assert_eq!(Profile::Forge.img2img_steps(20, 0.75), (20, 16));
        assert_eq!(Profile::Forge.img2img_steps(20, 1.0), (20, 20));
        assert_eq!(Profile::Comfy.img2img_steps(20, 0.5), (40, 20));
        assert_eq!(Profile::Diffusers.img2img_steps(20, 0.75), (20, 15));
    }
}
