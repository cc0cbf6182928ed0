//! Requests of every setting that a picture's text has, written down and read again: what is read is what was written.

use diffusion_engine::{
    Catalog, Emphasis, Hires, HiresSize, Ingredient, Key, Kind, Pass, PerStep, Provenance, RefinedPasses, Refiner,
    Shape, Size, Txt2Img, Upscaler, Value, Variation, parse, render,
};
use samplers::{Kind as ParamKind, Options, Value as Setting, noise::NoiseSource};

use crate::{Dice, Reached};

/// What prompts are made of: what a reader may take for something else, and words.
const PIECES: &[&str] = &[
    "Negative prompt: ",
    "\nNegative prompt: no",
    "negative prompt:",
    "Steps: 20, ",
    "\nSteps: 20, Sampler: Euler, Seed: 5, Size: 512x768",
    "Steps=20, Seed=5",
    "Steps：20，Seed：5",
    ", Version: forge 0.1.0",
    "\nTemplate: a",
    "Prompt: \"x\"",
    "Seed: 1, Size: 8x8, Model: m",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\0",
    "<br>",
    "\\n",
    "\\",
    "\"",
    "\"a: b\"",
    "'",
    ",",
    ", ",
    ":",
    ": ",
    " ",
    "\t",
    "(cat:1.2)",
    "[a:b:0.5]",
    "[a|b]",
    " AND ",
    "BREAK",
    "<lora:a:1>",
    "{\"prompt\": \"a\"}",
    "{",
    "]",
    "###",
    "a cat",
    "owl, rain",
    "Löwe",
    "獅子",
    "🦉",
    "e\u{301}",
];

/// Bytes that a request is made of.
pub(crate) fn seed(dice: &mut Dice, _: &[Vec<u8>], _: &[&str]) -> Vec<u8> {
    (0..8).map(|_| dice.roll(256) as u8).collect()
}

/// Makes a request of bytes, writes it down and reads it again.
///
/// # Panics
/// If it is another.
pub(crate) fn read(catalog: &Catalog, bytes: &[u8]) -> Reached {
    let number = bytes.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    let dice = &mut Dice::of(number, "request", bytes.len() as u64);
    let request = trimmed(request(dice, catalog));
    // Some sizes have no second pass.
    let request = if request.clone().checked().is_ok() { request } else { Txt2Img { hires: None, ..request } };
    let (made, given) = (provenance(dice), dice.one_in(4));
    // A refiner is named by the request, and its hash stands behind that name.
    let hash = dice.one_in(2).then(|| "7440042bbd".to_owned());
    let refiner = request.refiner.as_ref().map(|refiner| Ingredient { name: Some(refiner.name.clone()), hash });
    let made = Provenance { refiner: refiner.unwrap_or_default(), ..made };
    let text = render(&request, &made, catalog.knobs(), given);
    let infotext = parse(&text, catalog.knobs());
    let reading = infotext.reading(catalog).unwrap_or_else(|error| panic!("{error}\n{text:?}"));
    let found = trimmed(reading.request);
    assert!(
        found == request,
        "read is\n{}\nand written was\n{}\nas {text:?}",
        everything(&found),
        everything(&request)
    );
    assert!(infotext.provenance() == made, "{:?} is not {made:?} in {text:?}", infotext.provenance());
    assert!(reading.defaults.is_empty(), "{:?} are open in {text:?}", reading.defaults);
    Reached::Accepted
}

/// Guidance from step to step.
fn by_step(dice: &mut Dice) -> PerStep {
    let cfg = |dice: &mut Dice| number(dice, 1.0, 100.0) as f32;
    match dice.roll(4) {
        0 => PerStep::Each((0..1 + dice.roll(20)).map(|_| cfg(dice)).collect()),
        1 => PerStep::Ramp { from: cfg(dice), to: cfg(dice), shape: *dice.pick(&[Shape::Linear, Shape::Cosine]) },
        _ => PerStep::Same(cfg(dice)),
    }
}

