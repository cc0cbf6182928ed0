//! What a program without `unsafe` can ask for: shapes whose sizes wrap, shapes without values, strides past everything. Each is
//! answered right or refused with a message of its own before anything is written.
//!
//! The crate is tested without overflow checks (the workspace's `profile.dev.package.kernels`), which is how Cargo builds it for a
//! program that asks for nothing else.

use std::{
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
};

use half::f16;
use kernels::{
    Activation, Affine, Bias, Compute, ConvEpilogue, Epilogue, Heads, Isa, MapOrder, Mask, Out, PackedConv,
    PackedMatrix, Scores, Values,
};

/// Twice this is 0.
const HALF: usize = usize::MAX / 2 + 1;

/// Its square is 0.
const ROOT: usize = 1 << (usize::BITS / 2);

const SCORES: Scores = Scores { scale: 1.0, bias: None, mask: Mask::None };

/// A mark that no kernel writes.
const UNTOUCHED: f32 = -12345.5;

/// What the panic of `call` says.
fn refusal(what: &str, call: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err(what);
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).expect("a message")
}

/// Holds a call that writes to `len` places against its refusal: it says `message`, and nothing was written.
fn refused(message: &str, len: usize, call: impl FnOnce(&mut [MaybeUninit<f32>])) {
    let mut out = vec![MaybeUninit::new(UNTOUCHED); len];
    let said = refusal(message, || call(&mut out));
    assert!(said.contains(message), "{message}: {said}");
    // SAFETY: initialised above; kernels write numbers.
    assert!(out.iter().all(|v| unsafe { v.assume_init() } == UNTOUCHED), "{message}: written before it was refused");
}

/// What a call writes to `len` places.
fn written(len: usize, call: impl for<'o> FnOnce(Out<'o>) -> &'o mut [f32]) -> Vec<f32> {
    call(&mut vec![MaybeUninit::new(UNTOUCHED); len]).to_vec()
}

fn kinds() -> impl Iterator<Item = (Isa, Compute)> {
    Isa::available().into_iter().flat_map(|isa| [(isa, Compute::F32), (isa, Compute::Bf16)])
}

const COUNTED: &str = "than can be counted";

#[test]
fn this_crate_is_tested_as_a_program_without_overflow_checks_runs_it() {
    let wrapped = catch_unwind(|| std::hint::black_box(HALF) * std::hint::black_box(2));
    assert_eq!(wrapped.ok(), Some(0));
}

#[test]
fn a_matrix_whose_size_wraps_is_refused() {
    for (isa, compute) in kinds() {
        let values: [Values; 3] = [Values::F32(&[]), Values::F16(&[]), Values::Bf16(&[])];
        for values in values {
            for [d_out, d_in] in [[HALF, 2], [2, HALF], [ROOT, ROOT], [usize::MAX, usize::MAX]] {
                refused(COUNTED, 0, |_| drop(PackedMatrix::pack(isa, compute, d_out, d_in, values)));
            }
        }
        // Wrapping to what is there is no better than wrapping to nothing.
        let one = [f16::ONE; 1];
        refused(COUNTED, 0, |_| drop(PackedMatrix::pack(isa, compute, usize::MAX, usize::MAX, Values::F16(&one))));
        refused("values for a matrix", 0, |_| drop(PackedMatrix::pack(isa, compute, 1, 2, Values::F16(&one))));
    }
}

#[test]
fn a_matrix_without_inputs_or_outputs_multiplies_to_what_the_epilogue_makes_of_0() {
    for (isa, compute) in kinds() {
        let none = PackedMatrix::pack(isa, compute, 3, 0, Values::F32(&[]));
        let epilogue = Epilogue { bias: Some(&[1.0, 2.0, 3.0]), ..Epilogue::default() };
        let y = written(6, |out| kernels::linear(&none, &[], 2, 0, epilogue, out));
        assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "{isa:?} {compute:?}");
        let none = PackedMatrix::pack(isa, compute, 0, 5, Values::F32(&[]));
        kernels::linear(&none, &[], 2, 5, Epilogue::default(), &mut []);
        assert_eq!((none.unpack().len(), none.bytes()), (0, 0));
    }
}

