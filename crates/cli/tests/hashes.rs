//! A picture names its model's file by the file's hash, which is computed once.

mod tiny;

use std::fs;

use forge::{Cancel, diffusion_engine::parse, model_hash, read_infotext};

use crate::tiny::Tiny;

/// What the infotext of a picture says of its model's file, with caches in a folder.
fn told(tiny: &Tiny, caches: &str) -> Option<String> {
    let args = ["txt2img", "--config", "flux.toml", "--output", "a.png"];
    let ran = tiny.command(&args).env("XDG_CACHE_HOME", caches).output().expect("the command starts");
    assert!(ran.status.success(), "{ran:?}");
    let pairs = parse(&read_infotext(&tiny.path("a.png")).expect("every picture has a text"), &[]).pairs;
    let at = pairs.iter().position(|(key, _)| key == "Model hash")?;
    // where A1111 has it
    assert_eq!((pairs[at - 1].0.as_str(), pairs[at + 1].0.as_str()), ("Size", "Model"));
    Some(pairs[at].1.clone())
}

#[test]
fn a_picture_has_the_first_ten_digits_of_its_models_hash() {
    let tiny = Tiny::quick();
    let caches = tiny.path("caches");
    let expected = model_hash(&tiny.role("transformer"), None, &Cancel::default()).unwrap().to_string();
    assert_eq!(told(&tiny, caches.to_str().unwrap()).as_deref(), Some(&expected[..10]));
    // The second time what was kept is believed.
    let kept = caches.join("forge/hashes.json");
    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replace(&expected, &"7".repeat(64))).unwrap();
    assert_eq!(told(&tiny, caches.to_str().unwrap()).as_deref(), Some("7777777777"));
}

#[test]
fn an_autoencoder_of_its_own_is_named_with_its_hash() {
    let tiny = Tiny::quick();
    let caches = tiny.path("caches");
    let [model, vae] =
        ["transformer", "vae"].map(|role| model_hash(&tiny.role(role), None, &Cancel::default()).unwrap().short());
    told(&tiny, caches.to_str().unwrap());
    let made = parse(&read_infotext(&tiny.path("a.png")).unwrap(), &[]).provenance();
    assert_eq!((made.model.hash, made.vae.hash), (Some(model), Some(vae)));
    assert_eq!(made.vae.name.as_deref(), tiny.role("vae").file_name().unwrap().to_str());
    // and the command tells the same of the picture
    let shown = &tiny.forge(&["info", "a.png", "--json"]).done().json()[0]["made_with"];
    assert_eq!(shown["model"].as_str(), tiny.role("transformer").file_stem().unwrap().to_str());
    assert_eq!(shown["model_hash"].as_str().map(str::len), Some(10));
}

#[test]
fn a_refiner_is_named_with_its_hash_and_another_one_is_told_when_the_picture_is_drawn_again() {
    let tiny = Tiny::quick();
    let caches = tiny.path("caches").display().to_string();
    let file = |case: &str| fixtures::path(&format!("golden/{case}/model.safetensors"));
    let [config, refiner, other] =
        [fixtures::path("golden/sd-1/case.toml"), file("sd-2"), file("sd-1")].map(|path| path.display().to_string());
    let ran = |command: &[&str], refiner: &str| {
        let args = [command, &["--config", &config, "--compute", "f32", "--refiner", refiner]].concat();
        let ran = tiny.command(&args).env("XDG_CACHE_HOME", &caches).output().expect("the command starts");
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (is_done, told) =
        ran(&["txt2img", "--steps", "4", "--refiner-switch-at", "0.5", "--output", "a.png"], &refiner);
    assert!(is_done, "{told}");
    let hash = model_hash(&file("sd-2"), None, &Cancel::default()).unwrap().short();
    let text = read_infotext(&tiny.path("a.png")).unwrap();
    assert!(text.contains(&format!("Refiner: model [{hash}], Refiner switch at: 0.5")), "{text}");
    let (is_same, told) = ran(&["replay", "a.png"], &refiner);
    assert!(is_same && !told.contains("was made with the refiner"), "{told}");
    let (is_same, told) = ran(&["replay", "a.png"], &other);
    assert!(!is_same && told.contains("was made with the refiner `model`"), "{told}");
}

#[test]
fn without_a_place_for_caches_no_hash_is_computed() {
    let tiny = Tiny::quick();
    assert_eq!(told(&tiny, ""), None);
    assert_eq!(told(&tiny, "caches"), None);
    assert!(!tiny.path("caches").exists());
}
