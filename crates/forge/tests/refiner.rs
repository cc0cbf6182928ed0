//! Two models of one job: side by side where there is room, else one after the other, and the same picture.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use forge::{
    ComputeChoice, Config, Error, Forge, Job,
    diffusion_engine::{Event, Txt2Img},
};
use memory::{Bytes, Plan, Share};

/// sd-1 in miniature, with another for a refiner and one for the second pass.
fn config(refiner: Option<&str>, hires: Option<&str>) -> Config {
    let file = |case: &str| fixtures::path(&format!("golden/{case}/model.safetensors"));
    let mut config = Config::read(&fixtures::path("golden/sd-1/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    config.refiner.checkpoint = refiner.map(file);
    config.refiner.switch_at = 0.5;
    if hires.is_some() {
        (config.hires.scale, config.hires.steps) = (Some(1.5), Some(2));
        config.hires.checkpoint = hires.map(file);
    }
    config
}

fn request(config: &Config) -> Txt2Img {
    config.request(|| 0).unwrap().steps(3)
}

fn drawn(config: &Config) -> (Vec<u8>, String) {
    let mut run = Forge::load(config).unwrap().txt2img(request(config)).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    let image = run.into_images().unwrap().remove(0);
    (image.pixels, image.infotext)
}

#[test]
fn models_that_have_no_room_together_take_turns_and_draw_the_same() {
    for (refiner, hires) in [(Some("sd-2"), None), (None, Some("sd-2")), (Some("sd-2"), Some("sd-1"))] {
        let mut config = config(refiner, hires);
        let asked = request(&config);
        let job = || Job::of(asked.clone()).unwrap();
        let (together, alone) = (Forge::load(&config).unwrap().plan(&job()).unwrap().total(), drawn(&config));
        config.device.memory = Some(together);
        assert_eq!(Forge::load(&config).unwrap().plan(&job()).unwrap().total(), together);
        assert_eq!(drawn(&config), alone);
        // a byte less, and the one is loaded in the other's place
        config.device.memory = Some(Bytes(together.0 - 1));
        let in_turn = Forge::load(&config).unwrap().plan(&job()).unwrap().total();
        assert!(in_turn.0 < together.0, "{in_turn} {together}");
        assert_eq!(drawn(&config), alone);
    }
}

#[test]
fn models_have_the_same_room_for_pictures_and_all_their_tiles_are_told() {
    // given a job of two models, of which one draws larger pictures
    let mut config = config(None, Some("sd-2"));
    (config.image.width, config.image.height) = (512, 512);
    let job = Job::of(request(&config)).unwrap();
    config.device.memory = Some(Bytes(1));
    let refused = Forge::load(&config).unwrap().plan_all([&job]);
    let Err(Error::Memory(memory::Error::TooLittle { needed, .. })) = refused else { panic!("{refused:?}") };
    for more in (0..40).map(|more| more << 20) {
        // when they take turns in little memory
        let ceiling = Bytes(needed.0 + more);
        config.device.memory = Some(ceiling);
        let plans = Forge::load(&config).unwrap().plan_all([&job]).unwrap();
        assert_eq!(plans.len(), 2);
        // then neither's maps take more than what the other leaves for them
        let maps: Vec<_> = plans.iter().map(in_tiles).collect();
        let rooms = plans.iter().zip(&maps).map(|(plan, maps)| ceiling.0 - in_files(plan) + maps);
        let room = rooms.min().unwrap();
        assert!(maps.iter().all(|maps| *maps <= room), "{more} {maps:?} {room}");
        let tiles = plans.iter().filter_map(Plan::tiles).max();
        assert!(tiles.is_some());
        assert_eq!(Event::planned(&plans), Some(Event::Planned { bytes: plans[0].total().0, tiles }));
    }
}

/// Bytes of a run all of whose matrices stay in their files.
fn in_files(plan: &Plan) -> u64 {
    let parts = plan.parts.iter().map(|(part, _)| part.bytes(Share::Nothing).0);
    parts.sum::<u64>() + plan.largest().unwrap().total().0
}

/// Bytes of what is computed in tiles.
fn in_tiles(plan: &Plan) -> u64 {
    let held = plan.largest().unwrap().holds.iter().filter(|held| held.tiles.is_some());
    held.map(|held| held.bytes.0).sum()
}

#[test]
fn each_model_draws_its_part_and_the_text_names_them() {
    let (plain, _) = drawn(&config(None, None));
    let (refined, text) = drawn(&config(Some("sd-2"), None));
    assert_ne!(plain, refined);
    assert!(text.contains("Refiner: model, Refiner switch at: 0.5"), "{text}");
    assert!(!text.contains("Hires"), "{text}");
    // the same model as its own refiner changes nothing, nor does it in the second pass
    assert_eq!(drawn(&config(Some("sd-1"), None)).0, plain);
    let mut second = config(None, Some("sd-1"));
    let (own, text) = drawn(&second);
    assert!(text.contains("Hires checkpoint: model"), "{text}");
    second.hires.checkpoint = None;
    assert_eq!(drawn(&second).0, own);
    assert_ne!(drawn(&config(None, Some("sd-2"))).0, own);
}

#[test]
fn a_model_that_a_job_asks_for_and_nobody_names_is_told_by_its_key() {
    let asking = request(&config(Some("sd-2"), None));
    let refused = Forge::load(&config(None, None)).unwrap().txt2img(asking).err().unwrap();
    assert!(matches!(&refused, Error::Value { key, .. } if key == "refiner.checkpoint"), "{refused}");
}

#[test]
fn a_run_of_two_models_goes_on_with_another_forge() {
    let config = config(Some("sd-2"), Some("sd-1"));
    let mut going = Forge::load(&config).unwrap().txt2img(request(&config)).unwrap();
    let mut snapshots = Vec::new();
    while let Some(event) = going.next() {
        event.unwrap();
        snapshots.push(going.snapshot().unwrap());
    }
    let expected = going.image().unwrap();
    let forge = Forge::load(&config).unwrap();
    for snapshot in snapshots {
        let mut resumed = forge.resume(snapshot).unwrap();
        resumed.by_ref().try_for_each(|event| event.map(drop)).unwrap();
        assert_eq!(resumed.image().unwrap(), expected);
    }
}
