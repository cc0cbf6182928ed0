//! The autoencoder in tiles: against diffusers' own, and against the whole.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Residency, Tensor, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{Autoencoder, AutoencoderKl, Inside, LatentScaling, LdmNames, TileCost, TilePlan, VaeConfig};
use fixtures::{Golden, STAGE, deviation, path, psnr, std};

const FLUX: LatentScaling = LatentScaling { scale: 0.3611, shift: 0.1159 };

/// The least peak signal-to-noise ratio between a smooth picture's tiles and the whole, whose norms see all of it; tiles side by side,
/// without an overlap, reach 29 dB.
const TILES_DB: f64 = 32.0;

fn demo() -> AutoencoderKl {
    let file = Safetensors::open(&path("models/ae.safetensors")).unwrap();
    let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked);
    AutoencoderKl::load_both(&weights, &VaeConfig::default(), FLUX).unwrap()
}

fn stored(golden: &Golden, name: &str) -> Tensor<4> {
    tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
}

/// Colours that change slowly, as in a sky.
fn smooth(height: usize, width: usize) -> Tensor<4> {
    let value = |i: usize| {
        let (c, y, x) = (i / (height * width), i / width % height, i % width);
        let (y, x) = (y as f32 / height as f32, x as f32 / width as f32);
        0.8 * (2.0 * x + 1.5 * y + c as f32).sin()
    };
    tensor((0..3 * height * width).map(value).collect(), [1, 3, height, width], &Device::flex())
}

#[test]
fn tiles_are_those_of_diffusers_but_where_four_meet() {
    // given diffusers' tiles for a latent of 20 × 14: eight long, the last ones cut, two shared
    let golden = Golden::open("vae/two-levels.expected.safetensors");
    let file = Safetensors::open(&path("golden/vae/two-levels.safetensors")).unwrap();
    let source = LdmNames::over(file);
    let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
    let hints = VaeConfig { norm_num_groups: Some(8), ..VaeConfig::default() };
    let vae = AutoencoderKl::load_both(&weights, &hints, FLUX).unwrap();
    let (rows, columns) = (vec![0..8, 6..14, 12..20, 18..20], vec![0..8, 6..14, 12..14]);
    let plan = TilePlan::new(rows.clone(), columns.clone()).unwrap();
    // when a latent is decoded and a picture encoded in them
    let decoded = vae.decode_tiled(stored(&golden, "tiled.latent"), &plan, &Inside::default()).unwrap();
    let posterior = vae.posterior_tiled(stored(&golden, "tiled.pixels"), &plan, &Inside::default()).unwrap();
    // then all pixels agree but those that both a row's and a column's seam goes through, which diffusers blends unevenly
    for (name, found, factor, left_out) in [
        ("tiled.decoded", &decoded, 2, 12 * 8 * 3),
        ("tiled.mean", posterior.mean(), 1, 6 * 4 * 16),
        ("tiled.log_variance", posterior.log_variance(), 1, 6 * 4 * 16),
    ] {
        assert_eq!(found.dims().to_vec(), golden.shape(name));
        let [_, _, height, width] = found.dims();
        let is_shared = |ranges: &[std::ops::Range<usize>], at: usize| {
            ranges.windows(2).any(|pair| (pair[1].start..pair[0].end).contains(&(at / factor)))
        };
        let is_even = |i: &usize| !(is_shared(&rows, i / width % height) && is_shared(&columns, i % width));
        let (expected, found) = (golden.floats(name), values(found));
        let of = |all: &[f32]| (0..all.len()).filter(is_even).map(|i| all[i]).collect::<Vec<_>>();
        assert_eq!(of(&found).len(), found.len() - left_out, "{name}");
        let worst = deviation(&of(&found), &of(&expected)) / std(&expected);
        assert!(worst <= STAGE, "{name} is {worst:.2e} of its standard deviation off");
    }
}

