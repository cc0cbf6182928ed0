//! What a run is given, and what of it has no room at once, is in its plan too.

mod held;
mod tiny;

use std::sync::{Arc, PoisonError};

use forge::{
    ComputeChoice, Config, Forge, HiresConfig, HiresUpscaler, Job, Seed, Txt2Img,
    diffusion_engine::{Area, Fill, Filter, FromPictures, Inpaint, Origin, Pass, Raster, Resize, Size, Upscaler},
    memory::{Bytes, Plan},
};

use crate::{
    held::{ALONE, ENOUGH, Row, drawn, from_picture, keep_to_their_plans, least, of, sd},
    tiny::{Tensors, Tiny},
};

#[test]
fn pictures_in_tiles_keep_to_their_plan() {
    let demo = |side| of(&Config::read(&fixtures::path("../flux.toml")).unwrap(), [side, 1, 24], ComputeChoice::F32);
    let mut hires = sd("sd-1", 384);
    let upscaler = HiresUpscaler::Plain(Upscaler::Picture(Filter::Lanczos));
    hires.hires = HiresConfig { scale: Some(1.25), steps: Some(1), upscaler, ..hires.hires };
    let rows: [Row; 3] = [
        ("Flux in tiles", demo(384), drawn),
        ("a picture encoded in tiles", demo(384), from_picture),
        ("pixels between two passes in tiles", hires, drawn),
    ];
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, config, job) in &rows {
        // given less than decoding at once takes
        let ample = Forge::load(config).unwrap().plan(&job(config)).unwrap();
        assert!(tiles(&ample) == 1, "{name}");
        let mut tight = config.clone();
        let needed = least(config, job);
        tight.device.memory = Some(needed);
        // then what the smallest tiles take is what would do
        let planned = Forge::load(&tight).unwrap().plan(&job(&tight)).unwrap();
        assert!(tiles(&planned) > 1 && planned.total() <= needed, "{name}: {} tiles", tiles(&planned));
    }
    drop(alone);
    keep_to_their_plans(rows);
}

/// A job that begins with a grey picture of its own size.
fn given(config: &Config, [width, height]: [usize; 2], change: impl FnOnce(&mut FromPictures)) -> Job {
    let size = Size { width, height };
    let grey = Raster::new(size, vec![[128; 3]; width * height]).expect("as many pixels as the size has");
    let mut from = FromPictures::of(grey);
    change(&mut from);
    let request: Txt2Img = config.request(|| 7).expect(ENOUGH);
    Job::of(request.with(|pass: &mut Pass| pass.start = Origin::Pictures(Arc::new(from)))).expect(ENOUGH)
}

/// A mask over the middle of a picture.
fn masked([width, height]: [usize; 2], area: Area) -> Inpaint {
    let is_within = |at: usize, side: usize| (side / 4..side / 2).contains(&at);
    let pixel =
        |i: usize| if is_within(i % width, width) && is_within(i / width, height) { [255; 4] } else { [0, 0, 0, 255] };
    let mask = Raster::new(Size { width, height }, (0..width * height).map(pixel).collect()).expect("as many pixels");
    let (mask, fill, soft) = (Arc::new(mask), Fill::Fill, None);
    Inpaint { mask, blur: 4.0, round: false, invert: true, fill, area, hidden: 1.0, soft }
}

#[test]
fn pictures_that_are_given_keep_to_their_plan_whatever_their_size() {
    const LARGE: [usize; 2] = [2400, 1800];
    let [mut several, mut noise] = [sd("sd-1", 64), sd("sd-1", 64)];
    several.image.batch = 3;
    (noise.sampling.seed_resize_width, noise.sampling.seed_resize_height) = (Some(Size::MAX), Some(Size::MAX));
    (noise.sampling.variation_seed, noise.sampling.variation_strength) = (Seed::Fixed(3), 0.5);
    keep_to_their_plans([
        ("a picture in its own size", sd("sd-1", 64), |config| {
            given(config, [640, 512], |from| from.resize = Resize::Latent)
        }),
        ("a large picture", sd("sd-1", 64), |config| given(config, LARGE, |from| from.resize = Resize::Crop)),
        ("a part of a large picture", sd("sd-1", 64), |config| {
            given(config, LARGE, |from| from.inpaint = Some(masked(LARGE, Area::Masked { padding: 32 })))
        }),
        ("a part of several", several, |config| {
            given(config, LARGE, |from| from.inpaint = Some(masked(LARGE, Area::Masked { padding: 32 })))
        }),
        ("a large mask", sd("sd-1", 64), |config| {
            given(config, [64, 64], |from| from.inpaint = Some(masked(LARGE, Area::Whole)))
        }),
        ("noise of another size", noise, drawn),
    ]);
}

#[test]
fn textual_inversions_are_in_the_plan() {
    // given twelve million numbers
    let tiny = Tiny::of("tiny-dev");
    let words = Tensors(vec![]).zeros("emb_params", "F32", &[12_000_000 / 32, 32]);
    tiny.write("words/large.safetensors", words.bytes());
    let mut config = sd("sd-1", 64);
    config.prompt.embeddings = Some(tiny.path("words"));
    let plan = Forge::load(&config).unwrap().plan(&drawn(&config)).unwrap();
    assert!(plan.parts.iter().any(|(part, _)| part.name == "embeddings" && part.unpacked == Bytes(48_000_000)));
    keep_to_their_plans([("textual inversions", config, drawn)]);
}

#[test]
fn maps_that_are_packed_are_in_the_plan() {
    if !kernels::Isa::best().has_bf16() {
        return;
    }
    let tiny_vae = |side| {
        let mut config = sd("sd-1", side);
        config.device.compute = ComputeChoice::Bf16;
        config.model.vae = Some(fixtures::path("golden/tiny-vae/four-levels.safetensors"));
        config
    };
    let enlarged = |file: &str| {
        let mut config = tiny_vae(128);
        let path = fixtures::path(&format!("golden/upscale/{file}"));
        let upscaler = HiresUpscaler::File(path);
        config.hires = HiresConfig { scale: Some(2.0), steps: Some(1), upscaler, ..config.hires };
        config
    };
    keep_to_their_plans([
        ("a tiny decoder", tiny_vae(768), drawn),
        ("a tiny encoder", tiny_vae(768), from_picture),
        ("ESRGAN between two passes", enlarged("esrgan-x4.safetensors"), drawn),
        ("a compact network between two passes", enlarged("compact-x4.pth"), drawn),
        ("SwinIR between two passes", enlarged("swinir-x4.pth"), drawn),
    ]);
}

/// In how many tiles a plan has pictures decoded.
fn tiles(plan: &Plan) -> usize {
    let decode = plan.stages.iter().filter(|stage| stage.name == "decode");
    decode.flat_map(|stage| &stage.holds).find_map(|held| held.tiles).expect("decoding has tiles")
}
