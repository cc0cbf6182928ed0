use tokenizers::Tokenizer;

use crate::Error;

/// The vocabulary of T5 version 1.1: 32,100 pieces.
#[derive(Debug)]
pub struct T5Tokenizer(Tokenizer);

/// `tokenizer.json` of google/t5-v1_1 (Apache-2.0), zlib-compressed.
static VOCABULARY: &[u8] = include_bytes!("../../assets/t5-tokenizer.json.zz");

impl T5Tokenizer {
    /// How many pieces it knows; a text encoder's table has at least as many rows.
    pub const VOCABULARY: usize = 32_100;
    /// `</s>`, the end of every text.
    pub const END: usize = 1;
    /// `<pad>`, what follows the end.
    pub const PAD: usize = 0;

    /// Unpacks the vocabulary that is compiled in.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], which a test rules out for the compiled vocabulary.
    pub fn new() -> Result<Self, Error> {
        let build = || -> tokenizers::Result<Tokenizer> {
            let json = miniz_oxide::inflate::decompress_to_vec_zlib(VOCABULARY).map_err(|e| e.to_string())?;
            Tokenizer::from_bytes(json)
        };
        build().map(Self).map_err(failed)
    }

    /// A prompt as exactly `length` ids: cut so that the end fits, or padded.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, prompt: &str, length: usize) -> Result<Vec<usize>, Error> {
        Ok(Self::marked(&self.text(prompt)?, length))
    }

    /// The ids of a text with the end, cut or padded to exactly `length`.
    pub fn marked(text: &[usize], length: usize) -> Vec<usize> {
        let text = text.iter().copied().take(length.saturating_sub(1));
        let mut ids: Vec<usize> = text.chain([Self::END]).collect();
        ids.resize(length, Self::PAD);
        ids
    }

    /// The ids of a text of any length, without the end.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn text(&self, prompt: &str) -> Result<Vec<usize>, Error> {
        let encoding = self.0.encode_fast(prompt, false).map_err(failed)?;
        Ok(encoding.get_ids().iter().map(|&id| id as usize).collect())
    }

    /// Holds the pieces that a file brings, in the order of their ids, against these. Those behind the first 32,000 stand for gaps
    /// in a text, and every converter has its own names for them.
    ///
    /// # Errors
    /// [`Error::OtherPiece`] for the first that is another.
    pub fn agrees<'p>(&self, pieces: impl IntoIterator<Item = Option<&'p str>>) -> Result<(), Error> {
        /// As much of a piece as a message shows.
        const SHOWN: usize = 40;
        let mut pieces = pieces.into_iter();
        for id in 0..Self::VOCABULARY as u32 - 100 {
            let (found, expected) = (pieces.next().flatten(), self.0.id_to_token(id).unwrap_or_default());
            if found != Some(&*expected) {
                let found = found.map(|piece| piece.chars().take(SHOWN).collect());
                return Err(Error::OtherPiece { id, expected, found });
            }
        }
        Ok(())
    }
}

fn failed(source: tokenizers::Error) -> Error {
    Error::Tokenizer { which: "T5", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_ends_with_the_end_and_is_padded() {
        let tokenizer = T5Tokenizer::new().unwrap();
        assert_eq!(tokenizer.encode("a photo of a cat", 10).unwrap(), [3, 9, 1202, 13, 3, 9, 1712, 1, 0, 0]);
        assert_eq!(tokenizer.encode("a photo of a cat", 4).unwrap(), [3, 9, 1202, 1]);
        assert_eq!(tokenizer.encode("", 2).unwrap(), [1, 0]);
    }

    #[test]
    fn a_files_pieces_are_compared_one_by_one_and_the_first_other_one_is_named() {
        // given the pieces as their own file lists them
        let json = miniz_oxide::inflate::decompress_to_vec_zlib(VOCABULARY).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let pieces = json["model"]["vocab"].as_array().unwrap().iter().map(|piece| piece[0].as_str().unwrap());
        let mut pieces: Vec<Option<&str>> = pieces.map(Some).collect();
        let tokenizer = T5Tokenizer::new().unwrap();
        // then they are these, and so they are with other words for gaps
        tokenizer.agrees(pieces.clone()).unwrap();
        tokenizer.agrees(pieces[..32_000].iter().copied().chain([Some("[PAD32000]")])).unwrap();
        // but not with fewer, others, or what is no text
        let refused = |pieces: &[Option<&str>]| match tokenizer.agrees(pieces.iter().copied()) {
            Err(Error::OtherPiece { id, found, .. }) => (id, found),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&pieces[..31_999]), (31_999, None));
        pieces[7] = Some("other");
        assert_eq!(refused(&pieces), (7, Some("other".to_owned())));
        pieces[3] = None;
        assert_eq!(refused(&pieces), (3, None));
    }
}
