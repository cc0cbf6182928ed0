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
    overrides::{started, threads_of_environment},
    term::{print, print_json},
};
use crate::error::Result;

/// A matrix of Flux's hidden size, and as many rows as a picture of 512 × 512 has.
const WIDTH: usize = 3072;
const ROWS: usize = 1024;

/// Prints one of the two tables, or a JSON object.
pub(super) fn run(args: &OpsArgs) -> Result<()> {
    started(threads_of_environment()?, false)?.compute(|| told(args))
}

fn told(args: &OpsArgs) -> Result<()> {
    let formats: Vec<Format> = computed().collect();
    let machine = args.measure.then(|| Machine::measured(&formats)).transpose()?;
    if args.json {
        return print_json(&object(&formats, machine.as_ref()));
    }
    print(&match machine {
        Some(machine) => measurements(&formats, &machine),
        None => table(&formats),
    })
}

/// What products came to on this machine.
struct Machine {
    isa: Isa,
    threads: usize,
    most: Most,
    /// By format; none where nothing here makes it.
    products: Vec<Option<Measured>>,
}

/// The most that a machine does of each kind of product, in operations a second.
#[derive(Clone, Copy)]
struct Most {
    f32: f64,
    bf16: f64,
    /// Of bytes; none where the CPU has no instruction for sums of their products, and nothing tells what it could do.
    int8: Option<f64>,
}

/// What a matrix of a format came to.
#[derive(Clone, Copy)]
struct Measured {
    /// Operations a second, unpacked when it was loaded.
    loaded: f64,
    /// The same left in its file.
    in_file: f64,
    /// How far a product of a matrix left in its file is off.
    off: f64,
    /// Operations a second of products of integers, and how far they are off, where the format's weights are some.
    integers: Option<(f64, f64)>,
}

impl Machine {
    fn measured(formats: &[Format]) -> Result<Self> {
        let isa = Isa::best();
        let before = Most::measured(isa);
        let products = formats.iter().map(|format| measured(*format)).collect::<Result<_>>()?;
        // Other programs may have been busy at either time.
        let most = before.or(Most::measured(isa));
        Ok(Self { isa, threads: rayon_threads(), most, products })
    }
}

impl Most {
    fn measured(isa: Isa) -> Self {
        let [f32, bf16] = [Compute::F32, Compute::Bf16].map(|compute| peaks::arithmetic(isa, compute));
        Self { f32, bf16, int8: peaks::int8(isa) }
    }

    /// The greater of both.
    fn or(self, other: Self) -> Self {
        let int8 = self.int8.zip(other.int8).map(|(a, b)| a.max(b));
        Self { f32: self.f32.max(other.f32), bf16: self.bf16.max(other.bf16), int8 }
    }

    /// What products of floats are a share of.
    fn floats(self) -> f64 {
        self.f32.max(self.bf16)
    }
}

