use diffusion_engine::Catalog;
use diffusion_engine::{Fallback, Key, Kind, PerStep, Value};
use serde_json::{Map, Value as Json, json};

use super::names;
use crate::config::{keys, tables};

/// The JSON Schema (draft 2020-12) of a config, for editors that complete and check it. They offer the names of a registry, and
/// accept others, since a name has several spellings.
pub fn schema(registry: &Catalog) -> Json {
    let of_table = |name| {
        let keys = keys().filter(|key| key.table == name);
        let properties: Map<_, _> = keys.map(|key| (key.name.to_owned(), of_key(key, registry))).collect();
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    };
    let tables: Map<_, _> = tables()
        .iter()
        .map(|table| {
            let mut schema = of_table(table.name);
            schema["description"] = table.about.into();
            (table.name.to_owned(), schema)
        })
        .collect();
    let loras = json!({
        "type": "array",
        "description": "LoRAs that every picture is drawn with",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["path"],
            "properties": {
                "path": { "type": "string", "description": "its file, or its name in the folder `prompt.loras`" },
                "strength": { "type": "number", "default": 1.0, "description": "how much it counts in what denoises" },
                "text": { "type": "number", "description": "how much it counts in the text encoders; as `strength` where nothing is said" },
                "blocks": { "type": "string", "description": "weights of blocks: a preset, a list, or names with weights" },
                "steps": {
                    "type": "array",
                    "items": { "type": "integer", "minimum": 0 },
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "the first and the last of the steps that it counts in"
                },
                "dora": { "enum": ["forge", "paper"], "default": "forge", "description": "whose norm DoRA's magnitudes are held against" },
            },
        },
    });
    let tables: Map<_, _> = tables.into_iter().chain([("lora".to_owned(), loras)]).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flux.toml",
        "description": "What a run of `forge txt2img` is made of.",
        "type": "object",
        "additionalProperties": false,
        "properties": tables,
    })
}

fn of_key(key: &Key, registry: &Catalog) -> Json {
    let mut schema = of_kind(&key.kind, registry);
    schema["description"] = key.docs.into();
    match (key.initial(), key.default) {
        (Some(value), _) => schema["default"] = of_value(&value),
        (None, Fallback::Open { means, .. }) => {
            schema["description"] = format!("{}; without it {means}", key.docs).into()
        }
        (None, Fallback::Whole(_) | Fallback::Number(_) | Fallback::Text(_)) => {}
    }
    schema
}

fn of_kind(kind: &Kind, registry: &Catalog) -> Json {
    match kind {
        Kind::Words { .. } | Kind::File | Kind::Folder | Kind::Output => json!({ "type": "string" }),
        Kind::Choice(_) => json!({ "enum": names(kind, registry) }),
        Kind::Sampler | Kind::Schedule | Kind::Profile | Kind::Backend | Kind::Noise | Kind::Upscaler => {
            json!({ "anyOf": [{ "enum": names(kind, registry) }, { "type": "string" }] })
        }
        Kind::Whole { min, max, step } => {
            json!({ "type": "integer", "minimum": min, "maximum": max, "multipleOf": step })
        }
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::PerStep { min, max } => {
            let number = json!({ "type": "number", "minimum": min, "maximum": max });
            json!({ "anyOf": [
                number,
                { "type": "array", "items": number, "minItems": 1, "maxItems": PerStep::MOST },
                { "type": "string" },
            ] })
        }
        Kind::Numbers { min, max } => {
            json!({ "type": "array", "items": { "type": "number" }, "minItems": min, "maxItems": max })
        }
        Kind::Names => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Places => json!({ "type": ["string", "integer"] }),
        Kind::Size => json!({ "type": ["string", "integer"] }),
        Kind::Seed => {
            json!({ "anyOf": [{ "enum": ["random"] }, { "type": "integer", "minimum": -1 }, { "type": "string" }] })
        }
        Kind::Options => json!({ "type": "object", "additionalProperties": { "type": ["number", "string"] } }),
    }
}

fn of_value(value: &Value) -> Json {
    match value {
        Value::Text(text) | Value::Other(text) => text.as_str().into(),
        // No default is larger than what JSON's readers take.
        Value::Whole(n) => (*n as i64).into(),
        Value::Number(x) => (*x).into(),
        Value::List(list) => list.iter().map(of_value).collect(),
        Value::Table(table) => table.iter().map(|(name, value)| (name.clone(), of_value(value))).collect(),
    }
}
