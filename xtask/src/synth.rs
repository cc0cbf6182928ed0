//! `cargo xtask synth`: checkpoints of random numbers in the exact shapes of published ones, for timing and for memory.
//!
//! Names, formats and shapes are those of a list of `fixtures/keys`. Numbers are scaled so that what goes through the network stays finite.

pub(crate) mod blocks;
pub(crate) mod keys;
mod numbers;
mod tensors;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use self::{
    blocks::{ALIGNMENT, Blocks, Listed, header},
    keys::{DType, Tensor},
    numbers::Numbers,
};
use crate::{Done, root};

/// Short names of the lists that make a model.
const MODELS: [(&str, &str); 10] = [
    ("sd15", "sd15.ldm"),
    ("sd15-inpaint", "sd15-inpaint.ldm"),
    ("sd21", "sd21.ldm"),
    ("sdxl", "sdxl-base.ldm"),
    ("sdxl-refiner", "sdxl-refiner.ldm"),
    ("flux-schnell", "flux1-schnell.bfl"),
    ("flux-dev", "flux1-dev.bfl"),
    ("flux-ae", "flux-ae.bfl"),
    ("clip-l", "clip-l.flux.hf"),
    ("t5xxl", "t5xxl-encoder.hf"),
];

/// Bytes that are made before they are written.
const CHUNK: usize = 1 << 20;

struct Arguments {
    list: PathBuf,
    to: PathBuf,
    dtype: Option<DType>,
    blocks: Option<Blocks>,
    seed: u64,
}

