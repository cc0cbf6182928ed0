use super::{
    lines::{Mark, split_negative},
    pairs::pair_value,
    pictures,
    settings::NEGATIVE,
};
use crate::{
    Emphasis, Hires, HiresSize, Ingredient, Key, Origin, Provenance, RefinedPasses, Refiner, Txt2Img, Variation,
};

/// The infotext of a request, with the model and the autoencoder that it was `made` with and the family's `knobs`; `given_noise` notes that
/// it did not start from its seed's noise.
pub fn render(request: &Txt2Img, made: &Provenance, knobs: &[Key], given_noise: bool) -> String {
    let Txt2Img { seed, batch, noise, variation, resized_from, pass, hires, refiner } = request;
    let mut text = pass.prompt.clone();
    if !pass.negative.is_empty() {
        text += &format!("\n{NEGATIVE} {}", pass.negative);
    }
    // Given levels make one step less than they are, whatever number is asked for.
    let steps = pass.sigmas.as_ref().map_or(pass.steps, |levels| levels.len().saturating_sub(1));
    let mut pairs = vec![
        ("Steps", steps.to_string()),
        ("Sampler", pass.sampler.label.clone()),
        ("Schedule type", pass.schedule.label.clone()),
        ("CFG scale", pass.cfg.to_string()),
    ];
    // What a model of the family always has stands beside `cfg`, and what is only set at times behind the rest.
    let (always, at_times): (Vec<&Key>, Vec<_>) = knobs.iter().partition(|knob| knob.initial().is_some());
    let said = |knob: &&Key| {
        let value = pass.knobs.value(knob.name).cloned().or_else(|| knob.initial()?.option())?;
        Some((knob.label?, value.to_string()))
    };
    pairs.extend(always.iter().filter_map(said));
    pairs.extend([("Seed", seed.to_string()), ("Size", pass.size.to_string())]);
    for (labels, Ingredient { name, hash }) in
        [(["Model hash", "Model"], &made.model), (["VAE hash", "VAE"], &made.vae)]
    {
        let said = labels.into_iter().zip([hash, name]);
        pairs.extend(said.filter_map(|(label, value)| Some((label, value.clone()?))));
    }
    if let Some(Variation { seed, strength }) = variation {
        pairs.extend([("Variation seed", seed.to_string()), ("Variation seed strength", strength.to_string())]);
    }
    pairs.extend(resized_from.map(|size| ("Seed resize from", size.to_string())));
    pairs.extend(hires.iter().map(|hires| ("Denoising strength", hires.strength.to_string())));
    if let Origin::Pictures(from) = &pass.start {
        pairs.extend(pictures::pairs(from));
    }
    pairs.push(("RNG", noise.id().to_uppercase()));
    if *batch > 1 {
        pairs.push(("Batch", batch.to_string()));
    }
    pairs.extend(at_times.iter().filter_map(said));
    let params = pass.params();
    pairs.extend(pass.options.iter().map(|(name, value)| {
        let label = params.iter().find(|param| param.name == name).map_or(name, |param| &param.label);
        (label, value.to_string())
    }));
    if pass.emphasis != Emphasis::default() {
        pairs.push(("Emphasis", pass.emphasis.label().to_owned()));
    }
    if let Some(sigmas) = &pass.sigmas {
        let levels: Vec<_> = sigmas.iter().map(f64::to_string).collect();
        pairs.push(("Sigmas", format!("[{}]", levels.join(", "))));
    }
    if given_noise {
        pairs.push(("Noise", "given".to_owned()));
    }
    let second = hires.as_ref().map(|hires| of_second(hires, knobs)).unwrap_or_default();
    pairs.extend(second.iter().map(|(label, value)| (label.as_str(), value.clone())));
    if let Some(Refiner { name, switch_at, passes }) = refiner {
        // As A1111 and Forge have it.
        let title = match &made.refiner.hash {
            Some(hash) => format!("{name} [{hash}]"),
            None => name.clone(),
        };
        pairs.extend([("Refiner", title), ("Refiner switch at", switch_at.to_string())]);
        pairs.extend((*passes != RefinedPasses::default()).then(|| ("Hires refiner", passes.label().to_owned())));
    }
    pairs.extend(pass.template.iter().map(|template| ("Template", template.clone())));
    pairs.extend(pass.negative_template.iter().map(|template| ("Negative Template", template.clone())));
    let hashes = pass.loras.iter().filter_map(|lora| Some(format!("{}: {}", lora.network.name, lora.hash.as_ref()?)));
    let hashes: Vec<_> = hashes.collect();
    if !hashes.is_empty() {
        pairs.push(("Lora hashes", hashes.join(", ")));
    }
    pairs.push(("Profile", pass.profile.id.clone()));
    // What would not be read back as it is stands in the last line too.
    if split_negative(&text.replace("\r\n", "\n"), Mark::Own) != (pass.prompt.as_str(), pass.negative.as_str()) {
        pairs.push(("Prompt", pass.prompt.clone()));
        pairs.push(("Negative", pass.negative.clone()));
    }
    pairs.push(("Version", concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned()));
    let line: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {}", pair_value(value))).collect();
    format!("{text}\n{}", line.join(", "))
}

/// What is said of a second pass, but for its strength.
fn of_second(hires: &Hires, knobs: &[Key]) -> Vec<(String, String)> {
    let Hires { size, upscaler, steps, sampler, schedule, cfg, knobs: own, prompt, negative, model, strength: _ } =
        hires;
    let (size_label, size) = match size {
        HiresSize::Scale(scale) => ("upscale", scale.to_string()),
        HiresSize::Sides { width, height } => ("resize", format!("{width}x{height}")),
    };
    let of_knob = |(name, value): (&str, &samplers::Value)| {
        let label = knobs.iter().find(|knob| knob.name == name)?.label?;
        Some((label, value.to_string()))
    };
    let said = |text: &String| (!text.is_empty()).then(|| text.clone());
    let pairs = [
        ("CFG Scale", cfg.as_ref().map(ToString::to_string)),
        (size_label, Some(size)),
        ("steps", steps.map(|steps| steps.to_string())),
        ("upscaler", Some(upscaler.label().to_owned())),
        ("prompt", said(prompt)),
        ("negative prompt", said(negative)),
        ("sampler", sampler.as_ref().map(|sampler| sampler.label.clone())),
        ("checkpoint", said(model)),
        ("schedule type", schedule.as_ref().map(|schedule| schedule.label.clone())),
    ];
    let pairs = pairs.into_iter().filter_map(|(label, value)| Some((label, value?)));
    pairs.chain(own.iter().filter_map(of_knob)).map(|(label, value)| (format!("Hires {label}"), value)).collect()
}
