//! LoRAs merged into a model's file against the same beside the weights, and against the references.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeSet, fs, path::Path};

use core_tensor::{WeightSource, safetensors::Safetensors, values};
use diffusion_engine::Cancel;
use fixtures::{Golden, path, psnr};
use forge::{ComputeChoice, Config, Converted, Error, Fault, Forge, LoraConfig, Recipe, convert, lora};

/// Least peak signal-to-noise ratio of two pictures whose weights differ by rounding, in decibels.
const ROUNDED_DB: f64 = 60.0;
/// The same of a picture of the references.
const PICTURE_DB: f64 = 45.0;

fn merged(input: &Path, output: &Path, target: &str, loras: &[LoraConfig]) -> Result<Converted, Error> {
    let recipe =
        Recipe { target: target.parse().unwrap(), rules: vec![], loras: loras.to_vec(), partly: false, replaces: true };
    convert(input, output, &recipe, &Cancel::default(), |_| ())
}

fn of_file(path: &Path, strength: f32) -> LoraConfig {
    LoraConfig { strength, ..LoraConfig::of_flag(&path.display().to_string()).unwrap() }
}

fn drawn(config: &Config, steps: usize) -> Vec<f32> {
    let mut run = Forge::load(config).unwrap().txt2img(config.request(|| 0).unwrap().steps(steps)).unwrap();
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    values(&run.pixels().unwrap())
}

