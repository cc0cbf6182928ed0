//! Flags over the file, values that begin with a dash, and what is told of a request that is not drawn as its writer meant it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::fs;

use crate::tiny::{Ran, Tiny, golden};

/// The request that a picture says it was made of.
fn drawn(tiny: &Tiny, args: &[&str]) -> serde_json::Value {
    tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
    tiny.forge(&["info", "--json", "a.png"]).done().json().remove(0)
}

/// Its notes, but for those of a prompt that is too long for the golden model's few tokens.
fn notes(ran: &Ran) -> Vec<&str> {
    ran.err.lines().filter_map(|line| line.strip_prefix("note: ")).filter(|note| !note.contains(" tokens, ")).collect()
}

#[test]
fn a_flag_wins_over_the_file_also_where_it_implies_another_key() {
    let pair = |request: &serde_json::Value| [request["sampler"].clone(), request["schedule"].clone()];
    // a sampler's name with a schedule in it, over the file's schedule
    let tiny = Tiny::quick().set("sampling", "schedule", "simple");
    assert_eq!(pair(&drawn(&tiny, &["--sampler", "DPM++ 2M Karras"])), ["dpmpp_2m", "karras"]);
    assert_eq!(pair(&drawn(&tiny, &["--sampler", "k_dpmpp_2m_ka"])), ["dpmpp_2m", "karras"]);
    // and a plain name leaves the file's schedule as it is
    assert_eq!(pair(&drawn(&tiny, &["--sampler", "DPM++ 2M"])), ["dpmpp_2m", "simple"]);
}

#[test]
fn a_schedule_wins_over_the_one_that_the_files_sampler_names() {
    let tiny = Tiny::quick().set("sampling", "sampler", "DPM++ 2M Karras");
    let tiny = without_schedule(tiny);
    let request = drawn(&tiny, &["--schedule", "beta"]);
    assert_eq!([&request["sampler"], &request["schedule"]], ["dpmpp_2m", "beta"]);
    // while a file that contradicts itself is refused, and flags that do so are too
    let tiny = tiny.set("sampling", "schedule", "beta");
    tiny.txt2img(&[]).refused(2, &["`sampling.schedule` is `beta`, expected `karras`"]);
    let flags = ["--sampler", "DPM++ 2M Karras", "--schedule", "beta"];
    Tiny::quick().txt2img(&flags).refused(2, &["`sampling.schedule` is `beta`, expected `karras`"]);
}

fn without_schedule(tiny: Tiny) -> Tiny {
    let text = fs::read_to_string(tiny.path("flux.toml")).expect("the config was written here");
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("schedule")).collect();
    tiny.write("flux.toml", kept.join("\n"));
    tiny
}

#[test]
fn what_the_file_says_for_another_sampler_is_set_aside_with_a_note() {
    let options = toml::Table::from_iter([("eta".to_owned(), 0.5.into())]);
    let tiny = Tiny::quick().set("sampling", "sampler", "euler_ancestral").set("sampling", "options", options);
    let ran = tiny.txt2img(&["--sampler", "lcm"]).done();
    assert_eq!(notes(&ran), ["the config's option `eta` is set aside: the `--sampler` given has none of that name"]);
    assert_eq!(notes(&tiny.txt2img(&["--sampler", "dpm_2_ancestral"]).done()), [""; 0]);
    tiny.txt2img(&["--sampler", "lcm", "--option", "eta=1"]).refused(2, &["no option is called `eta`"]);
    // and so are its noise levels where a flag says how many or which there are
    let tiny = Tiny::quick().set("sampling", "sigmas", vec![1.0, 0.5, 0.0]);
    assert_eq!(drawn(&tiny, &["--steps", "3"])["steps"], 3);
    let ran = tiny.txt2img(&["--steps", "3"]).done();
    assert_eq!(notes(&ran), ["the config's `sigmas` are set aside, as `--steps` is given"]);
    assert_eq!(ran.err.lines().filter(|line| line.starts_with("step ")).count(), 3);
}

