use crate::{assembler::*, fault, refuse};

/// Bytes of an opcode, over and over.
const LONG: usize = 4 << 20;

#[test]
fn what_would_grow_is_refused_before_it_does() {
    let with = |before: &[u8], once: &[u8]| does([before, &once.repeat(LONG / once.len())].concat());
    let id = tuple(&[text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), int(6)]);
    let one = || tuple(&[int(1)]);
    let arguments = tuple(&[floats(), int(0), one(), one()]);
    let tensor = [global("torch._utils", "_rebuild_tensor"), b"q\0".to_vec(), arguments, b"q\x01".to_vec()].concat();
    let class = [&*global("collections", "OrderedDict"), b"q\0"].concat();
    refuse(|| {
        vec![
            ("nothing, four million times", with(b"", b"N"), fault!(Room { .. })),
            ("empty dictionaries", with(b"", b"}"), fault!(Room { .. })),
            ("empty lists", with(b"", b"]"), fault!(Room { .. })),
            ("marks", with(b"", b"("), fault!(Room { .. })),
            ("tuples of tuples", with(b")", b"\x85"), fault!(Room { .. })),
            ("one value, remembered over and over", with(b"}", b"\x94"), fault!(Room { .. })),
            ("one value, recalled over and over", with(b"}q\0", b"h\0"), fault!(Room { .. })),
            ("a list that is appended to itself", with(b"]q\0", b"h\0a"), fault!(Room { .. })),
            ("an entry, set over and over", with(b"}\x8c\x01aq\0Ns", b"h\0h\0s"), fault!(Room { .. })),
            ("a storage, named over and over", with(&[&*id, b"q\0Q"].concat(), b"h\0Q"), fault!(Room { .. })),
            ("a tensor, made over and over", with(&tensor, b"h\0h\x01R"), fault!(Room { .. })),
            ("dictionaries, made over and over", with(&class, b"h\0)R"), fault!(Room { .. })),
            ("names of one tensor", does(names(60_000)), fault!(Room { .. })),
            (
                "a text of four megabytes as key",
                does(dict(&[(text(&"a".repeat(LONG)), good())])),
                fault!(LongName { .. }),
            ),
            ("dictionaries that share what they hold", does(sharing(15)), fault!(Entries { .. })),
            ("a pickle beyond the limit", torch(vec![b'N'; (32 << 20) + 1]), fault!(TooLong { .. })),
        ]
    });
}

/// A dictionary of dictionaries, so many deep, of which each has the next nine times.
fn sharing(levels: u8) -> Vec<u8> {
    (0..levels).fold(dict(&[]), |inner, level| {
        let first = (text("0"), [&*inner, &[b'q', level]].concat());
        let others = (1..9).map(|i| (text(&i.to_string()), vec![b'h', level]));
        dict(&[first].into_iter().chain(others).collect::<Vec<_>>())
    })
}

/// So many names for one tensor, all of them long by what they share.
fn names(count: u32) -> Vec<u8> {
    let short = |i: u32| [b"\x8c\x03", &i.to_le_bytes().map(|byte| byte & 0x7f)[..3], b"h\0"].concat();
    let inner: Vec<u8> = [b"}(".to_vec(), (0..count).flat_map(short).collect(), b"u".to_vec()].concat();
    let held = (text("t"), [good(), b"q\0".to_vec()].concat());
    dict(&[held, (text(&"a".repeat(1000)), inner)])
}
