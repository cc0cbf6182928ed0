//! Tensors that are read by others beside them: bitsandbytes' states and scaled floats of eight bits.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;

use core_tensor::{Error as TensorError, Format, Manifest, Stored, WeightSource, safetensors::Safetensors};
use quant::{DecodeFault, Decoded, Error, Fp8};

/// Tensors by name.
#[derive(Clone, Debug, Default)]
struct Memory(BTreeMap<String, Stored>, Manifest);

impl Memory {
    fn with(mut self, name: &str, format: Format, shape: &[usize], bytes: &[u8]) -> Self {
        let stored = Stored::of_bytes(format, shape.to_vec(), bytes.to_vec()).unwrap();
        self.0.insert(name.to_owned(), stored);
        self.1 = self.0.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
        self
    }

    fn floats(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.with(name, Format::F32, shape, &bytes)
    }

    fn without(mut self, name: &str) -> Self {
        self.0.remove(name).unwrap();
        self.1 = self.0.iter().map(|(name, s)| (name, s.format(), s.shape().to_vec())).collect();
        self
    }
}

impl WeightSource for Memory {
    fn label(&self) -> &str {
        "memory"
    }

    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn read(&self, name: &str) -> Result<Stored, TensorError> {
        let missing = || TensorError::Missing { name: name.to_owned(), source_name: "memory".to_owned() };
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

/// A tensor of a golden file that is opened as bitsandbytes saved it.
fn golden(name: &str) -> Safetensors {
    Safetensors::open(&fixtures::path("golden").join(name)).unwrap()
}

/// One state of the golden file, in memory.
fn state(prefix: &str) -> Memory {
    let file = golden("bnb/states.safetensors");
    file.manifest().under(prefix).fold(Memory::default(), |memory, (rest, _)| {
        let name = format!("{prefix}{rest}");
        let stored = file.read(&name).unwrap();
        memory.with(&name, stored.format(), stored.shape(), &stored.to_bytes())
    })
}

fn fault(memory: Memory) -> DecodeFault {
    match Decoded::over(memory) {
        Err(Error::Decode { fault, .. }) => *fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_state_of_bitsandbytes_has_the_values_of_the_reference() {
    let (file, values) = (golden("bnb/states.safetensors"), golden("bnb/values.safetensors"));
    assert!(
        Decoded::<Safetensors>::is_needed(file.manifest()) && !Decoded::<Safetensors>::is_needed(values.manifest())
    );
    let decoded = Decoded::over(file).unwrap();
    // What belongs to a matrix is no tensor of its own.
    assert!(decoded.manifest().names().eq(values.manifest().names()));
    for (name, form) in values.manifest().iter() {
        let (found, expected) = (decoded.read(name).unwrap(), values.read(name).unwrap().to_f32().unwrap());
        assert_eq!(
            (found.shape(), decoded.manifest().get(name).map(|form| form.format)),
            (form.shape, Some(found.format()))
        );
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found.to_f32().unwrap()), bits(&expected), "{name}");
        // and so have parts of it
        let (rows, width) = (form.shape[0], form.shape[1]);
        for part in [0..1, rows / 2..rows, 1..rows - 1] {
            let found = found.rows(part.clone()).unwrap().to_f32().unwrap();
            assert_eq!(bits(&found), bits(&expected[part.start * width..part.end * width]), "{name} {part:?}");
        }
        let stack = Stored::stacked(&[found.rows(2..4).unwrap(), found.rows(0..3).unwrap()]).unwrap();
        let there = [&expected[2 * width..4 * width], &expected[..3 * width]].concat();
        assert_eq!(bits(&stack.rows(1..5).unwrap().to_f32().unwrap()), bits(&there[width..]), "{name}");
    }
}

#[test]
fn every_float_of_eight_bits_has_the_value_of_the_reference() {
    let file = golden("fp8/values.safetensors");
    let values = |name: &str| file.read(name).unwrap().to_f32().unwrap();
    let expected = ["float8_e4m3fn", "float8_e5m2"].map(|name| (name, values(&format!("{name}.values"))));
    let decoded = Decoded::over(golden("fp8/values.safetensors")).unwrap();
    for (name, expected) in expected {
        let found = decoded.read(name).unwrap().to_f32().unwrap();
        assert_eq!((found.len(), expected.len()), (256, 256));
        let is_same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(found.iter().zip(&expected).all(is_same), "{name}");
    }
}

/// 1, 2, 4 and so on in E4M3, a matrix `[rows, columns]`.
fn powers(rows: usize, columns: usize) -> Memory {
    let bytes: Vec<u8> = (0..rows * columns).map(|i| 0x38 + 8 * (i as u8 % 4)).collect();
    Memory::default().with("x.weight", Format::F8_E4M3, &[rows, columns], &bytes)
}

fn read(memory: Memory) -> Vec<f32> {
    Decoded::over(memory).unwrap().read("x.weight").unwrap().to_f32().unwrap()
}

#[test]
fn a_scale_counts_in_every_spelling_and_shape() {
    let scaled: Vec<f32> = [0.5, 1.0, 2.0, 4.0].repeat(2);
    for name in ["x.scale_weight", "x.weight_scale", "x.weight_scale_inv"] {
        for shape in [&[][..], &[1], &[1, 1]] {
            assert_eq!(read(powers(2, 4).floats(name, shape, &[0.5])), scaled, "{name} {shape:?}");
        }
        for shape in [&[2][..], &[2, 1], &[2, 1, 1, 1]] {
            let rows = read(powers(2, 4).floats(name, shape, &[0.5, 3.0]));
            assert_eq!(rows, [0.5, 1.0, 2.0, 4.0, 3.0, 6.0, 12.0, 24.0], "{name} {shape:?}");
        }
    }
    let squares = read(powers(130, 256).floats("x.weight_scale_inv", &[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let at = |row: usize, column: usize| squares[row * 256 + column];
    assert_eq!([at(0, 0), at(127, 127), at(0, 128), at(128, 127), at(129, 128)], [1.0, 8.0, 2.0, 24.0, 4.0]);
    let bf16 = powers(2, 4).with("x.weight_scale", Format::BF16, &[], &[0x00, 0x3f]);
    assert_eq!(read(bf16), scaled);
}

#[test]
fn what_belongs_to_a_matrix_is_no_tensor_of_its_own() {
    let memory = powers(2, 4).floats("x.weight_scale", &[], &[0.5]).floats("x.input_scale", &[], &[1.0]);
    let memory = memory.floats("x.bias", &[2], &[0.0; 2]).with("scaled_fp8", Format::F8_E4M3, &[2], &[0; 2]);
    let comfy = br#"{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}"#;
    let memory = memory.with("x.comfy_quant", Format::U8, &[comfy.len()], comfy);
    let decoded = Decoded::over(memory).unwrap();
    assert_eq!(decoded.manifest().names().collect::<Vec<_>>(), ["x.bias", "x.weight"]);
    let fp8 = Fp8 { is_scaled: true, is_marked: true, is_convolution: false };
    assert_eq!(decoded.fp8("x.weight"), Some(fp8));
    assert_eq!(decoded.read("x.weight").unwrap().to_f32().unwrap()[..4], [0.5, 1.0, 2.0, 4.0]);
    assert!(matches!(decoded.read("x.weight_scale"), Err(TensorError::Missing { .. })));
}

#[test]
fn a_marker_counts_under_its_prefix_and_one_that_stands_alone_for_all() {
    let marked = |marker: &str| {
        let memory = powers(2, 4).with(marker, Format::F8_E4M3, &[0], &[]);
        let memory = memory.with("t5.y.weight", Format::F8_E4M3, &[1, 1], &[0]);
        let decoded = Decoded::over(memory).unwrap();
        ["x.weight", "t5.y.weight"].map(|name| decoded.fp8(name).unwrap().is_marked)
    };
    assert_eq!(marked("scaled_fp8"), [true, true]);
    assert_eq!(marked("t5.scaled_fp8"), [false, true]);
    assert_eq!(marked("clip.scaled_fp8"), [true, true]);
    // and of several, some below others, each for what is under it
    let markers = ["a.scaled_fp8", "a.b.scaled_fp8", "c.d.scaled_fp8"];
    let names = ["a.x.weight", "a.b.weight", "ab.weight", "c.weight", "c.d.e.weight", "z.weight"];
    let memory = markers.iter().fold(Memory::default(), |memory, name| memory.with(name, Format::F8_E4M3, &[0], &[]));
    let memory = names.iter().fold(memory, |memory, name| memory.with(name, Format::F8_E4M3, &[1, 1], &[0]));
    let decoded = Decoded::over(memory).unwrap();
    let found = names.map(|name| decoded.fp8(name).unwrap().is_marked);
    assert_eq!(found, [true, true, false, false, true, false]);
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let shape = fault(powers(2, 4).floats("x.weight_scale", &[3], &[1.0; 3]));
    assert!(matches!(shape, DecodeFault::Companion { ref name, .. } if name == "x.weight_scale"), "{shape}");
    let comfy = br#"{"format": "float8_e5m2"}"#;
    let other = powers(2, 4).floats("x.weight_scale", &[], &[0.5]);
    let other = fault(other.with("x.comfy_quant", Format::U8, &[comfy.len()], comfy));
    assert_eq!(other.to_string(), "`x.comfy_quant` says that its format is `float8_e5m2`, and it is of F8_E4M3");
    let comfy = br#"{"format": "float8_e4m3fn"}"#;
    let missing = fault(powers(2, 4).with("x.comfy_quant", Format::U8, &[comfy.len()], comfy));
    assert!(matches!(missing, DecodeFault::Missing { ref name } if name == "x.weight_scale"), "{missing}");
    let json = fault(powers(2, 4).with("x.comfy_quant", Format::U8, &[1], b"{"));
    assert!(matches!(json, DecodeFault::Json { .. }), "{json}");
}

#[test]
fn what_lacks_a_part_or_has_an_odd_one_stays_as_it_is_and_is_told() {
    let mxfp8 = br#"{"format": "mxfp8"}"#;
    let nf4 = "nf4.plain.float16.64.96.weight";
    let states = ["nf4", "fp4"].map(|kind| format!("{nf4}.quant_state.bitsandbytes__{kind}"));
    let more = state("int8.").with("x.weight", Format::I8, &[2, 4], &[1; 8]);
    let cases = [
        (
            powers(2, 4).with("x.comfy_quant", Format::U8, &[mxfp8.len()], mxfp8),
            "x.weight",
            "`x.comfy_quant` says that its format is `mxfp8`, of eight-bit floats `float8_e4m3fn` and `float8_e5m2` are read",
        ),
        (
            powers(2, 4).with("x.weight_scale", Format::U8, &[2, 1], &[1; 2]),
            "x.weight",
            "`x.weight_scale` is [2, 1] of U8, expected floats",
        ),
        (
            powers(2, 4).with("x.scale_weight", Format::I32, &[], &[1; 4]),
            "x.weight",
            "`x.scale_weight` is [] of I32, expected floats",
        ),
        (
            powers(2, 4).floats("x.weight_scale", &[], &[0.5]).floats("x.scale_weight", &[], &[0.5]),
            "x.weight",
            "it has two scales, `x.scale_weight` and `x.weight_scale`, expected one",
        ),
        (
            state(nf4).without(&states[0]),
            nf4,
            &format!("`{nf4}.absmax` is there, and of `{}` and `{}` neither", states[0], states[1]),
        ),
        (more, "x.weight", "`x.SCB` is missing"),
    ];
    for (memory, name, says) in cases {
        assert!(Decoded::<Memory>::is_needed(memory.manifest()), "{says}");
        let decoded = Decoded::over(memory).unwrap();
        assert!(decoded.manifest().get(name).is_some_and(|form| !form.format.is_float()), "{says}");
        assert_eq!(decoded.fault(name).unwrap().to_string(), says);
        assert!(decoded.fault("int8.weight").is_none());
    }
    // and what is called like a part of a matrix and is none stays a tensor
    let beside = state(nf4).floats(&format!("{nf4}.more"), &[1], &[1.0]);
    assert!(Decoded::over(beside).unwrap().manifest().contains(&format!("{nf4}.more")));
}

#[test]
fn states_that_lie_are_refused() {
    const NAME: &str = "nf4.nested.bfloat16.64.96.weight";
    let whole = || state(NAME);
    assert!(Decoded::over(whole()).is_ok());
    let part = |part: &str| format!("{NAME}.{part}");
    let key = part("quant_state.bitsandbytes__nf4");
    let says = |json: &str| fault(whole().with(&key, Format::U8, &[json.len()], json.as_bytes()));
    let described = |change: (&str, &str)| {
        let json = String::from_utf8(whole().read(&key).unwrap().to_bytes()).unwrap();
        assert!(json.contains(change.0), "{json}");
        says(&json.replace(change.0, change.1))
    };
    // What the reader of JSON has against it is told once.
    assert!(
        says("{")
            .to_string()
            .ends_with("is not the JSON that it should be: EOF while parsing an object at line 1 column 1")
    );
    let error = Decoded::over(whole().with(&key, Format::U8, &[1], b"{")).unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "{error}");
    assert!(matches!(says("{}"), DecodeFault::Json { .. }));
    assert!(matches!(says(&" ".repeat(70_000)), DecodeFault::TooLong { .. }));
    assert!(matches!(described(("\"nf4\"", "\"fp4\"")), DecodeFault::Kind { expected: "nf4", .. }));
    assert!(matches!(described(("\"bfloat16\"", "\"int8\"")), DecodeFault::Dtype { .. }));
    for size in ["0", "63", "16", "8192", "18446744073709551615"] {
        assert!(matches!(
            described(("\"blocksize\": 64", &format!("\"blocksize\": {size}"))),
            DecodeFault::BlockSize { .. }
        ));
    }
    for shape in ["[8, 97]", "[8]", "[]", "[0, 96]", "[18446744073709551615, 2]"] {
        assert!(matches!(described(("[8, 96]", shape)), DecodeFault::Packed { .. }), "{shape}");
    }
    let nine = described(("[8, 96]", "[1, 1, 1, 1, 1, 1, 1, 8, 96]"));
    assert_eq!(nine.to_string(), "its state gives it 9 dimensions, at most 8 are read");
    for name in ["absmax", "nested_absmax", "nested_quant_map"] {
        let missing = fault(whole().without(&part(name)));
        assert!(matches!(&missing, DecodeFault::Missing { name: found } if *found == part(name)), "{missing}");
        let short = fault(whole().with(&part(name), Format::U8, &[3], &[0; 3]));
        assert!(matches!(&short, DecodeFault::Companion { name: found, .. } if *found == part(name)), "{short}");
    }
    let odd = described(("[8, 96]", "[13, 59]"));
    assert_eq!(odd.to_string(), "its shape [13, 59] has an odd number of weights, expected two for each byte");
    let json = String::from_utf8(whole().read(&key).unwrap().to_bytes()).unwrap();
    let other = part("quant_state.bitsandbytes__fp4");
    let both = fault(whole().with(&other, Format::U8, &[json.len()], json.as_bytes()));
    assert!(matches!(&both, DecodeFault::TwoStates { names } if *names == [key.clone(), other]), "{both}");
    let without = says(&json.replace("nested_offset", "nested_other"));
    assert!(matches!(&without, DecodeFault::NoOffset { name } if *name == key), "{without}");
    let table = fault(whole().floats(&part("quant_map"), &[16], &[0.5; 16]));
    assert!(matches!(table, DecodeFault::Table { kind: "nf4", .. }), "{table}");
    let missing = fault(whole().without(NAME));
    assert!(matches!(missing, DecodeFault::Missing { .. }), "{missing}");
}

#[test]
fn integers_for_one_kind_of_gpu_are_refused() {
    let whole = || state("int8.");
    assert!(Decoded::over(whole()).is_ok());
    let layout = fault(whole().with("int8.weight_format", Format::U8, &[], &[2]));
    assert!(matches!(layout, DecodeFault::Layout { found: 2 }), "{layout}");
    // and so is the same number of every other format
    for (format, bytes) in [(Format::I64, &[2, 0, 0, 0, 0, 0, 0, 0][..]), (Format::F32, &[0, 0, 0, 64])] {
        let layout = fault(whole().with("int8.weight_format", format, &[], bytes));
        assert!(matches!(layout, DecodeFault::Layout { .. }), "{layout}");
        let rows = whole().with("int8.weight_format", format, &[], &vec![0; bytes.len()]);
        assert!(Decoded::over(rows).is_ok());
    }
    let scales = fault(whole().floats("int8.SCB", &[3], &[1.0; 3]));
    assert!(matches!(scales, DecodeFault::Companion { .. }), "{scales}");
}
