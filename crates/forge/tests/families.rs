//! Which family a config's model is of, where its parts are taken from, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use diffusion_engine::{
    Error as EngineError, OpenedModel,
    family::{Duty, Kind, Network, Parts, Role},
};
use forge::{
    ComputeChoice, Config, Error, Families, Family, Fault, Forge, Job, Size, Txt2Img,
    core_tensor::{
        Layout, WeightSource,
        safetensors::{Safetensors, Values, write},
        values,
    },
    diffusion_engine::{self, write_whole},
    flux::FluxFamily,
};

const KEYS: [&str; 4] = ["transformer", "clip", "t5", "vae"];
const QKV: &str = "double_blocks.0.img_attn.qkv.weight";

/// The files of `tiny-dev`, by their keys.
fn golden(key: &str) -> PathBuf {
    let name = if key == "vae" { "ae" } else { key };
    fixtures::path(&format!("golden/tiny-dev/{name}.safetensors"))
}

/// A config of these files in f32.
fn config(files: &[(&str, &Path)]) -> Config {
    let mut config = Config::default();
    config.device.compute = ComputeChoice::F32;
    let model = &mut config.model;
    for (key, path) in files {
        let place = match *key {
            "checkpoint" => &mut model.checkpoint,
            "folder" => &mut model.folder,
            "transformer" => &mut model.transformer,
            "unet" => &mut model.unet,
            "clip" => &mut model.clip,
            "clip_g" => &mut model.clip_g,
            "t5" => &mut model.t5,
            "vae" => &mut model.vae,
            other => panic!("there is no key `{other}`"),
        };
        *place = Some((*path).to_owned());
    }
    config
}

/// A file of the tensors of these parts, each under its key.
fn together(folder: &Path, name: &str, keys: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let mut tensors = Vec::new();
    for key in keys {
        let file = Safetensors::open(&golden(key)).unwrap();
        for name in file.manifest().names() {
            let stored = file.read(name).unwrap();
            tensors.push((format!("{key}.{name}"), stored.shape().to_vec(), Values::F32(stored.to_f32().unwrap())));
        }
    }
    write_whole(&path, |out| write(out, &tensors)).unwrap();
    path
}

/// A file of such tensors, all zeros.
fn zeros(folder: &Path, name: &str, tensors: &[(&str, &[usize])]) -> PathBuf {
    let path = folder.join(name);
    let zeros = |(name, shape): &(&str, &[usize])| {
        ((*name).to_owned(), shape.to_vec(), Values::F32(vec![0.0; shape.iter().product()]))
    };
    write_whole(&path, |out| write(out, &tensors.iter().map(zeros).collect::<Vec<_>>())).unwrap();
    path
}

fn pixels(forge: &Forge) -> Vec<f32> {
    let request = Txt2Img::of("a cat").steps(1).size(Size { width: 32, height: 32 });
    let mut run = forge.txt2img(request).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    values(&run.pixels().unwrap())
}

/// An error with its causes.
fn told(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn refused(families: &Families, config: &Config) -> String {
    told(&Forge::load_with(families, config).err().unwrap())
}

/// Flux and no other family.
fn flux() -> Families {
    Families::empty().with(FluxFamily)
}

/// A family that tells only that it was chosen.
struct Own {
    marks: Vec<&'static str>,
    keys: Vec<&'static str>,
}

impl Own {
    fn of(marks: &[&'static str]) -> Self {
        Self { marks: marks.to_vec(), keys: vec!["transformer"] }
    }
}

impl Family for Own {
    fn id(&self) -> &str {
        "own"
    }

    fn name(&self) -> &str {
        "Own"
    }

    fn roles(&self) -> Vec<Role> {
        let of = |key: &&'static str| {
            let (duty, kind) = match *key {
                "clip" => (Duty::CLIP, "clip"),
                "t5" => (Duty::T5, "t5"),
                "vae" => (Duty::AUTOENCODER, "autoencoder"),
                _ => (Duty::DENOISER, "own"),
            };
            let network = Network::of(duty, "x", |_, _| Ok(Layout::default()));
            Role::of(*key, format!("an own {key}"), network).takes([kind])
        };
        self.keys.iter().map(of).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of(Duty::DENOISER, "an own transformer", &self.marks).id("own")]
    }

    fn open(&self, parts: Parts) -> Result<Box<dyn OpenedModel>, EngineError> {
        Err(EngineError::Model { what: "the family", expected: "another".into(), found: format!("own: {parts:?}") })
    }
}

