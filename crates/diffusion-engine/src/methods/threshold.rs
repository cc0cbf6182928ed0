//! Dynamic thresholding: guidance by a high `cfg`, brought back to the spread that a lower one would have.
//!
//! After mcmonkey's sd-dynamic-thresholding, as Forge has it (extensions-builtin/sd_forge_dynamic_thresholding, dfdcbab), with the steps of the
//! pass for the timesteps of the model and each picture by itself.

use std::{f64::consts::TAU, sync::Arc};

use core_tensor::{Latent, Tensor, on_host, tensor};
use samplers::{Denoised, Denoiser, Error, Step};

use super::{Method, SHARE, Settings, each, key};
use crate::{Around, Clock, Key, Kind, Moment, Pass, PerStep, Place, Wrap};

pub(super) const METHOD: Method = Method {
    id: "threshold",
    keys: &[MIMIC, PERCENTILE, MIMIC_MODE, MIMIC_MIN, CFG_MODE, CFG_MIN, POWER, CHANNELS, START, MEASURE, PHI],
    networks: &[],
    wraps,
};

const SCALE: Kind = Kind::Number { min: 0.0, max: 100.0 };

const MIMIC: Key = key("threshold", SCALE, "off", "7.0")
    .about("Lower cfg whose spread dynamic thresholding keeps to")
    .docs("dynamic thresholding: guides by `cfg`, and keeps to the spread of values that this lower one would give")
    .flag("threshold")
    .label("dynthres_mimic_scale");

const PERCENTILE: Key = key("threshold_percentile", SHARE, "1", "0.95")
    .about("Share of values that count in the spread")
    .docs("the quantile that is taken for the largest value under `cfg`")
    .label("dynthres_threshold_percentile");

/// How a scale goes through a pass, by Forge's names.
const MODES: Kind = Kind::Choice(&[
    "constant",
    "linear down",
    "cosine down",
    "half cosine down",
    "linear up",
    "cosine up",
    "half cosine up",
    "power up",
    "power down",
    "linear repeating",
    "cosine repeating",
    "sawtooth",
]);

const MIMIC_MODE: Key = key("threshold_mode", MODES, "constant", "\"half cosine up\"")
    .about("How the lower cfg goes through the steps")
    .docs("how `threshold` goes through the steps, from or to `threshold_min`")
    .label("dynthres_mimic_mode");

const MIMIC_MIN: Key = key("threshold_min", SCALE, "0", "3.0")
    .about("Least that the lower cfg becomes")
    .docs("the least that `threshold` becomes")
    .label("dynthres_mimic_scale_min");

const CFG_MODE: Key = key("threshold_cfg_mode", MODES, "constant", "\"linear down\"")
    .about("How cfg goes through the steps")
    .docs("how `cfg` goes through the steps, from or to `threshold_cfg_min`")
    .label("dynthres_cfg_mode");

const CFG_MIN: Key = key("threshold_cfg_min", SCALE, "0", "3.0")
    .about("Least that cfg becomes")
    .docs("the least that `cfg` becomes")
    .label("dynthres_cfg_scale_min");

const POWER: Key = key("threshold_power", SCALE, "1", "4.0")
    .about("Power of `power` modes, number of repeats of others")
    .docs("the power of the modes that have one, and how often repeating ones repeat")
    .label("dynthres_sched_val");

const CHANNELS: Key = key("threshold_channels", Kind::Choice(&["enable", "disable"]), "enable", "\"disable\"")
    .about("Whether each channel has a spread of its own")
    .docs("whether each channel of the latent has a spread of its own: `enable` or `disable`")
    .label("dynthres_separate_feature_channels");

const START: Key = key("threshold_start", Kind::Choice(&["mean", "zero"]), "mean", "\"zero\"")
    .about("What values are spread around")
    .docs("what values are spread around: their mean or zero")
    .label("dynthres_scaling_startpoint");

const MEASURE: Key = key("threshold_measure", Kind::Choice(&["ad", "std"]), "ad", "\"std\"")
    .about("What the spread is")
    .docs("what the spread is: the largest distance (`ad`) or the standard deviation (`std`)")
    .label("dynthres_variability_measure");

const PHI: Key = key("threshold_share", SHARE, "1", "0.7")
    .about("Share of the thresholded answer")
    .docs("the share of the thresholded answer; the rest is plain guidance by `cfg`")
    .label("dynthres_interpolate_phi");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let number = |key, default: f32| f64::from(settings.number(key).unwrap_or(default));
    let mode = |key| settings.name(key).unwrap_or("constant").to_owned();
    let is = |key, name| settings.name(key) == Some(name);
    vec![Arc::new(Threshold {
        mimic: Course { scale: number(&MIMIC, 0.0), least: number(&MIMIC_MIN, 0.0), mode: mode(&MIMIC_MODE) },
        cfg: Course { scale: 0.0, least: number(&CFG_MIN, 0.0), mode: mode(&CFG_MODE) },
        percentile: number(&PERCENTILE, 1.0),
        power: number(&POWER, 1.0),
        apart: !is(&CHANNELS, "disable"),
        from_zero: is(&START, "zero"),
        by_deviation: is(&MEASURE, "std"),
        share: number(&PHI, 1.0),
    })]
}

#[derive(Clone)]
struct Threshold {
    mimic: Course,
    /// Without its scale, which the pass has.
    cfg: Course,
    percentile: f64,
    power: f64,
    apart: bool,
    from_zero: bool,
    by_deviation: bool,
    share: f64,
}

/// A scale on its way through a pass.
#[derive(Clone)]
struct Course {
    scale: f64,
    least: f64,
    mode: String,
}