fn request(dice: &mut Dice, catalog: &Catalog) -> Txt2Img {
    let mut pass = Pass::of(words(dice));
    if dice.one_in(2) {
        pass.negative = words(dice);
    }
    pass.template = dice.one_in(6).then(|| words(dice) + "{a|b}");
    pass.negative_template = dice.one_in(6).then(|| "__c__".to_owned() + &words(dice));
    pass.emphasis = *dice.pick(&[Emphasis::default(), Emphasis::NoNorm, Emphasis::Ignore, Emphasis::None]);
    pass.steps = 1 + dice.roll(1000);
    pass.sampler = dice.pick(catalog.samplers()).clone();
    pass.schedule = dice.pick(catalog.schedules()).clone();
    pass.profile = dice.pick(catalog.profiles()).clone();
    pass.cfg = by_step(dice);
    let side = |dice: &mut Dice| 16 + dice.roll(Size::MAX - 15);
    pass.size = Size { width: side(dice), height: side(dice) };
    if dice.one_in(5) {
        let mut level = number(dice, 1.0, 200.0);
        let mut levels = vec![level];
        for _ in 0..1 + dice.roll(20) {
            level *= number(dice, 0.01, 0.99);
            levels.push(level);
        }
        levels.push(0.0);
        pass.steps = levels.len() - 1;
        pass.sigmas = Some(levels);
    }
    for param in pass.params() {
        if dice.one_in(3) {
            pass.options.set(&param.name, option(dice, &param.kind));
        }
    }
    for key in catalog.knobs().iter().filter(|key| key.label.is_some()) {
        let value = if dice.one_in(3) { knob(dice, key) } else { None };
        // What a model has anyway is not set in a request that was read.
        if let Some(value) =
            value.filter(|value| key.initial().and_then(|initial| initial.option()).as_ref() != Some(value))
        {
            pass.knobs.set(key.name, value);
        }
    }
    let strength = number(dice, 0.000_1, 1.0) as f32;
    // Of a picture whose larger one is a picture too.
    let may_grow = [pass.size.width, pass.size.height].iter().all(|side| (64..=4096).contains(side));
    Txt2Img {
        seed: whole(dice),
        batch: 1 + dice.roll(Txt2Img::MAX_BATCH),
        noise: *dice.pick(&[NoiseSource::Cpu, NoiseSource::Nv]),
        variation: dice.one_in(3).then(|| Variation { seed: whole(dice), strength }),
        resized_from: dice.one_in(4).then(|| Size { width: side(dice), height: side(dice) }),
        pass,
        hires: (may_grow && dice.one_in(2)).then(|| hires(dice, catalog)),
        refiner: dice.one_in(5).then(|| Refiner {
            name: (*dice.pick(&["sd_xl_refiner_1.0", "a, b: c", "Löwe (2)"])).to_owned(),
            switch_at: number(dice, 0.0, 1.0),
            passes: *dice.pick(&[RefinedPasses::First, RefinedPasses::Second, RefinedPasses::Both]),
        }),
    }
}

fn hires(dice: &mut Dice, catalog: &Catalog) -> Hires {
    let sides = |dice: &mut Dice| HiresSize::Sides { width: 64 + dice.roll(2048), height: 64 + dice.roll(2048) };
    let size = if dice.one_in(2) { sides(dice) } else { HiresSize::Scale(number(dice, 1.0, 4.0)) };
    let mut knobs = Options::default();
    for key in catalog.knobs().iter().filter(|key| key.label.is_some()) {
        let value = if dice.one_in(6) { knob(dice, key) } else { None };
        value.into_iter().for_each(|value| knobs.set(key.name, value));
    }
    Hires {
        upscaler: dice.pick(&Upscaler::IDS).parse().unwrap_or_default(),
        steps: Some(1 + dice.roll(500)),
        strength: number(dice, 0.51, 1.0),
        sampler: dice.one_in(2).then(|| dice.pick(catalog.samplers()).clone()),
        schedule: dice.one_in(2).then(|| dice.pick(catalog.schedules()).clone()),
        cfg: dice.one_in(2).then(|| by_step(dice)),
        knobs,
        prompt: words(dice).trim().to_owned(),
        negative: words(dice).trim().to_owned(),
        model: if dice.one_in(4) { "sdxl, v1: b".to_owned() } else { String::new() },
        ..Hires::of(size)
    }
}

