/// A text as it stands in the file.
pub(super) enum Stored {
    /// Text, decoded.
    Text(String),
    /// Bytes of an encoding that has to be guessed.
    Bytes(Vec<u8>),
    /// The same in zlib's format, which begins at this place of the file.
    Packed(Vec<u8>, u64),
    /// Longer than [`MAX_TEXT`](super::MAX_TEXT).
    TooLong,
    /// In an encoding that is not read.
    Charset(&'static str),
}
