//! What the manual says of the instructions, in values that are computed by hand or by plain loops.
//!
//! On a CPU with AMX the same tests ask the CPU, but for those of faults.

use std::{arch::asm, io::Read, os::fd::FromRawFd};

use crate::isa::{Isa, Level};

/// A configuration of tiles, by their rows and the bytes of each.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Config([u8; 64]);

impl Config {
    fn of(tiles: &[(u8, u8)]) -> Self {
        let mut config = [0; 64];
        config[0] = 1;
        for (tile, &(rows, bytes)) in tiles.iter().enumerate() {
            (config[48 + tile], config[16 + 2 * tile]) = (rows, bytes);
        }
        Self(config)
    }

    /// Configures this thread's tiles, where there are any.
    fn load(&self) -> bool {
        let is_there = Isa::available().iter().any(|isa| isa.level() == Level::Amx);
        if is_there {
            // SAFETY: the instruction is there; it reads 64 bytes.
            unsafe { asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) }
        }
        is_there
    }

    /// That of this thread's tiles.
    fn stored() -> Self {
        let mut config = Self([7; 64]);
        // SAFETY: the instruction is there; it writes 64 bytes.
        unsafe { asm!("sttilecfg [{}]", in(reg) config.0.as_mut_ptr(), options(nostack)) }
        config
    }
}

/// Executes `tileloadd` or what is named of memory whose rows are so many bytes apart. The memory has to have the tile.
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        load!("tileloadd", $tile, $from, $stride)
    };
    ($name:literal, $tile:literal, $from:expr, $stride:expr) => {
        // SAFETY: the tests say of each tile that the memory has it.
        unsafe {
            asm!(concat!($name, " ", $tile, ", [{} + {}]"), in(reg) $from.as_ptr(), in(reg) $stride as usize,
                options(nostack, readonly))
        }
    };
}

macro_rules! store {
    ($tile:literal, $to:expr, $stride:expr) => {
        // SAFETY: the tests say of each tile that the memory has it.
        unsafe {
            asm!(concat!("tilestored [{} + {}], ", $tile), in(reg) $to.as_mut_ptr(), in(reg) $stride as usize,
                options(nostack))
        }
    };
}

macro_rules! execute {
    ($($line:literal),*) => {
        // SAFETY: touches tiles alone.
        unsafe { asm!($($line),*, options(nostack, nomem)) }
    };
}

/// Whole numbers from -8 to 8, no two neighbours' the same.
fn number(i: usize) -> f32 {
    ((i * 7 + i / 5) % 17) as f32 - 8.0
}

fn bf16(v: f32) -> u16 {
    half::bf16::from_f32(v).to_bits()
}

#[test]
fn the_level_is_there_wherever_that_below_it_is() {
    let levels: Vec<Level> = Isa::available().into_iter().map(Isa::level).collect();
    assert_eq!(levels.contains(&Level::Avx512Bf16), levels.contains(&Level::Amx), "{levels:?}");
}

#[test]
fn a_product_of_whole_tiles_is_that_of_their_matrices() {
    if !Config::of(&[(16, 64); 8]).load() {
        return;
    }
    // rows of 16 pairs; and for each pair of inputs those of 16 outputs side by side
    let left: Vec<u16> = (0..16 * 32).map(|i| bf16(number(i))).collect();
    let right: Vec<u16> = (0..32 * 16).map(|i| bf16(number(3 * i + 1))).collect();
    let mut sums: Vec<f32> = (0..16 * 16).map(|i| number(5 * i)).collect();
    load!("tmm0", sums, 64);
    load!("tmm4", left, 64);
    load!("tmm6", right, 64);
    execute!("tdpbf16ps tmm0, tmm4, tmm6");
    store!("tmm0", sums, 64);
    execute!("tilerelease");
    for (i, &found) in sums.iter().enumerate() {
        let (row, column) = (i / 16, i % 16);
        let mut expected = f64::from(number(5 * i));
        for k in 0..32 {
            let right = number(3 * (k / 2 * 32 + 2 * column + k % 2) + 1);
            expected += f64::from(number(row * 32 + k)) * f64::from(right);
        }
        assert_eq!(f64::from(found), expected, "row {row}, column {column}");
    }
}

