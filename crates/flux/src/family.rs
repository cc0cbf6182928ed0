//! What Flux is in files, and how its parts become a model.

mod kinds;

use std::sync::Arc;

use core_tensor::{Residency, Weights};
use diffusion_engine::{
    Card, Catalog, Clip, ClipConfig, ClipDimensions, Error, Family, Job, Key, Model, OpenedModel, T5, T5Dimensions,
    VaeConfig,
    family::{
        Count, Duty, Is, Kind, Network, Part, PartBytes, Parts, Placement, Role, Word, Work, autoencoder, clip, t5,
    },
};

use crate::{
    Dimensions, Flux, LATENT_SCALING, Shift, Transformer, TransformerConfig, habits, knobs,
    model::card,
    register,
    spellings::spellings,
    work::{At, Networks},
};

/// Flux of Black Forest Labs, dev and schnell.
#[derive(Clone, Copy, Debug, Default)]
pub struct FluxFamily;

const TRANSFORMER: &str = "transformer";
const CLIP: &str = "clip";
const T5_ENCODER: &str = "t5";
const VAE: &str = "vae";
/// Channels of the latents.
const CHANNELS: usize = 16;

impl Family for FluxFamily {
    fn id(&self) -> &str {
        "flux"
    }

    fn name(&self) -> &str {
        "Flux"
    }

    fn roles(&self) -> Vec<Role> {
        vec![
            Role::of(TRANSFORMER, kinds::NAME, transformer()).takes([kinds::FLUX]),
            Role::of(CLIP, clip::NAME, clip::network()).folder("text_encoder").takes([clip::CLIP]),
            Role::of(T5_ENCODER, "a T5 encoder of version 1.1", t5::network()).folder("text_encoder_2").takes([t5::T5]),
            Role::of(VAE, "an autoencoder whose latents have 16 channels", autoencoder::network(LATENT_SCALING))
                .takes([autoencoder::AUTOENCODER.to_owned(), autoencoder::id(CHANNELS)]),
        ]
    }

    fn kinds(&self) -> Vec<Kind> {
        [kinds::transformers(), clip::kinds(), t5::kinds(), kinds::autoencoders()].concat()
    }

    fn pipelines(&self) -> Vec<String> {
        [
            "FluxPipeline",
            "FluxImg2ImgPipeline",
            "FluxInpaintPipeline",
            "FluxFillPipeline",
            "FluxControlPipeline",
            "FluxKontextPipeline",
            "FluxKontextInpaintPipeline",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn knobs(&self) -> &'static [Key] {
        knobs()
    }

    fn register(&self, catalog: Catalog) -> Result<Catalog, samplers::Error> {
        register(catalog)
    }

    fn told(&self, parts: &Parts) -> Vec<String> {
        // What is wrong with the config, the opening tells.
        let said = parts.part(TRANSFORMER).and_then(|_| Shift::of(parts.scheduler_settings()).ok()?);
        said.map(|shift| format!("its noise levels are {shift}: a config says so")).into_iter().collect()
    }

    fn open(&self, mut parts: Parts) -> Result<Box<dyn OpenedModel>, Error> {
        let [transformer, clip, t5, vae] =
            [parts.take(TRANSFORMER)?, parts.take(CLIP)?, parts.take(T5_ENCODER)?, parts.take(VAE)?];
        let (transformer_config, clip_config, vae_config): (_, _, VaeConfig) =
            (transformer.config()?, clip.config()?, vae.config()?);
        let dimensions = transformer.look(|w| Dimensions::of(w, &transformer_config))?;
        let of_clip = clip.look(|w| ClipDimensions::of(w, &clip_config))?;
        let encoder = t5.look(T5Dimensions::of)?;
        let decoder = autoencoder::dimensions(&vae, &vae_config, false)?;
        Flux::fit(&dimensions, &of_clip, &encoder, &decoder)?;
        let shift = Shift::of(parts.scheduler_settings())?.unwrap_or(Shift::usual(dimensions.guidance));
        Ok(Box::new(Opened {
            card: card(parts.name().to_owned(), &decoder),
            shift,
            transformer: (transformer, transformer_config),
            clip: (clip, clip_config),
            vae: (vae, vae_config),
            t5,
            networks: Networks { transformer: dimensions, clip: of_clip, t5: encoder, decoder },
        }))
    }
}

/// A Flux whose files fit each other.
struct Opened {
    card: Card,
    shift: Shift,
    transformer: (Part, TransformerConfig),
    clip: (Part, ClipConfig),
    t5: Part,
    vae: (Part, VaeConfig),
    networks: Networks,
}

impl Opened {
    /// What the encoder of pictures takes of memory, where a job encodes any.
    fn encoder_bytes(&self, job: &Job) -> Result<u64, Error> {
        // Flux Fill is always shown a picture.
        match job.encodes_pictures() || self.networks.transformer.beside > 0 {
            true => autoencoder::encoder_bytes(&self.vae.0, &self.vae.1),
            false => Ok(0),
        }
    }
}

impl OpenedModel for Opened {
    fn card(&self) -> &Card {
        &self.card
    }

