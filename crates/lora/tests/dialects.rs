//! Whatever program named a LoRA's modules, they are found in the layouts of real models, and what is wrong with a file is told.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod source;

use std::{path::PathBuf, sync::Arc};

use core_tensor::{Device, Format, Kind, Residency, Stored, WeightSource, Weights, safetensors::Safetensors};
use diffusion_engine::{
    Family,
    family::{Settings, Spelling},
};
use fixtures::Listed;
use flux::FluxFamily;
use lora::{Dora, Error, LoraFile, Misfit, Target};
use stable_diffusion::StableDiffusionFamily;

use source::Memory;

/// A part of a model by a list of the tensors of a real file, in which it stands under a prefix.
fn target(family: &dyn Family, part: &str, list: &str, prefix: &str) -> Target {
    let role = family.roles().into_iter().find(|role| role.key == part).unwrap();
    let source: Arc<dyn WeightSource> = Arc::new(Listed::open(list));
    let w = Weights::of(&*source, &Device::flex(), Residency::Mapped);
    let w = if prefix.is_empty() { w } else { w.at(prefix) };
    let w = w.before(&role.network.mark);
    let layout = role.network.layout(&w, &Settings::default()).unwrap();
    let spellings = role.network.spellings_of(&layout);
    Target { part: part.into(), duty: role.network.duty, root: w.prefix(), layout, spellings, source: source.clone() }
}

fn flux() -> Vec<Target> {
    vec![
        target(&FluxFamily, "transformer", "flux1-dev.bfl", ""),
        target(&FluxFamily, "clip", "clip-l.flux.hf", ""),
        target(&FluxFamily, "t5", "t5xxl-encoder.hf", ""),
    ]
}

fn sd1() -> Vec<Target> {
    vec![
        target(&StableDiffusionFamily, "unet", "sd15.ldm", "model.diffusion_model"),
        target(&StableDiffusionFamily, "clip", "sd15.ldm", "cond_stage_model.transformer"),
    ]
}

fn sdxl() -> Vec<Target> {
    vec![
        target(&StableDiffusionFamily, "unet", "sdxl-base.ldm", "model.diffusion_model"),
        target(&StableDiffusionFamily, "clip", "clip-l.sd15.hf", ""),
        target(&StableDiffusionFamily, "clip_g", "clip-g.sdxl.hf", ""),
    ]
}

/// The matrices of a target, by their modules and their outputs and inputs.
fn matrices(target: &Target) -> Vec<(String, [usize; 2])> {
    let is = |kind: &Kind| matches!(kind, Kind::Matrix { .. });
    let needs = target.layout.needs().iter().filter(|need| is(&need.kind));
    needs.map(|need| (need.name.strip_suffix(".weight").unwrap().to_owned(), [need.shape[0], need.shape[1]])).collect()
}

/// The same by the names that a spelling gives them, of those that it takes.
fn spelled(target: &Target, takes: impl Fn(&Spelling) -> bool) -> Vec<(String, [usize; 2])> {
    let all = matrices(target);
    let shape = |spelling: &Spelling| {
        let (_, [out, d_in]) = all.iter().find(|(name, _)| *name == spelling.spans[0].module)?;
        let rows: Option<usize> =
            spelling.spans.iter().map(|span| span.rows.as_ref().map(ExactSizeIterator::len)).sum();
        Some((spelling.name.clone(), [rows.unwrap_or(*out), *d_in]))
    };
    target.spellings.iter().filter(|spelling| takes(spelling)).filter_map(shape).collect()
}

/// A LoRA of rank 1 of these modules under names that `named` makes of theirs and of `down` and `up`.
fn lora(modules: &[(String, [usize; 2])], named: impl Fn(&str, bool) -> String) -> LoraFile {
    let tensors = modules.iter().flat_map(|(name, [out, d_in])| {
        let zeros = |shape: Vec<usize>| {
            Stored::of_bytes(Format::F16, shape.clone(), vec![0; 2 * shape.iter().product::<usize>()]).unwrap()
        };
        [(named(name, true), zeros(vec![1, *d_in])), (named(name, false), zeros(vec![*out, 1]))]
    });
    LoraFile::read(&Memory::of(tensors)).unwrap()
}

