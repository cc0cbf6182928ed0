use std::{
    fmt,
    path::{Path, PathBuf},
};

use memory::{MemoryReport, Plan};
use serde::{Serialize, Serializer};

use crate::Cut;

/// What happens between opening a model and its pictures: one value for a terminal, a log, a stream of JSON and a program.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something that a person should know; at any time.
    Note {
        /// One sentence.
        note: String,
    },
    /// The job fits into memory; before anything is loaded.
    Planned {
        /// What it takes at most, in bytes.
        bytes: u64,
        /// In how many tiles pictures are decoded or encoded at most, where there is no room for a whole one.
        #[serde(skip_serializing_if = "Option::is_none")]
        tiles: Option<usize>,
    },
    /// The model is loaded.
    Loaded {
        /// Its name in infotexts.
        model: String,
        /// What computes, where that is not the CPU.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// The prompts are encoded.
    Encoded {
        /// Where the prompt was too long.
        cut: Vec<Cut>,
    },
    /// A step was taken.
    Step(StepReport),
    /// A stage of the run has ended, and what it held of memory.
    Memory(MemoryReport),
    /// The latents are decoded.
    Decoded,
    /// A picture is written.
    Image {
        /// Where.
        #[serde(serialize_with = "shown")]
        path: PathBuf,
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
        /// The picture's own seed.
        seed: u64,
    },
}

impl Event {
    /// What plans say of jobs that follow each other, and of models that take turns; nothing where there is none.
    pub fn planned(plans: &[Plan]) -> Option<Self> {
        let bytes = plans.iter().map(Plan::total).max()?.0;
        Some(Self::Planned { bytes, tiles: plans.iter().filter_map(Plan::tiles).max() })
    }
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps of the run.
    pub steps: usize,
    /// The noise level before.
    pub sigma: f32,
    /// The noise level after.
    pub sigma_next: f32,
}

/// A path as text, also where it is not UTF-8.
fn shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}  sigma {:.2} -> {:.2}", self.step, self.steps, self.sigma, self.sigma_next)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Note { note } => write!(f, "note: {note}"),
            Self::Planned { bytes, tiles: None } => write!(f, "takes {bytes} bytes of memory at most"),
            Self::Planned { bytes, tiles: Some(tiles) } => {
                write!(f, "takes {bytes} bytes of memory at most, with pictures in {tiles} tiles")
            }
            Self::Loaded { model, device: None } => write!(f, "loaded {model}"),
            Self::Loaded { model, device: Some(device) } => write!(f, "loaded {model} on {device}"),
            Self::Encoded { .. } => f.write_str("encoded the prompt"),
            Self::Step(step) => step.fmt(f),
            Self::Memory(report) => report.fmt(f),
            Self::Decoded => f.write_str("decoded"),
            Self::Image { path, width, height, seed } => {
                write!(f, "{}  {width}x{height}  seed {seed}", path.display())
            }
        }
    }
}
