use tokenizers::{
    AddedToken, Tokenizer,
    models::bpe::{BPE, Vocab},
    normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence as PreTokenizers,
        split::{Split, SplitPattern},
    },
    tokenizer::SplitDelimiterBehavior,
};

use crate::Error;

/// OpenAI's byte-pair vocabulary for CLIP: 49,408 tokens.
#[derive(Debug)]
pub struct ClipTokenizer(Tokenizer);

/// The merges of `bpe_simple_vocab_16e6.txt` (openai/CLIP, MIT), one a line, zlib-compressed.
static MERGES: &[u8] = include_bytes!("../../assets/clip-merges.txt.zz");

/// How words are told apart: openai/CLIP clip/simple_tokenizer.py.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

impl ClipTokenizer {
    /// Tokens in every prompt: what the text encoder has positions for.
    pub const LENGTH: usize = 77;
    /// Tokens of the text among them: all but the two marks.
    pub const TEXT: usize = Self::LENGTH - 2;
    /// `<|startoftext|>`.
    pub const START: usize = 49_406;
    /// `<|endoftext|>`, which also fills a prompt up.
    pub const END: usize = 49_407;
    /// A comma that ends a word.
    pub const COMMA: usize = 267;

    /// Unpacks the vocabulary that is compiled in.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], which a test rules out for the compiled vocabulary.
    pub fn new() -> Result<Self, Error> {
        build().map(Self).map_err(|source| Error::Tokenizer { which: "CLIP", source })
    }

    /// A prompt as [`Self::LENGTH`] ids: start, at most [`Self::TEXT`] of the text, then ends.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, prompt: &str) -> Result<Vec<usize>, Error> {
        Ok(Self::marked(&self.text(prompt)?))
    }

    /// The ids of a text between its marks, cut or filled up to [`Self::LENGTH`].
    pub fn marked(text: &[usize]) -> Vec<usize> {
        let text = text.iter().copied().take(Self::TEXT);
        let mut ids: Vec<usize> = [Self::START].into_iter().chain(text).collect();
        ids.resize(Self::LENGTH, Self::END);
        ids
    }

    /// The ids of a text of any length, without marks.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn text(&self, prompt: &str) -> Result<Vec<usize>, Error> {
        let encoding = self.0.encode_fast(prompt, false);
        let encoding = encoding.map_err(|source| Error::Tokenizer { which: "CLIP", source })?;
        Ok(encoding.get_ids().iter().map(|&id| id as usize).collect())
    }
}

fn build() -> tokenizers::Result<Tokenizer> {
    let merges = miniz_oxide::inflate::decompress_to_vec_zlib(MERGES).map_err(|e| e.to_string())?;
    let merges: Vec<(String, String)> = (std::str::from_utf8(&merges)?.lines())
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_owned(), right.to_owned()))
        .collect();

    // The order of ids: the 256 bytes, the bytes at a word's end, one token for each merge, the two marks.
    let bytes = byte_symbols();
    let vocabulary = (bytes.iter().cloned())
        .chain(bytes.iter().map(|b| format!("{b}</w>")))
        .chain(merges.iter().map(|(left, right)| format!("{left}{right}")))
        .chain(["<|startoftext|>".into(), "<|endoftext|>".into()])
        .enumerate()
        .map(|(id, token)| (token, id as u32))
        .collect::<Vocab>();

    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token("<|endoftext|>".into())
        .end_of_word_suffix("</w>".into())
        .build()?;
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, true, true);

    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"].map(|t| AddedToken::from(t, true)))?;
    Ok(tokenizer)
}

/// GPT-2's printable stand-ins for the 256 bytes, in vocabulary order: the printable ones first, then the others shifted
/// beyond Latin-1 (openai/gpt-2 src/encoder.py `bytes_to_unicode`).
fn byte_symbols() -> Vec<String> {
    let printable = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let shifted = (0..256u32).filter(|b| !printable(b)).zip(256..).map(|(_, symbol)| symbol);
    (0..256u32).filter(printable).chain(shifted).filter_map(char::from_u32).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_of_a_cat_has_its_known_ids() {
        let ids = ClipTokenizer::new().unwrap().encode("A  photo of\na CAT").unwrap();
        assert_eq!(ids[..7], [ClipTokenizer::START, 320, 1125, 539, 320, 2368, ClipTokenizer::END]);
        assert_eq!(ids.len(), 77);
        assert_eq!(ClipTokenizer::new().unwrap().text(", ").unwrap(), [ClipTokenizer::COMMA]);
    }

    #[test]
    fn a_long_prompt_is_cut_and_an_empty_one_is_all_ends() {
        let tokenizer = ClipTokenizer::new().unwrap();
        let long = tokenizer.encode(&"cat ".repeat(200)).unwrap();
        assert_eq!((long.len(), long[75], long[76]), (77, 2368, ClipTokenizer::END));
        let empty = tokenizer.encode("").unwrap();
        assert!(empty[1..].iter().all(|&id| id == ClipTokenizer::END));
    }
}