#[test]
fn rows_whose_count_wraps_are_refused() {
    for (isa, compute) in kinds() {
        let two = PackedMatrix::pack(isa, compute, 2, 1, Values::F32(&[1.0, 1.0]));
        let linear = |rows, stride, epilogue: Epilogue, out: &mut [MaybeUninit<f32>]| {
            kernels::linear(&two, &[1.0], rows, stride, epilogue, out);
        };
        refused(COUNTED, 0, |out| linear(HALF, 0, Epilogue::default(), out));
        refused(COUNTED, 2, |out| linear(HALF + 1, 0, Epilogue::default(), out));
        refused("values for rows", 6, |out| linear(3, HALF, Epilogue::default(), out));
        refused("values for rows", 6, |out| linear(3, usize::MAX, Epilogue::default(), out));
        let gate = [1.0; 3];
        refused("gates for rows", 6, |out| linear(3, 0, Epilogue { gate: Some(&gate), ..Epilogue::default() }, out));
        refused("gates for rows", 6, |out| linear(3, 0, Epilogue { gate: Some(&[]), ..Epilogue::default() }, out));
    }
}

#[test]
fn a_convolution_whose_size_wraps_is_refused() {
    let empty = Values::F32(&[]);
    for (isa, compute) in kinds() {
        let pack = |shape, values| refused(COUNTED, 0, |_| drop(PackedConv::pack(isa, compute, shape, values)));
        for shape in [
            [HALF, 2, 1],
            [2, HALF, 1],
            [1, 1, ROOT],
            [ROOT, ROOT, 1],
            [HALF, 1, 2],
            [1, HALF, 2],
            [0, 1, ROOT],
            [1, usize::MAX, 3],
        ] {
            pack(shape, empty);
        }
        refused("a kernel of 0", 0, |_| drop(PackedConv::pack(isa, compute, [1, 1, 0], empty)));
        let conv = PackedConv::pack(isa, compute, [2, 1, 1], Values::F32(&[1.0, 1.0]));
        let none = ConvEpilogue::default();
        for (batch, size) in [(HALF, [1, 2]), (1, [HALF, 2]), (1, [ROOT, ROOT]), (HALF, [2, 1]), (usize::MAX, [1, 1])] {
            refused(COUNTED, 0, |out| _ = kernels::conv2d(&conv, &[], batch, size, 1, none, out));
        }
        refused(COUNTED, 0, |out| _ = kernels::conv2d(&conv, &[], 1, [1, 1], usize::MAX, none, out));
        refused(COUNTED, 0, |_| _ = conv.size([usize::MAX, 1], 1));
        refused("a stride of 0", 2, |out| _ = kernels::conv2d(&conv, &[1.0], 1, [1, 1], 0, none, out));
        refused("a stride of 0", 0, |_| _ = conv.size([1, 1], 0));
    }
}

#[test]
fn a_stride_past_the_picture_sees_its_first_pixel() {
    for (isa, compute) in kinds() {
        for kernel in [1, 3] {
            // The place of the kernel that lies on the first pixel is the middle.
            let mut weights = vec![5.0; kernel * kernel];
            weights[kernel * kernel / 2] = 2.0;
            let conv = PackedConv::pack(isa, compute, [1, 1, kernel], Values::F32(&weights));
            for stride in [4, 1000, ROOT, HALF] {
                let y = written(1, |out| {
                    kernels::conv2d(&conv, &[3.0, 0.0, 0.0, 0.0], 1, [2, 2], stride, ConvEpilogue::default(), out)
                });
                assert_eq!(y, [6.0], "{isa:?} {compute:?} {kernel} {stride}");
            }
        }
    }
}

#[test]
fn a_convolution_of_nothing_is_its_epilogue_or_nothing() {
    for (isa, compute) in kinds() {
        let epilogue = ConvEpilogue { bias: Some(&[1.0, -2.0]), ..ConvEpilogue::default() };
        // No input channels.
        let conv = PackedConv::pack(isa, compute, [2, 0, 3], Values::F32(&[]));
        let bias = |pixels| match conv.order() {
            MapOrder::Planes => [vec![1.0; pixels], vec![-2.0; pixels]].concat(),
            MapOrder::Pixels => [1.0, -2.0].repeat(pixels),
        };
        let y = written(2 * 2 * 15, |out| kernels::conv2d(&conv, &[], 2, [3, 5], 1, epilogue, out));
        assert_eq!(y, [bias(15), bias(15)].concat(), "{isa:?} {compute:?}");
        // An empty picture, all of which is border where the kernel is even.
        let conv = PackedConv::pack(isa, compute, [2, 3, 2], Values::F32(&[1.0; 24]));
        for size in [[0, 4], [4, 0], [0, 0]] {
            let [oh, ow] = conv.size(size, 1);
            let y = written(2 * oh * ow, |out| kernels::conv2d(&conv, &[], 1, size, 1, epilogue, out));
            assert_eq!(y, bias(oh * ow), "{isa:?} {compute:?}");
        }
        let conv = PackedConv::pack(isa, compute, [2, 3, 3], Values::F32(&[1.0; 54]));
        kernels::conv2d(&conv, &[], 1, [0, 4], 1, epilogue, &mut []);
        // No output channels, no pictures.
        let none = PackedConv::pack(isa, compute, [0, 3, 3], Values::F32(&[]));
        kernels::conv2d(&none, &[1.0; 12], 1, [2, 2], 1, ConvEpilogue::default(), &mut []);
        kernels::conv2d(&conv, &[], 0, [2, 2], 1, epilogue, &mut []);
    }
}

