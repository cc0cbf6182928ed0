//! Weights that are read as integers, against what they unpack to, and products of them against those in f32.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{
    Compute, Device, Format, Layout, Memory, Place, Residency, Stored, Tensor, WeightSource, Weights, layers::Linear,
    safetensors::Safetensors, tensor, values,
};
use kernels::{GROUP, Integers, Isa, MOST_CODE};
use quant::{Decoded, FP4, INT8, NF4, encode, formats, formats::BLOCK_FORMATS, operators::is_written};

/// Numbers without a pattern, from -1 to 1.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Whole blocks of any bytes of which no float is infinite or no number.
fn blocks(format: Format, count: usize) -> Vec<u8> {
    let numbers = numbers(count * format.bytes(), 7);
    let blocks: Vec<u8> = numbers.iter().map(|v| ((v + 1.0) * 127.99) as u8).collect();
    let is_finite = |block: &[u8]| {
        let mut weights = vec![0.0; format.weights()];
        (format.unpack().unwrap())(block, &mut weights);
        weights.iter().all(|weight| weight.is_finite())
    };
    blocks.chunks(format.bytes()).filter(|block| is_finite(block)).flatten().copied().collect()
}

#[test]
fn integers_stand_for_what_blocks_unpack_to_in_every_format_that_has_some() {
    let mut names = Vec::new();
    for format in BLOCK_FORMATS.iter().copied().chain([NF4, FP4, INT8]) {
        let Some(form) = format.integers() else { continue };
        names.push(format.name());
        let (group, most) = (form.group, form.most);
        let per_group = GROUP.div_ceil(format.weights());
        let bytes = blocks(format, 300 * per_group);
        let bytes = &bytes[..bytes.len() / (per_group * format.bytes()) * per_group * format.bytes()];
        let count = bytes.len() / format.bytes() * format.weights();
        assert!(count >= 200 * GROUP, "{format}: blocks of numbers");
        let mut expected = vec![0.0; count];
        (format.unpack().unwrap())(bytes, &mut expected);
        let (mut codes, mut scales, mut shifts) =
            (vec![i16::MAX; count], vec![f32::NAN; count / group], vec![0.0; count / group]);
        (form.read)(bytes, Integers { codes: &mut codes, scales: &mut scales, shifts: &mut shifts });
        assert_eq!(shifts.iter().any(|shift| *shift != 0.0), form.has_shifts, "{format}");
        // The tables of four bits are no integers: they are rounded to steps of the greatest code.
        let step = if [NF4, FP4].contains(&format) { 0.5 / f32::from(most) } else { 0.0 };
        assert!(-MOST_CODE <= form.least && form.most <= MOST_CODE, "{format}");
        for (i, (code, expected)) in codes.iter().zip(&expected).enumerate() {
            let (product, shift) = (scales[i / group] * f32::from(*code), shifts[i / group]);
            let allowed = 1e-6 * (product.abs() + shift.abs()) + 1.001 * step;
            assert!(form.codes().contains(code), "{format}: code {code}");
            assert!((product + shift - expected).abs() <= allowed, "{format} {i}: {product} + {shift} for {expected}");
        }
    }
    let expected = [
        "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ4_NL", "IQ4_XS",
        "TQ2_0", "MXFP4", "NVFP4", "NF4", "FP4", "INT8",
    ];
    assert_eq!(names, expected);
}

/// A source of one matrix.
fn one(weight: Stored) -> Memory {
    Memory::of([("weight", weight)])
}

/// `x · weightᵀ` of a source's tensor.
fn product(source: &dyn WeightSource, name: &str, residency: Residency, compute: Compute, x: &Tensor<2>) -> Vec<f32> {
    let shape = source.manifest().get(name).unwrap().shape.to_vec();
    let (layer, _) = name.rsplit_once("weight").unwrap();
    let layout = Layout::of(|l| l.unbiased(layer.trim_end_matches('.'), shape[1], shape[0]));
    let weights = Weights::of(source, &Device::flex(), residency).computed_in(compute).laid_out(layout);
    let weights = if layer.is_empty() { weights } else { weights.at(layer.trim_end_matches('.')) };
    values(&Linear::load(&weights).unwrap().forward(x.clone()))
}

/// What weights that are no integers are computed in beside those that are.
fn beside_integers() -> Compute {
    if Compute::Integers.is_in_pairs(Isa::best()) { Compute::Bf16 } else { Compute::F32 }
}

