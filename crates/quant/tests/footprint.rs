//! What a device holds of matrices with scales beside them is counted by those scales, whatever is usual.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Compute, Device, Footprint, Format, Layout, Memory, Place, Residency, Stored, Weights};
use quant::Decoded;

const NF4_TABLE: u64 = 16;
const E4M3_TABLE: u64 = 256;

fn bytes(format: Format, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored::of_bytes(format, shape.to_vec(), bytes).unwrap()
}

/// What a matrix takes on a device that computes in bf16.
fn counted(tensors: Vec<(&str, Stored)>, [rows, width]: [usize; 2]) -> Footprint {
    let source = Decoded::over(Memory::of(tensors)).unwrap();
    let layout = Layout::of(|l| l.unbiased("m", width, rows));
    let w = Weights::of(&source, &Device::flex(), Residency::Unpacked).laid_out(layout);
    w.bytes(Place::Device(Compute::Bf16))
}

/// A matrix of NF4 with scales of blocks of this size.
fn nf4(size: usize, shape: [usize; 2]) -> Footprint {
    let weights: usize = shape.iter().product();
    let state =
        format!(r#"{{"quant_type":"nf4","blocksize":{size},"dtype":"float32","shape":[{},{}]}}"#, shape[0], shape[1]);
    let blocks = weights.div_ceil(size);
    let tensors = vec![
        ("m.weight", bytes(Format::U8, &[weights / 2, 1], vec![0; weights / 2])),
        ("m.weight.absmax", Stored::of(&vec![1.0; blocks], vec![blocks])),
        ("m.weight.quant_state.bitsandbytes__nf4", bytes(Format::U8, &[state.len()], state.into_bytes())),
    ];
    counted(tensors, shape)
}

/// A matrix of floats of eight bits with a scale for each square of 128.
fn in_squares(shape @ [rows, width]: [usize; 2]) -> Footprint {
    let scales = [rows.div_ceil(128), width.div_ceil(128)];
    let tensors = vec![
        ("m.weight", bytes(Format::F8_E4M3, &shape, vec![0; rows * width])),
        ("m.weight_scale_inv", Stored::of(&vec![1.0; scales.iter().product()], scales.to_vec())),
    ];
    counted(tensors, shape)
}

#[test]
fn blocks_of_another_size_have_other_scales() {
    let held = |size: u64| 4 * NF4_TABLE + 128 * 64 / 2 + 4 * (128 * 64 / size);
    for size in [32, 64, 128, 4096] {
        let found = nf4(size, [128, 64]);
        assert_eq!((found.unpacked, found.as_stored), (held(size as u64), held(size as u64)), "{size}");
        assert_eq!((found.passing, found.unpacking), (3 * held(size as u64), 2 * 128 * 64), "{size}");
    }
}

#[test]
fn a_matrix_whose_scales_a_device_can_not_find_is_counted_unpacked() {
    // given a last block that is cut, and one of which a row's end is in the middle
    let found = [nf4(64, [3, 24]), nf4(4096, [3, 1024]), in_squares([128, 192])];
    for (found, weights) in found.into_iter().zip([3 * 24, 3 * 1024, 128 * 192]) {
        let dense = 2 * weights;
        let expected = Footprint { unpacked: dense, passing: 3 * dense, ..Footprint::default() };
        assert_eq!(found, expected);
    }
}

#[test]
fn squares_have_a_scale_for_each_row_of_theirs() {
    let held = 4 * E4M3_TABLE + 128 * 256 + 4 * (128 * 256 / 128);
    assert_eq!(in_squares([128, 256]).unpacked, held);
}
