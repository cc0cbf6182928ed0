//! The command against the reference pipelines: from words to pixels, whatever way the model is stored.

mod tiny;

use std::{collections::BTreeSet, fs};

use fixtures::{Golden, PICTURE_DB, SIGMA, deviation, psnr};
use forge::core_tensor::{
    WeightSource,
    safetensors::{Safetensors, Values, write},
};

use crate::tiny::{Entry, ROLES, Tensors, Tiny, golden};

#[test]
fn tiny_dev_is_the_reference_pipeline_from_words_to_pixels() {
    let tiny = Tiny::of("tiny-dev");
    agrees(&tiny, &[], "tiny-dev");
}

#[test]
fn tiny_schnell_is_the_reference_pipeline_for_two_pictures_at_once() {
    let tiny = Tiny::of("tiny-schnell");
    agrees(&tiny, &[], "tiny-schnell");
    assert_eq!(tiny.drawn().len(), 2);
}

#[test]
fn a_transformer_and_a_t5_in_gguf_are_the_reference_pipeline_with_their_values() {
    agrees(&Tiny::of("tiny-gguf"), &[], "tiny-gguf");
}

#[test]
fn a_transformer_in_nf4_a_clip_in_int8_and_a_t5_in_fp8_are_the_reference_pipeline_with_their_values() {
    agrees(&Tiny::of("tiny-bnb"), &[], "tiny-bnb");
}

#[test]
fn noise_from_a_file_stands_for_the_seed() {
    for case in ["tiny-dev", "tiny-schnell"] {
        // given the reference's noise, and a seed that makes another
        let tiny = Tiny::of(case);
        let expected = Golden::open(&format!("{case}/expected.safetensors"));
        let noise = ("noise".into(), expected.shape("noise"), Values::F32(expected.floats("noise")));
        write(&mut fs::File::create(tiny.path("noise.safetensors")).unwrap(), &[noise]).unwrap();
        // when the picture is drawn, then it is the reference's
        agrees(&tiny, &["--noise", "noise.safetensors", "--seed", "999"], case);
    }
}

#[test]
fn a_folder_of_diffusers_with_shards_is_the_same_model() {
    // given the folder, complete
    let tiny = Tiny::of("tiny-dev");
    let folder = golden("tiny-diffusers");
    for part in ["transformer", "vae", "text_encoder", "text_encoder_2"] {
        for file in fs::read_dir(folder.join(part)).unwrap() {
            let file = file.unwrap().path();
            let name = format!("flux/{part}/{}", file.file_name().unwrap().to_str().unwrap());
            tiny.write(&name, fs::read(&file).unwrap());
        }
    }
    tiny.write("flux/text_encoder/model.safetensors", fs::read(golden("tiny-dev/clip.safetensors")).unwrap());
    tiny.write("flux/text_encoder_2/model.safetensors", fs::read(golden("tiny-dev/t5.safetensors")).unwrap());
    // when it is drawn with, then it is tiny-dev
    agrees(&tiny, &["--folder", "flux"], "tiny-dev");
    // and the picture says so
    let picture = tiny.picture();
    assert!(tiny.forge(&["info", picture.to_str().unwrap()]).done().out.contains("Model: flux,"));
}

#[test]
fn names_under_the_prefixes_of_all_in_one_files_are_the_same_model() {
    let prefixes = [
        ("transformer", "model.diffusion_model."),
        ("clip", "text_encoders.clip_l.transformer."),
        ("t5", "text_encoders.t5xxl.transformer."),
        ("vae", "first_stage_model."),
    ];
    let tiny = prefixes.into_iter().fold(Tiny::of("tiny-dev"), |tiny, (role, prefix)| {
        let file = Tensors::of(&tiny.role(role)).renamed(|name| format!("{prefix}{name}"));
        let file = tiny.write(&format!("{role}.safetensors"), file.bytes());
        tiny.with(role, &file)
    });
    agrees(&tiny, &[], "tiny-dev");
}

#[test]
fn matrices_that_stay_in_their_files_draw_the_same_picture() {
    // given the least memory that will do, which leaves no room for an unpacked transformer
    let tiny = Tiny::of("tiny-dev");
    let refused = tiny
        .txt2img(&["--memory", "1", "--dump", "dump.safetensors"])
        .refused(3, &["the model needs", "hint: set `memory"]);
    let (_, least) = refused.err.split_once("memory = \"").unwrap();
    let (least, _) = least.split_once('"').unwrap();
    let slack = least.parse::<forge::memory::Bytes>().unwrap().0 / 100;
    assert!(Tensors::of(&tiny.role("transformer")).0.iter().map(values).sum::<u64>() * 2 > slack);
    // when the picture is drawn under it, then it is the reference's
    agrees(&tiny, &["--memory", least], "tiny-dev");
}

#[test]
fn half_precisions_and_full_are_one_model_where_the_values_are() {
    // given every file's values in F32
    let tiny = ROLES.into_iter().fold(Tiny::of("tiny-schnell"), |tiny, role| {
        let file = forge::core_tensor::safetensors::Safetensors::open(&tiny.role(role)).unwrap();
        let widened = |name: &str| {
            let stored = file.read(name).unwrap();
            (name.to_owned(), stored.shape().to_vec(), Values::F32(stored.to_f32().unwrap()))
        };
        let tensors: Vec<_> = file.manifest().names().map(widened).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &tensors).unwrap();
        let path = tiny.write(&format!("{role}.safetensors"), bytes);
        tiny.with(role, &path)
    });
    // when the picture is drawn, then it is the reference's
    agrees(&tiny, &[], "tiny-schnell");
}

fn values(entry: &Entry) -> u64 {
    entry.shape.iter().product()
}

/// Draws the picture of a case and compares every stage of it.
fn agrees(tiny: &Tiny, args: &[&str], case: &str) {
    tiny.txt2img(&[args, &["--dump", "dump.safetensors"]].concat()).done();
    let expected = Golden::open(&format!("{case}/expected.safetensors"));
    let dump = Safetensors::open(&tiny.path("dump.safetensors")).expect("the run wrote it");

    // The layers' own outputs are compared where the layers are tested.
    let inside = ["clip.embeddings", "clip.layers.", "t5.block.", "transformer.", "vae."];
    let stages: BTreeSet<_> =
        expected.names().into_iter().filter(|name| !inside.iter().any(|layer| name.starts_with(layer))).collect();
    assert_eq!(dump.manifest().names().map(str::to_owned).collect::<BTreeSet<_>>(), stages);

    for name in &stages {
        let stored = dump.read(name).expect("its name was listed");
        assert_eq!(stored.shape(), expected.shape(name), "{name}");
        let floats = || stored.to_f32().expect("a dump is made of floats and ids");
        match name.as_str() {
            ids if ids.ends_with(".ids") => {
                let id = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("chunks of eight")) as usize;
                let found: Vec<usize> = stored.to_bytes().chunks_exact(8).map(id).collect();
                assert_eq!(found, expected.ids(name), "{name}");
            }
            "noise" => assert_eq!(bits(&floats()), bits(&expected.floats(name)), "{name}"),
            "sigmas" => assert!(deviation(&floats(), &expected.floats(name)) <= SIGMA, "{name}"),
            "image" => {
                let db = psnr(&floats(), &expected.floats(name));
                assert!(db >= PICTURE_DB, "the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
            }
            stage => expected.assert_stage(stage, &floats()),
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
