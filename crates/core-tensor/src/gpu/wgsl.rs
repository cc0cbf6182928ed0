//! What WGSL has not: types and numbers that are chosen when a text is compiled, which are put before it.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use super::{View, kernel::Kernel};
use crate::Device;
use burn_cubecl::CubeDevice;

mod trial;

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

/// The devices that have them, and whether they were seen to compute rightly by them.
static KNOWN: Mutex<Vec<(CubeDevice, Units, Trial)>> = Mutex::new(Vec::new());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// Nobody asked for products of f16 yet.
    None,
    /// One thread computes by them, and no other computes on the device.
    Now(ThreadId),
    Passed,
}

/// Has kernels take a device's instructions for products of matrices once they were [tried](try_out).
pub(crate) fn know(device: &Device, units: Units) {
    let Some(view) = View::on(device) else { return };
    let mut known = known();
    known.retain(|(other, ..)| *other != view.0.device);
    known.push((view.0.device, units, Trial::None));
}

/// Has a device compute by those instructions, if nobody had yet: wgpu calls them experimental, and what naga makes of a text leaves it to drivers in which
/// order threads see what others of their group have written. Whether results are right; kernels do without them where they are not.
pub(crate) fn try_out(device: &Device) -> bool {
    let Some(View(own)) = View::on(device) else { return true };
    let set =
        |trial: Trial| known().iter_mut().filter(|(other, ..)| *other == own.device).for_each(|known| known.2 = trial);
    if !known().iter().any(|(other, _, trial)| *other == own.device && *trial == Trial::None) {
        return true;
    }
    set(Trial::Now(thread::current().id()));
    let is_right = catch_unwind(AssertUnwindSafe(|| trial::is_right(device))).unwrap_or(false);
    match is_right {
        true => set(Trial::Passed),
        false => known().retain(|(other, ..)| *other != own.device),
    }
    is_right
}

/// The side of the matrices that a device's instructions for products take, where kernels for Vulkan use them.
pub(crate) fn side_of_units(device: &Device) -> Option<usize> {
    Some(View::on(device)?.matrix_units()?.side)
}

fn known() -> MutexGuard<'static, Vec<(CubeDevice, Units, Trial)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// The device's instructions for products of matrices, where WGSL has them.
    pub(super) fn matrix_units(&self) -> Option<Units> {
        let is_on = |trial: &Trial| [Trial::Passed, Trial::Now(thread::current().id())].contains(trial);
        let known = known();
        known.iter().find(|(device, _, trial)| *device == self.0.device && is_on(trial)).map(|(_, units, _)| *units)
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
