//! Upscalers of each kind, under each of their names, against spandrel; and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use core_tensor::{
    Compute, Device, Error as WeightError, Format, Manifest, Stored, Tensor, WeightSource, pickle::TorchFile,
    safetensors::Safetensors, tensor, values,
};
use diffusion_engine::{Cancel, Error as RunError, Inside, PixelUpscaler, Size};
use fixtures::{Golden, deviation, path};
use upscale::{Budgeted, Error, Upscaler};

/// Largest difference of a picture's values, which are about 0 to 1.
const PICTURE: f64 = 1e-4;

const CASES: [(&str, &str, usize, &str); 16] = [
    ("esrgan-x4", "safetensors", 4, "ESRGAN, 2 groups of 8 channels"),
    ("esrgan-x1", "pth", 1, "ESRGAN, 1 groups of 8 channels"),
    ("esrgan-plus-x2", "safetensors", 2, "ESRGAN+, 1 groups of 8 channels"),
    ("bsrgan-x8", "pth", 8, "ESRGAN, 1 groups of 8 channels"),
    ("real-esrgan-x4", "safetensors", 4, "ESRGAN, 1 groups of 8 channels"),
    ("real-esrgan-x2", "pth", 2, "ESRGAN, 1 groups of 8 channels"),
    ("real-esrgan-x1", "pth", 1, "ESRGAN, 1 groups of 8 channels"),
    ("compact-x4", "pth", 4, "Real-ESRGAN compact, 5 layers of 8 channels"),
    ("compact-x3", "safetensors", 3, "Real-ESRGAN compact, 3 layers of 8 channels"),
    ("compact-x2", "pth", 2, "Real-ESRGAN compact, 4 layers of 8 channels"),
    ("compact-x1", "safetensors", 1, "Real-ESRGAN compact, 4 layers of 8 channels"),
    ("swinir-x4", "pth", 4, "SwinIR, 2 groups of 8 channels"),
    ("swinir-x3", "pth", 3, "SwinIR, 2 groups of 8 channels"),
    ("swinir-x2", "safetensors", 2, "SwinIR, 2 groups of 8 channels"),
    ("swinir-light-x2", "safetensors", 2, "SwinIR, 2 groups of 8 channels"),
    ("swinir-jpeg-x1", "safetensors", 1, "SwinIR, 2 groups of 8 channels"),
];

fn load_in(path: &Path, compute: Compute) -> Result<Upscaler, Error> {
    match path.extension().unwrap().to_str().unwrap() {
        "pth" => Upscaler::load(&TorchFile::open(path).unwrap(), &Device::flex(), compute),
        _ => Upscaler::load(&Safetensors::open(path).unwrap(), &Device::flex(), compute),
    }
}

fn load(path: &Path) -> Result<Upscaler, Error> {
    load_in(path, Compute::F32)
}

fn stored(golden: &Golden, name: &str) -> Tensor<4> {
    tensor(golden.floats(name), golden.shape(name).try_into().unwrap(), &Device::flex())
}

/// How far an upscaler is off what is expected of it.
fn difference(upscaler: &Upscaler, golden: &Golden) -> f64 {
    let picture = stored(golden, "picture");
    let [_, _, height, width] = picture.dims();
    let tiles = upscaler.tiles([height, width], u64::MAX);
    let done = Cell::new(0);
    let further = || done.set(done.get() + 1);
    let larger = upscaler.upscale(picture, &tiles, &Inside::default(), &further).unwrap();
    assert_eq!((tiles.count(), done.get()), (1, upscaler.blocks(&tiles)));
    assert_eq!(larger.dims().to_vec(), golden.shape("larger"));
    deviation(&values(&larger), &golden.floats("larger"))
}