    fn bytes(&self) -> Vec<PartBytes> {
        // Encoders run once for each prompt: they are not worth unpacking.
        vec![
            PartBytes::either(&self.transformer.0),
            PartBytes::mapped(&self.t5),
            PartBytes::mapped(&self.clip.0),
            PartBytes::unpacked(&self.vae.0),
        ]
    }

    fn work(&self, job: &Job) -> Work {
        // To the CPU nothing is brought.
        let at = if self.transformer.0.bytes().passing == 0 { At::Cpu } else { At::Card };
        self.networks.work(job, Work::of(job, &self.card), self.encoder_bytes(job).unwrap_or(0), at)
    }

    fn integers(&self, job: &Job) -> Vec<(&'static str, u64)> {
        self.networks.integers(job)
    }

    fn fits(&self, job: &Job) -> Result<(), Error> {
        self.encoder_bytes(job)?;
        let multiple = self.card.size_multiple;
        job.passes().iter().try_for_each(|pass| {
            let size = pass.size.checked(multiple)?;
            let tokens = size.width / multiple * (size.height / multiple);
            self.shift.checked(habits::shifted_as(&pass.profile, tokens))
        })
    }

    fn load(&self, at: &Placement) -> Result<Arc<dyn Model>, Error> {
        let (part, config) = &self.transformer;
        let transformer = part.load(at, at.residency(part), |w| Transformer::load(w, config))?;
        let (part, config) = &self.clip;
        let clip = part.load(at, Residency::Mapped, |w| Clip::load(w, config))?;
        let t5 = self.t5.load(at, Residency::Mapped, T5::load)?;
        let (part, config) = &self.vae;
        let vae = autoencoder::load(part, at, config, LATENT_SCALING)?;
        let flux = Flux::new(self.card.name.clone(), transformer, clip, t5, vae, &at.device)?;
        Ok(Arc::new(flux.shifted(self.shift)))
    }
}

/// [`Transformer`], under the names of Black Forest Labs.
fn transformer() -> Network {
    const NORM: &str = "double_blocks.0.img_attn.norm.query_norm.scale";
    const GUIDANCE: &str = "guidance_in.in_layer.weight";
    let columns = |w: &Weights| w.shape("img_in.weight").and_then(|shape| shape.get(1).copied());
    let is_guided = |w: &Weights| w.shape(GUIDANCE).is_some();
    Network::of(Duty::DENOISER, Transformer::MARK, |w, settings| {
        Ok(Dimensions::of(w, &settings.read::<TransformerConfig>()?)?.layout())
    })
    .variant(move |w| match (columns(w), is_guided(w)) {
        (Some(kinds::FILL), _) => "flux-fill-dev".into(),
        (Some(kinds::CONTROL), _) => "flux-control-dev".into(),
        (_, true) => "flux-dev".into(),
        (_, false) => "flux-schnell".into(),
    })
    .spellings(spellings)
    .classes(["FluxTransformer2DModel"])
    // diffusers/models/transformers/transformer_flux.py: pixels are packed before the transformer.
    .words([Word::of("patch_size", Is::Number(1.0))])
    .counts([
        Count::depth("num_layers", "double_blocks"),
        Count::depth("num_single_layers", "single_blocks"),
        Count::dimension("in_channels", "img_in.weight", 1),
        Count::dimension("attention_head_dim", NORM, 0),
        Count::dimension("out_channels", "final_layer.linear.weight", 0),
        Count::ratio("num_attention_heads", "img_in.weight", (NORM, 0)),
        Count::dimension("joint_attention_dim", "txt_in.weight", 1),
        Count::dimension("pooled_projection_dim", "vector_in.in_layer.weight", 1),
        Count::of("guidance_embeds", move |w| Some(is_guided(w).into())),
    ])
}
