//! Flux's files, opened and loaded as any family's are: by its roles, without a word of what they are.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{Compute, Device, Footprint, WeightSource, safetensors::Safetensors};
use diffusion_engine::{
    Error, Family, Job, Size, Txt2Img,
    family::{Part, Parts, Placement, Settings},
};
use flux::FluxFamily;
use serde_json::json;

const FILES: [(&str, &str); 4] = [("transformer", "transformer"), ("clip", "clip"), ("t5", "t5"), ("vae", "ae")];

fn file(name: &str) -> Arc<dyn WeightSource> {
    Arc::new(Safetensors::open(&fixtures::path(&format!("golden/tiny-dev/{name}.safetensors"))).unwrap())
}

fn parts() -> Vec<Part> {
    FILES
        .map(|(key, name)| {
            Part::of(key, "", file(name), "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
        })
        .to_vec()
}

fn job(side: usize) -> Job {
    Job::of(Txt2Img::of("").size(Size { width: side, height: side })).unwrap()
}

#[test]
fn a_model_is_opened_by_its_headers_and_loaded_as_it_is_placed() {
    let opened = FluxFamily.open(Parts::of("tiny", parts())).unwrap();
    let card = opened.card().clone();
    assert_eq!((&*card.name, card.channels, card.factor, card.size_multiple), ("tiny", 16, 8, 16));
    // the transformer may stay in its file, the encoders do, and the autoencoder does not
    let bytes: Vec<_> =
        opened.bytes().into_iter().map(|bytes| (bytes.part.name, bytes.part.unpacked.0, bytes.part.mapped.0)).collect();
    let expected = [("transformer", 7, 3), ("t5", 3, 3), ("clip", 3, 3), ("vae", 7, 7)];
    assert_eq!(bytes, expected.map(|(key, unpacked, mapped)| (key.to_owned(), unpacked, mapped)));
    assert!(opened.work(&job(32)).most() < opened.work(&job(64)).most());
    assert!(opened.fits(&job(32)).is_ok());
    assert!(matches!(opened.fits(&job(40)), Err(Error::Request { what: "width", .. })));
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    assert_eq!(*opened.load(&placement).unwrap().card(), card);
}

#[test]
fn a_part_that_is_not_there_or_does_not_fit_is_named() {
    for (missing, (key, _)) in FILES.into_iter().enumerate() {
        let mut parts = parts();
        parts.remove(missing);
        let error = FluxFamily.open(Parts::of("tiny", parts)).err().unwrap();
        assert!(matches!(&error, Error::NoPart { key: found } if found == key), "{error}");
    }
    // given a file in another's place, then it is that part's fault
    let mut parts = parts();
    parts[2] = Part::of("t5", "", file("ae"), "");
    let error = FluxFamily.open(Parts::of("tiny", parts.clone())).err().unwrap();
    assert!(matches!(&error, Error::InPart { key, .. } if key == "t5"), "{error}");
    // and so is a value of its config that is of another type
    parts[2] = Part::of("vae", "", file("ae"), "").settings(Settings::of(json!({ "norm_num_groups": "many" })));
    parts.remove(3);
    parts.insert(2, Part::of("t5", "", file("t5"), ""));
    let error = FluxFamily.open(Parts::of("tiny", parts)).err().unwrap();
    assert!(
        matches!(&error, Error::InPart { key, source } if key == "vae" && matches!(**source, Error::Settings { .. }))
    );
}

#[test]
fn every_role_is_taken_by_a_kind_and_every_kind_with_an_id_takes_one() {
    let (roles, kinds) = (FluxFamily.roles(), FluxFamily.kinds());
    for role in &roles {
        for id in &role.takes {
            let mut taking = kinds.iter().filter(|kind| kind.id == *id).peekable();
            assert!(taking.peek().is_some(), "{id}");
            assert!(taking.all(|kind| kind.duty == role.network.duty), "{id}");
        }
    }
    assert_eq!(
        roles.iter().map(|role| &*role.folder).collect::<Vec<_>>(),
        ["transformer", "text_encoder", "text_encoder_2", "vae"]
    );
}
