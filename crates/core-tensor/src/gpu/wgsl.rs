//! What WGSL has not: types and numbers that are chosen when a text is compiled, which are put before it.

use std::fmt::Write;

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

/// What is before a kernel's text: number formats, how many numbers are read at a time, and what is defined. `T` is the format of weights and maps, `I` and
/// `O` those of what is read and written where they are others, in texts for matrix units as many as are read at a time; `V` are as many numbers as that, `F` the same in f32.
pub(super) fn header(choices: &[&str], defines: &[(&str, usize)], threads: usize) -> String {
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
    for name in choices {
        line(format_args!("const {name}: u32 = {}u;", value(name)));
    }
    header + ACTIVATIONS
}

/// Definitions that a header is made by: numbers that are read at a time, and the side of small matrices.
pub(super) const WIDE: &str = "WIDE";
pub(super) const SIZE: &str = "SIZE";

static ACTIVATIONS: &str = include_str!("wgsl/activations.wgsl");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_folded_where_a_dimension_is_longer_than_drivers_take_and_covers_all_of_it() {
        for x in [1, MOST_GROUPS, MOST_GROUPS + 1, 3 * MOST_GROUPS, 1 << 24] {
            let [columns, rows, one] = folded([x, 1, 1]);
            assert!(columns <= MOST_GROUPS && rows <= MOST_GROUPS && one == 1, "{x}");
            assert!((x..x + rows).contains(&(columns * rows)), "{x}");
            let [columns, sets, parts] = shared([x, 6, 1]);
            assert!(columns <= MOST_GROUPS && sets == 6 && (x..x + parts).contains(&(columns * parts)), "{x}");
        }
        assert_eq!(folded([70, 2, 1]), [70, 2, 1]);
    }

    #[test]
    fn numbers_are_read_four_at_a_time_where_every_run_is_a_multiple_of_that() {
        assert_eq!([wide(&[8, 0, 64]), wide(&[8, 6]), wide(&[])], [4, 1, 4]);
    }

    #[test]
    fn a_header_has_what_a_text_is_told_and_zeros_for_what_it_is_not() {
        let header_of = |defines: &[(&str, usize)]| header(&["TILE", "CONV"], defines, 64);
        let plain = header_of(&[("T_F32", 1), ("TILE", 32)]);
        for line in [
            "alias T = f32;",
            "alias V = T;",
            "const TILE: u32 = 32u;",
            "const CONV: u32 = 0u;",
            "const THREADS: u32 = 64u;",
        ] {
            assert!(plain.contains(line), "{line}: {plain}");
        }
        assert!(!plain.contains("enable"), "{plain}");
        let units = header_of(&[("T_F16", 1), (SIZE, 16), (WIDE, 4), ("OUT_F32", 1)]);
        let lines = ["enable f16;\nenable wgpu_cooperative_matrix;\n", "alias O = F;", "alias V = vec4<T>;"];
        for line in lines.into_iter().chain(["alias Sums = coop_mat16x16<f32, C>;", "const SIZE: u32 = 16u;"]) {
            assert!(units.contains(line), "{line}: {units}");
        }
    }
}
