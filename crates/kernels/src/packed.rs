//! Matrices of parameters, packed once into the order in which a kernel reads them.

mod pairs;

use std::{mem::MaybeUninit, sync::Arc};

use half::{bf16, f16};
use rayon::prelude::*;

pub(crate) use self::pairs::{narrow_pairs, pack_pairs, unpack, widen};
use crate::{
    aligned::{Aligned, Number, zeroed},
    isa::{Isa, Level},
    size::{product, sum},
};

/// The number format that products are computed in; sums are f32 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Exact products, for comparison with references.
    F32,
    /// Both factors rounded to bf16 (8 bits of mantissa), where the CPU multiplies those faster.
    Bf16,
    /// Both factors rounded to f16 (11 bits of mantissa, at most 65,504), on devices that multiply those faster; as [`Compute::F32`] on a CPU.
    F16,
    /// Numbers of 32 bits whose products see 11 bits of each mantissa, on devices that multiply those faster; as [`Compute::F32`] on a CPU.
    Tf32,
    /// Weights that are integers in their file are multiplied as such ([`IntegerMatrix`](crate::IntegerMatrix)), and everything else as in
    /// [`Compute::Bf16`] on vectors, and as in [`Compute::F32`] on tiles, which leave no reason to ask for it.
    Integers,
}

impl Compute {
    /// Whether numbers are multiplied as pairs of bf16.
    pub fn is_in_pairs(self, isa: Isa) -> bool {
        match self {
            Self::F32 | Self::F16 | Self::Tf32 => false,
            Self::Bf16 => isa.has_bf16(),
            Self::Integers => isa.level() == Level::Avx512Bf16,
        }
    }
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
    tail: usize,
    panels: Panels,
}

/// Panels of [`width`] or [`PAIR_WIDTH`] outputs: for each step along `in`, the panel's values side by side. In the last panel only `tail`
/// stand there; those of missing outputs are 0.
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
    /// Packs a row-major matrix `[d_out, d_in]`: rounded to bf16 where the format [is computed in pairs](Compute::is_in_pairs), and elsewhere
    /// in its own precision, of which every product is exact.
    ///
    /// # Panics
    /// If `values` does not fill the shape, or a size of it can't be counted.
    pub fn pack(isa: Isa, compute: Compute, d_out: usize, d_in: usize, values: Values) -> Self {
        assert_eq!(values.len(), product("weights", [d_out, d_in]), "values for a matrix [{d_out}, {d_in}]");
        let panels = match (compute.is_in_pairs(isa), values) {
            (true, values) => Panels::Pairs(pack_pairs(isa, values, [d_out, d_in, 1])),
            (_, Values::F32(v)) => Panels::F32(pack_panels(v, d_out, d_in, width(isa))),
            (_, Values::F16(v)) => Panels::F16(pack_panels(v, d_out, d_in, width(isa))),
            (_, Values::Bf16(v)) => Panels::Bf16(pack_panels(v, d_out, d_in, width(isa))),
        };
        let tail = match panels {
            Panels::Pairs(_) => PAIR_WIDTH,
            Panels::F32(_) | Panels::F16(_) | Panels::Bf16(_) => width(isa),
        };
        Self(Arc::new(Packed { isa, compute, d_out, d_in, tail, panels }))
    }

    /// The same without places for missing outputs, for vectors: a few outputs take no more memory than their values.
    pub(crate) fn pack_narrow(isa: Isa, compute: Compute, d_out: usize, d_in: usize, values: Values) -> Self {
        assert_eq!(values.len(), product("weights", [d_out, d_in]), "values for a matrix [{d_out}, {d_in}]");
        let (width, panels) = match (compute.is_in_pairs(isa), values) {
            (true, values) => (PAIR_WIDTH, Panels::Pairs(narrow_pairs(isa, values, [d_out, d_in], PAIR_WIDTH))),
            (_, Values::F32(v)) => (width(isa), Panels::F32(narrow_panels(v, d_in, width(isa)))),
            (_, Values::F16(v)) => (width(isa), Panels::F16(narrow_panels(v, d_in, width(isa)))),
            (_, Values::Bf16(v)) => (width(isa), Panels::Bf16(narrow_panels(v, d_in, width(isa)))),
        };
        let tail = if d_out.is_multiple_of(width) { width } else { d_out % width };
        Self(Arc::new(Packed { isa, compute, d_out, d_in, tail, panels }))
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
        let place = |o: usize, i: usize, width: usize, depth: usize| {
            let stride = if o / width + 1 == d_out.div_ceil(width) { self.0.tail } else { width };
            o / width * depth * width + i * stride + o % width
        };
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

    /// Outputs that stand side by side in the last panel. Behind it is room to read a whole panel's from its last step on.
    pub(crate) fn tail(&self) -> usize {
        self.0.tail
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
        let outputs = width.min(d_out - panel * width);
        pack_panel(&values[panel * width * d_in..][..outputs * d_in], outputs, width, chunk);
    })
}

/// The rows of `outputs` outputs, each input's `stride` values from those of the input before.
fn pack_panel<T: Number>(rows: &[T], outputs: usize, stride: usize, to: &mut [T]) {
    let d_in = rows.len() / outputs;
    // A few columns at a time, so that the rows' cache lines are used up before they go.
    for start in (0..d_in).step_by(16) {
        for (o, row) in rows.chunks_exact(d_in).enumerate() {
            for i in start..d_in.min(start + 16) {
                to[i * stride + o] = row[i];
            }
        }
    }
}

/// The same where missing outputs have no places, with room behind the last panel to read a whole panel's values from any step on.
fn narrow_panels<T: Number>(values: &[T], d_in: usize, width: usize) -> Aligned<T> {
    let mut panels = Aligned::zeros(sum("weights", [values.len(), width]));
    let size = product("weights of a panel", [d_in, width]).max(1);
    (panels.par_chunks_mut(size).zip(values.par_chunks(size))).for_each(|(to, rows)| {
        let outputs = rows.len() / d_in;
        pack_panel(rows, outputs, outputs, to);
    });
    panels
}

/// So many panels, each of `size` zeros before `pack` gets it. A panel's memory is first touched by the thread that packs it: page
/// faults are most of the time that clearing takes, and so no thread waits for another's.
pub(crate) fn each_panel<T: Number>(count: usize, size: usize, pack: impl Fn(usize, &mut [T]) + Sync) -> Aligned<T> {
    let fill = |places: &mut [MaybeUninit<T>]| {
        if size > 0 {
            places.par_chunks_mut(size).enumerate().for_each(|(panel, places)| pack(panel, zeroed(places)));
        }
    };
    // SAFETY: `fill` zeroes every panel, which together are all the places; without a size there are none.
    unsafe { Aligned::written(product("weights", [count, size]), fill) }
}
