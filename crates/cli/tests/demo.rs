//! The trained demo model, through the sample config that the README's first command uses.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::values;
use fixtures::{path, psnr};
use forge::{ComputeChoice, Config, Forge};

#[test]
fn the_sample_config_draws_a_red_apple_on_a_blue_background() {
    // given the sample config as it is, but for the number of steps, which costs time here
    let config = Config::read(&path("../flux.toml")).unwrap();
    let mut request = config.request(|| 0).unwrap();
    request.pass.steps = 8;
    assert_eq!(request.pass.prompt, "a red apple on a blue background");
    // when its picture is drawn
    let forge = Forge::load(&config).unwrap();
    let mut run = forge.txt2img(request).unwrap();
    for step in &mut run {
        step.unwrap();
    }
    let pixels = run.pixels().unwrap();
    // then it is red in the middle and blue at the corners
    let colour = |y: usize, x: usize| -> Vec<f32> {
        let block = pixels.clone().narrow(2, y, 12).narrow(3, x, 12);
        values(&block.mean_dim(2).mean_dim(3))
    };
    let middle = colour(64, 58);
    assert!(middle[0] > 0.5 && middle[1] < 0.0 && middle[2] < 0.0, "{middle:?}");
    for (y, x) in [(0, 0), (0, 116), (116, 0), (116, 116)] {
        let corner = colour(y, x);
        assert!(corner[2] > 0.4 && corner[0] < -0.3, "{y} {x} {corner:?}");
    }
}

#[test]
fn a_lora_of_the_demo_model_draws_in_ink_under_the_names_of_either_program() {
    // given the sample config and the folder of its LoRA in two programs' names
    let mut config = Config::read(&path("../flux.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    config.prompt.loras = Some(path("models"));
    let forge = Forge::load(&config).unwrap();
    let draw = |tag: &str| -> Vec<f32> {
        let mut config = config.clone();
        config.prompt.positive = format!("a red apple on a white background{tag}");
        let mut run = forge.txt2img(config.request(|| 0).unwrap().steps(8)).unwrap();
        run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
        values(&run.pixels().unwrap())
    };
    // when the same is drawn without and with it
    let [alone, kohya, diffusers, again] =
        ["", " <lora:lora-ink-kohya:1>", " <lora:lora-ink-diffusers:1>", ""].map(draw);
    // then the apple has lost its red, whoever named the layers, and has it again without the LoRA
    let reds = |pixels: &[f32]| {
        let plane = pixels.len() / 3;
        (0..plane).filter(|i| pixels[*i] - pixels[plane + i] > 0.6).count() as f64 / plane as f64
    };
    let [before, after] = [reds(&alone), reds(&kohya)];
    assert!(before > 0.1 && after < before / 4.0, "{before:.3} of the pixels are red, then {after:.3}");
    let db = psnr(&kohya, &diffusers);
    assert!(db > 45.0, "{db:.1} dB");
    assert!(again == alone);
}
