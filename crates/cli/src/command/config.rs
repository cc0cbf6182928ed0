use std::{
    fs::{File, remove_file},
    io::{ErrorKind, Write},
    path::Path,
};

use diffusion_engine::write_whole;
use forge::{keys::template, paths};

use super::{args::InitArgs, term};
use crate::error::{Error, Result};

/// Prints a config of every key, or writes it to a file; one that is there is replaced where that is asked for.
pub(super) fn init(args: &InitArgs) -> Result<()> {
    let Some(file) = &args.file else { return term::print(template().trim_end()) };
    let file = paths::to_write("FILE", file, Path::new(""))?;
    let text = template();
    if args.force {
        return Ok(write_whole(&file, |out| out.write_all(text.as_bytes()))?);
    }
    let mut new = match File::create_new(&file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists { path: file }),
        opened => opened.map_err(|source| unwritten(&file, source))?,
    };
    new.write_all(text.as_bytes()).map_err(|source| {
        // Half a config would be in the way of the next try.
        let _ = remove_file(&file);
        unwritten(&file, source)
    })
}

fn unwritten(path: &Path, source: std::io::Error) -> Error {
    forge::Error::Write { path: path.to_owned(), source: source.into() }.into()
}
