//! A second pass whose start an upscaler's file makes: the same as making the first pass's picture larger and drawing from that.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{path::PathBuf, sync::Arc};

use forge::{
    ComputeChoice, Config, Error, Fault, Forge, HiresUpscaler, Job, Run,
    core_tensor::{Compute, Device, pickle::TorchFile, tensor, values},
    diffusion_engine::{FromPictures, Inside, Origin, Pass, Raster, Size},
    memory::Bytes,
    upscale::{Outline, Tiles, Upscaler},
};

fn file(name: &str) -> PathBuf {
    fixtures::path(&format!("golden/upscale/{name}"))
}

/// sd-1 in miniature in few steps.
fn plain() -> Config {
    let mut config = Config::read(&fixtures::path("golden/sd-1/case.toml")).unwrap();
    (config.device.compute, config.sampling.steps) = (ComputeChoice::F32, 3);
    config
}

/// The same with a second pass twice as large.
fn twice(upscaler: PathBuf) -> Config {
    let mut config = plain();
    (config.hires.scale, config.hires.strength) = (Some(2.0), 0.6);
    config.hires.upscaler = HiresUpscaler::File(upscaler);
    config
}

fn job(config: &Config) -> Job {
    config.job_of(config.request(|| 0).unwrap()).unwrap()
}

fn finished(config: &Config, job: Job) -> Run {
    let mut run = Forge::load(config).unwrap().start(job).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    run
}

#[test]
fn it_is_the_first_passes_picture_made_larger_and_drawn_from() {
    let config = twice(file("compact-x2.pth"));
    let image = finished(&config, job(&config)).image().unwrap();
    assert_eq!((image.width, image.height), (128, 192));
    assert!(image.infotext.contains("Hires upscaler: compact-x2"), "{}", image.infotext);

    // The first pass alone, in bytes that are cut off as A1111 does.
    let first = plain();
    let pixels = finished(&first, job(&first)).pixels().unwrap();
    let bytes = values(&pixels).into_iter().map(|value| ((value + 1.0) / 2.0 * 255.0) as u8);
    let picture = tensor(bytes.map(|byte| f32::from(byte) / 255.0).collect(), [1, 3, 96, 64], &Device::flex());
    let weights = TorchFile::open(&file("compact-x2.pth")).unwrap();
    let upscaler = Upscaler::load(&weights, &Device::flex(), Compute::F32).unwrap();
    let larger = upscaler.upscale(picture, &Tiles::whole([96, 64]), &Inside::default(), &|| {}).unwrap();
    let larger = values(&larger.swap_dims(1, 2).swap_dims(2, 3)); // 1 h w c
    let bytes: Vec<u8> = larger.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let raster = Raster::new(Size { width: 128, height: 192 }, bytes.as_chunks().0.to_vec()).unwrap();

    let from = FromPictures { strength: 0.6, exact_steps: true, ..FromPictures::of(raster) };
    let request = first.request(|| 0).unwrap().with(|pass: &mut Pass| {
        pass.size = Size { width: 128, height: 192 };
        pass.start = Origin::Pictures(Arc::new(from));
    });
    let drawn = finished(&first, Job::of(request).unwrap()).image().unwrap();
    assert_eq!(image.pixels, drawn.pixels);
}

#[test]
fn the_plan_counts_its_weights_and_its_tiles_whichever_model_draws() {
    for checkpoint in [None, Some(fixtures::path("golden/sd-2/model.safetensors"))] {
        let mut config = twice(file("esrgan-x4.safetensors"));
        config.hires.checkpoint = checkpoint;
        config.device.memory = Some(Bytes(4 << 30));
        let plan = Forge::load(&config).unwrap().plan(&job(&config)).unwrap();
        let weights = forge::core_tensor::safetensors::Safetensors::open(&file("esrgan-x4.safetensors")).unwrap();
        let outline = Outline::of(&weights, &Device::flex(), Compute::F32).unwrap();
        let held: Vec<_> = plan.parts.iter().filter(|(part, _)| part.name == "upscaler").collect();
        assert_eq!(held.len(), 1, "it is loaded once, whatever models there are");
        assert_eq!(held[0].0.mapped, Bytes(outline.bytes()));
        let enlarge = plan.stages.iter().find(|stage| stage.name == "enlarge").unwrap();
        let tiles = Tiles::whole([96, 64]).bytes(outline.cost());
        assert!(enlarge.holds.iter().any(|held| held.bytes.0 >= tiles), "{:?} {tiles}", enlarge.holds);
        // Without it there is neither.
        config.hires.upscaler = HiresUpscaler::default();
        let plan = Forge::load(&config).unwrap().plan(&job(&config)).unwrap();
        assert!(plan.parts.iter().all(|(part, _)| part.name != "upscaler"));
    }
}

#[test]
fn between_two_passes_the_plan_counts_decoding_the_first_ones_picture_and_encoding_the_second_ones() {
    // given a second pass of twice the sides, from pixels
    let config = twice(file("esrgan-x4.safetensors"));
    let plan = Forge::load(&config).unwrap().plan(&job(&config)).unwrap();
    let maps = |stage: &str, of: &str| {
        let held = plan.stages.iter().filter(|of| of.name == stage).flat_map(|stage| &stage.holds);
        held.filter(|held| held.name == of).map(|held| held.bytes.0).max().unwrap()
    };
    // then what is decoded has a quarter of the pixels, and encoding takes no more than decoding would
    let decoding = maps("decode", "the decoder's maps");
    assert_eq!(maps("enlarge", "the decoder's maps") * 4, decoding);
    let encoding = maps("enlarge", "its maps");
    assert!(encoding > decoding / 4 && encoding <= decoding, "{encoding} {decoding}");
}

#[test]
fn what_is_no_upscaler_is_told_before_a_model_is_opened() {
    for (path, fault) in [
        (fixtures::path("golden/sd-1/model.safetensors"), Fault::Model),
        (file("none.pth"), Fault::Model),
        (fixtures::path("golden/sd-1/case.toml"), Fault::Model),
    ] {
        let refused = twice(path.clone()).request(|| 0).err().unwrap();
        assert!(matches!(&refused, Error::Load { path: told, .. } if *told == path), "{refused}");
        assert_eq!(refused.fault(), fault, "{refused}");
    }
}

#[test]
fn a_network_that_makes_nothing_larger_is_asked_once_and_lanczos_does_the_rest() {
    let config = twice(file("compact-x1.safetensors"));
    let image = finished(&config, job(&config)).image().unwrap();
    assert_eq!((image.width, image.height), (128, 192));
}