#[test]
fn every_kind_under_every_name_makes_the_picture_that_spandrel_makes() {
    for (name, ending, factor, about) in CASES {
        let upscaler = load(&path(&format!("golden/upscale/{name}.{ending}"))).unwrap();
        assert_eq!((upscaler.factor(), &*upscaler.about()), (factor, about), "{name}");
        let off = difference(&upscaler, &Golden::open(&format!("upscale/{name}.expected.safetensors")));
        assert!(off <= PICTURE, "{name} is {off:.2e} off");
    }
}

#[test]
fn products_of_bfloat16_make_nearly_the_same_picture() {
    for name in ["esrgan-x4.safetensors", "compact-x4.pth", "swinir-x4.pth", "swinir-light-x2.safetensors"] {
        let upscaler = load_in(&path(&format!("golden/upscale/{name}")), Compute::Bf16).unwrap();
        let (name, _) = name.split_once('.').unwrap();
        let off = difference(&upscaler, &Golden::open(&format!("upscale/{name}.expected.safetensors")));
        assert!(off <= 0.02, "{name} is {off:.2e} off");
    }
}

#[test]
fn published_files_make_the_picture_that_spandrel_makes() {
    // Files that are not part of the project.
    let Some(folder) = std::env::var_os("FORGE_EXTRA_FIXTURES").map(PathBuf::from) else { return };
    for (name, about) in [
        ("RealESRGAN_x4plus_anime_6B.fp16", "ESRGAN, 6 groups of 64 channels"),
        ("realesr-animevideov3-x4.fp16", "Real-ESRGAN compact, 18 layers of 64 channels"),
    ] {
        let file = folder.join("upscale").join(format!("{name}.safetensors"));
        let upscaler = load(&file).unwrap();
        assert_eq!(upscaler.about(), about);
        let golden = Golden::open(file.with_extension("expected.safetensors").to_str().unwrap());
        let off = difference(&upscaler, &golden);
        assert!(off <= PICTURE, "{name} is {off:.2e} off");
    }
}

/// A picture of large and small things.
fn picture([height, width]: [usize; 2]) -> Tensor<4> {
    let value = |i: usize| {
        let (c, y, x) = (i / height / width, i / width % height, i % width);
        let edge = if (x / 23 + y / 31).is_multiple_of(2) { 0.25 } else { 0.75 };
        edge + 0.2 * ((x * (c + 2) * 7 + y * 13) as f32 * 0.05).sin()
    };
    tensor((0..3 * height * width).map(value).collect(), [1, 3, height, width], &Device::flex())
}

#[test]
fn a_picture_in_tiles_has_no_seams() {
    let names =
        ["esrgan-x4.safetensors", "real-esrgan-x2.pth", "real-esrgan-x1.pth", "compact-x4.pth", "swinir-x4.pth"];
    for name in names {
        let upscaler = load(&path(&format!("golden/upscale/{name}"))).unwrap();
        let size = [260, 200];
        let upscaled = |budget| {
            let tiles = upscaler.tiles(size, budget);
            (tiles.count(), values(&upscaler.upscale(picture(size), &tiles, &Inside::default(), &|| {}).unwrap()))
        };
        let said = upscaler.tiles(size, u64::MAX).bytes(upscaler.cost());
        let ((one, whole), (many, tiled)) = (upscaled(u64::MAX), upscaled(said / 20 * 17));
        assert!(one == 1 && many > 1, "{name}: {many} tiles");
        let off = deviation(&tiled, &whole);
        assert!(off < 1.0 / 255.0, "{name} is {off:.2e} off");
    }
}