/// Runs `MODEL OUT [--dtype f16|bf16|f32] [--type q4_k|…] [--seed N]`; with `--type` the file is a GGUF.
pub(crate) fn run(arguments: &[&str]) -> Done {
    let Arguments { list, to, dtype, blocks, seed } = parse(arguments)?;
    let text = fs::read_to_string(&list).map_err(|error| format!("cannot read `{}`: {error}", list.display()))?;
    let tensors = keys::read(&text, dtype).map_err(|error| format!("{}: {error}", list.display()))?;
    let bytes =
        write(&tensors, blocks, seed, &to).map_err(|error| format!("cannot write `{}`: {error}", to.display()))?;
    println!("{}: {} tensors, {:.2} GB", to.display(), tensors.len(), bytes as f64 / 1e9);
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<Arguments, Box<dyn std::error::Error>> {
    let [model, to, flags @ ..] = arguments else {
        let known: Vec<&str> = MODELS.iter().map(|(model, _)| *model).collect();
        return Err(format!("`synth` takes a model ({}) and a file to write", known.join(", ")).into());
    };
    // Any list by its own name, too.
    let list = MODELS.iter().find(|(known, _)| known == model).map_or(*model, |(_, list)| *list);
    let list = root().join("fixtures/keys").join(format!("{list}.txt"));
    let (mut dtype, mut blocks, mut seed) = (None, None, 0);
    let (pairs, rest) = flags.as_chunks::<2>();
    for [flag, value] in pairs {
        match *flag {
            "--dtype" => {
                let known = DType::named(&value.to_uppercase());
                dtype = Some(known.ok_or_else(|| format!("`--dtype` is `f16`, `bf16` or `f32`, not `{value}`"))?);
            }
            "--type" => {
                let known = Blocks::named(value);
                blocks = Some(known.ok_or_else(|| format!("`--type` is one of {}, not `{value}`", Blocks::names()))?);
            }
            "--seed" => seed = value.parse().map_err(|_| format!("`--seed` takes a number, not `{value}`"))?,
            _ => return Err(unknown(flag)),
        }
    }
    match rest {
        [] => Ok(Arguments { list, to: PathBuf::from(to), dtype, blocks, seed }),
        [flag, ..] => Err(unknown(flag)),
    }
}

fn unknown(flag: &str) -> Box<dyn std::error::Error> {
    format!("`{flag}` is not a flag of `synth`, or lacks its value; it takes `--dtype f16|bf16|f32`, `--type q4_k|…` and `--seed N`")
        .into()
}

/// Writes a file that is there whole or not at all, and none over another. Its size in bytes.
fn write(
    tensors: &BTreeMap<String, Tensor>,
    blocks: Option<Blocks>,
    seed: u64,
    to: &Path,
) -> Result<u64, Box<dyn std::error::Error>> {
    if to.try_exists()? {
        return Err("there is such a file already".into());
    }
    let name = to.file_name().ok_or("it is no file's name")?;
    let part = to.with_file_name(format!("{}.part-{}", name.to_string_lossy(), std::process::id()));
    let streamed = match blocks {
        Some(blocks) => stream_gguf(tensors, blocks, seed, &part),
        None => stream(tensors, seed, &part),
    };
    let written = streamed.and_then(|bytes| {
        // Unlike renaming, a second name for it fails where another program has written the file meanwhile.
        fs::hard_link(&part, to)?;
        Ok(bytes)
    });
    // What is left of a failure goes too, where there is anything.
    let removed = fs::remove_file(&part);
    let bytes = written?;
    removed?;
    Ok(bytes)
}

/// The format of safetensors: the header's length, the header, and the tensors one after the other, the widest numbers first so that
/// each begins at a multiple of its own.
fn stream(tensors: &BTreeMap<String, Tensor>, seed: u64, to: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype.bytes()));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
    let mut end = 0;
    for (name, tensor) in &order {
        let start = end;
        end = tensor.bytes().and_then(|bytes| bytes.checked_add(start)).ok_or("it would be too large")?;
        let entry =
            serde_json::json!({ "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert((*name).clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(CHUNK, File::create_new(to)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut numbers = Numbers::of(seed);
    for (name, tensor) in order {
        tensors::write(name, tensor, &mut numbers, &mut file)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(8 + header.len() as u64 + end)
}

/// The format of GGUF: matrices whose rows are whole blocks are in blocks, all else in floats as the list says.
fn stream_gguf(
    tensors: &BTreeMap<String, Tensor>,
    blocks: Blocks,
    seed: u64,
    to: &Path,
) -> Result<u64, Box<dyn std::error::Error>> {
    let (number, per_block, size) = blocks.layout();
    let spread = |name: &str, tensor: &Tensor| {
        let is_whole = tensor.shape.last().is_some_and(|width| width.is_multiple_of(per_block));
        tensors::spread(name, &tensor.shape).filter(|_| is_whole)
    };
    let mut listed = Vec::new();
    for (name, tensor) in tensors {
        let count = tensor.len().ok_or("it would be too large")? as u64;
        let (number, bytes) = match (spread(name, tensor), tensor.dtype) {
            (Some(_), _) => (number, count / per_block as u64 * size as u64),
            (None, DType::F32) => (0, count * 4),
            (None, DType::F16) => (1, count * 2),
            (None, DType::Bf16) => (30, count * 2),
        };
        listed.push(Listed { name, shape: &tensor.shape, number, bytes });
    }
    let known = [("shared.weight", "t5encoder"), ("img_in.weight", "flux")];
    let architecture = known.iter().find(|(tensor, _)| tensors.contains_key(*tensor)).map(|(_, name)| *name);
    let header = header(architecture, &listed);
    let mut file = BufWriter::with_capacity(CHUNK, File::create_new(to)?);
    file.write_all(&header)?;
    let mut numbers = Numbers::of(seed);
    let mut end = header.len() as u64;
    for (listed, (name, tensor)) in listed.iter().zip(tensors) {
        match spread(name, tensor) {
            Some(spread) => blocks.write(tensor.len().unwrap_or(0), spread, &mut numbers, &mut file)?,
            None => tensors::write(name, tensor, &mut numbers, &mut file)?,
        }
        let padded = listed.bytes.next_multiple_of(ALIGNMENT);
        file.write_all(&vec![0; (padded - listed.bytes) as usize])?;
        end += padded;
    }
    file.into_inner()?.sync_all()?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "model.{0..1}.{proj,out}.weight F32 [8,64]\nmodel.norm.weight F32 [64]\nmodel.bias F16 [64]\n\
        embeddings.position_ids F32 [1,77]\nalphas_cumprod F32 [1000]\nlogit_scale F16 []\nconv.weight F16 [2,5,3,3]\n";

    /// A folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("forge-synth-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn made(dtype: Option<DType>, seed: u64, to: &Path) -> Vec<u8> {
        let tensors = keys::read(LIST, dtype).unwrap();
        let bytes = write(&tensors, None, seed, to).unwrap();
        let file = fs::read(to).unwrap();
        assert_eq!(file.len() as u64, bytes);
        file
    }

    #[test]
    fn a_file_has_every_tensor_of_its_list_one_after_the_other_and_each_at_a_multiple_of_its_numbers() {
        let folder = folder("list");
        let file = made(None, 0, &folder.join("a.safetensors"));
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
        let mut ends: Vec<[usize; 2]> = Vec::new();
        for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let [start, end]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
            let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
            let bytes = DType::named(entry["dtype"].as_str().unwrap()).unwrap().bytes();
            assert_eq!(end - start, shape.iter().product::<usize>() * bytes, "{name}");
            assert!((8 + length + start).is_multiple_of(bytes), "{name}");
            ends.push([start, end]);
        }
        ends.sort_unstable();
        assert_eq!(ends.len(), 10);
        assert!(ends[0][0] == 0 && ends.windows(2).all(|two| two[0][1] == two[1][0]));
        assert_eq!(8 + length + ends[9][1], file.len());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_seed_says_which_numbers_and_a_format_how_wide_they_are() {
        let folder = folder("seed");
        let [first, again, other] =
            [("first", 1), ("again", 1), ("other", 2)].map(|(name, seed)| made(None, seed, &folder.join(name)));
        assert!(first == again && first != other && first.len() == other.len());
        let [half, single] = [DType::F16, DType::F32].map(|dtype| made(Some(dtype), 1, &folder.join(dtype.name())));
        assert!(half.len() < first.len() && first.len() < single.len());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_there_is_left_alone_and_no_part_of_another_stays() {
        let folder = folder("there");
        let there = folder.join("there");
        fs::write(&there, "mine").unwrap();
        let tensors = keys::read(LIST, None).unwrap();
        assert!(write(&tensors, None, 0, &there).is_err());
        assert!(write(&tensors, None, 0, &folder.join("none/other")).is_err());
        assert_eq!(fs::read(&there).unwrap(), b"mine");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_of_blocks_is_read_with_its_matrices_in_blocks_and_the_rest_in_floats() {
        let folder = folder("blocks");
        let to = folder.join("a.gguf");
        let list =
            "m.{0..2}.weight BF16 [8,512]\nm.odd.weight BF16 [8,30]\nm.bias BF16 [64]\nshared.weight F16 [16,256]\n";
        let tensors = keys::read(list, None).unwrap();
        let bytes = write(&tensors, Some(Blocks::Q4K), 3, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().len(), bytes);
        let file = quant::Gguf::open(&to).unwrap();
        assert_eq!(file.architecture(), Some("t5encoder"));
        let form = |name: &str| {
            let form = core_tensor::WeightSource::manifest(&file).get(name).unwrap();
            (form.format.name(), form.shape.to_vec())
        };
        assert_eq!(form("m.1.weight"), ("Q4_K", vec![8, 512]));
        assert_eq!(form("m.odd.weight"), ("BF16", vec![8, 30]));
        assert_eq!(form("m.bias"), ("BF16", vec![64]));
        assert_eq!(form("shared.weight"), ("Q4_K", vec![16, 256]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_unknown_word_is_an_error_and_every_model_has_its_list() {
        for arguments in [
            &[][..],
            &["sd15"],
            &["sd15", "x", "--seed"],
            &["sd15", "x", "--dtype", "i8"],
            &["sd15", "x", "--sed", "1"],
            &["flux-schnell", "x", "--type", "q5_k"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        for (model, _) in MODELS {
            let list = parse(&[model, "out"]).unwrap().list;
            assert!(keys::read(&fs::read_to_string(list).unwrap(), Some(DType::Bf16)).is_ok(), "{model}");
        }
    }
}