#[test]
fn what_a_flag_replaces_is_not_looked_at_in_the_file() {
    let tiny = Tiny::quick();
    let clip = tiny.role("clip").display().to_string();
    let tiny = tiny.set("model", "clip", "https://example.org/clip.safetensors");
    tiny.txt2img(&[]).refused(2, &["`model.clip` is `https://example.org/clip.safetensors`, which is an address"]);
    tiny.txt2img(&["--clip", &clip, "--output", "a.png"]).done();
    // a folder replaces all files: this one is looked into, and has no text encoders
    let folder = golden("tiny-diffusers").display().to_string();
    tiny.txt2img(&["--folder", &folder]).refused(4, &["tiny-diffusers/text_encoder`"]);
    // and so does a checkpoint
    let one = tiny.role("transformer").display().to_string();
    tiny.txt2img(&["--checkpoint", &one]).refused(4, &["this lacks a CLIP text encoder, which `model.clip`"]);
    // and words those of a file of their own too
    let tiny = Tiny::quick().set("prompt", "positive", 3);
    tiny.txt2img(&[]).refused(2, &["`prompt.positive` is 3, expected text", "line "]);
    tiny.write("words.txt", "a cat");
    assert_eq!(drawn(&tiny, &["--prompt-file", "words.txt"])["prompt"], "a cat");
    assert_eq!(drawn(&tiny, &["--prompt", "a dog"])["prompt"], "a dog");
}

#[test]
fn values_may_begin_with_a_dash() {
    let tiny = Tiny::quick();
    for prompt in ["- a list\n- of things", "--ar 16:9 castle", "-", "-1", "--", "—dash"] {
        assert_eq!(drawn(&tiny, &["--prompt", prompt, "--negative", prompt])["prompt"], prompt);
        assert_eq!(drawn(&tiny, &[&format!("--prompt={prompt}")])["prompt"], prompt);
    }
    // but a flag whose value is missing does not take the next one for it
    for flag in ["--json", "--negative", "--seed", "--config"] {
        tiny.txt2img(&["--prompt", flag]).refused(2, &["a value is required for '--prompt"]);
    }
    let seeds: Vec<_> = (0..3).map(|_| drawn(&tiny, &["--seed", "-1"])["seed"].as_u64().unwrap()).collect();
    assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    for (flag, value, says) in [
        ("--cfg", "-7", "`sampling.cfg` is -7, expected 1 to 100"),
        ("--guidance", "-3.5", "`sampling.guidance` is -3.5, expected 0 to 100"),
        ("--seed", "-2", "`sampling.seed` is `-2`, expected"),
        ("--steps", "-1", "expected 1 to 1000"),
        ("--width", "-64", "expected 16 to 16384"),
        ("--height", "-64", "expected 16 to 16384"),
        ("--batch", "-1", "expected 1 to 64"),
        ("--t5-length", "-1", "expected 1 to 4096"),
        ("--threads", "-1", "expected 0 to 1024"),
        ("--memory", "-1", "`device.memory` is `-1`, expected a size such as `16 GiB`"),
    ] {
        let ran = tiny.txt2img(&[flag, value]).refused(2, &[says]);
        assert!(!ran.err.contains("unexpected argument"), "{ran:?}");
    }
}

