//! Products with a pair of factors beside the matrix, in whole numbers so small that every level computes them exactly.

use std::mem::MaybeUninit;

use half::{bf16, f16};
use kernels::{
    Activation, Compute, Epilogue, Isa, KeptMatrix, Level, MatrixRef, Out, PackedMatrix, PackedPair, PackedRows,
    RowSource, ScaledPair, Values, WithPair,
};
use proptest::prelude::*;

/// Rows of values in memory.
struct InMemory {
    values: Vec<f32>,
    d_in: usize,
}

impl RowSource for InMemory {
    fn read(&self, row: usize, first: usize, to: &mut [f32]) {
        to.copy_from_slice(&self.values[row * self.d_in + first..][..to.len()]);
    }
}

/// Whole numbers from `-most` to `most`.
fn numbers(n: usize, most: i32, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) % (2 * most as u64 + 1)) as i32 - most
    };
    (0..n).map(|_| next() as f32).collect()
}

/// `x · wᵀ`
fn product(x: &[f32], w: &[f32], d_in: usize) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    x.chunks(d_in).flat_map(|x| w.chunks(d_in).map(move |w| dot(x, w))).collect()
}

/// What a kernel writes on a pool of so many threads.
fn written(threads: usize, len: usize, kernel: impl for<'o> Fn(Out<'o>) -> &'o mut [f32] + Sync) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut out = vec![MaybeUninit::new(f32::NAN); len];
    pool.install(|| kernel(&mut out)).to_vec()
}

fn kinds() -> impl Iterator<Item = (Isa, Compute)> {
    Isa::available().into_iter().flat_map(|isa| [Compute::F32, Compute::Bf16].map(|compute| (isa, compute)))
}

/// A matrix, a pair beside it, and how much its ranks count.
struct Case {
    weight: InMemory,
    down: Vec<f32>,
    up: Vec<f32>,
    scales: Vec<f32>,
    shape: [usize; 3],
}

impl Case {
    fn of(shape: [usize; 3], seed: u64) -> Self {
        let [d_out, rank, d_in] = shape;
        let mut down = numbers(rank * d_in, 1, seed ^ 2);
        if d_in > 500 {
            // What lies between stays below 256, as far as bf16 has all whole numbers.
            down.iter_mut().enumerate().filter(|(i, _)| i % 8 != 0).for_each(|(_, v)| *v = 0.0);
        }
        let scales = numbers(rank, 1, seed ^ 5).into_iter().map(|n| if n == 0.0 { 2.0 } else { n }).collect();
        Self {
            weight: InMemory { values: numbers(d_out * d_in, 2, seed ^ 1), d_in },
            down,
            up: numbers(d_out * rank, 2, seed ^ 3),
            scales,
            shape,
        }
    }

    /// The pair as stored in a format.
    fn pair(&self, isa: Isa, compute: Compute, format: usize) -> PackedPair {
        let halves = |v: &[f32]| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
        let brains = |v: &[f32]| v.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>();
        let pack = |factors| PackedPair::pack(isa, compute, self.shape, factors);
        match format % 3 {
            0 => pack([Values::F32(&self.down), Values::F32(&self.up)]),
            1 => pack([Values::F16(&halves(&self.down)), Values::F16(&halves(&self.up))]),
            _ => pack([Values::Bf16(&brains(&self.down)), Values::Bf16(&brains(&self.up))]),
        }
    }

    fn packed(&self, isa: Isa, compute: Compute) -> PackedMatrix {
        let [d_out, _, d_in] = self.shape;
        PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&self.weight.values))
    }

    fn kept(&self, isa: Isa, compute: Compute) -> KeptMatrix<'_> {
        let [d_out, _, d_in] = self.shape;
        KeptMatrix::of(isa, compute, [d_out, d_in], &self.weight)
    }

    /// `x · (weight + up · diag(scales) · down)ᵀ`
    fn expected(&self, x: &[f32]) -> Vec<f32> {
        let [_, rank, d_in] = self.shape;
        let mut inner = product(x, &self.down, d_in);
        assert!(inner.iter().all(|v| v.abs() <= 256.0));
        inner.chunks_mut(rank).for_each(|row| row.iter_mut().zip(&self.scales).for_each(|(v, scale)| *v *= scale));
        let added = product(&inner, &self.up, rank);
        product(x, &self.weight.values, d_in).into_iter().zip(added).map(|(own, added)| own + added).collect()
    }
}

