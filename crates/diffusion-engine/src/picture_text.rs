//! The text that a program left in a picture: where it may stand in a PNG, a JPEG and a WebP, and which counts if there are several.
//!
//! What a file is, its first bytes say, not its name. The containers are walked chunk by chunk; pixels are skipped and never
//! decoded, so a picture that is damaged behind its text still tells it. Nothing is read on the word of a length that the file
//! does not have, and no text is longer than [`MAX_TEXT`].

mod charset;
mod exif;
mod jpeg;
mod png;
mod source;
mod stored;
mod texts;
mod webp;
mod xmp;

use std::{fs::File, io, path::Path};

use self::{
    source::Source,
    texts::{Fault, Texts},
};
use crate::{
    Error,
    infotext::{MAX_TEXT, parse},
};

/// What a walk through a picture found.
struct Found {
    texts: Texts,
    /// Where the file stops making sense, if it does.
    damage: Option<Damage>,
}

/// A place where a picture stops making sense.
#[derive(Debug, PartialEq)]
struct Damage {
    what: &'static str,
    at: u64,
}

/// The text of a picture that says how it was made, as its program wrote it; the pixels are not decoded.
///
/// docs/infotext.md says where it is looked for, and in which order. A file that is damaged behind the text still gives it.
///
/// # Errors
/// [`Error::Read`] if the file can't be read, [`Error::NotAPicture`] or [`Error::PictureFormat`] if it is something else,
/// [`Error::DamagedPicture`], [`Error::TextTooLong`] or [`Error::TextCharset`] for what stands in the text's place, and
/// [`Error::NoInfotext`] for a picture without one.
pub fn read_infotext(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let path_of = || path.to_owned();
    let mut source = open(path).map_err(read)?;
    let head = source.peek(16).map_err(read)?;
    let walk = match Kind::of(&head) {
        Some(Kind::Png) => png::walk,
        Some(Kind::Jpeg) => jpeg::walk,
        Some(Kind::Webp) => webp::walk,
        Some(Kind::Other(format)) => return Err(Error::PictureFormat { path: path_of(), format }),
        None => return Err(Error::NotAPicture { path: path_of() }),
    };
    let Found { mut texts, damage } = walk(&mut source).map_err(read)?;
    match (chosen(&mut texts), damage) {
        (Ok(Some(text)), _) => Ok(text),
        (Ok(None), Some(Damage { what, at })) => Err(Error::DamagedPicture { path: path_of(), what, at }),
        (Ok(None), None) => Err(Error::NoInfotext { path: path_of() }),
        (Err(Fault::TooLong), _) => Err(Error::TextTooLong { path: path_of(), max: MAX_TEXT }),
        (Err(Fault::Charset(charset)), _) => Err(Error::TextCharset { path: path_of(), charset }),
        (Err(Fault::Packed(at)), _) => {
            Err(Error::DamagedPicture { path: path_of(), what: "a compressed text that does not unpack", at })
        }
    }
}

