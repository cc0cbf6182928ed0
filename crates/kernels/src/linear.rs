//! `y = x · weightᵀ`, with what usually follows it.

#[cfg(target_arch = "x86_64")]
use crate::{amx, isa::Level};
use crate::{
    epilogue::{Epilogue, Finish, Rows},
    kept::MatrixRef,
    output::{Out, Output},
    packed::{Panels, width},
    size::product,
    vector,
};

/// `[rows, d_in]` to `[rows, d_out]`, row-major; `stride` values lie between the starts of two rows of `x`.
///
/// A sum runs over the inputs in blocks whose size depends on the shapes alone, so the threads don't show in the result.
///
/// # Panics
/// If `x`, `out` or a part of the epilogue does not fit the shapes, or a shape has more values than can be counted.
pub fn linear<'o, 'w>(
    weight: impl Into<MatrixRef<'w>>,
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
    weight: MatrixRef,
    x: &[f32],
    rows: usize,
    stride: usize,
    epilogue: Epilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    let (d_in, d_out) = (weight.d_in(), weight.d_out());
    assert_eq!(out.len(), product("results", [rows, d_out]), "values for a result [{rows}, {d_out}]");
    if out.is_empty() {
        return &mut [];
    }
    let end = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(d_in));
    assert!(end.is_some_and(|end| end <= x.len()), "{} values for rows [{rows}, {d_in}], {stride} apart", x.len());
    let finish = Finish::of(epilogue, rows, d_out);
    let input = Rows { x, stride, rows, d_in };
    let (isa, out) = (weight.isa(), Output::of(out, d_out));
    let weight = match weight {
        MatrixRef::Packed(weight) => weight,
        #[cfg(target_arch = "x86_64")]
        MatrixRef::Kept(weight) if weight.is_pairs() && isa.level() == Level::Amx => {
            return amx::linear_kept(isa, weight, input, finish, out);
        }
        MatrixRef::Kept(weight) if weight.is_pairs() => {
            let panels = |panels| weight.panels_of_pairs(panels);
            return vector::linear_kept(isa, panels, input, finish, out);
        }
        MatrixRef::Kept(weight) => {
            let panels = |panels| weight.panels_of_singles(panels, width(isa));
            return vector::linear_kept(isa, panels, input, finish, out);
        }
    };
    match (weight.panels(), isa.level()) {
        #[cfg(target_arch = "x86_64")]
        (Panels::Pairs(panels), Level::Amx) => amx::linear(isa, panels, input, finish, out),
        (Panels::Pairs(panels), _) => vector::linear(isa, vector::Pairs(panels), input, finish, out),
        (Panels::F32(panels), _) => vector::linear(isa, vector::Singles(panels), input, finish, out),
        (Panels::F16(panels), _) => vector::linear(isa, vector::Singles(panels), input, finish, out),
        (Panels::Bf16(panels), _) => vector::linear(isa, vector::Singles(panels), input, finish, out),
    }
}
