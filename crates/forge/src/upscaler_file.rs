//! The network between two passes, from its file.

use std::path::Path;

use core_tensor::{Compute, Device};
use diffusion_engine::{Error as RunError, Upscaler};
use upscale::{Budgeted, Outline};

use crate::{Error, Result, model_files::open_file};

/// What its tiles may take, in bytes. It is the same on every machine, so that a picture does not depend on how much memory is free.
const TILES: u64 = 2 << 30;

/// Looks at an upscaler's headers, for a device as [`core_tensor::device`] takes it; the network is loaded when the first picture comes,
/// and is known by its file's name.
///
/// # Errors
/// [`Error::Load`] for a file that is no upscaler's.
pub(crate) fn upscaler_file(path: &Path, device: Device, compute: Compute) -> Result<Upscaler> {
    let path = path.to_owned();
    let in_file = |path: &Path, source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
    let file = open_file(&path).map_err(|error| in_file(&path, error))?;
    let outline = Outline::of(&file, &device, compute).map_err(|error| in_file(&path, error.into()))?;
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let tiles = TILES.min(core_tensor::largest_tensor(&device));
    let load = move || {
        let loaded = upscale::Upscaler::load(&file, &device, compute);
        loaded.map_err(|error| RunError::BringUpscaler { source: Box::new(in_file(&path, error.into())) })
    };
    Ok(Upscaler::Network(std::sync::Arc::new(Budgeted::of(outline, name, tiles, load))))
}
