use std::{
    path::Path,
    thread::{self, JoinHandle},
};

use forge::{Forge, ModelHash, model_hash};

use crate::caches;

/// The hashes of a model's files, which are read while the model computes: a file that was never seen takes a second for each gigabyte or
/// two.
pub(crate) struct Hashing {
    reading: Option<JoinHandle<Hashes>>,
    hashes: Hashes,
}

/// What the files of a model are known by; a file that can't be read any more has no hash, and the picture is there all the same.
#[derive(Clone, Default)]
pub(crate) struct Hashes {
    pub(crate) model: Option<ModelHash>,
    pub(crate) vae: Option<ModelHash>,
    pub(crate) refiner: Option<ModelHash>,
}

impl Hashing {
    pub(crate) fn of(forge: &Forge) -> Self {
        let reading = caches::hashes().map(|cache| {
            let [model, vae, refiner] =
                [forge.file(), forge.vae(), forge.refiner()].map(|file| file.map(Path::to_owned));
            thread::spawn(move || {
                let hash = |file: Option<_>| model_hash(file.as_deref()?, Some(&cache)).ok();
                let vae = vae.filter(|vae: &std::path::PathBuf| vae.is_file());
                Hashes { model: hash(model), vae: hash(vae), refiner: hash(refiner) }
            })
        });
        Self { reading, hashes: Hashes::default() }
    }

    /// The hashes, once the files are read.
    pub(crate) fn done(&mut self) -> &Hashes {
        if let Some(Ok(hashes)) = self.reading.take().map(JoinHandle::join) {
            self.hashes = hashes;
        }
        &self.hashes
    }
}
