//! Every key that any model has: what it is stored as, and all else that is known of it, in one entry each.
//!
//! An entry becomes a field of its table's struct and one of [`entries`]; its comment is its flag's help.

use std::{path::PathBuf, sync::LazyLock};

use diffusion_engine::{
    Emphasis, Fallback, HiresSize, Key, Kind, PerStep, PictureFormat, RefinedPasses, Size, Txt2Img, Value, methods,
};
use memory::Bytes;
use samplers::{Options, Schedule};

use super::{
    lora::Lora,
    setting::{Setting, initial},
    values::{Backend, ComputeChoice, HiresUpscaler, Noise, Seed},
};
use crate::{read_once::ReadOnce, threads::ThreadCount};

/// A table of the config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Table {
    /// What it is called there.
    pub name: &'static str,
    /// What a heading calls it.
    pub title: &'static str,
    /// What its keys are about.
    pub about: &'static str,
}

/// A key, and its place in a [`Config`].
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// Puts a value there, or says what was expected.
    pub(crate) set: fn(&mut Config, &Value) -> Result<(), String>,
    /// What is there; nothing where that depends on the rest.
    pub(crate) get: fn(&Config) -> Option<Value>,
    /// The path that is there, if one is.
    pub(crate) path: fn(&mut Config) -> Option<&mut PathBuf>,
}

/// Tables of keys: a struct of each, which is a field of [`Config`], and an entry of each key.
macro_rules! tables {
    ($(
        #[doc = $what:literal]
        $table:ident: $Table:ident {
            $(#[doc = $about:literal] $field:ident: $type:ty = $key:expr;)*
        }
    )*) => {
        $(
            #[doc = concat!(" `[", stringify!($table), "]`:", $what)]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Table {
                $(#[doc = concat!($about, ".")] pub $field: $type,)*
            }

            impl Default for $Table {
                fn default() -> Self {
                    Self { $($field: initial(&$key),)* }
                }
            }
        )*

        /// These tables, in the order in which a config has them.
        pub(super) static OWN_TABLES: &[Table] =
            &[$(Table { name: stringify!($table), title: stringify!($Table), about: $what.trim_ascii() },)*];

        /// The keys of these tables, in their order.
        pub(super) static OWN_ENTRIES: &[Entry] = &[$($(Entry {
            key: $key.at(stringify!($table), stringify!($field), $about.trim_ascii()),
            set: |config, value| {
                config.$table.$field = Setting::read(value)?;
                Ok(())
            },
            get: |config| Setting::value(&config.$table.$field),
            path: |config| Setting::path(&mut config.$table.$field),
        },)*)*];
    };
}

mod pictures;

pub use pictures::{Control, Img2img, Inpaint};

/// A whole config; only `[model]` is required. Paths are relative to the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where the model is.
    pub model: Model,
    /// What computes.
    pub device: Device,
    /// How a picture is sampled.
    pub sampling: Sampling,
    /// What the picture shows.
    pub prompt: Prompt,
    /// What is written.
    pub image: Image,
    /// A second pass at another size.
    pub hires: Hires,
    /// A model that goes on where the first has taken some steps.
    pub refiner: Refiner,
    /// How a picture in the making is shown.
    pub preview: Preview,
    /// The picture that a run starts from.
    pub img2img: Img2img,
    /// What of that picture is drawn anew.
    pub inpaint: Inpaint,
    /// The picture that says what goes where.
    pub control: Control,
    /// Settings that one family of models has, by the names of its keys.
    pub knobs: Options,
    /// `[[lora]]`: LoRAs that every picture is drawn with.
    pub loras: Vec<Lora>,
    /// Whether a LoRA may be applied that fits the model in part.
    pub allow_partial_lora: bool,
    /// What its runs and those of its clones have read.
    pub(crate) read_once: ReadOnce,
}

/// The tables, in the order in which a config has them.
pub(crate) static TABLES: LazyLock<Vec<Table>> =
    LazyLock::new(|| [OWN_TABLES, pictures::OWN_TABLES, &[GUIDANCE][..]].concat());

