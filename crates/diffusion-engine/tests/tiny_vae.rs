//! Tiny autoencoders both ways against diffusers, under every name of theirs.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::{Path, PathBuf};

use core_tensor::{
    Device, Error as WeightError, Manifest, Residency, Stored, Tensor, WeightSource, Weights, safetensors::Safetensors,
    tensor, values,
};
use diffusion_engine::{Autoencoder, Error, Inside, TinyAutoencoder, TinyNames};
use fixtures::{Golden, deviation, path};

/// Largest difference of values, which are about -1 to 1 for pixels and -3 to 3 for latents.
const TINY: f64 = 1e-4;

fn load(source: &dyn WeightSource) -> Result<TinyAutoencoder, Error> {
    TinyAutoencoder::load(&Weights::of(source, &Device::flex(), Residency::Unpacked))
}

fn file(path: &Path) -> Safetensors {
    Safetensors::open(path).unwrap()
}

fn stored(golden: &Golden, name: &str) -> Tensor<4> {
    tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
}

fn assert_near(golden: &Golden, name: &str, found: Tensor<4>) {
    assert_eq!(found.dims().to_vec(), golden.shape(name), "{name}");
    let off = deviation(&values(&found), &golden.floats(name));
    assert!(off <= TINY, "{name} is {off:.2e} off");
}

/// Two files as one.
struct Both([Safetensors; 2], Manifest);

impl Both {
    /// Under what ComfyUI has before the names.
    fn of(decoder: Safetensors, encoder: Safetensors) -> Self {
        let named = |file: &Safetensors, before: &str| -> Vec<_> {
            let all = file.manifest().iter();
            all.map(|(name, form)| (format!("{before}{name}"), form.format, form.shape.to_vec())).collect()
        };
        let manifest = [named(&decoder, "taesd_decoder."), named(&encoder, "taesd_encoder.")].concat();
        Self([decoder, encoder], manifest.into_iter().collect())
    }
}

impl WeightSource for Both {
    fn label(&self) -> &str {
        "both"
    }

    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn read(&self, name: &str) -> Result<Stored, WeightError> {
        match name.strip_prefix("taesd_decoder.") {
            Some(name) => self.0[0].read(name),
            None => self.0[1].read(name.strip_prefix("taesd_encoder.").unwrap()),
        }
    }
}

#[test]
fn both_halves_are_those_of_diffusers_under_every_name() {
    for (name, channels, factor) in [("four-levels", 4, 8), ("sixteen-channels", 16, 4)] {
        let folder = path("golden/tiny-vae");
        let [whole, decoder, encoder] =
            ["", ".decoder", ".encoder"].map(|half| folder.join(format!("{name}{half}.safetensors")));
        let golden = Golden::open(&format!("tiny-vae/{name}.expected.safetensors"));
        let named = TinyNames::over(file(&whole));
        assert!(named.has_decoder());
        let both = TinyNames::over(Both::of(file(&decoder), file(&encoder)));
        for vae in [load(&file(&whole)).unwrap(), load(&named).unwrap(), load(&both).unwrap()] {
            let dimensions = vae.dimensions();
            assert_eq!((dimensions.channels(), dimensions.factor()), (channels, factor), "{name}");
            assert_near(&golden, "decoded", vae.decode(stored(&golden, "latent"), &Inside::default()).unwrap());
            assert_near(&golden, "encoded", vae.encode(stored(&golden, "pixels"), None, &Inside::default()).unwrap());
        }
        // A file of one half has nothing before its numbers.
        let vae = load(&TinyNames::over(file(&decoder))).unwrap();
        assert_near(&golden, "decoded", vae.decode(stored(&golden, "latent"), &Inside::default()).unwrap());
        let refused = vae.encode(stored(&golden, "pixels"), None, &Inside::default());
        assert!(matches!(refused, Err(Error::NoEncoder)));
        let half = TinyNames::over(file(&encoder));
        assert!(!half.has_decoder() && load(&half).is_err());
    }
}

#[test]
fn published_files_decode_and_encode_as_diffusers_does_with_them() {
    // Files that are not part of the project.
    let Some(folder) = std::env::var_os("FORGE_EXTRA_FIXTURES").map(PathBuf::from) else { return };
    for (name, channels) in [("taesd", 4), ("taesdxl", 4), ("taef1", 16)] {
        let at = |half: &str| folder.join("tiny-vae").join(format!("{name}{half}.safetensors"));
        let golden = Golden::open(at(".expected").to_str().unwrap());
        let vae = load(&TinyNames::over(Both::of(file(&at("_decoder")), file(&at("_encoder"))))).unwrap();
        assert_eq!((vae.dimensions().channels(), vae.dimensions().factor()), (channels, 8), "{name}");
        assert_near(&golden, "decoded", vae.decode(stored(&golden, "latent"), &Inside::default()).unwrap());
        assert_near(&golden, "encoded", vae.encode(stored(&golden, "pixels"), None, &Inside::default()).unwrap());
    }
}

#[test]
fn sides_that_are_no_multiples_of_the_factor_and_layers_of_something_else_are_refused() {
    let vae = load(&file(&path("golden/tiny-vae/four-levels.safetensors"))).unwrap();
    let pixels = |height, width| Tensor::zeros([1, 3, height, width], &Device::flex());
    for (height, width) in [(12, 8), (8, 12), (8, 4)] {
        let refused = vae.encode(pixels(height, width), None, &Inside::default());
        assert!(matches!(refused, Err(Error::Request { .. })), "{height} {width}");
    }
    assert_eq!(vae.encode(pixels(8, 16), None, &Inside::default()).unwrap().dims(), [1, 4, 1, 2]);
    let other = file(&path("golden/upscale/compact-x3.safetensors"));
    assert!(matches!(load(&TinyNames::over(other)), Err(Error::Model { .. })));
}
