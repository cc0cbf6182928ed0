//! A key is one entry: all that is made of the table of keys has each of them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;

use forge::{
    Config,
    diffusion_engine::{Fallback, Kind, Provenance, Value, render},
    keys::{find, keys, schema, tables, template},
};
use serde_json::Value as Json;

/// The template with a value for each key, also for those that it leaves open.
fn of_every_key() -> String {
    let key_of = |line: &str| line.split_once(" = ").map(|(name, _)| name.trim_start_matches("# ").to_owned());
    let is_key = |name: &str| keys().any(|key| key.name == name);
    let open = |line: &str| {
        if key_of(line).is_some_and(|name| is_key(&name)) { line.replacen("# ", "", 1) } else { line.into() }
    };
    template().lines().map(|line| open(line) + "\n").collect()
}

#[test]
fn the_template_is_a_config_of_the_defaults() {
    let (config, default): (Config, _) = (template().parse().unwrap(), Config::default());
    for key in keys() {
        assert_eq!(config.get(key), default.get(key), "{}", key.path());
    }
    assert!(template().lines().all(|line| line.chars().count() <= 100), "{}", template());
}

#[test]
fn every_key_is_in_all_that_is_made_of_the_table() {
    let (template, whole, schema) = (template(), of_every_key(), schema(&forge::catalog()));
    let config: toml::Table = whole.parse().unwrap();
    let mut places = BTreeSet::new();
    for key in keys() {
        let path = key.path();
        assert!(places.insert(path.clone()), "{path} is there twice");
        assert_eq!(find(key.table, key.name), Some(key));
        assert!(tables().iter().any(|table| table.name == key.table), "{path}");
        assert!(!key.about.is_empty() && !key.docs.is_empty(), "{path} says nothing");
        // its default is a value of its own kind, and so is the example where there is none
        if let Some(value) = key.initial() {
            assert_eq!(key.kind.check(&value), Ok(()), "{path}");
        }
        assert!(config[key.table].get(key.name).is_some(), "{path} is not in\n{template}");
        let of_schema = &schema["properties"][key.table]["properties"][key.name];
        assert!(of_schema["description"].as_str().is_some_and(|text| text.starts_with(key.docs)), "{path}");
        assert_eq!(of_schema["default"].is_null(), matches!(key.default, Fallback::Open { .. }), "{path}");
    }
    // and nothing else is
    let in_schema = |table: &forge::Table| schema["properties"][table.name]["properties"].as_object().unwrap().len();
    assert_eq!(tables().iter().map(in_schema).sum::<usize>(), places.len());
    assert_eq!(config.values().map(|table| table.as_table().unwrap().len()).sum::<usize>(), places.len());
    // with a value for each it is a config
    whole.parse::<Config>().unwrap();
}

#[test]
fn no_two_keys_share_a_flag_or_a_field_of_the_api() {
    let mut flags = BTreeSet::from(["config", "dump", "json", "help"]);
    let mut fields = BTreeSet::new();
    for key in keys() {
        let file = if let Kind::Words { file } = key.kind { Some(file) } else { None };
        assert!(key.flag.into_iter().chain(file).all(|flag| flags.insert(flag)), "{}", key.path());
        assert!(key.api.is_none_or(|field| fields.insert(field)), "{}", key.path());
    }
}

#[test]
fn an_infotext_has_every_label() {
    let mut config: Config =
        "[sampling]\nsigmas = [1, 0.5, 0]\nvariation_strength = 0.5\nseed_resize_width = 512\nseed_resize_height = 512\nprediction = \"v\"\nzero_snr = \"on\"\n[image]\nbatch = 2\noriginal_width = 1\noriginal_height = 1\ncrop_left = 1\ncrop_top = 1\ntarget_width = 1\ntarget_height = 1\n[prompt]\nnegative = \"dogs\"\nemphasis = \"ignore\"\nt5_length = 9\nclip_skip = 2\naesthetic_score = 7\nnegative_aesthetic_score = 2"
            .parse()
            .unwrap();
    let seed = find("sampling", "seed").unwrap();
    config.set(seed, &Value::Whole(7), "seed").unwrap();
    for key in keys().filter(|key| key.table == "guidance") {
        let Fallback::Open { example, .. } = key.default else { continue };
        config.set(key, &key.read(example.trim_matches('"')), "example").unwrap();
    }
    let second = "[hires]\nscale = 2\nsteps = 3\nsampler = \"heun\"\nschedule = \"karras\"\ncfg = 3\nguidance = 2\nprompt = \"cats\"\nnegative = \"birds\"";
    let said = |config: &Config| {
        let request = config.request(|| 0).unwrap();
        render(&request, &Provenance::default(), forge::catalog().knobs(), false)
    };
    let other = "\ncheckpoint = \"other.safetensors\"\n";
    let second = format!("{second}{other}[refiner]{other}passes = \"both\"").parse::<Config>().unwrap();
    (config.hires, config.refiner) = (second.hires, second.refiner);
    let mut text = said(&config);
    // a second pass has a scale or sides
    config.hires.width = Some(512);
    text += &said(&config);
    // and a run from a picture has no second pass
    let picture = fixtures::path("golden/pictures/plain.png").display().to_string();
    let from = format!(
        "[img2img]\nimage = {picture:?}\nscale = 0\nexact_steps = \"on\"\nresize = \"crop\"\nnoise_multiplier = 2\nsampled = \"on\"\n\
         colour_correction = \"on\"\n[inpaint]\nmask = {picture:?}\nround = \"off\"\ninvert = \"on\"\nfill = \"noise\"\narea = \"masked\"\n\
         hidden = 0.5\nsoft = \"blended\""
    );
    text += &said(&from.parse::<Config>().unwrap());
    for key in keys() {
        assert!(key.label.is_none_or(|label| text.contains(&format!("{label}: "))), "{} is not in\n{text}", key.path());
    }
}

