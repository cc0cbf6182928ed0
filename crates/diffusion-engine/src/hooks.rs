//! A look inside a network while it runs, and a hand in it.

use std::sync::Arc;

use core_tensor::{Tensor, in_format_of};

use crate::{Cancel, Error, HookError, Moment, Site};

/// Which call of a model the values belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The noise level.
    pub sigma: f32,
    /// Which of the run's prompts, from 0, as in [`Run::prompts`](crate::Run::prompts).
    pub prompt: usize,
    /// Whether that is a negative one.
    pub negative: bool,
    /// Which picture of the batch, from 0.
    pub picture: usize,
    /// Which part of it, from 0, where a picture is drawn in parts.
    pub part: usize,
    /// Whether something around the model asks a second time, see [`Again`](crate::Again).
    pub again: bool,
    /// The step and the sampler's call that it is in.
    pub at: Moment,
}

/// What is called inside the networks of a run; every method may be left out.
///
/// One value serves all threads and all calls of a run, so what it counts or keeps stands behind a lock or an atomic.
pub trait Hooks: Send + Sync {
    /// The values behind a layer, `[b, tokens, width]` or for pictures `[b, channels, h · w]`; what is returned goes on in their
    /// place, in the same shape. Encoders and decoders run in no call of the model.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn after(&self, _at: Site, _call: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        Ok(x)
    }

    /// [`Hooks::after`] for feature maps, `[b, channels, h, w]`, which a network has for pictures.
    ///
    /// # Errors
    /// As there.
    fn after_map(&self, at: Site, call: Option<Call>, x: Tensor<4>) -> Result<Tensor<4>, HookError> {
        let [b, c, h, w] = x.dims();
        let x = self.after(at, call, x.reshape([b, c, h * w]))?;
        let found = x.dims();
        if found != [b, c, h * w] {
            return Err(changed(&[b, c, h * w], &found));
        }
        Ok(x.reshape([b, c, h, w]))
    }

    /// What a block on a UNet's way up joins, `[b, channels, h, w]`: what comes from below and what comes from the block on the way down.
    /// Channels stay; both may have another size than they came with, and must have one.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn join(&self, _at: Site, _call: Option<Call>, joined: [Tensor<4>; 2]) -> Result<[Tensor<4>; 2], HookError> {
        Ok(joined)
    }

    /// Whether a block is skipped: what comes behind it is what came before.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn skips(&self, _at: Site, _call: Option<Call>) -> Result<bool, HookError> {
        Ok(false)
    }

    /// What stands for a stretch of blocks that is not computed then, in the shape of `x`, which goes into it; `None` to have it computed.
    /// `sign` makes what tells this call from others, before the stretch is computed.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn stand_in(
        &self,
        _over: Site,
        _call: Option<Call>,
        _x: &Tensor<3>,
        _sign: &dyn Fn() -> Tensor<3>,
    ) -> Result<Option<Tensor<3>>, HookError> {
        Ok(None)
    }

    /// A stretch of blocks was computed for which nothing stood in: what went in, and what came out.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn computed(&self, _over: Site, _call: Option<Call>, _ends: [&Tensor<3>; 2]) -> Result<(), HookError> {
        Ok(())
    }

    /// Queries, keys and values of a block's attention, `[b, heads, tokens, d]`; where something is returned, in the shape of the
    /// queries, it stands for what attention makes of them.
    ///
    /// # Errors
    /// What ends the run, as [`Error::Hook`].
    fn attend(&self, _at: Site, _call: Option<Call>, _qkv: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, HookError> {
        Ok(None)
    }
}

/// Hooks that only look: a closure that sees the values behind each layer.
#[derive(Debug)]
pub struct Look<F>(pub F);

impl<F: Fn(Site, &Tensor<3>) + Send + Sync> Hooks for Look<F> {
    fn after(&self, at: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        (self.0)(at, &x);
        Ok(x)
    }
}

/// What accompanies a network's call: hooks, in the order in which they are called, and the request to stop.
#[derive(Clone, Default)]
pub struct Inside {
    hooks: Vec<Arc<dyn Hooks>>,
    cancel: Cancel,
    call: Option<Call>,
    positives: Option<usize>,
    again: bool,
    part: usize,
    at: Option<Moment>,
    room: Option<u64>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Inside {
    /// Without hooks, until somebody asks to stop.
    pub fn until(cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..Self::default() }
    }

    /// With one hook more, which is called last.
    pub fn with(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks.push(hooks);
        self
    }

