//! The command on Vulkan's software adapter, against the same on the CPU.

#![cfg(feature = "vulkan")]

mod tiny;

use std::{fs, path::Path, process::Output, sync::Arc};

use core_tensor::{
    Compute, Device, Format, Layout, Memory, Residency, Round, Runs, Scaling, Stored, Tensor, WeightSource, Weights,
    check,
    layers::Linear,
    on_host,
    ops::{self, Activation},
    safetensors::Safetensors,
    tensor,
};
use fixtures::{deviation, path, psnr, std};
use half::{bf16, f16};
use quant::{encode, operators::computed};
use serde_json::Value;
use tiny::{Tiny, golden};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-4;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 60.0;
/// The same in f16.
const F16_DB: f64 = 45.0;

/// Mesa's software driver is the only one that Vulkan's loader finds, whatever else is on the machine.
const ONLY_SOFTWARE: (&str, &str) = ("VK_LOADER_DRIVERS_SELECT", "*lvp*");

/// The command on a machine that has the software adapter alone.
fn forge(tiny: &Tiny, args: &[&str], more: &[(&str, &str)]) -> Output {
    let mut command = tiny.command(args);
    command.envs([ONLY_SOFTWARE]).envs(more.iter().copied());
    command.output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a run of a config went through on a device, in a number format.
fn run(tiny: &Tiny, config: &Path, [backend, compute]: [&str; 2], more: &[&str]) -> Safetensors {
    let (picture, dump) = ("picture-{index}.png", format!("{}.safetensors", backend.replace(':', "-")));
    let config = config.display().to_string();
    let own = [
        "txt2img",
        "--config",
        &config,
        "--backend",
        backend,
        "--compute",
        compute,
        "--output",
        picture,
        "--dump",
        &dump,
    ];
    let ran = forge(tiny, &[&own[..], more].concat(), &[]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    Safetensors::open(&tiny.path(&dump)).expect("the run wrote it")
}

/// Runs on the CPU in f32 and on Vulkan in a number format, and how far they are from each other in the latent of a step and in the picture.
fn compared(config: &Path, compute: &str, latent: &str, more: &[&str]) -> (f64, f64) {
    let tiny = Tiny::quick();
    let [cpu, vulkan] = [["cpu", "f32"], ["vulkan:software", compute]].map(|device| run(&tiny, config, device, more));
    let read =
        |dump: &Safetensors, name: &str| dump.read(name).expect("a dump has it").to_f32().expect("floats").to_vec();
    let bits = |dump| read(dump, "noise").iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&cpu), bits(&vulkan), "the noise of {}", config.display());
    let [expected, found] = [&cpu, &vulkan].map(|dump| read(dump, latent));
    (deviation(&found, &expected) / std(&expected), psnr(&read(&vulkan, "image"), &read(&cpu, "image")))
}

#[test]
fn tiny_models_end_after_eight_steps_where_the_cpu_ends() {
    for case in ["tiny-dev", "tiny-schnell", "sd-1", "sd-2", "sd-xl", "sd-refiner", "sd-inpainting"] {
        let config = golden(case).join("case.toml");
        let (worst, db) = compared(&config, "f32", "latent.007", &["--steps", "8"]);
        println!("{case}: {worst:.1e} of the standard deviation, {db:.1} dB");
        assert!(worst <= LATENT, "{case}: {worst:.2e} of the latent's standard deviation, allowed {LATENT:.0e}");
        assert!(db >= PICTURE_DB, "{case}: {db:.1} dB from the CPU's, allowed {PICTURE_DB}");
    }
}

#[test]
fn demo_models_draw_the_pictures_of_the_cpu() {
    for config in ["flux.toml", "sd.toml"] {
        let (_, db) = compared(&path("..").join(config), "f32", "latent.001", &SMALL);
        println!("{config}: {db:.1} dB");
        assert!(db >= PICTURE_DB, "{config}: {db:.1} dB from the CPU's, allowed {PICTURE_DB}");
    }
}

/// A picture of the demo models.
const SMALL: [&str; 6] = ["--steps", "2", "--width", "64", "--height", "64"];

#[test]
fn models_in_f16_draw_nearly_the_pictures_of_the_cpu() {
    let tiny = ["tiny-dev", "sd-1", "sd-2", "sd-xl", "tiny-gguf", "tiny-bnb"]
        .map(|case| (golden(case).join("case.toml"), &["--steps", "2"][..]));
    let demos = ["flux.toml", "sd.toml"].map(|config| (path("..").join(config), &SMALL[..]));
    for (config, more) in tiny.iter().chain(&demos) {
        let (_, db) = compared(config, "f16", "latent.001", more);
        println!("{}: {db:.1} dB", config.display());
        assert!(db >= F16_DB, "{}: {db:.1} dB from the CPU's, allowed {F16_DB}", config.display());
    }
}

