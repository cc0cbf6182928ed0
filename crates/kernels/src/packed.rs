//! Matrices of parameters, packed once into the order in which a kernel reads them.

mod pairs;

use std::{mem::MaybeUninit, sync::Arc};

use half::{bf16, f16};

pub(crate) use self::pairs::{pack_pairs, unpack, widen};
use crate::{
    aligned::{Aligned, Number, zeroed},
    isa::{Isa, Level},
    size::product,
};

/// The number format that products are computed in; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Exact products, for comparison with references.
    F32,
    /// Both factors rounded to bf16 (8 bits of mantissa), where the CPU multiplies those faster.
    Bf16,
}

/// Values as a file stores them.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Four bytes each.
    F32(&'a [f32]),
    /// Two bytes each, IEEE half precision.
    F16(&'a [f16]),
    /// Two bytes each, the upper half of an f32.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F16(v) => v.len(),
            Values::Bf16(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> f32 {
        match self {
            Values::F32(v) => v[i],
            Values::F16(v) => v[i].to_f32(),
            Values::Bf16(v) => v[i].to_f32(),
        }
    }
}

/// A matrix `[out, in]`, ready to be multiplied with. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct PackedMatrix(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    isa: Isa,
    compute: Compute,
    d_out: usize,
    d_in: usize,
    panels: Panels,
}

/// Panels of [`PackedMatrix::width`] outputs: for each step along `in`, the panel's values side by side; missing outputs are 0.
#[derive(Debug)]
pub(crate) enum Panels {
    /// One step is one input.
    F32(Aligned<f32>),
    /// The same.
    F16(Aligned<f16>),
    /// The same.
    Bf16(Aligned<bf16>),
    /// One step is two inputs, the earlier one in the lower half; `in` is filled up with 0 to a multiple of [`DEPTH`].
    Pairs(Aligned<u32>),
}

/// Inputs that a tile of bf16 is deep.
pub(crate) const DEPTH: usize = 32;

/// Outputs in a panel of pairs: two tiles, or two vectors.
pub(crate) const PAIR_WIDTH: usize = 32;

impl PackedMatrix {
    /// Packs a row-major matrix `[d_out, d_in]`. In [`Compute::F32`] it stays in its own precision and every product is exact;
    /// in [`Compute::Bf16`] it is rounded to bf16 where `isa` has instructions for that, and computed as in f32 elsewhere.
    ///
    /// # Panics
    /// If `values` does not fill the shape, or a size of it can't be counted.
    pub fn pack(isa: Isa, compute: Compute, d_out: usize, d_in: usize, values: Values) -> Self {
        assert_eq!(values.len(), product("weights", [d_out, d_in]), "values for a matrix [{d_out}, {d_in}]");
        let panels = match (compute, values) {
            (Compute::Bf16, values) if isa.has_bf16() => Panels::Pairs(pack_pairs(isa, values, [d_out, d_in, 1])),
            (_, Values::F32(v)) => Panels::F32(pack_panels(v, d_out, d_in, width(isa))),
            (_, Values::F16(v)) => Panels::F16(pack_panels(v, d_out, d_in, width(isa))),
            (_, Values::Bf16(v)) => Panels::Bf16(pack_panels(v, d_out, d_in, width(isa))),
        };
        Self(Arc::new(Packed { isa, compute, d_out, d_in, panels }))
    }

    /// The instructions that it is packed for.
    pub fn isa(&self) -> Isa {
        self.0.isa
    }

    /// What it was packed to be computed in.
    pub fn compute(&self) -> Compute {
        self.0.compute
    }

    /// Rows of the matrix, which are the outputs.
    pub fn d_out(&self) -> usize {
        self.0.d_out
    }

    /// Columns of the matrix, which are the inputs.
    pub fn d_in(&self) -> usize {
        self.0.d_in
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.0.panels {
            Panels::F32(v) => size_of_val(&**v),
            Panels::F16(v) => size_of_val(&**v),
            Panels::Bf16(v) => size_of_val(&**v),
            Panels::Pairs(v) => size_of_val(&**v),
        }
    }

    /// The matrix as it is computed with, row-major `[d_out, d_in]`.
    pub fn unpack(&self) -> Vec<f32> {
        let (d_out, d_in) = (self.0.d_out, self.0.d_in);
        let place = |o: usize, i: usize, width: usize, depth: usize| (o / width * depth + i) * width + o % width;
        let value = |o: usize, i: usize| match &self.0.panels {
            Panels::F32(v) => v[place(o, i, width(self.0.isa), d_in)],
            Panels::F16(v) => v[place(o, i, width(self.0.isa), d_in)].to_f32(),
            Panels::Bf16(v) => v[place(o, i, width(self.0.isa), d_in)].to_f32(),
            Panels::Pairs(v) => {
                let pair = v[place(o, i / 2, PAIR_WIDTH, d_in.next_multiple_of(DEPTH) / 2)];
                bf16::from_bits((pair >> (16 * (i % 2))) as u16).to_f32()
            }
        };
        (0..d_out).flat_map(|o| (0..d_in).map(move |i| (o, i))).map(|(o, i)| value(o, i)).collect()
    }

    pub(crate) fn panels(&self) -> &Panels {
        &self.0.panels
    }
}

/// Outputs in a panel: two vectors.
pub(crate) fn width(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512 | Level::Avx512Bf16 | Level::Amx => 32,
        Level::Avx2 | Level::Portable => 16,
        Level::Neon => 8,
    }
}

fn pack_panels<T: Number>(values: &[T], d_out: usize, d_in: usize, width: usize) -> Aligned<T> {
    let panel_size = product("weights of a panel", [d_in, width]);
    each_panel(d_out.div_ceil(width), panel_size, |panel, chunk| {
        // A few columns at a time, so that the rows' cache lines are used up before they go.
        for start in (0..d_in).step_by(16) {
            for o in 0..width.min(d_out - panel * width) {
                let row = &values[(panel * width + o) * d_in..][..d_in];
                for i in start..d_in.min(start + 16) {
                    chunk[i * width + o] = row[i];
                }
            }
        }
    })
}

/// So many panels, each of `size` zeros before `pack` gets it. A panel's memory is first touched by the thread that packs it: page
/// faults are most of the time that clearing takes, and so no thread waits for another's.
pub(crate) fn each_panel<T: Number>(count: usize, size: usize, pack: impl Fn(usize, &mut [T]) + Sync) -> Aligned<T> {
    use rayon::prelude::*;
    let fill = |places: &mut [MaybeUninit<T>]| {
        if size > 0 {
            places.par_chunks_mut(size).enumerate().for_each(|(panel, places)| pack(panel, zeroed(places)));
        }
    };
    // SAFETY: `fill` zeroes every panel, which together are all the places; without a size there are none.
    unsafe { Aligned::written(product("weights", [count, size]), fill) }
}