#[test]
fn a_product_of_parts_of_tiles_takes_three_different_tiles_in_their_order() {
    // three rows of five outputs, from four inputs
    let mut shapes = [(16, 64); 8];
    (shapes[7], shapes[3], shapes[1]) = ((3, 20), (3, 8), (2, 20));
    if !Config::of(&shapes).load() {
        return;
    }
    let left = [[1, 2, 3, 4], [0, -1, 5, 0], [2, 2, -2, 7]];
    let right = [[1, 2, 3, 4, 5], [-1, 0, 1, 0, 2], [6, 5, 4, 3, 2], [1, 1, -1, -1, 8]];
    let expected = [[21, 21, 13, 9, 47], [31, 25, 19, 15, 8], [-5, 1, -7, -5, 66]];
    let words = |v: i32| bf16(v as f32);
    let left = left.map(|row| row.map(words));
    let mut pairs = [[[0; 2]; 5]; 2];
    for (k, row) in right.iter().enumerate() {
        for (column, &v) in row.iter().enumerate() {
            pairs[k / 2][column][k % 2] = words(v);
        }
    }
    let mut sums = [[0.5f32; 5]; 3];
    load!("tmm7", sums, 20);
    load!("tmm3", left, 8);
    load!("tmm1", pairs, 20);
    execute!("tdpbf16ps tmm7, tmm3, tmm1");
    store!("tmm7", sums, 20);
    execute!("tilerelease");
    assert_eq!(sums, expected.map(|row| row.map(|v: i32| v as f32 + 0.5)));
}

/// What `sum` becomes by pairs of a row and of a column.
fn summed(sum: f32, pairs: &[[f32; 4]]) -> Option<f32> {
    let bytes = 4 * pairs.len() as u8;
    if !Config::of(&[(1, 4), (1, bytes), (pairs.len() as u8, 4)]).load() {
        return None;
    }
    let left: Vec<u16> = pairs.iter().flat_map(|p| [bf16(p[0]), bf16(p[2])]).collect();
    let right: Vec<u16> = pairs.iter().flat_map(|p| [bf16(p[1]), bf16(p[3])]).collect();
    let mut sum = [sum];
    load!("tmm0", sum, 0);
    load!("tmm1", left, 0);
    load!("tmm2", right, 4);
    execute!("tdpbf16ps tmm0, tmm1, tmm2");
    store!("tmm0", sum, 0);
    execute!("tilerelease");
    Some(sum[0])
}