    /// With so many bytes for the maps of an autoencoder, which are computed in tiles where they take more; as many as they take without.
    pub fn within(self, room: Option<u64>) -> Self {
        Self { room, ..self }
    }

    /// Bytes that the maps of an autoencoder may take; as many as they take without.
    pub fn room(&self) -> Option<u64> {
        self.room
    }

    /// The same without hooks, for what is computed before the calls of a model.
    pub(crate) fn unseen(&self) -> Self {
        Self { hooks: Vec::new(), ..self.clone() }
    }

    /// The same for one call of a model, for the first picture of the batch.
    pub fn of_call(&self, sigma: f32, prompt: usize) -> Self {
        let negative = self.positives.is_some_and(|positives| prompt >= positives);
        let at = self.at.unwrap_or(Moment { step: 0, steps: 0, call: 0, sigma });
        let call = Call { sigma, prompt, negative, picture: 0, part: self.part, again: self.again, at };
        Self { call: Some(call), ..self.clone() }
    }

    /// The same for another picture of the batch, from 0.
    pub fn of_picture(&self, picture: usize) -> Self {
        Self { call: self.call.map(|call| Call { picture, ..call }), ..self.clone() }
    }

    /// The same for a part of each picture, from 0.
    pub fn of_part(&self, part: usize) -> Self {
        Self { part, ..self.clone() }
    }

    /// The same at this moment of a pass.
    pub(crate) fn at(&self, at: Moment) -> Self {
        Self { at: Some(at), ..self.clone() }
    }

    /// The same for who asks again, with hooks that are called before the others.
    pub(crate) fn again(&self, hooks: &[Arc<dyn Hooks>]) -> Self {
        Self { hooks: [hooks, &self.hooks].concat(), again: true, ..self.clone() }
    }

    /// The same for a pass with so many positive prompts; the others are negative.
    pub(crate) fn of_positives(self, positives: usize) -> Self {
        Self { positives: Some(positives), ..self }
    }

