//! Small kernels, and what they do.

use crate::{
    block::{Shape, launch},
    floats::{of_bf16, of_f16},
    memory,
    module::Module,
};

/// A kernel of these statements, of which a thread has registers of each kind: `%p`, `%h` of 16 bits, `%r`, `%f`, `%d` of 64 bits. Its one parameter is
/// `to`, whose address is in `%d0`, and thread `i` of a block has in `%d1` the address of `to[i]`, a word of 32 bits.
fn kernel(statements: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n// .globl k\n.visible .entry k(\n.param .u64 k_param_0\n)\n.maxntid 64, 1, 1\n{{\n\
         .reg .pred %p<9>;\n.reg .b16 %h<9>;\n.reg .b32 %r<99>;\n.reg .f32 %f<99>;\n.reg .b64 %d<9>;\n\
         ld.param.u64 %d2, [k_param_0];\ncvta.to.global.u64 %d0, %d2;\nmov.u32 %r0, %tid.x;\n\
         mul.wide.u32 %d3, %r0, 4;\nadd.s64 %d1, %d0, %d3;\n{statements}\nret;\n}}\n"
    )
}

/// What a kernel writes to as many words, which are 7 before.
fn ran_in(blocks: u32, threads: u32, statements: &str, words: usize) -> Result<Vec<u32>, String> {
    let module = Module::of(&kernel(statements))?;
    let mut to = vec![7u32; words];
    let address = to.as_mut_ptr().expose_provenance() as u64;
    memory::tell(address, Some(4 * words as u64));
    let shape = Shape { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 };
    let ended = launch(&module.kernels["k"], shape, &address.to_le_bytes());
    memory::tell(address, None);
    ended.map(|()| to).map_err(|fault| fault.to_string())
}

fn ran(statements: &str) -> Vec<u32> {
    ran_in(1, 32, statements, 32).expect("it runs")
}

/// What a thread computes in `%r1` of what `%r0` is.
fn of_each(statements: &str) -> Vec<u32> {
    ran(&format!("{statements}\nst.global.u32 [%d1], %r1;"))
}

/// The same of one thread.
fn one(statements: &str) -> u32 {
    of_each(statements)[0]
}

fn float(statements: &str) -> f32 {
    f32::from_bits(one(&format!("{statements}\nmov.b32 %r1, %f1;")))
}

#[test]
fn integers_are_computed_in_their_width() {
    for (statements, expected) in [
        ("mov.u32 %r2, -1; add.s32 %r1, %r2, 3;", 2),
        ("mov.u32 %r2, 0x80000000; shr.s32 %r1, %r2, 31;", u32::MAX),
        ("mov.u32 %r2, 0x80000000; shr.u32 %r1, %r2, 31;", 1),
        ("mov.u32 %r2, 1; shl.b32 %r1, %r2, 32;", 0),
        ("mov.u32 %r2, 0xffffffff; mul.hi.u32 %r1, %r2, 4;", 3),
        ("mov.u32 %r2, -8; mul.hi.s32 %r1, %r2, 0x20000000;", u32::MAX),
        ("mov.u32 %r2, -7; div.s32 %r1, %r2, 2;", -3i32 as u32),
        ("mov.u32 %r2, -7; rem.s32 %r1, %r2, 2;", -1i32 as u32),
        ("mov.u32 %r2, -7; mad.lo.s32 %r1, %r2, 2, 15;", 1),
        ("mov.u32 %r2, -7; min.s32 %r1, %r2, 2;", -7i32 as u32),
        ("mov.u32 %r2, -7; min.u32 %r1, %r2, 2;", 2),
        ("mov.u32 %r2, 0x00010203; prmt.b32 %r1, %r2, 0, 0x0123;", 0x0302_0100),
        ("mov.u32 %r2, 0x80; prmt.b32 %r1, %r2, 0, 0x0008;", 0x8080_80ff),
        ("mov.u32 %r2, 0xab; bfi.b32 %r1, %r2, 0xffffffff, 8, 8;", 0xffff_abff),
        ("mov.u32 %r2, 0x00ff0000; clz.b32 %r1, %r2;", 8),
        ("mov.u32 %r2, 0x00ff0000; popc.b32 %r1, %r2;", 8),
        ("mov.u32 %r2, -2; setp.lt.s32 %p1, %r2, 0; selp.u32 %r1, 5, 6, %p1;", 5),
        ("mov.u32 %r2, -2; setp.lt.u32 %p1, %r2, 1; selp.u32 %r1, 5, 6, %p1;", 6),
        ("mov.u32 %r2, 0x8005; cvt.u16.u32 %h1, %r2; cvt.s32.s16 %r1, %h1;", 0xffff_8005),
        ("mov.u32 %r2, 0x12345678; mov.b32 {%h1, %h2}, %r2; mov.b32 %r1, {%h2, %h1};", 0x5678_1234),
        ("mov.u32 %r2, -3; cvt.s64.s32 %d4, %r2; shr.s64 %d5, %d4, 1; cvt.u32.u64 %r1, %d5;", -2i32 as u32),
        ("mov.u32 %r2, -3; mul.wide.s32 %d4, %r2, 5; shr.u64 %d5, %d4, 32; cvt.u32.u64 %r1, %d5;", u32::MAX),
    ] {
        assert_eq!(one(statements), expected, "{statements}");
    }
}