#[test]
fn the_halves_of_pairs_are_summed_apart_and_rounded_each_time() {
    let big = 4096.0; // whose square is the first from which on f32 has only even numbers
    let Some(apart) = summed(1.0, &[[big, big, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]) else { return };
    // 2²⁴ + 1 + 1 is 2²⁴, each time; with 1 + 1 it is 2²⁴ + 2; and 1 more is halfway, so that the even one is taken.
    assert_eq!(apart, 16777220.0);
    // Without rounding the product by itself, 2¹²⁸ - 2¹²⁷ is no infinity.
    let great = 2f32.powi(127);
    assert_eq!(summed(0.0, &[[-great, 1.0, 0.0, 0.0], [great, 2.0, 0.0, 0.0]]), Some(great));
}

#[test]
fn denormals_are_zeros_before_and_after_and_nan_stays() {
    let two = |n| 2f32.powi(n);
    let Some(of_input) = summed(0.0, &[[two(-130), two(127), 0.0, 0.0]]) else { return };
    assert_eq!(of_input, 0.0);
    assert_eq!(summed(0.0, &[[two(-64), two(-64), 0.0, 0.0]]), Some(0.0));
    assert_eq!(summed(two(-127), &[[0.0; 4]]), Some(0.0));
    assert_eq!(summed(0.0, &[[two(-63), two(-63), 0.0, 0.0]]), Some(two(-126)));
    // Half of the smallest normal number by each half of a pair is no number either.
    assert_eq!(summed(0.0, &[[two(-64), two(-63), two(-64), two(-63)]]), Some(0.0));
    assert!(summed(0.0, &[[f32::NAN, 1.0, 0.0, 0.0]]).is_some_and(f32::is_nan));
    // And the thread's own arithmetic has denormals as before.
    assert_eq!(std::hint::black_box(two(-126)) * 0.5, two(-127));
}

#[test]
fn columns_beyond_a_tile_s_width_have_no_say() {
    if !Config::of(&[(2, 4), (2, 4), (1, 4), (2, 8), (1, 8)]).load() {
        return;
    }
    // given a tile of one column, of a NaN and a number
    let mut sums = [[0.0f32, 9.0], [0.0, 9.0]];
    load!("tmm0", sums, 8);
    load!("tmm1", [[bf16(f32::NAN), 0], [bf16(2.0), 0]], 4);
    load!("tmm2", [bf16(3.0), 0], 4);
    execute!("tdpbf16ps tmm0, tmm1, tmm2");
    store!("tmm0", sums, 8);
    execute!("tilerelease");
    assert!(sums[0][0].is_nan() && sums[1][0] == 6.0 && sums.map(|row| row[1]) == [9.0; 2], "{sums:?}");
}

#[test]
fn loads_and_stores_move_rows_as_far_apart_as_is_said_and_nothing_else() {
    if !Config::of(&[(5, 24), (16, 64)]).load() {
        return;
    }
    let from: Vec<u8> = (0..5 * 100).map(|i| (i % 251) as u8).collect();
    for name in [0, 1] {
        let mut to = [[255u8; 70]; 7];
        match name {
            0 => load!("tileloadd", "tmm0", from, 100),
            _ => load!("tileloaddt1", "tmm0", from, 100),
        }
        store!("tmm0", to[1..], 70);
        for (row, found) in to.iter().enumerate() {
            let own = if (1..6).contains(&row) { &from[(row - 1) * 100..][..24] } else { &[] };
            assert_eq!(found[..own.len()], *own, "row {row}");
            assert!(found[own.len()..].iter().all(|&byte| byte == 255), "row {row}: {found:?}");
        }
    }
    // Rows from the last to the first, and one row again and again.
    let mut to = [[255u8; 24]; 5];
    load!("tmm0", from[400..], -100isize);
    store!("tmm0", to, 24);
    assert!(to.iter().enumerate().all(|(row, found)| *found == from[400 - 100 * row..][..24]));
    load!("tmm0", from[7..], 0);
    store!("tmm0", to, 24);
    execute!("tilerelease");
    assert!(to.iter().all(|found| *found == from[7..31]));
}

#[test]
fn every_tile_is_one_of_its_own() {
    if !Config::of(&[(1, 4); 8]).load() {
        return;
    }
    let mut all = [10u32, 11, 12, 13, 14, 15, 16, 17];
    macro_rules! each {
        ($($number:literal $tile:literal),*) => {
            $(load!($tile, all[$number..], 4);)*
            all = [0; 8];
            execute!("tilezero tmm2");
            $(store!($tile, all[$number..], 4);)*
        };
    }
    each!(0 "tmm0", 1 "tmm1", 2 "tmm2", 3 "tmm3", 4 "tmm4", 5 "tmm5", 6 "tmm6", 7 "tmm7");
    assert_eq!(all, [10, 11, 0, 13, 14, 15, 16, 17]);
    // Another thread's are others, and to configure them is to clear them.
    std::thread::spawn(|| {
        Config::of(&[(1, 4); 8]).load();
        load!("tmm0", [99u32], 4);
    })
    .join()
    .expect("a thread");
    store!("tmm0", all, 4);
    assert_eq!(all[0], 10);
    Config::of(&[(1, 4); 8]).load();
    store!("tmm0", all, 4);
    execute!("tilerelease");
    assert_eq!(all[0], 0);
}

#[test]
fn a_configuration_is_given_back_until_tiles_are_released() {
    let config = Config::of(&[(16, 64), (5, 12)]);
    if !config.load() {
        return;
    }
    assert_eq!(Config::stored(), config);
    execute!("tilerelease");
    assert_eq!(Config::stored(), Config([0; 64]));
    config.load();
    Config([0; 64]).load();
    assert_eq!(Config::stored(), Config([0; 64]));
}

#[test]
fn addresses_are_sums_of_every_kind() {
    if !Config::of(&[(2, 4); 8]).load() {
        return;
    }
    let all: Vec<u32> = (0..200).collect();
    macro_rules! found {
        ($address:literal, $base:tt at $first:expr, $index:tt is $value:expr) => {{
            let mut to = [0u32; 2];
            // SAFETY: all addresses are within `all`.
            unsafe {
                asm!(concat!("tileloadd tmm5, ", $address), in($base) all[$first..].as_ptr(), in($index) $value as usize,
                    options(nostack, readonly));
            }
            store!("tmm5", to, 4);
            to
        }};
    }
    assert_eq!(found!("[rax + rcx]", "rax" at 3, "rcx" is 8), [3, 5]);
    assert_eq!(found!("[rsi + 2*rdi + 16]", "rsi" at 3, "rdi" is 8), [7, 11]);
    assert_eq!(found!("[r8 + 4*r9 - 8]", "r8" at 3, "r9" is 5), [1, 6]);
    assert_eq!(found!("[r13 + 8*r12 + 400]", "r13" at 3, "r12" is 4), [103, 111]);
    assert_eq!(found!("[r13 + r15 - 400]", "r13" at 103, "r15" is 4), [3, 4]);
    assert_eq!(found!("[r12 + r14]", "r12" at 9, "r14" is 4), [9, 10]);
    assert_eq!(found!("[rdx + r10]", "rdx" at 9, "r10" is 4), [9, 10]);
    assert_eq!(found!("[r11]", "r11" at 9, "rax" is 4), [9, 9]);
    let mut to = [0u32; 9];
    // SAFETY: the second and the ninth word of `to`.
    unsafe { asm!("tilestored [r9 + 4*r13 + 4], tmm5", in("r9") to.as_mut_ptr(), in("r13") 7usize, options(nostack)) }
    assert_eq!(to, [0, 9, 0, 0, 0, 0, 0, 0, 9]);
    let configs = [Config::of(&[(3, 4)]), Config::of(&[(4, 4)]), Config::of(&[(5, 4)])];
    // SAFETY: the address of the last one.
    unsafe { asm!("ldtilecfg [r12 + 2*rdx + 64]", in("r12") &raw const configs, in("rdx") 32usize, options(nostack)) }
    assert_eq!(Config::stored(), configs[2]);
    execute!("tilerelease");
}

/// The signal that ends a child process that does this, and what it says.
fn death(of: impl FnOnce()) -> (i32, String) {
    let mut ends = [0; 2];
    // SAFETY: makes a pipe.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child does nothing that a forked child of several threads must not: a copy of a descriptor, instructions, its end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::dup2(ends[1], libc::STDERR_FILENO) };
        of();
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "a child process");
    // SAFETY: both ends are this process's own, and nobody else closes them.
    let [mut output, input] = ends.map(|end| unsafe { std::fs::File::from_raw_fd(end) });
    drop(input);
    let (mut said, mut status) = (String::new(), 0);
    output.read_to_string(&mut said).expect("what it says");
    // SAFETY: waits for that child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    (if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }, said)
}

