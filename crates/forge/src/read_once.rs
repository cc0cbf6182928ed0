use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use diffusion_engine::{Error as RunError, Raster, read_picture_within};
use memory::Bytes;

use crate::{
    Ceiling, Error, Result, TextError,
    loras::{Version, version},
    process, text_file,
};

/// What lies below a picture that is not opaque.
const BACKGROUND: [u8; 3] = [255; 3]; // A1111 modules/shared_options.py: img2img_background_color

/// Pictures and texts that the runs of a config have in common, and those of its clones: none is held twice.
///
/// A file is read again when no run has it any more or when it is another by then. What can be read but once, such as a pipe, is kept.
#[derive(Clone, Default)]
pub struct ReadOnce(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    pictures: Known<Raster<3>>,
    masks: Known<Raster<4>>,
    texts: Known<String>,
}

type Known<T> = BTreeMap<PathBuf, Kept<T>>;

enum Kept<T> {
    /// A file's, as long as somebody has it.
    InUse(Version, Weak<T>),
    /// Of what can't be read again.
    Always(Arc<T>),
}

impl<T> Kept<T> {
    fn live(&self) -> Option<Arc<T>> {
        match self {
            Self::InUse(_, known) => known.upgrade(),
            Self::Always(known) => Some(known.clone()),
        }
    }
}

impl ReadOnce {
    /// A picture's colours, over white where it is not opaque.
    ///
    /// # Errors
    /// [`Error::Run`] for a picture that can't be read, [`Error::PictureMemory`] where there is no room for it.
    pub(crate) fn colours(&self, path: &Path, ceiling: &Ceiling) -> Result<Arc<Raster<3>>> {
        let mut held = self.held();
        let room = held.room(ceiling);
        once(&mut held.pictures, path, || Ok(picture(path, &room)?.over(BACKGROUND)))
    }

    /// A picture with its opacity.
    ///
    /// # Errors
    /// As [`ReadOnce::colours`].
    pub(crate) fn mask(&self, path: &Path, ceiling: &Ceiling) -> Result<Arc<Raster<4>>> {
        let mut held = self.held();
        let room = held.room(ceiling);
        once(&mut held.masks, path, || picture(path, &room))
    }

    /// A text of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`text_file::read`].
    pub(crate) fn text(&self, path: &Path, limit: u64) -> std::result::Result<Arc<String>, TextError> {
        once(&mut self.held().texts, path, || text_file::read(path, limit))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a ceiling for a picture.
struct Room<'a> {
    ceiling: &'a Ceiling,
    /// What else there is.
    held: u64,
}

impl Held {
    fn room<'a>(&self, ceiling: &'a Ceiling) -> Room<'a> {
        let pictures = bytes(&self.pictures).saturating_add(bytes(&self.masks));
        Room { ceiling, held: pictures.saturating_add(process::PROCESS) }
    }
}

/// Bytes of the pictures of which somebody has need.
fn bytes<const C: usize>(known: &Known<Raster<C>>) -> u64 {
    known.values().filter_map(Kept::live).map(|raster| raster.pixels().as_flattened().len() as u64).sum()
}

/// What is known of a path, or else is read now.
fn once<T, E>(
    known: &mut Known<T>,
    path: &Path,
    read: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<Arc<T>, E> {
    let state = version(path);
    let is_same = |kept: &&Kept<T>| !matches!(kept, Kept::InUse(then, _) if *then != state || then.is_none());
    if let Some(known) = known.get(path).filter(is_same).and_then(Kept::live) {
        return Ok(known);
    }
    let is_file = path.is_file();
    let new = Arc::new(read()?);
    known.retain(|_, kept| kept.live().is_some());
    let kept = if is_file { Kept::InUse(state, Arc::downgrade(&new)) } else { Kept::Always(new.clone()) };
    known.insert(path.to_owned(), kept);
    Ok(new)
}

fn picture(path: &Path, &Room { ceiling, held }: &Room) -> Result<Raster<4>> {
    read_picture_within(path, ceiling.bytes.0.saturating_sub(held)).map_err(|error| no_room(error, ceiling, held))
}

/// Where a picture has no room beside so many bytes, whose ceiling that is.
pub(crate) fn no_room(error: RunError, ceiling: &Ceiling, held: u64) -> Error {
    match error {
        RunError::PictureMemory { path, needed, room: _ } => {
            let needed = Bytes(needed.saturating_add(held));
            Error::PictureMemory { path, needed, ceiling: ceiling.bytes, by: ceiling.from.to_string() }
        }
        other => other.into(),
    }
}

impl PartialEq for ReadOnce {
    /// What was read says nothing about a config.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for ReadOnce {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("ReadOnce").finish_non_exhaustive()
    }
}
