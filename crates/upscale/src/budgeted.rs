//! An upscaler as it stands between two passes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use core_tensor::Tensor;
use diffusion_engine::{Error as RunError, Inside, PixelUpscaler, Size};

use crate::{Outline, Upscaler};

/// An upscaler that stays under a number of bytes, and that is loaded when the first picture comes.
pub struct Budgeted {
    outline: Outline,
    name: String,
    budget: u64,
    load: Box<Load>,
    loaded: Mutex<Option<Arc<Upscaler>>>,
}

type Load = dyn Fn() -> Result<Upscaler, RunError> + Send + Sync;

/// Bytes of each pixel of a result while it is taken apart: as the network made it, in another order, on the host and as it is written.
const RESULT: u64 = 3 * (4 + 4 + 4 + 1);

impl Budgeted {
    /// One of which the headers say this, that infotexts call `name` and that `load` loads. `budget` is the most that it takes beside its
    /// weights, where any tile fits.
    pub fn of(
        outline: Outline,
        name: String,
        budget: u64,
        load: impl Fn() -> Result<Upscaler, RunError> + Send + Sync + 'static,
    ) -> Self {
        Self { outline, name, budget, load: Box::new(load), loaded: Mutex::default() }
    }

    fn network(&self) -> Result<Arc<Upscaler>, RunError> {
        // Held while it is loaded: nobody loads it a second time meanwhile.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(network) => Ok(network.clone()),
            None => Ok(loaded.insert(Arc::new((self.load)()?)).clone()),
        }
    }
}

impl fmt::Debug for Budgeted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Budgeted").field("name", &self.name).field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl PixelUpscaler for Budgeted {
    fn name(&self) -> &str {
        &self.name
    }

    fn factor(&self) -> usize {
        self.outline.factor()
    }

    fn bytes(&self) -> u64 {
        self.outline.bytes()
    }

    fn working_bytes(&self, from: Size) -> u64 {
        let computing = self.outline.tiles([from.height, from.width], self.budget).bytes(self.outline.cost());
        let sides = [from.height, from.width, self.factor(), self.factor()];
        let pixels = sides.iter().fold(1u64, |pixels, side| pixels.saturating_mul(*side as u64));
        computing.max(pixels.saturating_mul(RESULT))
    }

    fn upscale(&self, picture: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, RunError> {
        let [_, _, height, width] = picture.dims();
        self.network()?.upscale(picture, &self.outline.tiles([height, width], self.budget), inside, &|| {})
    }
}