#[test]
fn floats_are_rounded_as_they_are_asked_to() {
    for (statements, expected) in [
        ("mov.f32 %f2, 0f40400000; mul.f32 %f1, %f2, 0f3f000000;", 1.5),
        (
            "mov.f32 %f2, 0f3f800001; fma.rn.f32 %f1, %f2, %f2, 0fbf800000;",
            f32::from_bits(0x3f80_0001).powi(2) - 1.0 + 1.4e-14,
        ),
        ("mov.f32 %f2, 0f3f800000; mov.f32 %f3, 0f2f800000; fma.rm.f32 %f1, %f2, %f2, %f3;", 1.0),
        ("mov.f32 %f2, 0f3f800000; mov.f32 %f3, 0faf800000; fma.rm.f32 %f1, %f2, %f2, %f3;", 1.0f32.next_down()),
        ("mov.f32 %f2, 0f40000000; ex2.approx.ftz.f32 %f1, %f2;", 4.0),
        ("mov.f32 %f2, 0fc3000000; ex2.approx.ftz.f32 %f1, %f2;", 0.0),
        ("mov.f32 %f2, 0fbf800000; mov.f32 %f3, 0f40000000; copysign.f32 %f1, %f2, %f3;", -2.0),
        ("mov.f32 %f2, 0f7fc00000; max.f32 %f1, %f2, 0f40000000;", 2.0),
        ("mov.f32 %f2, 0fbf000000; cvt.sat.f32.f32 %f1, %f2;", 0.0),
        ("mov.u32 %r2, 16777217; cvt.rn.f32.s32 %f1, %r2;", 16_777_216.0),
        ("mov.u32 %r2, 16777217; cvt.rp.f32.s32 %f1, %r2;", 16_777_218.0),
        ("mov.f32 %f2, 0f3f800fff; cvt.rna.tf32.f32 %r3, %f2; mov.b32 %f1, %r3;", 1.0),
        ("mov.f32 %f2, 0f3f801000; cvt.rna.tf32.f32 %r3, %f2; mov.b32 %f1, %r3;", f32::from_bits(0x3f80_2000)),
    ] {
        let found = float(statements);
        assert!((found - expected).abs() <= expected.abs() * 1e-12 || found == expected, "{statements}: {found}");
    }
    assert!(float("mov.f32 %f2, 0f7fc00000; max.NaN.f32 %f1, %f2, 0f40000000;").is_nan());
    let halves = "mov.f32 %f2, 0f3fc00000; mov.f32 %f3, 0fc0000000;";
    assert_eq!(one(&format!("{halves} cvt.rn.bf16x2.f32 %r1, %f2, %f3;")), 0x3fc0_c000);
    assert_eq!(one(&format!("{halves} cvt.rn.f16x2.f32 %r1, %f2, %f3;")), 0x3e00_c000);
    let both = "cvt.rn.bf16x2.f32 %r2, %f2, %f3; cvt.rn.bf16x2.f32 %r3, %f3, %f2; max.NaN.bf16x2 %r1, %r2, %r3;";
    assert_eq!(one(&format!("{halves} {both}")), 0x3fc0_3fc0);
}

