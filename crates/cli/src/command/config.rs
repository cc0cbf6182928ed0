use std::path::Path;

use diffusion_engine::{check_writable, sweep, write_new, write_whole};
use forge::{STANDARD_OUTPUT, keys::template, paths};

use super::{args::InitArgs, term};
use crate::error::{Error, Result};

/// Prints a config of every key, or writes it to a file; one that is there is replaced where that is asked for.
pub(super) fn init(args: &InitArgs) -> Result<()> {
    let text = template();
    let Some(file) = args.file.as_deref().filter(|file| *file != Path::new(STANDARD_OUTPUT)) else {
        return term::print(text.trim_end());
    };
    let file = paths::to_write("FILE", file, Path::new(""))?;
    // What `--force` does not replace, such as a folder, is refused for what it is.
    check_writable(&file).map_err(|source| forge::Error::Write { path: file.clone(), source })?;
    file.parent().map(sweep);
    if args.force {
        return Ok(write_whole(&file, |out| out.write_all(text.as_bytes()))?);
    }
    write_new(&file, |out| out.write_all(text.as_bytes())).map_err(|error| Error::or_exists(error.into()))
}
