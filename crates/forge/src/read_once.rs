use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use diffusion_engine::{Error as RunError, Raster, read_picture_within};
use memory::Bytes;

use crate::{
    Ceiling, Error, Result, TextError,
    loras::{Version, version},
    process::{self, Left, NothingKept},
    text_file,
};

/// What lies below a picture that is not opaque.
const BACKGROUND: [u8; 3] = [255; 3]; // A1111 modules/shared_options.py: img2img_background_color

/// Pictures and texts that the runs of a config have in common, and those of its clones: what one of them has, the next under the same
/// path has too.
///
/// A file is read again when no run has it any more or when it is another by then. What can be read but once, such as a pipe, is kept.
#[derive(Clone, Default)]
pub(crate) struct ReadOnce(Arc<All>);

#[derive(Default)]
struct All {
    pictures: Places<Raster<3>>,
    masks: Places<Raster<4>>,
    texts: Places<String>,
    /// Pictures of files are decoded one at a time: two could each find room, and exceed it together.
    decoding: Mutex<()>,
}

/// By path, each with a lock of its own: a pipe may be waited for, and others read meanwhile.
type Places<T> = Mutex<BTreeMap<PathBuf, Arc<Mutex<Kept<T>>>>>;

enum Kept<T> {
    Nothing,
    /// A file's, as long as somebody has it.
    InUse(Version, Weak<T>),
    /// Of what can't be read again.
    Always(Arc<T>),
}

impl<T> Kept<T> {
    /// What is known of a place that is in this state now.
    fn of(&self, state: &Version, is_file: bool) -> Option<Arc<T>> {
        match self {
            Self::InUse(then, known) if then.is_some() && then == state => known.upgrade(),
            Self::Always(known) if !is_file => Some(known.clone()),
            Self::InUse(..) | Self::Always(_) | Self::Nothing => None,
        }
    }
}

impl ReadOnce {
    /// A picture's colours, over white where it is not opaque.
    ///
    /// # Errors
    /// [`Error::Run`] for a picture that can't be read, [`Error::PictureMemory`] where there is no room for it.
    pub(crate) fn colours(&self, path: &Path, ceiling: impl FnOnce() -> Ceiling) -> Result<Arc<Raster<3>>> {
        once(&self.0.pictures, path, || Ok(self.picture(path, ceiling)?.over(BACKGROUND)))
    }

    /// A picture with its opacity.
    ///
    /// # Errors
    /// As [`ReadOnce::colours`].
    pub(crate) fn mask(&self, path: &Path, ceiling: impl FnOnce() -> Ceiling) -> Result<Arc<Raster<4>>> {
        once(&self.0.masks, path, || self.picture(path, ceiling))
    }

    /// A text of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`text_file::read`].
    pub(crate) fn text(&self, path: &Path, limit: u64) -> std::result::Result<Arc<String>, TextError> {
        once(&self.0.texts, path, || text_file::read(path, limit))
    }

    fn picture(&self, path: &Path, ceiling: impl FnOnce() -> Ceiling) -> Result<Raster<4>> {
        // Nobody waits until somebody writes into a pipe.
        let _alone = path.is_file().then(|| held(&self.0.decoding));
        let _nothing = NothingKept::from_here();
        let ceiling = ceiling();
        let left = process::left(&ceiling, 0);
        read_picture_within(path, left.bytes).map_err(|error| no_room(error, ceiling, left))
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a path, or else is read now.
fn once<T, E>(
    places: &Places<T>,
    path: &Path,
    read: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<Arc<T>, E> {
    let place = held(places).entry(path.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Kept::Nothing))).clone();
    let mut kept = held(&place);
    let (state, is_file) = (version(path), path.is_file());
    if let Some(known) = kept.of(&state, is_file) {
        return Ok(known);
    }
    let new = Arc::new(read()?);
    *kept = if is_file { Kept::InUse(state, Arc::downgrade(&new)) } else { Kept::Always(new.clone()) };
    Ok(new)
}

/// Where a picture has no room, whose ceiling that is.
pub(crate) fn no_room(error: RunError, ceiling: Ceiling, left: Left) -> Error {
    match error {
        RunError::PictureMemory { path, needed, room: _ } => {
            Error::PictureMemory { path, needed: Bytes(needed.saturating_add(left.held)), ceiling }
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::fd::AsRawFd, thread};

    use diffusion_engine::{Image, Size};

    use super::*;
    use crate::CeilingOf;

    fn image(side: usize) -> Image {
        Image { width: side, height: side, pixels: vec![7; side * side * 3], infotext: String::new() }
    }

    fn of_config(bytes: u64) -> Ceiling {
        Ceiling { bytes: Bytes(bytes), from: CeilingOf::Config }
    }

    #[test]
    fn a_file_is_shared_while_somebody_has_it_and_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image(8).save(&path).unwrap();
        let (read, clone) = (ReadOnce::default(), ReadOnce::default());
        let of = |read: &ReadOnce| read.colours(&path, || of_config(u64::MAX)).unwrap();
        let (first, again) = (of(&read), of(&read.clone()));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &of(&clone)));
        // Another file has another length.
        image(9).save(&path).unwrap();
        assert_eq!(of(&read).size(), Size { width: 9, height: 9 });
        assert_eq!(first.size(), Size { width: 8, height: 8 });
        // With nobody left it is read again, and may be gone.
        fs::remove_file(&path).unwrap();
        assert!(read.colours(&path, || of_config(u64::MAX)).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_is_kept_for_who_comes_later_and_others_do_not_wait_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image(8).save(&path).unwrap();
        let (from, mut into) = std::io::pipe().unwrap();
        let place = PathBuf::from(format!("/dev/fd/{}", from.as_raw_fd()));
        let read = ReadOnce::default();
        let of = |path: &Path| read.colours(path, || of_config(u64::MAX)).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| of(&place));
            // Whether it waits already or not, this is read meanwhile.
            let own = of(&path);
            into.write_all(&fs::read(&path).unwrap()).unwrap();
            drop(into);
            assert_eq!(waiting.join().unwrap(), own);
        });
        assert_eq!(of(&place), of(&path));
    }

    #[test]
    fn what_has_no_room_is_told_with_all_that_would_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image(512).save(&path).unwrap();
        let read = ReadOnce::default();
        let mut ceiling = 1;
        let mut refused = 0;
        let picture = loop {
            match read.colours(&path, || of_config(ceiling)) {
                Ok(picture) => break picture,
                Err(Error::PictureMemory { needed, ceiling: told, .. }) => {
                    assert_eq!((told.bytes.0, told.from), (ceiling, CeilingOf::Config));
                    (ceiling, refused) = (needed.0, refused + 1);
                }
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!((refused, picture.size().width), (1, 512));
        assert!(ceiling >= process::PROCESS + 7 * 512 * 512);
        // What the system has free, it has beside this process.
        let free = || Ceiling { bytes: Bytes(7 * 512 * 512), from: CeilingOf::Machine };
        read.mask(&path, free).unwrap();
    }
}
