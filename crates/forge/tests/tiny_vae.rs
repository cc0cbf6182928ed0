//! A tiny autoencoder in the place of a model's own.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use forge::{
    ComputeChoice, Config, Error, Event, Fault, Forge, Image, Job,
    core_tensor::{Device, Residency, WeightSource, Weights, safetensors::Safetensors},
    diffusion_engine::{self, FromPictures, Origin, Pass, Raster, Size, TinyDimensions},
};

fn file(name: &str) -> PathBuf {
    fixtures::path(&format!("golden/tiny-vae/{name}.safetensors"))
}

/// A golden case in few steps, with a tiny autoencoder by which its previews are decoded too.
fn with(case: &str, vae: &Path) -> Config {
    let mut config = Config::read(&fixtures::path(&format!("golden/{case}/case.toml"))).unwrap();
    (config.device.compute, config.sampling.steps) = (ComputeChoice::F32, 3);
    (config.image.width, config.image.height, config.image.batch) = (64, 96, 1);
    config.model.vae = Some(vae.to_owned());
    config
}

/// A job that goes on from a picture.
fn from_picture(config: &Config) -> Job {
    let (width, height) = (64, 96);
    let pixels = (0..width * height).map(|i| [(i % width * 4) as u8, (i / width * 2) as u8, 90]).collect();
    let raster = Raster::new(Size { width, height }, pixels).unwrap();
    let from = FromPictures { strength: 0.6, ..FromPictures::of(raster) };
    let start = |pass: &mut Pass| pass.start = Origin::Pictures(Arc::new(from));
    Job::of(config.request(|| 0).unwrap().with(start)).unwrap()
}

fn drawn(config: &Config, job: Job) -> Image {
    let mut run = Forge::load(config).unwrap().start(job).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run.image().unwrap()
}

fn job(config: &Config) -> Job {
    Job::of(config.request(|| 0).unwrap()).unwrap()
}

/// Whether an error is about the missing encoder of a file.
fn is_without_encoder(error: &Error) -> bool {
    use diffusion_engine::Error::{InPart, NoEncoder};
    match error {
        Error::Run(NoEncoder) => true,
        Error::Run(InPart { source, .. }) => matches!(**source, NoEncoder),
        Error::Load { source, .. } => is_without_encoder(source),
        _ => false,
    }
}

/// A folder with a copy of a decoder's file alone.
fn alone(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taesd_decoder.safetensors");
    fs::copy(file(name), &path).unwrap();
    (folder, path)
}

#[test]
fn the_picture_is_what_the_preview_decoder_makes_of_the_last_latent() {
    for (case, whole) in [("sd-1", "four-levels"), ("sd-xl", "four-levels"), ("tiny-schnell", "sixteen-channels")] {
        let (_folder, decoder) = alone(&format!("{whole}.decoder"));
        let mut config = with(case, &decoder);
        config.preview.decoder = Some(file(whole));
        let mut run = Forge::load(&config).unwrap().start(job(&config)).unwrap();
        let preview = run.preview();
        let mut last = None;
        for event in run.by_ref() {
            if let Event::Step(_) = event.unwrap() {
                last = preview.image().unwrap();
            }
        }
        let image = run.image().unwrap();
        assert_eq!((image.width, image.height), (64, 96), "{case}");
        assert!(image.pixels.iter().any(|pixel| *pixel != image.pixels[0]), "{case}");
        assert_eq!(image.pixels, last.unwrap().pixels, "{case}");
        assert!(image.infotext.contains("VAE: taesd_decoder"), "{}", image.infotext);
        // Under diffusers' names and with an encoder it is the same.
        assert_eq!(drawn(&with(case, &file(whole)), job(&config)).pixels, image.pixels, "{case}");
    }
}

#[test]
fn a_picture_to_start_from_is_encoded_by_the_same_file_or_by_the_encoder_beside_it() {
    for (case, whole) in [("sd-1", "four-levels"), ("tiny-schnell", "sixteen-channels")] {
        let config = with(case, &file(whole));
        let expected = drawn(&config, from_picture(&config));
        // The golden files' names differ in that word.
        let pair = with(case, &file(&format!("{whole}.decoder")));
        assert_eq!(drawn(&pair, from_picture(&pair)).pixels, expected.pixels, "{case}");
        assert_ne!(expected.pixels, drawn(&config, job(&config)).pixels, "{case}");
    }
}