/// A view of a few numbers by any count of heads and tokens: all strides are 0.
fn same(shape: [usize; 4]) -> Heads<'static> {
    Heads::new(&[1.0; 4], shape, [0; 3]).expect("as many numbers as channels")
}

#[test]
fn attention_whose_size_wraps_is_refused() {
    for (isa, compute) in kinds() {
        let attention = |q: Heads, k: Heads, scores: Scores, out: &mut [MaybeUninit<f32>]| {
            kernels::attention(isa, compute, q, k, k, scores, out);
        };
        for shape in [[HALF, 2, 1, 1], [2, HALF, 1, 1], [1, 2, HALF, 1], [ROOT, ROOT, 1, 1], [ROOT, 1, ROOT, 1]] {
            refused(COUNTED, 0, |out| attention(same(shape), same(shape), SCORES, out));
        }
        // Queries that can be counted, and keys that can't.
        for m in [HALF, usize::MAX / 16, usize::MAX] {
            refused(COUNTED, 1, |out| attention(same([1, 1, 1, 1]), same([1, 1, m, 1]), SCORES, out));
        }
        let biased = |bias| Scores { bias: Some(bias), ..SCORES };
        refused(COUNTED, 2, |out| {
            attention(same([1, 2, 1, 1]), same([1, 2, HALF, 1]), biased(Bias::Full(&[])), out);
        });
        refused(COUNTED, 2, |out| {
            attention(same([1, 2, 1, 1]), same([1, 2, HALF, 1]), biased(Bias::Relative(&[])), out);
        });
        refused(COUNTED, 2, |out| {
            attention(same([1, 1, 2, 1]), same([1, 1, usize::MAX, 1]), biased(Bias::Relative(&[])), out);
        });
        refused("biases for scores", 2, |out| {
            attention(same([1, 1, 2, 1]), same([1, 1, 3, 1]), biased(Bias::Relative(&[0.0; 5])), out);
        });
        let hidden = |seen| Scores { mask: Mask::Keys(seen), ..SCORES };
        refused("a mask of the keys", 2, |out| {
            attention(same([2, 1, 1, 1]), same([2, 1, 3, 1]), hidden(&[true; 3]), out)
        });
        refused("attention to no key", 2, |out| {
            attention(same([2, 1, 1, 1]), same([2, 1, 2, 1]), hidden(&[true, true, false, false]), out);
        });
        refused("attention to no key", 1, |out| attention(same([1, 1, 1, 1]), same([1, 1, 0, 1]), SCORES, out));
        // No queries, heads or channels: nothing to write.
        for shape in [[1, 2, 0, 4], [0, 2, 3, 4], [1, 0, 3, 4], [1, 2, 3, 0], [HALF, 2, 0, 1]] {
            let [b, heads, _, d] = shape;
            for bias in [None, Some(Bias::Relative(&[])), Some(Bias::Full(&[]))] {
                let fits = bias.is_none() || heads == 0 || matches!(bias, Some(Bias::Full(_))) && shape[2] == 0;
                if fits {
                    attention(same(shape), same([b, heads, 7, d]), Scores { bias, ..SCORES }, &mut []);
                }
            }
        }
    }
}

#[test]
fn a_rotation_whose_size_wraps_is_refused() {
    for isa in Isa::available() {
        for norm in [None, Some((&[1.0f32, 1.0][..], 1e-6))] {
            let two = |shape| Heads::new(&[1.0, 2.0], shape, [0; 3]).expect("two numbers");
            for shape in [[HALF, 1, 1, 2], [1, HALF, 1, 2], [1, 1, HALF, 2], [ROOT, ROOT, 1, 2]] {
                refused(COUNTED, 0, |out| _ = kernels::rope(isa, two(shape), norm, &[], &[], out));
            }
            refused("angles for", 2, |out| _ = kernels::rope(isa, two([1, 1, 1, 2]), norm, &[1.0], &[], out));
        }
        kernels::rope(isa, same([0, usize::MAX, usize::MAX, 0]), None, &[], &[], &mut []);
    }
}

