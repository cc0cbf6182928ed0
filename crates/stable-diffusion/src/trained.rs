use std::cmp::Ordering;

use core_tensor::{Layout, Manifest, Weights};
use diffusion_engine::Error;
use samplers::Prediction;

use crate::{Edition, Unet, UnetDimensions};

/// What a network was trained to predict, and over which noise levels: nothing that its shapes tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained {
    /// Noise or velocity.
    pub prediction: Prediction,
    /// Whether the last noise level has no signal left.
    pub zero_snr: bool,
    /// What told the prediction.
    pub told_by: ToldBy,
}

/// What told the prediction of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// A config beside the file, in its folder, or kept in it.
    Config,
    /// A mark among the file's tensors.
    Mark,
    /// What the file says of itself, by the keys that Stability specified for it.
    Note,
    /// The spread of a bias that comes out wider in networks that predict velocity.
    Spread,
    /// Nothing: the usual for the edition.
    Nothing,
}

/// What a config beside a model says of its training; from diffusers' `scheduler/scheduler_config.json` or the YAML file of a release. How
/// a sampler is to space its levels is a matter of the request, and not read.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct TrainingConfig {
    /// `epsilon` or `v_prediction`.
    pub prediction_type: Option<String>,
    /// Whether the last noise level has no signal left.
    pub rescale_betas_zero_snr: Option<bool>,
    /// The class of the scheduler, by which those of other processes are known.
    #[serde(rename = "_class_name")]
    pub class: Option<String>,
    /// The first of the noise that steps of the training added.
    pub beta_start: Option<f64>,
    /// The last of it.
    pub beta_end: Option<f64>,
    /// What lies between.
    pub beta_schedule: Option<String>,
    /// All of it, where it is listed.
    pub trained_betas: Option<Vec<f64>>,
    /// How many such steps there were.
    pub num_train_timesteps: Option<f64>,
    /// What latents are multiplied with between autoencoder and network; from YAML.
    pub scale_factor: Option<f64>,
    /// What the model's file says of itself.
    #[serde(skip)]
    pub noted: Option<Prediction>,
}

const BETA_START: f64 = 0.00085; // v1-inference.yaml: linear_start
const BETA_END: f64 = 0.012; // linear_end
const TIMESTEPS: f64 = 1000.0; // timesteps
const BETA_SCHEDULE: &str = "scaled_linear"; // scheduler_config.json of every release

/// Where networks of 2.x that predict velocity have a bias of this spread and others of less (ComfyUI comfy/supported_models.py
/// `SD20.model_type`, v0.3.64).
const SPREAD: f64 = 0.09;
const SPREAD_OF: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";

impl Trained {
    /// What is known of a UNet's training, by a config, the marks among its file's tensors and its own tensors `w`.
    ///
    /// # Errors
    /// [`Error::Model`] for what was trained otherwise than Stable Diffusion.
    pub fn of(
        edition: Edition,
        dimensions: &UnetDimensions,
        file: &Manifest,
        w: &Weights,
        config: &TrainingConfig,
    ) -> Result<Self, Error> {
        let unsupported = |found: &str| {
            let expected = "noise or velocity over Stable Diffusion's noise levels".to_owned();
            Err(Error::Model { what: "what the UNet predicts", expected, found: found.to_owned() })
        };
        config.usual_levels()?;
        // ComfyUI comfy/supported_models.py `SDXL.model_type`, v0.3.64.
        if file.contains("edm_mean") || file.contains("edm_vpred.sigma_max") {
            return unsupported("a mixture of data and noise (EDM), as Playground 2.5 and CosXL have it");
        }
        let (prediction, told_by) = match config.prediction_type.as_deref() {
            Some("epsilon") => (Prediction::Epsilon, ToldBy::Config),
            Some("v_prediction") => (Prediction::V, ToldBy::Config),
            Some(other) => return unsupported(other),
            None if file.contains("v_pred") => (Prediction::V, ToldBy::Mark),
            None => match config.noted {
                Some(prediction) => (prediction, ToldBy::Note),
                None => guess(edition, dimensions, w),
            },
        };
        let zero_snr = config.rescale_betas_zero_snr.unwrap_or(false) || file.contains("ztsnr");
        Ok(Self { prediction, zero_snr, told_by })
    }

