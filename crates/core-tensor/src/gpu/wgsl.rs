//! What WGSL has not: types and numbers that are chosen when a text is compiled, which are put before it.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use burn_cubecl::CubeDevice;
use half::f16;
use kernels::{Compute, Values};

use super::{After, Scoring, View, attend, kernel::Kernel, linear, matrix};
use crate::{Device, in_f32, on_host, ready_again};

/// Groups that a driver takes in one dimension at least, which is as many as most take.
const MOST_GROUPS: usize = 65_535;

/// A grid of one dimension, folded into two where it is longer than drivers take. Kernels with such a grid count `group.x + group.y * groups.x`.
pub(super) fn folded(grid: [usize; 3]) -> [usize; 3] {
    match grid {
        [x, 1, 1] if x > MOST_GROUPS => {
            let rows = x.div_ceil(MOST_GROUPS);
            [x.div_ceil(rows), rows, 1]
        }
        _ => grid,
    }
}

/// A grid whose first dimension goes on in its third where it is longer than drivers take: of kernels that count `group.x + group.z * groups.x`.
pub(super) fn shared([x, y, _]: [usize; 3]) -> [usize; 3] {
    let parts = x.div_ceil(MOST_GROUPS);
    [x.div_ceil(parts), y, parts]
}

/// How many numbers are read at a time where runs of such lengths, and whatever is between them, are read.
pub(super) fn wide(lengths: &[usize]) -> usize {
    if lengths.iter().all(|length| length.is_multiple_of(4)) { 4 } else { 1 }
}

/// Instructions of a card for products of small matrices in f16, with sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    /// Rows and columns of the matrices: 8 or 16.
    pub(crate) side: usize,
    /// Threads that have a matrix in common at most.
    pub(crate) lanes: usize,
}

/// The devices that have them, and whether they were seen to multiply rightly.
static KNOWN: Mutex<Vec<(CubeDevice, Units, bool)>> = Mutex::new(Vec::new());

/// Has kernels take a device's instructions for products of matrices from now on.
pub(crate) fn know(device: &Device, units: Units) {
    let Some(view) = View::on(device) else { return };
    let mut known = known();
    known.retain(|(other, ..)| *other != view.0.device);
    known.push((view.0.device, units, false));
}

/// Has a device multiply by those instructions once: wgpu calls them experimental, and what it makes of a text leaves it to drivers in which order threads
/// see what others of their group have written. One whose results are wrong does without them.
pub(crate) fn try_out(device: &Device) {
    let Some(view) = View::on(device) else { return };
    if !known().iter().any(|(other, _, is_tried)| *other == view.0.device && !is_tried) {
        return;
    }
    let works = || multiplies_rightly(device) && attends_rightly(device);
    let is_right = catch_unwind(AssertUnwindSafe(works)).unwrap_or(false);
    let mut known = known();
    match is_right {
        true => known.iter_mut().filter(|(other, ..)| *other == view.0.device).for_each(|known| known.2 = true),
        false => known.retain(|(other, ..)| *other != view.0.device),
    }
    drop(known);
    ready_again(device);
}

fn known() -> MutexGuard<'static, Vec<(CubeDevice, Units, bool)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A product of small whole numbers, which f16 has and whose sums it has.
fn multiplies_rightly(device: &Device) -> bool {
    const M: usize = 70;
    const N: usize = 130;
    const K: usize = 40;
    let whole = |count: usize, by: usize| (0..count).map(|i| (i * by % 7) as f32 - 3.0).collect::<Vec<_>>();
    let (x, w) = (whole(M * K, 5), whole(N * K, 3));
    let of = |values: &[f32], shape| matrix(Values::F32(values), shape, Compute::F16, device);
    let Some(found) =
        of(&x, [M, K]).zip(of(&w, [N, K])).and_then(|(x, w)| linear(&x, &w, Compute::F16, After::default()))
    else {
        return false;
    };
    let dot = |(x, w): (&[f32], &[f32])| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    let expected = x.chunks(K).flat_map(|x| w.chunks(K).map(move |w| dot((x, w))));
    on_host(&in_f32(found)).is_ok_and(|found| found.into_iter().eq(expected))
}