fn compare([rows, d_in, d_out, rank]: [usize; 4], gap: usize, parts: u8, seed: u64) -> Result<(), TestCaseError> {
    let case = Case::of([d_out, rank, d_in], seed);
    let stride = d_in + gap;
    let x = numbers(rows * stride, 2, seed ^ 4);
    let tight: Vec<f32> = x.chunks(stride).flat_map(|row| row[..d_in].to_vec()).collect();
    let (bias, gate, residual) =
        (numbers(d_out, 3, seed ^ 6), numbers(d_out, 3, seed ^ 7), numbers(rows * d_out, 3, seed ^ 8));
    let has = |bit: u8| parts >> bit & 1 == 1;
    let epilogue = Epilogue {
        bias: has(0).then_some(&bias[..]),
        activation: None,
        gate: has(1).then_some(&gate[..]),
        residual: has(2).then_some(&residual[..]),
    };
    let mut expected = case.expected(&tight);
    for (i, y) in expected.iter_mut().enumerate() {
        *y += epilogue.bias.map_or(0.0, |bias| bias[i % d_out]);
        *y *= epilogue.gate.map_or(1.0, |gate| gate[i % d_out]);
        *y += epilogue.residual.map_or(0.0, |residual| residual[i]);
    }
    for (isa, compute) in kinds() {
        let (packed, kept) = (case.packed(isa, compute), case.kept(isa, compute));
        let pair = case.pair(isa, compute, usize::from(parts));
        let scaled = Some(ScaledPair { pair: &pair, scales: &case.scales });
        for (threads, matrix) in
            [(1, MatrixRef::from(&packed)), (3, (&packed).into()), (1, kept.into()), (3, kept.into())]
        {
            let weight = WithPair::new(matrix, scaled);
            let found =
                written(threads, expected.len(), |out| kernels::linear(weight, &x, rows, stride, epilogue, out));
            prop_assert!(found == expected, "{isa:?} {compute:?} {threads} threads {matrix:?}");
        }
    }
    Ok(())
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 2 } else { 24 }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_pair_adds_its_product_on_every_level(
        rows in 1usize..80, d_in in 1usize..400, d_out in 1usize..150, rank in 1usize..80, gap in 0usize..20,
        parts in 0u8..8, seed: u64,
    ) {
        compare([rows, d_in, d_out, rank], gap, parts, seed)?;
    }

    #[test]
    fn weights_of_the_same_rows_have_pairs_of_their_own(
        rows in 1usize..80, d_in in 1usize..300, d_out in 1usize..100, ranks in [1usize..40, 1usize..70], seed: u64,
    ) {
        compare_of_same_rows([rows, d_in, d_out], ranks, seed)?;
    }
}

/// Compares weights of the same rows, where there are such: one by one, and as the halves of a gated layer.
fn compare_of_same_rows([rows, d_in, d_out]: [usize; 3], ranks: [usize; 2], seed: u64) -> Result<(), TestCaseError> {
    let Some(isa) = Isa::available().into_iter().find(|isa| isa.level() == Level::Amx) else { return Ok(()) };
    let compute = Compute::Bf16;
    let x = numbers(rows * d_in, 2, seed);
    let cases = [(1, ranks[0]), (2, 1), (3, ranks[1])].map(|(i, rank)| Case::of([d_out, rank, d_in], seed ^ i << 9));
    let packed = cases.each_ref().map(|case| case.packed(isa, compute));
    let pairs = cases.each_ref().map(|case| case.pair(isa, compute, 2));
    // the one in the middle has none
    let weight = |i: usize, is_kept: bool| {
        let matrix = if is_kept { cases[i].kept(isa, compute).into() } else { MatrixRef::from(&packed[i]) };
        let scaled = ScaledPair { pair: &pairs[i], scales: &cases[i].scales };
        WithPair::new(matrix, (i != 1).then_some(scaled))
    };
    let plain = Epilogue::default();
    let alone: [Vec<f32>; 3] = std::array::from_fn(|i| {
        written(1, rows * d_out, |out| kernels::linear(weight(i, false), &x, rows, d_in, plain, out))
    });
    // and so has the layer behind a gate
    let d_last = d_in.min(200);
    let last = Case::of([d_last, ranks[1], d_out], seed ^ 77);
    let (matrix, pair) = (last.packed(isa, compute), last.pair(isa, compute, 1));
    let next = WithPair::new(&matrix, Some(ScaledPair { pair: &pair, scales: &last.scales }));
    let inner: Vec<f32> = alone[0].iter().zip(&alone[2]).map(|(value, gate)| value * silu(isa, *gate)).collect();
    let behind = written(1, rows * d_last, |out| kernels::linear(next, &inner, rows, d_out, plain, out));
    for kept in [[false; 3], [true; 3], [true, false, false], [false, false, true]] {
        let all = PackedRows::pack(isa, None, &x, [rows, d_in], d_in, [0, 1, 2].map(|i| weight(i, kept[i])));
        for (i, alone) in alone.iter().enumerate() {
            prop_assert_eq!(&written(3, rows * d_out, |out| all.linear(i, plain, out)), alone);
        }
        for threads in [1, 3] {
            let found = written(threads, rows * d_last, |out| {
                all.gated([0, 2], [None; 2], Activation::Silu, [next]).linear(0, plain, out)
            });
            prop_assert!(found == behind, "{threads} threads, kept: {kept:?}");
        }
    }
    Ok(())
}