    /// What is not of itself so, each with what told it, in words.
    pub fn told(&self) -> Vec<String> {
        let by = match self.told_by {
            ToldBy::Config => "a config says so",
            ToldBy::Mark => "the mark `v_pred` says so",
            ToldBy::Note => "`modelspec` in its metadata says so",
            ToldBy::Spread => "the spread of a bias says so",
            ToldBy::Nothing => "as usual",
        };
        let predicts = if self.prediction == Prediction::V { "velocity" } else { "noise" };
        let predicts = format!("it predicts {predicts}: {by}");
        let levels = "its noise levels end without signal: a config or the mark `ztsnr` says so".to_owned();
        [predicts].into_iter().chain(self.zero_snr.then_some(levels)).collect()
    }
}

/// What a file's notes say that it predicts, in the keys of Stability's specification for them: the prediction itself, or a release of 2.x that
/// is known by it (github.com/Stability-AI/ModelSpec).
pub(crate) fn noted<'n>(note: impl Fn(&str) -> Option<&'n str>) -> Option<Prediction> {
    match (note("modelspec.prediction_type"), note("modelspec.architecture")) {
        (Some("v"), _) => Some(Prediction::V),
        (Some("epsilon"), _) => Some(Prediction::Epsilon),
        (_, Some("stable-diffusion-v2-768-v")) => Some(Prediction::V),
        (_, Some("stable-diffusion-v2-512")) => Some(Prediction::Epsilon),
        _ => None,
    }
}

/// What is likely where nothing says it, by the UNet's own tensors.
pub(crate) fn guess(edition: Edition, dimensions: &UnetDimensions, w: &Weights) -> (Prediction, ToldBy) {
    // Variants for inpainting predict noise in 2.x too.
    if edition != Edition::Two || dimensions.in_channels != dimensions.out_channels {
        return (Prediction::Epsilon, ToldBy::Nothing);
    }
    match spread(&w.before(Unet::MARK)) {
        Some(spread) if spread > SPREAD => (Prediction::V, ToldBy::Spread),
        Some(_) => (Prediction::Epsilon, ToldBy::Spread),
        None => (Prediction::Epsilon, ToldBy::Nothing),
    }
}