#[test]
fn without_an_encoder_pictures_are_drawn_from_noise_alone() {
    let (_folder, decoder) = alone("four-levels.decoder");
    let config = with("sd-1", &decoder);
    let forge = Forge::load(&config).unwrap();
    let refused = forge.start(from_picture(&config)).err().unwrap();
    assert!(is_without_encoder(&refused), "{refused:?}");
    assert!(forge.start(job(&config)).is_ok());
    // A model for inpainting is shown a picture always.
    let refused = Forge::load(&with("sd-inpainting", &decoder)).err().unwrap();
    assert!(is_without_encoder(&refused), "{refused:?}");
}

#[test]
fn another_familys_and_halves_that_are_no_whole_are_refused_by_name() {
    let four = "a tiny autoencoder whose latents have 4 channels (TAESD, TAESDXL)";
    let sixteen = "a tiny autoencoder whose latents have 16 channels (TAEF1)";
    let half = "the encoder half of a tiny autoencoder";
    let (needs_four, needs_sixteen) =
        ("an autoencoder whose latents have 4 channels", "an autoencoder whose latents have 16 channels");
    for (case, vae, found, expected) in [
        ("sd-1", "sixteen-channels", sixteen, needs_four),
        ("sd-1", "sixteen-channels.decoder", sixteen, needs_four),
        ("tiny-schnell", "four-levels", four, needs_sixteen),
        ("tiny-schnell", "four-levels.decoder", four, needs_sixteen),
        ("sd-1", "four-levels.encoder", half, needs_four),
    ] {
        let refused = Forge::load(&with(case, &file(vae))).err().unwrap();
        let Error::Load { path, source } = &refused else { panic!("{refused}") };
        let told = source.to_string();
        assert!(*path == file(vae) && told.contains(found) && told.contains(expected), "{case} {vae}: {told}");
        assert_eq!(refused.fault(), Fault::Model);
    }
    // What lies beside a decoder as its encoder is one, and of the same latents.
    for (beside, words) in [("sixteen-channels.encoder", "channels"), ("four-levels.decoder", "the encoder of")] {
        let (folder, decoder) = alone("four-levels.decoder");
        let path = folder.path().join("taesd_encoder.safetensors");
        fs::copy(file(beside), &path).unwrap();
        let refused = Forge::load(&with("sd-1", &decoder)).err().unwrap();
        let Error::Load { path: told, source } = &refused else { panic!("{refused}") };
        assert!(*told == path && source.to_string().contains(words), "{refused} {source}");
    }
}

#[test]
fn the_plan_counts_its_weights_and_its_maps() {
    let weights = Safetensors::open(&file("four-levels")).unwrap();
    let vae = TinyDimensions::of(&Weights::of(&weights, &Device::flex(), Residency::Unpacked)).unwrap();
    for (name, is_pair) in [("four-levels", true), ("four-levels.decoder", true), ("alone", false)] {
        let (_folder, lone) = alone("four-levels.decoder");
        let config = with("sd-1", &if is_pair { file(name) } else { lone });
        let plan = Forge::load(&config).unwrap().plan(&job(&config)).unwrap();
        let part = plan.parts.iter().find(|(part, _)| part.name == "vae").unwrap();
        let numbers = |half: &str| -> u64 {
            let file = Safetensors::open(&file(&format!("four-levels.{half}"))).unwrap();
            file.manifest().iter().map(|(_, form)| form.shape.iter().product::<usize>() as u64).sum()
        };
        let expected = 4 * (numbers("decoder") + if is_pair { numbers("encoder") } else { 0 });
        assert!(part.0.unpacked.0 >= expected && part.0.unpacked.0 < 2 * expected, "{name}: {:?} {expected}", part.0);
        let decode = plan.stages.iter().find(|stage| stage.name == "decode").unwrap();
        let maps = vae.decoding_bytes([12, 8]);
        assert!(decode.holds.iter().any(|held| held.bytes.0 == maps), "{:?} {maps}", decode.holds);
    }
    let config = with("sd-1", &file("four-levels"));
    let plan = Forge::load(&config).unwrap().plan(&from_picture(&config)).unwrap();
    let pictures = plan.stages.iter().find(|stage| stage.name == "pictures").unwrap();
    let maps = vae.encoding_bytes([12, 8]);
    assert!(maps > 0 && pictures.holds.iter().any(|held| held.bytes.0 == maps), "{:?} {maps}", pictures.holds);
}
