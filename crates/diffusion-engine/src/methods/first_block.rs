//! A step cache by the first block: where what it adds has hardly changed, what the others added stands for them.
//!
//! References: ParaAttention's first block cache as diffusers 0.42 has it (hooks/first_block_cache.py); Comfy-WaveSpeed for a UNet, and for
//! where it begins and how often in a row it is used.

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Tensor, in_f32, on_host, ops};
use samplers::Denoiser;

use super::{Method, SHARE, Settings, Span, key};
use crate::{Around, Call, Holds, HookError, Hooks, Key, Kind, Memory, Site, Wrap};

pub(super) const METHOD: Method =
    Method { id: "first_block", keys: &[FIRST_BLOCK, FROM, TO, ROW], networks: &["unet", "transformer"], wraps };

const FIRST_BLOCK: Key = key("first_block", Kind::Number { min: 0.0, max: 1.0 }, "off", "0.1")
    .about("Change of the first block's share below which the others are not computed")
    .docs(
        "first-block cache: where what the first block adds has changed by less than this share since the last \
         whole call, the other blocks add what they added then",
    )
    .flag("first-block-cache")
    .label("First block cache");

const FROM: Key = key("first_block_from", SHARE, "0", "0.1")
    .about("Where the first-block cache begins")
    .docs("the share of the model's time behind which it begins")
    .label("First block cache from");

const TO: Key = key("first_block_to", SHARE, "1", "0.9")
    .about("Where the first-block cache ends")
    .docs("the share of the model's time behind which it ends")
    .label("First block cache to");

const ROW: Key = key("first_block_row", Kind::Whole { min: 0, max: 1000, step: 1 }, "0, any", "3")
    .about("Most calls in a row that the cache spares, 0 for any")
    .docs("how many calls in a row it spares at most; 0 for any")
    .label("First block cache row");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    vec![Arc::new(FirstBlock {
        threshold: settings.number(&FIRST_BLOCK).unwrap_or(0.0),
        row: settings.number(&ROW).map(|row| row as usize).filter(|row| *row > 0).unwrap_or(usize::MAX),
        span: Span::of(settings, [&FROM, &TO]),
        kept: Memory::default(),
    })]
}

#[derive(Clone)]
struct FirstBlock {
    threshold: f32,
    row: usize,
    span: Span,
    kept: Memory<BTreeMap<Whose, Kept>>,
}

/// Prompt, picture and part.
pub(super) type Whose = (usize, usize, usize);

/// What is known of the last whole call.
#[derive(Clone)]
struct Kept {
    /// What the first block added.
    sign: Tensor<3>,
    /// What the others added, once they have.
    added: Option<Tensor<3>>,
    /// How often in a row it has been used.
    used: usize,
}

impl Wrap for FirstBlock {
    fn around(&self, inner: Box<dyn Denoiser>, at: &Around) -> Result<Box<dyn Denoiser>, crate::Error> {
        self.span.is_in(at.space);
        Ok(inner)
    }

    fn fork(&self) -> Option<Arc<dyn Wrap>> {
        Some(Arc::new(Self { span: self.span.fork(), kept: self.kept.fork(), ..*self }))
    }

    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }

    fn holds(&self) -> Holds {
        // What the first block added, and what the others did.
        Holds { maps: 2, ..Holds::default() }
    }
}

impl Hooks for FirstBlock {
    fn stand_in(
        &self,
        over: Site,
        call: Option<Call>,
        x: &Tensor<3>,
        sign: &dyn Fn() -> Tensor<3>,
    ) -> Result<Option<Tensor<3>>, HookError> {
        let Some(whose) = whose(call).filter(|_| over.block == Site::REST) else { return Ok(None) };
        let (sign, mut kept) = (sign(), self.kept.hold());
        if let Some(Kept { sign: before, added: Some(added), used }) = kept.get_mut(&whose)
            && self.span.counts(call)
            && *used < self.row
            && added.dims() == x.dims()
            && changed(&sign, before)? <= self.threshold
        {
            *used += 1;
            return Ok(Some(ops::add(x.clone(), added.clone())));
        }
        kept.insert(whose, Kept { sign, added: None, used: 0 });
        Ok(None)
    }

    fn computed(&self, over: Site, call: Option<Call>, [x, out]: [&Tensor<3>; 2]) -> Result<(), HookError> {
        if let Some(whose) = whose(call).filter(|_| over.block == Site::REST)
            && let Some(kept) = self.kept.hold().get_mut(&whose)
        {
            kept.added = Some(ops::add(out.clone(), x.clone().neg()));
        }
        Ok(())
    }
}

/// Whose call it is; of nobody who asks again, whose network is another.
pub(super) fn whose(call: Option<Call>) -> Option<Whose> {
    call.filter(|call| !call.again).map(|call| (call.prompt, call.picture, call.part))
}

/// The mean change of values as a share of their mean size before.
pub(super) fn changed(now: &Tensor<3>, before: &Tensor<3>) -> Result<f32, HookError> {
    if now.dims() != before.dims() {
        return Ok(f32::INFINITY);
    }
    let (now, before) = (in_f32(now.clone()), in_f32(before.clone()));
    let change = (now - before.clone()).abs().mean() / before.abs().mean();
    on_host(&change)?.first().copied().ok_or_else(|| "a mean without a value".into())
}
