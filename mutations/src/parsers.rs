use std::{
    cell::RefCell,
    io::{Seek, Write},
    path::Path,
    sync::LazyLock,
};

use core_tensor::{Error, PickleFault, WeightSource, pickle::TorchFile, safetensors::Safetensors};
use diffusion_engine::Catalog;
use forge::Config;
use quant::{Decoded, Gguf, GgufFault, Value};

use crate::{Dice, Reached, damage, gguf, pickle, picture, request, safetensors};

/// A parser of what others wrote.
#[derive(Debug)]
pub struct Parser {
    /// What it is called, and the folder of its seed files.
    pub name: &'static str,
    /// Reads an input and looks at all that came of it; whatever the bytes, it returns.
    pub read: fn(&[u8]) -> Reached,
    /// What its inputs are made of.
    pub tokens: &'static [&'static str],
    pub(crate) damage: Damage,
}

/// Makes an input of dice, seed files and tokens.
type Damage = fn(&mut Dice, &[Vec<u8>], &[&str]) -> Vec<u8>;

/// Every parser that reads what others wrote. The reader of `*.index.json` belongs here, with the seeds of `fuzz/seeds/index_json`.
pub static PARSERS: &[Parser] = &[
    Parser { name: "safetensors", read: read_safetensors, tokens: SAFETENSORS, damage: safetensors::damaged },
    Parser { name: "pickle", read: read_pickle, tokens: PICKLE, damage: pickle::damaged },
    Parser { name: "gguf", read: read_gguf, tokens: GGUF, damage: gguf::damaged },
    Parser { name: "infotext", read: read_infotext, tokens: INFOTEXT, damage: damage::damaged },
    Parser { name: "request", read: |bytes| request::read(&REGISTRY, bytes), tokens: &[], damage: request::seed },
    Parser { name: "picture_text", read: read_picture, tokens: PICTURE, damage: picture::damaged },
    Parser { name: "flux_toml", read: read_config, tokens: CONFIG, damage: damage::damaged },
    Parser { name: "index_json", read: read_index, tokens: INDEX, damage: damage::damaged },
];

static REGISTRY: LazyLock<Catalog> = LazyLock::new(forge::catalog);

const SAFETENSORS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "\"\"",
    "\"a\":",
    "\"__metadata__\":{\"a\":\"b\"},",
    "\"dtype\":",
    "\"shape\":",
    "\"data_offsets\":",
    "[0,0]",
    "[1,1]",
    "\"F32\"",
    "\"F4\"",
    "\"F8_E4M3\"",
    "\"I64\"",
    "\\u0061",
    "\\ud800",
    "[[[[[[[[",
    "{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}",
];

fn read_safetensors(bytes: &[u8]) -> Reached {
    match Safetensors::from_bytes(Path::new("m.safetensors"), bytes.to_vec()) {
        Ok(file) => {
            read_all(&file, bytes.len());
            if !Decoded::<Safetensors>::is_needed(file.manifest()) {
                return Reached::Accepted;
            }
            Decoded::over(file).map_or(Reached::Meaning, |decoded| {
                read_all(&decoded, bytes.len());
                Reached::Accepted
            })
        }
        Err(Error::Extent { .. } | Error::Overflow { .. } | Error::Twice { .. } | Error::Rank { .. }) => {
            Reached::Meaning
        }
        Err(_) => Reached::Form,
    }
}

/// Reads each tensor of a file of so many bytes.
fn read_all(file: &dyn WeightSource, length: usize) {
    for (name, form) in file.manifest().iter() {
        let Ok(stored) = file.read(name) else { panic!("`{name}` was listed and is not there") };
        assert!(stored.byte_len() <= length && stored.shape() == form.shape, "`{name}` leaves its file");
        let _ = stored.to_f32();
    }
}

const PICKLE: &[&str] = &[
    "}",
    "]",
    ")",
    "(",
    "t",
    "u",
    "s",
    "a",
    "e",
    "R",
    "b",
    "Q",
    ".",
    "N",
    "0",
    "2",
    "q\0",
    "h\0",
    "h\x01",
    "r\0\0\x01\0",
    "K\0",
    "K\x07",
    "J\0\0\0\x7f",
    "X\x01\0\0\0a",
    "X\0\0\0\x7f",
    "U\x01a",
    "ccollections\nOrderedDict\n",
    "ctorch\nHalfStorage\n",
    "ctorch\nfloat16\n",
    "ctorch.storage\nUntypedStorage\n",
    "ctorch._utils\n_rebuild_tensor_v3\n",
    "ctorch.nn.modules.container\nParameterDict\n",
    "cos\nsystem\n",
    "state_dict",
    "_parameters",
    "../",
    "/data.pkl",
];

