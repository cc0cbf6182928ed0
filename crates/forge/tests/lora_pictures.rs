//! Pictures of tiny Stable Diffusion models under LoRAs of the UNet and of each text encoder, against PEFT's layers in diffusers' networks.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;

use fixtures::{Golden, deviation, path, psnr, std};
use forge::{ComputeChoice, Config, Forge, core_tensor::values};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

#[test]
fn a_lora_of_a_unet_and_its_text_encoders_draws_what_the_references_draw() {
    for case in ["sd-1", "sd-xl"] {
        // given the case's own config and a LoRA of all of its networks
        let folder = tempfile::tempdir().unwrap();
        let file = path(&format!("golden/lora/{case}.picture.safetensors"));
        fs::copy(file, folder.path().join("all.safetensors")).unwrap();
        let mut config = Config::read(&path(&format!("golden/{case}/case.toml"))).unwrap();
        config.device.compute = ComputeChoice::F32;
        config.prompt.loras = Some(folder.path().to_owned());
        config.prompt.positive += " <lora:all:1>";
        // when the picture is drawn
        let mut run = Forge::load(&config).unwrap().txt2img(config.request(|| 0).unwrap()).unwrap();
        run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
        // then its words, its latent and its pixels are the reference's
        let expected = Golden::open(&format!("lora/{case}.picture.expected.safetensors"));
        let alone = Golden::open(&format!("{case}/expected.safetensors"));
        let latent = expected.floats("latent.007");
        assert!(deviation(&alone.floats("latent.007"), &latent) > 0.1 * std(&latent), "{case}: the LoRA does nothing");
        let worst = deviation(&values(&run.latent().0), &latent) / std(&latent);
        assert!(worst <= LATENT, "{case}: the latent is {worst:.2e} of its standard deviation off");
        let db = psnr(&values(&run.pixels().unwrap()), &expected.floats("image"));
        assert!(db >= PICTURE_DB, "{case}: the picture is {db:.1} dB from the reference's");
    }
}

#[test]
fn words_that_a_lora_brings_stand_in_prompts_while_it_is_named() {
    // given a LoRA that changes nothing, with the vectors of a word, and the same vectors as a textual inversion of a folder
    let vectors = tensor("emb_params", [2, 64], |i| (i as f32 * 0.7).sin());
    let folder = tempfile::tempdir().unwrap();
    let (loras, words) = (folder.path().join("loras"), folder.path().join("words"));
    fs::create_dir_all(&loras).unwrap();
    fs::create_dir_all(&words).unwrap();
    let module = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";
    let lora = [
        tensor(&format!("{module}.lora_down.weight"), [1, 64], |_| 0.0),
        tensor(&format!("{module}.lora_up.weight"), [64, 1], |_| 0.0),
    ];
    let bundled = (vectors.0.replace("emb_params", "bundle_emb.qualm.string_to_param.*"), vectors.1.clone());
    write(&loras.join("plain.safetensors"), &lora);
    write(&loras.join("wordy.safetensors"), &[&lora[..], &[bundled]].concat());
    write(&words.join("qualm.safetensors"), &[vectors]);
    let draw = |config: &Config, forge: &Forge, prompt: &str| {
        let mut config = config.clone();
        config.prompt.positive = prompt.to_owned();
        let mut run = forge.txt2img(config.request(|| 0).unwrap().steps(1)).unwrap();
        run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
        values(&run.latent().0)
    };
    let mut config = Config::read(&path("golden/sd-1/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    let mut with_folder = config.clone();
    with_folder.prompt.embeddings = Some(words);
    let expected = draw(&with_folder, &Forge::load(&with_folder).unwrap(), "a qualm");
    config.prompt.loras = Some(loras);
    let forge = Forge::load(&config).unwrap();
    let [alone, plain, wordy, again] =
        ["a qualm", "a qualm <lora:plain:1>", "a qualm <lora:wordy:0>", "a qualm"].map(|p| draw(&config, &forge, p));
    // then the word means what it means in the folder, and without the LoRA it is plain words
    assert!(wordy == expected && alone != expected);
    assert!(plain == alone && again == alone);
}

/// A tensor of a safetensors file: its entry in the header but for its place, and its values.
fn tensor(name: &str, shape: [usize; 2], value: impl Fn(usize) -> f32) -> (String, Vec<u8>) {
    let values = (0..shape[0] * shape[1]).flat_map(|i| value(i).to_le_bytes()).collect();
    (format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"#), values)
}

fn write(file: &std::path::Path, tensors: &[(String, Vec<u8>)]) {
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    for (entry, values) in tensors {
        let start = bytes.len();
        bytes.extend(values);
        entries.push(format!(r#"{entry}"data_offsets":[{start},{}]}}"#, bytes.len()));
    }
    let header = format!("{{{}}}", entries.join(","));
    fs::write(file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat()).unwrap();
}
