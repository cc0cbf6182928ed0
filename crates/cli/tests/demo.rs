//! The trained demo model, through the sample config that the README's first command uses.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::values;
use fixtures::path;
use forge::{Config, Forge};

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
