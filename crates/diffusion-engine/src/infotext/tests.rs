use proptest::prelude::*;
use proptest::sample::Index;
use samplers::{Options, Value, noise::NoiseSource};

use super::*;
use crate::{
    Catalog, Error, Fallback, Hires, HiresSize, Ingredient, Kind, Pass, PerStep, Provenance, RefinedPasses, Refiner,
    Shape, Size, Txt2Img, Upscaler, Variation,
};

/// What a family may have of its own.
const KNOBS: [Key; 2] = [
    Key::of(Kind::Number { min: 0.0, max: 100.0 }, Fallback::Number(3.5))
        .at("sampling", "warmth", "")
        .label("Warm Scale"),
    Key::of(Kind::Whole { min: 1, max: 4096, step: 1 }, Fallback::Open { means: "", example: "" })
        .at("prompt", "room", "")
        .label("Room"),
];

fn catalog() -> Catalog {
    Catalog::builtin().with_knobs(&KNOBS)
}

fn parse(text: &str) -> Infotext {
    super::parse(text, &KNOBS)
}

fn render(request: &Txt2Img, model: &str, given_noise: bool) -> String {
    let made = Provenance { model: Ingredient::named(model), ..Provenance::default() };
    super::render(request, &made, &KNOBS, given_noise)
}

fn request(prompt: &str, negative: &str) -> Txt2Img {
    Txt2Img::of(prompt).with(|pass| pass.negative = negative.into())
}

#[test]
fn a_plain_request_reads_as_a1111_writes_it() {
    let text = render(&request("a cat", "dogs, rain").steps(4).seed(7), "demo", false);
    assert_eq!(
        text,
        "a cat\nNegative prompt: dogs, rain\nSteps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, \
         Warm Scale: 3.5, Seed: 7, Size: 1024x1024, Model: demo, RNG: CPU, Profile: forge, Version: forge 0.1.0"
    );
}

#[test]
fn the_hash_of_a_model_stands_before_its_name_and_is_read_back() {
    let known = |name: &str, hash: &str| Ingredient { name: Some(name.into()), hash: Some(hash.into()) };
    let (model, vae) = (known("demo", "0123456789"), known("ae.safetensors", "9876543210"));
    let version = Some(concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned());
    let made = Provenance { model, vae, version, ..Provenance::default() };
    let text = super::render(&request("a cat", ""), &made, &KNOBS, false);
    let line =
        "Size: 1024x1024, Model hash: 0123456789, Model: demo, VAE hash: 9876543210, VAE: ae.safetensors, RNG: CPU";
    assert!(text.contains(line), "{text}");
    let infotext = parse(&text);
    assert_eq!(infotext.provenance(), made);
    assert_eq!(infotext.request(&catalog()).unwrap(), request("a cat", ""));
}

#[test]
fn the_hash_of_a_refiner_stands_behind_its_name_and_both_are_read_back() {
    let refiner = Refiner { name: "xl [b] refiner".into(), switch_at: 0.75, passes: RefinedPasses::default() };
    let asked = Txt2Img { refiner: Some(refiner), ..request("a cat", "") };
    let of = |hash: Option<&str>| Ingredient { name: None, hash: hash.map(str::to_owned) };
    for (hash, title) in [(Some("7440042bbd"), "xl [b] refiner [7440042bbd]"), (None, "xl [b] refiner")] {
        let made = Provenance { refiner: of(hash), ..Provenance::default() };
        let text = super::render(&asked, &made, &KNOBS, false);
        assert!(text.contains(&format!("Refiner: {title}, Refiner switch at: 0.75")), "{text}");
        let infotext = parse(&text);
        let read = infotext.provenance().refiner;
        assert_eq!((read.name.as_deref(), read.hash.as_deref()), (Some("xl [b] refiner"), hash));
        assert_eq!(infotext.request(&catalog()).unwrap(), asked);
    }
}

