//! Weights that a device has as they are stored: one kernel unpacks them for a product, and one multiplies few rows with them and unpacks them
//! on the way. Both are for all formats, and are compiled for the one that a [`BitForm`](crate::bits::BitForm) describes.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, CubeDevice, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{
    calculate_cube_count_elemwise,
    ir::{ElemType, FloatKind},
    prelude::*,
    server::MemoryLayoutDescriptor,
    zspace::metadata::Metadata,
};

use crate::{
    Device, Tensor,
    bits::{Field, Number, Part, PartNumber, Round, Scale, Shift, Steps, Whole},
    packing::{AT_A_TIME, Packing, Reading},
    uploads::uploaded,
};

/// A matrix as it is stored, in a device's memory.
#[derive(Clone, Debug)]
pub struct Packed {
    words: CubeTensor,
    packing: Packing,
    dtype: DType,
}

impl Packed {
    /// The bytes that [`Packing::write`] wrote, brought to a device that computes in a number format; `None` for the CPU.
    pub(crate) fn upload(bytes: Vec<u8>, packing: Packing, device: &Device, dtype: DType) -> Option<Self> {
        let like = Tensor::<1>::empty([1], device).try_into_primitive::<CubeBackend>().ok()?;
        let words = Shape::from([bytes.len() / size_of::<u32>()]);
        let handle = uploaded(&like, bytes);
        let words = CubeTensor::new_contiguous(like.client, like.device, words, handle, DType::U32);
        Some(Self::of(words, packing, dtype))
    }

    /// The same, which are there.
    pub(crate) fn of(words: CubeTensor, packing: Packing, dtype: DType) -> Self {
        foresee(&words.device, &packing, dtype);
        Self { words, packing, dtype }
    }

    /// All weights, in the number format that is computed in.
    pub(crate) fn unpacked(&self) -> Tensor<2> {
        let Self { words, packing, dtype } = self;
        let out = self.unpacking_room();
        let units = packing.shape.iter().product::<usize>() / AT_A_TIME;
        let threads = CubeDim::new_1d(THREADS);
        let format = ElemType::Float(match dtype {
            DType::BF16 => FloatKind::BF16,
            DType::F16 => FloatKind::F16,
            _ => FloatKind::F32,
        });
        unpack::launch(
            &words.client,
            calculate_cube_count_elemwise(&words.client, units, threads),
            threads,
            AT_A_TIME,
            words.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            packing.run as u32,
            packing.reading,
            format,
        );
        Tensor::from_primitive::<CubeBackend>(out)
    }

    /// `[…, d_in]` times the matrix, and `bias` `[d_out]` added, in f32: each weight is read and unpacked once, and written nowhere. `None`
    /// for no rows, more than [`THIN_ROWS`], and inputs in another number format than f32.
    pub(crate) fn thin<const D: usize>(&self, x: &Tensor<D>, bias: Option<&Tensor<1>>) -> Option<Tensor<D>> {
        let Self { words, packing, .. } = self;
        let ([d_out, d_in], mut shape) = (packing.shape, x.dims());
        assert_eq!(shape[D - 1], d_in, "columns for a matrix [{d_out}, {d_in}]");
        let m = shape[..D - 1].iter().product::<usize>();
        if x.dtype() != DType::F32 || !(1..=THIN_ROWS).contains(&m) {
            return None;
        }
        shape[D - 1] = d_out;
        let x = into_contiguous(x.clone().try_into_primitive::<CubeBackend>().ok()?);
        let is_biased = bias.is_some();
        let bias = match bias {
            Some(bias) => into_contiguous(bias.clone().cast(DType::F32).try_into_primitive::<CubeBackend>().ok()?),
            None => x.clone(),
        };
        let out = self.room(shape, DType::F32);
        let threads = CubeDim::new_1d(THIN_THREADS);
        let units = d_out * LANES as usize;
        thin::launch(
            &words.client,
            calculate_cube_count_elemwise(&words.client, units, threads),
            threads,
            AT_A_TIME,
            words.clone().into_buffer_arg(),
            x.into_buffer_arg(),
            bias.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            packing.run as u32,
            m as u32,
            d_out as u32,
            (d_in / AT_A_TIME) as u32,
            packing.reading,
            m.next_power_of_two(),
            is_biased,
        );
        Some(Tensor::from_primitive::<CubeBackend>(out))
    }