#[test]
fn names_and_paths_may_begin_with_a_dash_too() {
    let tiny = Tiny::quick();
    for (flag, says) in [
        ("--sampler", "no sampler is called `-zz`"),
        ("--schedule", "no schedule is called `-zz`"),
        ("--profile", "no profile is called `-zz`"),
        ("--backend", "`device.backend` is `-zz`, expected `cpu`, `cuda:N`, `vulkan:N` or `vulkan:software`"),
        ("--compute", "`device.compute` is `-zz`"),
        ("--noise", "`sampling.noise` is `-zz`"),
        ("--option", "`sampling.options` is `-zz`"),
        ("--output", "`image.output` is `-zz`"),
        ("--transformer", "cannot load `-zz`"),
        ("--prompt-file", "cannot read the prompt `-zz`"),
    ] {
        let ran = tiny.txt2img(&[flag, "-zz"]);
        assert!(matches!(ran.code, Some(2 | 4)) && ran.err.contains(says), "{ran:?}");
    }
    tiny.txt2img(&["--dump", "-d.safetensors", "--output", "-a.png"]).done();
    assert!(tiny.path("-d.safetensors").is_file() && tiny.path("-a.png").is_file());
    tiny.txt2img(&["--dump", "--json"]).refused(2, &["a value is required for '--dump"]);
    assert!(!tiny.path("--json").exists());
    // and text that an editor marks as UTF-8 is the text
    tiny.write("words.txt", "\u{feff}a cat\n");
    assert_eq!(drawn(&tiny, &["--prompt-file", "words.txt"])["prompt"], "a cat");
    assert!(drawn(&tiny, &["--seed", "RANDOM"])["seed"].is_u64());
}

#[test]
fn prompt_syntax_that_is_drawn_as_words_is_told() {
    let tiny = Tiny::quick();
    for (prompt, says) in [
        ("a {{cat}}", "`{{cat}` of the prompt is drawn as plain words: weights are written with round brackets"),
        ("a cat, embedding:easynegative", "`embedding:easynegative` of the prompt is drawn as plain words: no folder"),
        ("a cat at 12:30", "`30` at the end of the prompt is its weight"),
    ] {
        let ran = tiny.txt2img(&["--prompt", prompt]).done();
        assert!(matches!(notes(&ran)[..], [note] if note.contains(says)), "{ran:?}");
        let event = &tiny.txt2img(&["--prompt", prompt, "--json"]).done().json()[0];
        assert!(event["event"] == "note" && event["note"].as_str().unwrap().contains(says), "{event}");
    }
    let ran = tiny.txt2img(&["--prompt", "a (cat:1.2) [on:under:0.5] a mat"]).done();
    assert_eq!(notes(&ran), [""; 0]);
    // the negative prompt's, where it counts; and that it does not, where it does not
    let negative = ["--prompt", "a cat", "--negative", "{{dog}}"];
    let ran = tiny.txt2img(&negative).done();
    assert_eq!(notes(&ran), ["the negative prompt has no effect, as `cfg` is 1; it counts above 1"]);
    let ran = tiny.txt2img(&[&negative[..], &["--cfg", "2"]].concat()).done();
    assert!(matches!(notes(&ran)[..], [note] if note.starts_with("`{{dog}` of the negative prompt")), "{ran:?}");
}

#[test]
fn any_number_of_threads_ends_and_what_differs_from_the_wish_is_told() {
    let tiny = Tiny::quick();
    let run = |args: &[&str], variable: &str| {
        let all = [&["txt2img", "--config", "flux.toml", "--output", "a.png"], args].concat();
        Ran::of(tiny.command(&all).env("RAYON_NUM_THREADS", variable).output().unwrap(), &all).done()
    };
    let first = {
        run(&["--threads", "1"], "");
        fs::read(tiny.path("a.png")).unwrap()
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    for (args, variable, noted) in [
        (&["--threads", "64"][..], "", cores < 64),
        (&["--threads", "1024"], "", true),
        (&[], "5000", true),
        (&[], "0", false),
        (&[], "many", false),
        (&["--threads", "1"], "5000", false),
    ] {
        let ran = run(args, variable);
        assert_eq!(notes(&ran).iter().any(|note| note.contains("threads")), noted, "{ran:?}");
        assert!(fs::read(tiny.path("a.png")).unwrap() == first, "{args:?} {variable}");
    }
    // and so with commands that draw nothing
    for args in [
        &["ops"][..],
        &["devices"],
        &["plan", "--config", "flux.toml"],
        &["convert", "TINY", "b.gguf", "--type", "q8_0"],
    ] {
        let transformer = tiny.role("transformer").display().to_string();
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "TINY" { &transformer } else { *arg }).collect();
        let ran = Ran::of(tiny.command(&args).env("RAYON_NUM_THREADS", "5000").output().unwrap(), &args).done();
        assert!(notes(&ran).iter().any(|note| note.contains("compute instead of")), "{ran:?}");
    }
}

