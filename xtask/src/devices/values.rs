//! What kernels compute: the same as the CPU's, on a card that a CPU plays (`card`), which is a few thousand times as slow as a real one.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path};

use serde_json::{Map, Value};

use super::machine::Machine;
use crate::{
    Done,
    cargo::{cargo_command, succeed},
    demo_score::target_folder,
    image, lora_matrix,
};

/// Compute capabilities whose tensor cores have instructions of their own: from A100 on, and H100's.
const CARDS: [&str; 2] = ["80", "90"];

/// Largest difference of a latent in f32, as a share of its standard deviation.
const LATENT: f64 = 1e-4;

/// A number format, and the least peak signal-to-noise ratio of its pictures to the CPU's in f32, in decibels.
const FORMATS: [(&str, f64); 4] = [("f32", 60.0), ("tf32", 40.0), ("f16", 40.0), ("bf16", 30.0)];

/// A config, and what a run of it is told besides.
type Case = (&'static str, &'static [&'static str]);

/// What goes through kernels that others do not: each family of models, widths that no kernel reads at once, packed weights, a
/// transformer that has no room and passes through the card, pairs of factors of two LoRAs, a picture to start from, and what looks into attention.
const CASES: [Case; 13] = [
    ("fixtures/golden/tiny-dev/case.toml", &["--steps", "8"]),
    ("fixtures/golden/tiny-schnell/case.toml", &["--steps", "8"]),
    ("fixtures/golden/sd-1/case.toml", &["--steps", "8"]),
    ("fixtures/golden/sd-2/case.toml", &["--steps", "8"]),
    ("fixtures/golden/sd-xl/case.toml", &["--steps", "8"]),
    ("fixtures/golden/sd-inpainting/case.toml", &["--steps", "8"]),
    ("fixtures/golden/tiny-gguf/case.toml", &["--steps", "2"]),
    ("fixtures/golden/tiny-bnb/case.toml", &["--steps", "2"]),
    ("fixtures/golden/tiny-dev/case.toml", &["--steps", "2", "--t5-length", "8", "--width", "32", "--height", "32"]),
    ("fixtures/golden/tiny-dev/case.toml", &["--steps", "2", "--sampler", "dpmpp_2m_sde", "--hires-scale", "1.5"]),
    ("fixtures/golden/sd-1/case.toml", &["--steps", "2", "--sag", "0.7", "--freeu", "v2"]),
    ("flux.toml", &["--steps", "2", "--width", "64", "--height", "64", "--memory", "95 MiB"]),
    (
        "flux.toml",
        &[
            "--steps",
            "2",
            "--width",
            "64",
            "--height",
            "64",
            "--lora",
            "fixtures/models/lora-ink-kohya.safetensors:0.8",
            "--lora",
            "fixtures/models/lora-ink-diffusers.safetensors:-0.3",
        ],
    ),
];

/// Upscalers: convolutions alone, and windows of attention.
const UPSCALERS: [&str; 3] = ["compact-x3.safetensors", "esrgan-plus-x2.safetensors", "swinir-light-x2.safetensors"];

pub(super) fn run(machine: &Machine) -> Done {
    succeed(&mut cargo_command("build --release --package card"))?;
    let name = format!("release/{}card{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let card = target_folder()?.join(name).display().to_string();
    let mut faults = Vec::new();
    for capability in CARDS {
        let played = Played { machine, capability, card: &card };
        // The CPU and software Vulkan are checked too, where there is one.
        let check = played.run(&["devices", "--check"])?;
        let computed = |line: &&str| line.contains(" operations in ") || line.contains(" off");
        check.lines().skip_while(|line| !line.starts_with("cuda:0")).take(1 + FORMATS.len()).filter(computed).for_each(
            |line| {
                println!("compute capability {capability}: {}", line.trim());
            },
        );
        for (compute, least) in FORMATS {
            for (config, more) in CASES {
                let told = [&[config], more].concat().join(" ");
                let (latent, db) = played.drawn(config, more, compute)?;
                let is_far = db < least || (compute == "f32" && latent > LATENT);
                let line = format!(
                    "compute capability {capability}, {compute}: {latent:.1e} of the latent's standard deviation, {db:.1} dB: {told}"
                );
                println!("{line}");
                faults.extend(is_far.then_some(line));
            }
            for upscaler in UPSCALERS {
                let db = played.enlarged(upscaler, compute)?;
                let line = format!("compute capability {capability}, {compute}: {db:.1} dB: {upscaler}");
                println!("{line}");
                faults.extend((db < least).then_some(line));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("too far from the CPU:\n{}", faults.join("\n")).into()) }
}

/// A machine whose card is played.
struct Played<'a> {
    machine: &'a Machine,
    capability: &'static str,
    card: &'a str,
}

impl Played<'_> {
    /// What a command told that succeeded.
    fn run(&self, args: &[&str]) -> Result<String, Box<dyn Error>> {
        let settings =
            [("FAKE_CUDA_CAPABILITY", self.capability), ("FAKE_CUDA_CARD", self.card), ("FAKE_CUDA_MEMORY", MEMORY)];
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        Ok(self.machine.done(&self.machine.cache(self.capability), &settings, args)?.told)
    }

    /// How far a run on the card is from the CPU's: the last latent, and the pictures.
    fn drawn(&self, config: &str, more: &[&str], compute: &str) -> Result<(f64, f64), Box<dyn Error>> {
        let [cpu, cuda] = ["cpu", "cuda"].map(|name| self.machine.folder().join(format!("{name}.safetensors")));
        for (backend, compute, dump) in [("cpu", "f32", &cpu), ("cuda:0", compute, &cuda)] {
            let dump = dump.display().to_string();
            let own = ["txt2img", "--config", config, "--backend", backend, "--compute", compute];
            let files = ["--dump", &dump, "--output", "{out}/{index}.png"];
            self.run(&[&own[..], more, &files].concat())?;
        }
        let [cpu, cuda] = [cpu, cuda].map(|path| floats(&path));
        let (cpu, cuda) = (cpu?, cuda?);
        if bits(&cpu, "noise")? != bits(&cuda, "noise")? {
            return Err("the noise is another than the CPU's".into());
        }
        let last = cpu.keys().rfind(|name| name.starts_with("latent.")).ok_or("a dump without a latent")?;
        Ok((apart(found(&cuda, last)?, found(&cpu, last)?), psnr(found(&cuda, "image")?, found(&cpu, "image")?)))
    }

    /// How far an enlarged picture is from the CPU's.
    fn enlarged(&self, upscaler: &str, compute: &str) -> Result<f64, Box<dyn Error>> {
        let picture = self.machine.folder().join("small.png");
        image::write(
            &image::Image::paint(24, 20, |x, y| [(9 * x) as u8, (11 * y) as u8, (x * y % 256) as u8]),
            &picture,
        )?;
        let (picture, model) = (picture.display().to_string(), format!("fixtures/golden/upscale/{upscaler}"));
        let pictures = [("cpu", "f32"), ("cuda:0", compute)].map(|(backend, compute)| {
            let output = self.machine.folder().join(format!("{}.png", &backend[..3]));
            let to = output.display().to_string();
            let own = ["upscale", &picture, "--model", &model, "--backend", backend, "--compute", compute];
            self.run(&[&own[..], &["--output", &to]].concat())?;
            Ok::<_, Box<dyn Error>>(image::read(&output)?.opaque())
        });
        let [cpu, cuda] = pictures;
        Ok(lora_matrix::psnr(&cuda?, &cpu?))
    }
}

/// Bytes of a card on which there is room for all of it, and which the host has.
const MEMORY: &str = "4294967296";

type Floats = BTreeMap<String, Vec<f32>>;

/// The tensors of f32 of a dump.
fn floats(path: &Path) -> Result<Floats, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("a dump without a header")?;
    let (header, values) =
        rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or("a dump that is cut off")?;
    let header: Map<String, Value> = serde_json::from_slice(header)?;
    let tensors = header.into_iter().filter(|(_, about)| about["dtype"] == "F32").map(|(name, about)| {
        let [start, end]: [usize; 2] = serde_json::from_value(about["data_offsets"].clone())?;
        let values = values.get(start..end).ok_or("a dump that is cut off")?;
        Ok((name, values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()))
    });
    tensors.collect()
}

fn found<'d>(dump: &'d Floats, name: &str) -> Result<&'d [f32], String> {
    dump.get(name).map(Vec::as_slice).ok_or_else(|| format!("a dump has no `{name}`"))
}