#[test]
fn comparisons_with_what_is_no_number_are_true_where_they_say_so() {
    for (name, expected) in
        [("lt", [1, 0, 0]), ("ltu", [1, 0, 1]), ("ge", [0, 1, 0]), ("neu", [1, 1, 1]), ("nan", [0, 0, 1])]
    {
        let compared = |value: &str| {
            one(&format!("mov.f32 %f2, {value}; setp.{name}.f32 %p1, %f2, 0f40000000; selp.u32 %r1, 1, 0, %p1;"))
        };
        assert_eq!(["0f3f800000", "0f40400000", "0f7fc00000"].map(compared), expected, "{name}");
    }
    assert_eq!(one("mov.f32 %f2, 0f3f800000; set.lt.u32.f32 %r1, %f2, 0f40000000;"), u32::MAX);
    assert_eq!(float("mov.f32 %f2, 0f3f800000; set.lt.f32.f32 %f1, %f2, 0f40000000;"), 1.0);
}

#[test]
fn threads_that_part_meet_again() {
    // A loop of as many turns as the thread's number, and a shuffle of all of them behind it.
    let found = of_each(
        "mov.u32 %r1, 0; mov.u32 %r2, 0;\n\
         $L1:\n setp.ge.u32 %p1, %r2, %r0; @%p1 bra $L2;\n add.s32 %r1, %r1, %r2; add.s32 %r2, %r2, 1; bra.uni $L1;\n\
         $L2:\n shfl.sync.bfly.b32 %r3|%p2, %r1, 1, 31, -1; add.s32 %r1, %r3, %r1;",
    );
    let sum = |n: usize| (n * n.saturating_sub(1) / 2) as u32;
    assert_eq!(found, (0..32).map(|i| sum(i) + sum(i ^ 1)).collect::<Vec<_>>());
}

#[test]
fn registers_keep_what_is_read_in_the_next_turn_of_a_loop() {
    // What begins the loop stands behind it, and what it carries on is written under a condition; others are in use meanwhile.
    let found = of_each(
        "bra.uni $L3;\n\
         $L1:\n setp.eq.u32 %p1, %r2, %r0; mov.u32 %r4, 50; @%p1 add.s32 %r3, %r3, %r4; mul.lo.s32 %r5, %r4, 2; add.s32 %r1, %r1, %r3;\n\
         add.s32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 32; @%p2 bra $L1; bra.uni $L2;\n\
         $L3: mov.u32 %r3, 1; mov.u32 %r2, 0; mov.u32 %r1, 0; bra.uni $L1;\n\
         $L2: add.s32 %r1, %r1, %r5;",
    );
    assert_eq!(found, (0..32).map(|i| 32 + 50 * (32 - i) + 100).collect::<Vec<_>>());
}

#[test]
fn branches_of_one_warp_that_both_need_all_of_it_are_told() {
    let wrong = "setp.lt.u32 %p1, %r0, 5; @%p1 bra $L1; bar.warp.sync -1; bra.uni $L2; $L1: shfl.sync.idx.b32 %r1, %r0, 0, 31, -1; $L2:";
    let error = ran_in(1, 32, wrong, 32).unwrap_err();
    assert!(error.contains("wait for each other"), "{error}");
    let wrong = "setp.lt.u32 %p1, %r0, 32; @%p1 bra $L1; bar.sync 1; $L1: bar.sync 0;";
    let error = ran_in(1, 64, wrong, 64).unwrap_err();
    assert!(error.contains("warps wait for each other"), "{error}");
}

