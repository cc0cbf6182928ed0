use std::sync::{Arc, Mutex, PoisonError};

use crate::{Card, Encodings, Error, Model, Which};

/// The models of a job, as its run asks for them.
///
/// A run holds one of them at a time: whoever brings the next may let go of the last one before.
pub trait Models: Send + Sync {
    /// A model, loaded for what it does in a pass of the job, from 0.
    ///
    /// # Errors
    /// [`Error::Request`] where there is none, [`Error::Bring`] for one that can't be loaded.
    fn model(&self, which: Which, pass: usize) -> Result<Arc<dyn Model>, Error>;

    /// Prompts that were encoded for it before.
    fn encodings(&self, which: Which, pass: usize) -> Arc<Encodings>;
}

/// The one model of a job that asks for no other.
pub(crate) struct Only {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) encodings: Arc<Encodings>,
}

impl Models for Only {
    fn model(&self, which: Which, _: usize) -> Result<Arc<dyn Model>, Error> {
        match which {
            Which::First => Ok(self.model.clone()),
            Which::Hires | Which::Refiner => {
                let (expected, found) = ("one that is brought with the job's model".into(), "none".into());
                Err(Error::Request { what: which.name(), expected, found })
            }
        }
    }

    fn encodings(&self, _: Which, _: usize) -> Arc<Encodings> {
        self.encodings.clone()
    }
}

/// The model that a run computes with now. Clones share it.
#[derive(Clone)]
pub(crate) struct Current(Arc<Mutex<Option<Held>>>);

type Held = (Which, Arc<dyn Model>);

impl Current {
    pub(crate) fn of(which: Which, model: Arc<dyn Model>) -> Self {
        Self(Arc::new(Mutex::new(Some((which, model)))))
    }

    /// The model; none while another takes its place, or where that failed.
    pub(crate) fn get(&self) -> Option<Arc<dyn Model>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, model)| model.clone())
    }

    /// Takes the model out.
    pub(crate) fn take(&self) -> Option<Arc<dyn Model>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(_, model)| model)
    }

    /// The model that a pass goes on with: the one that there is, or one that is brought in its place. Who else holds that one should
    /// have let it go.
    pub(crate) fn become_one(&self, which: Which, pass: usize, models: &dyn Models) -> Result<Arc<dyn Model>, Error> {
        let is_it = |now: &&Held| now.0 == which;
        if let Some((_, model)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().filter(is_it) {
            return Ok(model.clone());
        }
        let last = self.take();
        let (card, device) = match last {
            Some(last) => (Some(last.card().clone()), Some(last.device().clone())),
            None => (None, None),
        };
        device.iter().for_each(core_tensor::give_back_of_models);
        let model = models.model(which, pass)?;
        if let Some(before) = card {
            let own = model.card();
            let shape = |card: &Card| format!("{} channels, {} times smaller", card.channels, card.factor);
            if (before.channels, before.factor) != (own.channels, own.factor) {
                return Err(Error::Request {
                    what: which.name(),
                    expected: format!("a model of latents as the one before it has, of {}", shape(&before)),
                    found: format!("`{}`, of {}", own.name, shape(own)),
                });
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((which, model.clone()));
        Ok(model)
    }
}
