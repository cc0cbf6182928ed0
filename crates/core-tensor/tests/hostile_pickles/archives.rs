use crate::{assembler::*, fault, refuse};

fn data() -> Entry {
    entry("m/data/0", vec![0; 24])
}

fn pkl() -> Entry {
    entry("m/data.pkl", pickle(dict(&[(text("w"), good())])))
}

#[test]
fn archives_that_contradict_themselves_are_refused() {
    let whole = zip(&[pkl(), data()]);
    let end = whole.len() - 22;
    let with_end = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[end + at..][..bytes.len()].copy_from_slice(bytes);
        file
    };
    let inner = 30 + "m/data.pkl".len() as u32 + 4;
    let nested = zip(&[entry("a", vec![1; 8])]);
    refuse(|| {
        vec![
            ("two letters", b"PK".to_vec(), fault!(Directory(_))),
            ("an archive without its end", whole[..end].to_vec(), fault!(Directory(_))),
            ("an archive without its beginning", whole[40..].to_vec(), fault!(NotTorch)),
            ("an end alone", whole[end..].to_vec(), fault!(Directory(_))),
            ("bytes behind the archive", [&*whole, b"MZ"].concat(), fault!(BytesBehind { .. })),
            ("a comment beyond the file", with_end(20, &[9, 0]), fault!(Directory(_))),
            ("a directory beyond the file", with_end(16, &[0xff; 4]), fault!(Directory(_))),
            ("a directory in the middle of an entry", with_end(16, &[9, 0, 0, 0]), fault!(Directory(_))),
            (
                "fewer entries than are counted",
                zip_counting(&[pkl(), data()], 1),
                fault!(EntryCount { expected: 3, found: 2 }),
            ),
            ("entries without a count", with_end(8, &[0; 4]), fault!(EntryCount { expected: 0, found: 2 })),
            ("a compressed pickle", zip(&[Entry { method: 8, ..pkl() }, data()]), fault!(Compressed { method: 8, .. })),
            (
                "a compressed storage",
                zip(&[pkl(), Entry { method: 8, sizes: [24, u32::MAX], ..data() }]),
                fault!(Compressed { .. }),
            ),
            (
                "a storage in Zstandard",
                zip(&[pkl(), Entry { method: 93, ..data() }]),
                fault!(Compressed { method: 93, .. }),
            ),
            ("an encrypted pickle", zip(&[Entry { flags: 1, ..pkl() }, data()]), fault!(Encrypted { .. })),
            (
                "a storage of two sizes",
                zip(&[pkl(), Entry { sizes: [24, 1 << 30], ..data() }]),
                fault!(EntrySize { stored: 24, .. }),
            ),
            ("a storage beyond the file", zip(&[pkl(), Entry { sizes: [1 << 30; 2], ..data() }]), fault!(Directory(_))),
            ("a storage into the directory", zip(&[pkl(), Entry { sizes: [40; 2], ..data() }]), fault!(Overlap { .. })),
            ("a pickle into a storage", zip(&[Entry { sizes: [320; 2], ..pkl() }, data()]), fault!(Overlap { .. })),
            (
                "an entry inside of another",
                zip(&[
                    entry("m/data.pkl", [b"\x80\x02}.", &*nested].concat()),
                    Entry { start: Some(inner), ..entry("a", vec![1; 8]) },
                ]),
                fault!(Overlap { .. }),
            ),
            (
                "an entry that begins beyond the file",
                zip(&[pkl(), Entry { start: Some(1 << 30), ..data() }]),
                fault!(Directory(_)),
            ),
            (
                "two entries at one place",
                zip(&[pkl(), Entry { start: Some(0), ..data() }]),
                fault!(EntryRenamed { .. }),
            ),
            (
                "an entry of two names",
                zip(&[pkl(), Entry { local: "m/data/1", ..data() }]),
                fault!(EntryRenamed { .. }),
            ),
            ("two entries of one name", zip(&[pkl(), data(), data()]), fault!(EntryTwice { .. })),
            ("two pickles of one name", zip(&[pkl(), pkl(), data()]), fault!(EntryTwice { .. })),
            (
                "an entry above the archive",
                zip(&[pkl(), data(), entry("m/../../.bashrc", vec![])]),
                fault!(EntryPath { .. }),
            ),
            ("an entry from the root", zip(&[pkl(), data(), entry("/etc/passwd", vec![])]), fault!(EntryPath { .. })),
            ("an entry on another drive", zip(&[pkl(), data(), entry("c:\\m", vec![])]), fault!(EntryPath { .. })),
            ("an entry without a name", zip(&[pkl(), data(), entry("", vec![])]), fault!(EntryPath { .. })),
            (
                "an entry with a zero in its name",
                zip(&[pkl(), data(), entry("m/a\0b", vec![])]),
                fault!(EntryPath { .. }),
            ),
            ("no pickle", zip(&[data()]), fault!(Pickles { found: 0 })),
            ("a pickle in no folder", zip(&[entry("data.pkl", pickle("}"))]), fault!(Pickles { found: 0 })),
            ("two pickles", zip(&[pkl(), entry("n/data.pkl", pickle("}")), data()]), fault!(Pickles { found: 2 })),
            ("a program", zip(&[pkl(), data(), entry("m/constants.pkl", pickle(")"))]), fault!(TorchScript)),
            ("the other byte order", zip(&[pkl(), data(), entry("m/byteorder", b"big".to_vec())]), fault!(BigEndian)),
            (
                "no byte order that exists",
                zip(&[pkl(), data(), entry("m/byteorder", b"little ".to_vec())]),
                fault!(BigEndian),
            ),
            ("a storage that is not there", zip(&[pkl()]), fault!(NoStorage { .. })),
            ("a storage of another folder", zip(&[pkl(), entry("n/data/0", vec![0; 24])]), fault!(NoStorage { .. })),
            (
                "a short storage",
                zip(&[pkl(), entry("m/data/0", vec![0; 23])]),
                fault!(StorageSize { expected: 24, found: 23, .. }),
            ),
            (
                "a long storage",
                zip(&[pkl(), entry("m/data/0", vec![0; 25])]),
                fault!(StorageSize { expected: 24, found: 25, .. }),
            ),
        ]
    });
}
