//! Texts that follow the writers of fifteen programs (`fixtures/reference/infotexts.py`) are read as these were given them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod shelf;

use std::{collections::BTreeMap, fs};

use forge::{
    Provenance,
    diffusion_engine::{Catalog, Infotext, Reading, Value, Variation, parse},
    read_infotext, samplers,
};
use serde_json::{Value as Json, json};

/// How few texts the corpus may have.
const LEAST: usize = 300;

#[test]
fn every_text_is_read_as_its_writer_was_given_it() {
    let rows = fs::read(fixtures::path("golden/infotexts.json")).unwrap();
    let rows: Vec<Json> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.len() >= LEAST, "{}", rows.len());
    let catalog = forge::catalog();
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for row in &rows {
        let texts: Vec<_> =
            row["texts"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let path = folder.path().join("a.png");
        fs::write(&path, shelf::png(&texts)).unwrap();
        let name = format!("{} {}", row["program"], row["name"]);
        let infotext = match read_infotext(&path) {
            Ok(text) => parse(&text, catalog.knobs()),
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let found = match infotext.reading(&catalog) {
            Ok(reading) => fields(&catalog, &infotext, reading),
            Err(error) => {
                wrong.push(format!("{name}: {error}\n    {texts:?}"));
                continue;
            }
        };
        for (field, expected) in row["means"].as_object().unwrap() {
            if !is_as_expected(field, expected, &found) {
                let found = found.get(field.as_str()).unwrap_or(&Json::Null);
                wrong.push(format!("{name}: `{field}` is {found}, expected {expected}\n    {texts:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} texts:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn is_as_expected(field: &str, expected: &Json, found: &BTreeMap<&str, Json>) -> bool {
    let Some(found) = found.get(field) else { return false };
    match (expected, found) {
        // Of a list that the text has among others, these are told.
        (Json::Array(expected), Json::Array(found)) if field == "unread" => {
            expected.iter().all(|key| found.contains(key))
        }
        (Json::Number(expected), Json::Number(found)) if expected.is_f64() || found.is_f64() => {
            expected.as_f64().map(|x| x as f32) == found.as_f64().map(|x| x as f32)
        }
        (expected, found) => expected == found,
    }
}

/// What was read, by the names that the corpus has for it.
fn fields<'a>(catalog: &Catalog, infotext: &Infotext, reading: Reading) -> BTreeMap<&'a str, Json> {
    let Reading { request, unread, .. } = reading;
    let pass = request.pass;
    let Provenance { model, vae, modules, loras, version, .. } = infotext.provenance();
    let mut fields = BTreeMap::from([
        ("from", json!(infotext.from.id())),
        ("prompt", json!(pass.prompt)),
        ("negative", json!(pass.negative)),
        ("seed", json!(request.seed)),
        ("steps", json!(pass.steps)),
        ("sampler", json!(pass.sampler.id)),
        ("schedule", json!(pass.schedule.id)),
        ("cfg", json!(pass.cfg.to_string().parse::<f64>().ok())),
        ("width", json!(pass.size.width)),
        ("height", json!(pass.size.height)),
        ("noise", json!(request.noise.id())),
        ("profile", json!(pass.profile.id)),
        ("emphasis", json!(pass.emphasis.id())),
        ("sigmas", json!(pass.sigmas)),
        ("unread", json!(unread)),
        ("model", json!(model.name)),
        ("model_hash", json!(model.hash)),
        ("vae", json!(vae.name)),
        ("vae_hash", json!(vae.hash)),
        ("modules", json!(modules)),
        ("loras", loras.iter().map(|lora| json!(lora.name)).collect()),
        ("version", json!(version)),
    ]);
    if let Some(Variation { seed, strength }) = request.variation {
        fields.extend([("variation_seed", json!(seed)), ("variation_strength", json!(strength))]);
    }
    for key in catalog.knobs() {
        let value = pass.knobs.value(key.name).map(|option| key.value(option)).or_else(|| key.initial());
        fields.insert(
            key.name,
            match value {
                Some(Value::Whole(n)) => json!(n as i64),
                Some(Value::Number(x)) => json!(x),
                Some(value) => json!(value.option().map(|option: samplers::Value| option.to_string())),
                None => Json::Null,
            },
        );
    }
    fields
}
