use std::{collections::BTreeMap, sync::Arc};

use diffusion_engine::{Encodings, Error as RunError, Model, Models, Which};

use crate::Result;

/// What a run has its models from.
pub(crate) struct Lent {
    bring: Box<dyn Fn(Which) -> Result<Arc<dyn Model>> + Send + Sync>,
    /// Prompts that were encoded before, by the model and the pass.
    encodings: BTreeMap<(Which, usize), Arc<Encodings>>,
}

impl Lent {
    pub(crate) fn of(
        bring: impl Fn(Which) -> Result<Arc<dyn Model>> + Send + Sync + 'static,
        encodings: BTreeMap<(Which, usize), Arc<Encodings>>,
    ) -> Self {
        Self { bring: Box::new(bring), encodings }
    }
}

impl Models for Lent {
    fn model(&self, which: Which, _: usize) -> std::result::Result<Arc<dyn Model>, RunError> {
        (self.bring)(which).map_err(|error| RunError::Bring { which, source: Box::new(error) })
    }

    fn encodings(&self, which: Which, pass: usize) -> Arc<Encodings> {
        self.encodings.get(&(which, pass)).cloned().unwrap_or_default()
    }
}