#[test]
fn shuffles_stay_in_their_part_of_the_warp() {
    let of = |mode: &str, by: u32, clamp: u32| {
        of_each(&format!(
            "shfl.sync.{mode}.b32 %r2|%p1, %r0, {by}, {clamp}, -1; selp.u32 %r3, 100, 0, %p1; add.s32 %r1, %r2, %r3;"
        ))
    };
    let expected =
        |of: &dyn Fn(u32) -> Option<u32>| (0..32).map(|i| of(i).map_or(i, |from| 100 + from)).collect::<Vec<_>>();
    assert_eq!(of("bfly", 3, 31), expected(&|i| Some(i ^ 3)));
    assert_eq!(of("down", 2, 31), expected(&|i| Some(i + 2).filter(|from| *from < 32)));
    assert_eq!(of("up", 2, 0), expected(&|i| i.checked_sub(2)));
    // Parts of eight: the upper bits of the clamp say which of a thread's own it keeps.
    assert_eq!(of("down", 2, 0x1807 | 7), expected(&|i| Some(i + 2).filter(|from| from / 8 == i / 8)));
    assert_eq!(of("idx", 3, 0x181f), expected(&|i| Some(i / 8 * 8 + 3)));
}

#[test]
fn a_block_shares_memory_and_waits_at_barriers() {
    let turned = ".shared .align 4 .b8 all[256]; mov.u32 %r2, all; shl.b32 %r3, %r0, 2; add.s32 %r4, %r2, %r3; st.shared.u32 [%r4], %r0; \
                  bar.sync 0; mov.u32 %r5, 63; sub.s32 %r6, %r5, %r0; shl.b32 %r6, %r6, 2; add.s32 %r6, %r2, %r6; ld.shared.u32 %r1, [%r6]; \
                  st.global.u32 [%d1], %r1;";
    assert_eq!(ran_in(1, 64, turned, 64).unwrap(), (0..64).rev().collect::<Vec<_>>());
    // What nobody wrote is no number.
    let unwritten = ".shared .align 4 .b8 all[256]; ld.shared.u32 %r1, [all+8]; st.global.u32 [%d1], %r1;";
    assert_eq!(ran_in(1, 1, unwritten, 1).unwrap(), [u32::MAX]);
}

#[test]
fn blocks_add_to_one_word_one_after_the_other() {
    assert_eq!(ran_in(50, 64, "red.global.add.u32 [%d0], 1;", 1).unwrap(), [7 + 50 * 64]);
    let found = ran_in(
        3,
        1,
        "mov.u32 %r2, %ctaid.x; mul.wide.u32 %d4, %r2, 4; add.s64 %d5, %d0, %d4; st.global.u32 [%d5], %r2;",
        3,
    );
    assert_eq!(found.unwrap(), [0, 1, 2]);
}

#[test]
fn wrong_places_are_told() {
    for (statements, told) in [
        ("st.global.u32 [%d0+128], %r0;", "are not the card's"),
        ("st.global.u32 [%d0+-4], %r0;", "are not the card's"),
        ("ld.global.u32 %r1, [%d0+2];", "which they do not divide"),
        ("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d0+4];", "which they do not divide"),
        ("ld.shared.u32 %r1, [%r0];", "bytes of Shared memory"),
        ("ld.param.u64 %d4, [k_param_0+8];", "bytes of Parameters memory"),
    ] {
        let error = ran_in(1, 32, statements, 32).unwrap_err();
        assert!(error.contains(told), "{statements}: {error}");
    }
    for unknown in ["tex.2d.v4.f32.f32 {%f1}, [x, {%f2}];", "add.s32 %r1, %r2;", "mov.u32 %r1, %nothing;", "bra $L9;"] {
        let error = ran_in(1, 32, unknown, 32).unwrap_err();
        assert!(error.contains(unknown.split(' ').next().unwrap()), "{error}");
    }
}

/// Values that both halves of 16 bits have, by the place of an element.
fn value(seed: usize, row: usize, column: usize) -> f32 {
    ((seed + 7 * row + 3 * column + row * column) % 13) as f32 - 6.0
}

