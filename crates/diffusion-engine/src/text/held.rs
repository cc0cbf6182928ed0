//! What text encoders hold while they encode, counted from their code; parameters that stay in their file are not counted, but for those
//! that are unpacked at a time.

use super::{ClipDimensions, T5Dimensions};

/// Rows of a matrix that are unpacked at a time where it stays in its file.
pub const PANEL_ROWS: usize = 512; // core_tensor: MappedMatrix

/// Channels that attention fills a head up to.
const PANEL_WIDTH: usize = 32; // kernels: two vectors of sixteen

/// How wide rows of so many heads are as attention packs them.
pub fn filled_heads(width: usize, heads: usize) -> usize {
    heads.saturating_mul((width / heads.max(1)).next_multiple_of(PANEL_WIDTH))
}

/// What a tokenizer holds at most for each byte of a text that it reads.
const OF_A_BYTE: u64 = 400;

/// The two characters whose compatibility forms (Unicode's NFKC, which T5's tokenizer reads) are longest by far, of 18 and of 8, and what
/// is held for each of them beyond that.
const LIGATURES: [char; 2] = ['\u{fdfa}', '\u{fdfb}'];
const OF_A_LIGATURE: u64 = 1700;

impl T5Dimensions {
    /// What encoding so many tokens takes at most, in bytes, without the result: the largest of what a block's attention and its inner
    /// layers hold, and what is added to scores.
    pub fn encoding_bytes(&self, tokens: usize) -> u64 {
        let Self { width, inner, heads, mlp, .. } = *self;
        let filled = filled_heads(inner, heads);
        // What it is given and what comes of it; queries, keys and values, twice where parts are put together, and what attention packs.
        let attention = sum(&[(4, width), (7, inner), (1, filled)]);
        // Both inner layers and their product.
        let dense = sum(&[(4, width), (4, mlp)]);
        let values = times(tokens, attention.max(dense)).saturating_add(self.bias_values(tokens));
        bytes(values.saturating_add(panel(width.max(inner).max(mlp))))
    }

    /// The most values that a product is given of so many tokens.
    pub fn widest_inputs(&self, tokens: usize) -> u64 {
        let Self { width, inner, mlp, .. } = *self;
        times(tokens, width.max(inner).max(mlp) as u64)
    }

    /// What it makes of so many tokens, in bytes.
    pub fn encoded_bytes(&self, tokens: usize) -> u64 {
        bytes(times(tokens, self.width as u64))
    }

    /// A number for each head and distance, as they are computed and as a tensor.
    fn bias_values(&self, tokens: usize) -> u64 {
        times(self.heads, (tokens as u64).saturating_mul(4))
    }
}

impl ClipDimensions {
    /// What encoding a chunk of tokens takes at most, in bytes, without the result: chunks are encoded one by one.
    pub fn encoding_bytes(&self) -> u64 {
        let Self { width, inner, positions, .. } = *self;
        let attention = sum(&[(11, width), (1, width.next_multiple_of(PANEL_WIDTH))]);
        let dense = sum(&[(4, width), (4, inner)]);
        bytes(times(positions, attention.max(dense)).saturating_add(panel(width.max(inner))))
    }

    /// The most values that a product is given of a chunk of tokens.
    pub fn widest_inputs(&self) -> u64 {
        times(self.positions, self.width.max(self.inner) as u64)
    }

    /// What it makes of so many chunks, in bytes.
    pub fn encoded_bytes(&self, chunks: usize) -> u64 {
        bytes(times(chunks, (self.width as u64).saturating_mul(super::ClipTokenizer::LENGTH as u64)))
    }
}

/// What a tokenizer holds at most while it reads a text, beside its own tables, in bytes.
pub fn tokenizing_bytes(text: &str) -> u64 {
    let ligatures = text.chars().filter(|c| LIGATURES.contains(c)).count();
    times(text.len(), OF_A_BYTE).saturating_add(times(ligatures, OF_A_LIGATURE))
}

/// A panel of a matrix of so many columns, as it is stored and as it is multiplied with.
fn panel(columns: usize) -> u64 {
    times(2 * PANEL_ROWS, columns as u64)
}

fn sum(of: &[(usize, usize)]) -> u64 {
    of.iter().map(|&(count, n)| times(count, n as u64)).fold(0, u64::saturating_add)
}

fn times(count: usize, n: u64) -> u64 {
    (count as u64).saturating_mul(n)
}

/// Of so many f32 values.
fn bytes(values: u64) -> u64 {
    values.saturating_mul(4)
}
