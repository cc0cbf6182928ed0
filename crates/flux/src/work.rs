//! What a run of Flux holds beside the weights: counted from the code, where every matrix stays in its file.

use diffusion_engine::{
    AnyVaeDimensions, ClipDimensions, Job, Pass, Size, T5Dimensions,
    family::{Work, work},
    tokenizing_bytes,
};

use crate::{Dimensions, PATCH, model::t5_tokens};

/// What both tokenizers keep; building them takes no more.
const TOKENIZERS: u64 = 33 << 20;

/// Rows of a matrix that are unpacked at a time where it stays in its file.
const PANEL_ROWS: usize = 512; // core_tensor: MappedMatrix

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
    pub(crate) fn work(&self, job: &Job, work: Work, encoder: u64) -> Work {
        let passes = || job.passes().iter();
        let most = |of: &dyn Fn(&Pass) -> u64| passes().map(of).max().unwrap_or(0);
        let latent = |size: Size| [size.height, size.width].map(|side| side / self.decoder.factor().max(1));
        let decoding = |pass: &Pass| self.decoder.decoding_bytes(latent(pass.largest()));
        let encoding = |pass: &Pass| self.decoder.encoding_bytes(latent(pass.largest()));
        let tokens = |pass: &Pass| t5_tokens(pass, self.transformer.guidance);

        let prompts = passes().enumerate().map(|(i, pass)| self.prompts(job, i, pass)).max().unwrap_or(0);
        let mut work = work.keeping("tokenizers", TOKENIZERS).keeping("prompts", prompts);
        if job.encodes_pictures() || encoder > 0 {
            let pictures = work::DECODED_COPIES.saturating_mul(Work::decoded(job));
            work = work.then(
                work::PICTURES,
                [("the encoder", encoder), ("its maps", most(&encoding)), ("pictures", pictures)],
            );
        }
        let text = most(&|pass| tokenizing_bytes(&pass.prompt).max(tokenizing_bytes(&pass.negative)));
        let encoders = most(&|pass| self.t5.encoding_bytes(tokens(pass))).max(self.clip.encoding_bytes());
        work = work.then(work::ENCODE, [("a block", encoders), ("texts", text)]);
        work = work.then(work::SAMPLE, [("a block", most(&|pass| self.block(pass)))]);
        work.then(work::DECODE, [("the decoder's maps", most(&decoding)), ("pictures", Work::decoded(job))])
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
        (self.tokens(text, pass) as u64).saturating_mul(head as u64).saturating_mul(4)
    }

    /// Tokens of a prompt and of a picture together.
    fn tokens(&self, text: usize, pass: &Pass) -> usize {
        let side = |side: usize| side / (self.decoder.factor() * PATCH).max(1);
        text.saturating_add(side(pass.size.width).saturating_mul(side(pass.size.height)))
    }

    /// What a block of the transformer holds: pictures and prompts are predicted one by one.
    fn block(&self, pass: &Pass) -> u64 {
        let Dimensions { hidden, mlp, .. } = self.transformer;
        let numbers = |of: &[(usize, usize)]| {
            of.iter().map(|&(times, n)| (times as u64).saturating_mul(n as u64)).fold(0, u64::saturating_add)
        };
        let tokens = self.tokens(t5_tokens(pass, self.transformer.guidance), pass) as u64;
        let values = numbers(&[(8, hidden), (6, mlp)]).saturating_mul(tokens);
        let panel = numbers(&[(2 * PANEL_ROWS, hidden.saturating_add(mlp))]);
        values.saturating_add(panel).saturating_mul(4)
    }
}
