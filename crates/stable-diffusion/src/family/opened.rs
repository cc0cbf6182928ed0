use std::sync::{Arc, OnceLock};

use core_tensor::Residency;
use diffusion_engine::{
    Activation, AnyVaeDimensions, Card, Clip, ClipConfig, ClipDimensions, ClipTokenizer, Embedding, Embeddings, Error,
    Job, LatentScaling, LentEmbeddings, Maps, Model, OpenedModel, Pass, Piece, Size, VaeConfig, chunked,
    family::{Part, PartBytes, Parts, Placement, Work, Working, autoencoder, clip, work},
    methods,
};

use super::{CLIP, CLIP_G, UNET, VAE};
use crate::{
    Edition, StableDiffusion, TextEncoders, Trained, TrainingConfig, Unet, UnetConfig, UnetDimensions,
    edition::NUMBER_CHANNELS,
    model::{INPAINTING, card, draws_from_noise},
    trained,
};

/// A Stable Diffusion whose files fit each other.
pub(super) struct Opened {
    card: Card,
    edition: Edition,
    trained: Trained,
    unet: (Part, UnetConfig),
    dimensions: UnetDimensions,
    first: Option<(Part, ClipConfig)>,
    second: Option<(Part, ClipConfig)>,
    /// Layers of the first encoder that nothing is taken from.
    unused: usize,
    vae: (Part, VaeConfig),
    /// How latents are scaled where the autoencoder's own config doesn't say it.
    scaling: LatentScaling,
    lent: LentEmbeddings,
    embeddings: Vec<Embedding>,
    /// What the folder says of whether an empty negative prompt is all zeros.
    zeroed: Option<bool>,
    /// The text encoders, the first one first.
    encoders: Vec<ClipDimensions>,
    decoder: AnyVaeDimensions,
    /// For prompts that may be longer than a chunk.
    tokenizer: OnceLock<Option<ClipTokenizer>>,
}

/// Layers of OpenCLIP-H, of whose last Stable Diffusion 2 makes no use.
const OPEN_CLIP_H_LAYERS: usize = 24; // open_clip ViT-H-14.json: text_cfg.layers

/// What building a tokenizer takes, and what it keeps.
const TOKENIZER: u64 = 32 << 20;

impl Opened {
    pub(super) fn of(mut parts: Parts) -> Result<Self, Error> {
        let (unet, vae) = (parts.take(UNET)?, parts.take(VAE)?);
        let (unet_config, vae_config): (UnetConfig, VaeConfig) = (unet.config()?, vae.config()?);
        let dimensions = unet.look(|w| UnetDimensions::of(w, &unet_config))?;
        let name = parts.name().to_owned();
        let training = training(&parts, &unet)?;
        let (mut clip, clip_g) = (parts.find(CLIP), parts.find(CLIP_G));
        // An encoder in OpenCLIP's layout of a size that nobody published may be either.
        let is_either = |part: &mut Part| part.kind() == clip::OPEN_CLIP;
        let clip_g = match dimensions.adm {
            Some(_) => clip_g.or_else(|| clip.take_if(is_either)),
            None => None,
        };
        let second = clip_g.map(|part| Encoder::of(part, true)).transpose()?;
        let edition = unet.look(|w| Ok(Edition::of(&dimensions, w, second.as_ref().and_then(Encoder::projection))))?;
        let no_part = |key: &str| Error::NoPart { key: key.to_owned() };
        let first = match edition {
            Edition::Refiner => None,
            _ => Some(Encoder::of(clip.ok_or_else(|| no_part(CLIP))?, false)?),
        };
        let second = match edition {
            Edition::One | Edition::Two => None,
            Edition::Xl | Edition::Refiner => Some(second.ok_or_else(|| no_part(CLIP_G))?),
        };

        let width = first.iter().chain(&second).map(|encoder| encoder.dimensions.width).sum();
        let encoders = first.iter().chain(&second).map(|encoder| encoder.dimensions).collect();
        let pooled = second.as_ref().and_then(Encoder::projection);
        let vector = pooled.map_or(0, |pooled| pooled + edition.numbers() * NUMBER_CHANNELS);
        let decoder = autoencoder::dimensions(&vae, &vae_config, dimensions.in_channels == INPAINTING)?;
        StableDiffusion::fit(&dimensions, width, vector, &decoder)?;
        let scaling = VaeConfig { scaling_factor: training.scale_factor, ..VaeConfig::default() };
        let scaling = edition.latent_scaling().replaced_by(&scaling)?;
        let trained = unet.look(|w| Trained::of(edition, &dimensions, unet.file(), w, &training))?;
        let unused = first.as_ref().filter(|_| edition == Edition::Two).is_some_and(Encoder::is_whole_open_clip);
        let gelu = |encoder: Encoder| {
            let config =
                ClipConfig { hidden_act: encoder.config.hidden_act.or(Some(Activation::Gelu)), ..encoder.config };
            (encoder.part, config)
        };
        let first = first.map(|encoder| match edition {
            Edition::Two => gelu(encoder),
            _ => (encoder.part, encoder.config),
        });
        Ok(Self {
            card: card(name, edition, &decoder),
            edition,
            trained,
            unet: (unet, unet_config),
            dimensions,
            first,
            second: second.map(gelu),
            unused: usize::from(unused),
            vae: (vae, vae_config),
            scaling,
            lent: parts.lent_embeddings(),
            embeddings: parts.take_embeddings(),
            zeroed: parts.pipeline_settings().truth("force_zeros_for_empty_prompt"),
            encoders,
            decoder,
            tokenizer: OnceLock::new(),
        })
    }

