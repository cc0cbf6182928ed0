use core_tensor::Error;

use crate::{assembler::*, fault, refuse};

#[test]
fn tensors_that_leave_their_storage_are_refused() {
    let at = |offset: i64, dims: &[i64], strides: &[i64]| holds(tensor(floats(), offset, dims, strides));
    let big = i64::MAX;
    refuse(|| {
        vec![
            ("one value more", at(0, &[7], &[1]), fault!(Outside { storage: 6, .. })),
            ("a later beginning", at(1, &[6], &[1]), fault!(Outside { offset: 1, .. })),
            ("a beginning at the end", at(6, &[], &[]), fault!(Outside { .. })),
            ("no values beyond the end", at(7, &[0], &[1]), fault!(Outside { .. })),
            ("a wide stride", at(0, &[2, 3], &[4, 1]), fault!(Outside { .. })),
            ("one value a million times", at(0, &[1 << 20], &[0]), fault!(Outside { .. })),
            ("values that repeat", at(0, &[4, 3], &[1, 1]), fault!(Outside { .. })),
            ("a size that overflows", at(0, &[big, big], &[1, 1]), fault!(Outside { .. })),
            ("a size that overflows before a zero", at(0, &[big, big, 0], &[1, 1, 1]), fault!(Outside { .. })),
            ("a stride that overflows", at(0, &[3], &[big]), fault!(Outside { .. })),
            ("strides whose sum overflows", at(big, &[2, 2], &[big, big]), fault!(Outside { .. })),
            ("a size that wraps to the right one", at(0, &[1 << 32, 1 << 32, 6], &[0, 0, 1]), fault!(Outside { .. })),
            ("a dimension below 0", at(0, &[-2, -3], &[3, 1]), fault!(Negative { what: "dimension", found: -2 })),
            ("a stride below 0", at(5, &[6], &[-1]), fault!(Negative { what: "stride", found: -1 })),
            ("a beginning below 0", at(-1, &[2], &[1]), fault!(Negative { what: "offset", found: -1 })),
            ("nine dimensions", at(0, &[1; 9], &[1; 9]), fault!(Rank { found: 9, limit: 8 })),
            ("a million dimensions", at(0, &[1; 20_000], &[1; 20_000]), fault!(Rank { .. })),
            ("fewer strides than dimensions", at(0, &[2, 3], &[1]), fault!(Strides { dims: 2, strides: 1 })),
        ]
    });
}

#[test]
fn storages_that_are_none_are_refused() {
    let id = |items: &[Vec<u8>]| does([tuple(items), b"Q".to_vec()].concat());
    let kind = || global("torch", "FloatStorage");
    let named = |tag: &str| [text(tag), kind(), text("0"), text("cpu"), int(6)];
    let whole = |kind: &str, key: &str, count: i64| holds(tensor(storage(kind, key, count), 0, &[1], &[1]));
    let bytes = || storage("FloatStorage", "0", 6);
    let view = [&named("storage")[..], &[tuple(&[text("1"), int(0), int(2)])]].concat();
    let untyped = tuple(&[text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), int(24)]);
    let untyped = || [&*untyped, b"Q"].concat();
    refuse(|| {
        vec![
            (
                "a name that is a text",
                does([text("0"), b"Q".to_vec()].concat()),
                fault!(Operand { opcode: "BINPERSID", .. }),
            ),
            ("a name of nothing", does(")Q"), fault!(Operand { .. })),
            ("a module", id(&named("module")), fault!(Operand { .. })),
            ("a name without a size", id(&named("storage")[..4]), fault!(Operand { .. })),
            (
                "a storage of a function",
                id(&[text("storage"), global("_codecs", "encode"), text("0"), text("cpu"), int(6)]),
                fault!(Operand { .. }),
            ),
            ("a part of another", id(&view), fault!(View { .. })),
            ("a size below 0", whole("FloatStorage", "0", -6), fault!(Negative { what: "storage's size", .. })),
            (
                "a size that overflows",
                whole("FloatStorage", "0", i64::MAX),
                fault!(StorageSize { expected: u64::MAX, found: 24, .. }),
            ),
            ("doubles in floats", whole("DoubleStorage", "0", 6), fault!(StorageSize { expected: 48, found: 24, .. })),
            ("a key out of the archive", whole("FloatStorage", "../../../etc/passwd", 6), fault!(NoStorage { .. })),
            ("a key of the pickle", whole("ByteStorage", "../data.pkl", 6), fault!(NoStorage { .. })),
            ("a key of a megabyte", whole("FloatStorage", &"0".repeat(1 << 20), 6), fault!(NoStorage { .. })),
            ("bytes of no format", holds(tensor(untyped(), 0, &[1], &[1])), fault!(NoFormat)),
            (
                "a format that is a function",
                holds(typed(untyped(), global("_codecs", "encode"))),
                fault!(Operand { .. }),
            ),
            ("a format that is nothing", holds(typed(untyped(), b"N".to_vec())), fault!(Operand { .. })),
            (
                "floats that are bytes",
                holds(typed(bytes(), global("torch", "uint8"))),
                fault!(Format { tensor: "U8", storage: "F32" }),
            ),
            (
                "a tensor of nothing",
                does(call("torch._utils", "_rebuild_tensor_v2", &[])),
                fault!(Operand { expected: "a storage", .. }),
            ),
            ("a tensor of a tensor", holds(tensor(good(), 0, &[1], &[1])), fault!(Operand { .. })),
            (
                "a shape of texts",
                holds(call(
                    "torch._utils",
                    "_rebuild_tensor",
                    &[floats(), int(0), tuple(&[text("2")]), tuple(&[int(1)])],
                )),
                fault!(Operand { .. }),
            ),
            (
                "a parameter of nothing",
                does(call("torch._utils", "_rebuild_parameter", &[b"N".to_vec()])),
                fault!(Operand { .. }),
            ),
        ]
    });
}

#[test]
fn dictionaries_that_give_no_names_are_refused() {
    let key = |name: &str| does(dict(&[(text(name), good())]));
    let inner = |depth: usize| (0..depth).fold(good(), |inner, _| dict(&[(text("a"), inner)]));
    let twice = dict(&[(text("a.b"), good()), (text("a"), dict(&[(text("b"), good())]))]);
    let again = dict(&[(text("a"), good()), (text("a"), good())]);
    refuse(|| {
        vec![
            ("a tensor alone", does(good()), fault!(NoTensors { found: "a tensor" })),
            ("a list", does("]"), fault!(NoTensors { found: "a list" })),
            ("a function", does(global("_codecs", "encode")), fault!(NoTensors { found: "a function" })),
            (
                "one name for two tensors",
                does(twice),
                |error| matches!(error, Error::Twice { name, .. } if name == "a.b"),
            ),
            ("one key twice", does(again), |error| matches!(error, Error::Twice { name, .. } if name == "a")),
            ("a long key", key(&"a".repeat(1025)), fault!(LongName { limit: 1024, .. })),
            (
                "a long name",
                does((0..9).fold(good(), |inner, _| dict(&[(text(&"a".repeat(127)), inner)]))),
                fault!(LongName { .. }),
            ),
            ("dictionaries too deep", does(inner(17)), fault!(Depth { limit: 16 })),
            (
                "a dictionary in itself",
                does([b"}q\0", &*text(&"a".repeat(30)), b"h\0s"].concat()),
                fault!(Depth { .. }),
            ),
        ]
    });
}
