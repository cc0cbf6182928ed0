//! What a UNet takes is no more than what it says; in a program of its own, as the heap is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Compute, Device, Residency, Tensor, Weights, safetensors::Safetensors};
use diffusion_engine::{Holds, Inside};
use fixtures::path;
use peak_alloc::PeakAlloc;
use stable_diffusion::{LdmUnetNames, Unet};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What all threads pack at most.
const SCRATCH: u64 = 1 << 20;

#[test]
fn a_unet_takes_no_more_than_it_says_and_not_much_less() {
    for case in ["sd1", "sd1-bare", "sdxl-base", "sdxl-refiner"] {
        let file = Safetensors::open(&path(&format!("golden/sd-unet/{case}.safetensors"))).unwrap();
        let config = std::fs::read(path(&format!("golden/sd-unet/{case}.json"))).unwrap();
        let (source, config) = (LdmUnetNames::over(file), serde_json::from_slice(&config).unwrap());
        for (residency, compute) in [
            (Residency::Unpacked, Compute::F32),
            (Residency::Unpacked, Compute::Bf16),
            (Residency::Mapped, Compute::F32),
        ] {
            let weights = Weights::of(&source, &Device::flex(), residency).computed_in(compute);
            let unet = Unet::load(&weights, &config).unwrap();
            let dimensions = unet.dimensions();
            for ([height, width], tokens, batch) in [([48, 64], 77, 1), ([31, 34], 231, 2)] {
                // given inputs
                let before = HEAP.current_usage();
                let zeros = |shape| Tensor::<4>::zeros(shape, &Device::flex());
                let x = zeros([batch, dimensions.in_channels, height, width]);
                let context = zeros([1, batch, tokens, dimensions.context.unwrap()]).squeeze_dim(0);
                let y = dimensions.adm.map(|adm| zeros([1, 1, batch, adm]).reshape([batch, adm]));
                // when a prediction is made of them
                HEAP.reset_peak_usage();
                let out = unet.forward(x, 500.0, context, y, &Inside::default()).unwrap();
                drop(out);
                // then it takes what was said
                let taken = (HEAP.peak_usage() - before) as u64;
                let said = dimensions.working_bytes([height, width], tokens, batch, &Holds::default());
                let of = format!("{case}, {residency:?}, {compute:?}, {batch} of {height} x {width}");
                assert!(taken <= said + SCRATCH && taken > said / 2, "{of}: {taken} bytes, said {said}");
            }
        }
    }
}
