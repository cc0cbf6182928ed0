//! What the scheduler of a model's folder says of noise levels, against diffusers'.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeMap, fs, sync::Arc};

use core_tensor::{Compute, Device, Footprint, WeightSource, safetensors::Safetensors};
use diffusion_engine::{
    Catalog, Error, Family, Job, OpenedModel, Size, Txt2Img,
    family::{Part, Parts, Placement, Settings},
};
use fixtures::SIGMA;
use flux::FluxFamily;
use samplers::{Options, SigmaSpace};
use serde_json::{Value, json};

/// The model of a case, by what its scheduler's config says.
fn opened(case: &str, scheduler: Option<Value>) -> Result<Box<dyn OpenedModel>, Error> {
    let part = |(key, case, name): (&str, &str, &str)| {
        let path = fixtures::path(&format!("golden/{case}/{name}.safetensors"));
        let file: Arc<dyn WeightSource> = Arc::new(Safetensors::open(&path).unwrap());
        Part::of(key, "", file, "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
    };
    let files = [
        ("transformer", case, "transformer"),
        ("clip", "tiny-dev", "clip"),
        ("t5", "tiny-dev", "t5"),
        ("vae", "tiny-dev", "ae"),
    ];
    let parts = Parts::of("tiny", files.map(part));
    FluxFamily.open(match scheduler {
        Some(json) => parts.scheduler(Settings::of(json)),
        None => parts,
    })
}

/// The noise levels that a model has for a picture, by profile.
fn space(case: &str, scheduler: Option<&Value>, profile: &str, size: Size) -> SigmaSpace {
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    let model = opened(case, scheduler.cloned()).unwrap().load(&placement).unwrap();
    let profile = Catalog::builtin().profile(profile).unwrap();
    model.sigma_space(&Txt2Img::of("").size(size).with(|pass| pass.profile = profile).pass)
}

fn golden() -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(fixtures::path("golden/flux_schedulers.json")).unwrap()).unwrap()
}

#[test]
fn what_a_folders_scheduler_says_counts_whatever_the_transformer_is() {
    let schedule = flux::register(Catalog::builtin()).unwrap().schedule("flux").unwrap();
    let mut compared = 0;
    for case in golden() {
        for levels in case["levels"].as_array().unwrap() {
            let side = |key: &str| levels[key].as_u64().unwrap() as usize;
            let size = Size { width: side("width"), height: side("height") };
            let expected: Vec<f64> = serde_json::from_value(levels["sigmas"].clone()).unwrap();
            for transformer in ["tiny-dev", "tiny-schnell"] {
                let space = space(transformer, Some(&case["scheduler"]), "diffusers", size);
                let found = schedule.sigmas(&space, expected.len() - 1, &Options::default()).unwrap();
                let is_near =
                    |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() <= SIGMA * expected;
                assert!(
                    found.len() == expected.len() && found.iter().zip(&expected).all(is_near),
                    "{} {transformer} {size:?}: {found:?}, expected {expected:?}",
                    case["name"]
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 90);
}

#[test]
fn the_published_folders_have_the_levels_that_the_files_alone_have() {
    let scheduler = |name: &str| golden().into_iter().find(|case| case["name"] == name).unwrap()["scheduler"].clone();
    for profile in ["forge", "a1111", "comfy", "diffusers", "bfl"] {
        for (case, name) in [("tiny-dev", "dev"), ("tiny-schnell", "schnell")] {
            for size in [Size { width: 64, height: 96 }, Size { width: 1360, height: 768 }] {
                let alone = space(case, None, profile, size);
                assert_eq!(space(case, Some(&scheduler(name)), profile, size), alone, "{case} {profile}");
            }
        }
    }
}

#[test]
fn levels_that_are_not_made_here_are_refused_before_anything_is_loaded() {
    let refused = |json: Value| opened("tiny-dev", Some(json)).err().unwrap();
    assert!(matches!(refused(json!({"shift_terminal": 0.1})), Error::Model { .. }));
    assert!(matches!(refused(json!({"shift": "3"})), Error::Settings { .. }));
    // and a line that is at or below 0 for a picture, where that is asked for
    let linear = json!({"use_dynamic_shifting": true, "time_shift_type": "linear", "base_shift": 0.05});
    let opened = opened("tiny-dev", Some(linear)).unwrap();
    let fits = |side| opened.fits(&Job::of(Txt2Img::of("").size(Size { width: side, height: side })).unwrap());
    assert!(fits(256).is_ok());
    assert!(matches!(fits(64), Err(Error::Model { .. })));
}
