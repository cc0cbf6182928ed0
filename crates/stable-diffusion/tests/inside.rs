//! What guidance and caches inside a UNet make of its answers, against ComfyUI's formulas around a UNet of diffusers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use core_tensor::{Device, Latent, Residency, Tensor, Weights, safetensors::Safetensors, tensor, values};
use diffusion_engine::{
    Around, Call, Cancel, Clock, Conditioned, Conditions, Error, Guidance, HookError, Hooks, Inside, Job, Pass, Place,
    Predictor, Run, Settings, Site, Wrap, methods, start,
};
use fixtures::{Golden, path};
use samplers::{Denoiser, Prediction, SigmaSpace, Sigmas, Step, Value};
use stable_diffusion::{LdmUnetNames, Unet};

use tiny::{finished, model, request};

fn number(x: f64) -> Value {
    Value::Number(x)
}

fn name(name: &str) -> Value {
    Value::Name(name.into())
}

/// The golden UNet, whose answer is `x - sigma · output` at one timestep.
struct Bare {
    unet: Unet,
    contexts: Tensor<3>,
}

impl Bare {
    fn open() -> Self {
        let file = Safetensors::open(&path("golden/inside/unet.safetensors")).unwrap();
        let config = serde_json::from_slice(&std::fs::read(path("golden/inside/unet.json")).unwrap()).unwrap();
        let source = LdmUnetNames::over(file);
        let unet = Unet::load(&Weights::of(&source, &Device::flex(), Residency::Unpacked), &config).unwrap();
        let golden = golden();
        let shape: [usize; 3] = golden.shape("contexts").try_into().unwrap();
        Self { unet, contexts: tensor(golden.floats("contexts"), shape, &Device::flex()) }
    }
}

impl Predictor for Bare {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let of_prompt = |&prompt: &usize| {
            let context = self.contexts.clone().narrow(0, prompt, 1);
            let scaled = x.0.clone() * (sigma * sigma + 1.0).sqrt().recip();
            let output = self.unet.forward(scaled, 500.0, context, None, &inside.of_call(sigma, prompt))?;
            Ok(Latent(x.0.clone() - output * sigma))
        };
        which.iter().map(of_prompt).collect()
    }
}

fn golden() -> Golden {
    Golden::open("inside/unet.expected.safetensors")
}

