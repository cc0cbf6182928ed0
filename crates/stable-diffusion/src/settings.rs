//! What a pass says about the encoding of its prompts, as a prompt's settings hold it.

use diffusion_engine::{Emphasis, Key, Pass, Prompt, Size};
use samplers::{Options, Value};

use crate::{
    Edition,
    habits::Habits,
    knobs::{
        AESTHETIC_SCORE, CLIP_SKIP, CROP_LEFT, CROP_TOP, NEGATIVE_AESTHETIC_SCORE, ORIGINAL_HEIGHT, ORIGINAL_WIDTH,
        TARGET_HEIGHT, TARGET_WIDTH,
    },
};

/// Whether an empty negative prompt is all zeros.
const ZEROED: &str = "zeroed";

/// How a prompt is encoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) clip_skip: usize,
    pub(crate) emphasis: Emphasis,
    /// Whether it is all zeros if it is empty.
    pub(crate) zeroed: bool,
    sizes: [f32; 6],
    score: f32,
}

impl Settings {
    /// As a prompt holds what [`settings`] put there.
    pub(crate) fn of(prompt: &Prompt) -> Self {
        let whole = |key: &Key| prompt.settings.number(key.name).unwrap_or(0.0) as f32;
        let score = if prompt.is_negative() { NEGATIVE_AESTHETIC_SCORE } else { AESTHETIC_SCORE };
        Self {
            clip_skip: prompt.settings.number(CLIP_SKIP.name).map_or(1, |layer| layer as usize),
            emphasis: prompt.emphasis(),
            zeroed: prompt.is_negative() && prompt.settings.number(ZEROED).is_some(),
            sizes: [&ORIGINAL_HEIGHT, &ORIGINAL_WIDTH, &CROP_TOP, &CROP_LEFT, &TARGET_HEIGHT, &TARGET_WIDTH].map(whole),
            score: whole(&score),
        }
    }

    /// What an edition's network is told of the picture as a whole.
    pub(crate) fn numbers(&self, edition: Edition) -> Vec<f32> {
        match edition {
            Edition::One | Edition::Two => Vec::new(),
            Edition::Xl => self.sizes.to_vec(),
            Edition::Refiner => self.sizes[..4].iter().copied().chain([self.score]).collect(),
        }
    }
}

/// What a pass says about its prompts' encoding by an edition's encoders; `zeroed` is what the model's folder says of empty negative prompts.
pub(crate) fn settings(edition: Edition, zeroed: Option<bool>, pass: &Pass) -> Options {
    let mut settings = Options::default();
    let mut set = |key: &Key, default: f64| {
        settings.set(key.name, Value::Number(pass.knobs.number(key.name).unwrap_or(default)));
    };
    set(&CLIP_SKIP, 1.0);
    if edition.has_vector() {
        let Size { width, height } = pass.size;
        let [width, height] = [width, height].map(|side| side as f64);
        [(&ORIGINAL_WIDTH, width), (&ORIGINAL_HEIGHT, height), (&CROP_LEFT, 0.0), (&CROP_TOP, 0.0)]
            .into_iter()
            .chain([(&TARGET_WIDTH, width), (&TARGET_HEIGHT, height)])
            .chain([(&AESTHETIC_SCORE, 6.0), (&NEGATIVE_AESTHETIC_SCORE, 2.5)])
            .for_each(|(key, default)| set(key, default));
        if Habits::of(&pass.profile).zeroes(zeroed) {
            settings.set(ZEROED, Value::Number(1.0));
        }
    }
    settings
}
