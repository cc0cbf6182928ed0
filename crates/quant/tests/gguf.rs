//! A file of every type of tensor and of metadata, as the Python package `gguf` writes it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Error, WeightSource, safetensors::Safetensors};
use quant::{Gguf, Value, formats};

fn types() -> Gguf {
    Gguf::open(&fixtures::path("golden/gguf/types.gguf")).unwrap()
}

#[test]
fn tensors_of_every_type_have_the_values_of_the_reference() {
    let (file, expected) = (types(), Safetensors::open(&fixtures::path("golden/gguf/types.safetensors")).unwrap());
    assert!(file.manifest().names().eq(expected.manifest().names()));
    for (name, form) in expected.manifest().iter() {
        let (found, expected) = (file.read(name).unwrap(), expected.read(name).unwrap());
        assert_eq!(found.shape(), form.shape, "{name}");
        assert_eq!(file.manifest().get(name).map(|form| form.format), Some(found.format()), "{name}");
        match expected.to_f32() {
            Some(values) => assert_eq!(found.to_f32().unwrap(), values, "{name}"),
            None => assert_eq!((found.format(), found.to_bytes()), (form.format, expected.to_bytes()), "{name}"),
        }
    }
}

#[test]
fn every_block_format_is_in_the_file_under_its_number() {
    let file = types();
    for format in formats::BLOCK_FORMATS {
        let form = file.manifest().get(&format.name().to_lowercase()).unwrap();
        assert_eq!(
            (form.format, form.shape, Some(form.bytes)),
            (*format, &[2, 512][..], format.size(1024)),
            "{format}"
        );
    }
}

#[test]
fn a_tensor_that_was_laid_in_other_rows_has_its_shape_back() {
    let file = types();
    let form = file.manifest().get("reshaped").unwrap();
    assert_eq!((form.format, form.shape), (formats::Q4_K, &[8, 2, 16, 2][..]));
    let stored = file.read("reshaped").unwrap();
    assert_eq!(stored.rows(4..8).unwrap().shape(), [4, 2, 16, 2]);
    assert!(matches!(stored.rows(3..5), Err(Error::Rows { weights: 64, per_block: 256, .. })));
}

#[test]
fn metadata_of_every_type_is_what_was_written() {
    let file = types();
    let expected = [
        ("of.uint8", Value::Unsigned(200)),
        ("of.int8", Value::Signed(-100)),
        ("of.uint16", Value::Unsigned(60_000)),
        ("of.int16", Value::Signed(-30_000)),
        ("of.uint32", Value::Unsigned(4_000_000_000)),
        ("of.int32", Value::Signed(-2_000_000_000)),
        ("of.uint64", Value::Unsigned(1 << 63)),
        ("of.int64", Value::Signed(-(1 << 62))),
        ("of.float32", Value::Float(1.5)),
        ("of.float64", Value::Float(-2.5)),
        ("of.bool", Value::Truth(true)),
        ("of.string", Value::Text("ä text")),
    ];
    for (key, value) in expected {
        assert_eq!(file.value(key), Some(value), "{key}");
    }
    let list = |key: &str| match file.value(key) {
        Some(Value::List(list)) => list.values().collect::<Vec<_>>(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(list("of.numbers"), [1, -2, 3].map(Value::Signed));
    assert_eq!(list("of.floats"), [0.5, 1.5].map(Value::Float));
    assert_eq!(list("of.texts"), ["a", "", "bc"].map(Value::Text));
    assert_eq!(file.value("of.nothing"), None);
    assert_eq!((file.architecture(), file.version(), file.alignment()), (Some("none"), 3, 64));
    assert_eq!(file.keys().count(), 18);
}

#[test]
fn a_tensor_that_is_not_there_is_missing() {
    let error = types().read("nothing").unwrap_err();
    assert!(matches!(&error, Error::Missing { name, .. } if name == "nothing"), "{error}");
}
