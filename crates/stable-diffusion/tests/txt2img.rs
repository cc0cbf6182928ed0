//! Tiny models of every layout against diffusers, transformers and k-diffusion, from words to pixels.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use core_tensor::values;
use diffusion_engine::{Catalog, Error, Inside, Job, Piece, Txt2Img};
use fixtures::{Golden, SIGMA, deviation, psnr, std};
use samplers::{Registry, Value};

use tiny::{CASES, finished, model, request};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

fn golden(case: &str) -> Golden {
    Golden::open(&format!("{case}/expected.safetensors"))
}

fn is_near(case: &str, name: &str, request: Txt2Img) {
    let (golden, run) = (golden(case), finished(&model(case), Job::of(request).unwrap()));
    let expected = golden.floats(name);
    let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
    assert!(worst <= LATENT, "{case}: {name} is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}");
}

/// The pieces of a case's prompt.
fn pieces(text: &str) -> Vec<Piece> {
    match text.split_once("(huge waves:1.3)") {
        Some((before, after)) => {
            let (between, last) = after.split_once("BREAK").unwrap();
            let weighted = Piece::Words { text: "huge waves".into(), weight: 1.3 };
            vec![Piece::plain(before), weighted, Piece::plain(between), Piece::Break, Piece::plain(last)]
        }
        None => vec![Piece::plain(text)],
    }
}

#[test]
fn prompts_become_what_the_references_make_of_them() {
    for case in CASES {
        let (golden, sd) = (golden(case), model(case));
        let job = Job::of(request(case)).unwrap();
        let pass = &job.passes()[0];
        for (which, text) in [("", &pass.prompt), ("negative.", &pass.negative)] {
            let prompt = sd.prompt(pieces(text), pass);
            let prompt = if which.is_empty() { prompt } else { prompt.negative() };
            let encoded = sd.encode(&prompt, &Inside::default()).unwrap();
            for (encoder, ids) in &encoded.ids {
                assert_eq!(*ids, golden.ids(&format!("{which}{encoder}.ids")), "{case}: {which}{encoder}");
            }
            golden.assert_stage(&format!("{which}context"), &values(&encoded.streams[0].tokens));
            let expects_vector = golden.names().contains(&"vector".to_owned());
            assert_eq!(encoded.pooled.is_some(), expects_vector, "{case}");
            if let Some(vector) = &encoded.pooled {
                golden.assert_stage(&format!("{which}vector"), &values(vector));
            }
        }
    }
}

