//! What text encoders and autoencoders read is what their layouts say.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Layout, Residency, WeightSource, Weights, safetensors::Safetensors};
use diffusion_engine::{
    AutoencoderKl, Clip, ClipConfig, ClipDimensions, ClipProjection, LatentScaling, LdmNames, T5, T5Dimensions,
    VaeConfig, VaeDimensions,
};
use fixtures::{Made, path};

/// Loads from nothing but the layout; then all of it was read.
fn reads_its_layout(layout: &Layout, load: impl FnOnce(&Weights)) {
    let made = Made::of("model.", layout.needs());
    load(&Weights::of(&made, &Device::flex(), Residency::Mapped));
    assert!(!layout.needs().is_empty());
    assert_eq!(made.read_names(), made.manifest().names().collect::<Vec<_>>());
}

#[test]
fn clip_reads_its_layout_and_nothing_else() {
    for (width, inner, layers, positions) in [(64, 100, 2, 77), (128, 512, 1, 248), (64, 0, 0, 77)] {
        let (vocabulary, heads, projection) = (49_408, width / 64, None);
        let dimensions = ClipDimensions { vocabulary, positions, width, heads, inner, layers, projection };
        reads_its_layout(&dimensions.layout(), |w| {
            assert_eq!(*Clip::load(w, &ClipConfig::default()).unwrap().dimensions(), dimensions);
        });
        // and with the projection, beside the text model or among its tensors
        for beside in ["text_model", ""] {
            let dimensions = ClipDimensions { projection: Some(ClipProjection { width: 32, beside }), ..dimensions };
            reads_its_layout(&dimensions.layout(), |w| {
                assert_eq!(*Clip::load_projected(w, &ClipConfig::default()).unwrap().dimensions(), dimensions);
            });
        }
    }
}

#[test]
fn t5_reads_its_layout_and_nothing_else() {
    let words = ["shared.weight", "encoder.embed_tokens.weight"];
    for (words, width, inner, heads, mlp, blocks) in
        [(words[0], 16, 12, 2, 20, 2), (words[1], 8, 32, 4, 8, 1), (words[0], 4, 6, 6, 3, 3)]
    {
        let dimensions = T5Dimensions { vocabulary: 32_100, words, width, inner, heads, mlp, blocks };
        reads_its_layout(&dimensions.layout(), |w| assert_eq!(*T5::load(w).unwrap().dimensions(), dimensions));
    }
}

#[test]
fn an_autoencoder_reads_its_layout_and_nothing_else() {
    let scaling = LatentScaling { scale: 1.0, shift: 0.0 };
    // with two, three and four levels, with and without convolutions between the halves and the latents
    for (name, groups) in [("four-levels", 4), ("three-levels", 4), ("two-levels", 8)] {
        let config = VaeConfig { norm_num_groups: Some(groups), ..VaeConfig::default() };
        let file = Safetensors::open(&path(&format!("golden/vae/{name}.safetensors"))).unwrap();
        let source = LdmNames::over(file);
        let w = Weights::of(&source, &Device::flex(), Residency::Mapped);
        let (decoder, both) = (VaeDimensions::of(&w, groups).unwrap(), VaeDimensions::of_both(&w, groups).unwrap());
        reads_its_layout(&decoder.layout(), |w| {
            assert_eq!(*AutoencoderKl::load(w, &config, scaling).unwrap().dimensions(), decoder);
        });
        reads_its_layout(&both.layout(), |w| {
            assert_eq!(*AutoencoderKl::load_both(w, &config, scaling).unwrap().dimensions(), both);
        });
        // and the file has nothing else
        assert_eq!(source.manifest().len(), both.layout().needs().len(), "{name}");
    }
}