/// How fast products with a matrix of a format are; none where nothing here makes the format.
fn measured(format: Format) -> Result<Option<Measured>> {
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
    let integers = match format.integers() {
        Some(_) => {
            let layer = layer(Residency::Mapped, Compute::Integers)?;
            Some((speed(&layer), off(&layer)))
        }
        None => None,
    };
    Ok(Some(Measured { loaded: speed(&loaded), in_file: speed(&in_file), off: off(&in_file), integers }))
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

/// What is done with weights of each format, in lines of 80 characters.
fn table(formats: &[Format]) -> String {
    let head = [
        columns(["", "", "linear", "", "", "", "conv2d", "", "", ""]),
        columns(["format", "bits", "CPU", "integers", "card", "embedding", "CPU", "card", "parameter", "convert"]),
    ];
    let line = |format: &Format| {
        let of = |operator, place| how(*format, operator, place).name();
        columns([
            format.name(),
            &((bits(*format) * 10_000.0).round() / 10_000.0).to_string(),
            of(Operator::Linear, Place::Cpu),
            if format.integers().is_some() { "yes" } else { "" },
            of(Operator::Linear, Place::Other),
            of(Operator::Embedding, Place::Cpu),
            of(Operator::Conv2d, Place::Cpu),
            of(Operator::Conv2d, Place::Other),
            of(Operator::Parameter, Place::Cpu),
            if is_written(*format) { "writes" } else { "" },
        ])
    };
    let legend = [
        "",
        "panels     in the order of the CPU's kernels: when loaded, or in each product",
        "integers   multiplied as the integers of the file, with `--compute integers`",
        "as packed  as it is stored; a card unpacks it in or for each product",
        "rows       left in the file, of which a prompt's rows are read",
        "f32        unpacked when loaded, to bf16 on a card that computes in that",
        "writes     made by `forge convert`",
    ];
    head.into_iter().chain(formats.iter().map(line)).chain(legend.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

fn columns([format, bits, linear, integers, card, embedding, conv2d, other, parameter, convert]: [&str; 10]) -> String {
    let line = format!(
        "{format:<7} {bits:>6} {linear:<6} {integers:<8} {card:<9} {embedding:<9} {conv2d:<6} {other:<4} {parameter:<9} {convert}"
    );
    line.trim_end().to_owned()
}

/// How fast products with each format are, and how exact.
fn measurements(formats: &[Format], Machine { isa, threads, most, products }: &Machine) -> String {
    let line = |(format, measured): (&Format, &Option<Measured>)| {
        let [loaded, in_file, off, integers, off_by_integers] = cells(*measured, *most);
        format!("{:<7} {loaded:>15} {in_file:>15} {off:>9} {integers:>15} {off_by_integers:>9}", format.name())
            .trim_end()
            .to_owned()
    };
    let head =
        format!("{:<7} {:>15} {:>15} {:>9} {:>15} {:>9}", "format", "loaded", "in file", "off", "integers", "off");
    let [f32, bf16] = [most.f32, most.bf16].map(|most| most / 1e9);
    let (bytes, share) = match most.int8 {
        Some(int8) => (format!(", {:.0} in bytes", int8 / 1e9), "as a share of the most in bytes"),
        None => (String::new(), "of which the most is not known for this CPU"),
    };
    let legend = [
        String::new(),
        format!("GFLOP/s of {ROWS} rows times a matrix [{WIDTH}, {WIDTH}]. The most that this machine does"),
        format!("with {threads} threads ({isa:?}): {f32:.0} in f32, {bf16:.0} in bf16{bytes}."),
        String::new(),
        "loaded    unpacked when loaded, as a share of the most in f32 or bf16".to_owned(),
        "in file   left in its file, as a share of the same".to_owned(),
        format!("integers  left in its file and multiplied as integers, {share}"),
        "off       root mean squared difference from f32, as a share of the products".to_owned(),
    ];
    [head].into_iter().chain(formats.iter().zip(products).map(line)).chain(legend).collect::<Vec<_>>().join("\n")
}

fn cells(measured: Option<Measured>, most: Most) -> [String; 5] {
    let none = || "-".to_owned();
    let Some(Measured { loaded, in_file, off, integers }) = measured else { return [(); 5].map(|()| none()) };
    let of = |speed: f64, most: Option<f64>| {
        let share = most.map_or_else(String::new, |most| format!(" ({:.0} %)", 100.0 * speed / most));
        format!("{:.0}{share}", speed / 1e9)
    };
    let [loaded, in_file] = [loaded, in_file].map(|speed| of(speed, Some(most.floats())));
    let [integers, off_by_integers] = match integers {
        Some((speed, off)) => [of(speed, most.int8), format!("{off:.2e}")],
        None => [none(), none()],
    };
    [loaded, in_file, format!("{off:.2e}"), integers, off_by_integers]
}

fn object(formats: &[Format], machine: Option<&Machine>) -> Value {
    let products = machine.map_or_else(|| vec![None; formats.len()], |machine| machine.products.clone());
    let measured = |Measured { loaded, in_file, off, integers }: Measured, most: Most| {
        let integers = integers.map(
            |(speed, off)| json!({ "gflops": speed / 1e9, "share": most.int8.map(|most| speed / most), "off": off }),
        );
        json!({
            "gflops": loaded / 1e9, "share": loaded / most.floats(),
            "gflops_in_file": in_file / 1e9, "share_in_file": in_file / most.floats(), "off": off, "integers": integers,
        })
    };
    let format = |(format, product): (&Format, Option<Measured>)| {
        let at = |place| {
            let all = Operator::ALL.map(|operator| (operator.name().to_owned(), json!(how(*format, operator, place))));
            Value::Object(all.into_iter().collect())
        };
        let measured = product.zip(machine).map(|(product, machine)| measured(product, machine.most));
        json!({
            "format": format.name(), "bits": bits(*format), "written": is_written(*format),
            "integers": format.integers().is_some(), "cpu": at(Place::Cpu), "other": at(Place::Other), "measured": measured,
        })
    };
    let formats: Vec<_> = formats.iter().zip(products).map(format).collect();
    let machine = machine.map(|Machine { isa, threads, most: Most { f32, bf16, int8 }, .. }| {
        json!({
            "level": format!("{isa:?}"), "threads": threads,
            "f32": f32 / 1e9, "bf16": bf16 / 1e9, "int8": int8.map(|most| most / 1e9),
        })
    });
    json!({ "formats": formats, "machine": machine })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_product_is_a_share_of_the_most_of_its_own_kind() {
        let most = Most { f32: 100e9, bf16: 200e9, int8: Some(400e9) };
        let product = Measured { loaded: 180e9, in_file: 160e9, off: 1.5e-3, integers: Some((300e9, 4e-3)) };
        assert_eq!(cells(Some(product), most), ["180 (90 %)", "160 (80 %)", "1.50e-3", "300 (75 %)", "4.00e-3"]);
        // without an instruction for bytes there is nothing to be a share of
        let [.., integers, _] = cells(Some(product), Most { int8: None, ..most });
        assert_eq!(integers, "300");
        assert_eq!(cells(None, most), ["-"; 5]);
    }

    #[test]
    fn the_most_is_what_was_seen_at_either_time() {
        let [a, b] = [[10.0, 40.0], [20.0, 30.0]].map(|[f32, bf16]| Most { f32, bf16, int8: Some(bf16) });
        let Most { f32, bf16, int8 } = a.or(b);
        assert_eq!((f32, bf16, int8), (20.0, 40.0, Some(40.0)));
    }
}