    /// What the encoder of pictures takes of memory, where a job encodes any.
    fn encoder_bytes(&self, job: &Job) -> Result<u64, Error> {
        match self.encodes(job) {
            true => autoencoder::encoder_bytes(&self.vae.0, &self.vae.1),
            false => Ok(0),
        }
    }

    /// Whether a job encodes pictures.
    fn encodes(&self, job: &Job) -> bool {
        job.encodes_pictures() || self.dimensions.in_channels == INPAINTING
    }

    /// How many chunks of tokens the prompts of a pass have: the longest of them, and all together.
    fn chunks(&self, job: &Job, index: usize) -> [usize; 2] {
        // A prompt that can't be read is refused before this.
        let prompts = job.editions(index).unwrap_or_default();
        let of_edition = |pieces: &Vec<Piece>| self.chunks_of(pieces);
        // What a prompt comes to has as many chunks as the longest of it.
        let of_prompt = |editions: &Vec<Vec<Piece>>| {
            let longest = editions.iter().map(of_edition).max().unwrap_or(1);
            [longest, longest.saturating_mul(editions.len())]
        };
        prompts.iter().map(of_prompt).fold([1, 0], |[longest, all], [most, own]| [longest.max(most), all + own])
    }

    /// How many chunks of tokens some words have.
    fn chunks_of(&self, pieces: &[Piece]) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Words { text, .. } => text.len(),
            Piece::Break => 0,
        };
        // A token is a byte at least.
        let (most, breaks) = (pieces.iter().map(bytes).sum::<usize>(), pieces.len());
        if most <= ClipTokenizer::TEXT && breaks == 1 {
            return 1;
        }
        let exact = || {
            let tokenizer = self.tokenizer.get_or_init(|| ClipTokenizer::new().ok()).as_ref()?;
            let known = Embeddings::of(tokenizer, self.embeddings.clone()).ok()?;
            let known = known.and(tokenizer, self.lent.get()).ok()?;
            chunked(tokenizer, pieces, &known, ClipTokenizer::TEXT).ok().map(|chunks| chunks.len())
        };
        exact().unwrap_or(most / ClipTokenizer::TEXT + breaks + 1)
    }

    /// What encoding the prompts of a pass holds: a chunk in the making, and all that one prompt comes to a second time, where the encoders'
    /// vectors are put side by side.
    fn encoding_bytes(&self, chunks: usize) -> u64 {
        let most = self.encoders.iter().map(ClipDimensions::encoding_bytes).max().unwrap_or(0);
        most.saturating_add(2 * self.encoded_bytes(chunks))
    }

    /// What so many chunks come to.
    fn encoded_bytes(&self, chunks: usize) -> u64 {
        self.encoders.iter().map(|dimensions| dimensions.encoded_bytes(chunks)).fold(0, u64::saturating_add)
    }

    /// What a step of a pass holds whose longest prompt has so many chunks: pictures and prompts are predicted one by one.
    fn step_bytes(&self, pass: &Pass, chunks: usize) -> u64 {
        let held = methods::held(pass, &[]);
        let (size, _) = held.called_with(pass.size);
        self.dimensions.working_bytes(self.latent(size), chunks.saturating_mul(ClipTokenizer::LENGTH), 1, &held)
    }

    /// Height and width of the latent of a pass's largest picture.
    fn largest_latent(&self, pass: &Pass) -> [usize; 2] {
        self.latent(pass.largest())
    }

    /// Height and width of the latent of a picture.
    fn latent(&self, Size { width, height }: Size) -> [usize; 2] {
        [height, width].map(|side| side / self.card.factor)
    }
}

/// What is said of the UNet's training, beside its file and in it.
fn training(parts: &Parts, unet: &Part) -> Result<TrainingConfig, Error> {
    let config = match parts.yaml_text() {
        Some(text) => TrainingConfig::of_yaml(text),
        None => parts.scheduler_settings().read()?,
    };
    Ok(TrainingConfig { noted: trained::noted(|key| unet.note(key)), ..config })
}

/// What tells the training of a UNet, of whose model nothing else is looked at.
pub(super) fn told(parts: &Parts) -> Result<Vec<String>, Error> {
    let Some(unet) = parts.part(UNET) else { return Ok(Vec::new()) };
    let (config, training): (UnetConfig, _) = (unet.config()?, training(parts, unet)?);
    unet.look(|w| {
        let dimensions = UnetDimensions::of(w, &config)?;
        let edition = Edition::of(&dimensions, w, None);
        Ok(Trained::of(edition, &dimensions, unet.file(), w, &training)?.told())
    })
}

