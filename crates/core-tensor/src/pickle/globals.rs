//! The functions and classes that a checkpoint may name. None is run: each stands for what it would make, as far as tensors go.

use crate::Format;

/// What a name of a Python module stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    /// A dictionary.
    Dict,
    /// A dictionary of parameters, whose entries come with its state.
    Parameters,
    /// A tensor of a storage's values; `typed` where a number format is among the arguments.
    Tensor {
        /// Whether it says its number format itself.
        typed: bool,
    },
    /// A tensor as it is.
    Parameter,
    /// A storage of a number format, or of bytes.
    Storage(Option<Format>),
    /// A number format.
    Dtype(Format),
    /// Something that holds no tensor of a model, whatever it is made of.
    Inert,
    /// A class that is the key of a note, and never called.
    Key,
}

/// A name that is allowed.
pub(super) struct Global {
    pub module: &'static str,
    pub name: &'static str,
    pub meaning: Meaning,
}

const fn global(module: &'static str, name: &'static str, meaning: Meaning) -> Global {
    Global { module, name, meaning }
}

const fn storage(name: &'static str, format: Format) -> Global {
    global("torch", name, Meaning::Storage(Some(format)))
}

const fn dtype(name: &'static str, format: Format) -> Global {
    global("torch", name, Meaning::Dtype(format))
}

/// All that are allowed. What PyTorch itself writes for tensors and their dictionaries, the numpy scalars among a Lightning checkpoint's
/// notes, and the class that is the key of one, as the files of Stable Diffusion 1.x have it.
pub(super) static GLOBALS: &[Global] = &[
    global("collections", "OrderedDict", Meaning::Dict),
    global("torch._utils", "_rebuild_tensor", Meaning::Tensor { typed: false }),
    global("torch._utils", "_rebuild_tensor_v2", Meaning::Tensor { typed: false }),
    global("torch._utils", "_rebuild_tensor_v3", Meaning::Tensor { typed: true }),
    global("torch._utils", "_rebuild_parameter", Meaning::Parameter),
    global("torch.nn.modules.container", "ParameterDict", Meaning::Parameters),
    global("torch.storage", "TypedStorage", Meaning::Storage(None)),
    global("torch.storage", "UntypedStorage", Meaning::Storage(None)),
    storage("BFloat16Storage", Format::BF16),
    storage("BoolStorage", Format::BOOL),
    storage("ByteStorage", Format::U8),
    storage("CharStorage", Format::I8),
    storage("ComplexFloatStorage", Format::C64),
    storage("DoubleStorage", Format::F64),
    storage("FloatStorage", Format::F32),
    storage("HalfStorage", Format::F16),
    storage("IntStorage", Format::I32),
    storage("LongStorage", Format::I64),
    storage("ShortStorage", Format::I16),
    dtype("bfloat16", Format::BF16),
    dtype("bool", Format::BOOL),
    dtype("complex64", Format::C64),
    dtype("float16", Format::F16),
    dtype("float32", Format::F32),
    dtype("float64", Format::F64),
    dtype("float8_e4m3fn", Format::F8_E4M3),
    dtype("float8_e4m3fnuz", Format::F8_E4M3FNUZ),
    dtype("float8_e5m2", Format::F8_E5M2),
    dtype("float8_e5m2fnuz", Format::F8_E5M2FNUZ),
    dtype("float8_e8m0fnu", Format::F8_E8M0),
    dtype("int16", Format::I16),
    dtype("int32", Format::I32),
    dtype("int64", Format::I64),
    dtype("int8", Format::I8),
    dtype("uint16", Format::U16),
    dtype("uint32", Format::U32),
    dtype("uint64", Format::U64),
    dtype("uint8", Format::U8),
    global("torch", "Size", Meaning::Inert),
    global("torch", "device", Meaning::Inert),
    global("__builtin__", "set", Meaning::Inert),
    global("builtins", "set", Meaning::Inert),
    global("_codecs", "encode", Meaning::Inert),
    global("numpy", "dtype", Meaning::Inert),
    global("numpy", "ndarray", Meaning::Inert),
    global("numpy.core.multiarray", "_reconstruct", Meaning::Inert),
    global("numpy.core.multiarray", "scalar", Meaning::Inert),
    global("numpy._core.multiarray", "_reconstruct", Meaning::Inert),
    global("numpy._core.multiarray", "scalar", Meaning::Inert),
    global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", Meaning::Key),
];

/// The number of an allowed name.
pub(super) fn find(module: &[u8], name: &[u8]) -> Option<u8> {
    let at = GLOBALS.iter().position(|g| g.module.as_bytes() == module && g.name.as_bytes() == name)?;
    u8::try_from(at).ok()
}
