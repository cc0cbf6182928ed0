//! Bytes that are no safetensors file.

use std::{fs, process::Command};

use crate::{
    refuse,
    tiny::{ROLES, Tiny, raw, split},
};

#[test]
fn a_file_that_is_no_safetensors_file_is_rejected_for_what_it_is() {
    let tensor = |form: &str| format!(r#"{{"a":{form}}}"#);
    let float =
        |shape: &str, offsets: &str| tensor(&format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#));
    let two = |second: &str| {
        let form = |offsets: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, form("[0,8]"), form(second))
    };
    let twice = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let length = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "this is an empty file"),
        ("seven bytes", vec![1; 7], "is truncated"),
        ("a header of 2^64 - 1 bytes", length(u64::MAX), "at most 33554432 are accepted"),
        ("a header of 32 MiB and a byte", length((32 << 20) + 1), "at most 33554432 are accepted"),
        ("a header beyond the end", length(3), "the header ends at byte 11, the file has 10"),
        ("no header", length(0), "no valid safetensors header"),
        ("not JSON", raw("hello, world", b""), "no valid safetensors header"),
        ("not UTF-8", [&8u64.to_le_bytes()[..], &[0xff; 8]].concat(), "no valid safetensors header"),
        ("half a JSON", raw(r#"{"a":{"dtype""#, b""), "no valid safetensors header"),
        ("two JSONs", raw("{}{}", b""), "no valid safetensors header"),
        ("a list", raw("[]", b""), "no valid safetensors header"),
        ("a hundred thousand lists", raw(&"[".repeat(100_000), b""), "no valid safetensors header"),
        ("a hundred thousand objects", raw(&r#"{"a":"#.repeat(100_000), b""), "no valid safetensors header"),
        ("a deep shape", raw(&float(&"[".repeat(100_000), "[0,4]"), b""), "no valid safetensors header"),
        ("a deep unknown key", raw(&tensor(&format!(r#"{{"x":{}"#, "[".repeat(100_000))), b""), "no valid"),
        ("two tensors of one name", raw(&format!(r#"{{"a":{twice},"a":{twice}}}"#), &[0; 4]), "`a` occurs twice"),
        (
            "two shapes",
            raw(&tensor(r#"{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,1]}"#), &[0]),
            "duplicate",
        ),
        ("two metadata", raw(r#"{"__metadata__":{},"__metadata__":{}}"#, b""), "`__metadata__` occurs twice"),
        ("metadata of numbers", raw(r#"{"__metadata__":{"a":1}}"#, b""), "no valid safetensors header"),
        ("an unknown format", raw(&tensor(r#"{"dtype":"F31","shape":[1],"data_offsets":[0,4]}"#), &[0; 4]), "F31"),
        ("no format", raw(&tensor(r#"{"shape":[1],"data_offsets":[0,4]}"#), &[0; 4]), "missing field `dtype`"),
        ("a negative shape", raw(&float("[-1]", "[0,4]"), &[0; 4]), "no valid safetensors header"),
        ("half a dimension", raw(&float("[0.5]", "[0,2]"), &[0; 2]), "no valid safetensors header"),
        ("a dimension of 2^64", raw(&float("[18446744073709551616]", "[0,4]"), &[0; 4]), "no valid safetensors header"),
        ("2^32 by 2^32", raw(&float("[4294967296,4294967296]", "[0,0]"), b""), "is larger than any file"),
        ("2^64 - 1 values", raw(&float("[18446744073709551615]", "[0,4]"), &[0; 4]), "is larger than any file"),
        ("2^62 values", raw(&float("[4611686018427387904]", "[0,0]"), b""), "is larger than any file"),
        ("a huge range", raw(&float("[1]", "[0,18446744073709551615]"), &[0; 4]), "expected 4, found 1844674407370955"),
        ("a huge start", raw(&float("[1]", "[18446744073709551615,3]"), &[0; 4]), "`a` does not begin"),
        ("a range backwards", raw(&float("[1]", "[4,0]"), &[0; 4]), "`a` does not begin"),
        ("an overlap", raw(&two("[4,12]"), &[0; 12]), "`b` does not begin where the one before it ends"),
        ("one range for two", raw(&two("[0,8]"), &[0; 8]), "`b` does not begin where the one before it ends"),
        ("a gap", raw(&two("[12,20]"), &[0; 20]), "`b` does not begin where the one before it ends"),
        ("bytes in front", raw(&float("[1]", "[4,8]"), &[0; 8]), "`a` does not begin where the one before it ends"),
        ("bytes behind", raw(&two("[8,16]"), &[0; 17]), "`b` is the last, but bytes follow it"),
        ("a range of another size", raw(&float("[2]", "[0,4]"), &[0; 4]), "expected 8, found 4"),
        ("half a byte", raw(&tensor(r#"{"dtype":"F4","shape":[1],"data_offsets":[0,1]}"#), &[0]), "`a`"),
        ("data without a tensor", raw("{}", &[0; 8]), "bytes follow it"),
        ("no tensor in safetensors", raw("{}", b""), "an unknown model"),
        ("no tensor in GGUF", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "an unknown model"),
        (
            "a zip",
            b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0archive/data.pkl".to_vec(),
            "byte 0: the archive's directory can't be read",
        ),
        (
            "a pickle",
            b"\x80\x04\x95\x0a\0\0\0\0\0\0\0cos\nsystem\n".to_vec(),
            "it is a pickle, but none that `torch.save` writes",
        ),
    ];
    let tiny = Tiny::quick();
    for (case, bytes, says) in cases {
        tiny.write("m.safetensors", bytes);
        for role in ["transformer", "vae"] {
            let ran =
                refuse(&tiny, &[&format!("--{role}"), "m.safetensors"], 4, &["cannot load `m.safetensors`", says]);
            assert!(ran.err.len() < 2000, "{case}: {ran:?}");
        }
        if !case.starts_with("no tensor") {
            tiny.forge(&["inspect", "m.safetensors"]).refused(4, &["cannot load `m.safetensors`", says]);
            tiny.forge(&["inspect", "--json", "m.safetensors"]).json();
        }
        let code = tiny.txt2img(&["--noise", "m.safetensors"]).code;
        assert_eq!(code, Some(4), "{case}");
    }
}

#[test]
fn a_model_cut_anywhere_is_rejected() {
    let tiny = Tiny::quick();
    for role in ROLES {
        let whole = fs::read(tiny.role(role)).unwrap();
        let data = 8 + split(&whole).0.len();
        // The transformer at every 64 bytes of its header, the others here and there.
        let step = if role == "transformer" { 64 } else { 1999 };
        let cuts = (0..data).step_by(step).chain([data - 1, data, data + 1, whole.len() / 2, whole.len() - 1]);
        for cut in cuts {
            tiny.write("cut.safetensors", &whole[..cut]);
            refuse(&tiny, &[&format!("--{role}"), "cut.safetensors"], 4, &["cannot load `cut.safetensors`"]);
        }
    }
}

#[test]
fn what_is_not_a_file_is_rejected_and_not_waited_for() {
    let tiny = Tiny::quick();
    fs::create_dir(tiny.path("empty")).unwrap();
    tiny.write("beside/other.txt", "");
    assert!(Command::new("mkfifo").arg(tiny.path("pipe")).status().unwrap().success());
    let cases = [
        ("empty", "this is a folder without one, expected a safetensors file"),
        ("beside", "this is a folder without one, expected a safetensors file"),
        ("nowhere.safetensors", "No such file"),
        ("flux.toml/model", "Not a directory"),
        ("pipe", "`pipe` is not a file"),
        ("/dev/zero", "`/dev/zero` is not a file"),
    ];
    for (path, says) in cases {
        for role in ROLES {
            refuse(&tiny, &[&format!("--{role}={path}")], 4, &[&format!("cannot load `{path}`"), says]);
        }
        tiny.forge(&["inspect", path]).refused(4, &[says]);
    }
    refuse(&tiny, &["--folder", "empty"], 4, &["cannot load `empty`", "`transformer` or `unet`"]);
    refuse(&tiny, &["--folder", "flux.toml"], 4, &["cannot load `flux.toml/", "Not a directory"]);
}