/// What makes a tensor's name of a module's and of whether it is `down` or `up`.
type Named = Box<dyn Fn(&str, bool) -> String>;

fn kohya(prefix: &'static str) -> Named {
    Box::new(move |name, down| {
        format!("{prefix}{}.{}.weight", name.replace('.', "_"), if down { "lora_down" } else { "lora_up" })
    })
}

fn peft(prefix: &'static str) -> Named {
    Box::new(move |name, down| format!("{prefix}{name}.{}.weight", if down { "lora_A" } else { "lora_B" }))
}

/// All of a file finds its place; how many branches each target gets.
fn whole(file: &LoraFile, targets: &[Target]) -> Vec<usize> {
    let fitted = file.fitted("the model", targets, Dora::default()).unwrap();
    assert_eq!(fitted.report.unmatched, []);
    assert_eq!(fitted.report.matched, file.modules());
    (0..targets.len()).map(|target| fitted.branches(target).count()).collect()
}

fn is_diffusers(spelling: &Spelling) -> bool {
    !spelling.name.contains("processor") && !spelling.name.contains(':')
}

#[test]
fn every_dialect_of_flux_finds_every_matrix() {
    let targets = flux();
    let (own, theirs) = (matrices(&targets[0]), spelled(&targets[0], is_diffusers));
    assert_eq!((own.len(), theirs.len()), (314, 504 + 38));
    // kohya and ComfyUI name what BFL names
    for named in [kohya("lora_unet_"), kohya("lycoris_"), kohya("")] {
        assert_eq!(whole(&lora(&own, named), &targets), [314, 0, 0]);
    }
    for named in [peft("diffusion_model."), peft("model.diffusion_model."), peft("base_model.model."), peft("")] {
        assert_eq!(whole(&lora(&own, named), &targets), [314, 0, 0]);
    }
    // diffusers and those who train with it name parts of these; the halves of the last modulation are two
    for named in [peft("transformer."), peft("base_model.model.transformer."), peft("base_model.model."), peft("")] {
        assert_eq!(whole(&lora(&theirs, named), &targets), [theirs.len() + 1, 0, 0]);
    }
    for named in [kohya("lora_transformer_"), kohya("lycoris_")] {
        assert_eq!(whole(&lora(&theirs, named), &targets), [theirs.len() + 1, 0, 0]);
    }
    // XLabs has a name of its own for some
    let xlabs = spelled(&targets[0], |spelling| spelling.name.contains(".processor."));
    let named = |name: &str, down: bool| format!("{name}.{}.weight", if down { "down" } else { "up" });
    assert_eq!(whole(&lora(&xlabs, named), &targets), [19 * 4 + 38 * 2, 0, 0]);
    // and text encoders have theirs
    let (clip, t5) = (matrices(&targets[1]), matrices(&targets[2]));
    assert_eq!(whole(&lora(&clip, kohya("lora_te1_text_model_")), &targets), [0, 72, 0]);
    assert_eq!(whole(&lora(&clip, peft("text_encoder.text_model.")), &targets), [0, 72, 0]);
    for named in [kohya("lora_te3_"), kohya("lora_te2_"), kohya("lora_te1_"), named_peft("text_encoder_2.")] {
        assert_eq!(whole(&lora(&t5, named), &targets), [0, 0, 24 * 7]);
    }
}

/// With the adapter's own name, as PEFT saves it.
fn named_peft(prefix: &'static str) -> Named {
    Box::new(move |name, down| format!("{prefix}{name}.{}.default.weight", if down { "lora_A" } else { "lora_B" }))
}