    /// Room for what is unpacked, of one size for all matrices: each takes what the one before it had. Pages that it shared with what else comes and
    /// goes would be filled by that in part, and not have room for the next matrix.
    fn unpacking_room(&self) -> CubeTensor {
        let Self { words, packing, dtype } = self;
        let (bytes, largest) = foresee(&words.device, packing, *dtype);
        let room = words.client.memory_persistent_allocation((), |()| words.client.empty(largest));
        let (client, device) = (words.client.clone(), words.device.clone());
        let room = room.offset_end((largest - bytes) as u64);
        CubeTensor::new_contiguous(client, device, packing.shape.into(), room, *dtype)
    }

    /// Room beside it in the device's memory, row-major and without gaps; nobody has written there.
    fn room(&self, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
        let (words, shape) = (&self.words, shape.into());
        let descriptor = MemoryLayoutDescriptor::contiguous(shape.clone(), dtype.size());
        let layout = words.client.empty_tensors(vec![descriptor]).remove(0);
        let meta = Metadata::new(shape, layout.strides);
        CubeTensor::new(words.client.clone(), layout.memory, meta, words.device.clone(), dtype)
    }
}

/// Of devices and number formats the most bytes that a matrix of theirs takes unpacked.
static LARGEST: Mutex<Vec<((CubeDevice, DType), usize)>> = Mutex::new(Vec::new());

