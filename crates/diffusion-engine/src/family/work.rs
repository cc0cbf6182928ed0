//! What a run holds beside the parts of its model, told before anything is loaded.

use memory::{Bytes, Held, Stage};

use crate::{Card, Job, Maps, Origin, Pass, Size, given::Given, methods, tokenizing_bytes};

/// What a job holds of a model beside its parts: some of it from the beginning to the end, some while a stage lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// What is held all the time.
    pub kept: Vec<Held>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
}

/// Encoding the pictures that a run starts from, before anything else.
pub const PICTURES: &str = "pictures";

/// Encoding prompts, and pictures that a network is shown beside the latent.
pub const ENCODE: &str = "encode";

/// Taking the steps of a pass.
pub const SAMPLE: &str = "sample";

/// What lies between two passes: the pictures of the one are decoded, made larger and encoded for the other, whose prompts are encoded too.
pub const ENLARGE: &str = "enlarge";

/// Decoding the pictures.
pub const DECODE: &str = "decode";

/// What is held of each pixel of a picture: as a network made it and as that is cut to its range, in f32, and as it is written, in eight bits.
const OF_A_PIXEL: u64 = 32;

/// What the parts of a model hold while they work, each at its most; in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// The weights of the encoder of pictures, where a job encodes any.
    pub encoder: u64,
    /// That encoder's maps.
    pub encoding: Maps,
    /// A text encoder.
    pub text: u64,
    /// A step: the network's maps.
    pub step: u64,
    /// The decoder's maps.
    pub decoding: Maps,
    /// Those maps of what is decoded between two passes, see [`Work::between`].
    pub between: Maps,
    /// Whether the network is shown pictures beside the latent, which are encoded with the prompts.
    pub is_shown: bool,
}

/// How often pictures are held while they are encoded, as shares of what they are when decoded: as they were read and as they are given.
pub const DECODED_COPIES: u64 = 2;

/// How many latents a run holds beside those of its sampler: the noise, where it is now, what is looked at for previews, and what a step
/// makes.
const LATENTS: u64 = 4;

/// How often the widest interval of noise levels that may be asked for, up to 10,000, is halved down to the finest of a Brownian path
/// (torchsde: tol).
const HALVINGS: u64 = 34;

/// How many latents of a picture its path holds: the halves on both ways down and the path itself, with what it gains over a step, as it is
/// made, as it is given and as the next is drawn ahead.
const PATH: u64 = 2 * HALVINGS + 5;

/// And how many more of the picture whose path is asked: the other half at each halving, and what is added up.
const ASKED_PATH: u64 = HALVINGS + 2;

impl Work {
    /// The same with something more that is held all the time.
    pub fn keeping(mut self, name: &str, bytes: u64) -> Self {
        self.kept.push(held(name, bytes));
        self
    }

