//! Products with weights that are integers, against the same in f64.

mod given;

use std::ops::RangeInclusive;

use kernels::{
    Activation, Compute, Epilogue, GROUP, HALF_GROUP, INTEGER_COLUMNS, IntegerMatrix, IntegerSource, Integers, Isa,
    Level, MOST_CODE, PackedPair, ScaledPair, Values, WithPair,
};
use proptest::prelude::*;

use given::{cases, numbers, on};

/// Codes that there may be, and how many have a scale in common.
type Form = (RangeInclusive<i16>, usize);

/// Integers in memory.
struct InMemory {
    d_in: usize,
    form: Form,
    codes: Vec<i16>,
    scales: Vec<f32>,
    shifts: Option<Vec<f32>>,
}

impl InMemory {
    fn of([d_out, d_in]: [usize; 2], has_shifts: bool, form: Form, seed: u64) -> Self {
        let (range, group) = form.clone();
        let (n, groups) = (d_out * d_in, d_out * d_in / group);
        let (least, span) = (f32::from(*range.start()), f32::from(*range.end()) - f32::from(*range.start()));
        let codes = numbers(n, seed).iter().map(|v| ((v + 1.0) * 0.5 * span + least).round() as i16).collect();
        let shifts = has_shifts.then(|| numbers(groups, seed ^ 9));
        Self { d_in, form, codes, scales: numbers(groups, seed ^ 8).iter().map(|v| v * 0.01).collect(), shifts }
    }

    fn weight(&self, row: usize, column: usize) -> f64 {
        let at = row * self.d_in + column;
        let group = at / self.form.1;
        let shift = self.shifts.as_ref().map_or(0.0, |shifts| shifts[group]);
        f64::from(self.scales[group]) * f64::from(self.codes[at]) + f64::from(shift)
    }
}

impl IntegerSource for InMemory {
    fn read(&self, row: usize, first: usize, to: Integers) {
        let ends_with_row = first + to.codes.len() == self.d_in;
        assert!(first.is_multiple_of(INTEGER_COLUMNS) && (to.codes.len() == INTEGER_COLUMNS || ends_with_row));
        let group = self.form.1;
        let groups = to.codes.len() / group;
        assert!(to.scales.len() == groups && to.shifts.len() == groups);
        let at = row * self.d_in + first;
        to.codes.copy_from_slice(&self.codes[at..][..to.codes.len()]);
        to.scales.copy_from_slice(&self.scales[at / group..][..groups]);
        if let Some(shifts) = &self.shifts {
            to.shifts.copy_from_slice(&shifts[at / group..][..groups]);
        }
    }

    fn group(&self) -> usize {
        self.form.1
    }

    fn codes(&self) -> RangeInclusive<i16> {
        self.form.0.clone()
    }