#[test]
fn text_of_other_programs_is_read_as_far_as_it_goes() {
    let text = "masterpiece, 1girl\nmore\nNegative prompt: bad hands\nSteps: 28, Sampler: Euler a, CFG scale: 7, Seed: 1234, \
                Size: 512x768, Model hash: abc, Model: \"a, b\", Lora hashes: \"x: 1, y: 2\", Version: v1.10.1";
    let infotext = parse(text);
    let request = infotext.request(&catalog()).unwrap();
    assert_eq!(
        (request.pass.prompt.as_str(), request.pass.negative.as_str()),
        ("masterpiece, 1girl\nmore", "bad hands")
    );
    assert_eq!(
        (request.pass.steps, request.pass.sampler.id.as_str(), request.pass.cfg, request.seed),
        (28, "euler_ancestral", 7.0.into(), 1234)
    );
    assert_eq!(request.pass.size, Size { width: 512, height: 768 });
    assert_eq!(request.noise, NoiseSource::Nv);
    assert!(infotext.pairs.contains(&("Lora hashes".into(), "x: 1, y: 2".into())));
}

#[test]
fn line_ends_that_were_lost_or_changed_are_found_again() {
    let settings = "Steps: 33, Sampler: Euler, CFG scale: 7, Hires steps: 5, Seed: 5, Size: 512x768";
    let same = |text: &str, prompt: &str, negative: &str| {
        let request = parse(text).request(&catalog()).unwrap();
        assert_eq!((request.pass.prompt.as_str(), request.pass.negative.as_str()), (prompt, negative), "{text:?}");
        assert_eq!((request.pass.steps, request.seed), (33, 5), "{text:?}");
    };
    for end in
        ["\r", "\r\n", "\r\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\\n", "<br>", "<br/>", "\n  ", "\n\t\t"]
    {
        same(&format!("a cat, hat{end}Negative prompt: b, c{end}{settings}"), "a cat, hat", "b, c");
        same(&format!("a cat, hat{end}{settings}"), "a cat, hat", "");
    }
    for apart in [" ", ", ", "  ", ". "] {
        let dot = apart.trim_end().trim_end_matches(',');
        let (prompt, negative) = (format!("a cat, in a hat{dot}"), format!("b, c{dot}"));
        same(&format!("a cat, in a hat{apart}Negative prompt: b, c{apart}{settings}"), &prompt, &negative);
        same(&format!("a cat, in a hat{apart}{settings}"), &prompt, "");
        same(&format!("a cat, in a hat{apart}Negative prompt: {settings}"), &prompt, "");
    }
    same("a cat\nNegative prompt：b\nSteps：33，Sampler：Euler，Seed：5", "a cat", "b");
    same("a cat\nSteps=33, Sampler=Euler, Seed=5", "a cat", "");
    // this engine's own prompts may hold any of them
    for prompt in ["a\rb", "a\u{2028}Negative prompt: b", "a\\nNegative prompt: b", "a Negative prompt: b"] {
        let request = request(prompt, "");
        assert_eq!(parse(&render(&request, "m", false)).request(&catalog()).unwrap(), request);
    }
    // and what has no settings behind it is a prompt
    for text in ["a dance in steps: 3, and more: 4", "Garden steps: 10"] {
        assert_eq!(parse(text).prompt, text);
    }
}

#[test]
fn json_of_a_program_that_is_not_known_is_an_error_and_a_bracket_is_a_prompt() {
    for text in [
        "{}",
        "[]",
        "null",
        "[{\"prompt\": \"a\"}]",
        "{\"prompt\": \"a\", \"model\": \"dall-e-3\"}",
        "{'prompt': 'a', 'x': None}",
        " {\"a\": [1",
        "[ { 'a': 1 } ]",
    ] {
        let fault = parse(text).request(&catalog());
        assert!(matches!(fault, Err(Error::InfotextForm { fault: TextFault::UnknownJson, .. })), "{text}");
        assert!(!parse(text).says_something());
    }
    for text in ["[cat|dog]", "{a|b}, c", "[cat:0.5]", "{\"a\" cat}", "[a], {b}", "{", "[", "{'quoted'} cat"] {
        assert_eq!(parse(text).request(&catalog()).unwrap().pass.prompt, text);
    }
}

