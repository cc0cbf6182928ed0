//! The same request is the same picture, byte by byte, and a picture says what its request was.

mod tiny;

use std::fs;

use forge::{
    Size, Txt2Img,
    diffusion_engine::parse,
    read_infotext,
    samplers::{Value, noise::NoiseSource},
};

use crate::tiny::Tiny;

#[test]
fn neither_threads_nor_repetition_change_a_byte_of_the_file() {
    // given a picture large enough that its work is shared out, with guidance and a stochastic sampler
    let tiny = Tiny::of("tiny-dev").set("image", "width", 128).set("sampling", "sampler", "euler_ancestral");
    for compute in ["f32", "auto"] {
        let picture = |threads: &str| {
            tiny.txt2img(&["--compute", compute, "--threads", threads, "--output", "a.png"]).done();
            fs::read(tiny.path("a.png")).unwrap()
        };
        // when it is drawn again and again
        let first = picture("1");
        // then it is one file
        for threads in ["1", "2", "3", "0"] {
            assert!(picture(threads) == first, "{compute}, {threads} threads");
        }
    }
}

#[test]
fn json_and_dump_change_nothing_about_the_picture() {
    let tiny = Tiny::of("tiny-schnell").set("image", "batch", 1);
    let picture = |args: &[&str]| {
        tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
        fs::read(tiny.path("a.png")).unwrap()
    };
    assert!(picture(&["--json", "--dump", "d.safetensors"]) == picture(&[]));
}

#[test]
fn a_picture_of_a_batch_is_the_single_picture_of_its_own_seed() {
    for (case, sampler) in
        [("tiny-schnell", "euler"), ("tiny-dev", "euler"), ("tiny-dev", "euler_ancestral"), ("tiny-dev", "dpmpp_sde")]
    {
        // given three pictures drawn at once
        let tiny = Tiny::of(case).set("sampling", "sampler", sampler).set("image", "batch", 3);
        tiny.txt2img(&["--seed", "100", "--output", "batch-{seed}.png"]).done();
        for seed in ["100", "101", "102"] {
            // when each is drawn alone
            tiny.txt2img(&["--seed", seed, "--batch", "1", "--output", "single.png"]).done();
            // then it is the same file
            let [single, of_batch] = ["single.png".to_owned(), format!("batch-{seed}.png")].map(|f| tiny.path(&f));
            assert_eq!(fs::read(&single).unwrap(), fs::read(&of_batch).unwrap(), "{case} {sampler} {seed}");
        }
    }
}

#[test]
fn seeds_prompts_and_sizes_that_differ_are_different_pictures() {
    let tiny = Tiny::of("tiny-dev");
    let picture = |args: &[&str]| {
        tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
        pixels(&fs::read(tiny.path("a.png")).unwrap())
    };
    let requests: [&[&str]; 11] = [
        &[],
        &["--seed", "43"],
        &["--noise", "nv"],
        &["--steps", "5"],
        &["--cfg", "2.5"],
        &["--guidance", "4"],
        &["--negative", "warm light"],
        &["--prompt", "a photo of a cat"],
        &["--profile", "comfy"],
        // As many pixels in another shape.
        &["--width", "32", "--height", "96"],
        &["--width", "96", "--height", "32"],
    ];
    let mut drawn: Vec<(&[&str], Vec<u8>)> = Vec::new();
    for args in requests {
        let pixels = picture(args);
        for (others, of_others) in &drawn {
            assert!(pixels != *of_others, "{args:?} is {others:?}");
        }
        drawn.push((args, pixels));
    }
}

