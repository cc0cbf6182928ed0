//! `forge config`: a config to begin with, and what editors need to know of one.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::fs;

use forge::{Config, keys::keys};

use crate::tiny::Tiny;

#[test]
fn init_prints_a_config_of_the_defaults() {
    let tiny = Tiny::quick();
    let printed = tiny.forge(&["config", "init"]).done().out;
    let (config, default): (Config, _) = (printed.parse().unwrap(), Config::default());
    assert!(keys().all(|key| config.get(key) == default.get(key)), "{printed}");
    for word in ["[sampling]", "steps = 20", "# schedule = \"simple\"", "`--steps`", "1 to 1000"] {
        assert!(printed.contains(word), "no `{word}` in\n{printed}");
    }
}

#[test]
fn init_writes_a_file_and_replaces_none_unless_it_is_told_to() {
    let tiny = Tiny::quick();
    let ran = tiny.forge(&["config", "init", "new.toml"]).done();
    assert_eq!(ran.out, "");
    let written = fs::read_to_string(tiny.path("new.toml")).unwrap();
    assert_eq!(written, tiny.forge(&["config", "init"]).done().out);
    tiny.txt2img(&["--config", "new.toml"])
        .refused(2, &["the argument '--config <FILE>' cannot be used multiple times"]);
    tiny.forge(&["txt2img", "--config", "new.toml"]).refused(2, &["the config names no `model.transformer`"]);

    tiny.write("mine.toml", "[sampling]\nsteps = 4\n");
    let refused = ["`mine.toml` is there already", "hint: `--force` replaces it"];
    tiny.forge(&["config", "init", "mine.toml"]).refused(2, &refused);
    assert_eq!(fs::read_to_string(tiny.path("mine.toml")).unwrap(), "[sampling]\nsteps = 4\n");
    tiny.forge(&["config", "init", "mine.toml", "--force"]).done();
    assert_eq!(fs::read_to_string(tiny.path("mine.toml")).unwrap(), written);

    // as all that is written, in folders that are made for it
    tiny.forge(&["config", "init", "nowhere/a.toml"]).done();
    assert_eq!(fs::read_to_string(tiny.path("nowhere/a.toml")).unwrap(), written);
    tiny.forge(&["config", "init", "mine.toml/a.toml"]).refused(1, &["cannot write `mine.toml/a.toml`"]);
    tiny.forge(&["config", "init", "--force"]).refused(2, &["required arguments were not provided"]);
    assert_eq!(tiny.forge(&["config"]).code, Some(2));
}

#[test]
fn schema_prints_the_schema_with_the_names_of_the_registry() {
    let tiny = Tiny::quick();
    let schema: serde_json::Value = serde_json::from_str(&tiny.forge(&["config", "schema"]).done().out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let offered = &schema["properties"]["sampling"]["properties"]["sampler"]["anyOf"][0]["enum"];
    assert!(offered.as_array().unwrap().iter().any(|name| name == "dpmpp_2m"), "{offered}");
}