/// Every key that any model has, in the order of its table.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    OWN_ENTRIES.iter().chain(pictures::OWN_ENTRIES)
}

/// What the methods are set by, see [`diffusion_engine::methods`].
const GUIDANCE: Table = Table {
    name: methods::TABLE,
    title: "Guidance",
    about: "how the model is guided, and which of its calls are spared; docs/guidance.md says more",
};

const fn open(means: &'static str, example: &'static str) -> Fallback {
    Fallback::Open { means, example }
}

const fn whole(min: usize, max: usize, step: usize) -> Kind {
    Kind::Whole { min, max, step }
}

const fn words(file: &'static str) -> Kind {
    Kind::Words { file }
}

tables! {
    /// where the model is
    model: Model {
        /// File with all parts of a model
        checkpoint: Option<PathBuf> =
            Key::of(Kind::File, open("none", "\"models/flux1-dev-all-in-one.safetensors\""))
                .docs("one file with all parts of a model, each under a prefix of its own")
                .flag("checkpoint");
        /// Folder in diffusers' layout
        folder: Option<PathBuf> = Key::of(Kind::Folder, open("none", "\"models/flux1-dev\""))
            .docs(
                "a folder in diffusers' layout, with a folder for each part, such as `transformer` and `text_encoder`; it \
                 brings what a checkpoint lacks",
            )
            .flag("folder");
        /// Transformer that denoises, as Flux has one
        transformer: Option<PathBuf> =
            Key::of(Kind::File, open("the checkpoint's, or `transformer` of the folder", "\"models/flux1-dev.safetensors\""))
                .docs("the transformer that denoises, as Flux has one")
                .flag("transformer");
        /// UNet that denoises
        unet: Option<PathBuf> = Key::of(Kind::File, open("the checkpoint's, or `unet` of the folder", "\"models/unet.safetensors\""))
            .docs("the UNet that denoises, for families that have one")
            .flag("unet");
        /// CLIP text encoder
        clip: Option<PathBuf> =
            Key::of(Kind::File, open("the checkpoint's, or `text_encoder` of the folder", "\"models/clip_l.safetensors\""))
                .docs("the CLIP text encoder: CLIP-L for Flux")
                .flag("clip");
        /// Second CLIP text encoder
        clip_g: Option<PathBuf> =
            Key::of(Kind::File, open("the checkpoint's, or `text_encoder_2` of the folder", "\"models/clip_g.safetensors\""))
                .docs("the second CLIP text encoder, CLIP-G, for families that have one")
                .flag("clip-g");
        /// T5 v1.1 text encoder
        t5: Option<PathBuf> =
            Key::of(Kind::File, open("the checkpoint's, or `text_encoder_2` of the folder", "\"models/t5xxl_fp16.safetensors\""))
                .docs("the T5 v1.1 text encoder, for families that have one")
                .flag("t5");
        /// Autoencoder
        vae: Option<PathBuf> = Key::of(Kind::File, open("the checkpoint's, or `vae` of the folder", "\"models/ae.safetensors\""))
            .docs("the autoencoder, or a tiny one (TAESD, TAESDXL, TAEF1) in its place")
            .flag("vae");
    }

    /// what computes
    device: Device {
        /// cpu, cuda:N, vulkan:N or vulkan:software
        backend: Backend = Key::of(Kind::Backend, Fallback::Text("cpu"))
            .docs("what computes; `cuda` and `vulkan` need a build with the feature of that name, and `vulkan` alone is the best card")
            .flag("backend");
        /// auto, f32, tf32, bf16, f16 or integers
        compute: ComputeChoice = Key::of(Kind::Choice(&["auto", "f32", "tf32", "bf16", "f16", "integers"]), Fallback::Text("auto"))
            .docs("the number format of products; `auto` is `integers` with AVX2 and AVX-512, `bf16` with AMX and on CUDA, `f16` on Vulkan's cards that have it, and `f32` elsewhere; `f16` is a card's, `tf32` CUDA's")
            .flag("compute");
        /// Ceiling for the run, such as `16 GiB`
        memory: Option<Bytes> = Key::of(Kind::Size, open("what Linux has free; elsewhere no limit", "\"16 GiB\""))
            .docs("a ceiling for the run")
            .flag("memory");
        /// Threads, 0 for all cores
        threads: ThreadCount = Key::of(whole(0, ThreadCount::MAX, 1), Fallback::Whole(0))
            .docs("threads that compute; 0 for all cores, or for `RAYON_NUM_THREADS` where the command finds that set")
            .flag("threads");
    }

    /// how a picture is sampled
    sampling: Sampling {
        /// Engine whose habits to follow
        profile: String = Key::of(Kind::Profile, Fallback::Text("forge"))
            .docs("whose habits to follow where engines disagree")
            .flag("profile")
            .label("Profile");
        /// How steps are taken; `forge samplers` says more
        sampler: String = Key::of(Kind::Sampler, Fallback::Text("euler"))
            .docs("how steps are taken; may end in a schedule, as in `DPM++ 2M Karras`")
            .flag("sampler")
            .label("Sampler")
            .api("sampler_name");
        /// How noise levels are spaced; `forge schedules` says more
        schedule: Option<String> = Key::of(Kind::Schedule, open("the sampler's, or `simple`", "\"simple\""))
            .docs("how noise levels are spaced")
            .flag("schedule")
            .label("Schedule type")
            .api("scheduler");
        /// Noise levels in the schedule's place, from the highest
        sigmas: Option<Vec<f64>> =
            Key::of(Kind::Numbers { min: 2, max: Schedule::MAX_STEPS + 1 }, open("the schedule's", "[1.0, 0.5, 0.0]"))
                .docs("noise levels in the schedule's place, descending to 0 or above; their number says how many steps there are")
                .label("Sigmas");
        /// Set an option of the sampler or the schedule, such as `eta=0.5`; again for more
        options: Options = Key::of(Kind::Options, open("empty", "{ eta = 0.5 }"))
            .docs("options of the sampler and the schedule, such as `eta = 0.5`; `forge samplers --json` tells them")
            .flag("option");
        /// Steps from noise to picture
        steps: usize = Key::of(whole(1, Schedule::MAX_STEPS, 1), Fallback::Whole(20))
            .docs("steps from noise to picture; schnell is made for 4")
            .flag("steps")
            .label("Steps")
            .api("steps");
        /// Classifier-free guidance, from 1; by step `[7,5,3]` or `7..1.5`
        cfg: PerStep = Key::of(Kind::PerStep { min: 1.0, max: 100.0 }, Fallback::Number(1.0))
            .docs(
                "classifier-free guidance; above 1 the negative prompt counts and the step calls the model twice. `[7, 5, 3]` is one for each \
                 step, the last of which goes on; `\"7..1.5\"` goes from the one in the first step to the other in the last, and \
                 `\"7..1.5 cosine\"` does so slowly at first",
            )
            .flag("cfg")
            .label("CFG scale")
            .api("cfg_scale");
        /// Number, or `random`, which -1 stands for too
        seed: Seed = Key::of(Kind::Seed, Fallback::Text("random"))
            .docs(
                "the seed of the noise; -1 is `random`, and picture `i` of a batch has `seed + i`; it is always written \
                 into the picture",
            )
            .flag("seed")
            .label("Seed")
            .api("seed");
        /// Number, or `random`: the seed that the picture is varied towards
        variation_seed: Seed = Key::of(Kind::Seed, Fallback::Text("random"))
            .docs("the seed of the noise that the picture's own is moved towards; picture `i` of a batch has `variation_seed + i`")
            .flag("variation-seed")
            .label("Variation seed")
            .api("subseed");
        /// How far towards the other seed's noise, 0 to 1
        variation_strength: f32 = Key::of(Kind::Number { min: 0.0, max: 1.0 }, Fallback::Number(0.0))
            .docs("how far the noise is moved towards that of `variation_seed`; above 0 all pictures of a batch have one seed")
            .flag("variation-strength")
            .label("Variation seed strength")
            .api("subseed_strength");
        /// Pixels across of the picture whose noise is carried over
        seed_resize_width: Option<usize> = Key::of(whole(Txt2Img::LEAST_SIDE, Size::MAX, 1), open("none", "512"))
            .docs("pixels across of the picture whose noise is carried over to the middle of this one's")
            .flag("seed-resize-width")
            .label("Seed resize from")
            .api("seed_resize_from_w");
        /// Pixels down of the picture whose noise is carried over
        seed_resize_height: Option<usize> = Key::of(whole(Txt2Img::LEAST_SIDE, Size::MAX, 1), open("none", "512"))
            .docs("pixels down of the picture whose noise is carried over")
            .flag("seed-resize-height")
            .label("Seed resize from")
            .api("seed_resize_from_h");
        /// `cpu`, `nv`, or a safetensors file with a tensor `noise`
        noise: Option<Noise> = Key::of(Kind::Noise, open("the profile's", "\"cpu\""))
            .docs("where the starting noise comes from")
            .flag("noise")
            .label("RNG");
    }

    /// what the picture shows
    prompt: Prompt {
        /// What the picture shows
        positive: String = Key::of(words("prompt-file"), Fallback::Text(""))
            .docs("what the picture shows")
            .flag("prompt").api("prompt");
        /// What it should not show; counts where --cfg is above 1
        negative: String = Key::of(words("negative-file"), Fallback::Text(""))
            .docs("what it should not show; counts where `cfg` is above 1")
            .flag("negative")
            .label("Negative prompt")
            .api("negative_prompt");
        /// What weights of words do to the text encoders' vectors
        emphasis: Emphasis = Key::of(Kind::Choice(&Emphasis::IDS), Fallback::Text("original"))
            .docs("what weights such as `(cat:1.3)` do to the text encoders' vectors; docs/prompts.md says how")
            .flag("emphasis")
            .label("Emphasis");
        /// Folder of textual inversions, which prompts call by their files' names
        embeddings: Option<PathBuf> = Key::of(Kind::Folder, open("none", "\"embeddings\""))
            .docs("a folder of textual inversions (`.safetensors`, `.pt`, `.bin`), which prompts call by their files' names")
            .flag("embeddings");
        /// Folder of LoRAs, which prompts call by their files' names
        loras: Option<PathBuf> = Key::of(Kind::Folder, open("none", "\"loras\""))
            .docs("a folder of LoRAs, which prompts call by their files' names: `<lora:name:0.8>`; docs/lora.md says more")
            .flag("loras");
        /// Styles that are put around both prompts, of the table of styles
        styles: Vec<String> = Key::of(Kind::Names, open("none", "[\"cinematic\"]"))
            .docs("styles that are put around both prompts, by their names in `styles_file`")
            .flag("styles")
            .api("styles");
        /// Table of styles, as A1111's styles.csv
        styles_file: Option<PathBuf> = Key::of(Kind::File, open("none", "\"styles.csv\""))
            .docs("a table of styles with the columns `name`, `prompt` and `negative_prompt`, as A1111's `styles.csv`")
            .flag("styles-file");
        /// Folder of wildcards, text files with a choice a line
        wildcards: Option<PathBuf> = Key::of(Kind::Folder, open("none", "\"wildcards\""))
            .docs("a folder of text files with one choice a line: `__colour__` is a line of its `colour.txt`")
            .flag("wildcards");
    }

    /// what is written
    image: Image {
        /// Pixels across
        width: usize = Key::of(whole(16, Size::MAX, 8), Fallback::Whole(1024))
            .docs("pixels across; Flux takes multiples of 16")
            .flag("width")
            .label("Size")
            .api("width");
        /// Pixels down
        height: usize = Key::of(whole(16, Size::MAX, 8), Fallback::Whole(1024))
            .docs("pixels down; Flux takes multiples of 16")
            .flag("height")
            .label("Size")
            .api("height");
        /// How many pictures
        batch: usize = Key::of(whole(1, Txt2Img::MAX_BATCH, 1), Fallback::Whole(1))
            .docs("how many pictures; each is the one that its own seed draws alone")
            .flag("batch")
            .label("Batch")
            .api("batch_size");
        /// How many batches, one after the other
        batches: usize = Key::of(whole(1, Txt2Img::MAX_BATCHES, 1), Fallback::Whole(1))
            .docs(
                "how many batches are drawn one after the other; their seeds go on, so that two batches of three are the pictures of one of \
                 six in the memory of three",
            )
            .flag("batches")
            .api("n_iter");
        /// Name of the picture; {seed} and {index} are filled in; `-` is standard output
        output: PathBuf = Key::of(Kind::Output, Fallback::Text("out/{seed}-{index}.png"))
            .docs("the pictures' name, whose ending says the format; `-` writes one picture to standard output, as a PNG")
            .flag("output");
        /// Quality of a JPEG, 1 to 100
        quality: usize = Key::of(whole(1, 100, 1), Fallback::Whole(PictureFormat::QUALITY as usize))
            .docs("how near a JPEG comes to the picture, and how large it is; PNG and WebP keep every pixel")
            .flag("quality");
    }

    /// a second pass at another size
    hires: Hires {
        /// How many times as large the second pass is
        scale: Option<f64> =
            Key::of(Kind::Number { min: *HiresSize::SCALE.start(), max: *HiresSize::SCALE.end() }, open("none", "2.0"))
                .docs(
                    "draws a second pass that is so many times as large, from what the first one made; its sides are rounded down to \
                     multiples of 8, with Flux of 16. Without it and the two sides there is no second pass",
                )
                .flag("hires-scale")
                .label("Hires upscale")
                .api("hr_scale");
        /// Pixels across of the second pass
        width: Option<usize> = Key::of(whole(16, Size::MAX, 8), open("as the shape has it", "1536"))
            .docs("pixels across of the second pass; with `height` too, what the first one made covers both and its middle is kept")
            .flag("hires-width")
            .label("Hires resize")
            .api("hr_resize_x");
        /// Pixels down of the second pass
        height: Option<usize> = Key::of(whole(16, Size::MAX, 8), open("as the shape has it", "1536"))
            .docs("pixels down of the second pass")
            .flag("hires-height")
            .label("Hires resize")
            .api("hr_resize_y");
        /// What makes the first pass's picture larger: a name, or the file of an upscaler
        upscaler: HiresUpscaler = Key::of(Kind::Upscaler, Fallback::Text("latent"))
            .docs("what makes the first pass's result larger: latents are resized as A1111 does; a file is a network's, as `forge upscale` takes it")
            .flag("hires-upscaler")
            .label("Hires upscaler")
            .api("hr_upscaler");
        /// File of another model for the second pass
        checkpoint: Option<PathBuf> = Key::of(Kind::File, open("the first pass's", "\"models/sdxl.safetensors\""))
            .docs("one file with all parts of a model that draws the second pass; its latents are of the same kind")
            .flag("hires-checkpoint")
            .label("Hires checkpoint")
            .api("hr_checkpoint_name");
        /// Steps of the second pass
        steps: Option<usize> = Key::of(whole(1, Schedule::MAX_STEPS, 1), open("the first pass's", "10"))
            .docs("steps of the second pass, all of which are taken whatever the strength")
            .flag("hires-steps")
            .label("Hires steps")
            .api("hr_second_pass_steps");
        /// Share of the first pass's picture that becomes noise again, 0 to 1
        strength: f64 = Key::of(Kind::Number { min: 0.0, max: 1.0 }, Fallback::Number(diffusion_engine::Hires::STRENGTH))
            .docs("the share of the first pass's result that becomes noise again, above 0; at 1 nothing is left of it with Flux, and with Stable Diffusion a trace below the highest noise level")
            .flag("hires-strength")
            .label("Denoising strength")
            .api("denoising_strength");
        /// How steps of the second pass are taken
        sampler: Option<String> = Key::of(Kind::Sampler, open("the first pass's", "\"dpmpp_2m\""))
            .docs("how steps of the second pass are taken")
            .flag("hires-sampler")
            .label("Hires sampler")
            .api("hr_sampler_name");
        /// How noise levels of the second pass are spaced
        schedule: Option<String> = Key::of(Kind::Schedule, open("the first pass's", "\"karras\""))
            .docs("how noise levels of the second pass are spaced")
            .flag("hires-schedule")
            .label("Hires schedule type")
            .api("hr_scheduler");
        /// Classifier-free guidance of the second pass
        cfg: Option<PerStep> = Key::of(Kind::PerStep { min: 1.0, max: 100.0 }, open("the first pass's", "5.0"))
            .docs("classifier-free guidance of the second pass")
            .flag("hires-cfg")
            .label("Hires CFG Scale")
            .api("hr_cfg");
        /// Guidance of the second pass that Flux dev was distilled with
        guidance: Option<f64> = Key::of(Kind::Number { min: 0.0, max: 100.0 }, open("the first pass's", "3.5"))
            .docs("the guidance of the second pass, for models that have one distilled, such as Flux dev")
            .flag("hires-guidance")
            .label("Hires Distilled CFG Scale")
            .api("hr_distilled_cfg");
        /// What the second pass shows
        prompt: String = Key::of(words("hires-prompt-file"), Fallback::Text(""))
            .docs("what the second pass shows; empty for what the first one does")
            .flag("hires-prompt")
            .label("Hires prompt")
            .api("hr_prompt");
        /// What the second pass should not show
        negative: String = Key::of(words("hires-negative-file"), Fallback::Text(""))
            .docs("what the second pass should not show; empty for what the first one should not")
            .flag("hires-negative")
            .label("Hires negative prompt")
            .api("hr_negative_prompt");
    }

    /// a model that goes on where the first has taken some steps
    refiner: Refiner {
        /// File of the model that takes over
        checkpoint: Option<PathBuf> = Key::of(Kind::File, open("none", "\"models/sd_xl_refiner_1.0.safetensors\""))
            .docs(
                "one file with all parts of a model that goes on with the latent, such as XL's refiner; it encodes the prompts itself, and \
                 makes the picture",
            )
            .flag("refiner")
            .label("Refiner")
            .api("refiner_checkpoint");
        /// Share of the steps behind which it takes over, 0 to 1
        switch_at: f64 = Key::of(Kind::Number { min: 0.0, max: 1.0 }, Fallback::Number(0.8))
            .docs("the share of the steps behind which it takes over; at 1 it never does")
            .flag("refiner-switch-at")
            .label("Refiner switch at")
            .api("refiner_switch_at");
        /// Passes in which it takes over, where there are two: first, second or both
        passes: RefinedPasses = Key::of(Kind::Choice(&RefinedPasses::IDS), Fallback::Text("second"))
            .docs("the passes in which it takes over, where a second one is drawn")
            .flag("refiner-passes")
            .label("Hires refiner");
    }

    /// how a picture in the making is shown
    preview: Preview {
        /// File that shows the picture in the making
        file: Option<PathBuf> = Key::of(Kind::Output, open("none", "\"preview.png\""))
            .docs("a picture that is replaced by what the first of a batch looks like after a step")
            .flag("preview");
        /// Steps from one preview to the next; 0 where previews may take 3 % of the steps' time
        every: usize = Key::of(whole(0, Schedule::MAX_STEPS, 1), Fallback::Whole(0))
            .docs("steps from one preview to the next; 0 for as many as leave all, the first too, at 3 % of the steps' time so far")
            .flag("preview-every");
        /// Tiny decoder (TAESD) that previews are decoded by
        decoder: Option<PathBuf> = Key::of(Kind::File, open("none: a pixel for each of the latent's", "\"models/taesd_decoder.safetensors\""))
            .docs("a tiny autoencoder (TAESD, TAESDXL, TAEF1) that previews are decoded by, at full size")
            .flag("preview-decoder");
    }
}
