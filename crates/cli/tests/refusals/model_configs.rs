//! A `config.json` beside a model.

use std::fs;

use crate::{
    refuse,
    tiny::{ROLES, Tiny, golden},
};

#[test]
fn a_config_json_that_makes_no_sense_rejects_its_model() {
    let huge = usize::MAX;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("vae", b"{".to_vec(), "config.json`"),
        ("vae", b"".to_vec(), "config.json`"),
        ("vae", b"\xff\xfe".to_vec(), "config.json`"),
        ("vae", b"null".to_vec(), "config.json`"),
        ("vae", b"[]".to_vec(), "config.json`"),
        ("vae", "[".repeat(100_000).into_bytes(), "config.json`"),
        ("vae", format!(r#"{{"x":{}"#, "[".repeat(100_000)).into_bytes(), "config.json`"),
        ("vae", br#"{"norm_num_groups":"32"}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":-1}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":1e30}"#.to_vec(), "config.json`"),
        ("vae", br#"{"norm_num_groups":0}"#.to_vec(), "group norm"),
        ("vae", br#"{"norm_num_groups":7}"#.to_vec(), "group norm"),
        ("vae", format!(r#"{{"norm_num_groups":{huge}}}"#).into_bytes(), "group norm"),
        ("vae", br#"{"scaling_factor":0}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":-0.0}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e-300}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e300}"#.to_vec(), "scaling_factor"),
        ("vae", br#"{"scaling_factor":1e999}"#.to_vec(), "config.json`"),
        ("vae", br#"{"scaling_factor":"1"}"#.to_vec(), "config.json`"),
        ("vae", br#"{"shift_factor":1e300}"#.to_vec(), "shift_factor"),
        ("vae", br#"{"shift_factor":-1e999}"#.to_vec(), "config.json`"),
        ("clip", br#"{"num_attention_heads":0}"#.to_vec(), "attention heads"),
        ("clip", br#"{"num_attention_heads":3}"#.to_vec(), "attention heads"),
        ("clip", format!(r#"{{"num_attention_heads":{huge}}}"#).into_bytes(), "attention heads"),
        ("clip", br#"{"num_attention_heads":18446744073709551616}"#.to_vec(), "config.json`"),
        ("clip", br#"{"hidden_act":"relu"}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[4,14]}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[4,14,14,0]}"#.to_vec(), "config.json`"),
        ("transformer", br#"{"axes_dims_rope":[3,15,14]}"#.to_vec(), "the position axes"),
        ("transformer", br#"{"axes_dims_rope":[16,56,56]}"#.to_vec(), "the position axes"),
        ("transformer", br#"{"axes_dims_rope":[0,0,0]}"#.to_vec(), "the position axes"),
        ("transformer", format!(r#"{{"axes_dims_rope":[{0},{0},34]}}"#, huge - 1).into_bytes(), "the position axes"),
    ];
    for (role, config, says) in cases {
        // given a model with that config beside it
        let tiny = Tiny::quick();
        let model = tiny.write("m/model.safetensors", fs::read(tiny.role(role)).unwrap());
        tiny.write("m/config.json", &config);
        // when it is drawn with, then it is rejected before the first step
        let ran = refuse(&tiny, &[&format!("--{role}"), model.to_str().unwrap()], 4, &[says]);
        assert!(!ran.err.contains("step "), "{ran:?}");
        assert!(ran.err.len() < 2000, "{ran:?}");
    }
}

#[test]
fn a_config_json_that_cannot_be_read_is_not_passed_over() {
    let tiny = Tiny::quick();
    let vae = tiny.write("m/model.safetensors", fs::read(tiny.role("vae")).unwrap());
    fs::create_dir(tiny.path("m/config.json")).unwrap();
    refuse(&tiny, &["--vae", vae.to_str().unwrap()], 4, &["config.json`"]);
}

#[test]
fn a_config_json_that_says_what_is_true_changes_nothing() {
    let parts = ["transformer", "text_encoder", "text_encoder_2", "vae"];
    let picture = |config: &dyn Fn(String) -> Option<String>| {
        let quick =
            Tiny::of("tiny-dev").set("sampling", "steps", 1).set("image", "width", 16).set("image", "height", 16);
        let tiny = ROLES.into_iter().zip(parts).fold(quick, |tiny, (role, part)| {
            let model = tiny.write(&format!("{role}/{role}.safetensors"), fs::read(tiny.role(role)).unwrap());
            let text = fs::read_to_string(golden("tiny-diffusers").join(part).join("config.json")).unwrap();
            if let Some(config) = config(text) {
                tiny.write(&format!("{role}/config.json"), config);
            }
            tiny.with(role, &model)
        });
        tiny.txt2img(&["--output", "a.png"]).done();
        fs::read(tiny.path("a.png")).unwrap()
    };
    let without = picture(&|_| None);
    assert!(picture(&Some) == without);
    // and one that says something else changes it
    assert!(picture(&|text| Some(text.replace("\"scaling_factor\": 0.3611", "\"scaling_factor\": 0.5"))) != without);
}
