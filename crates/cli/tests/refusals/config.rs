//! `flux.toml`.

use std::fs;

use crate::tiny::Tiny;

#[test]
fn a_config_that_is_wrong_is_refused_with_its_place() {
    let nested = format!("a = {}", "[".repeat(90_000));
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (b"[sampling]\nstep = 4".to_vec(), &["unknown field `step`", "hint: did you mean `steps`?", "2"]),
        (b"[promt]\npositive = \"a\"".to_vec(), &["unknown field `promt`", "hint: did you mean `prompt`?"]),
        (b"[model]\nclipp = \"a\"".to_vec(), &["unknown field `clipp`", "hint: did you mean `clip`?"]),
        (b"steps = 4".to_vec(), &["unknown field `steps`"]),
        (b"[sampling]\nsteps = \"4\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = 4.5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = -1".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = -2".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = 1.5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = \"maybe\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = [1]".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nseed = 99999999999999999999999".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nnoise = 3".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\nsteps = 4\nsteps = 5".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[sampling]\n[sampling]".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[image]\nwidth = true".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[image]\noutput = 7".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[prompt]\npositive = {}".to_vec(), &["config `bad.toml` is not valid"]),
        (b"model = \"flux\"".to_vec(), &["config `bad.toml` is not valid"]),
        (b"[model".to_vec(), &["config `bad.toml` is not valid"]),
        (b"\0".to_vec(), &["config `bad.toml` is not valid"]),
        (nested.into_bytes(), &["config `bad.toml` is not valid"]),
        ("a.".repeat(45_000).into_bytes(), &["config `bad.toml` is not valid"]),
        (b"[prompt]\npositive = \"\xff\"".to_vec(), &["cannot read config `bad.toml`", "UTF-8"]),
        (b"".to_vec(), &["the config names no `model.transformer`", "hint: name the file"]),
        (b"[model]\ntransformer = \"t\"".to_vec(), &["the config names no `model.clip`"]),
    ];
    let tiny = Tiny::quick();
    for (config, words) in cases {
        tiny.write("bad.toml", config);
        tiny.forge(&["txt2img", "--config", "bad.toml"]).refused(2, words);
        assert_eq!(tiny.drawn().len(), 0);
    }
    fs::create_dir(tiny.path("folder")).unwrap();
    tiny.forge(&["txt2img", "--config", "folder"]).refused(2, &["cannot read config", "hint: give the config file"]);
    tiny.forge(&["txt2img", "--config", "nowhere.toml"]).refused(2, &["cannot read config", "No such file"]);
    tiny.forge(&["txt2img"]).refused(2, &["the config names no `model.transformer`"]);
}
