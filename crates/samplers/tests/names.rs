//! The names by which other programs call samplers and schedules: known where this engine's mathematics is theirs, refused elsewhere.

use samplers::{Error, Registry};

/// A name, and the sampler and schedule that it means; no sampler where it is refused.
type Meaning = (&'static str, Option<(&'static str, Option<&'static str>)>);

const fn plain(name: &'static str, sampler: &'static str) -> Meaning {
    (name, Some((sampler, None)))
}

const fn both(name: &'static str, sampler: &'static str, schedule: &'static str) -> Meaning {
    (name, Some((sampler, Some(schedule))))
}

const fn refused(name: &'static str) -> Meaning {
    (name, None)
}

fn hold(program: &str, names: &[Meaning]) {
    let registry = Registry::builtin();
    for (name, expected) in names {
        let found = registry.sampler_and_schedule(name);
        if expected.is_none() {
            let unknown = matches!(&found, Err(Error::UnknownName { kind: "sampler", name: n, .. }) if n == name);
            assert!(unknown, "{program}: {name:?} is {found:?}");
        }
        let found = found.ok().map(|(sampler, schedule)| (sampler.id.clone(), schedule.map(|s| s.id.clone())));
        let expected = expected.map(|(sampler, schedule)| (sampler.to_owned(), schedule.map(str::to_owned)));
        assert_eq!(found, expected, "{program}: {name:?}");
    }
}

#[test]
fn samplers_of_the_a1111_web_ui_and_forge() {
    hold(
        "A1111, Forge",
        &[
            plain("DPM++ 2M", "dpmpp_2m"),
            plain("DPM++ SDE", "dpmpp_sde"),
            plain("DPM++ 2M SDE", "dpmpp_2m_sde"),
            plain("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun"),
            plain("DPM++ 2S a", "dpmpp_2s_ancestral"),
            plain("DPM++ 3M SDE", "dpmpp_3m_sde"),
            plain("Euler a", "euler_ancestral"),
            plain("Euler", "euler"),
            plain("LMS", "lms"),
            plain("Heun", "heun"),
            plain("HeunPP2", "heunpp2"),
            plain("DPM2", "dpm_2"),
            plain("DPM2 a", "dpm_2_ancestral"),
            plain("DPM fast", "dpm_fast"),
            plain("DPM adaptive", "dpm_adaptive"),
            plain("Restart", "restart"),
            plain("DDIM", "ddim"),
            plain("DDIM CFG++", "ddim_cfgpp"),
            plain("PLMS", "plms"),
            plain("UniPC", "unipc"),
            plain("LCM", "lcm"),
            plain("DDPM", "ddpm"),
            plain("IPNDM", "ipndm"),
            plain("IPNDM_V", "ipndm_v"),
            plain("DEIS", "deis"),
            plain("[Forge] Flux Realistic", "dpmpp_2s_ancestral"),
            // fused names of versions up to 1.8, in the spellings that went around
            both("DPM++ 2M Karras", "dpmpp_2m", "karras"),
            both("dpm++2m karras", "dpmpp_2m", "karras"),
            both("DPM++2M Karras", "dpmpp_2m", "karras"),
            both("dpmpp_2m karras", "dpmpp_2m", "karras"),
            both("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential"),
            both("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", "karras"),
            both("DPM++ 3M SDE Exponential", "dpmpp_3m_sde", "exponential"),
            both("DPM++ 2S a Karras", "dpmpp_2s_ancestral", "karras"),
            both("DPM2 a Karras", "dpm_2_ancestral", "karras"),
            both("k_dpmpp_2m_sde_heun_exp", "dpmpp_2m_sde_heun", "exponential"),
            both("k_dpm_2_a_ka", "dpm_2_ancestral", "karras"),
            both("Euler a SGMUniform", "euler_ancestral", "sgm_uniform"),
            both("Euler Simple", "euler", "simple"),
            both("Euler Beta", "euler", "beta"),
            both("Euler a Align Your Steps", "euler_ancestral", "align_your_steps"),
            both("Euler a Align Your Steps GITS", "euler_ancestral", "align_your_steps_gits"),
            both("DPM++ 2M Align Your Steps 32", "dpmpp_2m", "align_your_steps_32"),
            both("DEIS DDIM", "deis", "ddim_uniform"),
            refused("Kohaku_LoNyu_Yog"),
            refused("Euler SMEA Dy"),
            refused("DPM++ 2M Alt"),
        ],
    );
}

#[test]
fn samplers_of_comfyui_and_swarmui() {
    hold(
        "ComfyUI, SwarmUI",
        &[
            plain("euler", "euler"),
            plain("euler_cfg_pp", "euler_cfg_pp"),
            plain("euler_ancestral", "euler_ancestral"),
            plain("Euler Ancestral", "euler_ancestral"),
            plain("euler-ancestral", "euler_ancestral"),
            plain("euler_ancestral_cfg_pp", "euler_ancestral_cfg_pp"),
            plain("Euler Ancestral CFG++", "euler_ancestral_cfg_pp"),
            plain("heun", "heun"),
            plain("heunpp2", "heunpp2"),
            plain("Heun++ 2", "heunpp2"),
            plain("exp_heun_2_x0", "exp_heun_2_x0"),
            plain("exp_heun_2_x0_sde", "exp_heun_2_x0_sde"),
            plain("dpm_2", "dpm_2"),
            plain("dpm_2_ancestral", "dpm_2_ancestral"),
            plain("lms", "lms"),
            plain("dpm_fast", "dpm_fast"),
            plain("dpm_adaptive", "dpm_adaptive"),
            plain("dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
            plain("dpmpp_2s_ancestral_cfg_pp", "dpmpp_2s_ancestral_cfg_pp"),
            plain("dpmpp_sde", "dpmpp_sde"),
            plain("dpmpp_sde_gpu", "dpmpp_sde"),
            plain("DPM++ SDE GPU", "dpmpp_sde"),
            plain("dpmpp_2m", "dpmpp_2m"),
            plain("dpmpp-2m", "dpmpp_2m"),
            plain("DPMPP_2M", "dpmpp_2m"),
            plain("dpmpp_2m_cfg_pp", "dpmpp_2m_cfg_pp"),
            plain("dpmpp_2m_sde", "dpmpp_2m_sde"),
            plain("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
            plain("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun"),
            plain("dpmpp_2m_sde_heun_gpu", "dpmpp_2m_sde_heun"),
            plain("dpmpp_3m_sde", "dpmpp_3m_sde"),
            plain("dpmpp_3m_sde_gpu", "dpmpp_3m_sde"),
            plain("ddpm", "ddpm"),
            plain("lcm", "lcm"),
            plain("ipndm", "ipndm"),
            plain("ipndm_v", "ipndm_v"),
            plain("deis", "deis"),
            plain("res_multistep", "res_multistep"),
            plain("res_multistep_cfg_pp", "res_multistep_cfg_pp"),
            plain("res_multistep_ancestral", "res_multistep_ancestral"),
            plain("res_multistep_ancestral_cfg_pp", "res_multistep_ancestral_cfg_pp"),
            plain("gradient_estimation", "gradient_estimation"),
            plain("gradient_estimation_cfg_pp", "gradient_estimation_cfg_pp"),
            plain("er_sde", "er_sde"),
            plain("seeds_2", "seeds_2"),
            plain("seeds_3", "seeds_3"),
            plain("sa_solver", "sa_solver"),
            plain("sa_solver_pece", "sa_solver_pece"),
            plain("ddim", "ddim"),
            plain("uni_pc", "unipc"),
            plain("uni_pc_bh2", "unipc_bh2"),
            both("euler simple", "euler", "simple"),
            both("euler_simple", "euler", "simple"),
            both("euler_ancestral_normal", "euler_ancestral", "normal"),
            both("dpmpp_2m_sgm_uniform", "dpmpp_2m", "sgm_uniform"),
            both("dpmpp_2m_sde_gpu_karras", "dpmpp_2m_sde", "karras"),
            both("exp_heun_2_x0_sde_beta", "exp_heun_2_x0_sde", "beta"),
            both("uni_pc_bh2 ddim_uniform", "unipc_bh2", "ddim_uniform"),
            both("res_multistep linear_quadratic", "res_multistep", "linear_quadratic"),
            both("er_sde-kl-optimal", "er_sde", "kl_optimal"),
            both("euler beta57", "euler", "beta57"),
            both("dpmpp_2m AYS SDXL", "dpmpp_2m", "align_your_steps_sdxl"),
            refused("cfgpp_ud10_ab"),
            // RES4LYF's, but the one that stable-diffusion.cpp took over
            plain("res_2s", "res_2s"),
            both("res_2s_bong_tangent", "res_2s", "bong_tangent"),
            refused("res_2m"),
            refused("res_3s"),
            refused("deis_3m"),
        ],
    );
}

#[test]
fn samplers_of_invokeai() {
    hold(
        "InvokeAI",
        &[
            plain("ddim", "ddim"),
            plain("ddpm", "ddpm"),
            plain("deis", "deis"),
            both("deis_k", "deis", "karras"),
            plain("lms", "lms"),
            both("lms_k", "lms", "karras"),
            plain("pndm", "plms"),
            plain("heun", "heun"),
            both("heun_k", "heun", "karras"),
            plain("euler", "euler"),
            both("euler_k", "euler", "karras"),
            plain("euler_a", "euler_ancestral"),
            plain("kdpm_2", "dpm_2"),
            both("kdpm_2_k", "dpm_2", "karras"),
            plain("kdpm_2_a", "dpm_2_ancestral"),
            both("kdpm_2_a_k", "dpm_2_ancestral", "karras"),
            plain("KDPM 2 Ancestral", "dpm_2_ancestral"),
            both("KDPM 2 Ancestral Karras", "dpm_2_ancestral", "karras"),
            plain("dpmpp_2m", "dpmpp_2m"),
            both("dpmpp_2m_k", "dpmpp_2m", "karras"),
            plain("dpmpp_2m_sde", "dpmpp_2m_sde"),
            both("dpmpp_2m_sde_k", "dpmpp_2m_sde", "karras"),
            plain("dpmpp_sde", "dpmpp_sde"),
            both("dpmpp_sde_k", "dpmpp_sde", "karras"),
            plain("er_sde", "er_sde"),
            plain("unipc", "unipc"),
            both("unipc_k", "unipc", "karras"),
            plain("lcm", "lcm"),
            plain("tcd", "tcd"),
            // diffusers' DPMSolverSinglestep takes every other level for its middle, and its third order without noise has
            // another second step than k-diffusion's.
            refused("dpmpp_2s"),
            refused("dpmpp_2s_k"),
            refused("dpmpp_3m"),
            refused("dpmpp_3m_k"),
        ],
    );
}

#[test]
fn samplers_of_fooocus_and_novelai() {
    hold(
        "Fooocus, NovelAI",
        &[
            plain("tcd", "tcd"),
            plain("restart", "restart"),
            both("dpmpp_2m_sde_gpu karras", "dpmpp_2m_sde", "karras"),
            both("euler_ancestral turbo", "euler_ancestral", "turbo"),
            plain("k_euler", "euler"),
            plain("k_euler_ancestral", "euler_ancestral"),
            plain("k_dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
            plain("k_dpmpp_2m", "dpmpp_2m"),
            plain("k_dpmpp_2m_sde", "dpmpp_2m_sde"),
            plain("k_dpmpp_sde", "dpmpp_sde"),
            plain("k_dpm_2", "dpm_2"),
            plain("k_dpm_2_ancestral", "dpm_2_ancestral"),
            plain("k_dpm_fast", "dpm_fast"),
            plain("k_dpm_adaptive", "dpm_adaptive"),
            plain("k_lms", "lms"),
            plain("K-Heun", "heun"),
            plain("plms", "plms"),
            both("k_euler_ancestral karras", "euler_ancestral", "karras"),
            both("k_dpmpp_2m polyexponential", "dpmpp_2m", "polyexponential"),
            refused("ddim_v3"),
            refused("nai_smea"),
            refused("nai_smea_dyn"),
            refused("k_euler native"),
        ],
    );
}

#[test]
fn samplers_of_draw_things() {
    hold(
        "Draw Things",
        &[
            both("DPM++ 2M Karras", "dpmpp_2m", "karras"),
            plain("Euler A", "euler_ancestral"),
            plain("DDIM", "ddim"),
            plain("PLMS", "plms"),
            both("DPM++ SDE Karras", "dpmpp_sde", "karras"),
            plain("UniPC", "unipc"),
            plain("LCM", "lcm"),
            plain("TCD", "tcd"),
            both("Euler A Trailing", "euler_ancestral", "trailing"),
            both("DPM++ SDE Trailing", "dpmpp_sde", "trailing"),
            both("DPM++ 2M Trailing", "dpmpp_2m", "trailing"),
            both("UniPC Trailing", "unipc", "trailing"),
            both("TCD Trailing", "tcd", "trailing"),
            // stable-diffusion.cpp's name for its only DDIM, on any schedule
            plain("DDIM Trailing", "ddim"),
            both("DPM++ 2M AYS", "dpmpp_2m", "align_your_steps"),
            both("Euler A AYS", "euler_ancestral", "align_your_steps"),
            both("DPM++ SDE AYS", "dpmpp_sde", "align_your_steps"),
            both("UniPC AYS", "unipc", "align_your_steps"),
            refused("Euler A Substep"),
            refused("DPM++ SDE Substep"),
        ],
    );
}

#[test]
fn samplers_of_stable_diffusion_cpp() {
    hold(
        "stable-diffusion.cpp",
        &[
            plain("euler", "euler"),
            plain("euler_a", "euler_ancestral"),
            plain("heun", "heun"),
            plain("dpm2", "dpm_2"),
            plain("dpm++2s_a", "dpmpp_2s_ancestral"),
            plain("dpm++2m", "dpmpp_2m"),
            plain("dpm++2mv2", "dpmpp_2m_v2"),
            plain("dpm++2m_sde", "dpmpp_2m_sde"),
            plain("dpm++2m_sde_bt", "dpmpp_2m_sde"),
            plain("ipndm", "ipndm"),
            plain("ipndm_v", "ipndm_v"),
            plain("lcm", "lcm"),
            plain("ddim_trailing", "ddim"),
            plain("tcd", "tcd"),
            plain("res_multistep", "res_multistep"),
            plain("res_2s", "res_2s"),
            plain("er_sde", "er_sde"),
            plain("euler_ge", "gradient_estimation"),
            plain("euler_cfg_pp", "euler_cfg_pp"),
            plain("euler_a_cfg_pp", "euler_ancestral_cfg_pp"),
            plain("lms", "lms"),
            // as it writes them into a picture
            both("euler_a discrete", "euler_ancestral", "normal"),
            both("dpm++2m karras", "dpmpp_2m", "karras"),
            both("euler smoothstep", "euler", "smoothstep"),
            both("ddim_trailing sgm_uniform", "ddim", "sgm_uniform"),
            both("lcm lcm", "lcm", "lcm"),
        ],
    );
}

#[test]
fn samplers_of_the_ai_horde_and_civitai() {
    hold(
        "AI Horde, Civitai",
        &[
            plain("k_euler_a", "euler_ancestral"),
            plain("k_dpm_2_a", "dpm_2_ancestral"),
            plain("k_dpmpp_2s_a", "dpmpp_2s_ancestral"),
            plain("k_dpm_fast", "dpm_fast"),
            plain("k_dpmpp_sde", "dpmpp_sde"),
            plain("DDIM", "ddim"),
            // DPM-Solver before its `++`
            refused("dpmsolver"),
            plain("EulerA", "euler_ancestral"),
            plain("DPM2", "dpm_2"),
            plain("DPM2A", "dpm_2_ancestral"),
            plain("DPM2SA", "dpmpp_2s_ancestral"),
            plain("DPM2M", "dpmpp_2m"),
            plain("DPMSDE", "dpmpp_sde"),
            plain("DPMFast", "dpm_fast"),
            plain("DPMAdaptive", "dpm_adaptive"),
            both("LMSKarras", "lms", "karras"),
            both("DPM2Karras", "dpm_2", "karras"),
            both("DPM2AKarras", "dpm_2_ancestral", "karras"),
            both("DPM2SAKarras", "dpmpp_2s_ancestral", "karras"),
            both("DPM2MKarras", "dpmpp_2m", "karras"),
            both("DPM2MSDEKarras", "dpmpp_2m_sde", "karras"),
            both("DPMSDEKarras", "dpmpp_sde", "karras"),
            plain("Undefined", "euler"),
        ],
    );
}

#[test]
fn classes_of_diffusers() {
    hold(
        "diffusers",
        &[
            plain("EulerDiscreteScheduler", "euler"),
            plain("EulerDiscrete", "euler"),
            plain("FlowMatchEulerDiscreteScheduler", "euler"),
            plain("EulerAncestralDiscreteScheduler", "euler_ancestral"),
            plain("EulerAncestralDiscrete", "euler_ancestral"),
            plain("HeunDiscreteScheduler", "heun"),
            plain("FlowMatchHeunDiscreteScheduler", "heun"),
            plain("LMSDiscreteScheduler", "lms"),
            plain("KDPM2DiscreteScheduler", "dpm_2"),
            plain("KDPM2AncestralDiscreteScheduler", "dpm_2_ancestral"),
            plain("DPMSolverMultistepScheduler", "dpmpp_2m"),
            plain("DPMSolverMultistep", "dpmpp_2m"),
            plain("DPMSolverSDEScheduler", "dpmpp_sde"),
            plain("DEISMultistepScheduler", "deis"),
            plain("UniPCMultistepScheduler", "unipc"),
            plain("DDIMScheduler", "ddim"),
            plain("DDPMScheduler", "ddpm"),
            plain("PNDMScheduler", "plms"),
            plain("LCMScheduler", "lcm"),
            plain("TCDScheduler", "tcd"),
            plain("IPNDMScheduler", "ipndm"),
            plain("SASolverScheduler", "sa_solver"),
            both("EulerDiscreteScheduler Karras", "euler", "karras"),
            refused("DPMSolverSinglestepScheduler"),
            refused("EDMEulerScheduler"),
            refused("CMStochasticIterativeScheduler"),
        ],
    );
}

#[test]
fn schedules_of_all_of_them() {
    for (program, names) in [
        (
            "A1111, Forge",
            &[
                ("Automatic", Some("automatic")),
                ("Uniform", Some("normal")),
                ("Karras", Some("karras")),
                ("Exponential", Some("exponential")),
                ("Polyexponential", Some("polyexponential")),
                ("SGM Uniform", Some("sgm_uniform")),
                ("SGMUniform", Some("sgm_uniform")),
                ("KL Optimal", Some("kl_optimal")),
                ("Align Your Steps", Some("align_your_steps")),
                ("Align Your Steps 11", Some("align_your_steps_forge")),
                ("Align Your Steps 32", Some("align_your_steps_32")),
                ("align_your_steps_GITS", Some("align_your_steps_gits")),
                ("Simple", Some("simple")),
                ("Normal", Some("normal")),
                ("DDIM", Some("ddim_uniform")),
                ("Beta", Some("beta")),
                ("Turbo", Some("turbo")),
            ][..],
        ),
        (
            "ComfyUI and its node packs",
            &[
                (" simple", Some("simple")),
                ("simple\n", Some("simple")),
                ("SGM_UNIFORM", Some("sgm_uniform")),
                ("sgm-uniform", Some("sgm_uniform")),
                ("ddim_uniform", Some("ddim_uniform")),
                ("DDIM Uniform", Some("ddim_uniform")),
                ("linear_quadratic", Some("linear_quadratic")),
                ("kl optimal", Some("kl_optimal")),
                ("beta57", Some("beta57")),
                ("bong_tangent", Some("bong_tangent")),
                ("AYS SDXL", Some("align_your_steps_sdxl")),
                ("AYS SD1", Some("align_your_steps_sd1")),
                ("AYS SVD", Some("align_your_steps_svd")),
                ("ays_sdxl", Some("align_your_steps_sdxl")),
                ("GITS[coeff=1.2]", Some("gits")),
                ("LTXV[default]", None),
            ],
        ),
        (
            "stable-diffusion.cpp",
            &[
                ("discrete", Some("normal")),
                ("karras", Some("karras")),
                ("exponential", Some("exponential")),
                ("ays", Some("align_your_steps")),
                ("gits", Some("gits")),
                ("sgm_uniform", Some("sgm_uniform")),
                ("simple", Some("simple")),
                ("smoothstep", Some("smoothstep")),
                ("kl_optimal", Some("kl_optimal")),
                ("lcm", Some("lcm")),
                ("bong_tangent", Some("bong_tangent")),
                ("logit_normal", Some("logit_normal")),
                ("beta", Some("beta")),
                ("ltx2", None),
                ("llada_image", None),
            ],
        ),
        (
            "Fooocus, NovelAI, diffusers",
            &[
                ("align_your_steps", Some("align_your_steps")),
                ("tcd", None),
                ("edm_playground_v2.5", None),
                ("native", None),
                ("trailing", Some("trailing")),
                ("leading", None),
                ("linspace", None),
            ],
        ),
    ] {
        for (name, expected) in names {
            let found = Registry::builtin().schedule(name);
            assert_eq!(found.as_ref().ok().map(|schedule| schedule.id.as_str()), *expected, "{program}: {name:?}");
            assert!(found.is_ok() || matches!(found, Err(Error::UnknownName { kind: "schedule", .. })));
        }
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for name in ["", " ", "_", "karras", "simple", "euler karras karras", "euler a a", "eulerk", "k", "k_karras", "gpu"]
    {
        assert!(Registry::builtin().sampler_and_schedule(name).is_err(), "{name:?}");
    }
}