#[test]
fn what_fits_in_one_tile_is_the_whole_in_every_bit() {
    let vae = demo();
    let pixels = smooth(72, 40);
    let whole = vae.posterior(pixels.clone(), &Inside::default()).unwrap();
    let plan = TilePlan::of([9, 5], u64::MAX, vae.encode_cost().unwrap());
    let tiled = vae.posterior_tiled(pixels, &plan, &Inside::default()).unwrap();
    assert!(values(tiled.mean()) == values(whole.mean()));
    assert!(values(tiled.log_variance()) == values(whole.log_variance()));
    let plan = TilePlan::of([9, 5], u64::MAX, vae.decode_cost());
    assert!(
        values(&vae.decode_tiled(whole.mode(), &plan, &Inside::default()).unwrap())
            == values(&vae.decode(whole.mode(), &Inside::default()).unwrap())
    );
}

#[test]
fn less_room_than_the_whole_takes_is_kept_by_tiles() {
    let vae = demo();
    let (pixels, inside) = (smooth(384, 256), |room| Inside::default().within(Some(room)));
    let half = |cost: TileCost| TilePlan::whole([48, 32]).bytes(cost) / 2;
    let (decoding, encoding) = (vae.decode_cost(), vae.encode_cost().unwrap());
    // given half the room for each, when pictures are encoded and decoded, then that is what the plan for it makes
    let plan = TilePlan::of([48, 32], half(encoding), encoding);
    let latent = vae.encode(pixels.clone(), None, &inside(half(encoding))).unwrap();
    let planned = vae.posterior_tiled(pixels.clone(), &plan, &Inside::default()).unwrap().mode();
    assert!(plan.count() > 1 && values(&latent) == values(&planned));
    assert!(values(&latent) != values(&vae.encode(pixels, None, &Inside::default()).unwrap()));
    let plan = TilePlan::of([48, 32], half(decoding), decoding);
    let decoded = vae.decode(latent.clone(), &inside(half(decoding))).unwrap();
    let planned = vae.decode_tiled(latent.clone(), &plan, &Inside::default()).unwrap();
    assert!(plan.count() > 1 && values(&decoded) == values(&planned));
    let maps = vae.dimensions().decoding([48, 32], Some(half(decoding)));
    assert_eq!((maps.bytes, maps.tiles), (plan.bytes(decoding), plan.count()));
    // as much room as it takes changes nothing
    let whole = vae.decode(latent.clone(), &Inside::default()).unwrap();
    assert!(values(&vae.decode(latent, &inside(2 * half(decoding) + 1)).unwrap()) == values(&whole));
}

#[test]
fn a_smooth_picture_in_tiles_is_nearly_the_whole() {
    // given the demo's autoencoder, and half the memory that a picture needs
    let vae = demo();
    let half = |cost: TileCost| TilePlan::of([48, 48], TilePlan::whole([48, 48]).bytes(cost) / 2, cost);
    let pixels = smooth(384, 384);
    // when it is encoded and decoded whole and in tiles
    let whole = vae.posterior(pixels.clone(), &Inside::default()).unwrap().mode();
    let plan = half(vae.encode_cost().unwrap());
    assert!(plan.count() > 1, "{plan:?}");
    let tiled = vae.posterior_tiled(pixels, &plan, &Inside::default()).unwrap().mode();
    let plan = half(vae.decode_cost());
    assert!(plan.count() > 1, "{plan:?}");
    let expected = values(&vae.decode(whole.clone(), &Inside::default()).unwrap());
    // then the picture is nearly the same either way
    for (what, picture) in [
        ("decoded", vae.decode_tiled(whole, &plan, &Inside::default()).unwrap()),
        ("encoded", vae.decode(tiled, &Inside::default()).unwrap()),
    ] {
        let db = psnr(&values(&picture), &expected);
        assert!(db >= TILES_DB, "{what} in tiles: {db} dB");
    }
}
