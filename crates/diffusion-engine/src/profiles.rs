//! The habits of the engines whose pictures people share.

use std::sync::LazyLock;

use samplers::{Registry, WebUi, noise::NoiseSource};

use crate::{KeptNoise, Profile};

/// Every built-in profile, in the order in which they are listed.
pub(crate) fn all() -> Vec<Profile> {
    vec![forge(), a1111(), comfy(), diffusers(), bfl()]
}

impl Default for Profile {
    /// This engine's own choice, `forge`.
    fn default() -> Self {
        forge()
    }
}

fn forge() -> Profile {
    static FORGE: LazyLock<Profile> =
        LazyLock::new(|| of_web_ui("forge").keeps(KeptNoise::Anew).samples(WebUi::Forge.samplers()));
    FORGE.clone()
}

/// Stable Diffusion WebUI, whose default is the graphics card's noise.
fn a1111() -> Profile {
    of_web_ui("a1111").keeps(KeptNoise::Sampler).noise(NoiseSource::Nv).samples(WebUi::A1111.samplers())
}

/// ComfyUI.
///
/// On a CPU it draws the noise of steps from the next seed: comfy/k_diffusion/sampling.py `default_noise_sampler`, ee71d5c.
/// `DISCARD_PENULTIMATE_SIGMA_SAMPLERS` of comfy/samplers.py, v0.3.64, drops levels.
fn comfy() -> Profile {
    Profile::new("comfy")
        .ensd(1)
        .drops_penultimate(["dpm_2", "dpm_2_ancestral", "unipc", "unipc_bh2"])
        .img2img(all_of_a_longer_schedule)
}

/// Hugging Face diffusers.
///
/// A part starts from noise alone where `StableDiffusionInpaintPipeline` and that of XL have `is_strength_max`, 0.42.1.
fn diffusers() -> Profile {
    let profile = Profile::new("diffusers").leaves_shown().parts_from_noise();
    profile.img2img(a_share).img2img_on_flows(all_behind_a_share)
}

/// Black Forest Labs' reference code.
fn bfl() -> Profile {
    Profile::new("bfl").leaves_shown().img2img(a_share).img2img_on_flows(all_behind_the_rest)
}

/// Forge and A1111 have their own `beta`, `kl_optimal` and `align_your_steps`, and on flows `normal` and `sgm_uniform`
/// (modules/sd_schedulers.py, dfdcbab); `discard_next_to_last_sigma` of modules/sd_samplers_kdiffusion.py drops levels, and `create_noise_sampler`
/// is given those of the whole schedule by its `sample_img2img`.
fn of_web_ui(id: &str) -> Profile {
    const OWN: [(&str, &str); 5] = [
        ("normal", "normal_forge"),
        ("sgm_uniform", "sgm_uniform_forge"),
        ("beta", "beta_forge"),
        ("kl_optimal", "kl_optimal_forge"),
        ("align_your_steps", "align_your_steps_forge"),
    ];
    let registry = Registry::builtin();
    let profile = Profile::new(id).drops_penultimate(["dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde"]).whole_path();
    OWN.into_iter().fold(profile, |profile, (name, own)| {
        profile.means(name, registry.schedule(own).expect("it is one of the schedules that come with the engine"))
    })
}

/// All that were asked for, of a longer schedule: comfy/samplers.py `KSampler.set_steps`, v0.3.64.
fn all_of_a_longer_schedule(steps: usize, strength: f64) -> (usize, usize) {
    const WHOLE: f64 = 0.9999;
    if strength > WHOLE { (steps, steps) } else { ((steps as f64 / strength) as usize, steps) }
}

/// That share of the steps, rounded down: diffusers `StableDiffusionImg2ImgPipeline.get_timesteps`, 0.42.1.
fn a_share(steps: usize, strength: f64) -> (usize, usize) {
    (steps, ((strength * steps as f64) as usize).min(steps))
}

/// That share of the steps, rounded up, as it is the steps before that are rounded: diffusers `FluxImg2ImgPipeline.get_timesteps`, 0.42.1.
fn all_behind_a_share(steps: usize, strength: f64) -> (usize, usize) {
    let all = steps as f64;
    (steps, steps - (all - all * strength).max(0.0) as usize)
}

/// The same by the share of the steps before, which now and then rounds otherwise: demo_gr.py `FluxGenerator.generate_image`, 191ba89.
fn all_behind_the_rest(steps: usize, strength: f64) -> (usize, usize) {
    (steps, steps - ((1.0 - strength).max(0.0) * steps as f64) as usize)
}

#[cfg(test)]
mod tests {
    use samplers::{Options, Process, SigmaSpace, Start};

    use super::*;

    #[test]
    fn forge_means_its_own_schedules_by_the_names_that_it_shares() {
        for (name, own) in [
            ("beta", "beta_forge"),
            ("kl_optimal", "kl_optimal_forge"),
            ("ays", "align_your_steps_forge"),
            ("normal", "normal_forge"),
            ("SGM Uniform", "sgm_uniform_forge"),
            ("karras", "karras"),
        ] {
            let named = Registry::builtin().schedule(name).unwrap();
            assert_eq!(forge().variant(&named).id, own);
            assert_eq!(comfy().variant(&named), named);
        }
    }

    #[test]
    fn the_last_level_but_one_is_left_out_by_profile_and_sampler() {
        let (options, registry) = (Options::default(), Registry::builtin());
        let start = Start { space: SigmaSpace::Discrete, steps: 5, options: &options };
        let karras = registry.schedule("karras").unwrap();
        let levels = |profile: Profile, name| {
            profile.levels(&karras, &registry.sampler(name).unwrap(), &start).unwrap().to_vec()
        };
        let six = karras.sigmas(&start.space, 6, &options).unwrap();
        let expected: Vec<f32> = six[..5].iter().copied().chain([0.0]).collect();
        assert_eq!(levels(forge(), "DPM2"), expected);
        assert_eq!(levels(forge(), "DPM++ 3M SDE"), expected);
        assert_eq!(levels(comfy(), "uni_pc"), expected);
        assert_ne!(levels(comfy(), "DPM++ 3M SDE"), expected);
        assert_ne!(levels(bfl(), "DPM2"), expected);
    }

    #[test]
    fn a_partly_noised_picture_takes_the_steps_of_its_profile() {
        for process in [Process::Diffusion, Process::Flow] {
            assert_eq!(forge().img2img_steps(process, 20, 0.75), (20, 16));
            assert_eq!(forge().img2img_steps(process, 20, 1.0), (20, 20));
            assert_eq!(comfy().img2img_steps(process, 20, 0.5), (40, 20));
            assert_eq!(diffusers().img2img_steps(process, 20, 0.75), (20, 15));
        }
        // 2.4 steps of 4, and of 10 all but 2, which are 1.9999999999999996 by the makers' sum
        for (steps, strength, diffusion, flow, maker) in [(28, 0.75, 21, 21, 21), (4, 0.6, 2, 3, 3), (10, 0.8, 8, 8, 9)]
        {
            assert_eq!(diffusers().img2img_steps(Process::Diffusion, steps, strength), (steps, diffusion));
            assert_eq!(diffusers().img2img_steps(Process::Flow, steps, strength), (steps, flow));
            assert_eq!(bfl().img2img_steps(Process::Flow, steps, strength), (steps, maker));
        }
    }
}
