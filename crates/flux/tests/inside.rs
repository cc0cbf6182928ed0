//! What guidance and caches inside a transformer make of its answers, against diffusers and ComfyUI's formulas around a Flux of diffusers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{collections::BTreeMap, sync::Arc};

use core_tensor::{
    Compute, Device, Footprint, Latent, Residency, Tensor, WeightSource, Weights, safetensors::Safetensors, tensor,
    values,
};
use diffusion_engine::{
    Around, Cancel, Clock, Conditioned, Conditions, Error, Family, Guidance, Inside, Job, Model, Pass, Place,
    Predictor, Run, Settings, Size, Txt2Img, Wrap,
    family::{Part, Parts, Placement},
    methods, start,
};
use fixtures::{Golden, path};
use flux::{BflNames, FluxFamily, Inputs, Transformer, TransformerConfig, pack, unpack};
use samplers::{Denoiser, Prediction, SigmaSpace, Sigmas, Step, Value};

fn number(x: f64) -> Value {
    Value::Number(x)
}

fn name(name: &str) -> Value {
    Value::Name(name.into())
}

fn golden() -> Golden {
    Golden::open("inside/flux.expected.safetensors")
}

/// The golden transformer.
struct Bare {
    transformer: Transformer,
    txt: Tensor<3>,
    vec: Tensor<2>,
}

impl Bare {
    fn open() -> Self {
        let source = BflNames::over(Safetensors::open(&path("golden/inside/flux.safetensors")).unwrap());
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
        let config = TransformerConfig { axes_dims_rope: Some([4, 6, 6]) };
        let (golden, device) = (golden(), Device::flex());
        Self {
            transformer: Transformer::load(&weights, &config).unwrap(),
            txt: tensor(golden.floats("txt"), golden.shape("txt").try_into().unwrap(), &device),
            vec: tensor(golden.floats("vec"), golden.shape("vec").try_into().unwrap(), &device),
        }
    }
}

impl Predictor for Bare {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let [_, _, h, w] = x.0.dims();
        let of_prompt = |&prompt: &usize| {
            let inputs = Inputs {
                control: None,
                img: pack(x.0.clone()),
                txt: self.txt.clone(),
                vec: self.vec.clone(),
                timestep: sigma,
                guidance: 3.5,
                pe: &self.transformer.positions(self.txt.dims()[1], h / 2, w / 2),
            };
            let velocity = self.transformer.forward(inputs, &inside.of_call(sigma, prompt))?;
            Ok(Latent(x.0.clone() - unpack(velocity, h, w) * sigma))
        };
        which.iter().map(of_prompt).collect()
    }
}