/// `a · bᵀ` of 16 values.
fn sum(row: usize, column: usize) -> f32 {
    (0..16).map(|k| value(1, row, k) * value(2, column, k)).sum()
}

/// A word for each thread, put into a register at its beginning.
fn words(register: &str, of: impl Fn(usize) -> u64) -> String {
    let chosen = |lane: usize| format!("setp.eq.u32 %p1, %r0, {lane}; @%p1 mov.u32 {register}, {};", of(lane));
    (0..32).map(chosen).collect()
}

#[test]
fn products_of_a_warp_are_those_of_its_matrices() {
    for (name, bits) in [("bf16", of_bf16 as fn(f32) -> u64), ("f16", of_f16)] {
        // Figures 98 to 103 of the PTX ISA 8.5: the fragments of `mma.m16n8k16`.
        let pair = |seed: usize, row: usize, k: usize| bits(value(seed, row, k)) | bits(value(seed, row, k + 1)) << 16;
        let a = (0..4).map(|i| words(&format!("%r{}", 10 + i), |l| pair(1, l / 4 + i % 2 * 8, l % 4 * 2 + i / 2 * 8)));
        let b = (0..2).map(|i| words(&format!("%r{}", 20 + i), |l| pair(2, l / 4, l % 4 * 2 + i * 8)));
        let given: String = a.chain(b).collect();
        for i in 0..4 {
            let product = format!(
                "{given} mov.f32 %f9, 0f40000000; mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 {{%f1, %f2, %f3, %f4}}, \
                 {{%r10, %r11, %r12, %r13}}, {{%r20, %r21}}, {{%f9, %f9, %f9, %f9}}; mov.b32 %r1, %f{};",
                i + 1
            );
            let expected = |l: usize| (2.0 + sum(l / 4 + i / 2 * 8, l % 4 * 2 + i % 2)).to_bits();
            assert_eq!(of_each(&product), (0..32).map(expected).collect::<Vec<_>>(), "{name}, {i}");
        }
    }
}

/// `a · bᵀ` of 8 values.
fn short_sum(row: usize, column: usize) -> f32 {
    (0..8).map(|k| value(1, row, k) * value(2, column, k)).sum()
}

#[test]
fn products_of_floats_are_of_their_upper_bits() {
    // Figures 92 to 95 of the PTX ISA 8.5: the fragments of `mma.m16n8k8` of `tf32`, whose lower 13 bits count for nothing.
    let bits = |seed: usize, row: usize, k: usize| u64::from(value(seed, row, k).to_bits() | 0x1fff);
    let a = (0..4).map(|i| words(&format!("%r{}", 10 + i), |l| bits(1, l / 4 + i % 2 * 8, l % 4 + i / 2 * 4)));
    let b = (0..2).map(|i| words(&format!("%r{}", 20 + i), |l| bits(2, l / 4, l % 4 + i * 4)));
    let given: String = a.chain(b).collect();
    for i in 0..4 {
        let product = format!(
            "{given} mov.f32 %f9, 0f40000000; mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {{%f1, %f2, %f3, %f4}}, \
             {{%r10, %r11, %r12, %r13}}, {{%r20, %r21}}, {{%f9, %f9, %f9, %f9}}; mov.b32 %r1, %f{};",
            i + 1
        );
        let expected = |l: usize| (2.0 + short_sum(l / 4 + i / 2 * 8, l % 4 * 2 + i % 2)).to_bits();
        assert_eq!(of_each(&product), (0..32).map(expected).collect::<Vec<_>>(), "{i}");
    }
}

/// Statements that put bf16 values at places of a block's memory, `tile`, one after the other by thread 0.
fn placed(values: impl Iterator<Item = (usize, f32)>) -> String {
    let put =
        |(at, value): (usize, f32)| format!("mov.b16 %h1, {}; @%p2 st.shared.u16 [tile+{at}], %h1;\n", of_bf16(value));
    format!(
        ".shared .align 1024 .b8 tile[8192]; setp.eq.u32 %p2, %r0, 0;\n{}bar.sync 0;\n",
        values.map(put).collect::<String>()
    )
}

