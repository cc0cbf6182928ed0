//! GGUF files that lie: each an error that says where and why, in little time and memory.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod writer;

use std::{
    fs,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use core_tensor::WeightSource;
use peak_alloc::PeakAlloc;
use quant::{Error, Gguf, GgufFault};

use self::writer::{
    F32, I32, LIST, TEXT, TRUTH, U8, U32, U64, entry, good, list, tensor, text, with, with_entry, with_tensor,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One at a time: the heap belongs to the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a file is, its bytes, and whether a fault is the one that it deserves.
type Case = (&'static str, Vec<u8>, fn(&GgufFault) -> bool);

/// Whether a fault is one of these.
macro_rules! fault {
    ($($fault:ident $({ $($fields:tt)* })?)|+) => {
        |fault: &GgufFault| matches!(fault, $(GgufFault::$fault $({ $($fields)* })?)|+)
    };
}

/// Opens every file, from a disk.
fn refuse(cases: Vec<Case>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = std::env::temp_dir().join(format!("quant-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("m.gguf");
    for (case, bytes, deserved) in cases {
        fs::write(&path, &bytes).unwrap();
        let length = bytes.len();
        drop(bytes);
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let (error, mut time) = opened(&path);
        let peak = HEAP.peak_usage() - before;
        let error = error.unwrap_or_else(|| panic!("{case}: is taken"));
        let Error::Gguf { fault, .. } = &error else { panic!("{case}: {error:?}") };
        assert!(deserved(fault), "{case}: {error:?}");
        let message = error.to_string();
        assert!(message.contains("m.gguf`") && message.len() < 1000, "{case}: {message}");
        let bound = 4 * length + (16 << 20);
        assert!(peak <= bound, "{case}: {peak} bytes, {bound} for a file of {length}");
        for _ in 0..2 {
            time = time.min(opened(&path).1);
        }
        assert!(time < Duration::from_millis(200), "{case}: {time:?}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// A file that is opened: its error, and the work.
fn opened(path: &Path) -> (Option<Error>, Duration) {
    let start = worked();
    let error = Gguf::open(path).err();
    (error, worked() - start)
}

/// How long this thread has had a processor; elsewhere than on Linux, the time.
fn worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn parse(bytes: Vec<u8>) -> Result<Gguf, Error> {
    Gguf::from_bytes(Path::new("m.gguf"), bytes)
}

#[test]
fn what_the_writer_makes_is_taken_where_it_does_not_lie() {
    for version in [2, 3] {
        let file = parse(with(|file| file.version = version)).unwrap();
        let form = file.manifest().get("a").unwrap();
        assert_eq!((form.shape, form.bytes, file.version()), (&[2, 32][..], 68, version));
        assert_eq!(file.read("a").unwrap().byte_len(), 68);
    }
    let wide = parse(with(|file| {
        file.metadata.push(entry("general.alignment", U32, &4096u32.to_le_bytes()));
        file.alignment = 4096;
    }));
    assert_eq!(wide.unwrap().alignment(), 4096);
    let nothing = parse(with(|file| (file.tensors, file.data) = (vec![], 0))).unwrap();
    assert!(nothing.manifest().is_empty());
}

#[test]
fn every_truncation_is_an_error() {
    let whole = good().bytes();
    for length in 0..whole.len() {
        let error = parse(whole[..length].to_vec()).err().unwrap_or_else(|| panic!("{length} bytes are taken"));
        let Error::Gguf { fault, .. } = &error else { panic!("{length}: {error:?}") };
        let is_cut: fn(&GgufFault) -> bool = fault!(Cut { .. } | Count { .. } | Outside { .. });
        assert!(is_cut(fault), "{length}: {error}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let huge = |at: usize, found: u64| with(move |file| file.counts[at] = Some(found));
    // What a tensor takes in the list at least, behind the magic number, the version and the count.
    let room = (good().bytes().len() as u64 - 16) / 25;
    let cut = |length: usize| good().bytes()[..length].to_vec();
    refuse(vec![
        ("nothing", vec![], fault!(Cut { what: "the magic number", needs: 4, left: 0 })),
        ("the predecessor", b"ggml\x03\0\0\0".to_vec(), fault!(Magic { found: [b'g', b'g', b'm', b'l'] })),
        ("big-endian numbers", b"GGUF\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), fault!(BigEndian)),
        ("version 0", with(|file| file.version = 0), fault!(Version { found: 0 })),
        ("version 1", with(|file| file.version = 1), fault!(Version { found: 1 })),
        ("version 4", with(|file| file.version = 4), fault!(Version { found: 4 })),
        ("2^64 - 1 tensors", huge(0, u64::MAX), fault!(Count { what: "tensors", found: u64::MAX, .. })),
        ("2^61 tensors, as in CVE-2024-21802", huge(0, 1 << 61), fault!(Count { what: "tensors", .. })),
        ("2^61 keys, as in CVE-2024-23605", huge(1, 1 << 61), fault!(Count { what: "entries of metadata", .. })),
        (
            "tensors whose list wraps once it is bytes, as in llama.cpp#15711",
            huge(0, u64::MAX / 25 + 2),
            fault!(Count { what: "tensors", .. }),
        ),
        ("one tensor more than there is room for", huge(0, room + 1), fault!(Count { what: "tensors", .. })),
        ("as many tensors as there is room for", huge(0, room), fault!(Cut { .. } | NoName { .. } | LongName { .. })),
        ("16 bytes, as in stable-diffusion.cpp#1395", cut(16), fault!(Count { what: "tensors", found: 1, most: 0 })),
        ("91 bytes, as in stable-diffusion.cpp#1396", cut(91), fault!(Cut { .. })),
        ("one tensor more", huge(0, 2), fault!(Cut { .. } | NoName { .. } | LongName { .. } | NotText { .. })),
        ("one key more", huge(1, 2), fault!(Cut { .. } | ValueType { .. })),
        (
            "more keys than any file has",
            with(|file| file.metadata = vec![entry("k", U8, &[0]); 70_000]),
            fault!(Many { what: "entries of metadata", found: 70_000, limit: 65_536 }),
        ),
    ]);
}

#[test]
fn metadata_that_lies_is_refused() {
    let alignment = |found: u32| with_entry("general.alignment", U32, &found.to_le_bytes());
    let nested = |depth: usize| {
        (0..depth)
            .fold([U8.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat(), |inner, _| list(LIST, 1, &inner))
    };
    let mut long = text(&[b'k'; 65_536]);
    long.extend([0, 0, 0, 0, 0]);
    refuse(vec![
        ("alignment 0, as in llama.cpp#24997", alignment(0), fault!(Alignment { found: 0, .. })),
        ("alignment 3", alignment(3), fault!(Alignment { found: 3, .. })),
        ("an alignment of 128 KiB", alignment(1 << 17), fault!(Alignment { found: 131_072, limit: 65_536 })),
        ("an alignment of 2 GiB", alignment(1 << 31), fault!(Alignment { .. })),
        ("an alignment that is a text", with_entry("general.alignment", TEXT, &text(b"32")), fault!(WrongType { .. })),
        (
            "an alignment that is a byte in a list and read as a wider number, as in llama.cpp#26690",
            with_entry("general.alignment", LIST, &list(U8, 1, &[32])),
            |fault| fault.to_string().ends_with("is a list, expected an unsigned integer of 32 bits"),
        ),
        ("an alignment of a byte", with_entry("general.alignment", U8, &[32]), |fault| {
            fault.to_string().contains("is an unsigned integer of 8 bits, expected")
        }),
        ("a type that does not exist", with_entry("k", 13, &[0; 8]), fault!(ValueType { found: 13, .. })),
        ("a type of 2^32 - 1", with_entry("k", u32::MAX, &[]), fault!(ValueType { .. })),
        ("a truth value of 2", with_entry("k", TRUTH, &[2]), fault!(Truth { found: 2, .. })),
        ("an empty key, as in ggml#1517", with_entry("", U8, &[0]), fault!(NoName { .. })),
        ("a key of 64 KiB", with(|file| file.metadata.push(long)), fault!(LongName { .. })),
        (
            "a key that is no text",
            with(|file| file.metadata.push([&text(b"\xff")[..], &[0; 5]].concat())),
            fault!(NotText { .. }),
        ),
        (
            "one of three files that are a model together",
            with(|file| file.metadata.extend([entry("split.count", 2, &[3, 0]), entry("split.no", 2, &[1, 0])])),
            fault!(Part { number: 2, of: 3 }),
        ),
        ("the same without its number", with_entry("split.count", 2, &[2, 0]), fault!(Part { number: 1, of: 2 })),
        ("a key twice", with_entry("general.architecture", U8, &[0]), fault!(KeyTwice { .. })),
        (
            "4 GiB of texts in few bytes, as in CVE-2025-66960 and candle#3533",
            with_entry("tokenizer.ggml.tokens", LIST, &list(TEXT, 1 << 29, &[0; 16])),
            fault!(Count { what: "values of a list", .. }),
        ),
        ("a text of 1 GiB in 50 bytes", with_entry("k", TEXT, &(1u64 << 30).to_le_bytes()), fault!(Cut { .. })),
        ("a text of 2^64 - 1 bytes", with_entry("k", TEXT, &u64::MAX.to_le_bytes()), fault!(Cut { .. })),
        ("a list of 2^64 - 1 bytes", with_entry("k", LIST, &list(U8, u64::MAX, &[])), fault!(Count { .. })),
        ("a list of 2^62 numbers", with_entry("k", LIST, &list(F32, 1 << 62, &[])), fault!(Count { .. })),
        ("a list of 2^32 texts", with_entry("k", LIST, &list(TEXT, 1 << 32, &[])), fault!(Count { .. })),
        ("a list of a type that does not exist", with_entry("k", LIST, &list(99, 1, &[0])), fault!(ValueType { .. })),
        ("lists in lists in lists", with_entry("k", LIST, &nested(1000)), fault!(Depth { limit: 4, .. })),
    ]);
    parse(with_entry("split.count", 2, &[1, 0])).unwrap();
    let file = parse(with_entry("k", LIST, &nested(3))).unwrap();
    assert!(matches!(file.value("k"), Some(quant::Value::List(list)) if list.len() == 1));
}

#[test]
fn tensors_that_lie_are_refused() {
    let second = |change: fn(&mut writer::Tensor)| {
        with(move |file| {
            let mut second = writer::Tensor { name: b"b".to_vec(), offset: 96, ..tensor() };
            change(&mut second);
            file.tensors.push(second);
            file.data = 164;
        })
    };
    assert!(parse(second(|_| {})).is_ok());
    let shape = |key: &str, dims: &[i32]| {
        let bytes: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        with_entry(key, LIST, &list(I32, dims.len() as u64, &bytes))
    };
    const KEY: &str = "comfy.gguf.orig_shape.a";
    refuse(vec![
        ("a tensor without a name", with_tensor(|t| t.name.clear()), fault!(NoName { .. })),
        ("a name of 2 KiB", with_tensor(|t| t.name = vec![b'n'; 2048]), fault!(LongName { limit: 1024, .. })),
        ("a name that is no text", with_tensor(|t| t.name = vec![0xc3]), fault!(NotText { .. })),
        ("9 dimensions", with_tensor(|t| t.dims = vec![1; 9]), fault!(Rank { found: 9, limit: 8, .. })),
        ("2^32 - 1 dimensions", with_tensor(|t| t.rank = Some(u32::MAX)), fault!(Rank { .. })),
        ("a dimension of 0, as in llama.cpp#24263", with_tensor(|t| t.dims = vec![32, 0]), fault!(Empty { .. })),
        (
            "dimensions whose product wraps to 0",
            with_tensor(|t| t.dims = vec![1 << 32, 1 << 32]),
            fault!(Overflow { .. }),
        ),
        ("2^32 - 1 squared", with_tensor(|t| t.dims = vec![u32::MAX.into(), 32]), fault!(Blocks { .. })),
        (
            "a size that wraps once it is bytes, as in llama.cpp#18674",
            with_tensor(|t| t.dims = vec![1 << 63, 1]),
            fault!(Overflow { .. } | Outside { .. }),
        ),
        (
            "a shape of 2^64 - 32",
            with_tensor(|t| t.dims = vec![u64::MAX - 31]),
            fault!(Overflow { .. } | Outside { .. }),
        ),
        (
            "rows of half a block",
            with_tensor(|t| t.dims = vec![16, 4]),
            fault!(Blocks { weights: 16, per_block: 32, .. }),
        ),
        ("a single number in blocks", with_tensor(|t| t.dims = vec![]), fault!(Blocks { weights: 1, .. })),
        ("a type that ggml no longer has", with_tensor(|t| t.number = 4), fault!(Type { found: 4, .. })),
        ("a repacked type", with_tensor(|t| t.number = 31), fault!(Type { found: 31, .. })),
        ("type 42", with_tensor(|t| t.number = 42), fault!(Type { found: 42, .. })),
        ("type 2^32 - 1", with_tensor(|t| t.number = u32::MAX), fault!(Type { .. })),
        (
            "a place between alignments",
            with_tensor(|t| t.offset = 8),
            fault!(Unaligned { offset: 8, alignment: 32, .. }),
        ),
        ("a place behind the file, as in CVE-2026-7482", with_tensor(|t| t.offset = 1 << 40), fault!(Outside { .. })),
        ("a place of 2^64 - 32", with_tensor(|t| t.offset = u64::MAX - 31), fault!(Outside { .. })),
        (
            "a tensor that ends a byte behind the file",
            with(|file| file.data = 67),
            fault!(Outside { needs: 68, available: 67, .. }),
        ),
        ("two tensors of one name", second(|t| t.name = b"a".to_vec()), fault!(TensorTwice { .. })),
        ("two tensors in one place", second(|t| t.offset = 0), fault!(Overlap { .. })),
        ("a tensor that begins in another", second(|t| t.offset = 64), fault!(Overlap { .. })),
        ("a shape of other size", shape(KEY, &[3, 21]), fault!(OriginalShape { weights: 64, .. })),
        ("a shape with 0", shape(KEY, &[64, 0]), fault!(OriginalShape { .. })),
        ("a negative shape", shape(KEY, &[-8, -8]), fault!(OriginalShape { .. })),
        ("a shape of too many dimensions", shape(KEY, &[1; 2000]), fault!(OriginalShape { .. })),
        ("a shape that is a text", with_entry(KEY, TEXT, &text(b"8,8")), fault!(WrongType { .. })),
        ("a shape of floats", with_entry(KEY, LIST, &list(F32, 1, &[0; 4])), |fault| {
            let says = "is a list, of which each is a float of 32 bits, expected a list of integers";
            fault.to_string().ends_with(says)
        }),
        (
            "a shape with a number that has no sign and needs 64 bits",
            with_entry(KEY, LIST, &list(U64, 2, &[[0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat())),
            |fault| fault.to_string().ends_with("its shape is [18446744073709551615, 1]"),
        ),
        ("a shape of texts", with_entry(KEY, LIST, &list(TEXT, 1, &text(b"8"))), fault!(WrongType { .. })),
    ]);
}

#[test]
fn a_shape_of_narrow_integers_is_read_as_wide_as_they_are() {
    let file = parse(with_entry("comfy.gguf.orig_shape.a", LIST, &list(U8, 2, &[4, 16]))).unwrap();
    assert_eq!(file.manifest().get("a").unwrap().shape, [4, 16]);
}

#[test]
fn a_type_that_is_not_read_is_named_with_its_tensor() {
    let message = |number| parse(with_tensor(|t| t.number = number)).unwrap_err().to_string();
    assert!(message(9).contains("tensor `a` has type 9 (Q8_1)"), "{}", message(9));
    assert!(message(77).contains("tensor `a` has type 77, which is not known"), "{}", message(77));
}

#[test]
fn a_hundred_thousand_tensors_are_opened_in_little_time_and_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = with(|file| {
        let named = |i: u64| writer::Tensor {
            name: format!("{i:06}").into_bytes(),
            dims: vec![1],
            number: 0,
            offset: 32 * i,
            ..tensor()
        };
        file.tensors = (0..100_000).map(named).collect();
        file.data = 32 * 100_000;
    });
    let (length, header) = (bytes.len(), bytes.len() - 32 * 100_000);
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let start = worked();
    let file = parse(bytes).unwrap();
    let time = worked() - start;
    assert_eq!(file.manifest().len(), 100_000);
    assert!(time < Duration::from_millis(600), "{time:?} where nothing is optimised");
    let peak = HEAP.peak_usage() - before;
    assert!(peak <= 4 * header + (16 << 20), "{peak} bytes beside a file of {length}");
}