#[test]
fn every_dialect_of_stable_diffusion_finds_every_matrix() {
    for targets in [sd1(), sdxl()] {
        let own = matrices(&targets[0]);
        let theirs = spelled(&targets[0], is_diffusers);
        assert_eq!(own.len(), theirs.len());
        for file in [
            lora(&own, kohya("lora_unet_")),
            lora(&theirs, kohya("lora_unet_")),
            lora(&theirs, kohya("lycoris_")),
            lora(&theirs, peft("unet.")),
            lora(&theirs, peft("base_model.model.")),
            lora(&own, peft("diffusion_model.")),
        ] {
            assert_eq!(whole(&file, &targets)[0], own.len());
        }
        let old = spelled(&targets[0], |spelling| spelling.name.contains(".processor."));
        let named = |name: &str, down: bool| format!("unet.{name}.{}.weight", if down { "down" } else { "up" });
        assert_eq!(whole(&lora(&old, named), &targets)[0], old.len());
        let clip = matrices(&targets[1]);
        let prefix = if targets.len() == 2 { "lora_te_text_model_" } else { "lora_te1_text_model_" };
        assert_eq!(whole(&lora(&clip, kohya(prefix)), &targets)[1], 72);
    }
    let targets = sdxl();
    let big = matrices(&targets[2]);
    let of_layers: Vec<_> = big.iter().filter(|(name, _)| name.contains("layers")).cloned().collect();
    assert_eq!(whole(&lora(&of_layers, kohya("lora_te2_")), &targets), [0, 0, 32 * 6]);
    assert_eq!(whole(&lora(&big, peft("text_encoder_2.")), &targets), [0, 0, 32 * 6 + 1]);
    // OpenCLIP's fused matrix is three of these
    let fused = spelled(&targets[2], |spelling| spelling.name.ends_with(".attn.in_proj"));
    assert_eq!(fused[0].1, [3 * 1280, 1280]);
    assert_eq!(whole(&lora(&fused, peft("clip_g.")), &targets), [0, 0, 3 * 32]);
}

#[test]
fn rows_of_a_fused_matrix_are_where_bfl_has_them() {
    let targets = flux();
    let theirs = spelled(&targets[0], |spelling| spelling.name == "single_transformer_blocks.7.proj_mlp");
    let file = lora(&theirs, peft("transformer."));
    let fitted = file.fitted("flux", &targets, Dora::default()).unwrap();
    let branches: Vec<_> = fitted.branches(0).collect();
    assert_eq!(branches[0].0, "single_blocks.7.linear1.weight");
    assert_eq!(branches[0].1.rows, 9216..21504);
    let last = spelled(&targets[0], |spelling| spelling.name == "norm_out.linear");
    let fitted = lora(&last, peft("transformer.")).fitted("flux", &targets, Dora::default()).unwrap();
    assert_eq!(fitted.branches(0).map(|(_, branch)| branch.rows).collect::<Vec<_>>(), [3072..6144, 0..3072]);
}

#[test]
fn a_control_lora_is_known_and_its_further_inputs_stand_beside_the_latents() {
    // given tensors as BFL's Canny LoRA has them: a wider input, and the rest as ever
    let zeros = |shape: &[usize]| Stored::of(&vec![0.0; shape.iter().product()], shape.to_vec());
    let tensors = [
        ("img_in.lora_A.weight", zeros(&[128, 128])),
        ("img_in.lora_B.weight", zeros(&[3072, 128])),
        ("img_in.lora_B.bias", zeros(&[3072])),
        ("single_blocks.0.linear2.lora_A.weight", zeros(&[128, 15360])),
        ("single_blocks.0.linear2.lora_B.weight", zeros(&[3072, 128])),
    ];
    let file = LoraFile::read(&Memory::of(tensors.clone())).unwrap();
    assert_eq!(file.made_for(), Some("Flux with a control picture"));
    let fitted = file.fitted("flux", &flux(), Dora::default()).unwrap();
    assert_eq!((fitted.report.matched, fitted.report.total), (2, 2));
    let names: Vec<String> = fitted.branches(0).map(|(name, _)| name).collect();
    let expected = ["img_in.weight", "img_in.beside.weight", "img_in.bias", "single_blocks.0.linear2.weight"];
    assert_eq!(names, expected);
    // as many inputs as no picture has
    let odd = [("img_in.lora_A.weight", zeros(&[128, 100])), ("img_in.lora_B.weight", zeros(&[3072, 128]))];
    let file = LoraFile::read(&Memory::of(odd.into_iter().chain(tensors[3..].to_vec()))).unwrap();
    let fitted = file.fitted("flux", &flux(), Dora::default()).unwrap();
    let [input] = &fitted.report.unmatched[..] else { panic!("{}", fitted.report) };
    assert_eq!((&*input.name, &input.why), ("img_in", &Misfit::Widens { expected: 64, found: 100 }));
    assert!(matches!(fitted.whole(), Err(Error::Partial { .. })));
}