#[test]
fn matrices_are_loaded_as_they_lie_or_turned() {
    let values = placed((0..64).map(|i| (2 * i, value(1, i / 8, i % 8))));
    for (turn, is_turned) in [("", false), (".trans", true)] {
        let loaded = format!(
            "{values} and.b32 %r2, %r0, 7; shl.b32 %r2, %r2, 4; mov.u32 %r3, tile; add.s32 %r2, %r3, %r2; \
             ldmatrix.sync.aligned.m8n8.x1{turn}.shared.b16 {{%r1}}, [%r2];"
        );
        let at =
            |row: usize, column: usize| of_bf16(if is_turned { value(1, column, row) } else { value(1, row, column) });
        let expected = |l: usize| (at(l / 4, l % 4 * 2) | at(l / 4, l % 4 * 2 + 1) << 16) as u32;
        assert_eq!(of_each(&loaded), (0..32).map(expected).collect::<Vec<_>>(), "{turn}");
    }
}

#[test]
fn products_of_a_group_read_what_descriptors_describe() {
    // Section 9.7.14.5.1 of the PTX ISA 8.5: columns of `b`, 64 of 16 values. Of swizzled tiles pieces of 16 bytes change places with bits 7 to 9 of
    // their address.
    let swizzled = |at: usize, bits: usize| at ^ (at >> 7 & ((1 << bits) - 1)) << 4;
    let (column_major, row_major) =
        ((0..64).flat_map(|n| (0..16).map(move |k| (n, k))), (0..16).flat_map(|k| (0..64).map(move |n| (n, k))));
    let whole = |mode: u64, leading: u64, stride: u64| mode << 62 | (stride >> 4) << 32 | (leading >> 4) << 16;
    let tiles = [
        // Rows of 128 bytes, of which 32 are read.
        (
            0,
            whole(1, 16, 1024),
            column_major.clone().map(|(n, k)| (swizzled(n * 128 + 2 * k, 3), value(2, n, k))).collect::<Vec<_>>(),
        ),
        // Rows of 64 bytes.
        (
            0,
            whole(2, 16, 512),
            column_major.clone().map(|(n, k)| (swizzled(n * 64 + 2 * k, 2), value(2, n, k))).collect(),
        ),
        // Pieces of eight rows and 16 bytes, as they are.
        (
            0,
            whole(0, 1024, 128),
            column_major.map(|(n, k)| (n / 8 * 128 + k / 8 * 1024 + n % 8 * 16 + k % 8 * 2, value(2, n, k))).collect(),
        ),
        // Columns side by side, 64 of them in 128 bytes.
        (1, whole(1, 4096, 1024), row_major.map(|(n, k)| (swizzled(k * 128 + 2 * n, 3), value(2, n, k))).collect()),
    ];
    for (turn, descriptor, values) in tiles {
        let pair = |row: usize, k: usize| of_bf16(value(1, row, k)) | of_bf16(value(1, row, k + 1)) << 16;
        let a: String = (0..4)
            .map(|i| words(&format!("%r{}", 10 + i), |l| pair(l / 4 + i % 2 * 8, l % 4 * 2 + i / 2 * 8)))
            .collect();
        let sums: Vec<_> = (0..32).map(|i| format!("%f{}", 40 + i)).collect();
        let product = format!(
            "{} {a} mov.u64 %d4, {descriptor}; mov.u32 %r3, tile; shr.u32 %r3, %r3, 4; cvt.u64.u32 %d5, %r3; or.b64 %d4, %d4, %d5; \
             {{ .reg .pred p; setp.ne.b32 p, %r0, %r0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{{}}}, \
             {{%r10, %r11, %r12, %r13}}, %d4, p, 1, 1, {turn}; }}",
            placed(values.into_iter()),
            sums.join(", ")
        );
        for i in [0, 3, 13, 30] {
            let expected = |l: usize| sum(l / 4 + i / 2 % 2 * 8, i / 4 * 8 + l % 4 * 2 + i % 2).to_bits();
            let found = of_each(&format!("{product} mov.b32 %r1, %f{};", 40 + i));
            assert_eq!(found, (0..32).map(expected).collect::<Vec<_>>(), "{descriptor:#x}, {i}");
        }
    }
}

