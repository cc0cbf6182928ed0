//! Sheets of pictures of the demo models: drawn by the release binary, and laid out in rows.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::demo_score::{build_forge, target_folder};
use crate::image::{self, Image};
use crate::{Done, root};

/// Pixels between pictures, and around all of them.
pub(crate) const GAP: usize = 6;

/// What draws the pictures of a sheet, and keeps each in a folder of its own.
pub(crate) struct Drawer {
    forge: PathBuf,
    folder: PathBuf,
}

impl Drawer {
    /// For a chore of this name, by the binary that `--forge PATH` names, or by one that is built now.
    ///
    /// # Errors
    /// Other flags, or a build that fails.
    pub(crate) fn of(chore: &str, flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        let forge = match flags {
            [] => None,
            ["--forge", path] => Some(std::path::absolute(path)?),
            _ => return Err(format!("`{chore}` takes `--forge PATH`").into()),
        };
        let target = target_folder()?;
        let forge = forge.map_or_else(|| build_forge(&target), Ok)?;
        let folder = target.join(chore);
        std::fs::create_dir_all(&folder)?;
        Ok(Self { forge, folder })
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The picture that a command of the binary draws by a config of the workspace, with the seed 42.
    ///
    /// # Errors
    /// What the command says, with the picture's name.
    pub(crate) fn draw(&self, name: &str, config: &str, command: &[&str]) -> Result<Image<3>, Box<dyn Error>> {
        let [verb, flags @ ..] = command else { return Err("a command has a name".into()) };
        let output = self.path(name).with_extension("png");
        let config = root().join(config);
        let fixed = [Path::new("--config"), &config, Path::new("--output"), &output].map(Path::as_os_str);
        let mut run = Command::new(&self.forge);
        self.done(name, run.arg(verb).args(fixed).args(["--compute", "f32", "--seed", "42"]).args(flags))?;
        Ok(image::read(&output)?.opaque())
    }

    /// Makes a file of its folder by `forge convert`.
    ///
    /// # Errors
    /// What the command says.
    pub(crate) fn convert(&self, from: &Path, name: &str, flags: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
        let output = self.path(name);
        let mut run = Command::new(&self.forge);
        self.done(name, run.arg("convert").arg(from).arg(&output).arg("--force").args(flags))?;
        Ok(output)
    }

    fn done(&self, name: &str, run: &mut Command) -> Done {
        let ran = run.current_dir(root()).output()?;
        match ran.status.success() {
            true => Ok(()),
            false => Err(format!("`{name}`: {}", String::from_utf8_lossy(&ran.stderr)).into()),
        }
    }
}

/// Writes a sheet into the workspace, of rows of pictures.
pub(crate) fn write(rows: &[Vec<Image<3>>], path: &str) -> Done {
    image::write(&lay_out(rows), &root().join(path))?;
    println!("wrote {path}");
    Ok(())
}

/// Rows of pictures on white with a gap between them; each is in the middle of its place, which is as wide as the widest of all and as
/// high as the highest of its row.
fn lay_out(rows: &[Vec<Image<3>>]) -> Image<3> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = rows.iter().flatten().map(|picture| picture.width).max().unwrap_or(0);
    let high = |row: &Vec<Image<3>>| row.iter().map(|picture| picture.height).max().unwrap_or(0);
    let height = GAP + rows.iter().map(|row| high(row) + GAP).sum::<usize>();
    let mut sheet = Image::paint(GAP + columns * (wide + GAP), height, |_, _| [u8::MAX; 3]);
    let mut top = GAP;
    for row in rows {
        for (column, picture) in row.iter().enumerate() {
            let left = GAP + column * (wide + GAP) + (wide - picture.width) / 2;
            let above = top + (high(row) - picture.height) / 2;
            for (y, line) in picture.pixels.chunks_exact(picture.width).enumerate() {
                let at = (above + y) * sheet.width + left;
                sheet.pixels[at..at + picture.width].copy_from_slice(line);
            }
        }
        top += high(row) + GAP;
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_stands_in_the_middle_of_its_row_and_column() {
        let grey = |side, level| Image::paint(side, side, move |_, _| [level; 3]);
        let sheet = lay_out(&[vec![grey(20, 1), grey(30, 2)], vec![grey(10, 3), grey(10, 4)]]);
        assert_eq!((sheet.width, sheet.height), (6 + 2 * 36, 6 + 36 + 16));
        let middle = |column: usize, y: usize| sheet.at(GAP + column * 36 + 15, y)[0];
        assert_eq!([middle(0, 21), middle(1, 21), middle(0, 47), middle(1, 47)], [1, 2, 3, 4]);
        // Around the small ones, and between all.
        assert_eq!([sheet.at(7, 21), sheet.at(12, 47), sheet.at(39, 21), sheet.at(0, 0)], [[255; 3]; 4]);
        assert_eq!([sheet.at(11, 11), sheet.at(30, 30), sheet.at(42, 6), sheet.at(71, 35)].map(|p| p[0]), [1, 1, 2, 2]);
    }
}