#[test]
fn another_familys_lora_is_an_error_and_what_is_left_over_is_told() {
    let (flux, sd1) = (flux(), sd1());
    let file = lora(&matrices(&flux[0]), kohya("lora_unet_"));
    let error = file.fitted("sd15", &sd1, Dora::default()).unwrap_err();
    assert!(matches!(&error, Error::NothingFits { report } if report.matched == 0 && report.total == 314));
    assert!(error.to_string().starts_with("`memory` matches 0 of 314 modules of sd15; "), "{error}");
    // A LoRA for SDXL has names that SD1 has too, of other widths.
    let file = lora(&matrices(&sdxl()[0]), kohya("lora_unet_"));
    let fitted = file.fitted("sd15", &sd1, Dora::default()).unwrap();
    let Error::Partial { report } = fitted.whole().unwrap_err() else { panic!("it was whole") };
    assert!(
        report.unmatched.iter().any(|unmatched| matches!(unmatched.why, Misfit::Shape { .. } | Misfit::Factors { .. }))
    );
    // A module with a letter too much is told with its likely name.
    let mut modules = matrices(&flux[0]);
    modules[5].0 += "x";
    let fitted = lora(&modules, kohya("lora_unet_")).fitted("flux", &flux, Dora::default()).unwrap();
    let [one] = &fitted.report.unmatched[..] else { panic!("{}", fitted.report) };
    let expected = modules[5].0.trim_end_matches('x').to_owned();
    assert_eq!(one.why, Misfit::NoModule { nearest: Some(expected) });
}

