//! Guidance in a part of the noise levels alone (Kynkäänniemi et al. 2024, Applying Guidance in a Limited Interval).

use std::sync::Arc;

use super::{Method, SHARE, Settings, key};
use crate::{Key, Kind, Moment, Pass, Place, Wrap};

pub(super) const METHOD: Method =
    Method { id: "interval", keys: &[INTERVAL, FROM, TO, LOW, HIGH], networks: &[], wraps };

const INTERVAL: Key = key("interval", super::SWITCH, "off", "\"on\"").about("Whether guidance counts in an interval alone")
    .docs("`on` guides only in the steps and between the noise levels of the keys below; elsewhere the negative prompt costs nothing")
    .flag("cfg-interval")
    .label("CFG interval");

const FROM: Key = key("interval_from", SHARE, "0", "0.1")
    .about("Where guidance begins to count")
    .docs("the share of the steps before guidance counts")
    .label("CFG interval from");

const TO: Key = key("interval_to", SHARE, "1", "0.8")
    .about("Where guidance ceases to count")
    .docs("the share of the steps behind which guidance doesn't count any more")
    .label("CFG interval to");

const SIGMA: Kind = Kind::Number { min: 0.0, max: 1e6 };

const LOW: Key = key("interval_low", SIGMA, "0", "0.28")
    .about("Noise level above which guidance counts")
    .docs("the noise level above which guidance counts, `sigma_lo` of the paper")
    .label("CFG interval low");

const HIGH: Key = key("interval_high", SIGMA, "any", "5.42")
    .about("Noise level up to which guidance counts")
    .docs("the noise level up to which guidance counts, `sigma_hi` of the paper")
    .label("CFG interval high");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    vec![Arc::new(Interval {
        from: settings.number(&FROM).unwrap_or(0.0),
        to: settings.number(&TO).unwrap_or(1.0),
        low: settings.number(&LOW).unwrap_or(0.0),
        high: settings.number(&HIGH).unwrap_or(f32::INFINITY),
    })]
}

struct Interval {
    from: f32,
    to: f32,
    low: f32,
    high: f32,
}

impl Wrap for Interval {
    fn place(&self) -> Place {
        Place::Inside
    }

    /// Steps as in diffusers' guiders, noise levels as in equation 5 of the paper.
    fn wants_negative(&self, _: &Pass, at: &Moment) -> bool {
        let step = |share: f32| (f64::from(share) * at.steps as f64) as usize;
        (step(self.from)..step(self.to)).contains(&at.step) && at.sigma > self.low && at.sigma <= self.high
    }
}