/// The standard deviation of the bias that tells.
fn spread(w: &Weights) -> Option<f64> {
    let shape = w.shape(SPREAD_OF)?.to_vec();
    let w = w.laid_out(Layout::of(|l| l.parameter(SPREAD_OF, &shape)));
    let values = w.read_all().next()?.to_f32()?;
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    Some((values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

impl TrainingConfig {
    /// What the YAML file of a release says: latent-diffusion's `parameterization: "v"`, `linear_start`, `linear_end`, `timesteps` and
    /// `scale_factor`, each where it stands first, and generative-models' `scaling_config` whose `target` is a `VScaling`.
    pub fn of_yaml(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            Some((key.trim(), value))
        });
        let mut config = Self::default();
        let first = |place: &mut Option<f64>, value: &str| {
            place.get_or_insert(value.parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(f64::NAN));
        };
        for (key, value) in pairs {
            match key {
                "parameterization" if value == "v" => config.prediction_type = Some("v_prediction".to_owned()),
                "target" if value.ends_with(".VScaling") => config.prediction_type = Some("v_prediction".to_owned()),
                "linear_start" => first(&mut config.beta_start, value),
                "linear_end" => first(&mut config.beta_end, value),
                "timesteps" => first(&mut config.num_train_timesteps, value),
                "scale_factor" => first(&mut config.scale_factor, value),
                _ => {}
            }
        }
        config
    }

    /// Finds out whether the training had Stable Diffusion's noise levels.
    fn usual_levels(&self) -> Result<(), Error> {
        let number = |key: &str, said: Option<f64>, usual: f64| {
            let said = said.filter(|said| (said - usual).abs().partial_cmp(&(usual * 1e-6)) != Some(Ordering::Less))?;
            Some(format!("`{key}` {said}"))
        };
        let is_another = |class: &&String| ["EDM", "FlowMatch", "KarrasVe"].iter().any(|other| class.contains(other));
        let class = self.class.as_ref().filter(is_another).map(|class| format!("those of `{class}`"));
        let schedule = self.beta_schedule.as_ref().filter(|schedule| *schedule != BETA_SCHEDULE);
        let found = class
            .or_else(|| self.trained_betas.as_ref().map(|betas| format!("a list of {} betas", betas.len())))
            .or_else(|| number("beta_start", self.beta_start, BETA_START))
            .or_else(|| number("beta_end", self.beta_end, BETA_END))
            .or_else(|| number("num_train_timesteps", self.num_train_timesteps, TIMESTEPS))
            .or_else(|| schedule.map(|schedule| format!("`beta_schedule` \"{schedule}\"")));
        match found {
            None => Ok(()),
            Some(found) => Err(Error::Model {
                what: "what the model's config says of its noise levels",
                expected: format!(
                    "Stable Diffusion's, {TIMESTEPS} with betas from {BETA_START} to {BETA_END}, \"{BETA_SCHEDULE}\""
                ),
                found,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn noise_levels_of_another_training_are_named() {
        let config =
            |json| serde_json::from_value::<TrainingConfig>(json).unwrap().usual_levels().map_err(|e| e.to_string());
        // as in the folders of Stable Diffusion 1.4 and XL
        assert_eq!(config(json!({"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085})), Ok(()));
        let xl = json!({"_class_name": "EulerDiscreteScheduler", "num_train_timesteps": 1000, "trained_betas": null});
        assert_eq!(config(xl), Ok(()));
        for (json, names) in [
            (json!({"beta_start": 0.0001}), "`beta_start` 0.0001"),
            (json!({"beta_end": 0.02}), "`beta_end` 0.02"),
            (json!({"beta_schedule": "squaredcos_cap_v2"}), "squaredcos_cap_v2"),
            (json!({"num_train_timesteps": 100}), "`num_train_timesteps` 100"),
            (json!({"trained_betas": [0.1, 0.2]}), "a list of 2 betas"),
            (json!({"_class_name": "EDMEulerScheduler"}), "EDMEulerScheduler"),
            (json!({"_class_name": "FlowMatchEulerDiscreteScheduler"}), "FlowMatch"),
        ] {
            let told = config(json.clone()).unwrap_err();
            assert!(told.contains(names) && told.contains("expected Stable Diffusion's"), "{json}: {told}");
        }
        let of_yaml = |text| TrainingConfig::of_yaml(text).usual_levels();
        assert!(
            of_yaml("params:\n  linear_start: 0.00085\n  linear_end: 0.0120 # as ever\n  timesteps: 1000\n").is_ok()
        );
        assert!(of_yaml("linear_end: 0.02").is_err() && of_yaml("timesteps: many").is_err());
        assert_eq!(TrainingConfig::of_yaml(" scale_factor: 0.13025\n scale_factor: 1\n").scale_factor, Some(0.13025));
    }

    #[test]
    fn a_files_notes_tell_the_prediction_or_a_release_that_is_known_by_it() {
        let of = |pairs: &[(&str, &'static str)]| {
            noted(|key| pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value))
        };
        let (prediction, architecture) = ("modelspec.prediction_type", "modelspec.architecture");
        for (pairs, told) in [
            (&[][..], None),
            (&[(prediction, "v")], Some(Prediction::V)),
            (&[(prediction, "epsilon"), (architecture, "stable-diffusion-v2-768-v")], Some(Prediction::Epsilon)),
            (&[(architecture, "stable-diffusion-v2-768-v")], Some(Prediction::V)),
            (&[(architecture, "stable-diffusion-v2-512")], Some(Prediction::Epsilon)),
            (&[(architecture, "stable-diffusion-xl-v1-base"), (prediction, "sample")], None),
        ] {
            assert_eq!(of(pairs), told, "{pairs:?}");
        }
    }

    #[test]
    fn the_yaml_file_of_a_release_says_that_velocity_is_predicted() {
        let of = |text| TrainingConfig::of_yaml(text).prediction_type;
        for v in [
            "model:\n  params:\n    parameterization: \"v\"\n",
            "  parameterization: v # as in the paper",
            "scaling_config:\n  target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling",
        ] {
            assert_eq!(of(v).as_deref(), Some("v_prediction"), "{v}");
        }
        for other in [
            "",
            "parameterization: eps",
            "# parameterization: \"v\"",
            "target: x.EpsScaling",
            "parameterization",
            "\u{0}:v",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
