//! `forge ops`: which formats there are, what is done with weights of each, and how fast.

mod matrix;

use std::time::{Duration, Instant};

use core_tensor::{
    Compute, Device, Error as TensorError, Format, Layout, Residency, Tensor, Weights, layers::Linear, tensor, values,
};
use kernels::{Isa, peaks};
use quant::operators::{Operator, Place, bits, computed, how, is_written};
use serde_json::{Value, json};

use self::matrix::matrix;
use super::{
    args::OpsArgs,
    term::{print, print_json},
};
use crate::error::Result;

/// A matrix of Flux's hidden size, and as many rows as a picture of 512 × 512 has.
const WIDTH: usize = 3072;
const ROWS: usize = 1024;

/// Prints the table, or a JSON object.
pub(super) fn run(args: &OpsArgs) -> Result<()> {
    let mut machine = None;
    if args.measure {
        let isa = Isa::best();
        let [f32, bf16] = [Compute::F32, Compute::Bf16].map(|compute| peaks::arithmetic(isa, compute));
        machine = Some((isa, rayon_threads(), [f32, bf16]));
    }
    let mut formats = Vec::new();
    let mut lines = vec![head(args.measure)];
    for format in computed() {
        let measured = match machine {
            Some((.., peaks)) => measured(format, peaks)?,
            None => None,
        };
        lines.push(line(format, measured, args.measure));
        formats.push(object(format, measured));
    }
    if args.json {
        let machine = machine.map(|(isa, threads, [f32, bf16])| {
            json!({ "level": format!("{isa:?}"), "threads": threads, "f32": f32 / 1e9, "bf16": bf16 / 1e9 })
        });
        return print_json(&json!({ "formats": formats, "machine": machine }));
    }
    if let Some((isa, threads, [f32, bf16])) = machine {
        let [f32, bf16] = [f32, bf16].map(|peak| peak / 1e9);
        lines.push(format!(
            "\n{isa:?}, {threads} threads: at most {f32:.0} GFLOP/s in f32, {bf16:.0} in bf16, of which shares are"
        ));
        lines.push(format!(
            "loaded, in-file: {ROWS} rows times a matrix [{WIDTH}, {WIDTH}], in the memory or left in its file"
        ));
        lines.push("integers: the same in its file, with its integers and those that inputs become".to_owned());
        lines.push("off: the root mean squared difference from f32, as a share of the products".to_owned());
    }
    lines.push(
        "\npanels: in the order of the kernels; as packed: in its own format; rows: when looked up; f32: when loaded"
            .into(),
    );
    print(&lines.join("\n"))
}

/// What a matrix of a format came to.
#[derive(Clone, Copy)]
struct Measured {
    /// GFLOP/s, unpacked when it was loaded, and left in its file.
    speeds: [f64; 2],
    /// The same as shares of the machine's peak.
    shares: [f64; 2],
    /// How far a product of a matrix left in its file is off.
    off: f64,
    /// The same of a product of integers, where the format's weights are some.
    integers: Option<Integers>,
}

/// What a product of integers came to.
#[derive(Clone, Copy)]
struct Integers {
    /// GFLOP/s.
    speed: f64,
    /// As a share of the machine's peak.
    share: f64,
    off: f64,
}

/// How fast products with a matrix of a format are; none where nothing here makes the format.
fn measured(format: Format, [f32_peak, bf16_peak]: [f64; 2]) -> Result<Option<Measured>> {
    let weights = numbers(WIDTH * WIDTH, 0.02);
    let failed = |error: TensorError| forge::Error::from(error);
    let Some(source) = matrix(format, &weights, [WIDTH, WIDTH]).map_err(forge::Error::from)? else { return Ok(None) };
    let x: Tensor<3> = tensor(numbers(ROWS * WIDTH, 1.0), [1, ROWS, WIDTH], &Device::flex());
    let layer = |residency, compute| {
        let layout = Layout::of(|l| l.unbiased("l", WIDTH, WIDTH));
        let w = Weights::of(&*source, &Device::flex(), residency).computed_in(compute).laid_out(layout);
        Linear::load(&w.at("l")).map_err(failed)
    };
    let exact = values(&layer(Residency::Unpacked, Compute::F32)?.forward(x.clone()));
    let [loaded, in_file] = [layer(Residency::Unpacked, Compute::Bf16)?, layer(Residency::Mapped, Compute::Bf16)?];
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let off = |layer: &Linear| {
        let found = values(&layer.forward(x.clone()));
        let off = squares(&mut found.iter().zip(&exact).map(|(a, b)| a - b)) / squares(&mut exact.iter().copied());
        off.sqrt()
    };
    let work = 2.0 * (ROWS * WIDTH * WIDTH) as f64;
    let speed = |layer: &Linear| work / seconds(|| drop(layer.forward(x.clone())));
    let speeds = [&loaded, &in_file].map(speed);
    let peak = f32_peak.max(bf16_peak);
    let integers = match format.integers() {
        Some(_) => {
            let layer = layer(Residency::Mapped, Compute::Integers)?;
            let speed = speed(&layer);
            Some(Integers { speed: speed / 1e9, share: speed / peak, off: off(&layer) })
        }
        None => None,
    };
    let [shares, speeds] = [peak, 1e9].map(|unit| speeds.map(|speed| speed / unit));
    Ok(Some(Measured { speeds, shares, off: off(&in_file), integers }))
}