#[test]
fn levels_say_how_many_steps_were_taken() {
    let given = Txt2Img::of("a").with(|pass| pass.sigmas = Some(vec![1.0, 0.6, 0.3, 0.0]));
    let text = render(&given, "m", false);
    assert!(text.contains("\nSteps: 3, "), "{text}");
    assert_eq!(parse(&text).request(&catalog()).unwrap(), given.steps(3));
    assert_eq!(parse("a\nSampler: Euler, Seed: 5, Sigmas: [1, 0.5, 0]").request(&catalog()).unwrap().pass.steps, 2);
    for wrong in ["[0, 0.5, 1]", "[1]", "[1, 0.5, 0.2, 0]", "[1, -1]", "[1, 1, 0]"] {
        assert!(parse(&format!("a\nSteps: 2, Seed: 5, Sigmas: {wrong}")).request(&catalog()).is_err(), "{wrong}");
    }
    for wrong in ["8x8", "100000x100000", "512x15"] {
        assert!(parse(&format!("a\nSteps: 2, Seed: 5, Size: {wrong}")).request(&catalog()).is_err(), "{wrong}");
    }
    assert!(parse("a\nSteps: 2, Seed: 5, Width: 8").request(&catalog()).is_err());
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
    let civitai = "a\nSteps: 1, Seed: 3, Civitai resources: [{\"modelName\":\"A, B: C, Steps: 9\"}], Steps: 1";
    same(civitai, "a", "", "3");
    assert_eq!(parse(civitai).request(&catalog()).unwrap().pass.steps, 1);
    assert_eq!(parse("no pairs: at all").prompt, "no pairs: at all");
}

#[test]
fn a_sampler_may_end_in_its_schedule_as_it_did_before_the_two_were_apart() {
    let ids = |line: &str| {
        parse(&format!("a\nSteps: 1, {line}"))
            .request(&catalog())
            .ok()
            .map(|r| format!("{}, {}", r.pass.sampler.id, r.pass.schedule.id))
    };
    assert_eq!(ids("Sampler: DPM++ 2M Karras"), Some("dpmpp_2m, karras".to_owned()));
    assert_eq!(ids("Sampler: DPM++ 2M, Schedule type: Beta"), Some("dpmpp_2m, beta".to_owned()));
    assert_eq!(ids("Sampler: DPM++ 2M Karras, Schedule type: Beta"), None);
    assert_eq!(ids("Sampler: DPM++ 2M Karras, Schedule type: Karras"), Some("dpmpp_2m, karras".to_owned()));
    assert_eq!(ids("Sampler: DPM++ 2M Karras, Schedule type: Automatic"), Some("dpmpp_2m, karras".to_owned()));
    assert_eq!(ids("Sampler: DPM++ 2M, Schedule type: Automatic"), Some("dpmpp_2m, automatic".to_owned()));
    assert_eq!(ids("Sampler: LMS"), Some("lms, automatic".to_owned()));
    for version in ["v1.9.0", "v1.10.1", "f2.0.1v1.10.1-previous-669", "v2", "ComfyUI", "v"] {
        assert_eq!(ids(&format!("Sampler: LMS, Version: {version}")), Some("lms, automatic".to_owned()), "{version}");
    }
    for version in ["v1.8.0", "v1.6.0-2-g4afaaf8", "v1.0.0-pre", "1.8.0", "f0.0.17v1.8.0rc-latest-276"] {
        assert_eq!(ids(&format!("Sampler: LMS, Version: {version}")), Some("lms, normal".to_owned()), "{version}");
    }
}

#[test]
fn a_name_or_number_that_makes_no_sense_is_an_error() {
    for line in ["Steps: x", "Steps: 1, Size: 5", "Steps: 1, Sampler: DPM-9", "Steps: 1, RNG: dice"] {
        assert!(parse(&format!("a\n{line}")).request(&catalog()).is_err(), "{line}");
    }
}

/// All that `cfg` may be.
fn cfgs() -> impl Strategy<Value = PerStep> {
    let number = || 1.0f32..100.0;
    let shape = prop_oneof![Just(Shape::Linear), Just(Shape::Cosine)];
    prop_oneof![
        number().prop_map(PerStep::Same),
        proptest::collection::vec(number(), 1..6).prop_map(PerStep::Each),
        (number(), number(), shape).prop_map(|(from, to, shape)| PerStep::Ramp { from, to, shape }),
    ]
}