/// Opens a regular file with something in it. A pipe would wait for a writer, and files of `/proc`, whose length is 0, may wait for ever.
fn open(path: &Path) -> io::Result<Source<File>> {
    let found = path.metadata()?;
    if !found.is_file() {
        let what = if found.is_dir() { "it is a folder" } else { "it is a pipe, a socket or a device, and no file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    if found.len() == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
    }
    Source::new(File::open(path)?)
}

/// What a file is.
#[derive(Debug, PartialEq)]
enum Kind {
    Png,
    Jpeg,
    Webp,
    /// Another that is known by name, with its article.
    Other(&'static str),
}

impl Kind {
    /// What a file is that begins so.
    fn of(head: &[u8]) -> Option<Self> {
        let at = |from: usize, bytes: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(bytes));
        let brand = |names: &[&[u8]]| at(4, b"ftyp") && names.iter().any(|name| at(8, name));
        Some(match () {
            () if at(0, b"\x89PNG\r\n\x1a\n") => Self::Png,
            () if at(0, b"\xff\xd8\xff") => Self::Jpeg,
            () if at(0, b"RIFF") && at(8, b"WEBP") => Self::Webp,
            () if at(0, b"GIF87a") || at(0, b"GIF89a") => Self::Other("a GIF"),
            () if brand(&[b"avif", b"avis"]) => Self::Other("an AVIF picture"),
            () if brand(&[b"heic", b"heix", b"hevc", b"mif1", b"msf1"]) => Self::Other("an HEIF picture"),
            () if at(4, b"ftyp") => Self::Other("an MP4 video"),
            () if at(0, b"\xff\x0a") || at(0, b"\0\0\0\x0cJXL ") => Self::Other("a JPEG XL picture"),
            () if at(0, b"\0\0\0\x0cjP  ") => Self::Other("a JPEG 2000 picture"),
            () if at(0, b"II*\0") || at(0, b"MM\0*") => Self::Other("a TIFF picture"),
            () if at(0, b"BM") && at(6, b"\0\0\0\0") => Self::Other("a BMP picture"),
            () if at(0, b"8BPS") => Self::Other("a Photoshop file"),
            () if at(0, b"qoif") => Self::Other("a QOI picture"),
            () if at(0, b"\x1a\x45\xdf\xa3") => Self::Other("a Matroska or WebM video"),
            () if at(0, b"RIFF") && at(8, b"AVI ") => Self::Other("an AVI video"),
            () => return None,
        })
    }
}

/// The text that counts.
///
/// `parameters` is first, as A1111 and most others write and read it. Then come the keys that one program alone uses, then what stands
/// in Exif and XMP. Fields that any program may fill count only if what they say is how a picture was made.
fn chosen(texts: &mut Texts) -> Result<Option<String>, Fault> {
    for key in ["parameters", "invokeai_metadata", "sd-metadata", "dream"] {
        if let Some(text) = texts.get(key)? {
            return Ok(Some(text));
        }
    }
    if let Some(comment) = texts.get("comment")?.filter(|text| parse(text, &[]).says_something()) {
        return Ok(Some(with_description(texts, comment)?));
    }
    if let Some(text) = texts.get("prompt")? {
        return Ok(Some(easy_diffusion(texts)?.unwrap_or(text)));
    }
    if let Some(text) = easy_diffusion(texts)? {
        return Ok(Some(text));
    }
    if let Some(text) = texts.get("usercomment")?.filter(|text| !text.trim().is_empty()) {
        return Ok(Some(text));
    }
    for key in ["workflow", "description", "xpcomment", "title"] {
        if let Some(text) = texts.get(key)?.filter(|text| parse(text, &[]).says_something()) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// NovelAI's settings with the prompt, which stood apart from them in its first versions.
fn with_description(texts: &mut Texts, comment: String) -> Result<String, Fault> {
    let apart = parse(&comment, &[]).prompt.is_empty() && comment.trim_start().starts_with('{');
    match texts.get("description")? {
        Some(description) if apart => Ok(format!("{description}\n{comment}")),
        _ => Ok(comment),
    }
}

/// Easy Diffusion writes each setting under a key of its own: the object that it writes into JPEGs, made of them.
fn easy_diffusion(texts: &mut Texts) -> Result<Option<String>, Fault> {
    const KEYS: [[&str; 2]; 11] = [
        ["prompt", "Prompt"],
        ["negative_prompt", "Negative Prompt"],
        ["seed", "Seed"],
        ["sampler_name", "Sampler"],
        ["num_inference_steps", "Steps"],
        ["guidance_scale", "Guidance Scale"],
        ["width", "Width"],
        ["height", "Height"],
        ["use_stable_diffusion_model", "Stable Diffusion model"],
        ["clip_skip", "Clip Skip"],
        ["use_vae_model", "VAE model"],
    ];
    let mut object = serde_json::Map::new();
    for [key, label] in KEYS {
        if let Some(text) = texts.get(key)?.or(texts.get(&label.to_lowercase())?) {
            object.insert(key.to_owned(), text.into());
        }
    }
    let is_one = object.contains_key("num_inference_steps") && object.contains_key("seed");
    Ok(is_one.then(|| serde_json::Value::Object(object).to_string()))
}

#[cfg(test)]
mod tests;
