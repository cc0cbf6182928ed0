use crate::{assembler::*, fault, refuse};

#[test]
fn files_of_the_old_format_that_contradict_themselves_are_refused() {
    let good_file = || Legacy::good().file();
    let other = |change: fn(&mut Legacy)| {
        let mut legacy = Legacy::good();
        change(&mut legacy);
        legacy.file()
    };
    let cut = |bytes: usize| good_file()[..good_file().len() - bytes].to_vec();
    refuse(|| {
        vec![
            ("an empty file", vec![], fault!(NotTorch)),
            ("a bare pickle", pickle("}"), fault!(NotTorch)),
            ("a bare pickle that would run", pickle(call("os", "system", &[text("id")])), fault!(NotTorch)),
            ("the magic number alone", good_file()[..15].to_vec(), fault!(Truncated { .. })),
            ("another version", other(|file| file.version = int(1002)), fault!(Version)),
            ("a version that would run", other(|file| file.version = call("os", "system", &[])), fault!(Global { .. })),
            ("the other byte order", other(|file| file.little = b"\x89"), fault!(BigEndian)),
            ("a byte order that is a number", other(|file| file.little = b"K\x01"), fault!(BigEndian)),
            ("a value that would run", other(|file| file.value = call("os", "system", &[])), fault!(Global { .. })),
            ("keys that would run", other(|file| file.keys = call("os", "system", &[])), fault!(Global { .. })),
            ("keys that are no list", other(|file| file.keys = text("0")), fault!(Operand { .. })),
            ("keys that are no texts", other(|file| file.keys = b"](K\x01e".to_vec()), fault!(Operand { .. })),
            ("no keys", other(|file| file.keys = keys(&[])), fault!(BytesBehind { .. })),
            (
                "no keys and no storages",
                other(|file| (file.keys, file.storages) = (keys(&[]), vec![])),
                fault!(NoStorage { .. }),
            ),
            ("an unknown key", other(|file| file.keys = keys(&["1"])), fault!(NoStorage { .. })),
            (
                "a key twice",
                other(|file| (file.keys, file.storages) = (keys(&["0", "0"]), file.storages.repeat(2))),
                fault!(StorageTwice { .. }),
            ),
            ("a storage without its size", cut(25), fault!(Truncated { needed: 8, left: 7 })),
            ("a storage that is cut", cut(1), fault!(Truncated { needed: 24, left: 23 })),
            ("a byte behind the storages", [good_file(), vec![0]].concat(), fault!(BytesBehind { .. })),
            (
                "a storage of another size",
                other(|file| file.storages[0] = 7),
                fault!(StorageSize { expected: 24, found: 28, .. }),
            ),
            ("a storage of minus one", other(|file| file.storages[..8].fill(0xff)), fault!(StorageSize { .. })),
            (
                "a storage that ends beyond all files",
                other(|file| {
                    file.value = dict(&[(text("w"), tensor(storage("FloatStorage", "0", i64::MAX), 0, &[1], &[1]))]);
                    file.storages[..8].copy_from_slice(&i64::MAX.to_le_bytes());
                }),
                fault!(Truncated { .. }),
            ),
            (
                "a storage of two sizes",
                other(|file| {
                    let small = tensor(storage("FloatStorage", "0", 5), 0, &[1], &[1]);
                    file.value = dict(&[(text("v"), small), (text("w"), good())]);
                }),
                fault!(StorageConflict { .. }),
            ),
            (
                "a storage of two formats",
                other(|file| {
                    let ints = tensor(storage("IntStorage", "0", 6), 0, &[1], &[1]);
                    file.value = dict(&[(text("v"), ints), (text("w"), good())]);
                }),
                fault!(StorageConflict { .. }),
            ),
        ]
    });
}
