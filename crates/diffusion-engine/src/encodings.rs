use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Encoded, Error, Prompt};

/// Prompts that a model has encoded, the last few of them: encoders are large, and people change other things more often than words.
#[derive(Debug, Default)]
pub struct Encodings(Mutex<VecDeque<(Prompt, Arc<Encoded>)>>);

impl Encodings {
    /// How many are kept at least: two jobs' prompts, with two each.
    pub const KEPT: usize = 4;

    /// A prompt of a pass that has so many, which was encoded before, or what `encode` makes of it now.
    ///
    /// Twice as many as the pass has are kept.
    ///
    /// Two runs that need the same prompt at the same time may both encode it.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn get_or_encode(
        &self,
        prompt: &Prompt,
        count: usize,
        encode: impl FnOnce() -> Result<Encoded, Error>,
    ) -> Result<Arc<Encoded>, Error> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, encoded)) = kept().iter().find(|(known, _)| known == prompt) {
            return Ok(encoded.clone());
        }
        let encoded = Arc::new(encode()?);
        let mut kept = kept();
        kept.truncate(Self::KEPT.max(2 * count) - 1);
        kept.push_front((prompt.clone(), encoded.clone()));
        Ok(encoded)
    }
}