fn read_pickle(bytes: &[u8]) -> Reached {
    match TorchFile::from_bytes(Path::new("m.ckpt"), bytes.to_vec()) {
        Ok(file) => {
            read_all(&file, bytes.len());
            Reached::Accepted
        }
        Err(Error::Pickle { fault, .. }) => match fault {
            PickleFault::Global { .. } | PickleFault::Called { .. } | PickleFault::Outside { .. } => Reached::Meaning,
            PickleFault::Negative { .. } | PickleFault::Rank { .. } | PickleFault::Strides { .. } => Reached::Meaning,
            PickleFault::Format { .. } | PickleFault::NoFormat | PickleFault::NoTensors { .. } => Reached::Meaning,
            PickleFault::NoStorage { .. } | PickleFault::StorageSize { .. } => Reached::Meaning,
            PickleFault::StorageConflict { .. } | PickleFault::StorageTwice { .. } => Reached::Meaning,
            _ => Reached::Form,
        },
        Err(Error::Twice { .. }) => Reached::Meaning,
        Err(_) => Reached::Form,
    }
}

const GGUF: &[&str] = &[
    "GGUF",
    "\x03\0\0\0",
    "\0\0\0\0\0\0\0\0",
    "\x01\0\0\0\0\0\0\0",
    "\x11\0\0\0\0\0\0\0general.alignment\x04\0\0\0",
    "comfy.gguf.orig_shape.",
    "\x09\0\0\0\x05\0\0\0",
    "\x09\0\0\0\x09\0\0\0",
    "\x08\0\0\0",
    "\x0c\0\0\0",
    "\u{fffd}",
];

fn read_gguf(bytes: &[u8]) -> Reached {
    match Gguf::from_bytes(Path::new("m.gguf"), bytes.to_vec()) {
        Ok(file) => {
            let values = file.keys().filter_map(|key| file.value(key));
            for value in values {
                if let Value::List(list) = value {
                    assert!(list.values().count() as u64 <= list.len(), "a list has more values than it says");
                }
            }
            let _ = file.architecture();
            read_all(&file, bytes.len());
            Reached::Accepted
        }
        Err(quant::Error::Gguf { fault, .. }) => match *fault {
            GgufFault::Alignment { .. } | GgufFault::WrongType { .. } | GgufFault::KeyTwice { .. } => Reached::Meaning,
            GgufFault::Rank { .. } | GgufFault::Type { .. } | GgufFault::Empty { .. } => Reached::Meaning,
            GgufFault::Overflow { .. } | GgufFault::Blocks { .. } | GgufFault::Unaligned { .. } => Reached::Meaning,
            GgufFault::Outside { .. } | GgufFault::Overlap { .. } | GgufFault::TensorTwice { .. } => Reached::Meaning,
            GgufFault::OriginalShape { .. } => Reached::Meaning,
            _ => Reached::Form,
        },
        Err(_) => Reached::Form,
    }
}

const INFOTEXT: &[&str] = &[
    "\n",
    "\r\n",
    "\nNegative prompt: ",
    "\nSteps: ",
    ", ",
    ": ",
    "\"",
    "\\\"",
    "[",
    "]",
    "{",
    "}",
    "Steps: 20",
    "Sampler: ",
    "Euler a",
    "DPM++ 2M Karras",
    "Schedule type: Karras",
    "CFG scale: 7",
    "Distilled CFG Scale: 3.5",
    "Seed: -1",
    "Size: 512x768",
    "RNG: CPU",
    "Model: \"a, b: c\"",
    "Sigmas: [1, 0.5, 0]",
    "Version: v1.10.1",
    "Hires upscale: 2",
    "Lora hashes: \"a: b\"",
    "ä",
    "\u{1f600}",
    "(x:1.4)",
    "<lora:a:1>",
    "NaN",
    "inf",
    "{\"sui_image_params\":{\"prompt\":\"a\"}}",
];

