//! `y = x · weightᵀ`, with what usually follows it.

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::{
    epilogue::{Epilogue, Finish, Rows},
    integer_product,
    kept::MatrixRef,
    output::{Out, Output},
    packed::{Panels, width},
    pair::{ScaledPair, WithPair},
    size::product,
    vector::{self, Also},
};

/// `[rows, d_in]` to `[rows, d_out]`, row-major; `stride` values lie between the starts of two rows of `x`.
///
/// A sum runs over the inputs in blocks whose size depends on the shapes alone, so the threads don't show in the result.
///
/// # Panics
/// If `x`, `out` or a part of the epilogue does not fit the shapes, or a shape has more values than can be counted.
pub fn linear<'o, 'w>(
    weight: impl Into<WithPair<'w>>,
    x: &[f32],
    rows: usize,
    stride: usize,
    epilogue: Epilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    multiply(weight.into(), x, rows, stride, epilogue, out)
}

/// What is compiled in this crate, and not where it is called.
fn multiply<'o>(
    weight: WithPair,
    x: &[f32],
    rows: usize,
    stride: usize,
    epilogue: Epilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    let (matrix, pair) = (weight.matrix(), weight.pair());
    let (d_in, d_out) = (matrix.d_in(), matrix.d_out());
    assert_eq!(out.len(), product("results", [rows, d_out]), "values for a result [{rows}, {d_out}]");
    if out.is_empty() {
        return &mut [];
    }
    let end = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(d_in));
    assert!(end.is_some_and(|end| end <= x.len()), "{} values for rows [{rows}, {d_in}], {stride} apart", x.len());
    let finish = Finish::of(epilogue, rows, d_out);
    let input = Rows { x, stride, rows, d_in };
    let (isa, out) = (matrix.isa(), Output::of(out, d_out));
    #[cfg(target_arch = "x86_64")]
    if matrix.takes_rows() {
        return amx::linear(isa, weight, input, finish, out);
    }
    let mut room = vec![MaybeUninit::uninit(); product("ranks", [rows, pair.map_or(0, ScaledPair::rank)])];
    let also = pair.map(|pair| Also::of(pair, rows, between(pair, input, &mut room)));
    match matrix {
        MatrixRef::Packed(matrix) => match matrix.panels() {
            Panels::Pairs(panels) => {
                vector::linear(isa, vector::Pairs(panels), matrix.tail(), input, also, finish, out)
            }
            Panels::F32(panels) => {
                vector::linear(isa, vector::Singles(panels), matrix.tail(), input, also, finish, out)
            }
            Panels::F16(panels) => {
                vector::linear(isa, vector::Singles(panels), matrix.tail(), input, also, finish, out)
            }
            Panels::Bf16(panels) => {
                vector::linear(isa, vector::Singles(panels), matrix.tail(), input, also, finish, out)
            }
        },
        MatrixRef::Kept(matrix) if matrix.is_pairs() => {
            let make = |panel, to: &mut [u32]| matrix.panel_of_pairs(panel, to);
            vector::linear_kept(isa, matrix.panel_size(width(isa)), make, input, also, finish, out)
        }
        MatrixRef::Kept(matrix) => {
            let make = |panel, to: &mut [f32]| matrix.panel_of_singles(panel, width(isa), to);
            vector::linear_kept(isa, matrix.panel_size(width(isa)), make, input, also, finish, out)
        }
        MatrixRef::Integers(matrix) => integer_product::linear(matrix, input, also, finish, out),
    }
}

/// What lies between the factors of a pair for vectors, as much as each rank counts: `[rows, rank]`.
fn between<'o>(ScaledPair { pair, scales }: ScaledPair, input: Rows, out: Out<'o>) -> &'o mut [f32] {
    let down = pair.down().expect("a pair is for tiles where its matrix takes packed rows");
    let scaled = Epilogue { gate: Some(scales), ..Epilogue::default() };
    multiply(down.into(), input.x, input.rows, input.stride, scaled, out)
}
