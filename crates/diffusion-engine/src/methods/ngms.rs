//! Negative guidance minimum sigma: no guidance below a noise level, in every second call of the model or in all.
//!
//! Reference: Forge modules/sd_samplers_cfg_denoiser.py, dfdcbab: `s_min_uncond` and `s_min_uncond_all`.

use std::sync::Arc;

use super::{Method, SWITCH, Settings, key};
use crate::{Key, Kind, Moment, Pass, Place, Wrap};

pub(super) const METHOD: Method = Method { id: "ngms", keys: &[NGMS, ALL], networks: &[], wraps };

const NGMS: Key = key("ngms", Kind::Number { min: 0.0, max: 15.0 }, "off", "3.0").about("Noise level below which every second call has no guidance")
    .docs("the noise level below which every second call of the model goes without `cfg` and the negative prompt, which saves that call")
    .flag("ngms")
    .label("NGMS")
    .api("s_min_uncond");

const ALL: Key = key("ngms_all", SWITCH, "off", "\"on\"")
    .about("Whether that is so in all calls")
    .docs("`on`: below `ngms` every call goes without them")
    .label("NGMS all steps");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    vec![Arc::new(Ngms { sigma: settings.number(&NGMS).unwrap_or(0.0), all: settings.is_on(&ALL) })]
}

struct Ngms {
    sigma: f32,
    all: bool,
}

impl Wrap for Ngms {
    fn place(&self) -> Place {
        Place::Inside
    }

    fn wants_negative(&self, _: &Pass, at: &Moment) -> bool {
        at.sigma >= self.sigma || !(self.all || at.call % 2 == 1)
    }
}