#[test]
fn matrices_of_quantised_files_are_multiplied_as_on_the_cpu() {
    for case in ["tiny-gguf", "tiny-bnb"] {
        let (worst, db) = compared(&golden(case).join("case.toml"), "f32", "latent.001", &["--steps", "2"]);
        println!("{case}: {worst:.1e} of the standard deviation, {db:.1} dB");
        assert!(worst <= LATENT && db >= PICTURE_DB, "{case}: {worst:.2e} of the standard deviation, {db:.1} dB");
    }
}

/// Scales of runs of weights, each another power of two or near one.
#[derive(Debug)]
struct Each {
    runs: Runs,
}

impl Each {
    fn of(run: usize) -> f32 {
        0.75 + (run % 7) as f32 * 0.3
    }
}

impl Scaling for Each {
    fn scale(&self, first: usize, weights: &mut [f32]) {
        for (weight, i) in weights.iter_mut().zip(first..) {
            *weight *= Self::of(i / self.runs.weights);
            *weight = match self.runs.round {
                Round::No => *weight,
                Round::F16 => f16::from_f32(*weight).to_f32(),
                Round::Bf16 => bf16::from_f32(*weight).to_f32(),
            };
        }
    }

    fn runs(&self, _: usize) -> Option<Runs> {
        Some(self.runs)
    }

    fn scales_of(&self, first: usize, run: usize, scales: &mut [f32]) {
        scales.iter_mut().zip(first / run..).for_each(|(scale, run)| *scale = Self::of(run));
    }
}

/// Those that a device unpacks by itself.
fn unpacked_there() -> impl Iterator<Item = Format> {
    computed().filter(|format| format.bits().is_some())
}

/// Mesa's driver, in this process.
fn software() -> Device {
    core_tensor::device("vulkan:software").expect("the software adapter")
}

/// A matrix whose rows come in two, and the same scaled in all ways.
fn matrices(plain: &Stored) -> [Stored; 6] {
    let [rows, width] = [plain.shape()[0], plain.shape()[1]];
    let scaled = |weights, round| plain.clone().scaled(Arc::new(Each { runs: Runs { weights, round } }));
    let some = |from| scaled(width, Round::No).rows(from).expect("whole rows");
    [
        plain.clone(),
        plain.rows(0..2).expect("whole rows"),
        Stored::stacked(&[some(3..rows), some(2..rows)]).expect("one format and width"),
        scaled(width, Round::No),
        scaled(64, Round::Bf16),
        scaled(64, Round::F16),
    ]
}

/// Any bytes as a matrix.
fn of_bytes(format: Format, shape: [usize; 2]) -> Stored {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let size = format.size_of(&shape).expect("whole blocks") as usize;
    let bytes = std::iter::successors(Some(11u32), next).map(|x| (x >> 24) as u8).take(size).collect();
    Stored::of_bytes(format, shape.to_vec(), bytes).expect("as many bytes")
}

#[test]
fn weights_of_every_format_are_unpacked_on_the_device_as_on_the_cpu() {
    let device = software();
    let (mut formats, mut worst) = (0, 0.0f32);
    for format in unpacked_there() {
        formats += 1;
        for (n, stored) in matrices(&of_bytes(format, [6, 1024])).iter().enumerate() {
            let found = check::unpacked(stored, &device, Compute::F32).expect("the device computes");
            let (found, expected) = (found.expect("it unpacks it"), stored.to_f32().expect("numbers"));
            assert_eq!(found.len(), expected.len(), "{format}");
            for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
                let off = (found - expected).abs() / expected.abs().max(1e-7);
                let is_near = off <= 1e-6 || found == expected || !found.is_finite() && !expected.is_finite();
                assert!(is_near, "{format}, matrix {n}, weight {i}: {found} instead of {expected}");
                worst = if off.is_finite() { worst.max(off) } else { worst };
            }
        }
    }
    println!("{formats} formats, at most {worst:.1e} of a weight off");
    assert!(formats >= 23, "{formats} formats");
}

/// Largest difference of a product, as a share of what its terms are together in magnitude.
const PRODUCT: f64 = 1e-6;

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