/// The median of as many times as fit into a third of a second, three at least.
fn seconds(mut work: impl FnMut()) -> f64 {
    const LONG: Duration = Duration::from_millis(300);
    work();
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || started.elapsed() < LONG {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Numbers without a pattern, of about this size (splitmix64, sums of four).
fn numbers(count: usize, size: f32) -> Vec<f32> {
    let number = |i: usize| {
        let z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sum: i32 = [0, 16, 32, 48].map(|shift| i32::from((z >> shift) as u16 as i16)).iter().sum();
        sum as f32 / 32768.0 * size
    };
    (0..count).map(number).collect()
}

fn rayon_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn head(is_measured: bool) -> String {
    let columns = format!(
        "{:<8} {:>6}  {:<10} {:<10} {:<7} {:<10} {:<8}",
        "format", "bits", "linear", "embedding", "conv2d", "parameter", "convert"
    );
    let measured = if is_measured {
        format!("{:>14} {:>14} {:>9} {:>14} {:>9}", "loaded", "in file", "off", "integers", "off")
    } else {
        String::new()
    };
    (columns + &measured).trim_end().to_owned()
}

fn line(format: Format, measured: Option<Measured>, is_measured: bool) -> String {
    let [linear, embedding, conv2d, parameter] = Operator::ALL.map(|operator| how(format, operator, Place::Cpu).name());
    let writes = if is_written(format) { "writes" } else { "" };
    let columns = format!(
        "{:<8} {:>6.3}  {linear:<10} {embedding:<10} {conv2d:<7} {parameter:<10} {writes:<8}",
        format.name(),
        bits(format)
    );
    let measured = match measured {
        Some(Measured { speeds, shares, off, integers }) => {
            let of_peak = |speed: f64, share: f64| format!("{speed:.0} ({:.0} %)", 100.0 * share);
            let [loaded, in_file] = [0, 1].map(|i| of_peak(speeds[i], shares[i]));
            let integers = match integers {
                Some(Integers { speed, share, off }) => format!("{:>14} {off:>9.2e}", of_peak(speed, share)),
                None => format!("{:>14} {:>9}", "-", "-"),
            };
            format!("{loaded:>14} {in_file:>14} {off:>9.2e} {integers}")
        }
        None if is_measured => format!("{:>14} {:>14} {:>9} {:>14} {:>9}", "-", "-", "-", "-", "-"),
        None => String::new(),
    };
    (columns + &measured).trim_end().to_owned()
}

fn object(format: Format, measured: Option<Measured>) -> Value {
    let at = |place| {
        let all = Operator::ALL.map(|operator| (operator.name().to_owned(), json!(how(format, operator, place))));
        Value::Object(all.into_iter().collect())
    };
    let measured = measured.map(|Measured { speeds, shares, off, integers }| {
        let integers = integers
            .map(|Integers { speed, share, off }| json!({ "gflops": speed, "share": share, "off": off }));
        json!({
            "gflops": speeds[0], "share": shares[0], "gflops_in_file": speeds[1], "share_in_file": shares[1], "off": off,
            "integers": integers,
        })
    });
    json!({
        "format": format.name(), "bits": bits(format), "written": is_written(format), "cpu": at(Place::Cpu),
        "other": at(Place::Other), "measured": measured,
    })
}
