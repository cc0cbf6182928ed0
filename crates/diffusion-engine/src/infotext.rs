//! The text in a picture that says how it was made, in the form that A1111 and its relatives read.
//!
//! The prompt, then `Negative prompt: …`, then one line of `key: value` pairs (keys and order: A1111 1.10 `create_infotext`).
//! Prompts that this form can't hold unambiguously are repeated as JSON strings in the last line, so [`parse`] always
//! returns what [`render`] was given.

use samplers::{Profile, noise::NoiseSource};

use crate::{Error, Size, Txt2Img};

/// What an infotext says.
#[derive(Clone, Debug, PartialEq)]
pub struct Infotext {
    /// The request that it describes.
    pub request: Txt2Img,
    /// Every pair of its last line, in order.
    pub pairs: Vec<(String, String)>,
}

const NEGATIVE: &str = "Negative prompt: ";
const FIRST: &str = "Steps: ";

/// The infotext of a request, made with the model of this name; `given_noise` notes that it did not start from its seed's noise.
pub fn render(request: &Txt2Img, model: &str, given_noise: bool) -> String {
    let mut text = request.prompt.clone();
    if !request.negative.is_empty() {
        text += &format!("\n{NEGATIVE}{}", request.negative);
    }
    let mut pairs = vec![
        ("Steps", request.steps.to_string()),
        ("Sampler", request.sampler.label.to_owned()),
        ("Schedule type", request.schedule.label.to_owned()),
        ("CFG scale", request.cfg.to_string()),
        ("Distilled CFG Scale", request.guidance.to_string()),
        ("Seed", request.seed.to_string()),
        ("Size", request.size.to_string()),
        ("Model", model.to_owned()),
        ("RNG", request.noise.id().to_uppercase()),
    ];
    if request.batch > 1 {
        pairs.push(("Batch size", request.batch.to_string()));
    }
    if let Some(length) = request.t5_length {
        pairs.push(("T5 length", length.to_string()));
    }
    if given_noise {
        pairs.push(("Noise", "given".to_owned()));
    }
    pairs.push(("Profile", request.profile.id().to_owned()));
    if split(&format!("{text}\n{FIRST}")) != (&request.prompt, &request.negative, FIRST) {
        pairs.push(("Prompt", request.prompt.clone()));
        pairs.push(("Negative", request.negative.clone()));
    }
    pairs.push(("Version", concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned()));
    let line: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {}", pair_value(value))).collect();
    format!("{text}\n{}", line.join(", "))
}

/// Reads an infotext; what it does not say is as in [`Txt2Img::of`], and keys that are not known are kept as pairs.
///
/// # Errors
/// [`Error::Infotext`] or an unknown sampler, schedule or profile.
pub fn parse(text: &str) -> Result<Infotext, Error> {
    let (prompt, negative, line) = split(text);
    let pairs = pairs(line);
    let mut request = Txt2Img { negative: negative.to_owned(), ..Txt2Img::of(prompt) };
    for (key, value) in &pairs {
        match key.as_str() {
            "Steps" => request.steps = number("Steps", value)?,
            "Sampler" => request.sampler = samplers::sampler(value)?,
            "Schedule type" => request.schedule = samplers::schedule(value)?,
            "CFG scale" => request.cfg = number("CFG scale", value)?,
            "Distilled CFG Scale" => request.guidance = number("Distilled CFG Scale", value)?,
            "Seed" => request.seed = number("Seed", value)?,
            "Batch size" => request.batch = number("Batch size", value)?,
            "T5 length" => request.t5_length = Some(number("T5 length", value)?),
            "Profile" => request.profile = Profile::named(value)?,
            "Prompt" => request.prompt.clone_from(value),
            "Negative" => request.negative.clone_from(value),
            "RNG" => {
                let source = NoiseSource::named(&value.to_lowercase());
                request.noise = source.ok_or_else(|| wrong("RNG", "CPU or NV", value))?;
            }
            "Size" => {
                let (width, height) = value.split_once('x').ok_or_else(|| wrong("Size", "WIDTHxHEIGHT", value))?;
                request.size = Size { width: number("Size", width)?, height: number("Size", height)? };
            }
            _ => {}
        }
    }
    Ok(Infotext { request, pairs })
}

/// Prompt, negative prompt and the line of pairs.
fn split(text: &str) -> (&str, &str, &str) {
    let (prompts, line) = match text.rsplit_once('\n') {
        Some((prompts, line)) if line.starts_with(FIRST) => (prompts, line),
        None if text.starts_with(FIRST) => ("", text),
        _ => (text, ""),
    };
    if let Some(negative) = prompts.strip_prefix(NEGATIVE) {
        return ("", negative, line);
    }
    let marker = format!("\n{NEGATIVE}");
    let (prompt, negative) = prompts.split_once(marker.as_str()).unwrap_or((prompts, ""));
    (prompt, negative, line)
}

