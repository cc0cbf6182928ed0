//! PEFT's configs that are odd, another file's or another method's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod source;

use std::{path::Path, sync::Arc};

use core_tensor::{Layout, Stored, WeightSource};
use diffusion_engine::family::Duty;
use lora::{Blocks, ConfigPlace, Dora, Error, LoraFile, Merged, PatternFault, Target};

use source::Memory;

/// The module that scales are told of.
const NAME: &str = "a.7.to_k";

/// An adapter under PEFT's names with these tensors.
fn adapter<const N: usize>(tensors: [(&str, &[usize]); N]) -> LoraFile {
    let ones = |shape: &[usize]| Stored::of(&vec![1.0; shape.iter().product()], shape.to_vec());
    LoraFile::read(&Memory::of(tensors.map(|(name, shape)| (format!("base_model.model.{name}"), ones(shape))))).unwrap()
}

/// A LoRA of rank 1.
fn lora() -> LoraFile {
    adapter([("a.7.to_k.lora_A.weight", &[1, 1]), ("a.7.to_k.lora_B.weight", &[1, 1])])
}

/// What the change of the module is multiplied with.
fn scale(file: &LoraFile) -> f32 {
    let weight = format!("{NAME}.weight");
    let source: Arc<dyn WeightSource> = Arc::new(Memory::of([(weight.as_str(), Stored::of(&[0.0], vec![1, 1]))]));
    let target = Target {
        part: "unet".into(),
        duty: Duty::DENOISER,
        root: String::new(),
        layout: Layout::of(|l| l.unbiased(NAME, 1, 1)),
        spellings: Vec::new(),
        source: source.clone(),
    };
    let fitted = file.fitted("a layer", &[target], Dora::Paper).unwrap();
    fitted.adapter.set(1.0, 0.0, &Blocks::default());
    Merged::of(source, fitted.branches(0)).read(&weight).unwrap().to_f32().unwrap()[0]
}

fn beside() -> &'static Path {
    Path::new("loras/adapter_config.json")
}

#[test]
fn metadata_that_is_no_json_says_nothing_and_a_config_beside_a_file_is_an_error() {
    for nothing in ["null", " null\n", "", "{", "a cat", r#"{"lora_alpha": 6, "loraplus_lr_ratio": NaN}"#] {
        assert_eq!(scale(&lora().configured_by_metadata(nothing).unwrap()), 1.0, "{nothing}");
        let error = lora().configured(beside(), nothing).unwrap_err();
        assert!(matches!(&error, Error::Config { config: ConfigPlace::File(path), .. } if path == beside()), "{error}");
        assert_eq!(error.to_string(), "the PEFT config `loras/adapter_config.json` can't be read");
    }
    assert_eq!(scale(&lora().configured_by_metadata(r#"{"lora_alpha": 6}"#).unwrap()), 6.0);
    let error = lora().configured_by_metadata(r#"{"lora_alpha": "six"}"#).unwrap_err();
    assert_eq!(error.to_string(), "the PEFT config in the metadata of `memory` can't be read");
}

#[test]
fn what_a_config_says_of_ranks_does_not_refuse_a_file_whose_tensors_have_them() {
    let json = r#"{"lora_alpha": 6, "alpha": 4, "r": 2, "rank_pattern": {"(?!a)b": 1}}"#;
    assert_eq!(scale(&lora().configured(beside(), json).unwrap()), 6.0);
    // while whole matrices of LoKr take theirs from the config
    let whole = adapter([("a.7.to_k.lokr_w1", &[1, 1]), ("a.7.to_k.lokr_w2", &[1, 1])]);
    let error = whole.clone().configured(beside(), json).unwrap_err();
    assert!(
        matches!(error, Error::Pattern { key: "rank_pattern", fault: PatternFault::Unreadable { .. }, .. }),
        "{error}"
    );
    assert_eq!(scale(&whole.configured(beside(), r#"{"alpha": 4, "r": 2}"#).unwrap()), 2.0);
}

#[test]
fn diffusers_may_name_each_module_of_a_model() {
    let entries = |of: fn(usize) -> usize| {
        (0..500).map(|i| (format!("^a.{i}.to_k"), of(i).into())).collect::<serde_json::Map<_, _>>()
    };
    let json = serde_json::json!({"lora_alpha": 3, "r": 1, "alpha_pattern": entries(|i| i + 1), "rank_pattern": entries(|_| 1)});
    let json = json.to_string();
    assert_eq!(scale(&lora().configured_by_metadata(&json).unwrap()), 8.0);
    assert_eq!(scale(&lora().configured_if_it_fits(beside(), &json)), 8.0);
}

#[test]
fn a_config_that_may_be_anothers_counts_if_it_is_about_all_that_a_config_can_scale() {
    let json = r#"{"peft_type": "LORA", "lora_alpha": 6, "r": 1}"#;
    assert_eq!(scale(&lora().configured_if_it_fits(beside(), json)), 6.0);
    // Neither a change that has an alpha of its own nor one that has no rank is scaled by it.
    let more = adapter([
        ("a.7.to_k.lora_A.weight", &[1, 1]),
        ("a.7.to_k.lora_B.weight", &[1, 1]),
        ("a.7.to_q.lora_A.weight", &[2, 1]),
        ("a.7.to_q.lora_B.weight", &[1, 2]),
        ("a.7.to_q.alpha", &[]),
        ("a.7.norm.diff", &[1]),
    ]);
    assert_eq!(scale(&more.configured_if_it_fits(beside(), json)), 6.0);
    for others in [
        "",
        "null",
        r#"{"lora_alpha": 6, "r": 1, "x": NaN}"#,
        r#"{"lora_alpha": 6, "r": 2}"#,
        r#"{"lora_alpha": 6, "r": 1, "rank_pattern": {"(?!a)b": 1}}"#,
        r#"{"peft_type": "OFT", "r": 0, "oft_block_size": 32}"#,
        r#"{"peft_type": "ADALORA", "lora_alpha": 6, "r": 1, "rank_pattern": {"a": [true]}}"#,
        r#"{"peft_type": "VERA", "lora_alpha": 6, "r": 1}"#,
        r#"{"peft_type": "LOHA", "alpha": 6, "r": 1}"#,
    ] {
        assert_eq!(scale(&lora().configured_if_it_fits(beside(), others)), 1.0, "{others}");
    }
}