#[test]
fn products_of_a_group_are_of_floats_too() {
    // Rows of 128 bytes, of which 32 are read: the upper halves of floats are the only ones that are not 0.
    let swizzled = |at: usize| at ^ (at >> 7 & 7) << 4;
    let halves =
        |n: usize, k: usize| [(swizzled(n * 128 + 4 * k), 0.0), (swizzled(n * 128 + 4 * k) + 2, value(2, n, k))];
    let values = (0..64).flat_map(|n| (0..8).flat_map(move |k| halves(n, k)));
    let a: String = (0..4)
        .map(|i| {
            let bits = |row: usize, k: usize| u64::from(value(1, row, k).to_bits());
            words(&format!("%r{}", 10 + i), |l| bits(l / 4 + i % 2 * 8, l % 4 + i / 2 * 4))
        })
        .collect();
    let sums: Vec<_> = (0..32).map(|i| format!("%f{}", 40 + i)).collect();
    let descriptor = 1u64 << 62 | (1024 >> 4) << 32 | 1 << 16;
    let product = format!(
        "{} {a} mov.u64 %d4, {descriptor}; mov.u32 %r3, tile; shr.u32 %r3, %r3, 4; cvt.u64.u32 %d5, %r3; or.b64 %d4, %d4, %d5; \
         {{ .reg .pred p; setp.ne.b32 p, %r0, %r0; wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {{{}}}, \
         {{%r10, %r11, %r12, %r13}}, %d4, p, 1, 1; }}",
        placed(values),
        sums.join(", ")
    );
    for i in [0, 3, 13, 30] {
        let expected = |l: usize| short_sum(l / 4 + i / 2 % 2 * 8, i / 4 * 8 + l % 4 * 2 + i % 2).to_bits();
        let found = of_each(&format!("{product} mov.b32 %r1, %f{};", 40 + i));
        assert_eq!(found, (0..32).map(expected).collect::<Vec<_>>(), "{i}");
    }
}

#[test]
fn fragments_are_multiplied_and_put_back() {
    // b is [16, 16] as it is multiplied with: its columns are those of `sum`.
    let a = (0..256).map(|i| (2 * i, value(1, i / 16, i % 16)));
    let b = (0..256).map(|i| (512 + 2 * i, value(2, i % 16, i / 16)));
    let registers =
        |from: usize, count: usize| (0..count).map(|i| format!("%r{}", from + i)).collect::<Vec<_>>().join(", ");
    let sums = (0..8).map(|i| format!("%f{}", 10 + i)).collect::<Vec<_>>().join(", ");
    let shape = "sync.aligned.row.m16n16k16";
    let product = format!(
        "{} mov.u32 %r2, tile; cvt.u64.u32 %d4, %r2; cvta.shared.u64 %d5, %d4; mov.u32 %r3, 16; mov.f32 %f9, 0f00000000;\n\
         wmma.load.a.{shape}.bf16 {{{}}}, [%d5], %r3; wmma.load.b.{shape}.bf16 {{{}}}, [%d5+512], %r3;\n\
         wmma.mma.sync.aligned.row.row.m16n16k16.f32.bf16.bf16.f32 {{{sums}}}, {{{}}}, {{{}}}, {{{}}};\n\
         wmma.store.d.{shape}.global.f32 [%d0], {{{sums}}}, %r3;",
        placed(a.chain(b)),
        registers(20, 4),
        registers(30, 4),
        registers(20, 4),
        registers(30, 4),
        ["%f9"; 8].join(", "),
    );
    let found = ran_in(1, 32, &product, 256).unwrap();
    assert_eq!(found, (0..256).map(|i| sum(i / 16, i % 16).to_bits()).collect::<Vec<_>>());
}
