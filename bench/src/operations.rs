//! `cargo xtask bench`: how fast the kernels are, as shares of what this machine can do at most.
//!
//! The machine's own limits are measured first, in the same run and on the same threads. Shapes are those of Flux (hidden 3072, 24
//! heads) and of the UNet and the decoder of SD 1.5.

use std::{
    fmt::Write as _,
    fs,
    mem::MaybeUninit,
    process::Command,
    time::{Duration, Instant},
};

use kernels::{
    Activation, Affine, Compute, ConvEpilogue, Epilogue, Heads, HugePages, Isa, PackedConv, PackedMatrix, Scores,
    Values,
};

use crate::{Done, root};

/// As in the command, so that results are measured where they are used.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages::new(1 << 30);

pub fn run(flags: &[&str]) -> Done {
    let json = match flags {
        [] => None,
        ["--json", file] => Some(*file),
        _ => return Err("`bench` takes `--json FILE` alone".into()),
    };
    if cfg!(debug_assertions) {
        let cargo = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["run", "--quiet", "--release", "--package", "xtask"])
            .arg("--")
            .arg("bench")
            .args(flags)
            .status()?;
        return if cargo.success() { Ok(()) } else { Err("the bench failed".into()) };
    }
    let isa = Isa::best();
    let peaks = Peaks::of(isa);
    println!(
        "{isa:?}; peaks: f32 {:.0} GFLOP/s, bf16 {:.0} GFLOP/s, memory {:.1} GB/s",
        peaks.f32 / 1e9,
        peaks.bf16 / 1e9,
        peaks.bandwidth / 1e9
    );
    let mut report = Report { peaks, json: String::new() };
    products(isa, &mut report);
    convolutions(isa, &mut report);
    attention(isa, &mut report);
    rows(isa, &mut report);
    if let Some(file) = json {
        fs::write(file, report.json)?;
    }
    Ok(())
}

struct Peaks {
    f32: f64,
    bf16: f64,
    bandwidth: f64,
}

impl Peaks {
    fn of(isa: Isa) -> Self {
        let arithmetic = |compute| kernels::peaks::arithmetic(isa, compute);
        Self {
            f32: arithmetic(Compute::F32),
            bf16: arithmetic(Compute::Bf16),
            bandwidth: kernels::peaks::bandwidth(isa),
        }
    }
}

struct Report {
    peaks: Peaks,
    json: String,
}

impl Report {
    /// `work` is operations, or bytes where there is no `compute`.
    fn case(&mut self, case: &str, compute: Option<Compute>, work: f64, run: impl FnMut()) {
        let seconds = median(run);
        let (name, peak) = match compute {
            Some(Compute::F32) => ("f32", self.peaks.f32),
            Some(Compute::Bf16) => ("bf16", self.peaks.bf16),
            None => ("memory", self.peaks.bandwidth),
        };
        let (rate, share) = (work / seconds / 1e9, work / seconds / peak);
        println!("{case:40} {name:6} {:10.3} ms {rate:8.1} G/s {:5.1} %", seconds * 1e3, share * 100.0);
        let line =
            serde_json::json!({"case": case, "peak": name, "seconds": seconds, "gflops": rate, "share_of_peak": share});
        writeln!(self.json, "{line}").expect("a String takes everything");
    }
}

/// The median of as many runs as fit into a second, five at least, after one that does not count.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 5 || start.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        run();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn products(isa: Isa, report: &mut Report) {
    for (rows, d_out, d_in) in [(4096, 3072, 3072), (1536, 9216, 3072), (1536, 3072, 12288), (77, 3072, 3072)] {
        let (x, w) = (numbers(rows * d_in), numbers(d_out * d_in));
        let mut out = space(rows * d_out);
        for compute in [Compute::F32, Compute::Bf16] {
            let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&w));
            let work = 2.0 * (rows * d_out * d_in) as f64;
            report.case(&format!("linear {rows}x{d_out}x{d_in}"), Some(compute), work, || {
                kernels::linear(&packed, &x, rows, d_in, Epilogue::default(), &mut out);
            });
        }
    }
}

fn convolutions(isa: Isa, report: &mut Report) {
    for (c_in, c_out, kernel, side) in [
        (320, 320, 3, 64),
        (640, 640, 3, 32),
        (1280, 1280, 3, 16),
        (1280, 1280, 3, 8),
        (640, 320, 1, 64),
        (512, 512, 3, 128),
    ] {
        let (x, w) = (numbers(c_in * side * side), numbers(c_out * c_in * kernel * kernel));
        let mut out = space(c_out * side * side);
        for compute in [Compute::F32, Compute::Bf16] {
            let packed = PackedConv::pack(isa, compute, [c_out, c_in, kernel], Values::F32(&w));
            let work = 2.0 * (c_out * c_in * kernel * kernel * side * side) as f64;
            report.case(&format!("conv {kernel}x{kernel} {c_in}->{c_out} @{side}"), Some(compute), work, || {
                kernels::conv2d(&packed, &x, 1, [side, side], 1, ConvEpilogue::default(), &mut out);
            });
        }
    }
}

fn attention(isa: Isa, report: &mut Report) {
    for (heads, tokens, d) in [(24, 1536, 128), (8, 4096, 40), (1, 4096, 512)] {
        let all = [(); 3].map(|()| numbers(heads * tokens * d));
        let view =
            |x| Heads::new(x, [1, heads, tokens, d], [0, d, heads * d]).expect("the view is as large as its values");
        let [q, k, v] = [view(&all[0]), view(&all[1]), view(&all[2])];
        let mut out = space(heads * tokens * d);
        let scores = Scores { scale: 1.0 / (d as f32).sqrt(), bias: None, causal: false };
        for compute in [Compute::F32, Compute::Bf16] {
            let work = 4.0 * (heads * tokens * tokens * d) as f64;
            report.case(&format!("attention {heads}x{tokens}x{d}"), Some(compute), work, || {
                kernels::attention(isa, compute, q, k, v, scores, &mut out);
            });
        }
    }
}

fn rows(isa: Isa, report: &mut Report) {
    let (rows, d) = (4096, 3072);
    let (x, y, scale) = (numbers(rows * d), numbers(rows * d), numbers(d));
    let mut out = space(rows * d);
    let bytes = |arrays: usize| (arrays * rows * d * size_of::<f32>()) as f64;
    for (name, activation) in
        [("gelu_tanh", Activation::GeluTanh), ("gelu_erf", Activation::GeluErf), ("silu", Activation::Silu)]
    {
        report.case(&format!("{name} [{rows}, {d}]"), None, bytes(2), || {
            kernels::activate(isa, activation, &x, &mut out)
        });
    }
    report.case(&format!("add [{rows}, {d}]"), None, bytes(3), || kernels::add(isa, &x, &y, &mut out));
    report.case(&format!("layer_norm [{rows}, {d}]"), None, bytes(2), || {
        kernels::layer_norm(isa, &x, d, 1e-6, Affine::Modulated { scale: &scale, shift: &scale, rows }, &mut out);
    });
    report.case(&format!("rms_norm [{rows}, {d}]"), None, bytes(2), || {
        kernels::rms_norm(isa, &x, d, &scale, 1e-6, &mut out);
    });
    report.case(&format!("group_norm, silu [1, {d}, {rows}]"), None, bytes(2), || {
        kernels::group_norm(isa, &x, [1, d, rows], 32, &scale, &scale, 1e-6, Some(Activation::Silu), &mut out);
    });
}

/// Numbers between -1 and 1, always the same.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn space(n: usize) -> Vec<MaybeUninit<f32>> {
    vec![MaybeUninit::new(0.0); n]
}
