//! Where this user's caches are.

use std::{env::var_os, path::PathBuf};

/// The file of the hashes of model files; `None` where there are no caches.
pub(crate) fn hashes() -> Option<PathBuf> {
    Some(folder()?.join("hashes.json"))
}

/// The folder of kernels that were compiled for a GPU; `None` where there are no caches.
pub(crate) fn kernels() -> Option<PathBuf> {
    Some(folder()?.join("kernels"))
}

/// `None` where the user has no folder for caches, or wants none: `XDG_CACHE_HOME` is set, and to no absolute path.
fn folder() -> Option<PathBuf> {
    let of_system = if cfg!(windows) {
        var_os("LOCALAPPDATA").map(PathBuf::from)
    } else {
        let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        var_os("HOME").map(|home| PathBuf::from(home).join(below))
    };
    let caches = var_os("XDG_CACHE_HOME").map(PathBuf::from).or(of_system);
    Some(caches.filter(|folder| folder.is_absolute())?.join("forge"))
}