    /// The same with one more stage, which holds so many bytes each of these things.
    pub fn then<'n>(mut self, stage: &str, holds: impl IntoIterator<Item = (&'n str, u64)>) -> Self {
        let holds = holds.into_iter().map(|(name, bytes)| held(name, bytes)).collect();
        self.stages.push(Stage { name: stage.to_owned(), holds });
        self
    }

    /// The same with what methods keep from call to call: maps of each prompt and picture of a pass, of so many bytes for pictures of a size.
    pub fn remembering(self, job: &Job, map: impl Fn(Size) -> u64) -> Self {
        let of_pass = |(index, pass): (usize, &Pass)| {
            let held = methods::held(pass, &[]);
            let (size, parts) = held.called_with(pass.size);
            // A prompt that can't be read is refused before this.
            let prompts = job.editions(index).map_or(2, |prompts| prompts.iter().map(Vec::len).sum());
            let maps = product(&[held.maps, parts, prompts, job.batch()]);
            if maps == 0 { 0 } else { map(size).saturating_mul(maps) }
        };
        let bytes = job.passes().iter().enumerate().map(of_pass).max().unwrap_or(0);
        if bytes > 0 { self.keeping("what methods keep", bytes) } else { self }
    }

    /// The same with the stages of a job.
    pub fn working(self, job: &Job, of: &Working) -> Self {
        let any = |is: &dyn Fn(&Pass) -> bool| job.passes().iter().any(is);
        let words = |pass: &Pass| tokenizing_bytes(&pass.prompt).max(tokenizing_bytes(&pass.negative));
        let words = job.passes().iter().map(words).max().unwrap_or(0);
        let done = Self::decoded(job);
        let text = [held("a block", of.text), held("texts", words)];
        let step = [held("the network's maps", of.step)];
        let given = job.passes().iter().map(|pass| Given::of(pass, job.batch())).fold(Given::default(), Given::most);
        let of_given = |bytes| (bytes > 0).then(|| held("given pictures", bytes));
        let [mut decode, between] =
            [of.decoding, of.between].map(|maps| vec![in_tiles("the decoder's maps", maps), held("pictures", done)]);
        decode.extend(of_given(given.decoding));
        if job.keeps_latents() {
            decode.push(held("pictures that are dumped", done / 2));
        }
        let shown = held("pictures", DECODED_COPIES.saturating_mul(done));
        let mut encode = vec![held("the encoder", of.encoder), in_tiles("its maps", of.encoding), shown];
        encode.extend(of_given(given.encoding));
        let starts = any(&|pass| matches!(pass.start, Origin::Pictures(_)));
        let is_shown = |pass: &Pass| of.is_shown || pass.control.is_some();
        // Whether it is asked for, its name, and what it holds.
        type Asked<'s> = (bool, &'s str, &'s [Held]);
        let stages: [Asked; 8] = [
            (starts, PICTURES, &encode),
            (true, ENCODE, &text),
            (any(&is_shown), ENCODE, &encode),
            (true, SAMPLE, &step),
            (any(&is_last), ENLARGE, &text),
            (any(&|pass| is_last(pass) && pass.upscaler.takes_pixels()), ENLARGE, &between),
            (any(&|pass| is_last(pass) && (pass.upscaler.takes_pixels() || is_shown(pass))), ENLARGE, &encode),
            (true, DECODE, &decode),
        ];
        let asked = stages.into_iter().filter(|(is_asked, ..)| *is_asked);
        let stages = asked.map(|(_, stage, holds)| Stage { name: stage.to_owned(), holds: holds.to_vec() });
        Self { stages: self.stages.into_iter().chain(stages).collect(), ..self }
    }

    /// What of a job is no network's: its latents, and the pictures once they are decoded.
    pub fn of(job: &Job, card: &Card) -> Self {
        let latent = |pass: &Pass| {
            let [channels, height, width] = card.latent_shape(pass.size);
            product(&[channels, height, width, job.batch(), 4])
        };
        // Twice, as they are written together.
        let kept = |pass: &Pass| if job.keeps_latents() { 2 * pass.steps as u64 } else { 0 };
        let dumped = |pass: &Pass| latent(pass).saturating_mul(kept(pass));
        let latents = |pass: &Pass| {
            let more = methods::held(pass, &[]).latents as u64;
            latent(pass).saturating_mul(LATENTS.saturating_add(more))
        };
        let paths = |pass: &Pass| match (pass.sampler.has_path, latent(pass)) {
            (true, all) => {
                all.saturating_mul(PATH).saturating_add((all / job.batch().max(1) as u64).saturating_mul(ASKED_PATH))
            }
            (false, _) => 0,
        };
        let paths = job.passes().iter().map(paths).max().unwrap_or(0);
        let latents = job.passes().iter().map(latents).max().unwrap_or(0);
        let dumped = job.passes().iter().map(dumped).fold(0, u64::saturating_add);
        let given = job.passes().iter().map(|pass| Given::of(pass, job.batch())).fold(Given::default(), Given::most);
        let resized = job.resized_from().map_or(0, |size| {
            let [channels, height, width] = card.latent_shape(size);
            // Of one picture after the other: its noise, and that of the variation beside what both make.
            product(&[channels, height, width, if job.variation().is_some() { 3 } else { 1 }, 4])
        });
        let more = [
            ("Brownian paths", paths),
            ("latents of every step", dumped),
            ("given pictures", given.kept),
            ("noise of another size", resized),
        ];
        let work = Self::default().keeping("latents", latents);
        more.into_iter().filter(|(_, bytes)| *bytes > 0).fold(work, |work, (name, bytes)| work.keeping(name, bytes))
    }

    /// The most of those passes of a job whose pictures are decoded for the next; nothing where there is none.
    pub fn between(job: &Job, of: impl Fn(&Pass) -> Maps) -> Maps {
        let is_decoded = |next: &Pass| is_last(next) && next.upscaler.takes_pixels();
        let pairs = job.passes().iter().zip(job.passes().iter().skip(1));
        pairs.filter(|(_, next)| is_decoded(next)).map(|(pass, _)| of(pass)).max().unwrap_or_default()
    }

    /// What decoding the pictures of a job holds beside the decoder's own maps: those that are done.
    pub fn decoded(job: &Job) -> u64 {
        let Size { width, height } = job.passes().last().map_or(Size { width: 0, height: 0 }, Pass::largest);
        product(&[width, height, job.batch()]).saturating_mul(OF_A_PIXEL)
    }

    /// The most that is held at once.
    pub fn most(&self) -> u64 {
        let kept = self.kept.iter().map(|held| held.bytes.0).fold(0, u64::saturating_add);
        let most = self.stages.iter().map(|stage| stage.total().0).max().unwrap_or(0);
        kept.saturating_add(most)
    }
}

/// Bytes that so many values take as integers at most: of 16 together a word of each two, a scale and a sum.
pub fn as_integers(values: u64) -> u64 {
    values.div_ceil(16).saturating_mul(40) // kernels: integer_product/inputs.rs
}

/// Whether a pass starts from what the one before it made.
fn is_last(pass: &Pass) -> bool {
    matches!(pass.start, Origin::Last(_))
}

fn held(name: &str, bytes: u64) -> Held {
    Held::fixed(name, Bytes(bytes))
}

fn in_tiles(name: &str, maps: Maps) -> Held {
    Held { tiles: Some(maps.tiles), ..held(name, maps.bytes) }
}

fn product(numbers: &[usize]) -> u64 {
    numbers.iter().fold(1u64, |n, &times| n.saturating_mul(times as u64))
}
