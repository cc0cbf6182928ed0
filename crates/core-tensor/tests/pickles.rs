//! Files as PyTorch writes them, against the same tensors as safetensors; and such files damaged.

use std::path::{Path, PathBuf};

use core_tensor::{Error, WeightSource, pickle::TorchFile, safetensors::Safetensors};
use proptest::prelude::*;

/// Each file, and what is in it; made by `fixtures/reference/pickles.py`.
const FILES: [&str; 10] = [
    "formats.pt",
    "formats.legacy.pt",
    "views.pt",
    "views.4.pt",
    "views.legacy.pt",
    "views.legacy.4.pt",
    "lightning.ckpt",
    "embedding.pt",
    "embedding.plain.pt",
    "inversion.bin",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/pickle").join(name)
}

#[test]
fn each_file_has_the_tensors_that_went_into_it() {
    for name in FILES {
        let file = TorchFile::open(&golden(name)).unwrap();
        let twin = Safetensors::open(&golden(name).with_extension("safetensors")).unwrap();
        let names = |source: &dyn WeightSource| source.manifest().names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&file), names(&twin), "{name}");
        for (tensor, form) in twin.manifest().iter() {
            assert_eq!(file.manifest().get(tensor), Some(form), "{name}: {tensor}");
            let [read, expected] = [file.read(tensor), twin.read(tensor)].map(|stored| stored.unwrap().to_bytes());
            assert_eq!(read, expected, "{name}: {tensor}");
        }
        assert!(matches!(file.read("nothing"), Err(Error::Missing { .. })), "{name}");
    }
}

#[test]
fn a_name_that_is_not_allowed_is_told_with_its_place() {
    let mut bytes = std::fs::read(golden("inversion.bin")).unwrap();
    let at = bytes.windows(17).position(|bytes| bytes == b"_rebuild_tensor_v").unwrap();
    bytes[at..at + 17].copy_from_slice(b"_rebuild_tensor_w");
    let error = TorchFile::from_bytes(Path::new("cat.bin"), bytes).err().unwrap().to_string();
    let place = at - "ctorch._utils\n".len();
    let expected = format!(
        "`cat.bin`, byte {place}: `torch._utils._rebuild_tensor_w2` is not allowed; a checkpoint is data, and nothing in it is run"
    );
    assert_eq!(error, expected);
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["views.legacy.pt", "views.legacy.4.pt", "inversion.bin", "embedding.pt"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for length in 0..whole.len() {
            assert!(
                TorchFile::from_bytes(Path::new(name), whole[..length].to_vec()).is_err(),
                "{name}: {length} bytes"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever it is that comes of it, each tensor is in the file, and as large as it says.
    #[test]
    fn a_damaged_file_is_an_error_or_has_all_its_tensors(
        name in prop::sample::select(&FILES[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = std::fs::read(golden(name)).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(file) = TorchFile::from_bytes(Path::new(name), bytes) {
            for (tensor, form) in file.manifest().iter() {
                let stored = file.read(tensor).unwrap();
                prop_assert_eq!(stored.byte_len() as u64, form.bytes);
                prop_assert_eq!(stored.shape(), form.shape);
            }
        }
    }
}
