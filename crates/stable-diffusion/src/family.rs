//! What Stable Diffusion is in files, and how its parts become a model.

mod kinds;
mod opened;
mod unet;

use diffusion_engine::{
    Clip, ClipConfig, ClipDimensions, Error, Family, Key, OpenedModel,
    family::{Count, Duty, Is, Kind, Network, Parts, Role, Word, autoencoder, clip},
};

use crate::{Edition, knobs};

/// Stable Diffusion 1.x, 2.x, XL and its refiner.
#[derive(Clone, Copy, Debug, Default)]
pub struct StableDiffusionFamily;

const UNET: &str = "unet";
const CLIP: &str = "clip";
const CLIP_G: &str = "clip_g";
const VAE: &str = "vae";

impl Family for StableDiffusionFamily {
    fn id(&self) -> &str {
        "stable-diffusion"
    }

    fn name(&self) -> &str {
        "Stable Diffusion"
    }

    fn roles(&self) -> Vec<Role> {
        let vae = autoencoder::network(Edition::One.latent_scaling());
        vec![
            Role::of(UNET, kinds::NAME, unet::network()).takes([kinds::UNET]),
            Role::of(CLIP, "a CLIP-L, or the CLIP-H of 2.x", clip::network())
                .folder("text_encoder")
                .takes([clip::CLIP, clip::CLIP_H, clip::OPEN_CLIP])
                .optional(),
            Role::of(CLIP_G, "a CLIP-G with its projection", projected_clip())
                .folder("text_encoder_2")
                .takes([clip::CLIP_G, clip::OPEN_CLIP, kinds::PROJECTED])
                .optional(),
            Role::of(VAE, "an autoencoder whose latents have 4 channels", vae)
                .takes([autoencoder::id(kinds::CHANNELS)]),
        ]
    }

    fn kinds(&self) -> Vec<Kind> {
        [kinds::unets(), kinds::projected(), clip::kinds(), kinds::autoencoders()].concat()
    }

    fn pipelines(&self) -> Vec<String> {
        [
            "StableDiffusionPipeline",
            "StableDiffusionXLPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionXLInpaintPipeline",
            "StableDiffusionInstructPix2PixPipeline",
            "StableDiffusionXLInstructPix2PixPipeline",
            "StableDiffusionControlNetPipeline",
            "StableDiffusionXLControlNetPipeline",
            "LatentConsistencyModelPipeline",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn knobs(&self) -> &'static [Key] {
        knobs()
    }

    fn takes_embeddings(&self) -> bool {
        true
    }

    fn told(&self, parts: &Parts) -> Vec<String> {
        // What is wrong with the parts, their layouts and the opening tell.
        opened::told(parts).unwrap_or_default()
    }

    fn open(&self, parts: Parts) -> Result<Box<dyn OpenedModel>, Error> {
        Ok(Box::new(opened::Opened::of(parts)?))
    }
}

/// [`Clip`] with its projection, under Hugging Face's names.
fn projected_clip() -> Network {
    const TEXT_MODEL: &str = "text_model.";
    let mark = format!("{TEXT_MODEL}{}", Clip::MARK);
    Network::of(Duty::CLIP, mark, |w, settings| {
        Ok(ClipDimensions::of_projected(w, &settings.read::<ClipConfig>()?)?.layout())
    })
    .variant(|_| "clip".into())
    .spellings(clip::spellings)
    .classes(["CLIPTextModelWithProjection", "CLIPTextModel", "CLIPModel", "clip_text_model", "clip"])
    .half("text_config")
    .words([Word::of("layer_norm_eps", Is::Number(1e-5))]) // transformers/models/clip/modeling_clip.py
    .counts([
        Count::depth("num_hidden_layers", "text_model.encoder.layers"),
        Count::dimension("hidden_size", "text_model.embeddings.token_embedding.weight", 1),
        Count::dimension("vocab_size", "text_model.embeddings.token_embedding.weight", 0),
        Count::dimension("intermediate_size", "text_model.encoder.layers.0.mlp.fc1.weight", 0),
        Count::dimension("projection_dim", "text_projection.weight", 0),
    ])
}
