//! What LoRAs cost: blocks of Flux under some of rank 16, and how long one takes to put in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use core_tensor::{
    Branch, Change, Compute, Device, Format, Kind, Layout, Memory, Residency, Stored, Strength, WeightSource, Weights,
};
use diffusion_engine::{
    Family, Inside,
    family::{Duty, Settings},
};
use fixtures::Listed;
use flux::{Dimensions, FluxFamily, Inputs, Transformer, TransformerConfig};
use lora::{Adapted, Blocks, Dora, LoraFile, Target};

use crate::{
    blocks::{FLUX, IMAGE_SIDE, INPUT, Random, TEXT, random},
    operations::numbers,
    report::{Report, median, middle},
};

const RANK: usize = 16;

/// How many LoRAs are in at once.
const STACKS: [usize; 3] = [0, 1, 8];

/// A block of each kind, 1024 image and 512 text tokens, without a LoRA and under stacks of them: a stack after the other in turn, so that
/// a machine that slows down slows all of them.
pub(crate) fn steps(report: &mut Report) -> Result<(), Box<dyn std::error::Error>> {
    let case = |stack: usize| format!("flux blocks under {stack} LoRAs of rank {RANK}");
    if !report.wants(&case(1)) {
        return Ok(());
    }
    let (layout, device) = (FLUX.layout(), Device::flex());
    let adapted = Adapted::over(Arc::new(Random::of(&layout)));
    let tokens = (IMAGE_SIDE * IMAGE_SIDE + TEXT) as f64;
    let Dimensions { hidden, .. } = FLUX;
    let work = 2.0 * (2.0 * 12.0 * (hidden * hidden) as f64 * tokens + 4.0 * tokens * tokens * hidden as f64);
    for compute in [Compute::F32, Compute::Bf16] {
        let weights = Weights::of(&adapted, &device, Residency::Unpacked).computed_in(compute);
        let transformer = Transformer::load(&weights, &TransformerConfig::default())?;
        let pe = transformer.positions(TEXT, IMAGE_SIDE, IMAGE_SIDE);
        let forward = || {
            let inputs = Inputs {
                img: random([1, IMAGE_SIDE * IMAGE_SIDE, INPUT]),
                control: None,
                txt: random([1, TEXT, INPUT]),
                vec: random([1, INPUT]),
                timestep: 0.5,
                guidance: 0.0,
                pe: &pe,
            };
            let start = Instant::now();
            transformer.forward(inputs, &Inside::default()).map(|_| start.elapsed().as_secs_f64())
        };
        let mut seconds = STACKS.map(|_| Vec::new());
        let until = Instant::now() + Duration::from_secs(12);
        while seconds[0].len() < 10 || Instant::now() < until {
            for (stack, seconds) in STACKS.into_iter().zip(&mut seconds) {
                (0..8).for_each(|i| adapted.take(&i.to_string()));
                (0..stack).try_for_each(|i| adapted.put(&i.to_string(), adapter(&layout, i)))?;
                // The first forward packs what was put in.
                forward()?;
                seconds.extend([forward()?, forward()?]);
            }
        }
        // What a stack costs is told within each turn, so that a machine's mood counts for both.
        let alone = seconds[0].clone();
        for (stack, seconds) in STACKS.into_iter().zip(seconds) {
            let ratio = middle(seconds.iter().zip(&alone).map(|(now, alone)| now / alone).collect());
            report.measured(&case(stack), Some(compute), work, middle(seconds));
            println!("{stack} LoRAs, {compute:?}: {:+.1} %", 100.0 * (ratio - 1.0));
        }
    }
    Ok(())
}

/// A LoRA of every matrix of Flux dev at its full width, from its tensors to its place in a model, and another strength of it. What a layer
/// multiplies with is packed when it is first asked, which is not in here.
pub(crate) fn load(report: &mut Report) -> Result<(), Box<dyn std::error::Error>> {
    const FITTED: &str = "LoRA for flux is checked and put in";
    const STRENGTH: &str = "LoRA for flux gets another strength";
    if !report.wants(FITTED) && !report.wants(STRENGTH) {
        return Ok(());
    }
    let source: Arc<dyn WeightSource> = Arc::new(Listed::open("flux1-dev.bfl"));
    let network = FluxFamily.roles().remove(0).network;
    let w = Weights::of(&*source, &Device::flex(), Residency::Mapped);
    let layout = network.layout(&w, &Settings::default())?;
    let tensors = adapter(&layout, 0).into_iter().flat_map(|(name, branch)| {
        let module = format!("lora_unet_{}", name.trim_end_matches(".weight").replace('.', "_"));
        let Change::LowRank { down, up, .. } = branch.change else { unreachable!("all of them are made so") };
        [(format!("{module}.lora_down.weight"), down), (format!("{module}.lora_up.weight"), up)]
    });
    let tensors = Memory::of(tensors);
    let target = Target {
        part: "transformer".into(),
        duty: Duty::DENOISER,
        root: String::new(),
        spellings: network.spellings_of(&layout),
        layout,
        source: source.clone(),
    };
    let adapted = Adapted::over(source);
    let put = || {
        let file = LoraFile::read(&tensors)?;
        let fitted = file.fitted("flux", std::slice::from_ref(&target), Dora::default())?.whole()?;
        adapted.put("a", fitted.branches(0))?;
        Ok::<_, Box<dyn std::error::Error>>(fitted)
    };
    let fitted = put()?;
    let seconds = median(|| drop(put()));
    report.whole(FITTED, seconds);
    report.whole(STRENGTH, median(|| fitted.adapter.set(0.7, 0.7, &Blocks::default())));
    Ok(())
}

/// A LoRA of every matrix.
fn adapter(layout: &Layout, number: usize) -> Vec<(String, Branch)> {
    let strength = Strength::of(0.1 + number as f32 / 10.0);
    let branch = |rows: usize, d_in: usize| Branch {
        rows: 0..rows,
        change: Change::LowRank { down: halves([RANK, d_in]), mid: None, up: halves([rows, RANK]) },
        scale: 1.0,
        strength: strength.clone(),
    };
    let matrices = layout.needs().iter().filter(|need| matches!(need.kind, Kind::Matrix { .. }));
    matrices.map(|need| (need.name.clone(), branch(need.shape[0], need.shape[1]))).collect()
}

/// Random numbers of half precision.
fn halves(shape: [usize; 2]) -> Stored {
    let bytes = numbers(shape[0] * shape[1]).into_iter().flat_map(|v| bf16(v / 32.0)).collect();
    Stored::of_bytes(Format::BF16, shape.to_vec(), bytes).expect("two bytes for each number")
}

fn bf16(value: f32) -> [u8; 2] {
    let [_, _, low, high] = value.to_le_bytes();
    [low, high]
}