/// What the golden UNet and these settings make of its input at each of some levels, one call a step.
fn answered(keys: &[(&'static str, Value)], cfg: f32, levels: &[f32]) -> Result<Vec<f32>, samplers::Error> {
    let golden = golden();
    let shape: [usize; 4] = golden.shape("x").try_into().unwrap();
    let x: Tensor<4> = tensor(golden.floats("x"), shape, &Device::flex());
    // The tiles' factor is that between the picture and the latent.
    let size = diffusion_engine::Size { width: shape[3] * 8, height: shape[2] * 8 };
    let mut pass = Pass { cfg: cfg.into(), size, ..Pass::of("") };
    keys.iter().for_each(|(name, value)| pass.knobs.set(name, value.clone()));
    let asked = methods::all().iter().filter(|method| method.is_asked(&pass));
    let mut wraps: Vec<Arc<dyn Wrap>> = asked.flat_map(|method| (method.wraps)(&Settings::of(&pass))).collect();
    wraps.push(Arc::new(Guidance));
    let hooks = wraps.iter().filter_map(|wrap| wrap.hooks());
    let inside = hooks.fold(Inside::default(), Inside::with);
    let bare: Box<dyn Predictor> = Box::new(Bare::open());
    let predictor = wraps.iter().fold(bare, |predictor, wrap| wrap.predicting(predictor));
    let again = Conditioned::new(predictor, Conditions::constant(cfg > 1.0), inside).shared();
    let all = [levels, &[0.0]].concat();
    let sigmas = Sigmas::literal(&all.iter().map(|&s| f64::from(s)).collect::<Vec<_>>()).unwrap();
    let (clock, space) = (Clock::default(), SigmaSpace::Discrete);
    let predicts = Some(Prediction::Epsilon);
    let at = Around { pass: &pass, space, sigmas: &sigmas, shape, clock: &clock, predicts, again: &again };
    let of_place = |place| wraps.iter().filter(move |wrap| wrap.place() == place);
    let all_wraps = of_place(Place::Inside).chain(of_place(Place::Guidance)).chain(of_place(Place::Outside));
    let mut denoiser: Box<dyn Denoiser> =
        all_wraps.fold(again.denoiser(), |inner, wrap| wrap.around(inner, &at).unwrap());
    let call = |(i, &sigma): (usize, &f32)| {
        clock.begins(&Step::of(&all, i).unwrap());
        Ok(values(&denoiser.denoise(&Latent(x.clone() * sigma), sigma)?.latent.0))
    };
    levels.iter().enumerate().map(call).collect::<Result<Vec<_>, _>>().map(|rows| rows.concat())
}

const SIGMA: f32 = 6.0;

#[test]
fn methods_inside_a_unet_make_what_the_references_make() {
    let golden = golden();
    let shrink = |block: f64, after_skip, down, up| {
        vec![
            ("shrink", number(2.0)),
            ("shrink_block", number(block)),
            ("shrink_after_skip", name(after_skip)),
            ("shrink_down", name(down)),
            ("shrink_up", name(up)),
        ]
    };
    let tiles = [("tiles", number(48.0)), ("tiles_height", number(64.0)), ("tiles_overlap", number(16.0))];
    let cases = [
        ("plain", vec![]),
        ("freeu.v1", vec![("freeu", name("v1"))]),
        ("freeu.v2", vec![("freeu", name("v2"))]),
        ("shrink.0", shrink(3.0, "on", "bicubic", "bicubic")),
        ("shrink.1", shrink(3.0, "off", "area", "bilinear")),
        ("shrink.2", shrink(4.0, "on", "nearest-exact", "bilinear")),
        ("pag", vec![("pag", number(2.5))]),
        ("pag.input", vec![("pag", number(2.5)), ("pag_blocks", name("input_blocks")), ("pag_layers", name("4"))]),
        ("sag", vec![("sag", number(0.75))]),
        ("tiles", tiles.to_vec()),
        ("tiles.gaussian", [&tiles[..], &[("tiles_weights", name("gaussian"))]].concat()),
    ];
    for (of, keys) in cases {
        golden.assert_stage(of, &answered(&keys, 3.0, &[SIGMA]).unwrap());
    }
}

#[test]
fn the_first_blocks_cache_spares_the_calls_that_the_reference_spares() {
    let levels = [14.0, 9.0, 8.6, 8.2, 3.0, 2.9];
    let cached = answered(&[("first_block", number(0.01))], 1.0, &levels).unwrap();
    golden().assert_stage("first_block", &cached);
    assert_ne!(cached, answered(&[], 1.0, &levels).unwrap());
}

#[test]
fn outside_of_their_part_of_the_pass_methods_leave_the_bits() {
    let plain = answered(&[], 3.0, &[SIGMA]).unwrap();
    for (method, value) in [("freeu", name("v2")), ("shrink", number(2.0)), ("pag", number(2.0)), ("sag", number(0.5))]
    {
        let (from, to): (&'static str, &'static str) = match method {
            "freeu" => ("freeu_from", "freeu_to"),
            "shrink" => ("shrink_from", "shrink_to"),
            "pag" => ("pag_from", "pag_to"),
            _ => ("sag_from", "sag_to"),
        };
        let early = answered(&[(method, value.clone()), (from, number(0.0)), (to, number(0.1))], 3.0, &[SIGMA]);
        assert_eq!(early.unwrap(), plain, "{method}");
        let late = answered(&[(method, value.clone()), (from, number(0.9)), (to, number(1.0))], 3.0, &[SIGMA]);
        assert_eq!(late.unwrap(), plain, "{method}");
        let within = answered(&[(method, value), (from, number(0.0)), (to, number(1.0))], 3.0, &[SIGMA]);
        assert_ne!(within.unwrap(), plain, "{method}");
    }
}

#[test]
fn blocks_that_are_not_there_and_tiles_of_what_blurs_the_whole_are_errors() {
    let failed = |keys: &[(&'static str, Value)]| {
        let error = answered(keys, 3.0, &[SIGMA]).unwrap_err();
        let source: &dyn std::error::Error = &error;
        let chain: Vec<String> =
            std::iter::successors(Some(source), |error| error.source()).map(ToString::to_string).collect();
        chain.join(": ")
    };
    let layers = [("pag", number(2.0)), ("pag_blocks", name("input_blocks")), ("pag_layers", name("30-40"))];
    assert!(failed(&layers).contains("`pag` finds none of the blocks"), "{}", failed(&layers));
    let tiles = [("sag", number(0.5)), ("tiles", number(48.0)), ("tiles_overlap", number(16.0))];
    assert!(failed(&tiles).contains("`sag` can't be where pictures are drawn in tiles"), "{}", failed(&tiles));
}

/// Those that work inside a UNet.
fn of_unets() -> impl Iterator<Item = &'static diffusion_engine::Method> {
    methods::all().iter().filter(|method| method.networks.contains(&"unet"))
}

/// What the config's template sets a key to.
fn example(key: &diffusion_engine::Key) -> Option<Value> {
    let diffusion_engine::Fallback::Open { example, .. } = key.default else { return None };
    key.read(example.trim_matches('"')).option()
}

/// A job of the tiny model with a method's first key and others.
fn job(keys: &[(&'static str, Value)]) -> Job {
    let request =
        request("sd-1").steps(4).with(|pass| keys.iter().for_each(|(key, value)| pass.knobs.set(key, value.clone())));
    Job::of(request).unwrap()
}

#[test]
fn every_method_of_unets_goes_on_from_a_snapshot_as_if_nothing_had_been() {
    let sd = model("sd-1");
    let plain = values(&finished(&sd, job(&[])).latent().0);
    for method in of_unets() {
        let first = &method.keys[0];
        // Tiles smaller than the tiny picture, and a cache that spares something.
        let value = match method.id {
            "tiles" => number(32.0),
            "first_block" => number(0.9),
            _ => example(first).unwrap(),
        };
        let keys = [(first.name, value), ("tiles_overlap", number(16.0))];
        let begin = || start(sd.clone(), job(&keys), Arc::default(), Cancel::default()).unwrap();
        let mut going = begin();
        let mut snapshots = Vec::new();
        while let Some(event) = going.next() {
            event.unwrap();
            snapshots.push(going.snapshot().unwrap());
        }
        let whole = values(&going.latent().0);
        assert_ne!(whole, plain, "{} does nothing", method.id);
        for snapshot in snapshots.into_iter().skip(1).take(3) {
            let mut resumed = Run::resume(sd.clone(), snapshot, Arc::default(), Cancel::default());
            resumed.by_ref().try_for_each(|event| event.map(drop)).unwrap();
            assert!(values(&resumed.latent().0) == whole, "{}", method.id);
        }
    }
}

#[test]
fn methods_of_another_network_are_refused_by_their_names() {
    let sd = model("sd-1");
    for method in methods::all().iter().filter(|method| method.networks == ["transformer"]) {
        let keys = [(method.keys[0].name, example(&method.keys[0]).unwrap())];
        let refused = start(sd.clone(), job(&keys), Arc::default(), Cancel::default()).err().unwrap().to_string();
        let expected = format!(
            "{} is asked of `sd-1`, a UNet of Stable Diffusion, expected a Flux transformer, whose inside it is about",
            method.id
        );
        assert_eq!(refused, expected);
    }
}

/// Counts the layers that are looked at.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Hooks for Counted {
    fn after(&self, _: Site, _: Option<Call>, x: Tensor<3>) -> Result<Tensor<3>, HookError> {
        self.0.fetch_add(1, Relaxed);
        Ok(x)
    }
}

impl Wrap for Counted {
    fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        Some(Arc::new(self.clone()))
    }
}

#[test]
fn what_looks_inside_and_a_method_that_is_off_leave_the_bits() {
    let sd = model("sd-1");
    let drawn = |job| values(&finished(&sd, job).latent().0);
    let plain = drawn(job(&[]));
    let counted = Counted::default();
    assert_eq!(drawn(job(&[]).with(Arc::new(counted.clone()))), plain);
    assert!(counted.0.load(Relaxed) > 100);
    for method in of_unets() {
        let key = &method.keys[0];
        let off = if method.id == "freeu" { name("off") } else { number(0.0) };
        assert_eq!(drawn(job(&[(key.name, off)])), plain, "{}", method.id);
    }
}
