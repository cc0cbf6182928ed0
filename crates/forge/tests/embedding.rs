//! What a program that embeds the library gets of a config: all that the command does.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{fs, path::Path};

use forge::{
    ComputeChoice, Config, Error, Forge, Noise, Outputs, Size, Txt2Img,
    core_tensor::{
        safetensors::{Values, write},
        values,
    },
    diffusion_engine::{Kind, Value, write_whole},
    keys::keys,
    noise_file,
};

/// `tiny-dev`, for one step of one picture of 32 × 32 pixels.
fn config() -> Config {
    let mut config = Config::read(&fixtures::path("golden/tiny-dev/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    (config.sampling.steps, config.image.batch, config.image.width, config.image.height) = (1, 1, 32, 32);
    config
}

#[test]
fn the_noise_that_a_config_names_is_what_its_job_starts_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.safetensors");
    let numbers: Vec<f32> = (0..16 * 4 * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    let tensor = ("noise".to_owned(), vec![1, 16, 4, 4], Values::F32(numbers));
    write_whole(&path, |out| write(out, &[tensor])).unwrap();
    let mut config = config();
    let forge = Forge::load(&config).unwrap();
    let pixels = |config: &Config| {
        let mut run = forge.start(config.job(&forge::catalog(), || 0).unwrap()).unwrap();
        run.by_ref().for_each(|event| drop(event.unwrap()));
        values(&run.pixels().unwrap())
    };
    let of_the_seed = pixels(&config);
    // given a file of noise, when its job is drawn, then it is drawn from the file's
    config.sampling.noise = Some(Noise::File(path.clone()));
    let request: Txt2Img = config.request(|| 0).unwrap();
    let given = noise_file(&path, &request).unwrap();
    let mut run = forge.start(forge::Job::of(request).unwrap().given_noise(given)).unwrap();
    run.by_ref().for_each(|event| drop(event.unwrap()));
    let expected = values(&run.pixels().unwrap());
    assert!(pixels(&config) == expected);
    assert!(of_the_seed != expected);
    // and one that does not fit is an error
    config.sampling.noise = Some(Noise::File(folder.path().join("none.safetensors")));
    assert!(matches!(config.job(&forge::catalog(), || 0), Err(Error::Load { .. })));
}

#[test]
fn a_file_that_any_key_names_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    // as a file of a model may be called, whatever it holds
    let path = folder.path().join("a.png");
    fs::write(&path, "needed").unwrap();
    let mut found = 0;
    for key in keys().filter(|key| matches!(key.kind, Kind::File)) {
        let mut config = config();
        config.set(key, &Value::Text(path.display().to_string()), "--flag").unwrap();
        config.image.output.clone_from(&path);
        let request = Txt2Img::of("").size(Size { width: 32, height: 32 });
        let outputs = Outputs::of(&config, &request, None, &[]);
        assert!(matches!(outputs, Err(Error::Overwrites { .. })), "{}", key.path());
        found += 1;
    }
    assert!(found >= 4);
    assert_eq!(fs::read_to_string(Path::new(&path)).unwrap(), "needed");
}