/// Names as files have them, and digits.
fn provenance(dice: &mut Dice) -> Provenance {
    const NAMES: [&str; 5] = ["flux1-dev", "v1-5-pruned, emaonly", "a: b", "Löwe (2)", "m.q8"];
    let ingredient = |dice: &mut Dice| Ingredient {
        name: Some((*dice.pick(&NAMES)).to_owned()),
        hash: dice.one_in(2).then(|| format!("{:010x}", whole(dice) >> 24)),
    };
    Provenance {
        model: ingredient(dice),
        vae: if dice.one_in(2) { ingredient(dice) } else { Ingredient::default() },
        version: Some(concat!("forge ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Provenance::default()
    }
}

fn words(dice: &mut Dice) -> String {
    let piece = |dice: &mut Dice| match dice.roll(8) {
        0 => char::from_u32(dice.roll(0x11_0000) as u32).unwrap_or('a').to_string(),
        _ => (*dice.pick(PIECES)).to_owned(),
    };
    (0..dice.roll(9)).map(|_| piece(dice)).collect()
}

fn whole(dice: &mut Dice) -> u64 {
    match dice.roll(4) {
        0 => dice.roll(100) as u64,
        1 => u64::MAX - dice.roll(100) as u64,
        2 => dice.roll(1 << 32) as u64,
        _ => dice.roll(usize::MAX) as u64,
    }
}

/// A number of a range: its ends, a round one, or any.
fn number(dice: &mut Dice, min: f64, max: f64) -> f64 {
    let max = if max.is_finite() { max } else { 1e6 };
    let share = dice.roll(1 << 52) as f64 / (1u64 << 52) as f64;
    match dice.roll(6) {
        0 => min,
        1 => max,
        2 | 3 => (min + share * (max - min)).round().clamp(min, max),
        _ => min + share * (max - min),
    }
}

fn option(dice: &mut Dice, kind: &ParamKind) -> Setting {
    match kind {
        ParamKind::Number { min, max, .. } => Setting::Number(number(dice, *min, *max)),
        ParamKind::Whole { min, max, .. } => Setting::Number(number(dice, *min as f64, *max as f64).round()),
        ParamKind::Choice(names) => Setting::Name(dice.pick(names).to_string()),
    }
}

fn knob(dice: &mut Dice, key: &Key) -> Option<Setting> {
    let value = match key.kind {
        Kind::Number { min, max } => Value::Number(number(dice, min, max)),
        Kind::Whole { min, max, step } => Value::Whole((min + step * dice.roll((max - min) / step + 1)) as i128),
        Kind::Choice(names) => Value::Text((*dice.pick(names)).to_owned()),
        _ => return None,
    };
    value.option()
}

/// The same request without spaces and line ends around its prompts, which no model is given.
fn trimmed(mut request: Txt2Img) -> Txt2Img {
    let Pass { prompt, negative, template, negative_template, .. } = &mut request.pass;
    for text in [Some(prompt), Some(negative), template.as_mut(), negative_template.as_mut()].into_iter().flatten() {
        *text = text.trim().to_owned();
    }
    request
}

/// A request with all that its own debug form leaves out.
fn everything(request: &Txt2Img) -> String {
    let Pass {
        prompt, negative, emphasis, template, negative_template, steps, sigmas, options, cfg, size, knobs, ..
    } = &request.pass;
    format!(
        "{request:?} {prompt:?} {negative:?} {emphasis:?} {template:?} {negative_template:?} {steps} {} {} {sigmas:?} {options:?} \
         {} {cfg:?} {size:?} {knobs:?}",
        request.pass.sampler.id, request.pass.schedule.id, request.pass.profile.id
    )
}
