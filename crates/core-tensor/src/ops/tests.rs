use super::{
    suite::{Difference, Setting, differences},
    *,
};
use crate::{cpu::Values, device, tensor, values};

/// Largest differences from the composition in f64, of norms. One rounding of every value makes 3e-8 in f32, 3e-4 in f16 and 2e-3 in
/// bf16; attention rounds queries, keys, weights and values, and scores of up to 4 enter an exponential.
fn tolerance(setting: &Setting) -> f64 {
    match (setting.dtype, setting.compute) {
        (DType::F64, _) => 1e-12,
        (DType::F32, Compute::F32) => 1e-6,
        (DType::F16, _) => 5e-3,
        _ => 2e-2,
    }
}

/// What is further away than the tolerance.
fn wrong<O: Ops>(setting: &Setting) -> Vec<Difference> {
    let all = differences::<O>(setting).expect("a device that computes");
    assert!(all.len() > 25, "{} operations", all.len());
    all.into_iter().filter(|difference| difference.share > tolerance(setting)).collect()
}

fn on_cpu(dtype: DType, compute: Compute) -> Setting {
    Setting { device: Device::flex(), dtype, compute }
}

#[test]
fn the_kernels_are_the_compositions_in_f32_and_where_products_are_of_bf16() {
    for compute in [Compute::F32, Compute::Bf16] {
        assert_eq!(wrong::<Cpu>(&on_cpu(DType::F32, compute)), [], "{compute:?}");
    }
}

#[test]
fn the_other_bodies_are_the_compositions_in_every_number_format_on_the_cpu() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        assert_eq!(wrong::<Composed>(&on_cpu(dtype, Compute::F32)), [], "composed, {dtype:?}");
        assert_eq!(wrong::<Cube>(&on_cpu(dtype, Compute::F32)), [], "cube, {dtype:?}");
    }
}

#[test]
fn the_bodies_are_the_compositions_on_every_back_end_of_this_build() {
    #[cfg(feature = "vulkan")]
    let _alone = crate::vulkan::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Software is what every machine can have; the loader's first card is looked at with `forge devices --check`.
    let built_in = [("cuda", cfg!(feature = "cuda")), ("vulkan:software", cfg!(feature = "vulkan"))];
    for (name, _) in built_in.into_iter().filter(|(_, is_built_in)| *is_built_in) {
        let device = device(name).expect(name);
        let dtypes = [DType::F32, DType::F16].into_iter().filter(|&dtype| device.supports_dtype(dtype));
        for dtype in dtypes {
            let setting = Setting { device: device.clone(), dtype, compute: Compute::F32 };
            assert_eq!(wrong::<Cube>(&setting), [], "cube, {name}, {dtype:?}");
            assert_eq!(wrong::<Composed>(&setting), [], "composed, {name}, {dtype:?}");
            #[cfg(any(feature = "cuda", feature = "vulkan"))]
            assert_eq!(wrong::<Own>(&setting), [], "of ours, {name}, {dtype:?}");
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn kernels_for_a_card_are_the_compositions_in_bf16() {
    let setting = Setting { device: device("cuda").expect("a card"), dtype: DType::BF16, compute: Compute::Bf16 };
    assert_eq!(wrong::<Own>(&setting), []);
}

#[test]
fn the_suite_names_what_a_wrong_body_has_wrong_and_nothing_else() {
    fn named<O: Ops>() -> Vec<String> {
        wrong::<O>(&on_cpu(DType::F32, Compute::F32))
            .iter()
            .map(|difference| difference.operation.to_string())
            .collect()
    }

    struct SeesAll;
    impl Ops for SeesAll {
        fn attention(_: Compute, qkv: [Tensor<4>; 3], scores: &Scores) -> Tensor<4> {
            composed::attention(qkv, &Scores { mask: Mask::None, ..scores.clone() })
        }
    }
    assert_eq!(
        named::<SeesAll>(),
        [
            "attention, causal",
            "attention, lengths",
            "attention, relative and lengths",
            "attention, relative and causal",
            "attention, 5 channels, relative and causal",
            "attention to others, some keys",
            "attention to others, causal",
            "attention to others, full and some keys"
        ]
    );

    struct Unbiased;
    impl Ops for Unbiased {
        fn affine_layer_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, _: &Tensor<1>, eps: f64) -> Tensor<D> {
            composed::layer_norm(x, eps) * weight.clone().unsqueeze()
        }
    }
    assert_eq!(named::<Unbiased>(), ["affine_layer_norm"]);

    struct Inexact;
    impl Ops for Inexact {
        fn rms_norm<const D: usize>(x: Tensor<D>, scale: &Tensor<1>, eps: f64) -> Tensor<D> {
            composed::rms_norm(x, scale, eps + 1e-5)
        }
    }
    let heads = ["heads of two streams", "heads of one stream"];
    let normed = ["rms_norm", "rms_norm of a view", "rotate, normed", "rotate, streams"];
    assert_eq!(named::<Inexact>(), [&normed[..], &heads].concat());

    struct Flat;
    impl Ops for Flat {
        fn rotate(x: Tensor<4>, _: Option<(&Tensor<1>, f64)>, _: &Rope) -> Tensor<4> {
            x
        }
    }
    let rotated = ["rotate", "rotate, normed", "rotate, a part", "rotate, streams"];
    assert_eq!(named::<Flat>(), [&rotated[..], &heads].concat());

    struct Unfinished;
    impl Ops for Unfinished {
        fn add<const D: usize>(x: Tensor<D>, _: Tensor<D>) -> Tensor<D> {
            x.mul_scalar(f32::NAN)
        }
        fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
            x
        }
    }
    assert_eq!(
        named::<Unfinished>(),
        [
            "add",
            "add_maps",
            "add_maps by pixels",
            "upsample_nearest_2x by pixels",
            "upsample_nearest_2x",
            "upsample_nearest_2x of a view",
        ]
    );
}

#[test]
fn the_gelus_agree_with_their_definitions() {
    let x: Vec<f32> = (-40..40).map(|i| i as f32 * 0.2).collect();
    let t = || tensor(x.clone(), [x.len()], &Device::flex());
    let close = |found: Tensor<1>, f: fn(f64) -> f64| {
        for (found, &x) in values(&found).iter().zip(&x) {
            assert!((f64::from(*found) - f(x.into())).abs() < 1e-6, "{found} at {x}");
        }
    };
    close(gelu_tanh(t()), |x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    });
    close(quick_gelu(t()), |x| x / (1.0 + (-1.702 * x).exp()));
}

