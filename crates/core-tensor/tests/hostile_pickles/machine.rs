use core_tensor::{Error, PickleFault};

use crate::{assembler::*, fault, refuse};

/// A name that is not allowed, by what the error says.
macro_rules! forbidden {
    ($module:literal, $name:literal) => {
        |error: &Error| {
            matches!(error, Error::Pickle { fault: PickleFault::Global { module, name }, .. } if module == $module && name == $name)
        }
    };
}

#[test]
fn nothing_is_run() {
    let run = |module: &str, name: &str| does(call(module, name, &[text("touch /tmp/owned")]));
    let stacked =
        [b"\x8c\x05posix".to_vec(), b"\x8c\x06system\x93".to_vec(), tuple(&[text("id")]), b"R".to_vec()].concat();
    let checkpoint = "pytorch_lightning.callbacks.model_checkpoint";
    refuse(|| {
        vec![
            ("os.system", run("os", "system"), forbidden!("os", "system")),
            ("posix.system", run("posix", "system"), forbidden!("posix", "system")),
            ("nt.system", run("nt", "system"), forbidden!("nt", "system")),
            ("eval", run("builtins", "eval"), forbidden!("builtins", "eval")),
            ("exec of Python 2", run("__builtin__", "exec"), forbidden!("__builtin__", "exec")),
            ("getattr", run("builtins", "getattr"), forbidden!("builtins", "getattr")),
            ("a process", run("subprocess", "Popen"), forbidden!("subprocess", "Popen")),
            (
                "a pickle in a pickle",
                run("torch.storage", "_load_from_bytes"),
                forbidden!("torch.storage", "_load_from_bytes"),
            ),
            ("torch.load", run("torch", "load"), forbidden!("torch", "load")),
            ("a function of functions", run("functools", "partial"), forbidden!("functools", "partial")),
            ("a fetch", run("urllib.request", "urlopen"), forbidden!("urllib.request", "urlopen")),
            (
                "a hook",
                run("torch.utils.hooks", "unserializable_hook"),
                forbidden!("torch.utils.hooks", "unserializable_hook"),
            ),
            (
                "a name below an allowed one",
                run("torch", "FloatStorage.__class__"),
                forbidden!("torch", "FloatStorage.__class__"),
            ),
            ("a name that goes on", run("collections", "OrderedDict2"), forbidden!("collections", "OrderedDict2")),
            ("a name that is only looked up", does(global("os", "environ")), forbidden!("os", "environ")),
            ("a name of two texts", does(stacked), forbidden!("posix", "system")),
            ("a name of a million letters", does(global("os", &"a".repeat(1 << 20))), fault!(Global { .. })),
            ("the class of a note, called", does(call(checkpoint, "ModelCheckpoint", &[])), fault!(Called { .. })),
            (
                "the class of a note, made",
                does([&*global(checkpoint, "ModelCheckpoint"), b")\x81"].concat()),
                fault!(Called { .. }),
            ),
            ("a storage that is called", does(call("torch", "FloatStorage", &[int(1 << 60)])), fault!(Called { .. })),
            ("a number that is called", does("K\x01)R"), fault!(Operand { .. })),
            (
                "a call with a list",
                does([&*global("collections", "OrderedDict"), b"]R"].concat()),
                fault!(Operand { .. }),
            ),
            ("a call by INST", does("(ios\nsystem\n"), fault!(Opcode { byte: b'i', name: Some("INST") })),
            (
                "a call by OBJ",
                does([b"(", &*global("collections", "OrderedDict"), b"o"].concat()),
                fault!(Opcode { byte: b'o', .. }),
            ),
            (
                "a call with keywords",
                does([&*global("collections", "OrderedDict"), b")}\x92"].concat()),
                fault!(Opcode { .. }),
            ),
            ("a registered name", does(b"\x82\x01"), fault!(Opcode { byte: 0x82, name: Some("EXT1") })),
            ("a persistent name as text", does("P0\n"), fault!(Opcode { name: Some("PERSID"), .. })),
            (
                "an opcode that does not exist",
                torch(vec![0x80, 2, 0xff, b'.']),
                fault!(Opcode { byte: 0xff, name: None }),
            ),
            ("a state for a tensor", does([good(), b"}b".to_vec()].concat()), fault!(Operand { .. })),
            (
                "a state for a class",
                does([&*global("collections", "OrderedDict"), b"}b"].concat()),
                fault!(Operand { .. }),
            ),
        ]
    });
}