/// What the golden transformer and these settings make of its input at each of some levels, one call a step.
fn answered(keys: &[(&'static str, Value)], levels: &[f32]) -> Result<Vec<f32>, samplers::Error> {
    let golden = golden();
    let shape: [usize; 4] = golden.shape("x").try_into().unwrap();
    let x: Tensor<4> = tensor(golden.floats("x"), shape, &Device::flex());
    let mut pass = Pass::of("");
    keys.iter().for_each(|(name, value)| pass.knobs.set(name, value.clone()));
    let asked = methods::all().iter().filter(|method| method.is_asked(&pass));
    let mut wraps: Vec<Arc<dyn Wrap>> = asked.flat_map(|method| (method.wraps)(&Settings::of(&pass))).collect();
    wraps.push(Arc::new(Guidance));
    let inside = wraps.iter().filter_map(|wrap| wrap.hooks()).fold(Inside::default(), Inside::with);
    let (clock, space) = (Clock::default(), SigmaSpace::Flow { shift: None, tokens: 16 });
    let conditioned = Conditioned::new(Box::new(Bare::open()), Conditions::constant(false), inside);
    let again = conditioned.timed(clock.clone(), |_| true).shared();
    let all = [levels, &[0.0]].concat();
    let sigmas = Sigmas::literal(&all.iter().map(|&s| f64::from(s)).collect::<Vec<_>>()).unwrap();
    let predicts = Some(Prediction::Flow);
    let at = Around { pass: &pass, space, sigmas: &sigmas, shape, clock: &clock, predicts, again: &again };
    let of_place = |place| wraps.iter().filter(move |wrap| wrap.place() == place);
    let around = of_place(Place::Guidance).chain(of_place(Place::Outside));
    let mut denoiser: Box<dyn Denoiser> = around.fold(again.denoiser(), |inner, wrap| wrap.around(inner, &at).unwrap());
    let call = |(i, &sigma): (usize, &f32)| {
        clock.begins(&Step::of(&all, i).unwrap());
        Ok(values(&denoiser.denoise(&Latent(x.clone() * sigma), sigma)?.latent.0))
    };
    levels.iter().enumerate().map(call).collect::<Result<Vec<_>, _>>().map(|rows| rows.concat())
}

const SIGMA: f32 = 0.97;

fn slg() -> Vec<(&'static str, Value)> {
    vec![("slg", number(2.0)), ("slg_double", name("1")), ("slg_single", name("0, 2"))]
}

#[test]
fn methods_inside_a_transformer_make_what_the_references_make() {
    let golden = golden();
    let cases = [
        ("plain", vec![]),
        ("slg", slg()),
        ("slg.rescale", [slg(), vec![("slg_rescale", number(0.4))]].concat()),
        ("pag", vec![("pag", number(2.0)), ("pag_layers", name("1"))]),
    ];
    for (of, keys) in cases {
        golden.assert_stage(of, &answered(&keys, &[SIGMA]).unwrap());
    }
}

/// Calls near each other, and one far away.
const LEVELS: [f32; 6] = [1.0, 0.9998, 0.9996, 0.5, 0.4998, 0.4996];

#[test]
fn caches_spare_the_calls_that_the_references_spare() {
    let golden = golden();
    let whole = answered(&[], &LEVELS).unwrap();
    for (of, threshold) in [("first_block", 0.1), ("teacache", 0.6)] {
        let cached = answered(&[(of, number(threshold))], &LEVELS).unwrap();
        golden.assert_stage(of, &cached);
        assert_ne!(cached, whole, "{of}");
        assert_eq!(cached[..cached.len() / 6], whole[..whole.len() / 6], "{of}");
    }
}

#[test]
fn a_cache_spares_no_more_calls_in_a_row_than_it_may() {
    let whole = answered(&[], &LEVELS).unwrap();
    let spared = |keys: &[(&'static str, Value)]| -> Vec<bool> {
        let cached = answered(&[&[("first_block", number(0.1))], keys].concat(), &LEVELS).unwrap();
        let rows = whole.chunks(whole.len() / 6).zip(cached.chunks(whole.len() / 6));
        rows.map(|(whole, cached)| whole != cached).collect()
    };
    assert_eq!(spared(&[]), [false, true, true, false, true, false]);
    assert_eq!(spared(&[("first_block_row", number(1.0))]), [false, true, false, false, true, false]);
    assert_eq!(spared(&[("first_block_from", number(0.3))]), [false, false, false, false, true, false]);
    assert_eq!(spared(&[("first_block_to", number(0.3))]), [false, true, true, false, false, false]);
}

#[test]
fn skip_layer_guidance_counts_in_its_part_of_the_pass_alone() {
    let at = |sigma: f32| answered(&slg(), &[sigma]).unwrap() == answered(&[], &[sigma]).unwrap();
    assert_eq!([1.0, 0.99, 0.9, 0.85, 0.8].map(at), [true, false, false, false, true]);
}

fn model() -> Arc<dyn Model> {
    let files = [("transformer", "transformer"), ("clip", "clip"), ("t5", "t5"), ("vae", "ae")];
    let part = |(key, name): (&str, &str)| {
        let path = path(&format!("golden/tiny-dev/{name}.safetensors"));
        let file: Arc<dyn WeightSource> = Arc::new(Safetensors::open(&path).unwrap());
        Part::of(key, "", file, "").takes(Footprint { unpacked: 7, mapped: 3, ..Footprint::default() })
    };
    let placement = Placement { device: Device::flex(), compute: Compute::F32, unpacked: BTreeMap::new() };
    FluxFamily.open(Parts::of("tiny", files.map(part))).unwrap().load(&placement).unwrap()
}

fn job(keys: &[(&'static str, Value)]) -> Job {
    let request = Txt2Img::of("a photo of a cat").seed(7).steps(4).size(Size { width: 64, height: 64 });
    let request = request.with(|pass| keys.iter().for_each(|(key, value)| pass.knobs.set(key, value.clone())));
    Job::of(request).unwrap()
}

fn drawn(mut run: Run) -> Vec<f32> {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    values(&run.latent().0)
}

/// What each method of transformers is set to, so that it does something with two blocks of each kind and four steps.
fn settings() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let all = [("slg_from", number(0.0)), ("slg_to", number(1.0))];
    vec![
        ("pag", vec![("pag", number(2.0)), ("pag_layers", name("0"))]),
        ("slg", [slg(), all.to_vec()].concat()),
        ("first_block", vec![("first_block", number(1.0))]),
        ("teacache", vec![("teacache", number(9.0))]),
        ("tiles", vec![("tiles", number(32.0)), ("tiles_overlap", number(16.0))]),
    ]
}

#[test]
fn every_method_of_transformers_goes_on_from_a_snapshot_as_if_nothing_had_been() {
    let flux = model();
    let begin =
        |keys: &[(&'static str, Value)]| start(flux.clone(), job(keys), Arc::default(), Cancel::default()).unwrap();
    let plain = drawn(begin(&[]));
    let settings = settings();
    let known = methods::all().iter().filter(|method| method.networks.contains(&"transformer"));
    assert!(known.map(|method| method.id).eq(settings.iter().map(|(id, _)| *id)));
    for (id, keys) in settings {
        let (mut going, mut snapshots) = (begin(&keys), Vec::new());
        while let Some(event) = going.next() {
            event.unwrap();
            snapshots.push(going.snapshot().unwrap());
        }
        let whole = values(&going.latent().0);
        assert_ne!(whole, plain, "{id} does nothing");
        for snapshot in snapshots.into_iter().skip(1).take(3) {
            let resumed = Run::resume(flux.clone(), snapshot, Arc::default(), Cancel::default());
            assert!(drawn(resumed) == whole, "{id}");
        }
    }
}

#[test]
fn tiles_that_no_tokens_fill_or_that_overlap_wholly_are_refused() {
    let refused = |tiles: f64, overlap: f64| {
        let job = job(&[("tiles", number(tiles)), ("tiles_overlap", number(overlap))]);
        let mut run = start(model(), job, Arc::default(), Cancel::default()).unwrap();
        run.find_map(Result::err).map(|error| error.to_string())
    };
    assert_eq!(refused(40.0, 16.0).unwrap(), "tiles is 40, expected a multiple of 16 pixels");
    assert_eq!(refused(32.0, 20.0).unwrap(), "tiles_overlap is 20, expected a multiple of 16 pixels");
    assert_eq!(refused(32.0, 32.0).unwrap(), "tiles_overlap is 32, expected less than the tiles' 32");
    assert_eq!(refused(32.0, 16.0), None);
}

#[test]
fn methods_of_another_network_are_refused_by_their_names() {
    for method in methods::all().iter().filter(|method| method.networks == ["unet"]) {
        let value = if method.id == "freeu" { name("v2") } else { number(1.0) };
        let job = job(&[(method.keys[0].name, value)]);
        let refused = start(model(), job, Arc::default(), Cancel::default()).err().unwrap().to_string();
        let expected = format!(
            "{} is asked of `tiny`, a Flux transformer, expected a UNet of Stable Diffusion, whose inside it is about",
            method.id
        );
        assert_eq!(refused, expected);
    }
}