#[test]
fn each_picture_of_a_batch_makes_its_own_choices_and_says_what_they_were() {
    let tiny = Tiny::quick();
    std::fs::create_dir(tiny.path("cards")).expect("files can be written here");
    tiny.write("cards/pets.txt", "cat\ndog\nowl\n");
    let flags = ["--prompt", "a __pets__", "--wildcards", "cards", "--batch", "6", "--seed", "1"];
    let flags = [&flags[..], &["--output", "{index}.png"]].concat();
    tiny.txt2img(&flags).done();
    let text = |index: usize| tiny.forge(&["info", &format!("{index}.png")]).done().out;
    let prompts: std::collections::BTreeSet<String> = (0..6)
        .map(|index| {
            let text = text(index);
            assert!(text.contains("Template: a __pets__"), "{text}");
            assert!(text.contains(&format!("Seed: {}", index + 1)), "{text}");
            text.lines().next().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(prompts.len() > 1 && prompts.iter().all(|prompt| prompt.starts_with("a ")), "{prompts:?}");
    tiny.txt2img(&["--prompt", "a __birds__", "--wildcards", "cards"]).refused(2, &["no wildcard is called `birds`"]);
    tiny.txt2img(&[&flags[..], &["--dump", "d.safetensors"]].concat()).refused(2, &["--dump", "6 runs"]);
}

#[test]
fn guidance_by_step_is_drawn_and_written_and_read_back() {
    let tiny = Tiny::quick().set("sampling", "steps", 3).set("prompt", "negative", "a dog");
    let pixels = |tiny: &Tiny, args: &[&str]| {
        tiny.txt2img(&[args, &["--output", "a.png"]].concat()).done();
        let mut reader =
            png::Decoder::new(std::io::Cursor::new(fs::read(tiny.path("a.png")).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    };
    let cfg = |args: &[&str]| drawn(&tiny, args)["cfg"].clone();
    assert_eq!(cfg(&["--cfg", "3,2.5,1"]), serde_json::json!([3.0, 2.5, 1.0]));
    assert_eq!(cfg(&["--cfg", "[3, 2]"]), serde_json::json!([3.0, 2.0]));
    assert_eq!(cfg(&["--cfg", "3..1"]), "3..1");
    assert_eq!(cfg(&["--cfg", "3..1 cosine"]), "3..1 cosine");
    // a ramp is the list that it stands for, and the file says the same as the flag
    let ramp = pixels(&tiny, &["--cfg", "3..1"]);
    assert_eq!(ramp, pixels(&tiny, &["--cfg", "3,2,1"]));
    assert_ne!(ramp, pixels(&tiny, &["--cfg", "3"]));
    assert_eq!(pixels(&tiny, &["--cfg", "3,3"]), pixels(&tiny, &["--cfg", "3"]));
    let list = toml::Value::Array(vec![3.into(), 2.into(), 1.0.into()]);
    assert_eq!(
        ramp,
        pixels(
            &Tiny::quick().set("sampling", "steps", 3).set("prompt", "negative", "a dog").set("sampling", "cfg", list),
            &[]
        )
    );
    for (wrong, why) in [
        ("3,0.5", "`sampling.cfg` is `[3.0, 0.5]`, expected 1 to 100 in each step"),
        ("3..nan", "expected a number from 1 to 100, a list of such numbers or a ramp such as `7..1.5`"),
        ("3..", "expected a number from 1 to 100"),
        ("3..101", "expected 1 to 100 in each step"),
    ] {
        tiny.txt2img(&["--cfg", wrong]).refused(2, &[why]);
    }
    let wrong = Tiny::quick().set("sampling", "cfg", "7");
    wrong.txt2img(&[]).refused(2, &["a ramp such as `7..1.5`"]);
}