#[test]
fn the_infotext_of_a_picture_is_the_request_that_made_it() {
    let prompts = [
        ("plain", ""),
        ("two\nlines, \"quoted\", 'single', back\\slash", "no\n\"rain\""),
        ("an owl, Ölfarbe, 梟, 🦉, e\u{301}", "Steps: 3, Size: 1x1"),
        ("Negative prompt: not one\nSteps: 7, Seed: 1", "  spaces  "),
        ("", ""),
    ];
    for (prompt, negative) in prompts {
        // given a picture of a request in which no value is a default
        let tiny = Tiny::quick();
        let args = ["--prompt", prompt, "--negative", negative, "--seed", "18446744073709551615", "--noise", "nv"];
        let more =
            ["--sampler", "Euler a", "--cfg", "1.25", "--guidance", "2.75", "--profile", "comfy", "--height", "32"];
        tiny.txt2img(&[&args[..], &more, &["--output", "a.png"]].concat()).done();
        // when its infotext is read
        let read = parse(&read_infotext(&tiny.path("a.png")).unwrap(), forge::catalog().knobs());
        // then it is the request
        let request = Txt2Img { noise: NoiseSource::Nv, ..Txt2Img::of(prompt).seed(u64::MAX).steps(1) };
        let request = request.size(Size { width: 16, height: 32 }).with(|pass| {
            pass.negative = negative.into();
            pass.sampler = forge::catalog().sampler("euler_ancestral").unwrap();
            pass.schedule = forge::catalog().schedule("flux").unwrap();
            pass.profile = forge::catalog().profile("comfy").unwrap();
            pass.cfg = 1.25.into();
            pass.knobs.set("guidance", Value::Number(2.75));
            pass.knobs.set("t5_length", Value::Number(16.0));
        });
        assert_eq!(read.request(&forge::catalog()).unwrap(), request);
        // and the command tells the same
        let shown = &tiny.forge(&["info", "a.png", "--json"]).done().json()[0];
        assert_eq!(
            (shown["prompt"].as_str(), shown["negative"].as_str(), shown["seed"].as_u64()),
            (Some(prompt), Some(negative), Some(u64::MAX))
        );
    }
}

#[test]
fn what_a_picture_says_draws_it_again() {
    for case in ["tiny-dev", "tiny-schnell"] {
        // given a picture of a random seed, and what it says
        let tiny = Tiny::of(case).set("image", "batch", 1).set("sampling", "seed", "random");
        tiny.txt2img(&["--output", "first.png"]).done();
        let said = &tiny.forge(&["info", "first.png", "--json"]).done().json()[0];
        let value = |key: &str| said[key].as_str().map_or_else(|| said[key].to_string(), str::to_owned);
        // when every flag is given as it says
        let keys = ["prompt", "negative", "seed", "steps", "sampler", "schedule", "cfg", "guidance", "width", "height"];
        let more = ["noise", "profile", "batch"];
        let flags = keys.into_iter().chain(more).flat_map(|key| [format!("--{key}"), value(key)]);
        let flags: Vec<String> = flags.chain(["--t5-length".into(), value("t5_length")]).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        tiny.txt2img(&[&flags[..], &["--output", "again.png"]].concat()).done();
        // then the file is the same
        assert!(fs::read(tiny.path("again.png")).unwrap() == fs::read(tiny.path("first.png")).unwrap(), "{flags:?}");
    }
}

#[test]
fn several_batches_are_the_pictures_of_one_that_is_as_large() {
    let files = |args: &[&str], names: &[&str]| {
        let tiny = Tiny::quick();
        let ran = tiny.txt2img(&[args, &["--seed", "7", "--json"]].concat()).done();
        let seeds: Vec<u64> = ran
            .json()
            .iter()
            .filter(|event| event["event"] == "image")
            .filter_map(|event| event["seed"].as_u64())
            .collect();
        (seeds, names.iter().map(|name| fs::read(tiny.path(name)).unwrap()).collect::<Vec<_>>())
    };
    for (output, names, more) in [
        ("{seed}.png", ["7.png", "8.png", "9.png", "10.png"], &["--sampler", "euler_ancestral"][..]),
        (
            "{index}.png",
            ["0.png", "1.png", "2.png", "3.png"],
            &["--variation-seed", "3", "--variation-strength", "0.5"],
        ),
        ("{index}.png", ["0.png", "1.png", "2.png", "3.png"], &["--prompt", "a {cat|dog|owl|fox} [b|c]"]),
    ] {
        let of = |batch, batches| {
            files(&[&["--output", output, "--batch", batch, "--batches", batches][..], more].concat(), &names)
        };
        let whole = of("4", "1");
        assert!(of("2", "2") == whole && of("1", "4") == whole, "{more:?}");
    }
    let tiny = Tiny::quick();
    tiny.txt2img(&["--batches", "2", "--output", "-"]).refused(2, &["2"]);
    tiny.txt2img(&["--batches", "2", "--output", "a.png"]).refused(2, &["`{index}` or `{seed}` in it"]);
    tiny.txt2img(&["--batches", "2", "--dump", "d.safetensors"]).refused(2, &["--dump", "2 runs"]);
    tiny.txt2img(&["--batches", "0"]).refused(2, &["1 to 1000"]);
}

/// The bytes of red, green and blue.
fn pixels(file: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size that fits in memory")];
    reader.next_frame(&mut pixels).expect("a whole picture");
    pixels
}
