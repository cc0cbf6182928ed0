use super::{
    lines::{NEGATIVE, split_negative},
    pairs::pair_value,
};
use crate::Txt2Img;

/// The infotext of a request, made with the model of this name; `given_noise` notes that it did not start from its seed's noise.
pub fn render(request: &Txt2Img, model: &str, given_noise: bool) -> String {
    let mut text = request.prompt.clone();
    if !request.negative.is_empty() {
        text += &format!("\n{NEGATIVE} {}", request.negative);
    }
    // Given levels make one step less than they are, whatever number is asked for.
    let steps = request.sigmas.as_ref().map_or(request.steps, |levels| levels.len().saturating_sub(1));
    let mut pairs = vec![
        ("Steps", steps.to_string()),
        ("Sampler", request.sampler.label.clone()),
        ("Schedule type", request.schedule.label.clone()),
        ("CFG scale", request.cfg.to_string()),
        ("Distilled CFG Scale", request.guidance.to_string()),
        ("Seed", request.seed.to_string()),
        ("Size", request.size.to_string()),
        ("Model", model.to_owned()),
        ("RNG", request.noise.id().to_uppercase()),
    ];
    if request.batch > 1 {
        pairs.push(("Batch", request.batch.to_string()));
    }
    if let Some(length) = request.text_length {
        pairs.push(("T5 length", length.to_string()));
    }
    let params = request.params();
    pairs.extend(request.options.iter().map(|(name, value)| {
        let label = params.iter().find(|param| param.name == name).map_or(name, |param| &param.label);
        (label, value.to_string())
    }));
    if let Some(sigmas) = &request.sigmas {
        let levels: Vec<_> = sigmas.iter().map(f64::to_string).collect();
        pairs.push(("Sigmas", format!("[{}]", levels.join(", "))));
    }
    if given_noise {
        pairs.push(("Noise", "given".to_owned()));
    }
    pairs.push(("Profile", request.profile.id.clone()));
    // What would not be read back as it is stands in the last line too.
    if split_negative(&text.replace("\r\n", "\n"), true) != (request.prompt.as_str(), request.negative.as_str()) {
        pairs.push(("Prompt", request.prompt.clone()));
        pairs.push(("Negative", request.negative.clone()));
    }
    pairs.push(("Version", concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned()));
    let line: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {}", pair_value(value))).collect();
    format!("{text}\n{}", line.join(", "))
}
