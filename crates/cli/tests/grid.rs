//! `forge grid`: pictures that differ in a key or two, alone and on a sheet.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{fs, os::unix::fs::symlink};

use diffusion_engine::{Raster, read_infotext, read_picture};
use tiny::Tiny;

fn pixels(tiny: &Tiny, name: &str) -> Raster<3> {
    read_picture(tiny.path(name)).unwrap().over([255; 3])
}

#[test]
fn each_picture_is_what_its_values_draw_alone_and_stands_on_the_sheet() {
    let tiny = Tiny::of("tiny-dev");
    let grid = ["grid", "--config", "flux.toml", "--x", "steps=1,2", "--y", "cfg=1,2", "--seed", "9"];
    let ran = tiny.forge(&[&grid[..], &["--output", "g.png", "--json"]].concat()).done();
    let images: Vec<_> = ran.json().into_iter().filter(|event| event["event"] == "image").collect();
    assert_eq!(images.len(), 5);
    let sheet = pixels(&tiny, "g.png");
    let width = sheet.size().width;
    for (name, steps, cfg) in [("g-1-1", "1", "1"), ("g-2-1", "2", "1"), ("g-1-2", "1", "2"), ("g-2-2", "2", "2")] {
        let flags = ["--config", "flux.toml", "--seed", "9", "--steps", steps, "--cfg", cfg, "--output", "alone.png"];
        tiny.forge(&[&["txt2img"], &flags[..]].concat()).done();
        let (own, alone) = (pixels(&tiny, &format!("{name}.png")), pixels(&tiny, "alone.png"));
        assert_eq!(own.pixels(), alone.pixels(), "{name}");
        let first = &own.pixels()[..own.size().width];
        let rows = sheet.pixels().chunks_exact(width);
        assert!(
            rows.into_iter().any(|row| row.windows(first.len()).any(|part| part == first)),
            "{name} is not on the sheet"
        );
    }
    let text = read_infotext(&tiny.path("g.png")).unwrap();
    assert!(
        text.ends_with("Script: X/Y/Z plot, X Type: steps, X Values: \"1, 2\", Y Type: cfg, Y Values: \"1, 2\""),
        "{text}"
    );
}

#[test]
fn pictures_of_a_second_pass_stand_on_the_sheet_at_the_sides_that_their_model_takes() {
    let tiny = Tiny::of("tiny-dev");
    let size = ["--width", "64", "--height", "64", "--hires-scale", "1.4", "--hires-steps", "1"];
    let grid = ["grid", "--config", "flux.toml", "--x", "steps=1,2", "--output", "g.png"];
    tiny.forge(&[&grid[..], &size].concat()).done();
    // 1.4 times 64 is 89, of which 88 is a multiple of 8, and 80 one of a Flux's 16
    let side = |name: &str| pixels(&tiny, name).size().width;
    assert_eq!([side("g-1.png"), side("g-2.png")], [80; 2]);
    assert!(side("g.png") > 160);
}

