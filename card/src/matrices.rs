//! Products of matrices, and how they lie in a warp's registers and in a block's memory.

use std::array;

use crate::{
    floats::{bf16_of, f16_of, f32_of, of_f32},
    instruction::{Half, Lanes},
    memory::{Fault, Memory, Space},
};

/// 16 values of a sum.
const DEPTH: usize = 16;

type Row = [f32; DEPTH];

fn wide(half: Half, bits: u64) -> f32 {
    match half {
        Half::F16 => f16_of(bits & 0xffff),
        Half::Bf16 => bf16_of(bits & 0xffff),
    }
}

/// `ldmatrix`: of each row the address is given; lane `l` gets two values of row `l / 4`, or of column `l / 4` where it is turned.
pub(crate) fn loaded(memory: &mut Memory, rows: &[u64], is_turned: bool) -> Result<Lanes, Fault> {
    let mut all = [[0u8; 16]; 8];
    for (row, &address) in all.iter_mut().zip(rows) {
        memory.read_all(Space::Shared, address, row)?;
    }
    let value =
        |row: usize, column: usize| u64::from(u16::from_le_bytes([all[row][2 * column], all[row][2 * column + 1]]));
    Ok(array::from_fn(|lane| {
        let (line, at) = (lane / 4, lane % 4 * 2);
        let [first, second] =
            if is_turned { [value(at, line), value(at + 1, line)] } else { [value(line, at), value(line, at + 1)] };
        first | second << 16
    }))
}

/// 16 rows as a warp holds them: lane `l` has of rows `l / 4` and `l / 4 + 8` the values `2 (l % 4)` and the next, and those 8 further.
pub(crate) fn held(half: Half, a: [&Lanes; 4]) -> [Row; 16] {
    array::from_fn(|row| {
        array::from_fn(|k| {
            let register = row / 8 + 2 * (k / 8);
            let lane = row % 8 * 4 + k % 8 / 2;
            wide(half, a[register][lane] >> (16 * (k % 2)))
        })
    })
}

/// `mma.m16n8k16`.
pub(crate) fn product(half: Half, a: [&Lanes; 4], b: [&Lanes; 2], mut sums: [Lanes; 4]) -> [Lanes; 4] {
    let rows = held(half, a);
    let columns: [Row; 8] =
        array::from_fn(|n| array::from_fn(|k| wide(half, b[k / 8][4 * n + k % 8 / 2] >> (16 * (k % 2)))));
    for (i, sums) in sums.iter_mut().enumerate() {
        for (lane, sums) in sums.iter_mut().enumerate() {
            *sums = sum(&rows, &columns, i, lane, *sums);
        }
    }
    sums
}

/// What lane `l` has in its `i`-th register of sums: of each 8 columns two, `2 (l % 4)` and the next, in rows `l / 4` and `l / 4 + 8`.
pub(crate) fn sum(rows: &[Row; 16], columns: &[Row], i: usize, lane: usize, sum: u64) -> u64 {
    let row = &rows[lane / 4 + 8 * (i / 2 % 2)];
    let column = &columns[8 * (i / 4) + lane % 4 * 2 + i % 2];
    let added: f64 = row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    of_f32((f64::from(f32_of(sum)) + added) as f32)
}

/// What a descriptor of `wgmma` says: where a matrix begins, the two distances of its parts, and of how many pieces of 16 bytes those are whose
/// order depends on their row.
struct Described {
    start: u64,
    leading: u64,
    stride: u64,
    pieces: u64,
}

impl Described {
    fn of(bits: u64) -> Result<Self, Fault> {
        let field = |at: u32| (bits >> at & 0x3fff) << 4;
        let pieces = match bits >> 62 {
            0 => 1,
            1 => 8,
            2 => 4,
            _ => 2,
        };
        if bits >> 49 & 7 != 0 {
            return Err(Fault("a descriptor whose base is moved is not known".to_owned()));
        }
        Ok(Self { start: field(0), leading: field(16), stride: field(32), pieces })
    }

    /// An element of a row, by its place in the sum.
    fn element(&self, half: Half, memory: &mut Memory, row: u64, k: u64, is_turned: bool) -> Result<f32, Fault> {
        let run = 8 * self.pieces;
        let at = match (is_turned, self.pieces) {
            // Sums run along rows: eight of them lie side by side, pieces of each one behind the other.
            (false, 1) => row / 8 * self.stride + k / 8 * self.leading + row % 8 * 16 + k % 8 * 2,
            (false, _) => row / 8 * self.stride + row % 8 * 2 * run + k * 2,
            (true, 1) => row / 8 * self.stride + k / 8 * self.leading + k % 8 * 16 + row % 8 * 2,
            (true, _) => row / run * self.leading + k / 8 * self.stride + k % 8 * 2 * run + row % run * 2,
        };
        let address = self.start + at;
        let swapped = address ^ (address >> 7 & (self.pieces - 1)) << 4;
        Ok(wide(half, memory.reading(Space::Shared, swapped, 2)?.element(0, 2)))
    }

    fn row(&self, half: Half, memory: &mut Memory, row: u64, is_turned: bool) -> Result<Row, Fault> {
        let mut values = [0.0; DEPTH];
        for (k, value) in values.iter_mut().enumerate() {
            *value = self.element(half, memory, row, k as u64, is_turned)?;
        }
        Ok(values)
    }
}

/// The 16 rows of a warp of a group, by its number there.
pub(crate) fn described_rows(half: Half, memory: &mut Memory, bits: u64, warp: usize) -> Result<[Row; 16], Fault> {
    let (described, mut rows) = (Described::of(bits)?, [[0.0; DEPTH]; 16]);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = described.row(half, memory, (16 * warp + i) as u64, false)?;
    }
    Ok(rows)
}

/// As many columns; turned where the sum's values of one place lie side by side.
pub(crate) fn described_columns(
    half: Half,
    memory: &mut Memory,
    bits: u64,
    count: usize,
    is_turned: bool,
) -> Result<Vec<Row>, Fault> {
    let described = Described::of(bits)?;
    (0..count as u64).map(|column| described.row(half, memory, column, is_turned)).collect()
}
