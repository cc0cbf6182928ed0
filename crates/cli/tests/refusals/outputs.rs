//! Noise, outputs and dumps.

use std::fs;

use crate::{
    refuse,
    tiny::{Tensors, Tiny, raw},
};

#[test]
fn noise_that_does_not_fit_is_refused() {
    let tiny = Tiny::quick();
    let noise = |dtype: &str, shape: &[u64]| Tensors(vec![]).zeros("noise", dtype, shape);
    let cases: Vec<(Tensors, i32, &str)> = vec![
        (noise("F32", &[1, 16, 2, 3]), 2, "the given noise's shape is [1, 16, 2, 3], expected [1, 16, 2, 2]"),
        (noise("F32", &[2, 16, 2, 2]), 2, "the given noise's shape is [2, 16, 2, 2], expected [1, 16, 2, 2]"),
        (noise("F32", &[1, 4, 2, 2]), 2, "the given noise's shape"),
        (noise("F32", &[16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[1, 1, 16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("I64", &[1, 16, 2, 2]), 4, "expected `noise` as four-dimensional floats"),
        (noise("F32", &[1, 16, 2, 2]).poisoned("noise", f32::NAN), 1, "the starting noise holds a value that is not"),
        (noise("F32", &[1, 16, 2, 2]).renamed(|_| "nois".into()), 4, "a file without one, expected a tensor `noise`"),
        (Tensors(vec![]), 4, "a file without one, expected a tensor `noise`"),
    ];
    for (file, code, says) in cases {
        tiny.write("n.safetensors", file.bytes());
        refuse(&tiny, &["--noise", "n.safetensors"], code, &[says]);
    }
    // Shapes of nothing, whose other dimensions are too large to multiply.
    for shape in ["[0,16,2,2]", "[0,1099511627776,1099511627776,1]", "[1,0,18446744073709551615,1]"] {
        let header = format!(r#"{{"noise":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        tiny.write("n.safetensors", raw(&header, b""));
        let code = tiny.txt2img(&["--noise", "n.safetensors"]).code;
        assert!(matches!(code, Some(2 | 4)), "{shape} {code:?}");
        refuse(&tiny, &["--noise", "n.safetensors"], code.unwrap(), &["noise"]);
    }
    refuse(&tiny, &["--noise", "none.safetensors"], 4, &["cannot load `none.safetensors`"]);
    refuse(&tiny, &["--noise", "gaussian"], 2, &["`sampling.noise` is `gaussian`, expected `cpu`, `nv` or"]);
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_work() {
    let tiny = Tiny::quick();
    tiny.write("file", "");
    fs::create_dir_all(tiny.path("folder.png")).unwrap();
    fs::create_dir_all(tiny.path("folder.safetensors")).unwrap();
    fs::create_dir_all(tiny.path("1.png")).unwrap();
    let [long_png, long_dump] = [".png", ".safetensors"].map(|end| format!("{}{end}", "n".repeat(300)));
    let grows = format!("{}{{seed}}.png", "n".repeat(249));
    let cases: [(&str, &str); 12] = [
        ("output", "folder.png"),
        ("output", "file/a.png"),
        ("output", "file/b/c/a.png"),
        ("output", &long_png),
        ("output", "/proc/a.png"),
        ("output", "/dev/null/a.png"),
        ("output", "{seed}.png"), // seed 1, whose name is a folder
        ("output", &grows),       // a name that the seed makes too long
        ("dump", "folder.safetensors"),
        ("dump", "file/d.safetensors"),
        ("dump", &long_dump),
        ("dump", "/proc/d.safetensors"),
    ];
    for (flag, place) in cases {
        let seed = if place == grows { "1234567890" } else { "1" };
        let ran = refuse(&tiny, &[&format!("--{flag}"), place, "--seed", seed], 1, &["cannot write `"]);
        assert!(!ran.err.contains("load "), "found only after loading: {ran:?}");
    }
    refuse(&tiny, &["--output", "{index}.png", "--batch", "2"], 1, &["cannot write `1.png`"]);
    tiny.write("nul.toml", "[image]\noutput = \"a\\u0000.png\"");
    let nul = tiny.forge(&["txt2img", "--config", "nul.toml"]);
    assert!(matches!(nul.code, Some(1 | 2)) && !nul.err.contains("panicked"), "{nul:?}");
}

#[test]
fn folders_are_made_for_the_seed_in_their_name_and_for_no_other() {
    let tiny = Tiny::quick();
    tiny.txt2img(&["--seed", "42", "--output", "pictures/{seed}/{index}.png"]).done();
    let made: Vec<_> = fs::read_dir(tiny.path("pictures")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(made, ["42"]);
}

#[test]
fn a_picture_that_is_there_survives_a_run_that_fails() {
    let tiny = Tiny::quick();
    tiny.write("a.png", "a picture");
    let file = Tensors::of(&tiny.role("vae")).poisoned("decoder.conv_out.bias", f32::NAN);
    tiny.write("m.safetensors", file.bytes());
    tiny.txt2img(&["--vae", "m.safetensors", "--output", "a.png"]).refused(1, &["the decoded picture"]);
    assert_eq!(fs::read_to_string(tiny.path("a.png")).unwrap(), "a picture");
    assert_eq!(tiny.drawn().len(), 1);
    // and one that succeeds replaces it
    tiny.txt2img(&["--output", "a.png"]).done();
    tiny.forge(&["info", "a.png"]).done();
}