/// Forgets what devices were told of matrices: models went. Those that stay are heard of again where they are next unpacked.
pub(crate) fn forget() {
    LARGEST.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Tells a device of a matrix that it may have to unpack. Bytes that this takes, and the largest in its number format of which it was told.
pub(crate) fn foresee(device: &CubeDevice, packing: &Packing, dtype: DType) -> (usize, usize) {
    let bytes = packing.shape.iter().product::<usize>() * dtype.size();
    let key = (device.clone(), dtype);
    let mut all = LARGEST.lock().unwrap_or_else(PoisonError::into_inner);
    match all.iter_mut().find(|(known, _)| *known == key) {
        Some((_, largest)) => {
            *largest = bytes.max(*largest);
            (bytes, *largest)
        }
        None => {
            all.push((key, bytes));
            (bytes, bytes)
        }
    }
}

/// So few rows take a kernel that is bound by reading the matrix, whose inputs and results are f32.
pub(crate) const THIN_ROWS: usize = 16;

/// The least f16 above 0: 2^-24.
const LEAST_OF_F16: f32 = 5.960_464_5e-8;

/// Threads of a block that unpacks, and of one that multiplies few rows.
const THREADS: u32 = 256;
const THIN_THREADS: u32 = 128;

/// Threads that have an output of few rows in common.
const LANES: u32 = 32;

/// Each thread writes weights that lie one after the other in one part of a block.
#[cube(launch)]
fn unpack<F: Float, N: Size>(
    words: &[u32],
    out: &mut [Vector<F, N>],
    run: u32,
    #[comptime] reading: Reading,
    #[define(F)] _format: ElemType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    out[ABSOLUTE_POS] = weights(words, u32::cast_from(ABSOLUTE_POS), run, u32::cast_from(out.len()), reading);
}

/// Some threads have one output of all `m` rows: each multiplies every so many-th piece of a row, of which a row has `width`, and what they have
/// summed is added up in shared memory. Where there is no bias, anything stands for it, and is not read.
#[cube(launch)]
fn thin<N: Size>(
    words: &[u32],
    x: &[Vector<f32, N>],
    bias: &[f32],
    out: &mut [f32],
    run: u32,
    m: u32,
    d_out: u32,
    width: u32,
    #[comptime] reading: Reading,
    #[comptime] rows: usize,
    #[comptime] is_biased: bool,
) {
    let (unit, lane) = (UNIT_POS as usize, UNIT_POS % comptime!(LANES));
    let output = u32::cast_from(CUBE_POS) * comptime!(THIN_THREADS / LANES) + UNIT_POS / comptime!(LANES);
    // Rows and outputs beyond the last are computed as the last again, and not stored.
    let start = lesser(output, d_out - 1) * width;
    let mut sums = Array::<f32>::new(rows);
    for at in range_stepped(lane, width, comptime!(LANES)) {
        let of_output = weights::<f32, N>(words, start + at, run, d_out * width, reading);
        #[unroll]
        for i in 0..rows {
            let of_row = x[(lesser(u32::cast_from(i), m - 1) * width + at) as usize];
            sums[i] += of_row.dot(of_output);
        }
    }
    // At most half of the 16 KiB that WebGPU promises.
    let threads = comptime!(THIN_THREADS as usize);
    let mut parts = Shared::<[f32]>::new_slice(comptime!(rows * threads));
    #[unroll]
    for i in 0..rows {
        parts[i * threads + unit] = sums[i];
    }
    #[unroll]
    for level in 0..comptime!(LANES.ilog2()) {
        let half = comptime!(LANES >> (level + 1));
        sync_cube();
        if lane < half {
            for i in 0..m as usize {
                parts[i * threads + unit] += parts[i * threads + unit + comptime!(half as usize)];
            }
        }
    }
    sync_cube();
    // There are fewer rows than threads for each.
    if lane < m && output < d_out {
        let sum = parts[lane as usize * threads + unit - lane as usize];
        let added = if comptime!(is_biased) { bias[output as usize] } else { f32::new(0.0) };
        out[(lane * d_out + output) as usize] = sum + added;
    }
}

#[cube]
fn lesser(a: u32, b: u32) -> u32 {
    select(a < b, a, b)
}

/// As many weights as are read at a time, by their place among all of a matrix: of `units` of them.
#[cube]
fn weights<F: Float, N: Size>(
    words: &[u32],
    unit: u32,
    run: u32,
    units: u32,
    #[comptime] reading: Reading,
) -> Vector<F, N> {
    let first = unit * comptime!(AT_A_TIME as u32);
    let tables = comptime!(reading.form.tables().map(|table| table.len() as u32));
    let (before, per_block, block_bytes) = comptime!((4 * (tables[0] + tables[1]), reading.weights, reading.bytes));
    let at = before + first / per_block * block_bytes;
    let i = first % per_block;
    let scale = scaling(words, at, i, comptime!(reading.form.scale));
    let shift = shifting(words, at, i, comptime!(reading.form.shift));
    let beside = beside(words, first, run, units, reading);
    let mut weights = Vector::<F, N>::empty();
    #[unroll]
    for k in 0..comptime!(AT_A_TIME) {
        let value = number(words, at, i + u32::cast_from(k), comptime!(reading.form.number), comptime!(tables[0]));
        let scaled = value * scale + shift;
        weights.insert(k, F::cast_from(rounded(scaled * beside, comptime!(reading.scaled))));
    }
    weights
}

/// The scale that lies behind the blocks.
#[cube]
fn beside(words: &[u32], first: u32, run: u32, units: u32, #[comptime] reading: Reading) -> f32 {
    if comptime!(reading.scaled.is_some()) {
        let blocks = units * comptime!(AT_A_TIME as u32) / comptime!(reading.weights);
        let behind = (blocks * comptime!(reading.bytes)).div_ceil(4) + comptime!(reading.table_words() as u32);
        f32::from_bits(words[(behind + first / run) as usize])
    } else {
        f32::new(1.0)
    }
}

#[cube]
fn shifting(words: &[u32], at: u32, i: u32, #[comptime] shift: Shift) -> f32 {
    match shift {
        Shift::None => 0.0f32,
        Shift::Plus(scale) => scaling(words, at, i, scale),
        Shift::Minus(scale) => -scaling(words, at, i, scale),
    }
}

#[cube]
fn scaling(words: &[u32], at: u32, i: u32, #[comptime] scale: Scale) -> f32 {
    let whole = match comptime!(scale.whole) {
        Whole::One => 1.0f32,
        Whole::Half(byte) => f16_at(words, at + byte),
        Whole::Float(byte) => f32::from_bits(words[((at + byte) / 4) as usize]),
    };
    match comptime!(scale.part) {
        None => whole,
        Some(part) => whole * of_part(words, at, i, part),
    }
}

#[cube]
fn of_part(words: &[u32], at: u32, i: u32, #[comptime] part: Part) -> f32 {
    let p = i / comptime!(part.weights);
    match comptime!(part.number) {
        PartNumber::Bits(bits) => number(words, at, p, bits, 0u32),
        PartNumber::Sixes { at: first, is_second } => f32::cast_from(six_bits(words, at + first, p, is_second)),
    }
}

/// See [`PartNumber::Sixes`].
#[cube]
fn six_bits(words: &[u32], at: u32, p: u32, #[comptime] is_second: bool) -> u32 {
    let (own, shift) = comptime!(if is_second { (4u32, 4u32) } else { (0u32, 0u32) });
    let among = p % 4;
    let first = byte(words, at + own + among);
    let later = (byte(words, at + 8 + among) >> shift) & 15;
    select(p < 4, first & 63, later | (first >> 6 << 4))
}

/// A number by its place; where it is one of a table, that begins at a word.
#[cube]
fn number(words: &[u32], at: u32, i: u32, #[comptime] number: Number, #[comptime] table: u32) -> f32 {
    match comptime!(number.steps) {
        Steps::From(least) => f32::cast_from(i32::cast_from(bits(words, at, i, number)) + least),
        Steps::Signed => {
            let bits = bits(words, at, i, number);
            f32::cast_from(i32::cast_from(bits) - i32::cast_from((bits >> 7) << 8))
        }
        Steps::F16 => f16_at(words, at + comptime!(number.low.at) + 2 * i),
        Steps::Bf16 => {
            let place = at + comptime!(number.low.at) + 2 * i;
            f32::from_bits(words[(place / 4) as usize] >> (place % 4 * 8) << 16)
        }
        Steps::Of(_) => f32::from_bits(words[(table + bits(words, at, i, number)) as usize]),
    }
}

/// The bits of a number of at most a byte and what is above it.
#[cube]
fn bits(words: &[u32], at: u32, i: u32, #[comptime] number: Number) -> u32 {
    let low = field(words, at, i, comptime!(number.low));
    match comptime!(number.high) {
        None => low,
        Some(high) => low | (field(words, at, i, high) << comptime!(number.low.bits)),
    }
}

/// See [`Field`].
#[cube]
fn field(words: &[u32], at: u32, i: u32, #[comptime] field: Field) -> u32 {
    let (bits, run, span) = comptime!((field.bits, field.run, field.span));
    let place = at + comptime!(field.at) + i / span * run + i % run;
    let level = i % span / run * bits;
    let shift = if comptime!(field.upper_first) { 8 - bits - level } else { level };
    (byte(words, place) >> shift) & comptime!((1u32 << field.bits) - 1)
}

#[cube]
fn byte(words: &[u32], at: u32) -> u32 {
    (words[(at / 4) as usize] >> (at % 4 * 8)) & 255
}

/// The f16 at an even byte. As f32 its least numbers are no subnormal ones, which a device might take for 0.
#[cube]
fn f16_at(words: &[u32], at: u32) -> f32 {
    let bits = words[(at / 4) as usize] >> (at % 4 * 8);
    let (magnitude, sign) = (bits & 0x7fff, (bits & 0x8000) << 16);
    let least = f32::cast_from(magnitude) * LEAST_OF_F16;
    let rebased = select(magnitude < 0x7c00, (magnitude << 13) + 0x3800_0000, (magnitude << 13) | 0x7f80_0000);
    let value = select(magnitude < 0x400, least, f32::from_bits(rebased));
    f32::from_bits(value.to_bits() | sign)
}

/// To even where it is between two.
#[cube]
fn rounded(value: f32, #[comptime] scaled: Option<Round>) -> f32 {
    match comptime!(scaled) {
        Some(Round::Bf16) => number_or(value, of_bits(value, 16u32)),
        Some(Round::F16) => {
            let (sign, magnitude) = (value.to_bits() & 0x8000_0000, value.to_bits() & 0x7fff_ffff);
            let many = f32::from_bits(sign | 0x7f80_0000);
            let of_f16 = select(magnitude < 0x3880_0000, least_of_f16(value), of_bits(value, 13u32));
            number_or(value, select(magnitude < 0x477f_f000, of_f16, many))
        }
        Some(Round::No) | None => value,
    }
}

/// What a value is rounded to, unless it is no number.
#[cube]
fn number_or(value: f32, rounded: f32) -> f32 {
    select(value.to_bits() & 0x7fff_ffff > 0x7f80_0000, value, rounded)
}

/// Without so many of its last bits.
#[cube]
fn of_bits(value: f32, #[comptime] last: u32) -> f32 {
    let bits = value.to_bits();
    let even = (bits >> last) & 1;
    let half = comptime!((1u32 << (last - 1)) - 1);
    f32::from_bits((bits + half + even) & comptime!(!((1u32 << last) - 1)))
}

/// Of a value less than 2^-14, of which f16 has as many as 2^-24 goes into it. In integers, as what is added to a float and taken off again a
/// compiler may leave out.
#[cube]
fn least_of_f16(value: f32) -> f32 {
    let (sign, exponent) = (value.to_bits() & 0x8000_0000, (value.to_bits() >> 23) & 255);
    let mantissa = (value.to_bits() & 0x7f_ffff) | 0x80_0000;
    // Further down nothing is left of it.
    let last = select(exponent < 101, 25, 126 - exponent);
    let count = (mantissa + (1 << (last - 1)) - 1 + ((mantissa >> last) & 1)) >> last;
    f32::from_bits((f32::cast_from(count) * LEAST_OF_F16).to_bits() | sign)
}