/// The root mean squared difference, as a share.
fn off(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    (squares(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / squares(&mut expected.iter().copied())).sqrt()
}

/// What a product may be off by, by the bits of its inputs: 15, and tables in steps of a 4,096th; or eight.
fn may_be_off(format: Format) -> f64 {
    let form = format.integers().unwrap();
    if Isa::best().most_input(&form.codes(), form.group) > 127 { 2e-4 } else { 8e-3 }
}

#[test]
fn products_of_integers_are_those_of_f32_wherever_a_matrix_is_held() {
    let (rows, d_out, d_in) = (7, 40, 512);
    let x = tensor(numbers(rows * d_in, 1), [rows, d_in], &Device::flex());
    let weights = numbers(d_out * d_in, 2);
    let writable = BLOCK_FORMATS.iter().filter(|format| format.integers().is_some() && is_written(**format));
    for &format in writable {
        let bytes = encode::packed(format, &weights).unwrap();
        let stored = Stored::of_bytes(format, vec![d_out, d_in], bytes).unwrap();
        // Rows of a stack lie in several places.
        let stack = Stored::stacked(&[stored.rows(0..9).unwrap(), stored.rows(9..d_out).unwrap()]).unwrap();
        let [stored, stack] = [stored, stack].map(one);
        let exact = product(&stored, "weight", Residency::Unpacked, Compute::F32, &x);
        let found = product(&stored, "weight", Residency::Mapped, Compute::Integers, &x);
        let off = off(&found, &exact);
        assert!(off > 0.0 && off < may_be_off(format), "{format}: {off:e}");
        assert_eq!(found, product(&stored, "weight", Residency::Unpacked, Compute::Integers, &x), "{format}");
        assert_eq!(found, product(&stack, "weight", Residency::Mapped, Compute::Integers, &x), "{format}");
    }
}

#[test]
fn a_matrix_of_integers_takes_what_it_takes_in_its_file() {
    let (d_out, d_in) = (40, 512);
    for (format, is_integers) in
        [(formats::Q8_0, true), (formats::Q6_K, true), (formats::TQ1_0, false), (Format::F32, false)]
    {
        let bytes = encode::packed(format, &numbers(d_out * d_in, 2)).unwrap();
        let in_file = bytes.len() as u64;
        let source = one(Stored::of_bytes(format, vec![d_out, d_in], bytes).unwrap());
        let layout = Layout::of(|l| l.unbiased("", d_in, d_out));
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).laid_out(layout);
        let [as_integers, as_else] =
            [Compute::Integers, beside_integers()].map(|compute| weights.bytes(Place::Cpu(compute)).unpacked);
        assert!(if is_integers { as_integers == in_file } else { as_integers == as_else }, "{format}: {as_integers}");
    }
}

#[test]
fn what_is_no_integers_or_not_in_whole_groups_is_computed_as_without_integers() {
    let same = |stored: Stored| {
        let [rows, d_in] = [5, stored.shape()[1]];
        let x = tensor(numbers(rows * d_in, 1), [rows, d_in], &Device::flex());
        let source = one(stored);
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let [found, expected] = [Compute::Integers, beside_integers()]
                .map(|compute| product(&source, "weight", residency, compute, &x));
            assert_eq!(found, expected);
        }
    };
    same(Stored::of(&numbers(64 * 8, 1), vec![8, 64]));
    // Blocks that go on in the next row.
    let bytes = encode::packed(formats::Q8_0, &numbers(512 * 48, 1)).unwrap();
    same(Stored::of_bytes(formats::Q8_0, vec![512, 48], bytes).unwrap());
    let bytes = encode::packed(formats::TQ1_0, &numbers(8 * 256, 1)).unwrap();
    same(Stored::of_bytes(formats::TQ1_0, vec![8, 256], bytes).unwrap());
}

#[test]
fn states_of_bitsandbytes_are_integers_with_the_scales_that_lie_beside_them() {
    let file = Safetensors::open(&fixtures::path("golden/bnb/states.safetensors")).unwrap();
    let source = Decoded::over(file).unwrap();
    let mut kinds = Vec::new();
    for (name, form) in source.manifest().iter() {
        let &[_, d_in] = form.shape else { continue };
        if form.format.integers().is_none() || !d_in.is_multiple_of(GROUP) || !name.ends_with("weight") {
            continue;
        }
        let x = tensor(numbers(3 * d_in, 1), [3, d_in], &Device::flex());
        let exact = product(&source, name, Residency::Unpacked, Compute::F32, &x);
        let found = product(&source, name, Residency::Mapped, Compute::Integers, &x);
        let off = off(&found, &exact);
        // Of states in bf16 every single weight is rounded to that in f32's product.
        assert!(off > 0.0 && off < 4e-3 + may_be_off(form.format), "{name}: {off:e}");
        kinds.push(form.format.name());
    }
    for kind in ["NF4", "FP4"] {
        assert!(kinds.contains(&kind), "{kind} of {kinds:?}");
    }
    // Those of LLM.int8 in the file have no whole groups.
    let bytes = numbers(24 * 96, 3).iter().map(|v| (v * 127.0) as i8 as u8).collect();
    let scales: Vec<f32> = (1..=24).map(|i| i as f32 / 24.0).collect();
    let weight = Stored::of_bytes(Format::I8, vec![24, 96], bytes).unwrap();
    let source =
        Decoded::over(Memory::of(vec![("l.weight", weight), ("l.SCB", Stored::of(&scales, vec![24]))])).unwrap();
    let x = tensor(numbers(3 * 96, 1), [3, 96], &Device::flex());
    let [exact, found] =
        [Compute::F32, Compute::Integers].map(|compute| product(&source, "l.weight", Residency::Mapped, compute, &x));
    let off = off(&found, &exact);
    assert!(off > 0.0 && off < may_be_off(INT8), "{off:e}");
}
