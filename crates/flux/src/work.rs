//! What a run of Flux holds beside the weights: counted from the code, where every matrix stays in its file.

use diffusion_engine::{
    AnyVaeDimensions, ClipDimensions, Job, Maps, PANEL_ROWS, Pass, Size, T5Dimensions,
    family::{Work, Working, work},
    filled_heads, methods,
};

use crate::{Dimensions, PATCH, model::t5_tokens};

/// What both tokenizers keep; building them takes no more.
const TOKENIZERS: u64 = 33 << 20;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    Cpu,
    Card,
}

/// How often an encoded prompt is held at most: as it is encoded, as it is kept, and as a block is given it.
const PROMPT_COPIES: u64 = 2;

/// The parts of a Flux by their headers, of which each stage takes one.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    pub(crate) transformer: Dimensions,
    pub(crate) clip: ClipDimensions,
    pub(crate) t5: T5Dimensions,
    pub(crate) decoder: AnyVaeDimensions,
}

impl Networks {
    /// What a job holds and when, where encoding pictures takes `encoder` bytes for its weights.
    pub(crate) fn work(&self, job: &Job, work: Work, encoder: u64, at: At) -> Work {
        let passes = || job.passes().iter();
        let most = |of: &dyn Fn(&Pass) -> u64| passes().map(of).max().unwrap_or(0);
        let latent = |size: Size| [size.height, size.width].map(|side| side / self.decoder.factor().max(1));
        let decoding = |pass: &Pass| self.decoder.decoding(latent(pass.largest()), job.room());
        let encoding = |pass: &Pass| self.decoder.encoding(latent(pass.largest_encoded()), job.room());
        let most_maps = |of: &dyn Fn(&Pass) -> Maps| passes().map(of).max().unwrap_or_default();
        let tokens = |pass: &Pass| t5_tokens(pass, self.transformer.guidance);

        let prompts = passes().enumerate().map(|(i, pass)| self.prompts(job, i, pass)).max().unwrap_or(0);
        let work = work.keeping("tokenizers", TOKENIZERS).keeping("prompts", prompts);
        let working = Working {
            encoder,
            encoding: most_maps(&encoding),
            text: most(&|pass| self.t5.encoding_bytes(tokens(pass))).max(self.clip.encoding_bytes()),
            step: most(&|pass| self.block(pass, at)),
            decoding: most_maps(&decoding),
            between: Work::between(job, decoding),
            // What is shown a control picture is asked for one.
            is_shown: self.transformer.beside > self.transformer.in_channels,
        };
        work.remembering(job, |size| self.map(size)).working(job, &working)
    }

    /// What inputs take as integers, where weights are such.
    pub(crate) fn integers(&self, job: &Job) -> Vec<(&'static str, u64)> {
        let Dimensions { hidden, mlp, .. } = self.transformer;
        let most = |of: &dyn Fn(&Pass) -> u64| job.passes().iter().map(of).max().unwrap_or(0);
        let tokens = |pass: &Pass| t5_tokens(pass, self.transformer.guidance);
        let text = most(&|pass| self.t5.widest_inputs(tokens(pass))).max(self.clip.widest_inputs());
        // The last layer of a single block, which takes what attention and the inner layers make.
        let step = most(&|pass| {
            let (size, _) = methods::held(pass, &[]).called_with(pass.size);
            (self.tokens(tokens(pass), size) as u64).saturating_mul(hidden.saturating_add(mlp) as u64)
        });
        vec![(work::ENCODE, work::as_integers(text)), (work::SAMPLE, work::as_integers(step))]
    }

    /// What the prompts of a pass come to, with the positions of their tokens.
    fn prompts(&self, job: &Job, index: usize, pass: &Pass) -> u64 {
        // A prompt that can't be read is refused before this.
        let editions: usize = job.editions(index).map_or(2, |prompts| prompts.iter().map(Vec::len).sum());
        let tokens = t5_tokens(pass, self.transformer.guidance);
        let of_one = self.t5.encoded_bytes(tokens).saturating_mul(PROMPT_COPIES);
        // One is as much as two are, as encoding it leaves copies of its own.
        of_one.saturating_add(self.positions(tokens, pass)).saturating_mul(editions.max(2) as u64)
    }

    /// Sines and cosines of the positions of a pass's tokens.
    fn positions(&self, text: usize, pass: &Pass) -> u64 {
        let head = self.transformer.axes.iter().sum::<usize>();
        (self.tokens(text, pass.size) as u64).saturating_mul(head as u64).saturating_mul(4)
    }

    /// Tokens of a prompt and of a picture together.
    fn tokens(&self, text: usize, size: Size) -> usize {
        let side = |side: usize| side / (self.decoder.factor() * PATCH).max(1);
        text.saturating_add(side(size.width).saturating_mul(side(size.height)))
    }

    /// The tokens of a picture between two blocks, in bytes.
    fn map(&self, size: Size) -> u64 {
        (self.tokens(0, size) as u64).saturating_mul(self.transformer.hidden as u64).saturating_mul(4)
    }

    /// What a block of the transformer holds: pictures and prompts are predicted one by one, and tiles too.
    fn block(&self, pass: &Pass, at: At) -> u64 {
        let Dimensions { hidden, mlp, heads, .. } = self.transformer;
        let numbers = |of: &[(usize, usize)]| {
            of.iter().map(|&(times, n)| (times as u64).saturating_mul(n as u64)).fold(0, u64::saturating_add)
        };
        let held = methods::held(pass, &[]);
        let (size, _) = held.called_with(pass.size);
        let tokens = self.tokens(t5_tokens(pass, self.transformer.guidance), size) as u64;
        let filled = filled_heads(hidden, heads);
        let of_token = match at {
            // Queries, keys and values as they come, as they are joined and as attention packs them, with what went into the block and comes
            // out of it; or the input of a single block and that of its last layer, in parts and joined.
            At::Cpu => {
                // What a LoRA that is no product of two matrices adds to an inner layer, and its sum with that.
                let inner = if pass.loras.is_empty() { 2 } else { 4 };
                numbers(&[(10, hidden), (1, filled)]).max(numbers(&[(3, hidden), (inner, mlp)]))
            }
            // What an operator is done with is given back later than that.
            At::Card => numbers(&[(8, hidden), (6, mlp)]),
        };
        let values = of_token.saturating_mul(tokens);
        let panel = numbers(&[(2 * PANEL_ROWS, hidden.saturating_add(mlp))]);
        // What went into the first block and what came out of it, for who looks inside.
        let seen = if held.looks { self.map(size).saturating_mul(2) } else { 0 };
        values.saturating_add(panel).saturating_mul(4).saturating_add(seen)
    }
}
