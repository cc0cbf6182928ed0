use diffusion_engine::{
    Catalog, Hires, HiresSize, Infotext, Ingredient, Pass, PerStep, Provenance, Reading, Refiner, Size, Txt2Img,
    Variation,
};
use samplers::Value;
use serde_json::json;

use super::print_json;
use crate::error::Result;

/// Prints what an infotext says as one JSON object: the request, or why this engine can't draw it.
pub(crate) fn show_infotext(registry: &Catalog, infotext: &Infotext) -> Result<()> {
    let mut object = match infotext.reading(registry) {
        Ok(reading) => of_reading(registry, reading),
        Err(error) => json!({
            "prompt": infotext.prompt, "negative": infotext.negative, "error": error.to_string(),
        }),
    };
    object["pairs"] = infotext.pairs.iter().map(|(key, value)| json!([key, value])).collect();
    object["from"] = json!(infotext.from.id());
    object["made_with"] = of_provenance(&infotext.provenance());
    print_json(&object)
}

/// What a picture was made with: a field that the text does not have is `null` or empty.
fn of_provenance(made: &Provenance) -> serde_json::Value {
    let Provenance { model, vae, refiner, modules, loras, embeddings, version } = made;
    let list = |of: &[Ingredient]| -> serde_json::Value {
        of.iter().map(|Ingredient { name, hash }| json!({"name": name, "hash": hash})).collect()
    };
    let mut object = json!({
        "model": model.name, "model_hash": model.hash, "vae": vae.name, "vae_hash": vae.hash, "modules": modules,
        "loras": list(loras), "embeddings": list(embeddings), "version": version,
    });
    if refiner.is_said() {
        object["refiner"] = json!(refiner.name);
        object["refiner_hash"] = json!(refiner.hash);
    }
    object
}

fn of_reading(registry: &Catalog, Reading { request, unread, defaults }: Reading) -> serde_json::Value {
    // A field that is added to the request has to be told here too.
    let Txt2Img { seed, batch, noise, variation, resized_from, pass, hires, refiner } = request;
    let Pass {
        prompt, negative, emphasis, steps, sampler, schedule, sigmas, options, profile, cfg, size, knobs, ..
    } = pass;
    let Size { width, height } = size;
    let option = |(name, value): (&str, &Value)| {
        let value = match value {
            Value::Number(number) => json!(number),
            Value::Name(name) => json!(name),
        };
        (name.to_owned(), value)
    };
    let mut object = json!({
        "prompt": prompt, "negative": negative, "emphasis": emphasis.id(), "seed": seed, "steps": steps, "sampler": sampler.id,
        "schedule": schedule.id, "cfg": per_step(&cfg), "width": width,
        "height": height, "batch": batch, "noise": noise.id(), "profile": profile.id,
        "options": options.iter().map(option).collect::<serde_json::Map<_, _>>(), "sigmas": sigmas,
        "unread": unread, "defaults": defaults,
    });
    if let Some(Variation { seed, strength }) = variation {
        object["variation_seed"] = json!(seed);
        object["variation_strength"] = shortest(strength);
    }
    if let Some(Size { width, height }) = resized_from {
        object["seed_resize_width"] = json!(width);
        object["seed_resize_height"] = json!(height);
    }
    if let Some(Refiner { name, switch_at, passes }) = refiner {
        object["refiner"] = json!({"model": name, "switch_at": switch_at, "passes": passes.id()});
    }
    if let Some(hires) = hires {
        object["hires"] = of_second(registry, &hires);
    }
    for key in registry.knobs().iter().filter(|key| key.label.is_some()) {
        let value = knobs.value(key.name).map(|option| key.value(option)).or_else(|| key.initial());
        object[key.name] = match value {
            Some(diffusion_engine::Value::Whole(n)) => json!(n),
            Some(diffusion_engine::Value::Number(x)) => json!(x),
            Some(value) => json!(value.option().map(|name| name.to_string())),
            None => serde_json::Value::Null,
        };
    }
    object
}

/// A second pass; what is the first one's is `null`, and of the families' settings those are there that it has of its own.
fn of_second(registry: &Catalog, hires: &Hires) -> serde_json::Value {
    let Hires { size, upscaler, steps, strength, sampler, schedule, cfg, knobs, prompt, negative, model } = hires;
    let said = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (scale, width, height) = match size {
        HiresSize::Scale(scale) => (Some(scale), None, None),
        HiresSize::Sides { width, height } => (None, Some(width), Some(height)),
    };
    let mut object = json!({
        "scale": scale, "width": width, "height": height, "upscaler": upscaler.id(), "steps": steps, "strength": strength,
        "sampler": sampler.as_ref().map(|sampler| &sampler.id), "schedule": schedule.as_ref().map(|schedule| &schedule.id),
        "cfg": cfg.as_ref().map(per_step), "prompt": said(prompt), "negative": said(negative),
        "model": said(model),
    });
    for (key, option) in registry.knobs().iter().filter_map(|key| Some((key, knobs.value(key.name)?))) {
        object[key.name] = match option {
            Value::Number(number) => json!(number),
            Value::Name(name) => json!(name),
        };
    }
    object
}

/// A number, a list, or the text of a ramp.
fn per_step(per_step: &PerStep) -> serde_json::Value {
    match per_step {
        PerStep::Same(number) => shortest(*number),
        PerStep::Each(numbers) => numbers.iter().copied().map(shortest).collect(),
        PerStep::Ramp { .. } => json!(per_step.to_string()),
    }
}

/// A number with the digits that it needs, and not those of a longer float: 7.1, not 7.099999904632568.
fn shortest(number: f32) -> serde_json::Value {
    number.to_string().parse::<f64>().map_or(serde_json::Value::Null, |number| json!(number))
}

#[cfg(test)]
mod tests {
    use diffusion_engine::parse;

    use super::*;

    #[test]
    fn a_number_has_no_more_digits_than_it_had() {
        let text = "a\nSteps: 1, CFG scale: 7.1, Distilled CFG Scale: 3, Seed: 1";
        let catalog = forge::catalog();
        let shown = of_reading(&catalog, parse(text, catalog.knobs()).reading(&catalog).unwrap());
        assert_eq!((shown["cfg"].to_string(), shown["guidance"].to_string()), ("7.1".into(), "3.0".into()));
        for (said, cfg) in [("\"[7.1, 5]\"", "[7.1,5.0]"), ("7..1.5 cosine", "\"7..1.5 cosine\"")] {
            let infotext = parse(&format!("a\nSteps: 1, CFG scale: {said}, Seed: 1"), catalog.knobs());
            assert_eq!(of_reading(&catalog, infotext.reading(&catalog).unwrap())["cfg"].to_string(), cfg);
        }
    }
}