/// A text encoder by its headers.
#[derive(Debug)]
struct Encoder {
    part: Part,
    config: ClipConfig,
    dimensions: ClipDimensions,
}

impl Encoder {
    fn of(part: Part, projects: bool) -> Result<Self, Error> {
        let config: ClipConfig = part.config()?;
        let dimensions = part.look(|w| match projects {
            true => ClipDimensions::of_projected(w, &config),
            false => ClipDimensions::of(w, &config),
        })?;
        Ok(Self { part, config, dimensions })
    }

    fn projection(&self) -> Option<usize> {
        Some(self.dimensions.projection?.width)
    }

    /// Whether all of OpenCLIP's layers are there; diffusers' folders leave the last one out.
    fn is_whole_open_clip(&self) -> bool {
        self.part.kind() == clip::OPEN_CLIP || self.dimensions.layers == OPEN_CLIP_H_LAYERS
    }
}

impl OpenedModel for Opened {
    fn card(&self) -> &Card {
        &self.card
    }

    fn bytes(&self) -> Vec<PartBytes> {
        // Encoders run once for each prompt: they are not worth unpacking.
        let encoders = self.first.iter().chain(&self.second).map(|(part, _)| PartBytes::mapped(part));
        [PartBytes::either(&self.unet.0)]
            .into_iter()
            .chain(encoders)
            .chain([PartBytes::unpacked(&self.vae.0)])
            .collect()
    }

    fn work(&self, job: &Job) -> Work {
        let most = |of: &dyn Fn(&Pass) -> u64| job.passes().iter().map(of).max().unwrap_or(0);
        let chunks: Vec<[usize; 2]> = (0..job.passes().len()).map(|index| self.chunks(job, index)).collect();
        let most_maps = |of: &dyn Fn(&Pass) -> Maps| job.passes().iter().map(of).max().unwrap_or_default();
        let decoding = |pass: &Pass| self.decoder.decoding(self.largest_latent(pass), job.room());
        let longest = chunks.iter().map(|[longest, _]| *longest).max().unwrap_or(1);
        let all = chunks.iter().map(|[_, all]| *all).max().unwrap_or(1);
        let work = Work::of(job, &self.card).keeping("tokenizers", TOKENIZER);
        let work = work.keeping("prompts", self.encoded_bytes(all));
        let working = Working {
            encoder: self.encoder_bytes(job).unwrap_or(0),
            encoding: most_maps(&|pass| self.decoder.encoding(self.latent(pass.largest_encoded()), job.room())),
            text: self.encoding_bytes(longest),
            step: most(&|pass| self.step_bytes(pass, longest)),
            decoding: most_maps(&decoding),
            between: Work::between(job, decoding),
            is_shown: self.dimensions.in_channels == INPAINTING,
        };
        work.remembering(job, |size| self.dimensions.map_bytes(self.latent(size))).working(job, &working)
    }

    fn integers(&self, job: &Job) -> Vec<(&'static str, u64)> {
        let text = self.encoders.iter().map(ClipDimensions::widest_inputs).max().unwrap_or(0);
        let step = |pass: &Pass| {
            let (size, _) = methods::held(pass, &[]).called_with(pass.size);
            self.dimensions.widest_inputs(self.latent(size))
        };
        let step = job.passes().iter().map(step).max().unwrap_or(0);
        vec![(work::ENCODE, work::as_integers(text)), (work::SAMPLE, work::as_integers(step))]
    }

    fn fits(&self, job: &Job) -> Result<(), Error> {
        draws_from_noise(&self.dimensions)?;
        self.encoder_bytes(job)?;
        job.passes().iter().try_for_each(|pass| pass.size.checked(self.card.size_multiple).map(drop))
    }

    fn load(&self, at: &Placement) -> Result<Arc<dyn Model>, Error> {
        let (part, config) = &self.unet;
        let unet = part.load(at, at.residency(part), |w| Unet::load(w, config))?;
        let first =
            self.first.as_ref().map(|(part, config)| part.load(at, Residency::Mapped, |w| Clip::load(w, config)));
        let second = (self.second.as_ref())
            .map(|(part, config)| part.load(at, Residency::Mapped, |w| Clip::load_projected(w, config)));
        let encoders =
            TextEncoders::new(self.edition, first.transpose()?, second.transpose()?, self.unused, &at.device)?;
        let encoders = encoders.with_embeddings(self.embeddings.clone())?.with_lent(self.lent.clone());
        let (part, config) = &self.vae;
        let vae = autoencoder::load(part, at, config, self.scaling)?;
        let name = self.card.name.clone();
        let sd = StableDiffusion::new(name, self.edition, self.trained, unet, encoders, vae, &at.device)?;
        Ok(Arc::new(sd.zeroing(self.zeroed)))
    }
}
