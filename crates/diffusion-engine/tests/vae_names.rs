//! One autoencoder under all names that its files have.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{
    Device, Error as WeightError, Manifest, Residency, Stored, Tensor, WeightSource, Weights, safetensors::Safetensors,
    tensor, values,
};
use diffusion_engine::{Autoencoder, AutoencoderKl, Inside, LatentScaling, LdmNames, VaeConfig, VaeDimensions};
use fixtures::{Golden, Listed, path};

/// A file's tensors under other names, and in other shapes.
struct Renamed<S> {
    source: S,
    tensors: Vec<(String, String, Vec<usize>)>,
    manifest: Manifest,
}

impl<S: WeightSource> Renamed<S> {
    fn of(source: S, form: impl Fn(&str, Vec<usize>) -> (String, Vec<usize>)) -> Self {
        let renamed = source.manifest().iter().map(|(name, stored)| {
            let (new, shape) = form(name, stored.shape.to_vec());
            ((new, name.to_owned(), shape), stored.format)
        });
        let renamed: Vec<_> = renamed.collect();
        let manifest = renamed.iter().map(|((new, _, shape), format)| (new.clone(), *format, shape.clone())).collect();
        Self { tensors: renamed.into_iter().map(|(tensor, _)| tensor).collect(), manifest, source }
    }
}

impl<S: WeightSource> WeightSource for Renamed<S> {
    fn label(&self) -> &str {
        "a file under other names"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, WeightError> {
        let missing = || WeightError::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let (_, old, shape) = self.tensors.iter().find(|(new, ..)| new == name).ok_or_else(missing)?;
        Ok(self.source.read(old)?.reshape(shape.clone()))
    }
}

fn diffusers() -> Safetensors {
    Safetensors::open(&path("golden/vae/four-levels.safetensors")).unwrap()
}

/// Both ways of the attention's weights: as a matrix, and as a convolution.
fn attention(name: &str, shape: Vec<usize>, as_matrix: bool) -> Vec<usize> {
    let attention = name.contains(".attn_1.") || name.contains(".attentions.");
    match (attention, &shape[..]) {
        (true, &[c, d, 1, 1]) if as_matrix => vec![c, d],
        (true, &[c, d]) if !as_matrix => vec![c, d, 1, 1],
        _ => shape,
    }
}

fn called(name: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

const OLD: [(&str, &str); 4] =
    [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
const ORIGINAL_TO_NEW: [(&str, &str); 4] = [
    ("attn_1.q.", "attn_1.to_q."),
    ("attn_1.k.", "attn_1.to_k."),
    ("attn_1.v.", "attn_1.to_v."),
    ("attn_1.proj_out.", "attn_1.to_out.0."),
];

/// What an autoencoder makes of a picture, and of the latent of one.
fn both_ways(source: &dyn WeightSource) -> [Vec<f32>; 2] {
    let golden = Golden::open("vae/four-levels.expected.safetensors");
    let stored = |name: &str| -> Tensor<4> {
        tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
    };
    let config = VaeConfig { norm_num_groups: Some(4), ..VaeConfig::default() };
    let weights = Weights::of(source, &Device::flex(), Residency::Unpacked);
    let vae = AutoencoderKl::load_both(&weights, &config, LatentScaling { scale: 0.18215, shift: 0.0 }).unwrap();
    let mean = values(vae.posterior(stored("pixels"), &Inside::default()).unwrap().mean());
    golden.assert_stage("mean", &mean);
    let decoded = values(&vae.decode(stored("latent"), &Inside::default()).unwrap());
    golden.assert_stage("decoder.out", &decoded);
    [mean, decoded]
}

#[test]
fn every_name_and_shape_of_the_attention_is_the_same_autoencoder() {
    let expected = both_ways(&LdmNames::over(diffusers()));
    for as_matrix in [true, false] {
        for old in [true, false] {
            let names: &[(&str, &str)] = if old { &OLD } else { &[] };
            // in diffusers' layout
            let file = Renamed::of(diffusers(), |name, shape| (called(name, names), attention(name, shape, as_matrix)));
            assert_eq!(both_ways(&LdmNames::over(file)), expected, "diffusers, {as_matrix} {old}");
            // and in the original one, with the attention as converters have left it
            let names = [&ORIGINAL_TO_NEW[..], names].concat();
            let original = || LdmNames::over(diffusers());
            let file = Renamed::of(original(), |name, shape| (called(name, &names), attention(name, shape, as_matrix)));
            assert_eq!(both_ways(&LdmNames::over(file)), expected, "original, {as_matrix} {old}");
        }
        // and with its own names, behind a single file's prefix
        let file = Renamed::of(LdmNames::over(diffusers()), |name, shape| {
            (format!("first_stage_model.{name}"), attention(name, shape, as_matrix))
        });
        assert_eq!(both_ways(&LdmNames::under("first_stage_model.", file)), expected, "single file, {as_matrix}");
    }
}

#[test]
fn autoencoders_of_published_files_are_the_same_under_our_names() {
    let forms = |source: &dyn WeightSource, prefix: &str| -> Vec<(String, Vec<usize>)> {
        source.manifest().under(prefix).map(|(name, form)| (name.to_owned(), form.shape.to_vec())).collect()
    };
    for (single, folder) in [
        ("sd15.ldm", "sd15.diffusers-vae"),
        ("sd21.ldm", "sd21.diffusers-vae"),
        ("sdxl-base.ldm", "sdxl-base.diffusers-vae"),
        ("sdxl-refiner.ldm", "sdxl-refiner.diffusers-vae"),
    ] {
        let prefix = "first_stage_model.";
        let single = LdmNames::under(prefix, Listed::open(single));
        let folder = LdmNames::over(Listed::open(folder));
        assert_eq!(forms(&single, prefix), forms(&folder, ""));
        let w = Weights::of(&single, &Device::flex(), Residency::Mapped);
        let dimensions = VaeDimensions::of_both(&w, 32).unwrap();
        let laid_out = w.before(AutoencoderKl::MARK).laid_out(dimensions.layout());
        assert_eq!((laid_out.faults().count(), dimensions.layout().needs().len()), (0, single.manifest().len()));
        assert_eq!((dimensions.channels(), dimensions.factor()), (4, 8));
    }
}
