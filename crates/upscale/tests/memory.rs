//! What an upscaler takes is no more than what it says; in a program of its own, as the heap is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Compute, Device, Tensor, pickle::TorchFile, safetensors::Safetensors};
use diffusion_engine::Inside;
use fixtures::path;
use peak_alloc::PeakAlloc;
use upscale::{Tiles, Upscaler};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What all threads pack at most.
const SCRATCH: u64 = 4 << 20;

#[test]
fn a_picture_takes_no_more_than_its_tiles_say_and_not_much_less() {
    let size = [200, 160];
    for name in [
        "esrgan-x4.safetensors",
        "esrgan-x1.pth",
        "real-esrgan-x2.pth",
        "compact-x4.pth",
        "compact-x1.safetensors",
        "swinir-x4.pth",
        "swinir-x3.pth",
        "swinir-light-x2.safetensors",
        "swinir-jpeg-x1.safetensors",
    ] {
        let file = path(&format!("golden/upscale/{name}"));
        let load = |compute| match name.ends_with("pth") {
            true => Upscaler::load(&TorchFile::open(&file).unwrap(), &Device::flex(), compute).unwrap(),
            false => Upscaler::load(&Safetensors::open(&file).unwrap(), &Device::flex(), compute).unwrap(),
        };
        for (upscaler, least) in [(load(Compute::F32), 2), (load(Compute::Bf16), 3)] {
            for tiles in [Tiles::whole(size), upscaler.tiles(size, 0)] {
                let picture = Tensor::<4>::full([1, 3, size[0], size[1]], 0.5, &Device::flex());
                let before = HEAP.current_usage();
                HEAP.reset_peak_usage();
                drop(upscaler.upscale(picture, &tiles, &Inside::default(), &|| {}).unwrap());
                let (taken, said) = ((HEAP.peak_usage() - before) as u64, tiles.bytes(upscaler.cost()));
                assert!(taken <= said + SCRATCH, "{name}, {} tiles: {taken} of {said}", tiles.count());
                assert!(taken + SCRATCH >= said / least, "{name}, {} tiles: {taken} of {said}", tiles.count());
            }
        }
    }
}