#[test]
fn pickles_that_end_early_or_take_what_is_not_there_are_refused() {
    let long = |head: &[u8], length: &[u8]| does([head, length].concat());
    let mut untold = pickle("}");
    untold.pop();
    refuse(|| {
        vec![
            ("an empty pickle", torch(vec![]), fault!(Truncated { needed: 1, left: 0 })),
            ("a pickle without an end", torch(untold), fault!(Truncated { .. })),
            ("bytes behind the end", torch([pickle("}"), pickle("}")].concat()), fault!(BytesBehind { .. })),
            ("protocol 6", torch(b"\x80\x06}.".to_vec()), fault!(Protocol { found: 6 })),
            ("protocol 0", torch(b"(dp0\nS'a'\np1\n.".to_vec()), fault!(Opcode { byte: b'd', .. })),
            ("a text of 4 GiB", long(b"X", &[0xff; 4]), fault!(Truncated { needed: 0xffff_ffff, .. })),
            ("a text of 16 EiB", long(b"\x8d", &[0xff; 8]), fault!(Truncated { needed: u64::MAX, .. })),
            ("a short text that is cut", long(b"\x8c", &[9]), fault!(Truncated { .. })),
            ("bytes of 4 GiB", long(b"B", &[0xff; 4]), fault!(Truncated { .. })),
            ("bytes of 16 EiB", long(b"\x8e", &[0xff; 8]), fault!(Truncated { .. })),
            ("a string of minus one", long(b"T", &[0xff; 4]), fault!(Truncated { .. })),
            ("a number of 4 GiB", long(b"\x8b", &[0xff; 4]), fault!(Truncated { .. })),
            ("a number of 200 bytes", does([b"\x8a\xc8", &[1; 200][..]].concat()), fault!(LongNumber { bytes: 200 })),
            (
                "a number of a megabyte",
                does([b"\x8b\0\0\x10\0", &[1; 1 << 20][..]].concat()),
                fault!(LongNumber { .. }),
            ),
            ("a frame of 16 EiB", long(b"\x95", &[0xff; 8]), fault!(Truncated { .. })),
            ("a name without its end", torch(b"\x80\x02ccollections".to_vec()), fault!(Truncated { .. })),
            ("a text that is none", does(b"X\x02\0\0\0\xc3\x28"), fault!(Text)),
            ("a pop from nothing", torch(b"\x80\x02.".to_vec()), fault!(Stack { opcode: "STOP" })),
            ("a tuple of more than there is", does(b"K\x01\x87"), fault!(Stack { opcode: "TUPLE3" })),
            ("a tuple across a mark", does(b"K\x01(K\x02\x86"), fault!(Stack { .. })),
            ("items for nothing", does("(K\x01u"), fault!(Stack { .. })),
            ("a key without a value", does("}(K\x01u"), fault!(Stack { opcode: "SETITEMS" })),
            ("items without a mark", does("}u"), fault!(Mark { opcode: "SETITEMS" })),
            ("a tuple without a mark", does("t"), fault!(Mark { .. })),
            ("a call of nothing", does(")R"), fault!(Stack { opcode: "REDUCE" })),
            ("two values", does("}}"), fault!(Unfinished { found: 2 })),
            ("a value that was never remembered", does("h\x07"), fault!(Memo { index: 7 })),
            ("a value remembered far away", does(b"}r\xff\xff\xff\xff"), fault!(Memo { index: u32::MAX })),
            ("a value recalled from far away", does(b"j\xff\xff\xff\xff"), fault!(Memo { .. })),
            ("nothing to remember", does("q\0"), fault!(Stack { .. })),
            ("items of a list in a dictionary", does("}K\x01a"), fault!(Operand { expected: "a list", .. })),
            (
                "entries of a dictionary in a list",
                does("]K\x01K\x02s"),
                fault!(Operand { expected: "a dictionary", .. }),
            ),
            ("entries of a number", does("K\x01K\x01K\x02s"), fault!(Operand { .. })),
            (
                "a dictionary of no pairs",
                does(call("collections", "OrderedDict", &[b"](K\x01e".to_vec()])),
                fault!(Operand { .. }),
            ),
            ("a dictionary of a number", does(call("collections", "OrderedDict", &[int(1)])), fault!(Operand { .. })),
        ]
    });
}
