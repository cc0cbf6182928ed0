//! What lies beside a model: its `config.json`, and the index of a split one.

use std::fs;

use forge::Error;

use crate::{End, MESSAGE, alone, error, innermost, place, tiny::Tiny, told, trial};

/// `forge inspect` of a folder with these files in it.
fn ends(kind: &str, files: &[(&str, &[u8])], end: End) {
    let (_folder, path) = place("model");
    fs::create_dir(&path).expect("files can be written here");
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).expect("files can be written here");
    }
    let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let faults = trial(kind, size, MESSAGE, end, || forge::inspect(&path).map(drop));
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_config_json_that_makes_no_sense_is_refused_with_its_own_error() {
    let _alone = alone();
    const WRONG: End = error!(Error::ModelConfig { .. });
    const OTHER: End = error!(Error::NotAnObject { .. });
    const MODEL: End = End::Either;
    let vae = fs::read(Tiny::quick().role("vae")).unwrap();
    let huge = usize::MAX;
    let cases: Vec<(&str, Vec<u8>, End)> = vec![
        ("half an object", b"{".to_vec(), WRONG),
        ("nothing", b"".to_vec(), OTHER),
        ("bytes that are no UTF-8", b"\xff\xfe".to_vec(), OTHER),
        ("null", b"null".to_vec(), OTHER),
        ("a list", b"[]".to_vec(), OTHER),
        ("a string", b"\"a\"".to_vec(), OTHER),
        ("a hundred thousand lists", "[".repeat(100_000).into_bytes(), WRONG),
        ("a hundred thousand objects", r#"{"a":"#.repeat(100_000).into_bytes(), WRONG),
        ("groups of text", br#"{"norm_num_groups":"32"}"#.to_vec(), WRONG),
        ("groups of -1", br#"{"norm_num_groups":-1}"#.to_vec(), WRONG),
        ("groups of 1e30", br#"{"norm_num_groups":1e30}"#.to_vec(), WRONG),
        ("groups of 2^64", br#"{"norm_num_groups":18446744073709551616}"#.to_vec(), WRONG),
        ("no groups", br#"{"norm_num_groups":0}"#.to_vec(), MODEL),
        ("seven groups", br#"{"norm_num_groups":7}"#.to_vec(), MODEL),
        ("groups of 2^64 - 1", format!(r#"{{"norm_num_groups":{huge}}}"#).into_bytes(), MODEL),
        ("a factor of 0", br#"{"scaling_factor":0}"#.to_vec(), MODEL),
        ("a factor of 1e300", br#"{"scaling_factor":1e300}"#.to_vec(), MODEL),
        ("a factor of 1e999", br#"{"scaling_factor":1e999}"#.to_vec(), WRONG),
        ("a shift of text", br#"{"shift_factor":"1"}"#.to_vec(), WRONG),
        ("another model's class", br#"{"_class_name":"UNet2DConditionModel"}"#.to_vec(), MODEL),
        ("a class of a number", br#"{"_class_name":1}"#.to_vec(), MODEL),
        ("a key twice", br#"{"norm_num_groups":32,"norm_num_groups":1}"#.to_vec(), MODEL),
        (
            "a hundred thousand keys",
            format!("{{{}}}", (0..20_000).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(",")).into_bytes(),
            MODEL,
        ),
    ];
    for (kind, config, end) in cases {
        ends(kind, &[("m.safetensors", &vae), ("config.json", &config)], end);
    }
}

#[test]
fn an_index_that_makes_no_sense_is_refused() {
    let _alone = alone();
    let part = fixtures::path("golden/tiny-diffusers/transformer");
    let names = ["1", "2"].map(|i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors"));
    let shards = names.each_ref().map(|name| fs::read(part.join(name)).unwrap());
    let map = |value: &str| format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{value}}}"#).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("half an object", b"{".to_vec()),
        ("nothing", b"".to_vec()),
        ("bytes that are no UTF-8", b"\xff\xfe".to_vec()),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("no map", b"{}".to_vec()),
        ("a map of null", map("null")),
        ("a map that is a list", map("[]")),
        ("a map of numbers", map(r#"{"a":1}"#)),
        ("a map of maps", map(r#"{"a":{}}"#)),
        ("a hundred thousand lists", "[".repeat(100_000).into_bytes()),
        ("a map of a hundred thousand maps", map(&r#"{"a":"#.repeat(100_000))),
        ("a file that is not there", map(r#"{"a":"none.safetensors"}"#)),
        ("a file in the folder above", map(r#"{"a":"../secret.safetensors"}"#)),
        ("a file by its whole path", map(r#"{"a":"/etc/passwd"}"#)),
        ("a file on another drive", map(r#"{"a":"C:\\a.safetensors"}"#)),
        ("a file of no name", map(r#"{"a":""}"#)),
        ("a file that is the folder", map(r#"{"a":"."}"#)),
        ("a file with a NUL in its name", map(r#"{"a":"a\u0000.safetensors"}"#)),
        ("a file of a name of 300 bytes", map(&format!(r#"{{"a":"{}"}}"#, "n".repeat(300)))),
        ("a file of a name of 100 kB", map(&format!(r#"{{"a":"{}"}}"#, "n".repeat(100_000)))),
        (
            "twenty thousand files",
            map(&format!(
                "{{{}}}",
                (0..20_000).map(|i| format!(r#""{i}":"{i}.safetensors""#)).collect::<Vec<_>>().join(",")
            )),
        ),
        ("a tensor that no file has", map(&format!(r#"{{"none":"{}"}}"#, names[0]))),
        ("a tensor in another file than it is", map(&format!(r#"{{"x_embedder.weight":"{}"}}"#, names[1]))),
    ];
    for (kind, index) in cases {
        ends(
            kind,
            &[
                (&names[0], &shards[0]),
                (&names[1], &shards[1]),
                ("diffusion_pytorch_model.safetensors.index.json", &index),
            ],
            End::Refused(|error| !matches!(innermost(error), Error::Read { .. }) || told(error).len() < 4000),
        );
    }
}