#[test]
fn between_passes_it_keeps_under_its_budget_and_stops_when_it_is_asked_to() {
    let upscaler = load(&path("golden/upscale/compact-x1.safetensors")).unwrap();
    let [from, cost] = [Size { width: 300, height: 200 }, Size { width: 30, height: 20 }];
    let whole = upscaler.tiles([200, 300], u64::MAX).bytes(upscaler.cost());
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let load_again = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(load(&path("golden/upscale/compact-x1.safetensors")).unwrap())
    };
    let budgeted = Budgeted::of(upscaler.outline().clone(), "compact".into(), whole - 1, load_again);
    assert_eq!((budgeted.name(), budgeted.factor(), budgeted.bytes()), ("compact", 1, upscaler.bytes()));
    assert_eq!(loads.load(Ordering::Relaxed), 0, "headers alone are enough until there is a picture");
    assert!(budgeted.working_bytes(from) < whole && budgeted.working_bytes(cost) < budgeted.working_bytes(from));
    let larger = budgeted.upscale(picture([20, 30]), &Inside::default()).unwrap();
    assert_eq!(larger.dims(), [1, 3, 20, 30]);
    let cancel = Cancel::default();
    cancel.ask();
    let stopped = budgeted.upscale(picture([20, 30]), &Inside::until(&cancel));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert!(matches!(stopped, Err(RunError::Cancelled)));
}

/// Tensors of these names, formats and shapes, all of one value.
struct Claimed {
    manifest: Manifest,
    value: f32,
}

