//! A step cache by what the first block is given: while the changes of it, through a polynomial that tells the output's from them, have not
//! added up, what all blocks added stands for them (Liu et al. 2024, Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model).
//!
//! Reference: TeaCache's TeaCache4FLUX/teacache_flux.py, with the coefficients that were fitted for FLUX.1 dev.

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Tensor, ops};

use super::{
    Method, Settings,
    first_block::{Whose, changed, whose},
    key,
};
use crate::{Call, Holds, HookError, Hooks, Key, Kind, Memory, Site, Wrap};

pub(super) const METHOD: Method = Method { id: "teacache", keys: &[TEACACHE], networks: &["transformer"], wraps };

const TEACACHE: Key = key("teacache", Kind::Number { min: 0.0, max: 10.0 }, "off", "0.4")
    .about("Change that adds up before the blocks are computed again")
    .docs("TeaCache: calls add what their blocks added before until the change that is to be expected adds up to this; its authors \
         name 0.25 to 0.8 for FLUX.1 dev")
    .flag("teacache")
    .label("TeaCache");

/// From the highest power down: teacache_flux.py, `coefficients`.
const COEFFICIENTS: [f64; 5] = [4.98651651e+02, -2.83781631e+02, 5.58554382e+01, -3.82021401e+00, 2.64230861e-01];

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let threshold = settings.number(&TEACACHE).map_or(0.0, f64::from);
    vec![Arc::new(TeaCache { threshold, kept: Memory::default() })]
}

#[derive(Clone)]
struct TeaCache {
    threshold: f64,
    kept: Memory<BTreeMap<Whose, Kept>>,
}

#[derive(Clone)]
struct Kept {
    /// What the first block was given in the last call.
    sign: Tensor<3>,
    /// What the blocks added in the last whole call, once there was one.
    added: Option<Tensor<3>>,
    /// What has added up since.
    gone: f64,
}

impl Wrap for TeaCache {
    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self { kept: self.kept.fork(), ..*self }))
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }

    fn holds(&self) -> Holds {
        // What the first block was given, and what all blocks added.
        Holds { maps: 2, ..Holds::default() }
    }
}

impl Hooks for TeaCache {
    fn stand_in(
        &self,
        over: Site,
        call: Option<Call>,
        x: &Tensor<3>,
        sign: &dyn Fn() -> Tensor<3>,
    ) -> Result<Option<Tensor<3>>, HookError> {
        let Some((whose, at)) = whose(call).zip(call.map(|call| call.at)).filter(|_| over.block == Site::BLOCKS) else {
            return Ok(None);
        };
        let (sign, mut kept) = (sign(), self.kept.hold());
        let before = kept.remove(&whose).filter(|before| before.sign.dims() == sign.dims());
        let gone = match &before {
            // The last step is always computed.
            Some(Kept { sign: before, added: Some(_), gone }) if at.step + 1 < at.steps => {
                let change = f64::from(changed(&sign, before)?);
                gone + COEFFICIENTS.iter().fold(0.0, |sum, coefficient| sum * change + coefficient)
            }
            Some(_) | None => f64::INFINITY,
        };
        let added = before.and_then(|before| before.added);
        let made = added.as_ref().filter(|_| gone < self.threshold).map(|added| ops::add(x.clone(), added.clone()));
        kept.insert(whose, Kept { sign, added, gone: if made.is_some() { gone } else { 0.0 } });
        Ok(made)
    }

    fn computed(&self, over: Site, call: Option<Call>, [x, out]: [&Tensor<3>; 2]) -> Result<(), HookError> {
        if let Some(whose) = whose(call).filter(|_| over.block == Site::BLOCKS)
            && let Some(kept) = self.kept.hold().get_mut(&whose)
        {
            kept.added = Some(ops::add(out.clone(), x.clone().neg()));
        }
        Ok(())
    }
}