    fn has_shifts(&self) -> bool {
        self.shifts.is_some()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A product in f64, and how far one with rounded inputs may be from it: half a step of each group's inputs for each of its weights, and
/// what rounding adds to sums in f32.
fn exact(isa: Isa, source: &InMemory, x: &[f32], row: usize) -> [f64; 2] {
    let (range, size) = &source.form;
    let most_input = f64::from(isa.most_input(range, *size));
    let offset = range.start().unsigned_abs();
    let mut sums = [0.0; 2];
    for (group, x) in x.chunks(*size).enumerate() {
        let most = x.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
        for (i, x) in x.iter().enumerate() {
            let weight = source.weight(row, group * size + i);
            sums[0] += f64::from(*x) * weight;
            sums[1] += most * weight.abs() * (0.501 / most_input + 2e-6);
        }
        let at = row * source.d_in / size + group;
        let shift =
            source.shifts.as_ref().map_or(0.0, |shifts| shifts[at].abs()) + source.scales[at].abs() * f32::from(offset);
        sums[1] += most * f64::from(shift) * 1e-5;
    }
    sums
}

/// Codes of ggml's formats, and the widest: what fits into two to eight bits, and what does not.
const FORMS: [Form; 11] = [
    (-8..=7, GROUP),
    (0..=15, GROUP),
    (0..=31, GROUP),
    (-16..=15, GROUP),
    (-128..=127, GROUP),
    (-124..=128, GROUP),
    (-MOST_CODE..=MOST_CODE, GROUP),
    (-4..=3, HALF_GROUP),
    (-32..=31, HALF_GROUP),
    (-127..=128, HALF_GROUP),
    (-MOST_CODE..=MOST_CODE, HALF_GROUP),
];

fn compare([rows, groups, d_out]: [usize; 3], gap: usize, has_shifts: bool, seed: u64) -> Result<(), TestCaseError> {
    let (d_in, stride) = (groups * GROUP, groups * GROUP + gap);
    let x = numbers((rows * stride).max(1), seed);
    let form = FORMS[(seed % FORMS.len() as u64) as usize].clone();
    let source = InMemory::of([d_out, d_in], has_shifts, form, seed ^ 1);
    for isa in Isa::available() {
        let matrix = IntegerMatrix::of(isa, [d_out, d_in], &source);
        let product = |threads| {
            on(threads, rows * d_out, |out| kernels::linear(matrix, &x, rows, stride, Epilogue::default(), out))
        };
        let found = product(1);
        for row in 0..rows {
            for o in 0..d_out {
                let [expected, allowed] = exact(isa, &source, &x[row * stride..][..d_in], o);
                let found = f64::from(found[row * d_out + o]);
                prop_assert!(
                    (found - expected).abs() <= allowed,
                    "{isa:?} {:?} [{row}, {o}]: {found} for {expected}",
                    source.form
                );
            }
        }
        prop_assert!(bits(&product(3)) == bits(&found), "{isa:?} on three threads");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_product_is_as_near_to_that_of_f64_as_its_inputs_are_rounded(
        rows in 0usize..60, groups in 0usize..20, d_out in 1usize..100, gap in 0usize..20, has_shifts: bool, seed: u64,
    ) {
        compare([rows, groups, d_out], gap, has_shifts, seed)?;
    }
}

#[test]
fn products_of_several_blocks_tasks_and_groups_of_panels_are_as_near() {
    let shapes = match cfg!(miri) {
        true => vec![([3, 2, 19], true)],
        false => vec![([175, 33, 40], true), ([13, 18, 900], false), ([1, 100, 1], true), ([340, 2, 300], true)],
    };
    for (shape, has_shifts) in shapes {
        for seed in 0..FORMS.len() as u64 {
            compare(shape, 3, has_shifts, seed).expect("near enough");
        }
    }
}

/// Where every number is a small integer or a power of two nothing is rounded, at any level.
#[test]
fn what_needs_no_rounding_is_exact_at_every_level() {
    let (rows, d_in, d_out) = if cfg!(miri) { (3, 64, 19) } else { (29, 96, 37) };
    let forms = [(-7..=7, GROUP), (0..=30, GROUP), (-7..=100, GROUP), (-128..=128, GROUP)];
    let halves = [(-4..=3, HALF_GROUP), (-32..=31, HALF_GROUP), (-100..=100, HALF_GROUP)];
    for (form, has_shifts) in forms.into_iter().chain(halves).flat_map(|form| [(form.clone(), true), (form, false)]) {
        let mut source = InMemory::of([d_out, d_in], has_shifts, form, 3);
        for (i, scale) in source.scales.iter_mut().enumerate() {
            *scale = [1.0, 0.5, -2.0][i % 3];
        }
        source.shifts.iter_mut().flatten().enumerate().for_each(|(i, shift)| *shift = (i % 5) as f32 - 2.0);
        for isa in Isa::available() {
            // Each group has an input of the greatest magnitude, so that an integer is itself.
            let most = f32::from(isa.most_input(&source.form.0, source.form.1));
            let x: Vec<f32> = (0..rows * d_in)
                .map(|i| if i % source.form.1 == 5 { most } else { (i * 7 % 129) as f32 - 64.0 })
                .collect();
            let matrix = IntegerMatrix::of(isa, [d_out, d_in], &source);
            let found = on(2, rows * d_out, |out| kernels::linear(matrix, &x, rows, d_in, Epilogue::default(), out));
            for (i, found) in found.into_iter().enumerate() {
                let [expected, _] = exact(isa, &source, &x[i / d_out * d_in..][..d_in], i % d_out);
                assert_eq!(f64::from(found), expected, "{isa:?} {:?} {i}", source.form);
            }
        }
    }
}

#[test]
fn the_greatest_codes_and_inputs_do_not_overflow() {
    let (d_in, d_out) = (GROUP, 17);
    for (range, size) in FORMS {
        for (code, x) in [(*range.end(), 1.0), (*range.start(), 1.0), (*range.end(), -1.0), (*range.start(), -1.0)] {
            let codes = vec![code; d_in * d_out];
            let (form, scales) = ((range.clone(), size), vec![1.0; d_in / size * d_out]);
            let source = InMemory { d_in, form, codes, scales, shifts: None };
            for isa in Isa::available() {
                let matrix = IntegerMatrix::of(isa, [d_out, d_in], &source);
                let found = on(1, d_out, |out| kernels::linear(matrix, &[x; GROUP], 1, d_in, Epilogue::default(), out));
                let expected = f32::from(code) * x * GROUP as f32;
                let off = found.iter().map(|found| (found - expected).abs()).fold(0.0, f32::max);
                assert!(off <= 1e-6 * (expected.abs() + 4096.0), "{isa:?} {range:?} of {size} {code} {x}: {found:?}");
            }
        }
    }
}

#[test]
fn inputs_have_eight_bits_only_where_codes_are_multiplied_as_bytes() {
    for isa in Isa::available() {
        let most = FORMS.map(|(range, size)| isa.most_input(&range, size));
        let (bytes, words) = (127, 16_383);
        let expected = match isa.level() {
            Level::Portable | Level::Neon => [words; 11],
            Level::Avx2 | Level::Avx512 => {
                [bytes, bytes, bytes, bytes, words, words, words, bytes, bytes, words, words]
            }
            Level::Avx512Bf16 | Level::Amx => {
                [bytes, bytes, bytes, bytes, bytes, bytes, words, bytes, bytes, bytes, words]
            }
        };
        assert_eq!(most, expected, "{isa:?}");
    }
}

#[test]
fn what_follows_a_product_and_what_is_beside_it_are_part_of_it() {
    let ([rows, d_in, d_out], rank) = ([23, 64, 45], 5);
    let source = InMemory::of([d_out, d_in], true, (-128..=127, GROUP), 5);
    let x = numbers(rows * d_in, 1);
    let (bias, gate, residual) = (numbers(d_out, 2), numbers(d_out, 3), numbers(rows * d_out, 4));
    let (down, up, scales) = (numbers(rank * d_in, 5), numbers(d_out * rank, 6), numbers(rank, 7));
    let epilogue = Epilogue {
        bias: Some(&bias),
        activation: Some(Activation::Silu),
        gate: Some(&gate),
        residual: Some(&residual),
    };
    for isa in Isa::available() {
        let matrix = IntegerMatrix::of(isa, [d_out, d_in], &source);
        let shape = [d_out, rank, d_in];
        let pair = PackedPair::pack(isa, Compute::Integers, shape, [Values::F32(&down), Values::F32(&up)]);
        let both = WithPair::new(matrix, Some(ScaledPair { pair: &pair, scales: &scales }));
        let found = on(2, rows * d_out, |out| kernels::linear(both, &x, rows, d_in, epilogue, out));
        for row in 0..rows {
            let x = &x[row * d_in..][..d_in];
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let inner: Vec<f64> =
                down.chunks(d_in).zip(&scales).map(|(down, scale)| dot(down, x) * f64::from(*scale)).collect();
            for o in 0..d_out {
                let [product, allowed] = exact(isa, &source, x, o);
                let beside: f64 = up[o * rank..][..rank].iter().zip(&inner).map(|(a, b)| f64::from(*a) * b).sum();
                let sum = product + beside + f64::from(bias[o]);
                let at = row * d_out + o;
                let expected = f64::from(residual[at]) + f64::from(gate[o]) * sum / (1.0 + (-sum).exp());
                let found = f64::from(found[at]);
                assert!(
                    (found - expected).abs() <= 1.2 * allowed + 1e-4,
                    "{isa:?} [{row}, {o}]: {found} for {expected}"
                );
            }
        }
    }
}

#[test]
fn an_input_that_is_no_number_makes_its_row_none_and_no_other() {
    let ([rows, d_in, d_out], source) = ([9, 64, 20], InMemory::of([20, 64], false, (0..=15, GROUP), 5));
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = numbers(rows * d_in, 1);
        x[4 * d_in + 40] = wrong;
        for isa in Isa::available() {
            let matrix = IntegerMatrix::of(isa, [d_out, d_in], &source);
            let found = on(1, rows * d_out, |out| kernels::linear(matrix, &x, rows, d_in, Epilogue::default(), out));
            for (row, values) in found.chunks(d_out).enumerate() {
                assert!(values.iter().all(|v| v.is_nan() == (row == 4)), "{isa:?} row {row}: {values:?}");
            }
        }
    }
}

#[test]
fn rows_of_other_than_whole_groups_are_refused() {
    let source = InMemory::of([2, 64], false, (0..=1, GROUP), 1);
    assert!(std::panic::catch_unwind(|| IntegerMatrix::of(Isa::best(), [2, 33], &source)).is_err());
    let source = InMemory::of([2, 64], false, (0..=1, 8), 1);
    assert!(std::panic::catch_unwind(|| IntegerMatrix::of(Isa::best(), [2, 64], &source)).is_err());
}
