//! Products of matrices, and how they lie in a warp's registers and in a block's memory.

use std::array;

use crate::{
    floats::{f32_of, of_f32},
    instruction::{Element, Lanes},
    memory::{Fault, Memory, Space},
};

/// The values of a sum, at most 16; those that there are not are 0.
type Row = [f32; 16];

/// Bytes of a row that a product takes.
const ROW: usize = 32;

impl Element {
    /// Values of a row.
    fn depth(self) -> usize {
        ROW / self.bytes()
    }

    /// What a product sees of a value.
    fn seen(self, bits: u64) -> f32 {
        match self {
            Self::F16 | Self::Bf16 => self.wide(bits & 0xffff),
            Self::Float => self.wide(bits & 0xffff_e000),
        }
    }

    /// The `k`-th value of a row that lies in the words of four lanes from `lane` on, four in each of some registers.
    fn of_lanes(self, registers: &[&Lanes], lane: usize, k: usize) -> f32 {
        let (in_word, quarter) = (4 / self.bytes(), self.depth() / 2);
        let word = registers[k / quarter][lane + k % quarter / in_word];
        self.seen(word >> (8 * self.bytes() * (k % in_word)))
    }

    /// A row of so many of its values.
    fn row(self, value: impl Fn(usize) -> f32) -> Row {
        array::from_fn(|k| if k < self.depth() { value(k) } else { 0.0 })
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

/// 16 rows as a warp holds them: lane `l` has of rows `l / 4` and `l / 4 + 8` the word `l % 4`, and that 16 bytes further.
pub(crate) fn held(element: Element, a: [&Lanes; 4]) -> [Row; 16] {
    array::from_fn(|row| element.row(|k| element.of_lanes(&[a[row / 8], a[row / 8 + 2]], row % 8 * 4, k)))
}

/// `mma.m16n8k16`, and `m16n8k8` of floats.
pub(crate) fn product(element: Element, a: [&Lanes; 4], b: [&Lanes; 2], mut sums: [Lanes; 4]) -> [Lanes; 4] {
    let rows = held(element, a);
    let columns: [Row; 8] = array::from_fn(|n| element.row(|k| element.of_lanes(&b, 4 * n, k)));
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
    fn element(&self, element: Element, memory: &mut Memory, row: u64, k: u64, is_turned: bool) -> Result<f32, Fault> {
        let bytes = element.bytes() as u64;
        let (run, in_piece) = (16 / bytes * self.pieces, 16 / bytes);
        let at = match (is_turned, self.pieces) {
            // Sums run along rows: eight of them lie side by side, pieces of each one behind the other.
            (false, 1) => row / 8 * self.stride + k / in_piece * self.leading + row % 8 * 16 + k % in_piece * bytes,
            (false, _) => row / 8 * self.stride + row % 8 * bytes * run + k * bytes,
            (true, 1) => row / 8 * self.stride + k / 8 * self.leading + k % 8 * 16 + row % 8 * 2,
            (true, _) => row / run * self.leading + k / 8 * self.stride + k % 8 * 2 * run + row % run * 2,
        };
        let address = self.start + at;
        let swapped = address ^ (address >> 7 & (self.pieces - 1)) << 4;
        Ok(element.seen(memory.reading(Space::Shared, swapped, element.bytes())?.element(0, element.bytes())))
    }

    fn row(&self, element: Element, memory: &mut Memory, row: u64, is_turned: bool) -> Result<Row, Fault> {
        let mut values = [0.0; 16];
        for (k, value) in values.iter_mut().enumerate().take(element.depth()) {
            *value = self.element(element, memory, row, k as u64, is_turned)?;
        }
        Ok(values)
    }
}

/// The 16 rows of a warp of a group, by its number there.
pub(crate) fn described_rows(
    element: Element,
    memory: &mut Memory,
    bits: u64,
    warp: usize,
) -> Result<[Row; 16], Fault> {
    let (described, mut rows) = (Described::of(bits)?, [[0.0; 16]; 16]);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = described.row(element, memory, (16 * warp + i) as u64, false)?;
    }
    Ok(rows)
}

/// As many columns; turned where the sum's values of one place lie side by side.
pub(crate) fn described_columns(
    element: Element,
    memory: &mut Memory,
    bits: u64,
    count: usize,
    is_turned: bool,
) -> Result<Vec<Row>, Fault> {
    let described = Described::of(bits)?;
    (0..count as u64).map(|column| described.row(element, memory, column, is_turned)).collect()
}
