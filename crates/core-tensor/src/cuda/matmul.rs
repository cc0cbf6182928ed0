//! Products of matrices that are made on the way, in f32.

use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::ir::{ElemType, FloatKind};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level::Strategy,
    },
    std::InputBinding,
};

use super::{View, takes};
use crate::Tensor;

/// `a · b` of each of a batch, `[…, m, k]` and `[…, k, n]` where a batch of one goes with each of the other's, by f32's own instructions: what Burn would take for it are
/// tensor cores, which leave 10 bits of each factor. `None` of other number formats and devices.
pub(crate) fn matmul<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    if !takes(a) || a.dtype() != DType::F32 || b.dtype() != DType::F32 {
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
    Some(Tensor::from_primitive::<CubeBackend>(out.0))
}
