//! `forge devices`: what can compute on this machine, and whether it computes rightly.

use core_tensor::{Compute, Device, Listed, Stored, check, device_for, devices, ops::suite::Difference, tensor};
use memory::Bytes;
use serde_json::{Value, json};

use super::{
    args::DevicesArgs,
    overrides::{started, threads_of_environment},
    term::{print, print_json},
};
use crate::error::{Error, Result};

/// How far an operation may be from the same in f64, as a share of it: one rounding of every value makes 3e-8 in f32, 2e-3 in bf16 and
/// 2e-4 in f16, cutting it off 5e-4 in TF32, and an operation has several.
const ALLOWED: [(Compute, &str, f64); 4] = [
    (Compute::F32, "f32", 1e-6),
    (Compute::Bf16, "bf16", 2e-2),
    (Compute::F16, "f16", 2e-3),
    (Compute::Tf32, "tf32", 2e-3),
];

/// Prints a line for each device, or a JSON object.
pub(super) fn run(args: &DevicesArgs) -> Result<()> {
    started(threads_of_environment()?, false)?.compute(|| told(args))
}

fn told(args: &DevicesArgs) -> Result<()> {
    let mut wrong = Vec::new();
    let mut lines = Vec::new();
    let mut objects = Vec::new();
    let all = devices();
    let width = all.iter().map(|device| device.name.len()).max().unwrap_or(0);
    for listed in all {
        let checks = if args.check && listed.fault.is_none() { checks(&listed)? } else { Vec::new() };
        lines.push(line(&listed, width));
        for Check { format, allowed, differences, units } in &checks {
            let furthest = differences.iter().max_by(|a, b| a.share.total_cmp(&b.share));
            let furthest =
                furthest.map_or_else(String::new, |it| format!(", at most {:.1e} off ({})", it.share, it.operation));
            let units = units.map_or_else(String::new, |side| format!(" by matrix units of {side} × {side}"));
            lines.push(format!("{:width$}  {} operations in {format}{units}{furthest}", "", differences.len()));
            for it in differences.iter().filter(|it| it.share > *allowed) {
                lines.push(format!("{:width$}  wrong in {format}: {}, {:.1e} off", "", it.operation, it.share));
                wrong.push(format!("{} in {format} on {}", it.operation, listed.name));
            }
        }
        objects.push(object(&listed, &checks));
    }
    match args.json {
        true => print_json(&json!({ "devices": objects }))?,
        false => print(&lines.join("\n"))?,
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Wrong { operations: wrong }) }
}

/// What was found in a number format.
struct Check {
    format: &'static str,
    allowed: f64,
    differences: Vec<Difference>,
    /// The side of small matrices that the device's instructions multiply, where kernels for Vulkan use them.
    units: Option<usize>,
}

fn checks(listed: &Listed) -> Result<Vec<Check>> {
    let is_here = |compute| match (compute, listed.name.split(':').next()) {
        (Compute::F32 | Compute::Integers, _) => true,
        (Compute::Bf16, Some("cpu")) => kernels::Isa::best().has_bf16(),
        (Compute::F16, _) => core_tensor::has_f16(&listed.name),
        (Compute::Bf16 | Compute::Tf32, backend) => backend == Some("cuda"),
    };
    let of = |(compute, format, allowed)| {
        let device = device_for(&listed.name, compute).map_err(forge::Error::from)?;
        let differences = check::differences(&device, compute).map_err(forge::Error::from)?;
        let units = check::matrix_units(&device).filter(|_| compute == Compute::F16);
        Ok(Check { format, allowed, differences: [differences, of_formats(&device, compute)?].concat(), units })
    };
    ALLOWED.into_iter().filter(|(compute, ..)| is_here(*compute)).map(of).collect()
}

/// Weights of each format that a device unpacks by itself, beside those that are unpacked on the host.
fn of_formats(device: &Device, compute: Compute) -> Result<Vec<Difference>> {
    const SHAPE: [usize; 2] = [64, 512];
    let weights: Vec<f32> =
        (0..SHAPE[0] * SHAPE[1]).map(|i| (i as f32 * 0.7).sin() * (1.0 + (i % 37) as f32)).collect();
    let mut differences = Vec::new();
    for format in quant::operators::computed().filter(|format| format.bits().is_some()) {
        let Some(blocks) = quant::encode::packed(format, &weights) else { continue };
        let stored = Stored::of_bytes(format, SHAPE.to_vec(), blocks).map_err(forge::Error::from)?;
        if let Some(found) = check::unpacked(&stored, device, compute).map_err(forge::Error::from)? {
            let expected = stored.to_f32().unwrap_or_default();
            differences.push(Difference::between(format!("weights of {format}"), &found, &expected));
            differences.extend(few_rows(&stored, &expected, device, compute)?);
        }
    }
    Ok(differences)
}

/// Few rows times such a matrix, beside those of the weights as they are unpacked on the host.
fn few_rows(stored: &Stored, weights: &[f32], device: &Device, compute: Compute) -> Result<Option<Difference>> {
    const ROWS: usize = 3;
    let width = stored.shape()[1];
    let x: Vec<f32> = (0..ROWS * width).map(|i| (i as f32 * 0.7).cos()).collect();
    let found = check::thin(stored, &tensor(x.clone(), [ROWS, width], device), None, compute);
    let dot = |(x, w): (&[f32], &[f32])| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
    let rows = x.chunks_exact(width).flat_map(|x| weights.chunks_exact(width).map(move |w| (x, w)));
    let expected: Vec<f32> = rows.map(|row| dot(row) as f32).collect();
    let difference =
        |found: Vec<f32>| Difference::between(format!("few rows times {}", stored.format()), &found, &expected);
    Ok(found.map_err(forge::Error::from)?.map(difference))
}

fn line(Listed { name, about, memory, fault }: &Listed, width: usize) -> String {
    let memory = memory.map_or_else(String::new, |bytes| format!(", {}", Bytes(bytes)));
    let about = Some([about.clone(), memory].concat()).filter(|about| !about.is_empty());
    let fault = fault.as_ref().map(|fault| format!("can't compute: {fault}"));
    format!("{name:width$}  {}", about.into_iter().chain(fault).collect::<Vec<_>>().join("; "))
}

fn object(Listed { name, about, memory, fault }: &Listed, checks: &[Check]) -> Value {
    let of_format = |Check { format, differences, units, .. }: &Check| {
        let each = differences.iter().map(|it| json!({ "operation": it.operation, "off": it.share }));
        json!({ "format": format, "operations": each.collect::<Vec<_>>(), "matrix_units": units })
    };
    let checks: Vec<Value> = checks.iter().map(of_format).collect();
    json!({ "name": name, "about": about, "memory": memory, "fault": fault, "checks": checks })
}