/// Whether each output of rows is near to the same in f64; those that are no numbers there are none here. The furthest.
fn furthest(x: &[f32], w: &[f32], bias: Option<&[f32]>, found: &[f32]) -> f64 {
    let width = (x.len() * w.len() / found.len()).isqrt();
    let rows = x.chunks_exact(width).flat_map(|x| w.chunks_exact(width).enumerate().map(move |(i, w)| (x, i, w)));
    let off = rows.zip(found).map(|((x, i, w), &found)| {
        let added = bias.map_or(0.0, |bias| f64::from(bias[i]));
        let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).chain([added]);
        let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        match size < f64::from(f32::MAX) {
            true => (f64::from(found) - sum).abs() / size,
            false => 0.0,
        }
    });
    off.fold(0.0, |most, off| if off > most || off.is_nan() { off } else { most })
}

#[test]
fn few_rows_are_multiplied_on_the_device_with_weights_of_every_format_as_in_f64() {
    const SHAPE: [usize; 2] = [7, 1024];
    let (device, [height, width]) = (software(), SHAPE);
    let mut worst = 0.0f64;
    for format in unpacked_there() {
        let plain = encode::packed(format, &wave(height * width, 0.7));
        let plain = plain.map(|blocks| Stored::of_bytes(format, SHAPE.to_vec(), blocks).expect("as many bytes"));
        let plain = plain.unwrap_or_else(|| of_bytes(format, SHAPE));
        for (n, stored) in matrices(&plain).iter().enumerate() {
            let (w, d_out) = (stored.to_f32().expect("numbers"), stored.shape()[0]);
            let bias = wave(d_out, 1.3);
            for (rows, is_biased) in [(1, n % 2 == 0), (3, n % 2 == 1), (16, n % 2 == 0)] {
                // given rows that lie in others, as where what was made of one input is cut
                let bias = is_biased.then_some(&*bias);
                let wide: Tensor<2> = tensor(wave(rows * 2 * width, 0.3), [rows, 2 * width], &device);
                let x = wide.narrow(1, width, width);
                let found = check::thin(stored, &x, bias, Compute::F32).expect("the device computes");
                // then the product is there, without the matrix having been unpacked
                let found = found.expect("so few rows have a kernel");
                assert_eq!(found.len(), rows * d_out, "{format}");
                let off = furthest(&on_host(&x).expect("the values"), &w, bias, &found);
                assert!(off <= PRODUCT, "{format}, matrix {n}, {rows} rows: {off:.1e} off");
                worst = worst.max(off);
            }
            let many = tensor(wave(17 * width, 0.3), [17, width], &device);
            assert_eq!(check::thin(stored, &many, None, Compute::F32).expect("nothing is asked of it"), None);
        }
    }
    println!("products of few rows are at most {worst:.1e} of their terms off");
}

#[test]
fn layers_of_packed_matrices_are_the_same_for_few_rows_and_for_many() {
    const SHAPE: [usize; 2] = [7, 1024];
    let (device, [height, width]) = (software(), SHAPE);
    let [q8, f16] = ["Q8_0", "F16"].map(|name| computed().find(|format| format.name() == name).expect("a format"));
    for format in [q8, f16] {
        // given a layer in the device's memory, and one in its file
        let blocks = encode::packed(format, &wave(height * width, 0.7)).expect("it can be written");
        let stored = Stored::of_bytes(format, SHAPE.to_vec(), blocks).expect("as many bytes");
        let (w, bias) = (stored.to_f32().expect("numbers"), wave(height, 1.3));
        let source = Memory::of([("weight", stored), ("bias", Stored::of(&bias, vec![height]))]);
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let layout = Layout::of(|l| l.linear("", width, height));
            let layer = Linear::load(&Weights::of(&source, &device, residency).laid_out(layout)).expect("it is there");
            for rows in [1, 3, 16, 17] {
                let values = wave(rows * width, 0.3);
                let x: Tensor<3> = tensor(values.clone(), [1, rows, width], &device);
                // when it computes
                let found = on_host(&layer.forward(x.clone())).expect("the device computes");
                // then the result is near to that in f64, with the bias once
                let off = furthest(&values, &w, Some(&bias), &found);
                assert!(off <= PRODUCT, "{format}, {residency:?}, {rows} rows: {off:.1e} off");
                // and so is what follows it
                let residual: Tensor<3> = tensor(wave(rows * height, 0.9), [1, rows, height], &device);
                let gate: Tensor<3> = tensor(wave(height, 1.7), [1, 1, height], &device);
                let y = layer.forward(x.clone());
                for (found, expected) in [
                    (layer.forward_then(x.clone(), Activation::Silu), ops::activate(Activation::Silu, y.clone())),
                    (layer.forward_onto(x.clone(), residual.clone()), residual.clone() + y.clone()),
                    (layer.forward_gated_onto(x, gate.clone(), residual.clone()), residual + gate * y),
                ] {
                    let [found, expected] = [found, expected].map(|y| on_host(&y).expect("the device computes"));
                    let off = deviation(&found, &expected) / std(&expected);
                    assert!(off <= PRODUCT, "{format}, {residency:?}, {rows} rows: {off:.1e} off");
                }
            }
        }
    }
}

