//! What the autoencoder takes is no more than what it says, and in tiles no more than their plan; in a program of its own, as the heap
//! is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Compute, Device, Residency, Tensor, Weights, packs_bf16, safetensors::Safetensors};
use diffusion_engine::{Autoencoder, AutoencoderKl, Inside, LatentScaling, TilePlan, VaeConfig};
use fixtures::path;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const FLUX: LatentScaling = LatentScaling { scale: 0.3611, shift: 0.1159 };

/// Height and width of the latent.
const SIZE: [usize; 2] = [48, 64];

/// What all threads pack at most.
const SCRATCH: u64 = 4 << 20;

/// The most that some work takes beside what there is before it.
fn taken<T>(work: impl FnOnce() -> T) -> u64 {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    drop(work());
    (HEAP.peak_usage() - before) as u64
}

#[test]
fn an_autoencoder_takes_no_more_than_its_plan_says_and_not_much_less() {
    let file = Safetensors::open(&path("golden/tiny-dev/ae.safetensors")).unwrap();
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&file, &Device::flex(), Residency::Unpacked).computed_in(compute);
        let vae = AutoencoderKl::load_both(&weights, &VaeConfig::default(), FLUX).unwrap();
        let (decoding, encoding) = (vae.decode_cost(), vae.encode_cost().unwrap());
        let latent = Tensor::zeros([1, 16, SIZE[0], SIZE[1]], &Device::flex());
        let pixels = Tensor::zeros([1, 3, 8 * SIZE[0], 8 * SIZE[1]], &Device::flex());
        // What a plan counts of encoding a picture, which this decides itself how to cut.
        let planned = vae.dimensions().encoding(SIZE, None).bytes;
        let taken_whole = taken(|| vae.encode(pixels.clone(), None, &Inside::default()).unwrap());
        // In f32 nothing is packed of what is planned for bf16.
        let least = if packs_bf16() { planned / 2 } else { planned / 10 * 9 };
        assert!(taken_whole <= planned + SCRATCH && taken_whole > least, "{taken_whole}, planned {planned}");
        assert!(planned <= vae.dimensions().decoding(SIZE, None).bytes, "{planned}");
        for part in [1, 3] {
            // given a plan for a part of what the whole takes
            let plan = |cost| {
                let plan = TilePlan::of(SIZE, TilePlan::whole(SIZE).bytes(cost) / part, cost);
                assert_eq!(plan.count() > 1, part > 1);
                plan
            };
            let (decode, encode) = (plan(decoding), plan(encoding));
            // when it is carried out, then it takes that
            for (what, planned, taken) in [
                (
                    "decoding",
                    decode.bytes(decoding),
                    taken(|| vae.decode_tiled(latent.clone(), &decode, &Inside::default()).unwrap()),
                ),
                (
                    "encoding",
                    encode.bytes(encoding),
                    taken(|| vae.posterior_tiled(pixels.clone(), &encode, &Inside::default()).unwrap()),
                ),
            ] {
                let case = format!("{what} in {compute:?}, 1/{part}: {taken} bytes, planned {planned}");
                assert!(taken <= planned + SCRATCH && taken > planned / 2, "{case}");
            }
        }
    }
}
