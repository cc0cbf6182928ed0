//! No guidance in the first calls of the model, as "Ignore negative prompt during early sampling" of A1111 and Forge.
//!
//! Reference: Forge modules/sd_samplers_cfg_denoiser.py, dfdcbab: `skip_early_cond`.

use std::sync::Arc;

use super::{Method, SHARE, Settings, key};
use crate::{Key, Moment, Pass, Place, Wrap};

pub(super) const METHOD: Method = Method { id: "skip_early", keys: &[SKIP_EARLY], networks: &[], wraps };

const SKIP_EARLY: Key = key("skip_early", SHARE, "off", "0.2").about("Share of the run without guidance at its beginning")
    .docs("the share of the model's calls, from the first, in which neither `cfg` nor the negative prompt counts; they cost one call each")
    .flag("skip-early-cfg")
    .label("Skip Early CFG")
    .api("skip_early_cond");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    vec![Arc::new(SkipEarly { share: settings.number(&SKIP_EARLY).unwrap_or(0.0) })]
}

struct SkipEarly {
    share: f32,
}

impl Wrap for SkipEarly {
    fn place(&self) -> Place {
        Place::Inside
    }

    fn wants_negative(&self, pass: &Pass, at: &Moment) -> bool {
        let calls = at.steps as f64 * f64::from(pass.sampler.calls.per_step().unwrap_or(1));
        self.share <= 0.0 || at.call as f64 / calls.max(1.0) > f64::from(self.share)
    }
}
