//! Products with matrices that stay as they are stored, against those with packed matrices of the same values, bit by bit.

mod given;

use kernels::{
    Activation, Compute, Epilogue, Isa, KEPT_COLUMNS, KeptMatrix, Level, MatrixRef, Out, PackedMatrix, PackedRows,
    RowNorm, RowSource, Values,
};
use proptest::prelude::*;

use given::{cases, numbers, on};

/// Rows of values in memory.
struct InMemory {
    values: Vec<f32>,
    d_in: usize,
}

impl RowSource for InMemory {
    fn read(&self, row: usize, first: usize, to: &mut [f32]) {
        let ends_with_row = first + to.len() == self.d_in;
        assert!(first.is_multiple_of(KEPT_COLUMNS) && (to.len().is_multiple_of(KEPT_COLUMNS) || ends_with_row));
        to.copy_from_slice(&self.values[row * self.d_in + first..][..to.len()]);
    }
}

/// The bits that a kernel writes on a pool of so many threads.
fn bits(threads: usize, len: usize, kernel: impl for<'o> Fn(Out<'o>) -> &'o mut [f32] + Sync) -> Vec<u32> {
    on(threads, len, kernel).iter().map(|v| v.to_bits()).collect()
}

fn kinds() -> impl Iterator<Item = (Isa, Compute)> {
    Isa::available().into_iter().flat_map(|isa| [Compute::F32, Compute::Bf16].map(|compute| (isa, compute)))
}

/// Compares all of one shape.
fn compare([rows, d_in, d_out]: [usize; 3], gap: usize, parts: u8, seed: u64) -> Result<(), TestCaseError> {
    let stride = d_in + gap;
    let x = numbers((rows * stride).max(1), seed);
    let source = InMemory { values: numbers(d_out * d_in, seed ^ 1), d_in };
    let (bias, gate, residual) = (numbers(d_out, seed ^ 2), numbers(d_out, seed ^ 3), numbers(rows * d_out, seed ^ 4));
    let has = |bit: u8| parts >> bit & 1 == 1;
    let epilogue = Epilogue {
        bias: has(0).then_some(&bias[..]),
        activation: has(1).then_some(Activation::GeluTanh),
        gate: has(2).then_some(&gate[..]),
        residual: has(3).then_some(&residual[..]),
    };
    for (isa, compute) in kinds() {
        let packed = PackedMatrix::pack(isa, compute, d_out, d_in, Values::F32(&source.values));
        let kept = KeptMatrix::of(isa, compute, [d_out, d_in], &source);
        let expected = bits(1, rows * d_out, |out| kernels::linear(&packed, &x, rows, stride, epilogue, out));
        for threads in [1, 3] {
            let found = bits(threads, rows * d_out, |out| kernels::linear(kept, &x, rows, stride, epilogue, out));
            prop_assert!(found == expected, "{isa:?} {compute:?} {threads} threads");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_kept_matrix_multiplies_to_the_bits_of_a_packed_one(
        rows in 0usize..100, d_in in 0usize..700, d_out in 1usize..150, gap in 0usize..20, parts in 0u8..16, seed: u64,
    ) {
        compare([rows, d_in, d_out], gap, parts, seed)?;
    }

    #[test]
    fn rows_that_were_packed_take_kept_matrices_too(
        rows in 1usize..100, d_in in 1usize..700, d in 1usize..150, d_out in 1usize..100, seed: u64,
    ) {
        let Some(isa) = Isa::available().into_iter().find(|isa| isa.level() == Level::Amx) else { return Ok(()) };
        let x = numbers(rows * d_in, seed);
        let (weight, shift) = (numbers(d_in, seed ^ 1), numbers(d_in, seed ^ 2));
        let norm = RowNorm { weight: &weight, bias: &shift, eps: 1e-5 };
        let sources = [(1, d, d_in), (2, d, d_in), (3, d_out, d)]
            .map(|(i, rows, d_in)| InMemory { values: numbers(rows * d_in, seed ^ (i << 8)), d_in });
        let shapes = [[d, d_in], [d, d_in], [d_out, d]];
        let kept: [KeptMatrix; 3] =
            std::array::from_fn(|i| KeptMatrix::of(isa, Compute::Bf16, shapes[i], &sources[i]));
        let packed: [PackedMatrix; 3] = std::array::from_fn(|i| {
            PackedMatrix::pack(isa, Compute::Bf16, shapes[i][0], shapes[i][1], Values::F32(&sources[i].values))
        });
        let biases = [numbers(d, seed ^ 5), numbers(d, seed ^ 6)];
        let biases = [Some(&biases[0][..]), Some(&biases[1][..])];
        let plain = Epilogue::default();
        let pack = |weight| PackedRows::pack(isa, Some(norm), &x, [rows, d_in], d_in, [weight]);
        let inner = |all| {
            let [first, second, last]: [MatrixRef; 3] = all;
            let rows = PackedRows::pack(isa, Some(norm), &x, [rows, d_in], d_in, [first, second]);
            rows.gated([0, 1], biases, Activation::GeluErf, [last])
        };
        let (packed, kept) = (packed.each_ref().map(MatrixRef::from), kept.map(MatrixRef::from));
        let value = bits(1, rows * d, |out| pack(packed[0]).linear(0, plain, out));
        let feed = bits(1, rows * d_out, |out| inner(packed).linear(0, plain, out));
        for threads in [1, 3] {
            let kept_value = bits(threads, rows * d, |out| pack(kept[0]).linear(0, plain, out));
            let kept_feed = bits(threads, rows * d_out, |out| inner(kept).linear(0, plain, out));
            prop_assert!(value == kept_value && feed == kept_feed, "{threads} threads");
        }
    }
}

#[test]
fn sums_that_take_several_passes_and_panels_that_take_several_groups_have_the_same_bits() {
    for shape in [[70, 3073, 33], [33, 7000, 70], [5, 40, 1000], [1, 3200, 1]] {
        compare(shape, 3, 0b1111, 7).expect("the same bits");
    }
}
