use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Encoded, Error, Prompt};

/// Prompts that a model has encoded, the last few of them: encoders are large, and people change other things more often than words.
#[derive(Debug, Default)]
pub struct Encodings(Mutex<VecDeque<Kept>>);

/// A prompt, as all that its words come to, and how each is encoded.
#[derive(Debug)]
struct Kept {
    editions: Vec<(Prompt, usize)>,
    encoded: Vec<Arc<Encoded>>,
}

impl Encodings {
    /// How many are kept at least: two jobs' prompts, with two each.
    pub const KEPT: usize = 4;

    /// What a prompt comes to, as [`Model::encode_all`](crate::Model::encode_all) takes it, of a pass that has `count` prompts: encoded
    /// before, or what `encode` makes of it now.
    ///
    /// Twice as many as the pass has are kept.
    ///
    /// Two runs that need the same prompt at the same time may both encode it.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn get_or_encode(
        &self,
        editions: &[(Prompt, usize)],
        count: usize,
        encode: impl FnOnce() -> Result<Vec<Encoded>, Error>,
    ) -> Result<Vec<Arc<Encoded>>, Error> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().iter().find(|known| known.editions == editions) {
            return Ok(known.encoded.clone());
        }
        let encoded: Vec<_> = encode()?.into_iter().map(Arc::new).collect();
        let mut kept = kept();
        kept.truncate(Self::KEPT.max(2 * count) - 1);
        kept.push_front(Kept { editions: editions.to_vec(), encoded: encoded.clone() });
        Ok(encoded)
    }
}
