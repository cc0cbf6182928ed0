//! The text in a picture that says how it was made, in the form that A1111 and its relatives read.
//!
//! The prompt, then `Negative prompt: …`, then one line of `key: value` pairs (keys and order: A1111 1.10 `create_infotext`).
//! Prompts that this form can't hold unambiguously are repeated as JSON strings in the last line, so [`parse`] always
//! returns what [`render`] was given.

use samplers::{Profile, Registry, noise::NoiseSource};

use crate::{Error, Size, Txt2Img};

/// What an infotext says.
#[derive(Clone, Debug, PartialEq)]
pub struct Infotext {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show.
    pub negative: String,
    /// The `key: value` pairs of its last line, in order.
    pub pairs: Vec<(String, String)>,
}

const NEGATIVE: &str = "Negative prompt:";
const FIRST: &str = "Steps: ";

/// The infotext of a request, made with the model of this name; `given_noise` notes that it did not start from its seed's noise.
pub fn render(request: &Txt2Img, model: &str, given_noise: bool) -> String {
    let mut text = request.prompt.clone();
    if !request.negative.is_empty() {
        text += &format!("\n{NEGATIVE} {}", request.negative);
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
        pairs.push(("Batch", request.batch.to_string()));
    }
    if let Some(length) = request.t5_length {
        pairs.push(("T5 length", length.to_string()));
    }
    let params = request.params();
    pairs.extend(request.options.iter().map(|(name, value)| {
        let label = params.iter().find(|param| param.name == name).map_or(name, |param| param.label);
        (label, value.to_string())
    }));
    if let Some(sigmas) = &request.sigmas {
        let levels: Vec<_> = sigmas.iter().map(f64::to_string).collect();
        pairs.push(("Sigmas", format!("[{}]", levels.join(", "))));
    }
    if given_noise {
        pairs.push(("Noise", "given".to_owned()));
    }
    pairs.push(("Profile", request.profile.id().to_owned()));
    let plain = parse(&format!("{text}\n{FIRST}1"));
    if (&plain.prompt, &plain.negative) != (&request.prompt, &request.negative) {
        pairs.push(("Prompt", request.prompt.clone()));
        pairs.push(("Negative", request.negative.clone()));
    }
    pairs.push(("Version", concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned()));
    let line: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: {}", pair_value(value))).collect();
    format!("{text}\n{}", line.join(", "))
}

/// Reads an infotext of any program; what it does not have stays empty.
pub fn parse(text: &str) -> Infotext {
    let text = text.replace("\r\n", "\n");
    let (prompt, negative, line) = split(text.trim_end_matches('\n'));
    let pairs = pairs(line);
    let exactly = |key| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    Infotext {
        prompt: exactly("Prompt").unwrap_or_else(|| prompt.to_owned()),
        negative: exactly("Negative").unwrap_or_else(|| negative.to_owned()),
        pairs,
    }
}

impl Infotext {
    /// The request that it describes; what it does not say is as in [`Txt2Img::of`], but for the noise, which A1111 leaves out
    /// where it is the graphics card's, and for the schedule.
    ///
    /// A1111 names the schedule from 1.9 on. What it wrote before was sampled with `normal` unless the sampler's name ends in another; of
    /// other programs' pictures nothing is known, and they get `automatic`.
    ///
    /// # Errors
    /// [`Error::Infotext`] for a value that makes no sense, or the registry's for a name that is not known here.
    pub fn request(&self) -> Result<Txt2Img, Error> {
        self.request_with(&Registry::builtin())
    }