#[test]
fn a_view_without_channels_has_empty_rows() {
    let view = Heads::new(&[], [2, 3, 4, 0], [usize::MAX; 3]).expect("no values");
    assert!(view.row(1, 2, 3).is_empty());
    refused("token", 0, |_| _ = view.row(1, 2, 4));
}

#[test]
fn rows_of_a_norm_that_do_not_fit_are_refused() {
    let x = [1.0; 6];
    for isa in Isa::available() {
        let layer = |d, affine: Affine, out: Out| {
            kernels::layer_norm(isa, &x, d, 0.0, affine, out);
        };
        for d in [0, 4, HALF, usize::MAX] {
            refused("rows of", 6, |out| layer(d, Affine::None, out));
            refused("rows of", 6, |out| _ = kernels::rms_norm(isa, &x, d, &[], 0.0, out));
        }
        for rows in [0, 4, HALF, usize::MAX] {
            let affine = Affine::Modulated { scale: &[], shift: &[], rows };
            refused("scales and shifts", 6, |out| layer(2, affine, out));
        }
        kernels::layer_norm(isa, &[], HALF, 0.0, Affine::None, &mut []);
        let group = |shape, groups, out: &mut [MaybeUninit<f32>]| {
            kernels::group_norm(isa, &[], shape, groups, &[], &[], 0.0, None, out);
        };
        for shape in [[HALF, 2, 1], [2, HALF, 1], [1, 2, HALF], [ROOT, 1, ROOT]] {
            refused(COUNTED, 0, |out| group(shape, 1, out));
        }
        refused("groups", 0, |out| group([1, 0, 1], 0, out));
        group([HALF, 0, 2], 1, &mut []);
    }
}

#[test]
fn values_that_do_not_fit_their_results_are_refused() {
    let x = [1.0; 6];
    for isa in Isa::available() {
        for f in [Activation::Silu, Activation::GeluErf] {
            refused("as many results", 5, |out| _ = kernels::activate(isa, f, &x, out));
            refused("values for", 5, |out| _ = kernels::gated(isa, f, &x, &x, out));
        }
        refused("values for", 5, |out| _ = kernels::add(isa, &x, &x[..5], out));
    }
    for w in [0, 4, HALF, usize::MAX] {
        refused("rows of", 24, |out| _ = kernels::upsample_nearest_2x(&x, w, out));
    }
    refused("rows of", 23, |out| _ = kernels::upsample_nearest_2x(&x, 3, out));
    kernels::upsample_nearest_2x(&[], HALF, &mut []);
}

#[test]
fn one_value_that_is_no_number_is_found_wherever_it_is() {
    let mut x = vec![f32::MAX; 300];
    x[7] = f32::MIN_POSITIVE / 2.0;
    for isa in Isa::available() {
        assert!(kernels::is_finite(isa, &[]) && kernels::is_finite(isa, &x), "{isa:?}");
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for len in [1, 64, 300] {
                for at in 0..len {
                    let mut x = x[..len].to_vec();
                    x[at] = bad;
                    assert!(!kernels::is_finite(isa, &x), "{isa:?}: {bad} at {at} of {len}");
                }
            }
        }
    }
}

#[test]
fn normal_values_are_the_same_bits_at_every_level_and_a_rest_stays() {
    const STEPS: u32 = 1 << f32::MANTISSA_DIGITS;
    let uniform = |i: u32| (i.wrapping_mul(2_654_435_761) % STEPS) as f32 / STEPS as f32;
    // the ends of what a uniform value can be, and a group that is not full
    let mut given: Vec<f32> = (0..100_003).map(uniform).collect();
    given[..18].fill(0.0);
    given[32..50].fill((STEPS - 1) as f32 / STEPS as f32);
    let made = |isa| {
        let mut values = given.clone();
        kernels::box_muller(isa, &mut values);
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let levels = Isa::available();
    let portable = made(levels[0]);
    assert!(portable[..100_000] != given.iter().map(|x| x.to_bits()).collect::<Vec<_>>()[..100_000]);
    assert_eq!(portable[100_000..], given[100_000..].iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    for isa in levels {
        assert!(made(isa) == portable, "{isa:?}");
    }
}
