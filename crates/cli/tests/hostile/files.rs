//! Files that are something else than a model, and models of more than there is.

use forge::core_tensor::Error;

use crate::{
    End,
    Reader::{Inspect, Noise},
    Row, alone, check, error, file,
    tiny::{Tensors, Tiny},
    weights,
};

/// Refused, by whichever error says what the file is.
const REFUSED: End = End::Refused(|_| true);

fn other_files() -> Vec<Row> {
    let named: &[(&str, &[u8])] = &[
        (
            "a GGUF file of more tensors than any",
            b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ),
        ("a GGUF file of 2^61 keys, as in CVE-2024-23605", b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x20"),
        ("GGUF and nothing", b"GGUF"),
        ("a big-endian GGUF file", b"GGUF\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("a GGML file", b"lmgg\x01\0\0\0\0\0\0\0"),
        ("a pickle of protocol 0", b"(dp0\nS'a'\np1\n."),
        ("a pickle of protocol 2", b"\x80\x02}q\0."),
        ("a pickle of protocol 4", b"\x80\x04\x95\x0a\0\0\0\0\0\0\0cos\nsystem\n."),
        ("a zip of a pickle", b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0archive/data.pkl"),
        ("an empty zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("a gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"),
        ("a zstd file", b"\x28\xb5\x2f\xfd\x04\x00\x01\0\0"),
        ("a 7z archive", b"7z\xbc\xaf\x27\x1c\0\x04\0\0\0\0"),
        ("a rar archive", b"Rar!\x1a\x07\x01\0\0\0\0\0"),
        ("an xz file", b"\xfd7zXZ\0\0\x04\0\0\0\0"),
        ("a tar archive", b"a.safetensors\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("an ONNX file", b"\x08\x07\x12\x07pytorch\x1a\x031.9"),
        ("an AppleDouble file", b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "),
        ("a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"),
        ("a page", b"<!DOCTYPE html><html><title>404</title></html>"),
        ("an error in JSON", b"{\"error\":\"Access to model is restricted\"}"),
        ("an error in text", b"Entry not found\n"),
        ("an empty line", b"\n"),
        ("a PNG", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0"),
        ("a program", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("an HDF5 file", b"\x89HDF\r\n\x1a\n\0\0\0\0\0"),
        ("a NumPy array", b"\x93NUMPY\x01\0v\0{'descr': '<f4', }"),
        ("a byte order mark", b"\xef\xbb\xbf{}"),
    ];
    let mut rows: Vec<Row> = named.iter().map(|(kind, bytes)| Row::new(Inspect, *kind, *bytes, REFUSED)).collect();
    for (kind, count) in [("eight zeros", 8), ("a kilobyte of zeros", 1 << 10), ("a megabyte of zeros", 1 << 20)] {
        rows.push(Row::new(Inspect, kind, vec![0; count], REFUSED));
    }
    let mut hole = Row::new(Inspect, "64 GiB of zeros", vec![], REFUSED);
    hole.hole = 1 << 36;
    rows.push(hole);
    // and each where noise is looked for
    let noise = named.iter().map(|(kind, bytes)| Row::new(Noise, format!("{kind} as noise"), *bytes, REFUSED));
    rows.extend(noise.collect::<Vec<_>>());
    rows
}

fn noise() -> Vec<Row> {
    let noise = |dtype: &str, shape: &str, bytes: u64| {
        format!(r#"{{"noise":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#)
    };
    let row = |kind: &str, header: String, hole, end| {
        let mut row = Row::new(Noise, kind, file(&header, 0), end);
        row.hole = hole;
        row
    };
    const WRONG: End = error!(forge::Error::WrongFile { .. });
    vec![
        row("noise that fits", noise("F32", "[1,16,8,8]", 4096), 4096, End::Taken),
        row("noise in f16", noise("F16", "[1,16,8,8]", 2048), 2048, End::Taken),
        row("noise of 64 GiB in a hole", noise("F32", "[1,16,32768,32768]", 1 << 36), 1 << 36, WRONG),
        row("noise of 64 GiB of f16", noise("BF16", "[1,32,32768,32768]", 1 << 36), 1 << 36, WRONG),
        row(
            "noise of a thousand dimensions",
            noise("F32", &format!("[{}1]", "1,".repeat(999)), 4),
            4,
            weights!(Error::Rank { .. }),
        ),
        row("noise of five dimensions", noise("F32", "[1,1,16,8,8]", 4096), 4096, WRONG),
        row("noise of three dimensions", noise("F32", "[16,8,8]", 4096), 4096, WRONG),
        row("noise of one number", noise("F32", "[]", 4), 4, WRONG),
        row("noise of integers", noise("I64", "[1,16,8,8]", 8192), 8192, WRONG),
        row("noise in fp8", noise("F8_E4M3", "[1,16,8,8]", 1024), 1024, WRONG),
        row("noise of nothing", noise("F32", "[0,16,8,8]", 0), 0, WRONG),
        row(
            "noise of nothing by more than any",
            noise("F32", "[1,0,18446744073709551615,1]", 0),
            0,
            weights!(Error::Overflow { .. }),
        ),
        row("no noise", "{}".into(), 0, WRONG),
        row("other noise", noise("F32", "[1,16,8,8]", 4096).replace("noise", "Noise"), 4096, WRONG),
    ]
}

/// Models whose headers say more than there is.
fn models() -> Vec<Row> {
    let tiny = Tiny::quick();
    let row = |kind: &str, bytes: Vec<u8>, end| Row::new(Inspect, kind, bytes, end);
    let list = |names: &mut dyn Iterator<Item = String>| {
        let entry = |name: String| format!(r#""{name}":{{"dtype":"F16","shape":[0,1],"data_offsets":[0,0]}}"#);
        file(&format!("{{{}}}", names.map(entry).collect::<Vec<_>>().join(",")), 0)
    };
    let vae = Tensors::of(&tiny.role("vae")).without(|name| name.starts_with("encoder."));
    let wide = vae.clone().zeros("decoder.conv_in.weight", "U8", &[1 << 20, 1, 1, 1]);
    let stacked =
        |stack: &str, tensor: &str, count: usize| list(&mut (0..count).map(|i| format!("{stack}.{i}.{tensor}")));
    vec![
        row("a decoder of a million channels", wide.bytes(), End::Either),
        row("ten thousand double blocks", stacked("double_blocks", "img_attn.qkv.weight", 10_000), End::Either),
        row("ten thousand single blocks", stacked("single_blocks", "linear1.weight", 10_000), End::Either),
        row(
            "ten thousand blocks of T5",
            stacked("encoder.block", "layer.0.SelfAttention.q.weight", 10_000),
            End::Either,
        ),
        row("ten thousand layers of CLIP", stacked("text_model.encoder.layers", "mlp.fc1.weight", 10_000), End::Either),
        row("ten thousand levels", stacked("decoder.up", "block.0.conv1.weight", 10_000), End::Either),
        row(
            "a block numbered 2^64 - 1",
            list(&mut ["double_blocks.18446744073709551615.img_attn.qkv.weight".into()].into_iter()),
            End::Either,
        ),
        row("a block numbered -1", list(&mut ["double_blocks.-1.img_attn.qkv.weight".into()].into_iter()), End::Either),
        row(
            "a thousand prefixes",
            list(&mut (0..1000).map(|i| format!("{i}.double_blocks.0.img_attn.qkv.weight"))),
            End::Either,
        ),
        row(
            "every part at once",
            list(
                &mut [
                    "double_blocks.0.img_attn.qkv.weight",
                    "encoder.block.0.layer.0.SelfAttention.q.weight",
                    "decoder.conv_in.weight",
                ]
                .into_iter()
                .map(str::to_owned),
            ),
            End::Either,
        ),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [other_files(), noise(), models()].into_iter().flatten().collect()
}

#[test]
fn a_file_that_is_something_else_or_less_than_it_says_is_refused() {
    let _alone = alone();
    check(rows());
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let _alone = alone();
    let cases: &[(&[u8], &str)] = &[
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git-lfs"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "page"),
        (b"{\"error\":\"Access to model is restricted\"}", "JSON"),
        (b"Entry not found\n", "text"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", "gzip"),
        (b"\x28\xb5\x2f\xfd\x04\x00\x01\0\0", "zst"),
        (b"7z\xbc\xaf\x27\x1c\0\x04\0\0\0\0", "7z"),
        (b"Rar!\x1a\x07\x01\0\0\0\0\0", "rar"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "AppleDouble"),
        (&[0; 1024], "zeros"),
    ];
    for (bytes, called) in cases {
        let (_folder, path) = crate::place("m.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let told = crate::told(&forge::inspect(&path).unwrap_err());
        let words = told.to_lowercase().replace('-', "");
        assert!(words.contains(&called.to_lowercase().replace('-', "")), "{called}: {told}");
        assert!(!told.contains("header of"), "{told}");
    }
}
