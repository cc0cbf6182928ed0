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
    /// A config beside the file, or in its folder.
    Config,
    /// A mark among the file's tensors.
    Mark,
    /// The spread of a bias that comes out wider in networks that predict velocity.
    Spread,
    /// Nothing: the usual for the edition.
    Nothing,
}

/// What a config beside a model says of its training; from diffusers' `scheduler/scheduler_config.json` or the YAML file of a release.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct TrainingConfig {
    /// `epsilon` or `v_prediction`.
    pub prediction_type: Option<String>,
    /// Whether the last noise level has no signal left.
    pub rescale_betas_zero_snr: Option<bool>,
}

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
        // ComfyUI comfy/supported_models.py `SDXL.model_type`, v0.3.64.
        if file.contains("edm_mean") || file.contains("edm_vpred.sigma_max") {
            return unsupported("a mixture of data and noise (EDM), as Playground 2.5 and CosXL have it");
        }
        let (prediction, told_by) = match config.prediction_type.as_deref() {
            Some("epsilon") => (Prediction::Epsilon, ToldBy::Config),
            Some("v_prediction") => (Prediction::V, ToldBy::Config),
            Some(other) => return unsupported(other),
            None if file.contains("v_pred") => (Prediction::V, ToldBy::Mark),
            None => guess(edition, dimensions, w),
        };
        let zero_snr = config.rescale_betas_zero_snr.unwrap_or(false) || file.contains("ztsnr");
        Ok(Self { prediction, zero_snr, told_by })
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
    let values = core_tensor::values(&w.parameter::<1>(SPREAD_OF).ok()?.value());
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    Some((values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

impl TrainingConfig {
    /// What the YAML file of a release says: `parameterization: "v"` of latent-diffusion's, or a `scaling_config` whose `target` is a
    /// `VScaling` of generative-models'. Nothing else of it is read.
    pub fn of_yaml(text: &str) -> Self {
        let says_v = text.lines().any(|line| {
            let Some((key, value)) = line.split_once(':') else { return false };
            let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            match key.trim() {
                "parameterization" => value == "v",
                "target" => value.ends_with(".VScaling"),
                _ => false,
            }
        });
        Self { prediction_type: says_v.then(|| "v_prediction".to_owned()), rescale_betas_zero_snr: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