impl Course {
    /// At this share of the steps.
    #[expect(clippy::approx_constant, reason = "the extension's own number")]
    fn at(&self, share: f64, power: f64) -> f64 {
        let quarter = share * 1.5707; // the extension's own, for a quarter of a turn
        let portion = (share * power).fract();
        let factor = match self.mode.as_str() {
            "linear down" => 1.0 - share,
            "cosine down" => quarter.cos(),
            "half cosine down" => share.cos(),
            "linear up" => share,
            "cosine up" => 1.0 - quarter.cos(),
            "half cosine up" => 1.0 - share.cos(),
            "power up" => share.powf(power),
            "power down" => 1.0 - share.powf(power),
            "linear repeating" => (portion - 0.5).abs() * 2.0,
            "cosine repeating" => (share * TAU * power).cos() * 0.5 + 0.5,
            "sawtooth" => portion,
            _ => 1.0,
        };
        (self.scale - self.least) * factor + self.least
    }
}

impl Wrap for Threshold {
    fn place(&self) -> Place {
        Place::Guidance
    }

    fn wants_negative(&self, pass: &Pass, at: &Moment) -> bool {
        pass.cfg.at(at.step, at.steps) > 1.0
    }

    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        let (cfg, clock) = (at.pass.cfg.clone(), at.clock.clone());
        Ok(Box::new(Thresholded { inner, threshold: self.clone(), cfg, clock }))
    }
}

struct Thresholded {
    inner: Box<dyn Denoiser>,
    threshold: Threshold,
    cfg: PerStep,
    clock: Clock,
}

impl Denoiser for Thresholded {
    fn begin(&mut self, step: &Step) {
        self.inner.begin(step);
    }

    fn denoise(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        let Denoised { latent: positive, negative } = self.inner.denoise(x, sigma)?;
        let Some(negative) = negative else { return Ok(Denoised { latent: positive, negative: None }) };
        let at = self.clock.at(sigma);
        let share = at.step as f64 / at.steps.saturating_sub(1).max(1) as f64;
        let Threshold { mimic, cfg, power, .. } = &self.threshold;
        let cfg = Course { scale: f64::from(self.cfg.at(at.step, at.steps)), ..cfg.clone() };
        let scales = [mimic.at(share, *power), cfg.at(share, *power)];
        let latent = each([x, &positive, &negative], |latents| self.threshold.of_picture(latents, scales));
        let latent = latent.map_err(|source| Error::Model { sigma, source: source.into() })?;
        Ok(Denoised { latent, negative: Some(negative) })
    }
}

impl Threshold {
    /// One picture's latent, the answer to its prompt and that to the negative one; `scales` are the lower `cfg` and the one that guides.
    fn of_picture(&self, latents: [Tensor<4>; 3], scales: [f64; 2]) -> Result<Tensor<4>, core_tensor::Error> {
        let (shape, device) = (latents[0].dims(), latents[0].device());
        let [x, positive, negative] = latents.map(|latent| on_host(&latent));
        let (x, positive, negative) = (x?, positive?, negative?);
        let length = shape[2] * shape[3];
        let span = |i: usize| (f64::from(x[i]), f64::from(positive[i]), f64::from(negative[i]));
        // What is taken away from the latent, as the extension has it.
        let [low, high] = scales.map(|scale| {
            let guided = |i| {
                let (x, positive, negative) = span(i);
                (x - negative) + (negative - positive) * scale
            };
            (0..x.len()).map(guided).collect::<Vec<f64>>()
        });
        let [low, high] = [low, high].map(|guided| Spread::of(guided, length));
        let whole = if self.apart { length } else { x.len() };
        let reaches = |spread: &Spread, quantile| -> Vec<f64> {
            let reach = |part: &[f64]| if self.by_deviation { deviation(part) } else { largest(part, quantile) };
            spread.centered.chunks(whole).map(reach).collect()
        };
        let (aim, reach) = (reaches(&low, 1.0), reaches(&high, self.percentile));
        let thresholded = |i: usize| {
            let (aim, reach, mean) = (aim[i / whole], reach[i / whole], high.means[i / length]);
            let centered = high.centered[i];
            let changed = match (self.from_zero, self.by_deviation) {
                (true, _) => (centered + mean) * ratio(aim, reach),
                (false, true) => centered * ratio(aim, reach) + mean,
                (false, false) => {
                    let most = aim.max(reach);
                    centered.clamp(-most, most) * ratio(aim, most) + mean
                }
            };
            let plain = centered + mean;
            (f64::from(x[i]) - changed * self.share - plain * (1.0 - self.share)) as f32
        };
        Ok(tensor((0..x.len()).map(thresholded).collect(), shape, &device))
    }
}

/// Values around the means of their channels.
struct Spread {
    means: Vec<f64>,
    centered: Vec<f64>,
}

impl Spread {
    /// Of channels of this length.
    fn of(values: Vec<f64>, length: usize) -> Self {
        let means: Vec<f64> = values.chunks(length).map(|part| part.iter().sum::<f64>() / length as f64).collect();
        let centered = values.iter().enumerate().map(|(i, value)| value - means[i / length]).collect();
        Self { means, centered }
    }
}

/// The quantile of the values' distances from zero, between the two that are nearest to it.
fn largest(values: &[f64], quantile: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    sorted.sort_by(f64::total_cmp);
    let place = quantile * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The standard deviation of so many values, torch's `std`.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0).max(1.0)).sqrt()
}

/// `aim / reach`; 1 where there is nothing to be brought back.
fn ratio(aim: f64, reach: f64) -> f64 {
    if reach > 0.0 { aim / reach } else { 1.0 }
}