#[test]
fn a_checkpoint_is_its_parts_and_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let all = together(folder.path(), "all.safetensors", &KEYS);
    let checkpoint = Forge::load(&config(&[("checkpoint", &all)])).unwrap();
    let four = Forge::load(&config(&KEYS.map(|key| (key, &*all)))).unwrap();
    assert_eq!((checkpoint.name(), checkpoint.notes()), ("all", &[][..]));
    let job = || Job::of(Txt2Img::of("").size(Size { width: 32, height: 32 })).unwrap();
    assert_eq!(checkpoint.plan(&job()).unwrap(), four.plan(&job()).unwrap());
    assert!(pixels(&checkpoint) == pixels(&four));
}

#[test]
fn a_parts_own_key_goes_before_the_checkpoint_and_that_before_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let all = together(folder.path(), "all.safetensors", &KEYS);
    let without = together(folder.path(), "without.safetensors", &["transformer", "clip", "vae"]);
    let broken = folder.path().join("broken.safetensors");
    fs::write(&broken, "nothing").unwrap();
    let whole = fixtures::path("golden/tiny-diffusers");
    for key in KEYS {
        // given a part that is broken, then it is that one which is refused
        let text = refused(&Families::builtin(), &config(&[("checkpoint", &all), (key, &broken)]));
        assert!(text.contains("broken.safetensors"), "{text}");
        // and what the folder has of it is not looked at
        Forge::load(&config(&[("checkpoint", &all), ("folder", &broken), (key, &golden(key))])).unwrap();
    }
    // given a checkpoint that lacks a part, then the part is named, and what could bring it
    let text = refused(&Families::builtin(), &config(&[("checkpoint", &without)]));
    for word in ["without.safetensors", "lacks a T5 encoder", "`model.t5`", "`model.folder`"] {
        assert!(text.contains(word), "{text}");
    }
    let expected = pixels(&Forge::load(&config(&KEYS.map(|key| (key, &*all)))).unwrap());
    let own = Forge::load(&config(&[("checkpoint", &without), ("t5", &all)])).unwrap();
    assert!(pixels(&own) == expected);
    // and a folder brings it too
    let t5 = folder.path().join("model/text_encoder_2");
    fs::create_dir_all(&t5).unwrap();
    fs::copy(golden("t5"), t5.join("model.safetensors")).unwrap();
    let model = folder.path().join("model");
    assert!(pixels(&Forge::load(&config(&[("checkpoint", &without), ("folder", &model)])).unwrap()) == expected);
    // and whose pipeline a folder is of counts where what denoises is the folder's
    assert!(whole.join("model_index.json").exists());
    fs::write(model.join("model_index.json"), r#"{"_class_name": "OtherPipeline"}"#).unwrap();
    assert!(Forge::load(&config(&[("checkpoint", &without), ("folder", &model)])).is_ok());
    let text = refused(&Families::builtin(), &config(&[("folder", &model)]));
    assert!(text.contains("is of a `OtherPipeline`, expected `FluxPipeline`"), "{text}");
}

#[test]
fn parts_of_two_families_are_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = KEYS.map(|key| (key, golden(key))).to_vec();
    let with = |key: &str, path: &Path| {
        let mut files: Vec<_> = files.iter().map(|(key, path)| (*key, path.as_path())).collect();
        files.retain(|(other, _)| *other != key);
        files.push((key, path));
        config(&files)
    };
    // given another family's autoencoder beside a transformer, then both are named
    let vae = zeros(folder.path(), "sd.safetensors", &[("decoder.conv_in.weight", &[8, 4, 3, 3])]);
    let text = refused(&Families::builtin(), &with("vae", &vae));
    assert!(text.contains("Stable Diffusion") && text.contains("4 channels") && text.contains("16 channels"), "{text}");
    // given a part that no family has, then it is named
    let unet = zeros(
        folder.path(),
        "unet.safetensors",
        &[("input_blocks.0.0.weight", &[320, 4, 3, 3]), ("label_emb.0.0.weight", &[2, 2])],
    );
    let text = refused(&flux(), &with("unet", &unet));
    assert!(text.contains("`model.unet` names an SDXL UNet, and no model that can be run has such a part"), "{text}");
    // given parts that are of one family each, then both are named
    let families = flux().with(Own { keys: vec!["unet"], ..Own::of(&["own.weight"]) });
    let error = Forge::load_with(&families, &with("unet", &unet)).err().unwrap();
    assert!(matches!(error, Error::PartsOfSeveral { .. }) && error.fault() == Fault::Usage, "{error}");
    for word in ["`model.transformer` is of Flux", "`model.unet` is of Own"] {
        assert!(told(&error).contains(word), "{error}");
    }
}

