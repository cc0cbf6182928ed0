use std::sync::Arc;

use core_tensor::{Layout, WeightSource};
use diffusion_engine::family::{Duty, Spelling};

/// A part of a model that adapters may change.
#[derive(Clone)]
pub struct Target {
    /// Its key, such as `unet` or `clip_g`.
    pub part: String,
    /// What it is there for.
    pub duty: Duty,
    /// What stands before the names of its layout in the source.
    pub root: String,
    /// Every tensor that it needs.
    pub layout: Layout,
    /// Other names of its modules.
    pub spellings: Vec<Spelling>,
    /// Where its tensors come from.
    pub source: Arc<dyn WeightSource>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Target").field("part", &self.part).field("root", &self.root).finish_non_exhaustive()
    }
}
