//! The descriptions that devices unpack weights by, beside what the CPU unpacks.

use core_tensor::{BitForm, Field, Format, Number, Part, PartNumber, Scale, Shift, Steps, Table, Whole};
use quant::operators::computed;

/// What a form says of a weight of a block.
fn weight(form: &BitForm, block: &[u8], i: usize) -> f32 {
    let scaled = numbered(&form.number, block, i) * scaling(&form.scale, block, i);
    match &form.shift {
        Shift::None => scaled,
        Shift::Plus(shift) => scaled + scaling(shift, block, i),
        Shift::Minus(shift) => scaled - scaling(shift, block, i),
    }
}

fn scaling(scale: &Scale, block: &[u8], i: usize) -> f32 {
    let whole = match scale.whole {
        Whole::One => 1.0,
        Whole::Half(at) => half::f16::from_le_bytes([block[at as usize], block[at as usize + 1]]).to_f32(),
        Whole::Float(at) => f32::from_le_bytes(std::array::from_fn(|k| block[at as usize + k])),
    };
    let Some(Part { weights, number }) = scale.part else { return whole };
    let part = i / weights as usize;
    whole
        * match number {
            PartNumber::Bits(number) => numbered(&number, block, part),
            PartNumber::Sixes { at, is_second } => six_bits(&block[at as usize..], part, is_second),
        }
}

/// Scale or minimum of a part, as ggml's `get_scale_min_k4` reads them.
fn six_bits(bytes: &[u8], part: usize, is_second: bool) -> f32 {
    let own = if is_second { 4 } else { 0 };
    f32::from(match part {
        0..4 => bytes[part + own] & 63,
        _ => bytes[part + 4] >> own & 15 | bytes[part - 4 + own] >> 6 << 4,
    })
}

fn numbered(number: &Number, block: &[u8], i: usize) -> f32 {
    let pair = || [0, 1].map(|k| block[number.low.at as usize + 2 * i + k]);
    let bits = || bits(number, block, i);
    match number.steps {
        Steps::From(least) => (bits() as i32 + least) as f32,
        Steps::Signed => f32::from((bits() as u8).cast_signed()),
        Steps::F16 => half::f16::from_le_bytes(pair()).to_f32(),
        Steps::Bf16 => half::bf16::from_le_bytes(pair()).to_f32(),
        Steps::Of(Table(table)) => table[bits() as usize],
    }
}

fn bits(number: &Number, block: &[u8], i: usize) -> u32 {
    let high = number.high.map_or(0, |high| field(&high, block, i) << number.low.bits);
    field(&number.low, block, i) | high
}

fn field(field: &Field, block: &[u8], i: usize) -> u32 {
    let [bits, at, run, span] = [field.bits, field.at, field.run, field.span].map(|n| n as usize);
    let (byte, level) = (block[at + i / span * run + i % run], i % span / run * bits);
    let shift = if field.upper_first { 8 - bits - level } else { level };
    u32::from(byte) >> shift & ((1 << bits) - 1)
}

/// Blocks that all bytes are in, in changing order.
fn blocks(format: Format) -> Vec<u8> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let bytes = std::iter::successors(Some(7u32), next).map(|x| (x >> 24) as u8);
    bytes.take(1000 * format.bytes()).collect()
}

#[test]
fn forms_say_what_blocks_unpack_to() {
    let mut seen = Vec::new();
    for format in computed() {
        let Some(form) = format.bits() else { continue };
        seen.push(format.name());
        let (per_block, blocks) = (format.weights(), blocks(format));
        let mut expected = vec![0.0; 1000 * per_block];
        format.unpack().unwrap()(&blocks, &mut expected);
        for (n, block) in blocks.chunks_exact(format.bytes()).enumerate() {
            for i in 0..per_block {
                let (found, expected) = (weight(&form, block, i), expected[n * per_block + i]);
                let are_same = found == expected || found.is_nan() && expected.is_nan();
                assert!(are_same, "{format}, block {n}, weight {i}: {found} instead of {expected}");
            }
        }
    }
    assert_eq!(seen.len(), 23, "{seen:?}");
}

#[test]
fn numbers_that_are_read_whole_lie_in_one_word_and_parts_are_as_wide_as_a_device_reads() {
    for (format, form) in computed().filter_map(|format| Some((format, format.bits()?))) {
        let scales = match form.shift {
            Shift::None => vec![form.scale],
            Shift::Plus(shift) | Shift::Minus(shift) => vec![form.scale, shift],
        };
        for Scale { whole, part } in scales {
            let to = match whole {
                Whole::One => 1,
                Whole::Half(at) => {
                    assert!(at % 2 == 0, "{format}");
                    2
                }
                Whole::Float(at) => {
                    assert!(at % 4 == 0, "{format}");
                    4
                }
            };
            assert!(format.bytes().is_multiple_of(to), "{format}");
            assert!(part.is_none_or(|part| part.weights.is_multiple_of(4)), "{format}");
        }
    }
}
