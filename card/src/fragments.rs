//! `wmma`: matrices whose place in a warp's registers is the card's own business. Here thread `l` has the elements from `l · n` on, row by row.

use crate::{
    floats::{bf16_of, f16_of, f32_of, of_f32},
    instruction::{Element, LANES, Lanes, Layout},
    memory::{Fault, Memory},
};

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::Float => 4,
        }
    }

    pub(crate) fn wide(self, bits: u64) -> f32 {
        match self {
            Self::F16 => f16_of(bits),
            Self::Bf16 => bf16_of(bits),
            Self::Float => f32_of(bits),
        }
    }
}

impl Layout {
    /// Elements of a thread.
    fn each(&self) -> usize {
        self.rows * self.columns / LANES
    }

    /// Where the `i`-th element of a thread is, counted in elements.
    fn at(&self, lane: usize, i: usize, stride: u64) -> u64 {
        let number = lane * self.each() + i;
        let [row, column] = [number / self.columns, number % self.columns].map(|at| at as u64);
        if self.is_turned { column * stride + row } else { row * stride + column }
    }
}

/// What each register of a fragment is to hold.
pub(crate) fn loaded(
    layout: Layout,
    element: Element,
    memory: &mut Memory,
    address: u64,
    stride: u64,
    registers: usize,
) -> Result<Vec<Lanes>, Fault> {
    let (bytes, mut all) = (element.bytes(), vec![[0; LANES]; registers]);
    let in_each = 4 / bytes;
    for i in 0..layout.each() {
        for (lane, register) in all[i / in_each].iter_mut().enumerate() {
            let at = address + layout.at(lane, i, stride) * bytes as u64;
            let value = memory.reading(layout.space, at, bytes)?.element(0, bytes);
            *register |= value << (i % in_each * 16);
        }
    }
    Ok(all)
}

/// Sums of f32, to where they belong.
pub(crate) fn stored(
    layout: Layout,
    memory: &mut Memory,
    address: u64,
    stride: u64,
    registers: &[&Lanes],
) -> Result<(), Fault> {
    for (i, register) in registers.iter().enumerate().take(layout.each()) {
        for (lane, &value) in register.iter().enumerate() {
            let at = address + layout.at(lane, i, stride) * 4;
            memory.writing(layout.space, at, 4)?.put(0, 4, value);
        }
    }
    Ok(())
}

/// `a · b + c` of `[m, k]` and `[k, n]`, as each register of the sums is to hold it.
pub(crate) fn product([m, n, k]: [usize; 3], element: Element, a: &[&Lanes], b: &[&Lanes], c: &[&Lanes]) -> Vec<Lanes> {
    let values = |registers: &[&Lanes], count: usize, element: Element| -> Vec<f32> {
        let (each, in_each) = (count / LANES, 4 / element.bytes());
        let value = |number: usize| {
            let (lane, i) = (number / each, number % each);
            element
                .wide(registers[i / in_each][lane] >> (i % in_each * 16) & if in_each == 2 { 0xffff } else { u64::MAX })
        };
        (0..count).map(value).collect()
    };
    let (a, b, c) = (values(a, m * k, element), values(b, k * n, element), values(c, m * n, Element::Float));
    let each = m * n / LANES;
    let mut sums = vec![[0; LANES]; each];
    for (number, c) in c.iter().enumerate() {
        let (row, column) = (number / n, number % n);
        let added: f64 = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column])).sum();
        sums[number % each][number / each] = of_f32((f64::from(*c) + added) as f32);
    }
    sums
}