#[test]
fn what_no_family_has_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let wan = zeros(folder.path(), "wan.safetensors", &[("model.diffusion_model.head.modulation", &[1, 2, 8])]);
    for key in ["checkpoint", "transformer"] {
        let mut files = KEYS.map(|key| (key, golden(key)));
        files[0] = (key, wan.clone());
        let files: Vec<_> = files.iter().map(|(key, path)| (*key, path.as_path())).collect();
        let text = refused(&flux(), &config(&files));
        assert!(text.contains("this is a Wan video transformer, expected a Flux transformer"), "{text}");
        // and with more families it is told what any of them would take
        let text = refused(&flux().with(Own::of(&["own.weight"])), &config(&files[..1]));
        assert!(text.contains("expected an own transformer"), "{text}");
    }
    let nothing = Forge::load_with(&flux(), &Config::default()).err().unwrap();
    assert!(matches!(&nothing, Error::NoModel { key } if key == "transformer"), "{nothing}");
}

#[test]
fn the_most_specific_word_wins_and_of_equals_the_first() {
    let files: Vec<_> = KEYS.map(|key| (key, golden(key))).to_vec();
    let files: Vec<_> = files.iter().map(|(key, path)| (*key, path.as_path())).collect();
    let chosen = |family: Own, files: &[(&str, &Path)]| match Forge::load_with(&flux().with(family), &config(files)) {
        Ok(forge) => forge.name().to_owned(),
        Err(Error::Run(EngineError::Model { found, .. })) => found[..3].to_owned(),
        Err(error) => told(&error),
    };
    let whole = |marks: &[&'static str]| Own { keys: KEYS.to_vec(), ..Own::of(marks) };
    assert_eq!(chosen(whole(&[QKV, "img_in.weight"]), &files), "own");
    assert_eq!(chosen(whole(&[QKV]), &files), "own");
    assert_eq!(chosen(whole(&[QKV, "no.such.weight"]), &files), "transformer");
    // one whose needed parts are not there is not chosen, whatever its word
    let mut lacking = whole(&[QKV, "img_in.weight"]);
    lacking.keys.push("unet");
    assert_eq!(chosen(lacking, &files), "transformer");
    // nor is one that has no place for a part that is there, and it takes what is enough for it alone
    let few = || Own::of(&[QKV, "img_in.weight"]);
    assert_eq!(chosen(few(), &files), "transformer");
    assert_eq!(chosen(few(), &files[..1]), "own");
    // what can't be used stays so, whoever knows less of it
    let folder = tempfile::tempdir().unwrap();
    let chroma =
        zeros(folder.path(), "chroma.safetensors", &[(QKV, &[6, 2]), ("distilled_guidance_layer.norms.0.scale", &[2])]);
    assert!(chosen(few(), &[("transformer", &chroma)]).contains("a Chroma transformer"));
    let own = Own::of(&["distilled_guidance_layer.norms.0.scale"]);
    assert_eq!(chosen(own, &[("transformer", &chroma)]), "own");
    // and a family may take the place of another
    let families = flux().with(FluxFamily);
    assert_eq!(families.iter().map(|family| family.id()).collect::<Vec<_>>(), ["flux"]);
    assert!(Forge::load_with(&families, &config(&files)).is_ok());
}

#[test]
fn an_own_family_is_told_by_inspection_too() {
    let folder = tempfile::tempdir().unwrap();
    let own = zeros(folder.path(), "own.safetensors", &[("net.own.weight", &[2, 2])]);
    let before = forge::inspect(&own).unwrap();
    assert_eq!((before.parts.len(), &*before.role), (0, "an unknown model"));
    let families = Families::builtin().with(Own::of(&["own.weight"]));
    let after = forge::inspect_with(&families, &own).unwrap();
    assert_eq!((&*after.role, &*after.parts[0].prefix, after.parts[0].usable), ("an own transformer", "net.", true));
    let text = refused(&families, &config(&[("checkpoint", &own)]));
    assert!(text.contains("own: "), "{text}");
    assert!(refused(&Families::builtin(), &config(&[("checkpoint", &own)])).contains("an unknown model"));
}
