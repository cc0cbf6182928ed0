//! Products of matrices that are made on the way.

use super::{
    View,
    kernel::{Args, Kernel, Text, element},
    language::Language,
};
use crate::Tensor;

static MATMUL: Text = Text::of_wgsl(include_str!("wgsl/matmul.wgsl"), &[]);

/// `a · b` of each of a batch, `[…, m, k]` and `[…, k, n]` where a batch of one goes with each of the other's, in the number format of both; `None` where
/// there is no kernel for it.
pub(crate) fn matmul<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    let [x, w] = [View::of(a)?, View::of(b)?];
    match x.language() {
        _ if x.dtype() != w.dtype() => None,
        Language::Cuda => in_exact_f32(a, b),
        Language::Wgsl => {
            let (left, right) = (a.dims(), b.dims());
            let mut shape: [usize; D] = std::array::from_fn(|i| left[i].max(right[i]));
            [shape[D - 2], shape[D - 1]] = [left[D - 2], right[D - 1]];
            let [m, n, k] = [shape[D - 2], shape[D - 1], left[D - 1]];
            // One for all is read where it is; others are told apart by one stride.
            let [(x, x_apart), (w, w_apart)] = [(a, left), (b, right)].map(|(x, own)| {
                let size = own[D - 2] * own[D - 1];
                if own[..D - 2].iter().product::<usize>() == 1 {
                    return (View::ours(x).contiguous(), 0);
                }
                let all = std::array::from_fn::<_, D, _>(|i| if i + 2 < D { shape[i] } else { own[i] });
                (View::ours(&x.clone().expand(all)).contiguous(), size)
            });
            let out = x.empty(shape, x.dtype());
            let kernel = Kernel { text: &MATMUL, entry: "matmul", defines: vec![element(x.dtype())], threads: 256 };
            let grid = [n.div_ceil(TILE), m.div_ceil(TILE), shape[..D - 2].iter().product()];
            kernel.launch(grid, [&x, &w, &out], Args::default().ints([m, n, k, x_apart, w_apart, 0]));
            Some(out.into_tensor())
        }
    }
}

/// Rows and columns that a block makes.
const TILE: usize = 64;

/// The same on CUDA in f32, by f32's own instructions: what Burn would take for it are tensor cores, which leave 10 bits of each factor.
#[cfg(feature = "cuda")]
fn in_exact_f32<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    use burn::tensor::DType;
    use cubecl::ir::{ElemType, FloatKind};
    use cubek::{
        matmul::{
            definition::{MatmulElems, MatmulGlobalElems},
            launch::launch_ref,
            multi_level::Strategy,
        },
        std::InputBinding,
    };

    if a.dtype() != DType::F32 {
        return None;
    }
    let (left, right) = (a.dims(), b.dims());
    let [a, b] = [(a, left), (b, right)].map(|(x, own)| {
        let side = |i: usize| if i + 2 < D { left[i].max(right[i]) } else { own[i] };
        View::ours(&x.clone().expand(std::array::from_fn::<_, D, _>(side)))
    });
    let mut shape: [usize; D] = a.dims();
    shape[D - 1] = right[D - 1];
    let out = a.empty(shape, DType::F32);
    let float = ElemType::Float(FloatKind::F32);
    let mut formats = MatmulElems::from_globals(&MatmulGlobalElems { lhs: float, rhs: float, out: float });
    let [lhs, rhs] = [&a, &b].map(|x| InputBinding::new(x.0.clone().binding(), float));
    let strategy = Strategy::SimpleUnit(Default::default()).into();
    let asked = launch_ref(&strategy, a.client(), lhs, rhs, out.0.clone().binding(), &mut formats);
    asked.expect("f32's own instructions multiply matrices of every shape");
    Some(out.into_tensor())
}

#[cfg(not(feature = "cuda"))]
fn in_exact_f32<const D: usize>(_: &Tensor<D>, _: &Tensor<D>) -> Option<Tensor<D>> {
    None
}