/// A safetensors file of F32 tensors.
fn write(file: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = bytes.len();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let end = bytes.len();
        entries.push(format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    fs::write(file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat()).unwrap();
}

/// LoRAs of the demo Flux, one of each algorithm, each of two modules; the second is rows of a fused one.
fn of_every_algorithm(folder: &Path) -> Vec<LoraConfig> {
    let adapters = Safetensors::open(&path("golden/lora/formats.adapters.safetensors")).unwrap();
    let cases: BTreeSet<&str> = adapters.manifest().names().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    assert_eq!(cases.len(), 9);
    let of_case = |case: &&str| {
        let mut tensors = Vec::new();
        for (leaf, _) in adapters.manifest().under(&format!("{case}.")) {
            let stored = adapters.read(&format!("{case}.{leaf}")).unwrap();
            for module in ["lora_unet_double_blocks_1_img_attn_proj", "lycoris_transformer_blocks_0_attn_to_k"] {
                tensors.push((format!("{module}.{leaf}"), stored.shape().to_vec(), stored.to_f32().unwrap()));
            }
        }
        let file = folder.join(format!("{case}.safetensors"));
        write(&file, &tensors);
        LoraConfig { dora: Some("paper".into()), ..of_file(&file, 0.75) }
    };
    cases.iter().map(of_case).collect()
}

#[test]
fn a_file_with_loras_of_every_algorithm_in_it_draws_what_they_draw_beside_the_weights() {
    // given the demo model and the stack of all
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::read(&path("../flux.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    let transformer = path("models/flux-demo.safetensors");
    let alone = drawn(&config, 2);
    let loras = of_every_algorithm(folder.path());
    let mut beside = config.clone();
    beside.loras = loras.clone();
    let beside = drawn(&beside, 2);
    let differs = psnr(&alone, &beside);
    assert!(differs < 40.0, "the LoRAs do next to nothing: {differs:.1} dB");
    // when they are merged, in any order
    let output = folder.path().join("merged.safetensors");
    let mut turned = loras.clone();
    turned.reverse();
    for loras in [&loras, &turned] {
        let converted = merged(&transformer, &output, "f32", loras).unwrap();
        assert_eq!(converted.loras.iter().map(|one| (one.matched, one.total)).collect::<Vec<_>>(), [(2, 2); 9]);
        // then the picture is the same but for rounding
        config.model.transformer = Some(output.clone());
        let db = psnr(&drawn(&config, 2), &beside);
        assert!(db >= ROUNDED_DB, "{db:.1} dB");
    }
    // and what no LoRA changes is what it was, to the bit
    let [old, new] = [&transformer, &output].map(|file| Safetensors::open(file).unwrap());
    let same = |name: &&str| old.read(name).unwrap().to_f32() == new.read(name).unwrap().to_f32();
    let changed: Vec<&str> = old.manifest().names().filter(|name| !same(name)).collect();
    assert_eq!(changed, ["double_blocks.0.img_attn.qkv.weight", "double_blocks.1.img_attn.proj.weight"]);
}

#[test]
fn a_checkpoint_keeps_its_layout_and_draws_what_the_references_draw() {
    // given models whose text encoders come in Hugging Face's and in OpenCLIP's layout, and LoRAs of all of their networks
    for case in ["sd-1", "sd-xl"] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::read(&path(&format!("golden/{case}/case.toml"))).unwrap();
        config.device.compute = ComputeChoice::F32;
        let model = path(&format!("golden/{case}/model.safetensors"));
        let lora = folder.path().join("all.safetensors");
        fs::copy(path(&format!("golden/lora/{case}.picture.safetensors")), &lora).unwrap();
        // when one is merged, and another with none of it counting in the text encoders
        let output = folder.path().join("merged.safetensors");
        let converted = merged(&model, &output, "f32", &[of_file(&lora, 1.0)]).unwrap();
        assert_eq!(converted.loras[0].unmatched, [], "{case}");
        let half = folder.path().join("half.safetensors");
        merged(&model, &half, "f32", &[LoraConfig { text: Some(0.0), ..of_file(&lora, 1.0) }]).unwrap();
        // then the picture is the reference's
        config.model.checkpoint = Some(output.clone());
        let steps = config.request(|| 0).unwrap().pass.steps;
        let expected = Golden::open(&format!("lora/{case}.picture.expected.safetensors")).floats("image");
        let db = psnr(&drawn(&config, steps), &expected);
        assert!(db >= PICTURE_DB, "{case}: {db:.1} dB from the reference's");
        // and the names are those of the checkpoint
        let [old, new, half] = [&model, &output, &half].map(|file| Safetensors::open(file).unwrap());
        assert_eq!(
            old.manifest().names().collect::<BTreeSet<_>>(),
            new.manifest().names().collect::<BTreeSet<_>>(),
            "{case}"
        );
        let is_text = |name: &&str| name.starts_with("cond") || name.contains("embedders");
        let changed = |of: &Safetensors| -> [usize; 2] {
            let is = |name: &&str| old.read(name).unwrap().to_f32() != of.read(name).unwrap().to_f32();
            let all: Vec<&str> = old.manifest().names().filter(is).collect();
            [all.iter().filter(|name| is_text(name)).count(), all.iter().filter(|name| !is_text(name)).count()]
        };
        let ([text, unet], [none, same]) = (changed(&new), changed(&half));
        assert!(text > 0 && unet > 0 && none == 0 && same == unet, "{case}: {text} {unet} {none} {same}");
    }
}

#[test]
fn what_can_not_be_merged_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("merged.safetensors");
    let flux = path("golden/tiny-dev/transformer.safetensors");
    let [style, other] = ["flux.lora", "sd1.lora"].map(|name| path(&format!("golden/lora/{name}.safetensors")));
    let refused = |input: &Path, lora: LoraConfig| {
        let error = merged(input, &output, "f32", &[lora]).unwrap_err();
        assert!(!output.exists(), "{error}");
        error
    };
    assert!(matches!(refused(&flux, of_file(&other, 1.0)), Error::Lora(lora::Error::NothingFits { .. })));
    let named = refused(&flux, LoraConfig { path: "style".into(), ..of_file(&style, 1.0) });
    assert_eq!((named.fault(), named.to_string().contains("`style`")), (Fault::Usage, true));
    let stepped = refused(&flux, LoraConfig { steps: Some([1, 2]), ..of_file(&style, 1.0) });
    assert_eq!(stepped.fault(), Fault::Usage);
    assert_eq!(refused(&path("golden/tiny-dev/ae.safetensors"), of_file(&style, 1.0)).fault(), Fault::Model);
    assert_eq!(refused(&style, of_file(&style, 1.0)).fault(), Fault::Model);
    // One that changes more than the model has, and one that brings words.
    let file = Safetensors::open(&style).unwrap();
    let tensors: Vec<_> = file.manifest().iter().map(|(name, form)| (name.to_owned(), form.shape.to_vec())).collect();
    let with = |more: &str, shape: Vec<usize>| {
        let own = tensors.iter().map(|(name, shape)| (name.clone(), shape.clone()));
        let all = own.chain([(more.to_owned(), shape)]);
        let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
        let lora = folder.path().join("more.safetensors");
        write(&lora, &all.map(|(name, shape)| (name, shape.clone(), zeros(&shape))).collect::<Vec<_>>());
        of_file(&lora, 1.0)
    };
    let more = with("lora_unet_double_blocks_99_img_mod_lin.diff", vec![384, 64]);
    assert!(matches!(refused(&flux, more.clone()), Error::Lora(lora::Error::Partial { .. })));
    let recipe = |loras| Recipe { target: "f32".parse().unwrap(), rules: vec![], loras, partly: true, replaces: true };
    let partly = convert(&flux, &output, &recipe(vec![more]), &Cancel::default(), |_| ()).unwrap();
    assert_eq!(partly.loras[0].unmatched.len(), 1);
    fs::remove_file(&output).unwrap();
    let words = refused(&flux, with("bundle_emb.qualm.string_to_param.*", vec![1, 64]));
    assert!(words.to_string().contains("qualm"), "{words}");
    // Nothing that is read is written over.
    let copy = folder.path().join("copy.safetensors");
    fs::copy(&style, &copy).unwrap();
    let over = merged(&flux, &copy, "f32", &[of_file(&copy, 1.0)]).unwrap_err();
    assert!(matches!(over, Error::Overwrites { what: "a LoRA", .. }), "{over}");
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&style).unwrap());
}