fn bits(dump: &Floats, name: &str) -> Result<Vec<u32>, String> {
    found(dump, name).map(|values| values.iter().map(|value| value.to_bits()).collect())
}

/// The largest difference, as a share of the standard deviation of what is expected; infinite where there is no such difference.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let count = expected.len() as f64;
    let mean = expected.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let spread = (expected.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let each = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - f64::from(*e)).abs());
    let is_told = found.len() == expected.len() && found.iter().all(|v| v.is_finite());
    if is_told { each.fold(0.0, f64::max) / spread } else { f64::INFINITY }
}

/// Of values from 0 to 1, in decibels; less than any where there is no ratio.
fn psnr(found: &[f32], expected: &[f32]) -> f64 {
    let squares = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - f64::from(*e)).powi(2));
    let mean = squares.sum::<f64>() / expected.len() as f64;
    if found.len() == expected.len() && mean.is_finite() { -10.0 * mean.log10() } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_as_far_as_can_be() {
        let expected = [0.0, 0.5, 1.0];
        assert_eq!((apart(&expected, &expected), psnr(&expected, &expected)), (0.0, f64::INFINITY));
        assert!((psnr(&[0.1, 0.6, 1.1], &expected) - 20.0).abs() < 1e-4);
        for wrong in [&[0.0, f32::NAN, 1.0][..], &[0.0, 0.5]] {
            assert_eq!((apart(wrong, &expected), psnr(wrong, &expected)), (f64::INFINITY, f64::NEG_INFINITY));
        }
    }
}