    /// The same, with the samplers and schedules of a registry.
    ///
    /// # Errors
    /// As [`Infotext::request`].
    pub fn request_with(&self, registry: &Registry) -> Result<Txt2Img, Error> {
        let mut request =
            Txt2Img { negative: self.negative.clone(), noise: NoiseSource::Nv, ..Txt2Img::of(self.prompt.clone()) };
        let (mut named, mut given) = (None, None);
        for (key, value) in &self.pairs {
            match key.as_str() {
                "Steps" => request.steps = number("Steps", value)?,
                "Sampler" => (request.sampler, named) = registry.sampler_and_schedule(value)?,
                "Schedule type" => given = Some(registry.schedule(value)?),
                "CFG scale" => request.cfg = number("CFG scale", value)?,
                "Distilled CFG Scale" => request.guidance = number("Distilled CFG Scale", value)?,
                "Seed" => request.seed = number("Seed", value)?,
                "Batch" => request.batch = number("Batch", value)?,
                "T5 length" => request.t5_length = Some(number("T5 length", value)?),
                "Profile" => request.profile = Profile::named(value)?,
                "Sigmas" => {
                    let levels = value.trim_matches(['[', ']']).split(',');
                    request.sigmas =
                        Some(levels.map(|level| number("Sigmas", level.trim())).collect::<Result<_, _>>()?);
                }
                "RNG" => {
                    request.noise = match value.as_str() {
                        "CPU" => NoiseSource::Cpu,
                        "NV" | "GPU" => NoiseSource::Nv,
                        other => return Err(wrong("RNG", "CPU, NV or GPU", other)),
                    }
                }
                "Size" => {
                    let (width, height) = value.split_once('x').ok_or_else(|| wrong("Size", "WIDTHxHEIGHT", value))?;
                    request.size = Size { width: number("Size", width)?, height: number("Size", height)? };
                }
                _ => {}
            }
        }
        if let Some(schedule) = given.or(named) {
            request.schedule = schedule;
        } else if self.pairs.iter().any(|(key, _)| key == "Sampler") {
            let before = self.pairs.iter().any(|(key, value)| key == "Version" && is_before_schedules(value));
            request.schedule = registry.schedule(if before { "normal" } else { "automatic" })?;
        }
        let params = request.params();
        for (key, value) in &self.pairs {
            if let Some(param) = params.iter().find(|param| param.label == key) {
                let Ok(value) = value.parse();
                request.options.set(param.name, value);
            }
        }
        Ok(request)
    }
}

/// Whether a version is one of A1111's up to 1.8, such as `v1.6.0-2-g4afaaf8`.
fn is_before_schedules(version: &str) -> bool {
    let mut numbers = version.strip_prefix('v').unwrap_or_default().split(['.', '-']).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(0..=8))))
}

/// Prompt, negative prompt and the line of pairs: the last line, if it has steps or at least three pairs (A1111's own rule).
fn split(text: &str) -> (&str, &str, &str) {
    let (before, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let is_pairs = last.starts_with(FIRST) || pairs(last).len() >= 3;
    let (prompts, line) = if is_pairs { (before, last) } else { (text, "") };
    if let Some(negative) = prompts.strip_prefix(NEGATIVE) {
        return ("", negative.strip_prefix(' ').unwrap_or(negative), line);
    }
    let marker = format!("\n{NEGATIVE}");
    let (prompt, negative) = prompts.split_once(marker.as_str()).unwrap_or((prompts, ""));
    (prompt, negative.strip_prefix(' ').unwrap_or(negative), line)
}

/// The pairs of a line, the first of each key; a quoted value is a JSON string, and a value in brackets is JSON: both may hold
/// commas.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut rest = line;
    while let Some((key, after)) = rest.split_once(": ") {
        let (value, length) = value(after);
        let key = key.trim();
        if !pairs.iter().any(|(known, _)| known == key) {
            pairs.push((key.to_owned(), value));
        }
        rest = after[length..].trim_start_matches([',', ' ']);
    }
    pairs
}

/// The value that a text begins with, and how many bytes it takes.
fn value(text: &str) -> (String, usize) {
    let mut json = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    match (text.chars().next(), json.next()) {
        (Some('"'), Some(Ok(serde_json::Value::String(value)))) => (value, json.byte_offset()),
        (Some('[' | '{'), Some(Ok(_))) => (text[..json.byte_offset()].to_owned(), json.byte_offset()),
        _ => {
            let plain = text.split(", ").next().unwrap_or(text);
            (plain.to_owned(), plain.len())
        }
    }
}