#[test]
fn the_schema_accepts_what_is_a_config_and_nothing_else() {
    let schema = schema(&forge::catalog());
    let fault = |text: &str| fault(&schema, &serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap());
    let docs = include_str!("../../../docs/config.md");
    let (_, example) = docs.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    for text in ["", include_str!("../../../flux.toml"), example, &template(), &of_every_key()] {
        assert_eq!(fault(text), None, "{text}");
    }
    for text in [
        "[sampling]\nseed = -1",
        "[sampling]\ncfg = [7, 5.5]",
        "[sampling]\ncfg = \"7..1.5 cosine\"",
        "[sampling]\nseed = \"18446744073709551615\"",
        "[sampling]\nsampler = \"DPM++ 2M Karras\"",
        "[sampling.options]\neta = 1\nkind = \"x\"",
        "[device]\nmemory = 4096\nbackend = \"cuda:1\"",
    ] {
        assert_eq!(fault(text), None, "{text}");
        assert!(text.parse::<Config>().is_ok(), "{text}");
    }
    for text in [
        "steps = 4",
        "model = \"flux\"",
        "[promt]",
        "[sampling]\nstep = 4",
        "[sampling]\nsteps = 0",
        "[sampling]\nsteps = 1001",
        "[sampling]\nsteps = 1.5",
        "[sampling]\ncfg = 0.5",
        "[sampling]\ncfg = [7, 0.5]",
        "[sampling]\ncfg = []",
        "[sampling]\nseed = -2",
        "[sampling]\nsigmas = [1]",
        "[sampling]\nsigmas = [\"1\", 0]",
        "[sampling.options]\neta = [1]",
        "[image]\nwidth = \"1\"",
        "[prompt]\npositive = 1",
        "[device]\ncompute = \"f64\"",
        "[device]\nmemory = 0.5",
    ] {
        assert!(fault(text).is_some(), "{text}");
        assert!(text.parse::<Config>().is_err(), "{text}");
    }
    // which the engine says of a size, with those that are next to it
    assert!(fault("[image]\nwidth = 1001").is_some());
}

/// The first place where a value is not what a schema allows. Knows the words of JSON Schema that the schema uses, and no others.
fn fault(schema: &Json, value: &Json) -> Option<String> {
    for (word, rule) in schema.as_object().unwrap() {
        let number = |x: &Json| x.as_f64().unwrap();
        let fits = match word.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match rule {
                Json::Array(types) => types.iter().any(|name| is_a(value, name.as_str().unwrap())),
                name => is_a(value, name.as_str().unwrap()),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| fault(schema, value).is_none()),
            "minimum" => !value.is_number() || number(value) >= number(rule),
            "maximum" => !value.is_number() || number(value) <= number(rule),
            "multipleOf" => !value.is_number() || number(value) % number(rule) == 0.0,
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= rule.as_u64().unwrap()),
            "items" => match value.as_array().into_iter().flatten().find_map(|item| fault(rule, item)) {
                Some(fault) => return Some(fault),
                None => true,
            },
            "properties" | "additionalProperties" => {
                let properties = &schema["properties"];
                for (name, value) in value.as_object().into_iter().flatten() {
                    let found = match (properties.get(name), &schema["additionalProperties"]) {
                        (Some(schema), _) => fault(schema, value),
                        (None, Json::Bool(false)) => Some("is no property".to_owned()),
                        (None, schema) => fault(schema, value),
                    };
                    if let Some(fault) = found {
                        return Some(format!("{name}: {fault}"));
                    }
                }
                true
            }
            other => panic!("the schema has `{other}`, which this test does not know"),
        };
        if !fits {
            return Some(format!("{value} is against {word}: {rule}"));
        }
    }
    None
}

fn is_a(value: &Json, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the schema has the type `{other}`"),
    }
}