impl WeightSource for Claimed {
    fn label(&self) -> &str {
        "`a.pth`"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, WeightError> {
        let missing = || WeightError::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let shape = self.manifest.get(name).ok_or_else(missing)?.shape;
        Ok(Stored::of(&vec![self.value; shape.iter().product()], shape.to_vec()))
    }
}

/// What is said of a file with these tensors beside those of another.
fn refused(of: &str, change: impl Fn(&str, &[usize]) -> Option<(String, Vec<usize>)>) -> String {
    let file = Safetensors::open(&path(&format!("golden/upscale/{of}.safetensors"))).unwrap();
    let changed = file.manifest().iter().filter_map(|(name, form)| change(name, form.shape));
    let manifest = changed.map(|(name, shape)| (name, Format::F32, shape)).collect();
    Upscaler::load(&Claimed { manifest, value: 0.0 }, &Device::flex(), Compute::F32).unwrap_err().to_string()
}

#[test]
fn a_file_that_is_no_upscaler_of_these_is_refused_by_what_it_is() {
    let named = |names: &[&str]| {
        let manifest = names.iter().map(|name| (*name, Format::F32, vec![4, 3, 3, 3])).collect();
        Upscaler::load(&Claimed { manifest, value: 0.0 }, &Device::flex(), Compute::F32).unwrap_err().to_string()
    };
    let run = "ESRGAN's, Real-ESRGAN's and compact networks and SwinIR are run";
    for (tensor, what) in [
        ("params.conv_first.1.weight", "a SwinIR transformer that reads squares of pixels"),
        ("layers.0.residual_group.blocks.0.conv_block.cab.0.weight", "a HAT transformer"),
        ("params_ema.layers.0.blocks.0.ffn.sg.norm.weight", "a DAT transformer"),
        ("unet1.conv1.conv.0.weight", "a Real-CUGAN network"),
    ] {
        let expected = format!("`a.pth` is {what}, by its tensor `{tensor}`: {run}");
        assert_eq!(named(&["conv_first.weight", tensor]), expected);
    }
    assert_eq!(named(&[]), "`a.pth` is no upscaler that is known: it holds no tensors");
    assert_eq!(named(&["unet.b", "unet.a"]), "`a.pth` is no upscaler that is known: its first tensor is `unet.a`");
    assert!(named(&["body.0.weight", "body.1.weight"]).contains("no upscaler that is known"));
}

#[test]
fn a_network_that_contradicts_itself_is_refused_by_its_tensor() {
    let same = |name: &str, shape: &[usize]| Some((name.to_owned(), shape.to_vec()));
    let without =
        |lacking: &'static str| move |name: &str, shape: &[usize]| (name != lacking).then(|| same(name, shape))?;
    let with = |other: &'static str, shape: &'static [usize]| {
        move |name: &str, own: &[usize]| same(name, if name == other { shape } else { own })
    };
    assert_eq!(refused("real-esrgan-x4", without("conv_hr.bias")), "tensor `conv_hr.bias` is missing from `a.pth`");
    assert_eq!(
        refused("real-esrgan-x4", with("body.0.rdb2.conv3.weight", &[4, 17, 3, 3])),
        "tensor `body.0.rdb2.conv3.weight` of `a.pth` has shape [4, 17, 3, 3], the model needs [4, 16, 3, 3]"
    );
    assert_eq!(
        refused("real-esrgan-x4", with("conv_first.weight", &[8, 1, 3, 3])),
        "`a.pth` makes 3 channels of 1, expected pictures of red, green and blue on both sides"
    );
    // Squares of sixteen pixels that are doubled once would make a picture smaller.
    let halved = |name: &str, shape: &[usize]| match name {
        "conv_first.weight" => same(name, &[8, 48, 3, 3]),
        _ if name.starts_with("conv_up2") => None,
        _ => same(name, shape),
    };
    assert!(refused("real-esrgan-x4", halved).contains("expected a factor of 1 to 16"));
    assert!(refused("compact-x3", with("body.4.weight", &[13, 8, 3, 3])).contains("makes 13 channels"));
    assert!(refused("compact-x3", with("body.0.weight", &[8, 4, 3, 3])).contains("channels of 4"));
    assert!(refused("compact-x3", without("body.4.weight")).contains("`body.4.weight` is missing"));
    assert!(refused("swinir-jpeg-x1", without("layers.1.residual_group.blocks.2.mlp.fc2.bias")).contains("is missing"));
    let table = "layers.1.residual_group.blocks.0.attn.relative_position_bias_table";
    for (shape, what) in [(&[168, 4], "168 distances"), (&[169, 3], "3 heads of 8 channels"), (&[169, 0], "[169, 0]")] {
        let found = refused("swinir-jpeg-x1", with(table, shape));
        assert!(found.contains(what), "{found}");
    }
    assert!(refused("swinir-x2", with("upsample.0.weight", &[257, 64, 3, 3])).contains("257 channels of 64"));
    assert!(refused("swinir-light-x2", with("upsample.0.weight", &[13, 8, 3, 3])).contains("makes 13 channels"));
    assert!(refused("swinir-x2", with("conv_last.weight", &[1, 64, 3, 3])).contains("makes 1 channels of 3"));
    for tensor in
        ["conv_first.weight", "layers.0.residual_group.blocks.0.mlp.fc1.weight", "conv_before_upsample.0.weight"]
    {
        for huge in [usize::MAX, usize::MAX / 3, 0] {
            let claimed = |name: &str, own: &[usize]| {
                let shape: Vec<usize> =
                    own.iter().enumerate().map(|(i, side)| if i == 0 { huge } else { *side }).collect();
                same(name, if name == tensor { &shape } else { own })
            };
            let found = refused("swinir-x2", claimed);
            assert!(found.contains("has shape") || found.contains("channels"), "{tensor} {huge}: {found}");
        }
    }
    for huge in [&[usize::MAX, 3, 3, 3][..], &[0, 3, 3, 3], &[8, 3, 3]] {
        let claimed = |name: &str, own: &[usize]| same(name, if name == "conv_first.weight" { huge } else { own });
        assert!(refused("real-esrgan-x4", claimed).contains("has shape"), "{huge:?}");
    }
}

#[test]
fn a_network_that_makes_no_numbers_makes_no_picture() {
    let file = Safetensors::open(&path("golden/upscale/compact-x3.safetensors")).unwrap();
    let manifest = file.manifest().iter().map(|(name, form)| (name, Format::F32, form.shape.to_vec())).collect();
    let upscaler = Upscaler::load(&Claimed { manifest, value: f32::NAN }, &Device::flex(), Compute::F32).unwrap();
    let tiles = upscaler.tiles([4, 4], u64::MAX);
    let made = upscaler.upscale(picture([4, 4]), &tiles, &Inside::default(), &|| {});
    assert!(matches!(made, Err(RunError::NotFinite { .. })));
}
