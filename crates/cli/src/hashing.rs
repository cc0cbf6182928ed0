use std::{
    path::{Path, PathBuf},
    thread::{Builder, JoinHandle},
};

use forge::{Cancel, Forge, ModelHash, model_hash};

use crate::caches;

/// The hashes of a model's files, which are read while the model computes: a file that was never seen takes a second for each gigabyte or
/// two.
pub(crate) enum Hashing {
    /// By a thread of its own.
    Reading(Reading),
    /// When it is asked for, as the system has no thread for it.
    Left(Box<Files>),
    /// The files are read.
    Done(Hashes),
}

/// A thread that reads, and ends before what it reads for: the process may end then, and a file that is half written would stay.
pub(crate) struct Reading {
    thread: Option<JoinHandle<Hashes>>,
    cancel: Cancel,
}

impl Reading {
    fn done(mut self) -> Hashes {
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.cancel.ask();
            let _ = thread.join();
        }
    }
}

/// The files, and where their hashes are kept.
#[derive(Clone)]
pub(crate) struct Files {
    model: Option<PathBuf>,
    vae: Option<PathBuf>,
    refiner: Option<PathBuf>,
    cache: PathBuf,
    cancel: Cancel,
}

/// What the files of a model are known by; a file that can't be read any more has no hash, and the picture is there all the same.
#[derive(Clone, Default)]
pub(crate) struct Hashes {
    pub(crate) model: Option<ModelHash>,
    pub(crate) vae: Option<ModelHash>,
    pub(crate) refiner: Option<ModelHash>,
}

impl Files {
    /// As far as nobody asks to stop.
    fn read(&self) -> Hashes {
        let hash = |file: &Option<PathBuf>| model_hash(file.as_deref()?, Some(&self.cache), &self.cancel).ok();
        Hashes { model: hash(&self.model), vae: hash(&self.vae), refiner: hash(&self.refiner) }
    }
}

/// Bytes of stack: a hash takes a little, and the list of all of them a bit more.
const STACK: usize = 1 << 20;

impl Hashing {
    pub(crate) fn of(forge: &Forge, cancel: &Cancel) -> Self {
        let Some(cache) = caches::hashes() else { return Self::Done(Hashes::default()) };
        let [model, vae, refiner] = [forge.file(), forge.vae(), forge.refiner()].map(|file| file.map(Path::to_owned));
        let vae = vae.filter(|vae| vae.is_file());
        let cancel = cancel.part();
        let files = Files { model, vae, refiner, cache, cancel: cancel.clone() };
        let read = files.clone();
        match Builder::new().stack_size(STACK).spawn(move || read.read()) {
            Ok(thread) => Self::Reading(Reading { thread: Some(thread), cancel }),
            Err(_) => Self::Left(Box::new(files)),
        }
    }

    /// The hashes, once the files are read.
    pub(crate) fn done(&mut self) -> &Hashes {
        *self = Self::Done(match std::mem::replace(self, Self::Done(Hashes::default())) {
            Self::Reading(reading) => reading.done(),
            Self::Left(files) => files.read(),
            Self::Done(hashes) => hashes,
        });
        match self {
            Self::Done(hashes) => hashes,
            Self::Reading(_) | Self::Left(_) => unreachable!("they were just read"),
        }
    }
}