fn silu(isa: Isa, x: f32) -> f32 {
    written(1, 1, |out| kernels::activate(isa, Activation::Silu, &[x], out))[0]
}

#[test]
fn sums_of_several_passes_have_the_pair_in_them_once() {
    for shape in [[70, 3100, 33, 16], [33, 6300, 70, 130], [1, 3200, 40, 1], [40, 31, 1000, 8]] {
        let case = [shape[0], shape[1], shape[2], shape[3]];
        compare(case, 3, 0b111, 7).expect("the same numbers");
    }
}

#[test]
fn rows_of_a_gated_layer_that_are_cut_into_tasks_meet_all_of_its_panels() {
    // more rows of so many inputs than a task has
    compare_of_same_rows([70, 6500, 40], [1, 20], 3).expect("the same numbers");
}

#[test]
fn a_pair_takes_no_more_memory_than_its_factors() {
    for (isa, compute) in Isa::available().into_iter().flat_map(|isa| [(isa, Compute::F32), (isa, Compute::Bf16)]) {
        for (shape @ [d_out, rank, d_in], most) in [
            ([3072, 16, 3072], 1.02),
            ([9216, 4, 3072], 1.02),
            // Ranks are joined two by two, and behind the first factor is room to read a whole panel.
            ([3072, 1, 3072], 1.7),
            ([3072, 40, 3072], 1.02),
            ([3072, 128, 12288], 1.001),
        ] {
            let [down, up] = [vec![f16::ZERO; rank * d_in], vec![f16::ZERO; d_out * rank]];
            let pair = PackedPair::pack(isa, compute, shape, [Values::F16(&down), Values::F16(&up)]);
            let own = 2 * rank * (d_in + d_out);
            let (is_enough, is_most) = (pair.bytes() >= own, pair.bytes() as f64 <= most * own as f64);
            assert!(is_enough && is_most, "{isa:?} {compute:?} {shape:?}: {} for {own}", pair.bytes());
        }
    }
}

#[test]
fn pairs_that_do_not_fit_are_refused() {
    let isa = Isa::best();
    let case = Case::of([5, 3, 7], 1);
    let pair = case.pair(isa, Compute::F32, 0);
    let is_refused = |weight: &PackedMatrix, scales: &[f32]| {
        let new = || _ = WithPair::new(weight, Some(ScaledPair { pair: &pair, scales }));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(new)).is_err()
    };
    let other = |d_out, d_in| PackedMatrix::pack(isa, Compute::F32, d_out, d_in, Values::F32(&vec![0.0; d_out * d_in]));
    assert!(!is_refused(&other(5, 7), &[1.0; 3]));
    assert!(is_refused(&other(5, 7), &[1.0; 2]) && is_refused(&other(7, 5), &[1.0; 3]));
    assert!(is_refused(&case.packed(isa, Compute::Bf16), &[1.0; 3]));
    assert!(
        std::panic::catch_unwind(|| {
            PackedPair::pack(isa, Compute::F32, [5, 3, 7], [Values::F32(&[0.0; 20]), Values::F32(&[0.0; 15])])
        })
        .is_err()
    );
}