/// A value as it stands in a line: quoted where it would end the pair, start another or look quoted.
fn pair_value(value: &str) -> String {
    if value.is_empty()
        || value.contains([',', ':', '\n', '\r'])
        || value.starts_with(['"', '[', '{'])
        || value.trim() != value
    {
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
        let infotext = parse(text);
        let request = infotext.request().unwrap();
        assert_eq!((request.prompt.as_str(), request.negative.as_str()), ("masterpiece, 1girl\nmore", "bad hands"));
        assert_eq!((request.steps, request.sampler.id, request.cfg, request.seed), (28, "euler_ancestral", 7.0, 1234));
        assert_eq!(request.size, Size { width: 512, height: 768 });
        assert_eq!(request.noise, NoiseSource::Nv);
        assert!(infotext.pairs.contains(&("Lora hashes".into(), "x: 1, y: 2".into())));
    }

    #[test]
    fn sloppy_and_foreign_forms_are_read_too() {
        let same = |text: &str, prompt: &str, negative: &str, seed: &str| {
            let infotext = parse(text);
            assert_eq!((infotext.prompt.as_str(), infotext.negative.as_str()), (prompt, negative), "{text}");
            assert!(infotext.pairs.contains(&("Seed".into(), seed.into())), "{text}");
        };
        same("a\r\nNegative prompt: b\r\nSteps: 1, Seed: 3\r\n", "a", "b", "3");
        same("a\nNegative prompt:b\nSteps: 1, Seed: 3\n\n", "a", "b", "3");
        same("a\nSeed: 3, Model: x, Size: 8x8", "a", "", "3");
        let civitai = "a\nSteps: 1, Seed: 3, Civitai resources: [{\"modelName\":\"A, B: C, Steps: 9\"}], Steps: 7";
        same(civitai, "a", "", "3");
        assert_eq!(parse(civitai).request().unwrap().steps, 1);
        assert_eq!(parse("no pairs: at all").prompt, "no pairs: at all");
    }

    #[test]
    fn a_sampler_may_end_in_its_schedule_as_it_did_before_the_two_were_apart() {
        let ids =
            |line: &str| parse(&format!("a\nSteps: 1, {line}")).request().map(|r| (r.sampler.id, r.schedule.id)).ok();
        assert_eq!(ids("Sampler: DPM++ 2M Karras"), Some(("dpmpp_2m", "karras")));
        assert_eq!(ids("Sampler: DPM++ 2M, Schedule type: Beta"), Some(("dpmpp_2m", "beta")));
        assert_eq!(ids("Sampler: DPM++ 2M Karras, Schedule type: Beta"), Some(("dpmpp_2m", "beta")));
        assert_eq!(ids("Sampler: DPM++ 2M, Schedule type: Automatic"), Some(("dpmpp_2m", "automatic")));
        assert_eq!(ids("Sampler: LMS"), Some(("lms", "automatic")));
        for version in ["v1.9.0", "v1.10.1", "f2.0.1v1.10.1-previous-669", "v2", "ComfyUI", "v"] {
            assert_eq!(ids(&format!("Sampler: LMS, Version: {version}")), Some(("lms", "automatic")), "{version}");
        }
        for version in ["v1.8.0", "v1.6.0-2-g4afaaf8", "v1.0.0-pre"] {
            assert_eq!(ids(&format!("Sampler: LMS, Version: {version}")), Some(("lms", "normal")), "{version}");
        }
    }

    #[test]
    fn a_name_or_number_that_makes_no_sense_is_an_error() {
        for line in ["Steps: x", "Steps: 1, Size: 5", "Steps: 1, Sampler: DPM-9", "Steps: 1, RNG: dice"] {
            assert!(parse(&format!("a\n{line}")).request().is_err(), "{line}");
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
            prop_assert_eq!(parse(&render(&request, &model, nv)).request().unwrap(), request);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)(Steps: |Size: |Seed: |\"|, |\\\\|\n|.){0,40}") {
            let _ = parse(&text).request();
        }
    }
}