/// Second passes, and whether each has a sampler and a schedule of its own.
fn second_passes() -> impl Strategy<Value = (Hires, bool)> {
    let size = prop_oneof![
        (1.0f64..4.0).prop_map(HiresSize::Scale),
        (prop_oneof![Just(0), 8usize..2048], 8usize..2048)
            .prop_map(|(width, height)| HiresSize::Sides { width, height }),
    ];
    let upscaler = proptest::sample::select(&Upscaler::IDS[..]).prop_map(|id| id.parse::<Upscaler>().unwrap());
    let words = "(Negative prompt: |, |\"|: |[a-z]{1,4}){0,4}".prop_map(|words| words.trim().to_owned());
    let others = (proptest::option::of(1usize..400), proptest::option::of(cfgs()), proptest::option::of(0.0f64..100.0));
    (size, upscaler, 0.5f64..1.0, others, words.clone(), words, any::<bool>()).prop_map(
        |(size, upscaler, strength, (steps, cfg, warmth), prompt, negative, is_other)| {
            let mut knobs = Options::default();
            warmth.into_iter().for_each(|warmth| knobs.set("warmth", Value::Number(warmth)));
            (Hires { upscaler, steps, strength, cfg, knobs, prompt, negative, ..Hires::of(size) }, is_other)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_parses_to_the_same_request(
        prompt in "(?s)(Negative prompt: |Steps: 1, |\n|, |\"|: |[a-z]{0,4}|\\PC){0,6}",
        negative in "(?s)(Negative prompt: |Steps: 1|\n|, |\"|[a-z]{0,4}|\\PC){0,4}",
        model in "\\PC{0,8}",
        (seed, steps, batch) in (any::<u64>(), 1usize..1000, 1usize..65),
        (cfg, warmth) in (cfgs(), 0.0f64..100.0),
        (sampler, schedule, profile) in (any::<Index>(), any::<Index>(), any::<Index>()),
        room in proptest::option::of(1u32..4097),
        nv in any::<bool>(),
        variation in proptest::option::of((any::<u64>(), 0.001f32..1.0)),
        sides in proptest::option::of((16usize..4096, 16usize..4096)),
        second in proptest::option::of(second_passes()),
    ) {
        let registry = catalog();
        let noise = if nv { NoiseSource::Nv } else { NoiseSource::Cpu };
        let variation = variation.map(|(seed, strength)| Variation { seed, strength });
        let resized_from = sides.map(|(width, height)| Size { width, height });
        let hires = second.map(|(hires, is_other)| Hires {
            sampler: is_other.then(|| sampler.get(registry.samplers()).clone()),
            schedule: is_other.then(|| schedule.get(registry.schedules()).clone()),
            ..hires
        });
        let steps = if hires.is_some() { steps.min(400) } else { steps };
        let request = Txt2Img { batch, noise, variation, resized_from, ..Txt2Img::of(prompt).seed(seed).steps(steps) };
        let request = Txt2Img { hires, ..request };
        let request = request.with(|pass| {
            pass.negative = negative;
            pass.cfg = cfg;
            pass.sampler = sampler.get(registry.samplers()).clone();
            pass.schedule = schedule.get(registry.schedules()).clone();
            pass.profile = profile.get(registry.profiles()).clone();
            pass.knobs.set("warmth", Value::Number(warmth));
            room.into_iter().for_each(|room: u32| pass.knobs.set("room", Value::Number(room.into())));
        });
        prop_assert_eq!(parse(&render(&request, &model, nv)).request(&catalog()).unwrap(), request);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s)(Steps: |Size: |Seed: |\"|, |\\\\|\n|.){0,40}") {
        let _ = parse(&text).request(&catalog());
    }
}

#[test]
fn two_keys_that_contradict_each_other_are_an_error_that_names_both() {
    let said = |line: &str| parse(&format!("a\nSteps: 1, {line}")).request(&catalog()).map_err(|e| e.to_string());
    for (line, words) in [
        ("CFG scale: 7, cfg: 5", ["`CFG scale` is `7`", "`cfg` is `5`"]),
        ("Seed: 1, Noise seed: 2", ["`Seed` is `1`", "`Noise seed` is `2`"]),
        ("Size: 512x768, Width: 500", ["`Size` is `512x768`", "`Width` is `500`"]),
        ("Sampler: Euler, sampler_name: heun", ["`Sampler` is `Euler`", "`sampler_name` is `heun`"]),
        ("Seed: 1, Steps: 2", ["`Steps` is `1`", "`Steps` is `2`"]),
        ("Sampler: DPM++ SDE, Eta: 1, eta: 0.5", ["`Eta` is `1`", "`eta` is `0.5`"]),
        ("CFG scale: 1, Guidance: 3, Guidance scale: 4", ["`CFG scale` is `1`", "`Guidance scale` is `4`"]),
    ] {
        let error = said(line).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // and those that agree are none
    let agreed =
        said("steps: 1.0, CFG scale: 7, cfg_scale: 7.0, Size: 512x768, width: 512, Height: 768, Seed: 5, seed: 5");
    assert_eq!(agreed.unwrap().pass.cfg, 7.0.into());
}

#[test]
fn what_a_text_does_not_say_is_listed_and_what_is_not_used_too() {
    let read = |text: &str| parse(text).reading(&catalog()).unwrap();
    let all = ["seed", "steps", "sampler", "schedule", "cfg", "warmth", "width", "height", "noise", "profile"];
    assert_eq!(read("a cat").defaults, all);
    assert_eq!(read("").defaults, all);
    let reading = read("a cat\nSteps: 20, Sampler: Euler, Warmth: 2.5, Seed: 7, Model: m, Clip skip: 2, Model: n");
    assert_eq!(reading.defaults, ["schedule", "cfg", "width", "height", "noise", "profile"]);
    assert_eq!(reading.unread, ["Model", "Clip skip"]);
    let ours = render(&Txt2Img::of("a cat"), "demo", true);
    assert_eq!(read(&ours).defaults, [""; 0]);
    assert_eq!(read(&ours).unread, ["Model", "Noise"]);
}

#[test]
fn a_prompt_with_colons_is_a_prompt() {
    for text in [
        "no pairs: at all",
        "a cat\nStyle: photo, Mood: dark, Light: soft",
        "12:30",
        "a\nNote: Seed, the: movie",
        "{a|b} cat",
        "[x]",
    ] {
        let infotext = parse(text);
        assert_eq!((infotext.prompt.as_str(), infotext.pairs.len()), (text, 0));
        assert!(!infotext.says_something());
    }
    let infotext = parse("{red|blue} cat\nNegative prompt: {a}\nSteps: 4, Seed: 1");
    assert_eq!((infotext.prompt.as_str(), infotext.negative.as_str()), ("{red|blue} cat", "{a}"));
}

#[test]
fn another_programs_prompt_key_is_not_the_prompt() {
    let read = |text: &str| parse(text).reading(&catalog()).unwrap();
    let other = read("\u{feff}a cat\n\nSteps: 4, Seed: 5, Prompt: raw, Negative: none, Version: v1.10.1");
    assert_eq!((other.request.pass.prompt.as_str(), other.request.pass.negative.as_str()), ("a cat", "none"));
    assert_eq!(other.unread, ["Prompt"]);
}

#[test]
fn settings_may_take_several_lines_or_have_others_behind() {
    let read = |text: &str| parse(text).reading(&catalog()).unwrap();
    let each =
        read("a cat\ndogs\nNegative prompt: x\nSteps: 4\nSampler: Euler\nCFG scale: 7\nSeed: 5\nSize: 512x768\n");
    assert_eq!((each.request.pass.prompt.as_str(), each.request.pass.negative.as_str()), ("a cat\ndogs", "x"));
    assert_eq!((each.request.pass.steps, each.request.pass.cfg, each.request.seed), (4, 7.0.into(), 5));
    let behind =
        read("a cat\nSteps: 4, Sampler: Euler, Seed: 5, Size: 512x768\nTemplate: a {b|c}\nNegative Template: d");
    assert_eq!((behind.request.pass.prompt.as_str(), behind.request.seed), ("a cat", 5));
    let Pass { template, negative_template, .. } = behind.request.pass;
    assert_eq!((template.as_deref(), negative_template.as_deref()), (Some("a {b|c}"), Some("d")));
    assert!(behind.unread.is_empty());
}

#[test]
fn texts_of_any_length_are_read_or_refused_at_once() {
    let start = std::time::Instant::now();
    let many = |piece: &str, count: usize| (0..count).map(|i| piece.replace('#', &i.to_string())).collect::<String>();
    let settings = format!("a\nSteps: 1, {}", many("k#: v, ", 80_000));
    assert!(matches!(
        parse(&settings).request(&catalog()),
        Err(Error::InfotextForm { fault: TextFault::TooManyKeys { .. }, .. })
    ));
    let long = "a".repeat(5 << 20);
    assert!(matches!(
        parse(&long).request(&catalog()),
        Err(Error::InfotextForm { fault: TextFault::TooLong { .. }, .. })
    ));
    let values = format!("{{\"class_type\": [{}1]}}", "1,".repeat(1 << 20));
    assert!(matches!(
        parse(&values).request(&catalog()),
        Err(Error::InfotextForm { fault: TextFault::TooManyValues { .. }, .. })
    ));
    let nodes = many("\"#\": {\"class_type\": \"KSampler\", \"inputs\": {\"latent_image\": [\"0\", 0]}}, ", 3000);
    let _ = parse(&format!("{{{nodes} \"x\": 1}}")).request(&catalog());
    for piece in ["\n", "Steps: 1, a: b, c: d\nx\n", "Seed: 1\n", "{", "[", "\"", "{\"a\":", "\n{", "a, ", "\\\"", "&"]
    {
        let _ = parse(&piece.repeat((1 << 18) / piece.len())).request(&catalog());
    }
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn texts_joined_with_themselves_do_not_grow_for_ever() {
    let join = |i: usize| {
        format!(
            "\"{i}\": {{\"class_type\": \"StringConcatenate\", \"inputs\": {{\"string_a\": [\"{0}\", 0], \"string_b\": [\"{0}\", 0]}}}},",
            i + 1
        )
    };
    let graph = format!(
        "{{{} \"200\": {{\"class_type\": \"PrimitiveString\", \"inputs\": {{\"value\": \"ab\"}}}}, \
         \"k\": {{\"class_type\": \"KSampler\", \"inputs\": {{\"seed\": 1, \"positive\": [\"p\", 0]}}}}, \
         \"p\": {{\"class_type\": \"CLIPTextEncode\", \"inputs\": {{\"text\": [\"0\", 0]}}}}}}",
        (0..200).map(join).collect::<String>()
    );
    assert!(matches!(
        parse(&graph).request(&catalog()),
        Err(Error::InfotextForm { fault: TextFault::Endless { .. }, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_graph_makes_the_parser_panic(
        nodes in proptest::collection::vec((0usize..6, 0usize..10, 0usize..6, 0usize..10, 0usize..6), 0..8),
    ) {
        const CLASSES: [&str; 10] = [
            "KSampler", "SamplerCustomAdvanced", "CLIPTextEncode", "EmptyLatentImage", "FluxGuidance", "BasicGuider",
            "RandomNoise", "BasicScheduler", "PrimitiveInt", "SaveImage",
        ];
        const INPUTS: [&str; 10] = [
            "seed", "positive", "latent_image", "guider", "sigmas", "text", "model", "conditioning", "value", "noise",
        ];
        let mut graph = serde_json::Map::new();
        for (id, class, to, input, more) in nodes {
            let inputs = serde_json::json!({ INPUTS[input]: [to.to_string(), 0], "steps": more, INPUTS[(input + 1) % 10]: "x" });
            graph.insert(id.to_string(), serde_json::json!({ "class_type": CLASSES[class], "inputs": inputs }));
        }
        let text = serde_json::Value::Object(graph).to_string();
        let _ = parse(&text).request(&catalog());
        let _ = parse(&text[..text.len() / 2]).request(&catalog());
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in "\\{(\"(c|uc|seed|image|prompt|steps|Comment|nodes|uc)\": ?|[0-9]{1,3}|NaN|\\[|\\]|\\{|\\}|,|\"|\\\\|\\PC){0,30}\\}") {
        let _ = parse(&text).request(&catalog());
    }
}
