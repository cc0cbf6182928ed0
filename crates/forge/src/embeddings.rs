//! Textual inversions of a folder: each file is one, and prompts call it by the file's name.

use std::path::Path;

use core_tensor::WeightSource;
use diffusion_engine::Embedding;

use crate::{Finding, Note, Result, listed::listed, model_files::open_file, with_causes};

/// How the names of such files end; what else lies there, such as previews, is left alone.
pub(crate) const ENDINGS: [&str; 4] = ["safetensors", "pt", "bin", "pth"];

/// The most files that are read.
const MOST_FILES: usize = 10_000;

/// The most numbers of an embedding: a hundred words of SDXL are two hundred thousand.
const MOST_NUMBERS: usize = 16 << 20;

/// Reads all of a folder and the folders in it, in the order of their names; what is no textual inversion is a note.
///
/// # Errors
/// [`Error::Read`] for a folder that can't be read.
pub(crate) fn embeddings(folder: &Path) -> Result<(Vec<Embedding>, Vec<Note>)> {
    let (mut embeddings, mut notes) = (Vec::new(), Vec::new());
    for path in listed(folder, &ENDINGS, MOST_FILES)? {
        match embedding(&path) {
            Ok(embedding) => embeddings.push(embedding),
            Err(error) => {
                let finding = Finding::NotAnEmbedding { why: with_causes(&error) };
                notes.push(Note { path, finding });
            }
        }
    }
    Ok((embeddings, notes))
}

fn embedding(path: &Path) -> Result<Embedding> {
    let file = open_file(path)?;
    let numbers = file.manifest().iter().map(|(_, form)| form.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d)));
    let numbers = numbers.fold(0usize, usize::saturating_add);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if numbers > MOST_NUMBERS {
        let source_name = path.display().to_string();
        return Err(diffusion_engine::Error::NotAnEmbedding { name: name.into_owned(), source_name }.into());
    }
    Ok(Embedding::read(name, &file)?)
}