    /// Goes on, unless somebody asked to stop.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn go_on(&self) -> Result<(), Error> {
        if self.cancel.is_asked() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The values behind a layer, as the hooks leave them, in the number format that the layer has made.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Hook`] for a hook that fails or changes the shape.
    pub fn after(&self, at: Site, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        self.go_on()?;
        self.hooks.iter().try_fold(x, |x, hooks| {
            let (shape, format) = (x.dims(), x.dtype());
            let x = hooks.after(at, self.call, x).map_err(|source| Error::Hook { site: at, source })?;
            same_shape(at, shape, x.dims()).map(|()| x.cast(format))
        })
    }

    /// [`Inside::after`] for feature maps, `[b, c, h, w]`.
    ///
    /// # Errors
    /// As there.
    pub fn after_map(&self, at: Site, x: Tensor<4>) -> Result<Tensor<4>, Error> {
        let [.., h, w] = x.dims();
        let x = self.after_sized(at, x)?;
        let [b, c, ..] = x.dims();
        same_shape(at, [b, c, h, w], x.dims()).map(|()| x)
    }

    /// The same where a network goes on with maps of another height and width.
    ///
    /// # Errors
    /// As there.
    pub fn after_sized(&self, at: Site, x: Tensor<4>) -> Result<Tensor<4>, Error> {
        self.go_on()?;
        self.hooks.iter().try_fold(x, |x, hooks| {
            let ([b, c, ..], format) = (x.dims(), x.dtype());
            let x = hooks.after_map(at, self.call, x).map_err(|source| Error::Hook { site: at, source })?;
            let [.., h, w] = x.dims();
            same_shape(at, [b, c, h.max(1), w.max(1)], x.dims()).map(|()| x.cast(format))
        })
    }

    /// What a block on the way up joins, as hooks leave it, see [`Hooks::join`].
    ///
    /// # Errors
    /// [`Error::Hook`] for a hook that fails, changes channels, or leaves two sizes.
    pub fn join(&self, at: Site, joined: [Tensor<4>; 2]) -> Result<[Tensor<4>; 2], Error> {
        let [[b, below, ..], [_, skip, ..]] = [joined[0].dims(), joined[1].dims()];
        let format = joined[0].dtype();
        let joined = self.hooks.iter().try_fold(joined, |joined, hooks| {
            hooks.join(at, self.call, joined).map_err(|source| Error::Hook { site: at, source })
        })?;
        let [.., h, w] = joined[1].dims();
        same_shape(at, [b, below, h, w], joined[0].dims())?;
        same_shape(at, [b, skip, h, w], joined[1].dims()).map(|()| joined.map(|x| x.cast(format)))
    }

    /// Whether a hook has a block skipped.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Hook`] for a hook that fails.
    pub fn skips(&self, at: Site) -> Result<bool, Error> {
        self.go_on()?;
        for hooks in &self.hooks {
            if hooks.skips(at, self.call).map_err(|source| Error::Hook { site: at, source })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anybody looks inside: who keeps values for hooks alone asks first.
    pub fn is_seen(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// What a hook has stand for a stretch of blocks, the first that does, see [`Hooks::stand_in`].
    ///
    /// # Errors
    /// [`Error::Hook`] for a hook that fails or answers in another shape.
    pub fn stand_in(
        &self,
        over: Site,
        x: &Tensor<3>,
        sign: &dyn Fn() -> Tensor<3>,
    ) -> Result<Option<Tensor<3>>, Error> {
        for hooks in &self.hooks {
            let made = hooks.stand_in(over, self.call, x, sign).map_err(|source| Error::Hook { site: over, source })?;
            if let Some(made) = made {
                return same_shape(over, x.dims(), made.dims()).map(|()| Some(in_format_of(made, x)));
            }
        }
        Ok(None)
    }

    /// Tells hooks what came out of a stretch of blocks, see [`Hooks::computed`].
    ///
    /// # Errors
    /// [`Error::Hook`] for a hook that fails.
    pub fn computed(&self, over: Site, ends: [&Tensor<3>; 2]) -> Result<(), Error> {
        let tell = |hooks: &Arc<dyn Hooks>| hooks.computed(over, self.call, ends);
        self.hooks.iter().try_for_each(tell).map_err(|source| Error::Hook { site: over, source })
    }

    /// What a hook makes of a block's queries, keys and values in attention's place, the first that does.
    ///
    /// # Errors
    /// [`Error::Hook`] for a hook that fails or answers in another shape.
    pub fn attend(&self, at: Site, qkv: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, Error> {
        for hooks in &self.hooks {
            if let Some(attended) =
                hooks.attend(at, self.call, qkv).map_err(|source| Error::Hook { site: at, source })?
            {
                return same_shape(at, qkv[0].dims(), attended.dims()).map(|()| Some(in_format_of(attended, qkv[0])));
            }
        }
        Ok(None)
    }
}

fn same_shape<const D: usize>(site: Site, expected: [usize; D], found: [usize; D]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Hook { site, source: changed(&expected, &found) })
}

fn changed(expected: &[usize], found: &[usize]) -> HookError {
    format!("a hook made {found:?} of {expected:?}").into()
}

#[cfg(test)]
mod tests {
    use core_tensor::{DType, Device, tensor};

    use super::*;

    /// Returns what it sees in another number format.
    struct Halves;

    impl Hooks for Halves {
        fn after(&self, _: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
            Ok(halved(x))
        }

        fn join(&self, _: Site, _: Option<Call>, joined: [Tensor<4>; 2]) -> Result<[Tensor<4>; 2], HookError> {
            Ok(joined.map(halved))
        }

        fn stand_in(
            &self,
            _: Site,
            _: Option<Call>,
            x: &Tensor<3>,
            _: &dyn Fn() -> Tensor<3>,
        ) -> Result<Option<Tensor<3>>, HookError> {
            Ok(Some(halved(x.clone())))
        }

        fn attend(&self, _: Site, _: Option<Call>, [q, ..]: [&Tensor<4>; 3]) -> Result<Option<Tensor<4>>, HookError> {
            Ok(Some(halved(q.clone())))
        }
    }

    fn halved<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        x.cast(DType::BF16)
    }

    #[test]
    fn what_hooks_return_goes_on_in_the_number_format_that_the_layer_has_made() {
        let inside = Inside::until(&Cancel::default()).with(Arc::new(Halves));
        let at = Site::layer("unet", "out");
        let map = || tensor(vec![1.5; 8], [1, 2, 2, 2], &Device::flex());
        let rows = || map().reshape([1, 2, 4]);
        let formats = [
            inside.after(at, rows()).unwrap().dtype(),
            inside.after_map(at, map()).unwrap().dtype(),
            inside.stand_in(at, &rows(), &rows).unwrap().unwrap().dtype(),
            inside.attend(at, [&map(), &map(), &map()]).unwrap().unwrap().dtype(),
        ];
        assert_eq!(formats, [rows().dtype(); 4]);
        assert_eq!(inside.join(at, [map(), map()]).unwrap().map(|x| x.dtype()), [rows().dtype(); 2]);
    }
}