/// Attention of a few waves.
fn attends_rightly(device: &Device) -> bool {
    const N: usize = 70;
    const D: usize = 64;
    let wave = |by: f32| (0..N * D).map(|i| f16::from_f32((i as f32 * by).sin()).to_f32()).collect::<Vec<_>>();
    let values = [wave(0.37), wave(0.53), wave(0.71)];
    let of = |values: &Vec<f32>| {
        let rows = matrix(Values::F32(values), [N, D], Compute::F16, device)?;
        Some(rows.reshape([1, 1, N, D]))
    };
    let [Some(q), Some(k), Some(v)] = values.each_ref().map(of) else { return false };
    let scoring = Scoring { scale: 0.5, relative: None, full: None, is_causal: false, seen: None };
    let Some(found) = attend(&[q, k, v], &scoring) else { return false };
    let [q, k, v] = values.each_ref().map(|x| x.chunks(D).collect::<Vec<_>>());
    let row = |q: &&[f32]| {
        let weights: Vec<f32> =
            k.iter().map(|k| (0.5 * q.iter().zip(*k).map(|(q, k)| q * k).sum::<f32>()).exp()).collect();
        let sum: f32 = weights.iter().sum();
        (0..D).map(|c| weights.iter().zip(&v).map(|(w, v)| w * v[c]).sum::<f32>() / sum).collect::<Vec<_>>()
    };
    let expected = q.iter().flat_map(row);
    on_host(&in_f32(found)).is_ok_and(|found| found.into_iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-2))
}

impl View {
    /// The device's instructions for products of matrices, where WGSL has them.
    pub(super) fn matrix_units(&self) -> Option<Units> {
        known().iter().find(|(device, ..)| *device == self.0.device).map(|(_, units, _)| *units)
    }
}

/// What is before a kernel's text: number formats, how many numbers are read at a time, and what is defined. `T` is the format of weights and maps, `I` and
/// `O` those of what is read and written where they are others, in texts for matrix units as many as are read at a time; `V` are as many numbers as that, `F` the same in f32.
pub(super) fn header(Kernel { text, defines, threads, .. }: &Kernel) -> String {
    let value = |name: &str| defines.iter().find(|(defined, _)| *defined == name).map_or(0, |(_, value)| *value);
    let is_half = value("T_F16") == 1;
    let is_of_units = value(SIZE) > 0;
    let other = |name: &str| match (value(name), is_of_units) {
        (1, false) => "f32",
        (_, false) => "T",
        (1, true) => "F",
        (_, true) => "V",
    };
    let mut header = String::new();
    if is_half {
        header += "enable f16;\n";
    }
    if is_of_units {
        header += "enable wgpu_cooperative_matrix;\n";
    }
    let float = if is_half { "f16" } else { "f32" };
    let mut line = |text: std::fmt::Arguments| writeln!(header, "{text}").expect("a text takes every line");
    line(format_args!("alias T = {float};\nalias I = {};\nalias O = {};", other("IN_F32"), other("OUT_F32")));
    let (wide, all, total, front) = match value(WIDE) {
        4 => (4, "vec4", "(v.x + v.y) + (v.z + v.w)", "v"),
        _ => (1, "", "v", "v.x"),
    };
    let many = |of: &str| if all.is_empty() { of.to_owned() } else { format!("{all}<{of}>") };
    line(format_args!("alias V = {};\nalias F = {};\nconst WIDE: u32 = {wide}u;", many("T"), many("f32")));
    line(format_args!("fn total(v: F) -> f32 {{ return {total}; }}\nfn widen(v: V) -> F {{ return F(v); }}"));
    line(format_args!("fn front(v: vec4<f32>) -> F {{ return {front}; }}"));
    // The largest number of f16 in place of what is larger; no number stays none.
    let narrow =
        if is_half { "V(select(select(v, F(-65504.0), v < F(-65504.0)), F(65504.0), v > F(65504.0)))" } else { "v" };
    line(format_args!("fn narrow(v: F) -> V {{ return {narrow}; }}\nconst THREADS: u32 = {threads}u;"));
    if let side @ 1.. = value(SIZE) {
        for (name, format, role) in [("MatA", "f16", "A"), ("MatB", "f16", "B"), ("Sums", "f32", "C")] {
            line(format_args!("alias {name} = coop_mat{side}x{side}<{format}, {role}>;"));
        }
        line(format_args!("const SIZE: u32 = {side}u;"));
    }
    for name in text.choices {
        line(format_args!("const {name}: u32 = {}u;", value(name)));
    }
    header + ACTIVATIONS
}

/// Definitions that a header is made by: numbers that are read at a time, and the side of small matrices.
pub(super) const WIDE: &str = "WIDE";
pub(super) const SIZE: &str = "SIZE";

static ACTIVATIONS: &str = include_str!("wgsl/activations.wgsl");