#[test]
fn the_software_adapter_computes_rightly() {
    let ran = forge(&Tiny::quick(), &["devices", "--check"], &[]);
    assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    println!("{}", text(&ran.stdout));
}

#[test]
fn the_software_adapter_is_listed_by_its_own_name_and_told_in_the_load_line() {
    let tiny = Tiny::quick();
    let listed = forge(&tiny, &["devices", "--json"], &[]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("one object");
    let devices = listed["devices"].as_array().expect("a list");
    let software = devices.iter().find(|device| device["name"] == "vulkan:software").expect("the adapter");
    let about = software["about"].as_str().expect("a text");
    assert!(about.contains("llvmpipe") && about.contains("computes on the CPU") && about.contains("Mesa"), "{about}");
    assert_eq!((&software["fault"], &software["memory"]), (&Value::Null, &Value::Null));
    let ran = forge(&tiny, &["txt2img", "--config", "flux.toml", "--backend", "vulkan:software"], &[]);
    assert!(text(&ran.stderr).contains(" on vulkan:software, llvmpipe"), "{}", text(&ran.stderr));
}

/// A run that ends with an error of the device, without a picture.
fn refused(backend: &str, more: &[(&str, &str)], told: &[&str]) {
    let tiny = Tiny::quick();
    let ran = forge(&tiny, &["txt2img", "--config", "flux.toml", "--backend", backend], more);
    let err = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{backend}: {err}");
    for told in [&["error: the device `", "hint: "], told].concat() {
        assert!(err.contains(told), "{backend}: no `{told}` in {err}");
    }
    assert!(!err.contains("panicked") && !err.contains("bug in forge"), "{err}");
    assert!(tiny.drawn().is_empty(), "{backend}: {:?}", tiny.drawn());
}

#[test]
fn a_software_adapter_is_taken_by_its_own_name_alone() {
    for backend in ["vulkan", "vulkan:0"] {
        refused(backend, &[], &["llvmpipe", "and no card", "hint: `backend = \"vulkan:software\"` asks for it"]);
    }
}

#[test]
fn no_loader_no_adapter_and_a_number_too_high_are_errors_with_a_hint() {
    refused("vulkan:7", &[], &["there is one adapter, of number 0"]);
    let nobody = [("VK_LOADER_DRIVERS_SELECT", "nobody")];
    for backend in ["vulkan", "vulkan:0", "vulkan:software"] {
        refused(backend, &nobody, &["the loader, libvulkan, is not there, or has no driver"]);
    }
    // A library of the loader's name that is none, where libraries are looked for first.
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::write(folder.path().join("libvulkan.so.1"), "no library").expect("files can be written here");
    let path = folder.path().display().to_string();
    refused("vulkan", &[("LD_LIBRARY_PATH", &path)], &["the loader, libvulkan, is not there, or has no driver"]);
}

#[test]
fn no_variable_of_the_environment_chooses_an_adapter() {
    let chosen = [("CUBECL_WGPU_DEFAULT_DEVICE", "Cpu"), ("WGPU_ADAPTER_NAME", "llvmpipe"), ("WGPU_BACKEND", "gl")];
    refused("vulkan", &chosen, &["llvmpipe", "and no card"]);
}

#[test]
fn a_picture_whose_tokens_no_buffer_of_the_adapter_holds_is_refused_for_memory() {
    // given a picture whose tokens take more than any buffer of Mesa's driver may
    let tiny = Tiny::quick();
    let config = path("..").join("flux.toml").display().to_string();
    let ran = forge(
        &tiny,
        &[
            "txt2img",
            "--config",
            &config,
            "--backend",
            "vulkan:software",
            "--width",
            "8192",
            "--height",
            "8192",
            "--memory",
            "1 TiB",
            "--output",
            "picture.png",
        ],
        &[],
    );
    // then it is refused as memory is, and nothing is drawn
    let err = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{err}");
    assert!(err.contains("the device ran out of memory") && err.contains("hint: draw a smaller picture"), "{err}");
    assert!(!err.contains("panicked") && !err.contains("bug in forge"), "{err}");
    assert!(tiny.drawn().is_empty(), "{:?}", tiny.drawn());
}