#[test]
fn what_can_be_told_before_the_work_is_refused_and_nothing_is_written() {
    let tiny = Tiny::of("tiny-dev");
    for (flags, told) in [
        (&["--x", "stepz=1,2"][..], "`stepz`"),
        (&["--x", "steps=0,2"], "steps"),
        (&["--x", "width=64,96"], "pictures of one size"),
        (&["--x", "steps=1,2", "--y", "sampling.steps=3"], "another key"),
        (&["--x", "steps=1,2", "--output", "{seed}.png"], "without braces"),
        (&["--x", "seed=1-100", "--y", "steps=1-20"], "1000 pictures at most"),
        (&["--x", "seed=1-900", "--width", "64", "--height", "64"], "fewer or smaller pictures"),
        (&["--x", "words=zebra,cat"], "`zebra`"),
        (&["--x", "steps=1", "--batch", "2"], "one picture in each place"),
    ] {
        let output = if flags.contains(&"--output") { &[][..] } else { &["--output", "g.png"] };
        let ran = tiny.forge(&[&["grid", "--config", "flux.toml"], flags, output].concat());
        assert_eq!(ran.code, Some(2), "{flags:?}: {}", ran.err);
        assert!(ran.err.contains(told), "{flags:?}: {}", ran.err);
    }
    // given links and names by which a sheet or a picture would take the place of what is read or written
    let read = ["g.png", "p.png"];
    for name in read {
        tiny.write(name, fs::read(tiny.path("flux.toml")).unwrap());
    }
    let link = |to: &str, from: &str| symlink(tiny.path(to), tiny.path(from)).unwrap();
    link("flux.toml", "sheet.png");
    link("p.png", "a-1.png");
    link("b-2.png", "b-1.png");
    fs::create_dir(tiny.path("folder.png")).unwrap();
    let before = fs::read(tiny.path("flux.toml")).unwrap();
    for flags in [
        &["--config", "g.png", "--output", "g.png"][..],
        &["--config", "flux.toml", "--output", "sheet.png"],
        &["--config", "flux.toml", "--prompt-file", "p.png", "--output", "p.png"],
        &["--config", "flux.toml", "--prompt-file", "p.png", "--output", "a.png"],
        &["--config", "flux.toml", "--preview", "c.png", "--output", "c.png"],
        &["--config", "flux.toml", "--preview", "c-1.png", "--output", "c.png"],
        &["--config", "flux.toml", "--output", "b.png"],
        &["--config", "flux.toml", "--output", "folder.png"],
    ] {
        let ran = tiny.forge(&[&["grid", "--x", "steps=1,2"], flags].concat());
        assert!([Some(1), Some(2)].contains(&ran.code) && !ran.err.contains("load "), "{flags:?}: {}", ran.err);
    }
    for flags in
        [["--x", "image=i.png,a-1.png", "--output", "a.png"], ["--x", "image=p.png,d-1.png", "--output", "d.png"]]
    {
        let ran = tiny.forge(&[&["grid", "--config", "flux.toml"], &flags[..]].concat());
        assert!(ran.code != Some(0) && !ran.err.contains("load "), "{flags:?}: {}", ran.err);
    }
    assert!(["flux.toml", "g.png", "p.png"].iter().all(|name| fs::read(tiny.path(name)).unwrap() == before));
    for name in ["g.png", "p.png", "sheet.png", "a-1.png", "b-1.png"] {
        fs::remove_file(tiny.path(name)).unwrap();
    }
    fs::remove_dir(tiny.path("folder.png")).unwrap();
    let pictures = fs::read_dir(tiny.path("")).unwrap().filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|ending| ending == "png"))
    });
    assert_eq!(pictures.count(), 0);
}

#[test]
fn a_sheet_that_there_is_no_room_for_is_told_before_the_work() {
    let tiny = Tiny::quick();
    let flags = ["grid", "--config", "flux.toml", "--x", "seed=1-20", "--y", "steps=1-25", "--memory", "100MiB"];
    let size = ["--width", "96", "--height", "96", "--output"];
    let ran = tiny.forge(&[&flags[..], &size, &["g.webp"]].concat()).refused(3, &["the picture `g.webp` needs 1"]);
    assert!(ran.err.contains("`memory` is 100 MiB") && ran.err.contains("hint: set `memory"), "{ran:?}");
}

#[test]
fn a_model_that_can_not_be_had_is_told_before_another_draws() {
    let tiny = Tiny::of("tiny-dev");
    let own = tiny.role("transformer").display().to_string();
    for (axis, code, told) in [
        (format!("transformer={own},none.safetensors"), 4, "none.safetensors"),
        ("memory=2GiB,60MiB".to_owned(), 3, "`memory` is 60"),
    ] {
        let ran = tiny.forge(&["grid", "--config", "flux.toml", "--x", &axis, "--output", "g.png"]);
        ran.refused(code, &[told]);
        assert!(!tiny.path("g-1.png").exists(), "{axis}");
    }
}