#[test]
fn a_tensor_that_somebody_else_holds_is_not_changed() {
    let x = wave([40]);
    let before = values(&x);
    let _ = silu(x.clone());
    let _ = silu(x.clone().narrow(0, 10, 20));
    assert_eq!(values(&x), before);
}

#[test]
fn a_tensor_that_nobody_else_holds_is_changed_where_it_is() {
    let x = wave([40]);
    let start = Values::of(&x).expect("f32").as_ptr();
    let y = silu(x);
    assert_eq!(Values::of(&y).expect("f32").as_ptr(), start);
}

#[test]
fn a_number_for_each_distance_is_bit_for_bit_one_for_each_pair() {
    let (heads, n, m) = (3, 9, 5);
    let [q, k] = [wave([2, heads, n, 8]), wave([2, heads, m, 8])];
    let table = wave([heads, n + m - 1]);
    let full = Bias::Full(Bias::Relative(table.clone()).full(n, m));
    let attended = |bias| values(&attention(q.clone(), k.clone(), k.clone(), Some(bias), None));
    assert_eq!(attended(Bias::Relative(table)), attended(full));
}

#[test]
#[should_panic(expected = "lengths [0] of 4 tokens")]
fn a_text_without_tokens_is_no_mask() {
    Mask::of_lengths(&[0], 4);
}

#[test]
fn merged_heads_are_the_memory_that_attention_wrote() {
    let x = wave([1, 2, 4, 8]);
    let attended = attention(x.clone(), x.clone(), x, None, None);
    let pointer = |x: &Tensor<3>| Values::of(x).expect("f32").as_ptr();
    let memory = attended.clone().swap_dims(1, 2).flatten::<3>(2, 3);
    assert_eq!(pointer(&merge_heads(attended)), pointer(&memory));
}

#[test]
fn another_number_format_keeps_its_own() {
    let x = wave([1, 2, 4, 8]).cast(DType::F64);
    assert_eq!(silu(x.clone()).dtype(), x.dtype());
    assert_eq!(layer_norm(x.clone(), 1e-6).dtype(), x.dtype());
    assert_eq!(attention(x.clone(), x.clone(), x.clone(), None, None).dtype(), x.dtype());
}

#[test]
fn upsampling_repeats_each_pixel_in_both_directions() {
    let x = tensor(vec![1.0, 2.0, 3.0, 4.0], [1, 1, 2, 2], &Device::flex());
    let y = values(&upsample_nearest_2x(x));
    assert_eq!(y, [1., 1., 2., 2., 1., 1., 2., 2., 3., 3., 4., 4., 3., 3., 4., 4.]);
}

#[test]
fn a_rotation_by_position_zero_changes_nothing_and_keeps_length_elsewhere() {
    let rope = Rope::new(&[[0.0, 0.0], [3.0, 5.0]], [4, 4], 10_000.0, &Device::flex());
    let x: Vec<f32> = (0..16).map(|i| i as f32 - 7.0).collect();
    let y = values(&rope.rotate(tensor(x.clone(), [1, 1, 2, 8], &Device::flex())));
    assert_eq!(y[..8], x[..8]);
    let square = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
    assert!((square(&y[8..]) - square(&x[8..])).abs() < 1e-3);
    assert_ne!(y[8..], x[8..]);
}

fn wave<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    tensor((0..shape.iter().product()).map(|i| (i as f32 * 0.7).sin()).collect(), shape, &Device::flex())
}