fn read_infotext(bytes: &[u8]) -> Reached {
    let infotext = diffusion_engine::parse(&String::from_utf8_lossy(bytes), REGISTRY.knobs());
    match infotext.request(&REGISTRY) {
        Ok(request) => {
            let _ = diffusion_engine::render(&request, &infotext.provenance(), REGISTRY.knobs(), false);
            if infotext.pairs.is_empty() { Reached::Form } else { Reached::Accepted }
        }
        Err(_) => Reached::Meaning,
    }
}

const PICTURE: &[&str] = &[
    "parameters\0",
    "parameters",
    "prompt\0{}",
    "workflow\0",
    "Comment\0",
    "XML:com.adobe.xmp\0",
    "\0\0\0\0\0",
    "Steps: 1, ",
    "Exif\0\0",
    "II*\0\x08\0\0\0",
    "MM\0*\0\0\0\x08",
    "UNICODE\0",
    "ASCII\0\0\0",
    "JIS\0\0\0\0\0",
    "\u{fffd}",
    "ä",
    "a\0b\0",
    "\x01\0",
    "x\u{9c}",
    "RIFF",
    "WEBP",
    "EXIF",
    "VP8X",
    "\0\0\0\0",
    "\u{7f}\u{7f}\u{7f}\u{7f}",
];

/// A picture's text, through a file of this thread's own, as that is what the reader takes.
fn read_picture(bytes: &[u8]) -> Reached {
    thread_local! {
        static FILE: RefCell<tempfile::NamedTempFile> =
            RefCell::new(tempfile::NamedTempFile::new_in(in_memory()).expect("a temporary file can be made"));
    }
    FILE.with_borrow_mut(|file| {
        let write = |file: &mut std::fs::File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(bytes)
        };
        write(file.as_file_mut()).expect("the temporary file can be written");
        match diffusion_engine::read_infotext(file.path()) {
            Ok(_) => Reached::Accepted,
            Err(diffusion_engine::Error::NoInfotext { .. }) => Reached::Meaning,
            Err(_) => Reached::Form,
        }
    })
}

/// A folder for files that are written millions of times.
fn in_memory() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

const CONFIG: &[&str] = &[
    "[model]\n",
    "[device]\n",
    "[sampling]\n",
    "[sampling.options]\n",
    "[prompt]\n",
    "[image]\n",
    "[[",
    "]]",
    "=",
    "\n",
    "\"",
    "'''",
    "\"\"\"",
    "{",
    "}",
    "\\u0000",
    "\\ud800",
    "steps = 4\n",
    "seed = \"random\"\n",
    "seed = -1\n",
    "sampler = \"euler a\"\n",
    "schedule = \"karras\"\n",
    "sigmas = [1.0, 0.5]\n",
    "noise = \"nv\"\n",
    "memory = \"1 GiB\"\n",
    "width = 1024\n",
    "nan",
    "inf",
    "-inf",
    "0x",
    "1_0",
    "1979-05-27",
    "true",
    "eta = 1.0\n",
    "a.b.c = 1\n",
    "#",
    "output = \"{seed}.png\"\n",
    "folder = \"/\"\n",
];

const INDEX: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1e999",
    "\"\"",
    "\"weight_map\":",
    "\"metadata\":{\"total_size\":1}",
    "\"a\":\"b.safetensors\",",
    "\"..\"",
    "\"/\"",
    "\"a/b\"",
    "\"a\\u0000b\"",
    "\\ud800",
    "[[[[[[[[",
];

fn read_index(bytes: &[u8]) -> Reached {
    match forge::indexed_files(Path::new("m.safetensors.index.json"), bytes) {
        Ok(files) => {
            let names_a_place = |file: &String| file.is_empty() || file.contains(['/', '\\']) || file == "..";
            assert!(!files.iter().any(names_a_place), "{files:?} leave their folder");
            Reached::Accepted
        }
        Err(forge::Error::Index { .. }) => Reached::Meaning,
        Err(_) => Reached::Form,
    }
}

fn read_config(bytes: &[u8]) -> Reached {
    let Ok(config) = String::from_utf8_lossy(bytes).parse::<Config>() else { return Reached::Form };
    // Without a size in the config the machine is asked, which is not the parser's time.
    let _ = (config.device.memory.is_some().then(|| config.ceiling()), config.compute());
    match config.request_with(&REGISTRY, || 0) {
        Ok(request) if request.clone().checked().is_ok() => Reached::Accepted,
        Ok(_) | Err(_) => Reached::Meaning,
    }
}
