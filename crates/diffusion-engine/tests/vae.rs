//! The autoencoder both ways against diffusers, layer by layer, for widths, depths and channels of several families.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Residency, Tensor, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{Autoencoder, AutoencoderKl, Error, Inside, LatentScaling, LdmNames, Look, Site, VaeConfig};
use fixtures::{Golden, path};

const FLUX: LatentScaling = LatentScaling { scale: 0.3611, shift: 0.1159 };
const SD1: LatentScaling = LatentScaling { scale: 0.18215, shift: 0.0 };
const SDXL: LatentScaling = LatentScaling { scale: 0.13025, shift: 0.0 };

/// A case's name, scaling, groups of its norms, channels and factor, and how many layers inside are compared.
const CASES: [(&str, LatentScaling, usize, [usize; 2], usize); 3] =
    [("four-levels", SD1, 4, [4, 8], 13), ("three-levels", SDXL, 4, [4, 4], 11), ("two-levels", FLUX, 8, [16, 2], 9)];

fn case(name: &str, scaling: LatentScaling, groups: usize) -> (Arc<Golden>, AutoencoderKl) {
    let file = Safetensors::open(&path("golden/vae").join(format!("{name}.safetensors"))).unwrap();
    let source = LdmNames::over(file);
    let config = VaeConfig { norm_num_groups: Some(groups), ..VaeConfig::default() };
    let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
    let vae = AutoencoderKl::load_both(&weights, &config, scaling).unwrap();
    (Arc::new(Golden::open(&format!("vae/{name}.expected.safetensors"))), vae)
}

fn stored(golden: &Golden, name: &str) -> Tensor<4> {
    tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
}

fn assert_tensor(golden: &Golden, name: &str, found: &Tensor<4>) {
    assert_eq!(found.dims().to_vec(), golden.shape(name), "{name}");
    golden.assert_stage(name, &values(found));
}

#[test]
fn every_layer_of_both_halves_is_that_of_diffusers() {
    for (name, scaling, groups, [channels, factor], layers) in CASES {
        // given an autoencoder and a picture
        let (golden, vae) = case(name, scaling, groups);
        assert_eq!((vae.channels(), vae.factor()), (channels, factor), "{name}");
        let (reference, seen) = (golden.clone(), Arc::new(AtomicUsize::new(0)));
        let count = seen.clone();
        let look = move |at: Site, x: &Tensor<3>| {
            reference.assert_stage(&format!("{}.{at}", at.network), &values(x));
            count.fetch_add(1, Ordering::Relaxed);
        };
        let inside = Inside::default().with(Arc::new(Look(look)));
        // when it is encoded
        let pixels = stored(&golden, "pixels");
        let posterior = vae.posterior(pixels, &inside).unwrap();
        // then the distribution is that of the reference, and so are the latents picked from it
        assert_tensor(&golden, "mean", posterior.mean());
        assert_tensor(&golden, "log_variance", posterior.log_variance());
        assert_tensor(&golden, "mode", &posterior.mode());
        let latent = posterior.sample(stored(&golden, "noise"));
        assert_tensor(&golden, "latent", &latent);
        // and what is decoded from the reference's
        let latent = stored(&golden, "latent");
        let decoded = vae.decode(latent, &inside).unwrap();
        assert_tensor(&golden, "decoder.out", &decoded);
        assert_eq!(seen.load(Ordering::Relaxed), layers, "{name}");
    }
}

#[test]
fn the_encoder_of_a_file_in_the_original_layout_is_that_of_diffusers() {
    let file = Safetensors::open(&path("golden/tiny-dev/ae.safetensors")).unwrap();
    let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked);
    let vae = AutoencoderKl::load_both(&weights, &VaeConfig::default(), FLUX).unwrap();
    let golden = Golden::open("vae/tiny-dev.expected.safetensors");
    let posterior = vae.posterior(stored(&golden, "pixels"), &Inside::default()).unwrap();
    assert_tensor(&golden, "mean", posterior.mean());
    assert_tensor(&golden, "log_variance", posterior.log_variance());
}

