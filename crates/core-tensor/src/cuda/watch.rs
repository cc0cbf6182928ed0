//! What a card failed of between two looks at its values.
//!
//! CubeCL tells of a failure to whoever reads a buffer that it left unwritten, and takes that back once a later kernel has written the
//! buffer, even where that was another part of it. Windows of its profiler hear of every failure of their card, so one is kept open.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use burn_cubecl::CubeDevice;
use cubecl::client::ProfileWindow;

use crate::{Error, Tensor, gpu::View, panics::Heard};

/// The open window of each card, by its number.
static WINDOWS: Mutex<BTreeMap<usize, ProfileWindow>> = Mutex::new(BTreeMap::new());

/// The panics that each card's work has heard of, by its number.
static HEARD: Mutex<BTreeMap<usize, Heard>> = Mutex::new(BTreeMap::new());

/// What was read of a tensor, if its card failed of nothing since its values were looked at last. Of two runs on one card, the failure
/// of one may end the other.
pub(crate) fn answered<const D: usize, T, E: Debug>(tensor: &Tensor<D>, read: Result<T, E>) -> Result<T, Error> {
    let failure = View::of(tensor).and_then(|view| failure(&view));
    let values = read.map_err(|error| Error::on_device(&error))?;
    failure.map_or(Ok(values), Err)
}

/// What the card of a tensor failed of since the last call.
fn failure(view: &View) -> Option<Error> {
    let CubeDevice::Cuda(card) = &view.0.device else { return None };
    let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = windows.remove(&card.index).map(|window| view.client().profile_end(window));
    let begun = view.client().profile_start();
    let failed = ended.and_then(Result::err).or_else(|| begun.as_ref().err().cloned());
    windows.extend(begun.ok().map(|window| (card.index, window)));
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner).insert(card.index, Heard::all(view.client()));
    failed.map(|error| Error::on_device(&error)).or_else(|| heard?.since())
}