#[test]
fn latents_and_pictures_are_those_of_the_references() {
    for case in CASES {
        let golden = golden(case);
        let run = finished(&model(case), Job::of(request(case)).unwrap());
        assert!(deviation(run.sigmas(), &golden.floats("sigmas")) <= SIGMA * 15.0, "{case}");
        let expected = golden.floats("latent.007");
        let worst = deviation(&values(&run.latent().0), &expected) / std(&expected);
        assert!(
            worst <= LATENT,
            "{case}: the latent is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}"
        );
        let sd = model(case);
        let pixels = sd.clone().vae().decode(run.latent().0.clone(), &Inside::default()).unwrap().clamp(-1.0, 1.0);
        let db = psnr(&values(&pixels), &golden.floats("image"));
        assert!(db >= PICTURE_DB, "{case}: the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
    }
}

#[test]
fn levels_between_two_of_the_table_are_timed_as_the_profile_has_it() {
    let (registry, catalog) = (Registry::builtin(), Catalog::builtin());
    for case in CASES {
        let a1111 = request(case).with(|pass| pass.profile = catalog.profile("a1111").unwrap());
        is_near(case, "a1111.latent.007", a1111.clone());
        let karras = |request: Txt2Img| {
            request.with(|pass| {
                pass.sampler = registry.sampler("dpmpp_2m").unwrap();
                pass.schedule = registry.schedule("karras").unwrap();
            })
        };
        is_near(case, "karras.latent.007", karras(request(case)));
        is_near(case, "a1111.karras.latent.007", karras(a1111));
    }
}

#[test]
fn a_model_without_terminal_signal_begins_at_the_level_without() {
    for case in ["sd-xl", "sd-refiner"] {
        let request = request(case).with(|pass| {
            pass.knobs.set("prediction", Value::Name("v".into()));
            pass.knobs.set("zero_snr", Value::Name("on".into()));
        });
        is_near(case, "zero_snr.latent.007", request);
    }
}

#[test]
fn a_picture_of_a_batch_is_the_one_made_alone() {
    for case in ["sd-2", "sd-xl"] {
        let sd = model(case);
        let batch = finished(&sd, Job::of(Txt2Img { batch: 3, ..request(case) }).unwrap()).latent().0.clone();
        let seed = request(case).seed;
        for i in 0..3 {
            let alone = finished(&sd, Job::of(request(case).seed(seed + i as u64)).unwrap()).latent().0.clone();
            assert_eq!(values(&batch.clone().narrow(0, i, 1)), values(&alone), "{case} {i}");
        }
    }
}

/// A prompt in the place of a case's, or the empty negative one, encoded with these settings.
fn encoded(
    case: &str,
    profile: &str,
    knobs: &[(&str, f64)],
    text: Option<&str>,
) -> Result<diffusion_engine::Encoded, Error> {
    let request = request(case).with(|pass| {
        pass.profile = Catalog::builtin().profile(profile).unwrap();
        knobs.iter().for_each(|(name, value)| pass.knobs.set(name, Value::Number(*value)));
    });
    let (sd, job) = (model(case), Job::of(request).unwrap());
    let pass = &job.passes()[0];
    let prompt = match text {
        Some(text) => sd.prompt(pieces(text), pass),
        None => sd.prompt(Vec::new(), pass).negative(),
    };
    sd.encode(&prompt, &Inside::default())
}

#[test]
fn the_vector_of_a_picture_says_the_sizes_and_the_score_that_are_set() {
    let sizes = [("original_width", 80.0), ("original_height", 96.0), ("crop_left", 8.0), ("crop_top", 16.0)];
    let of_xl = [&sizes[..], &[("target_width", 112.0), ("target_height", 128.0)]].concat();
    let of_refiner = [&sizes[..], &[("aesthetic_score", 2.5)]].concat();
    for (case, knobs) in [("sd-xl", of_xl), ("sd-refiner", of_refiner)] {
        let vector = encoded(case, "forge", &knobs, Some("blurry, low quality")).unwrap().pooled.unwrap();
        golden(case).assert_stage("sized.vector", &values(&vector));
    }
}

#[test]
fn an_empty_negative_prompt_of_xl_is_zeros_where_the_profile_has_it_so() {
    for (case, profile, zeros) in [("sd-xl", "forge", true), ("sd-refiner", "a1111", true), ("sd-xl", "comfy", false)] {
        let empty = encoded(case, profile, &[], None).unwrap();
        let is_zero = |values: &[f32]| values.iter().all(|&x| x == 0.0);
        assert_eq!(is_zero(&values(&empty.streams[0].tokens)), zeros, "{case} {profile}");
        let vector = values(&empty.pooled.unwrap());
        assert_eq!(is_zero(&vector[..64]), zeros, "{case} {profile}");
        assert!(!is_zero(&vector[64..]), "the sizes stay");
    }
    let of_1 = encoded("sd-1", "forge", &[], None).unwrap();
    assert!(values(&of_1.streams[0].tokens).iter().any(|&x| x != 0.0));
}

#[test]
fn an_earlier_layer_of_the_text_encoder_is_taken_as_far_as_there_are_any() {
    let context = |case, layer: f64| {
        encoded(case, "forge", &[("clip_skip", layer)], Some("a cat")).map(|encoded| values(&encoded.streams[0].tokens))
    };
    assert_ne!(context("sd-1", 1.0).unwrap(), context("sd-1", 2.0).unwrap());
    // XL has the last layer but one in any case
    assert_eq!(context("sd-xl", 1.0).unwrap(), context("sd-xl", 2.0).unwrap());
    assert_ne!(context("sd-xl", 2.0).unwrap(), context("sd-xl", 3.0).unwrap());
    // 2.x counts from the last but one
    assert!(context("sd-2", 2.0).is_ok());
    for (case, layer) in [("sd-1", 4.0), ("sd-2", 3.0), ("sd-xl", 4.0)] {
        let error = context(case, layer).unwrap_err();
        assert!(matches!(error, Error::Request { what: "clip_skip", .. }), "{case}: {error}");
    }
}

#[test]
fn what_a_prompt_comes_to_in_turn_is_encoded_at_once() {
    for case in ["sd-1", "sd-xl"] {
        let sd = model(case);
        let job = Job::of(request(case)).unwrap();
        let prompt = |pieces| sd.prompt(pieces, &job.passes()[0]);
        let encode = |editions: &[_]| sd.encode_all(editions, &Inside::default()).unwrap();
        // given an edition of one chunk, one of three, and one that says nothing
        let short = prompt(vec![Piece::plain("a photo of a cat")]);
        let long =
            prompt(vec![Piece::plain("a"), Piece::Break, Piece::plain("photo"), Piece::Break, Piece::plain("cat")]);
        let nothing = prompt(Vec::new());
        let together = encode(&[(short.clone(), 1), (long.clone(), 2), (nothing.clone(), 1)]);
        let [short, long, nothing] = [short, long, nothing].map(|prompt| encode(&[(prompt, 1)]).remove(0));
        let chunk =
            |of: &diffusion_engine::Encoded, i: usize| values(&of.streams[0].tokens.clone().narrow(1, 77 * i, 77));
        // then all have three, of which the shorter ones' last ones are those of a prompt that says nothing
        assert_eq!(values(&together[1].streams[0].tokens), values(&long.streams[0].tokens));
        for (of, alone) in [(&together[0], &short), (&together[2], &nothing)] {
            assert_eq!(chunk(of, 0), chunk(alone, 0));
            assert!((1..3).all(|i| chunk(of, i) == chunk(&nothing, 0)), "{case}");
            assert_eq!(of.pooled.as_ref().map(values), alone.pooled.as_ref().map(values));
        }
    }
}

#[test]
fn an_edition_of_a_negative_prompt_that_says_nothing_is_zeros_only_where_all_do() {
    let sd = model("sd-xl");
    let drawn = |negative: &str| {
        let request = request("sd-xl").with(|pass| (pass.negative, pass.steps) = (negative.into(), 2));
        let run = finished(&sd, Job::of(request).unwrap());
        let last = run.prompts().last().unwrap().clone();
        values(&last.streams[0].tokens).iter().all(|&value| value == 0.0)
    };
    assert!(["", "  ", "# blurry", "[::1]"].into_iter().all(drawn));
    assert!(!["[blurry::1]", "()", ","].into_iter().any(drawn));
}