#[test]
fn a_batch_is_encoded_as_its_pictures_are_alone() {
    let (name, scaling, groups, ..) = CASES[0];
    let (golden, vae) = case(name, scaling, groups);
    let one = stored(&golden, "pixels");
    let other = one.clone().flip([3]);
    let alone = [&one, &other]
        .map(|pixels| values(&vae.posterior(pixels.clone(), &Inside::default()).unwrap().mode()))
        .concat();
    assert_eq!(values(&vae.posterior(Tensor::cat(vec![one, other], 0), &Inside::default()).unwrap().mode()), alone);
}

#[test]
fn a_model_gets_the_mean_of_a_picture_or_what_noise_picks_around_it() {
    let (name, scaling, groups, [channels, factor], _) = CASES[0];
    let (golden, vae) = case(name, scaling, groups);
    let (pixels, noise) = (stored(&golden, "pixels"), stored(&golden, "noise"));
    let encode = |pixels: &Tensor<4>, noise: Option<&Tensor<4>>| {
        Autoencoder::encode(&vae, pixels.clone(), noise.cloned(), &Inside::default())
    };
    assert_tensor(&golden, "mode", &encode(&pixels, None).unwrap());
    assert_tensor(&golden, "latent", &encode(&pixels, Some(&noise)).unwrap());
    // and each picture of a batch its own
    let twice = |x: &Tensor<4>| Tensor::cat(vec![x.clone(), x.clone().flip([3])], 0);
    let both = values(&encode(&twice(&pixels), Some(&twice(&noise))).unwrap());
    assert_eq!(both[..both.len() / 2], values(&encode(&pixels, Some(&noise)).unwrap()));
    assert_eq!(both[both.len() / 2..], values(&encode(&pixels.flip([3]), Some(&noise.flip([3]))).unwrap()));
    // and what does not fit is refused
    for (height, width) in [(factor, factor + 1), (factor - 1, factor), (0, factor)] {
        let pixels = Tensor::zeros([1, 3, height, width], &Device::flex());
        assert!(matches!(encode(&pixels, None), Err(Error::Request { .. })), "{height} {width}");
    }
    let pixels = Tensor::zeros([1, 3, factor, factor], &Device::flex());
    let noise = Tensor::zeros([1, channels, 2, 1], &Device::flex());
    assert!(matches!(encode(&pixels, Some(&noise)), Err(Error::Request { .. })));
}

#[test]
fn without_its_encoder_an_autoencoder_decodes_and_does_not_encode() {
    let file = Safetensors::open(&path("golden/tiny-dev/ae.safetensors")).unwrap();
    let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked);
    let vae = AutoencoderKl::load(&weights, &VaeConfig::default(), FLUX).unwrap();
    let encoded = vae.posterior(Tensor::zeros([1, 3, 16, 16], &Device::flex()), &Inside::default());
    assert!(matches!(encoded, Err(Error::NoEncoder)));
    let decoded = vae.decode(Tensor::zeros([1, 16, 2, 2], &Device::flex()), &Inside::default()).unwrap();
    assert_eq!(decoded.dims(), [1, 3, 16, 16]);
}

#[test]
fn a_config_says_how_latents_are_scaled_and_the_family_where_it_does_not() {
    let file = Safetensors::open(&path("golden/tiny-dev/ae.safetensors")).unwrap();
    let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked);
    let latent = || tensor((0..64).map(|i| (i as f32 * 0.7).sin()).collect(), [1, 16, 2, 2], &Device::flex());
    let decoded = |config: &VaeConfig, family| {
        let vae = AutoencoderKl::load(&weights, config, family).unwrap();
        values(&vae.decode(latent(), &Inside::default()).unwrap())
    };
    let silent = VaeConfig::default();
    let (scale, shift) = (VaeConfig { scaling_factor: Some(0.3611), ..silent.clone() }, 0.1159);
    let both = VaeConfig { shift_factor: Some(shift), ..scale.clone() };
    let expected = decoded(&silent, FLUX);
    assert!(decoded(&silent, SD1) != expected);
    assert!(decoded(&both, SD1) == expected);
    assert!(decoded(&scale, LatentScaling { shift, ..SD1 }) == expected);
    // A family's number is checked as a config's is.
    for family in [LatentScaling { scale: 0.0, ..FLUX }, LatentScaling { shift: f64::NAN, ..FLUX }] {
        assert!(matches!(AutoencoderKl::load(&weights, &silent, family), Err(Error::Model { .. })));
    }
}
