//! Safetensors files that contradict themselves.

use forge::core_tensor::Error;

use crate::{End, Reader::Inspect, Row, alone, check, file, weights};

const TRUNCATED: End = weights!(Error::Truncated { .. });
const TOO_LONG: End = weights!(Error::HeaderTooLong { .. });
const HEADER: End = weights!(Error::Header { .. });
const EXTENT: End = weights!(Error::Extent { .. });
const OVERFLOW: End = weights!(Error::Overflow { .. });
const TWICE: End = weights!(Error::Twice { .. });
const RANK: End = weights!(Error::Rank { .. });
const FORMAT: End = weights!(Error::UnknownFormat { .. });
const LONG_NAME: End = weights!(Error::LongName { .. });

fn tensor(form: &str) -> String {
    format!(r#"{{"a":{{{form}}}}}"#)
}

fn u8s(shape: &str, offsets: &str) -> String {
    tensor(&format!(r#""dtype":"U8","shape":{shape},"data_offsets":{offsets}"#))
}

/// A header's length, and bytes behind it.
fn length(length: u64, behind: usize) -> Vec<u8> {
    [length.to_le_bytes().to_vec(), vec![b' '; behind]].concat()
}

/// A length that no header has is told as what the bytes are instead, where they are something else.
const NO_MODEL: crate::End = crate::End::Refused(|error| {
    matches!(
        crate::innermost(error),
        forge::Error::NotAModel { .. } | forge::Error::Weights(forge::core_tensor::Error::HeaderTooLong { .. })
    )
});

fn header_lengths() -> Vec<Row> {
    let row = |kind: &str, bytes, end| Row::new(Inspect, format!("the header's length: {kind}"), bytes, end);
    let left = 100;
    vec![
        row("of nothing", vec![1, 2, 3], crate::End::Refused(|_| true)),
        row("seven bytes of it", vec![1; 7], TRUNCATED),
        row("0", length(0, left), HEADER),
        row("1", length(1, left), HEADER),
        row("one more than there are", length(left as u64 + 1, left), TRUNCATED),
        row("all that there are", length(left as u64, left), HEADER),
        row("32 MiB", length(32 << 20, left), TRUNCATED),
        row("32 MiB and one", length((32 << 20) + 1, left), TOO_LONG),
        row("2^31", length(1 << 31, left), NO_MODEL),
        row("2^32 and 2", length((1 << 32) + 2, left), NO_MODEL),
        row("2^63 - 1", length(i64::MAX as u64, left), NO_MODEL),
        row("2^64 - 2", length(u64::MAX - 1, left), NO_MODEL),
        row("2^64 - 1", length(u64::MAX, left), NO_MODEL),
        row("big-endian", [&96u64.to_be_bytes()[..], &[b' '; 96]].concat(), NO_MODEL),
    ]
}

fn forms() -> Vec<Row> {
    let row =
        |kind: &str, header: &str, end| Row::new(Inspect, format!("a header that is {kind}"), file(header, 0), end);
    vec![
        row("no JSON", "hello, world", HEADER),
        row("a list", "[]", HEADER),
        row("a string", "\"a\"", HEADER),
        row("a number", "1", HEADER),
        row("null", "null", HEADER),
        row("cut", r#"{"a":{"dtype""#, HEADER),
        row("two objects", "{}{}", HEADER),
        row("an object and a NUL", "{}\0", HEADER),
        row("behind a byte order mark", "\u{feff}{}", HEADER),
        row("in single quotes", "{'a':1}", HEADER),
        row("with a comment", "{/* */}", HEADER),
        row("with a comma too many", r#"{"__metadata__":{},}"#, HEADER),
        row("deep lists", &"[".repeat(100_000), HEADER),
        row("deep objects", &r#"{"a":"#.repeat(100_000), HEADER),
        row("deep in an unknown key", &tensor(&format!(r#""x":{}"#, "[".repeat(100_000))), HEADER),
        row("deep in the metadata", &format!(r#"{{"__metadata__":{}"#, r#"{"a":"#.repeat(100_000)), HEADER),
        Row::new(Inspect, "a header that is not UTF-8", [&8u64.to_le_bytes()[..], &[0xff; 8]].concat(), HEADER),
        Row::new(Inspect, "a header in UTF-16", [&4u64.to_le_bytes()[..], b"{\0}\0"].concat(), HEADER),
    ]
}

fn fields() -> Vec<Row> {
    let row = |kind: &str, header: String, end| Row::new(Inspect, kind, file(&header, 1), end);
    let whole = r#""shape":[1],"data_offsets":[0,1]"#;
    let dtype = |dtype: &str| tensor(&format!(r#""dtype":{dtype},{whole}"#));
    let metadata = |notes: &str| format!(r#"{{"__metadata__":{notes},"a":{{"dtype":"U8",{whole}}}}}"#);
    let mut rows = vec![
        row("a tensor that is a list", r#"{"a":["U8",[1],[0,1]]}"#.into(), HEADER),
        row("a tensor that is null", r#"{"a":null}"#.into(), HEADER),
        row("a tensor of nothing", r#"{"a":{}}"#.into(), HEADER),
        row("no format", tensor(whole), HEADER),
        row("no shape", tensor(r#""dtype":"U8","data_offsets":[0,1]"#), HEADER),
        row("no range", tensor(r#""dtype":"U8","shape":[1]"#), HEADER),
        row("two formats", tensor(&format!(r#""dtype":"U8","dtype":"U8",{whole}"#)), HEADER),
        row("two shapes", tensor(&format!(r#""dtype":"U8","shape":[2],{whole}"#)), HEADER),
        row("two ranges", tensor(&format!(r#""dtype":"U8","data_offsets":[0,2],{whole}"#)), HEADER),
        row("a format that does not exist", dtype(r#""F31""#), FORMAT),
        row("a format of no letters", dtype(r#""""#), FORMAT),
        row("a format in lower case", dtype(r#""u8""#), FORMAT),
        row("a format with an escape sequence", dtype(r#""\u001b[2J""#), FORMAT),
        row("a format that is a number", dtype("3"), HEADER),
        row("a format that is an object", dtype(r#"{"U8":null}"#), HEADER),
        row("a megabyte of format", dtype(&format!("\"{}\"", "\x7f".repeat(1 << 20))), FORMAT),
        row("nine dimensions", u8s("[1,1,1,1,1,1,1,1,1]", "[0,1]"), RANK),
        row("a million dimensions", u8s(&format!("[{}1]", "1,".repeat(1_000_000)), "[0,1]"), RANK),
        row("a shape that is a number", u8s("1", "[0,1]"), HEADER),
        row("a shape in a shape", u8s("[[1]]", "[0,1]"), HEADER),
        row("a megabyte of shape", u8s(&format!("\"{}\"", "\x7f".repeat(1 << 20)), "[0,1]"), HEADER),
        row(
            "a dimension that is a megabyte of text",
            u8s(&format!("[\"{}\"]", "\x7f".repeat(1 << 20)), "[0,1]"),
            HEADER,
        ),
        row("a dimension of a million digits", u8s(&format!("[{}]", "1".repeat(1_000_000)), "[0,1]"), HEADER),
        row("a range of one", u8s("[1]", "[0]"), HEADER),
        row("a range of three", u8s("[1]", "[0,1,2]"), HEADER),
        row("a range of text", u8s("[1]", "\"0,1\""), HEADER),
        row("metadata of nothing", metadata("null"), End::Taken),
        row("metadata that is a list", metadata("[]"), HEADER),
        row("metadata that is a number", metadata("1"), HEADER),
        row("metadata of numbers", metadata(r#"{"a":1}"#), HEADER),
        row("metadata in metadata", metadata(r#"{"a":{}}"#), HEADER),
        row("a megabyte of metadata", metadata(&format!(r#"{{"a":"{}"}}"#, "\\n".repeat(1 << 19))), End::Taken),
        row("metadata twice", r#"{"__metadata__":{},"__metadata__":{}}"#.into(), TWICE),
        row("metadata that is a tensor", format!(r#"{{"__metadata__":{{"dtype":"U8",{whole}}}}}"#), HEADER),
        row("an unknown key", tensor(&format!(r#""x":[1,{{"y":1e9}}],"dtype":"U8",{whole}"#)), End::Taken),
        row("an unknown key of half a surrogate", tensor(&format!(r#""x":"\ud800","dtype":"U8",{whole}"#)), HEADER),
    ];
    // Every number in a header, at what a type can hold and beyond.
    for number in [
        "-1",
        "-0",
        "0.5",
        "1.0",
        "1e0",
        "1e999",
        "18446744073709551616",
        "true",
        "null",
        "{}",
        "0x1",
        "01",
        "1_0",
        "NaN",
    ] {
        rows.push(row(&format!("a dimension of {number}"), u8s(&format!("[{number}]"), "[0,1]"), HEADER));
        rows.push(row(&format!("a range from {number}"), u8s("[1]", &format!("[{number},1]")), HEADER));
        rows.push(row(&format!("a range to {number}"), u8s("[1]", &format!("[0,{number}]")), HEADER));
    }
    for number in [0, 2, 3, u64::MAX >> 1, u64::MAX - 1, u64::MAX] {
        let overflows = number > 1 << 61;
        let shape = if overflows { OVERFLOW } else { EXTENT };
        rows.push(row(&format!("a dimension of {number} for a byte"), u8s(&format!("[{number}]"), "[0,1]"), shape));
        rows.push(row(&format!("a range from {number} for a byte"), u8s("[1]", &format!("[{number},1]")), EXTENT));
        rows.push(row(&format!("a range to {number} for a byte"), u8s("[1]", &format!("[0,{number}]")), EXTENT));
    }
    // A range from 0 is right.
    rows.retain(|row| row.kind != "a range from 0 for a byte");
    rows
}

fn names() -> Vec<Row> {
    let row = |kind: &str, header: String, end| Row::new(Inspect, kind, file(&header, 1), end);
    let one = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let called = |name: &str| format!(r#"{{"{name}":{one}}}"#);
    vec![
        row("a name twice", format!(r#"{{"a":{one},"a":{one}}}"#), TWICE),
        row("a name twice, once escaped", format!(r#"{{"a":{one},"\u0061":{one}}}"#), TWICE),
        row("no name", called(""), End::Taken),
        row("a name of 1,024 bytes", called(&"a".repeat(1024)), End::Taken),
        row("a name of 1,025 bytes", called(&"a".repeat(1025)), LONG_NAME),
        row("a megabyte of name", called(&"\x7f".repeat(1 << 20)), LONG_NAME),
        row("a name of dots", called(&".".repeat(1000)), End::Taken),
        row("a name of escape sequences", called("\\u001b]0;x\\u0007\\u009b2J"), End::Either),
        row("a name that turns round", called("\u{202e}a"), End::Taken),
        row("a name of half a surrogate", called("\\ud800"), HEADER),
        row("a name with a NUL", called("a\\u0000b"), End::Taken),
        row("a name with a newline in it", called("a\nb"), HEADER),
    ]
}

fn extents() -> Vec<Row> {
    let row = |kind: &str, header: String, data, end| Row::new(Inspect, kind, file(&header, data), end);
    let two = |second: &str| {
        let form = |offsets: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
        format!(r#"{{"a":{},"b":{}}}"#, form("[0,4]"), form(second))
    };
    let float =
        |shape: &str, offsets: &str| tensor(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":{offsets}"#));
    let four_bits =
        |shape: &str, offsets: &str| tensor(&format!(r#""dtype":"F4","shape":{shape},"data_offsets":{offsets}"#));
    let mut holed = row("a tensor of 64 GiB in a hole", u8s("[68719476736]", "[0,68719476736]"), 0, End::Taken);
    holed.hole = 1 << 36;
    vec![
        row("an overlap", two("[2,6]"), 6, EXTENT),
        row("one range for two", two("[0,4]"), 4, EXTENT),
        row("a gap", two("[5,9]"), 9, EXTENT),
        row("a byte in front", two("[5,9]").replace("[0,4]", "[1,5]"), 9, EXTENT),
        row("a byte behind", two("[4,8]"), 9, EXTENT),
        row("a byte too few", two("[4,8]"), 7, EXTENT),
        row("no data", two("[4,8]"), 0, EXTENT),
        row("data without a tensor", "{}".into(), 1, EXTENT),
        row("a range backwards", two("[8,4]"), 8, EXTENT),
        row("half a byte", four_bits("[1]", "[0,1]"), 1, OVERFLOW),
        row("half a byte, and more than any", four_bits("[18446744073709551615]", "[0,1]"), 1, OVERFLOW),
        row("2^32 by 2^32", float("[4294967296,4294967296]", "[0,0]"), 0, OVERFLOW),
        row("2^62 numbers", float("[4611686018427387904]", "[0,0]"), 0, OVERFLOW),
        row("2^61 numbers, which is 2^64 bits and more", float("[2305843009213693952]", "[0,0]"), 0, OVERFLOW),
        row("nothing times more than any", float("[18446744073709551615,2,0]", "[0,0]"), 0, OVERFLOW),
        row(
            "nothing, and more than any",
            float("[0,18446744073709551615,18446744073709551615]", "[0,0]"),
            0,
            End::Either,
        ),
        holed,
    ]
}

fn many() -> Vec<Row> {
    let object = |count: usize, entry: &dyn Fn(usize) -> String| {
        format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    let empty = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let row = |kind: &str, header: String, end| Row::new(Inspect, kind, file(&header, 0), end);
    vec![
        row("ten thousand tensors", object(10_000, &|i| format!(r#""{i:x}":{empty}"#)), End::Taken),
        row("ten thousand of the longest names", object(1_000, &|i| format!(r#""{i:01024}":{empty}"#)), End::Taken),
        row("ten thousand times one name", object(10_000, &|_| format!(r#""a":{empty}"#)), TWICE),
        row("ten thousand unknown keys", tensor(&r#""x":0,"#.repeat(10_000)), HEADER),
        row("a megabyte of spaces", format!("{{{}}}", " ".repeat(1 << 20)), End::Taken),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    [header_lengths(), forms(), fields(), names(), extents(), many()].into_iter().flatten().collect()
}

#[test]
fn a_header_that_contradicts_itself_is_refused_with_its_own_error() {
    let _alone = alone();
    check(rows());
}