/// The pairs of a line; a value in double quotes is a JSON string and may hold commas.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while let Some((key, after)) = rest.split_once(": ") {
        let mut json = serde_json::Deserializer::from_str(after).into_iter::<String>();
        let (value, length) = match json.next() {
            Some(Ok(value)) if after.starts_with('"') => (value, json.byte_offset()),
            _ => {
                let plain = after.split(", ").next().unwrap_or(after);
                (plain.to_owned(), plain.len())
            }
        };
        pairs.push((key.trim().to_owned(), value));
        rest = after[length..].trim_start_matches([',', ' ']);
    }
    pairs
}

/// A value as it stands in a line: quoted where it would end the pair, start another or look quoted.
fn pair_value(value: &str) -> String {
    if value.is_empty() || value.contains([',', ':', '\n', '\r']) || value.starts_with('"') || value.trim() != value {
        return serde_json::Value::from(value).to_string();
    }
    value.to_owned()
}

fn number<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T, Error> {
    value.trim().parse().map_err(|_| wrong(key, "a number", value))
}

fn wrong(key: &'static str, expected: &'static str, found: &str) -> Error {
    Error::Infotext { key, expected, found: format!("`{found}`") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(prompt: &str, negative: &str) -> Txt2Img {
        Txt2Img { negative: negative.into(), ..Txt2Img::of(prompt) }
    }

    #[test]
    fn a_plain_request_reads_as_a1111_writes_it() {
        let text = render(&Txt2Img { steps: 4, seed: 7, ..request("a cat", "dogs, rain") }, "demo", false);
        assert_eq!(
            text,
            "a cat\nNegative prompt: dogs, rain\nSteps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, \
             Distilled CFG Scale: 3.5, Seed: 7, Size: 1024x1024, Model: demo, RNG: CPU, Profile: forge, Version: forge 0.1.0"
        );
    }

    #[test]
    fn text_of_other_programs_is_read_as_far_as_it_goes() {
        let text = "masterpiece, 1girl\nmore\nNegative prompt: bad hands\nSteps: 28, Sampler: Euler a, CFG scale: 7, Seed: 1234, \
                    Size: 512x768, Model hash: abc, Model: \"a, b\", Lora hashes: \"x: 1, y: 2\", Version: v1.10.1";
        let Infotext { request, pairs } = parse(text).unwrap();
        assert_eq!((request.prompt.as_str(), request.negative.as_str()), ("masterpiece, 1girl\nmore", "bad hands"));
        assert_eq!((request.steps, request.sampler.id, request.cfg, request.seed), (28, "euler_ancestral", 7.0, 1234));
        assert_eq!(request.size, Size { width: 512, height: 768 });
        assert!(pairs.contains(&("Lora hashes".into(), "x: 1, y: 2".into())));
    }

    #[test]
    fn a_name_or_number_that_makes_no_sense_is_an_error() {
        for line in ["Steps: x", "Steps: 1, Size: 5", "Steps: 1, Sampler: DPM-9", "Steps: 1, RNG: dice"] {
            assert!(parse(&format!("a\n{line}")).is_err(), "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_rendered_parses_to_the_same_request(
            prompt in "(?s)(Negative prompt: |Steps: 1, |\n|, |\"|: |[a-z]{0,4}|\\PC){0,6}",
            negative in "(?s)(Negative prompt: |Steps: 1|\n|, |\"|[a-z]{0,4}|\\PC){0,4}",
            model in "\\PC{0,8}",
            (seed, steps, batch) in (any::<u64>(), 1usize..1000, 1usize..65),
            (cfg, guidance) in (1.0f32..100.0, 0.0f32..100.0),
            (sampler, schedule, profile) in (0..samplers::SAMPLERS.len(), 0..samplers::SCHEDULES.len(), 0..Profile::ALL.len()),
            t5_length in proptest::option::of(1usize..4097),
            nv in any::<bool>(),
        ) {
            let request = Txt2Img {
                negative, seed, steps, batch, cfg, guidance, t5_length,
                sampler: samplers::SAMPLERS[sampler],
                schedule: samplers::SCHEDULES[schedule],
                profile: Profile::ALL[profile],
                noise: if nv { NoiseSource::Nv } else { NoiseSource::Cpu },
                ..Txt2Img::of(prompt)
            };
            prop_assert_eq!(parse(&render(&request, &model, nv)).unwrap().request, request);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)(Steps: |Size: |Seed: |\"|, |\\\\|\n|.){0,40}") {
            let _ = parse(&text);
        }
    }
}
