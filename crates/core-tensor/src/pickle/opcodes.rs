//! The opcodes of pickles (CPython's `pickletools`): those that are read, and the names of the others.

macro_rules! opcodes {
    ($($name:ident = $byte:literal),* $(,)?) => {
        $(pub(super) const $name: u8 = $byte;)*

        /// The name of an opcode, read or not.
        pub(super) fn name(byte: u8) -> Option<&'static str> {
            match byte {
                $($name => Some(stringify!($name)),)*
                _ => REFUSED.iter().find(|(refused, _)| *refused == byte).map(|(_, name)| *name),
            }
        }
    };
}

opcodes! {
    ADDITEMS = 0x90,
    APPEND = b'a',
    APPENDS = b'e',
    BINBYTES = b'B',
    BINBYTES8 = 0x8e,
    BINFLOAT = b'G',
    BINGET = b'h',
    BININT = b'J',
    BININT1 = b'K',
    BININT2 = b'M',
    BINPERSID = b'Q',
    BINPUT = b'q',
    BINSTRING = b'T',
    BINUNICODE = b'X',
    BINUNICODE8 = 0x8d,
    BUILD = b'b',
    EMPTY_DICT = b'}',
    EMPTY_LIST = b']',
    EMPTY_SET = 0x8f,
    EMPTY_TUPLE = b')',
    FRAME = 0x95,
    GLOBAL = b'c',
    LONG1 = 0x8a,
    LONG4 = 0x8b,
    LONG_BINGET = b'j',
    LONG_BINPUT = b'r',
    MARK = b'(',
    MEMOIZE = 0x94,
    NEWFALSE = 0x89,
    NEWOBJ = 0x81,
    NEWTRUE = 0x88,
    NONE = b'N',
    PROTO = 0x80,
    REDUCE = b'R',
    SETITEM = b's',
    SETITEMS = b'u',
    SHORT_BINBYTES = b'C',
    SHORT_BINSTRING = b'U',
    SHORT_BINUNICODE = 0x8c,
    STACK_GLOBAL = 0x93,
    STOP = b'.',
    TUPLE = b't',
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
}

/// What no writer of checkpoints uses, or what names code in another way.
const REFUSED: &[(u8, &str)] = &[
    (b'0', "POP"),
    (b'1', "POP_MARK"),
    (b'2', "DUP"),
    (b'F', "FLOAT"),
    (b'I', "INT"),
    (b'L', "LONG"),
    (b'P', "PERSID"),
    (b'S', "STRING"),
    (b'V', "UNICODE"),
    (b'd', "DICT"),
    (b'g', "GET"),
    (b'i', "INST"),
    (b'l', "LIST"),
    (b'o', "OBJ"),
    (b'p', "PUT"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (0x91, "FROZENSET"),
    (0x92, "NEWOBJ_EX"),
    (0x96, "BYTEARRAY8"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];
