use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::Path,
};

use core_tensor::{Tensor, values};

use crate::Error;

/// The PNG text key that A1111 reads and writes.
const KEY: &str = "parameters";

/// A finished picture: 8-bit RGB and the text that says how it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows of red, green and blue, `height · width · 3` bytes.
    pub pixels: Vec<u8>,
    /// How the picture was made.
    pub infotext: String,
}

impl Image {
    /// Rounds one picture of `[1, 3, h, w]`, -1 to 1, to bytes.
    pub(crate) fn of(pixels: Tensor<4>, infotext: String) -> Self {
        let [_, _, height, width] = pixels.dims();
        let rows = values(&pixels.swap_dims(1, 2).swap_dims(2, 3)); // 1 c h w -> 1 h w c
        let pixels = rows.into_iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        Self { width, height, pixels, infotext }
    }

    /// Writes a PNG, completely or not at all: the bytes go to a temporary file beside it, which takes the name when it is
    /// on disk. Missing folders are made; a picture of that name is replaced.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        write_whole(path, |file| self.encode(file)).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    fn encode(&self, out: &mut dyn Write) -> io::Result<()> {
        let side = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let mut encoder = png::Encoder::new(out, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        if self.infotext.chars().all(|c| matches!(u32::from(c), 1..=255)) {
            encoder.add_text_chunk(KEY.into(), self.infotext.clone())?;
        } else {
            encoder.add_itxt_chunk(KEY.into(), self.infotext.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        Ok(writer.finish()?)
    }
}

/// The infotext of a PNG; its pixels are not decoded.
///
/// # Errors
/// [`Error::Read`] for anything that is not a PNG, [`Error::NoInfotext`] for one without the text.
pub fn read_infotext(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    if path.exists() && !path.is_file() {
        return Err(read(io::Error::from(io::ErrorKind::InvalidInput).into())); // opening a pipe would wait for a writer
    }
    let file = File::open(path).map_err(|e| read(e.into()))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(read)?;
    // Some programs write their text behind the pixels.
    reader.finish().map_err(read)?;
    let info = reader.info();
    // A few kilobytes can unpack to gigabytes; `decompress_text` stops at 2 MiB.
    let utf8 = info.utf8_text.iter().find(|t| t.keyword == KEY).map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text().and_then(|()| chunk.get_text())
    });
    let packed = info.compressed_latin1_text.iter().find(|t| t.keyword == KEY).map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text().and_then(|()| chunk.get_text())
    });
    let plain = info.uncompressed_latin1_text.iter().find(|t| t.keyword == KEY).map(|t| Ok(t.text.clone()));
    let text = utf8.or(plain).or(packed).transpose().map_err(read)?;
    text.ok_or_else(|| Error::NoInfotext { path: path.to_owned() })
}

/// Writes a file completely or not at all: `fill` gets a temporary file beside `path`, which takes the name when it is on disk.
///
/// # Errors
/// Those of the file system and of `fill`; nothing is left behind but folders that were made.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = beside(path)?;
    let mut out = BufWriter::new(file.as_file_mut());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder(path))
}

/// Finds out before the work whether [`write_whole`] would be able to, and leaves no trace.
///
/// # Errors
/// Those of the file system.
pub fn check_writable(path: &Path) -> io::Result<()> {
    check_name(path)?;
    // Folders that are missing are made when there is something to write; until then the nearest one that exists must do.
    let existing = folder(path).ancestors().find(|f| f.as_os_str().is_empty() || f.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    temporary(existing)?.close()
}

fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    check_name(path)?;
    fs::create_dir_all(folder(path))?;
    temporary(folder(path))
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    if !folder.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".forge-").suffix(".tmp");
    // Temporary files are private unless told otherwise; a picture is as readable as the umask lets any new file be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn check_name(path: &Path) -> io::Result<()> {
    const LONGEST_NAME: usize = 255; // bytes, on every common file system
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if path.file_name().is_none_or(|name| name.len() > LONGEST_NAME) {
        return Err(io::Error::from(io::ErrorKind::InvalidFilename));
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename last through a power loss; elsewhere than on Unix a folder can't be opened for it.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(infotext: &str) -> Image {
        Image { width: 2, height: 1, pixels: vec![255, 0, 0, 0, 0, 255], infotext: infotext.into() }
    }

    #[test]
    fn the_infotext_comes_back_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["a café\nSteps: 1", "ein Löwe, 獅子\nSteps: 1", "\u{0}odd", ""] {
            let path = folder.path().join("deep/er/a.png");
            picture(text).save(&path).unwrap();
            assert_eq!(read_infotext(&path).unwrap(), text);
        }
    }

    #[test]
    fn an_unwritable_name_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a.png")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(picture("x").save(folder.path().join("a.png")), Err(Error::Write { .. })));
        assert!(picture("x").save(folder.path().join("file/b.png")).is_err());
        assert!(picture("x").save(folder.path().join("n".repeat(300))).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn bytes_that_are_no_picture_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        picture("x").save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 7, 20, 40] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(read_infotext(&path), Err(Error::Read { .. })), "{cut}");
        }
        assert!(matches!(read_infotext(folder.path()), Err(Error::Read { .. })));
    }

    #[test]
    fn pixels_round_to_the_nearest_byte() {
        let x =
            core_tensor::tensor(vec![-1.0, 1.0, 0.0, 0.2, 0.998, -0.999], [1, 3, 1, 2], &core_tensor::Device::flex());
        assert_eq!(Image::of(x, String::new()).pixels, [0, 128, 255, 255, 153, 0]);
    }
}