#[test]
fn what_the_cpu_would_refuse_ends_the_process_with_the_instruction_s_name() {
    if !Config::of(&[(4, 16), (4, 16), (3, 16), (4, 12)]).load() || super::super::has_amx_bf16() {
        return;
    }
    let (mut memory, aborted) = ([0u8; 1024], |message: &str| (libc::SIGABRT, format!("emulated tiles: {message}\n")));
    let bad = |change: fn(&mut Config)| {
        let mut config = Config::of(&[(4, 16)]);
        change(&mut config);
        death(|| _ = config.load())
    };
    let (unset, unfit) = ("a tile that is not configured", "tdpbf16ps: tiles that do not fit each other");
    assert_eq!(death(|| load!("tmm4", memory, 64)), aborted(&format!("tileloadd: {unset}")));
    assert_eq!(death(|| store!("tmm4", memory, 64)), aborted(&format!("tilestored: {unset}")));
    assert_eq!(death(|| execute!("tilezero tmm4")), aborted(&format!("tilezero: {unset}")));
    assert_eq!(death(|| execute!("tilerelease", "tilezero tmm0")), aborted(&format!("tilezero: {unset}")));
    assert_eq!(death(|| execute!("tdpbf16ps tmm0, tmm1, tmm4")), aborted(&format!("tdpbf16ps: {unset}")));
    assert_eq!(death(|| execute!("tdpbf16ps tmm0, tmm1, tmm2")), aborted(unfit));
    assert_eq!(death(|| execute!("tdpbf16ps tmm3, tmm0, tmm1")), aborted(unfit));
    // `tdpbf16ps tmm0, tmm1, tmm0`, which no assembler takes.
    assert_eq!(death(|| execute!(".byte 0xc4, 0xe2, 0x7a, 0x5c, 0xc1")), aborted("tdpbf16ps: one tile twice"));
    assert_eq!(bad(|config| config.0[0] = 2), aborted("ldtilecfg: a palette that is unknown"));
    assert_eq!(bad(|config| config.0[1] = 1), aborted("ldtilecfg: a row to start with"));
    for reserved in [2, 15, 32, 47, 56, 63] {
        let mut config = Config::of(&[(4, 16)]);
        config.0[reserved] = 1;
        assert_eq!(death(|| _ = config.load()), aborted("ldtilecfg: reserved bytes that are not 0"), "{reserved}");
    }
    for size in [(17, 64), (16, 65), (0, 4), (1, 0)] {
        let config = Config::of(&[(4, 16), size]);
        assert_eq!(death(|| _ = config.load()), aborted("ldtilecfg: a tile of a size that there is not"), "{size:?}");
    }
    execute!("tilerelease");
}

#[test]
fn another_illegal_instruction_ends_the_process_as_ever() {
    if !Config([0; 64]).load() {
        return;
    }
    execute!("tilerelease");
    // SAFETY: an instruction that no CPU has.
    let (signal, said) = death(|| unsafe { asm!("ud2", options(nostack, nomem)) });
    assert_eq!((signal, said.as_str()), (libc::SIGILL, ""));
    // A tile instruction that the kernels have no use for: `tdpbssd tmm0, tmm1, tmm2`.
    // SAFETY: of tiles that are not configured, so that no CPU has it either.
    let (signal, _) = death(|| unsafe { asm!(".byte 0xc4, 0xe2, 0x6b, 0x5e, 0xc1", options(nostack, nomem)) });
    assert_eq!(signal, libc::SIGILL);
}
