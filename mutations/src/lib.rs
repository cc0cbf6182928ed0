//! What a campaign is: the parsers that read what others wrote, and how their inputs are damaged.
//!
//! An input is a function of the parser, a seed and a number, so that one that fails can be made again. The fuzz targets in `fuzz/` run
//! the same parsers on the same seed files.

#![warn(missing_docs)]

mod campaign;
mod damage;
mod dice;
mod gguf;
mod parsers;
mod pickle;
mod picture;
mod reached;
mod request;
mod safetensors;

pub use campaign::{Campaign, USAGE};
pub use dice::Dice;
pub use parsers::{PARSERS, Parser};
pub use reached::Reached;

use std::{fs, io, path::Path};

impl Parser {
    /// The parser of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PARSERS.iter().find(|parser| parser.name == name)
    }

    /// Its seed files, in the order of their names.
    ///
    /// # Errors
    /// Files that can't be read.
    pub fn seeds(&self) -> io::Result<Vec<Vec<u8>>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(self.name);
        let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        files.sort();
        files.iter().map(fs::read).collect()
    }

    /// Input `number` of a seed: one of the seed files, damaged in a few places.
    pub fn input(&self, seeds: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
        let mut dice = Dice::of(seed, self.name, number);
        (self.damage)(&mut dice, seeds, self.tokens)
    }
}