#[test]
fn files_that_are_damaged_are_told_and_add_nothing() {
    let targets = sd1();
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let why = |tensors: Vec<(&str, Stored)>| {
        let good = [("lora_down", vec![1, 320]), ("lora_up", vec![320, 1])].map(|(leaf, shape)| {
            (
                format!("{module}.{leaf}.weight").replace("to_q", "to_k"),
                Stored::of(&vec![0.0; shape.iter().product()], shape),
            )
        });
        let tensors = tensors.into_iter().map(|(leaf, stored)| (format!("{module}.{leaf}"), stored));
        let file = LoraFile::read(&Memory::of(tensors.chain(good))).unwrap();
        let fitted = file.fitted("sd15", &targets, Dora::default()).unwrap();
        assert_eq!((fitted.report.matched, fitted.branches(0).count()), (1, 1));
        fitted.report.unmatched[0].why.clone()
    };
    let zeros = |shape: &[usize]| Stored::of(&vec![0.0; shape.iter().product()], shape.to_vec());
    let is_shape = |why: Misfit| assert!(matches!(why, Misfit::Shape { .. } | Misfit::Factors { .. }), "{why}");
    assert!(matches!(why(vec![("lora_down.weight", zeros(&[4, 320]))]), Misfit::Incomplete { missing: "lora_up" }));
    is_shape(why(vec![("lora_down.weight", zeros(&[4, 321])), ("lora_up.weight", zeros(&[320, 4]))]));
    is_shape(why(vec![("lora_down.weight", zeros(&[4, 320])), ("lora_up.weight", zeros(&[320, 5]))]));
    is_shape(why(vec![("lora_down.weight", zeros(&[0, 320])), ("lora_up.weight", zeros(&[320, 0]))]));
    is_shape(why(vec![("lora_down.weight", zeros(&[])), ("lora_up.weight", zeros(&[]))]));
    is_shape(why(vec![("diff", zeros(&[320]))]));
    is_shape(why(vec![("oft_blocks", zeros(&[3, 4, 4]))]));
    is_shape(why(vec![("oft_blocks", zeros(&[9, 80, 4, 4]))]));
    is_shape(why(vec![("lokr_w1", zeros(&[7, 4])), ("lokr_w2", zeros(&[80, 80]))]));
    is_shape(why(vec![("lokr_w1", zeros(&[0])), ("lokr_w2", zeros(&[0]))]));
    let half = |a: &[usize], b: &[usize]| {
        let all = [("hada_w1_a", a), ("hada_w1_b", b), ("hada_w2_a", a), ("hada_w2_b", b)];
        why(all.iter().map(|(leaf, shape)| (*leaf, zeros(shape))).collect())
    };
    is_shape(half(&[320, 4], &[5, 320]));
    is_shape(half(&[], &[]));
    let nan = Stored::of(&[f32::NAN], vec![1]);
    let fine = || vec![("lora_down.weight", zeros(&[1, 320])), ("lora_up.weight", zeros(&[320, 1]))];
    assert_eq!(why([fine(), vec![("alpha", nan)]].concat()), Misfit::NotFinite);
    assert_eq!(why([fine(), vec![("alpha", zeros(&[2]))]].concat()), Misfit::Alpha { found: vec![2] });
    let whole = Stored::of_bytes(Format::I32, vec![320, 1], vec![0; 1280]).unwrap();
    assert!(matches!(why(vec![fine().remove(0), ("lora_up.weight", whole)]), Misfit::Format { found: "I32" }));
    let nothing = LoraFile::read(&Memory::of([("a.weight", zeros(&[1]))]));
    assert!(matches!(nothing, Err(Error::NotALora { .. })));
}

#[test]
fn an_adapter_by_another_of_pefts_methods_is_told_by_that() {
    let error = |name: &str| LoraFile::read(&Memory::of([(name, Stored::of(&[1.0], vec![1]))])).unwrap_err();
    for (name, expected) in [
        ("base_model.model.to_k.oft_R.weight", "OFT"),
        ("base_model.model.to_k.boft_R", "BOFT"),
        ("base_model.model.to_k.ia3_l", "IA3"),
        ("base_model.model.to_k.vera_lambda_b", "VeRA"),
        ("base_model.vera_A", "VeRA"),
        ("base_model.model.to_k.hra_u", "HRA"),
        ("base_model.model.to_k.hira_A", "HiRA"),
        ("to_k.ia3_l", "IA3"),
    ] {
        let error = error(name);
        let Error::NotRead { method, tensor, .. } = &error else { panic!("{error}") };
        assert_eq!((*method, tensor.as_str()), (expected, name));
    }
    assert_eq!(
        error("base_model.model.to_k.ia3_l").to_string(),
        "`memory` holds PEFT's IA3 (`base_model.model.to_k.ia3_l`), which is not read: expected LoRA, DoRA, LoHa or LoKr"
    );
    assert!(matches!(error("base_model.model.to_k.weight"), Error::NotALora { .. }));
    assert!(matches!(error("road_map.to_k.weight"), Error::NotALora { .. }));
}

#[test]
fn loras_of_other_programs_find_their_place_as_a_whole() {
    // Files that are not part of the project.
    let Some(folder) = std::env::var_os("FORGE_EXTRA_FIXTURES").map(PathBuf::from) else { return };
    let targets = sd1();
    for (name, words) in [("lora_analog_svd_rank4", 0), ("lora_lora_disney", 2)] {
        let file = Safetensors::open(&folder.join("loras").join(format!("{name}.safetensors"))).unwrap();
        let lora = LoraFile::read(&file).unwrap();
        assert_eq!((lora.modules(), lora.words().len()), (192, words), "{name}");
        assert_eq!(whole(&lora, &targets), [144, 48], "{name}");
    }
}
