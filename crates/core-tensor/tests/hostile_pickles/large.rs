//! A checkpoint beyond 4 GiB, whose archive counts in 64 bits.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::PoisonError,
    time::Duration,
};

use core_tensor::{WeightSource, pickle::TorchFile};

use crate::{ALONE, HEAP, assembler::*, worked};

/// Values of the large storage.
const COUNT: u64 = 1 << 31;

#[test]
fn data_beyond_4_gib_is_mapped_and_not_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.ckpt");
    write(&path);
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let start = worked();
    let file = TorchFile::open(&path).unwrap();
    assert!(HEAP.peak_usage() - before < 1 << 20, "{}", HEAP.peak_usage() - before);
    assert!(worked() - start < Duration::from_millis(100));
    assert_eq!(file.manifest().get("w").map(|form| form.bytes), Some(4 * COUNT));
    assert_eq!(file.read("last").unwrap().to_f32(), Some(vec![0.0]));
}

/// An archive of one large storage, which is a hole, and a pickle behind it.
fn write(path: &Path) {
    let storage = || storage("FloatStorage", "0", COUNT as i64);
    let last = tensor(storage(), COUNT as i64 - 1, &[1], &[1]);
    let all = tensor(storage(), 0, &[COUNT as i64], &[1]);
    let pickle = pickle(dict(&[(text("w"), all), (text("last"), last)]));
    let large = (4 * COUNT).to_le_bytes();
    // In both headers of an entry the sizes stand in an extra field where they need 64 bits (APPNOTE.TXT 4.5.3).
    let sizes = [&b"\x01\0\x10\0"[..], &large, &large].concat();
    let first = [&b"PK\x03\x04\x2d\0"[..], &[0; 12], &[0xff; 8], &[8, 0, 20, 0], b"m/data/0", &sizes].concat();
    let behind = first.len() as u64 + 4 * COUNT;
    let size = (pickle.len() as u32).to_le_bytes();
    let second = [&b"PK\x03\x04\x2d\0"[..], &[0; 12], &size, &size, &[10, 0, 0, 0], b"m/data.pkl", &pickle].concat();
    let at = [&b"\x01\0\x08\0"[..], &behind.to_le_bytes()].concat();
    let directory = [
        [&b"PK\x01\x02\x2d\0\x2d\0"[..], &[0; 12], &[0xff; 8], &[8, 0, 20, 0], &[0; 14], b"m/data/0", &sizes].concat(),
        [
            &b"PK\x01\x02\x2d\0\x2d\0"[..],
            &[0; 12],
            &size,
            &size,
            &[10, 0, 12, 0],
            &[0; 10],
            &[0xff; 4],
            b"m/data.pkl",
            &at,
        ]
        .concat(),
    ]
    .concat();
    let start = behind + second.len() as u64;
    let [two, length, end] = [2, directory.len() as u64, start + directory.len() as u64].map(u64::to_le_bytes);
    let (follow, start) = (44u64.to_le_bytes(), start.to_le_bytes());
    let record = [&b"PK\x06\x06"[..], &follow, b"\x2d\0\x2d\0", &[0; 8], &two, &two, &length, &start].concat();
    let locator = [&b"PK\x06\x07"[..], &[0; 4], &end, &[1, 0, 0, 0]].concat();
    let last = [&b"PK\x05\x06"[..], &[0; 4], &[0xff; 12], &[0; 2]].concat();
    let mut file = File::create(path).expect("files can be written here");
    file.write_all(&first).expect("files can be written here");
    file.seek(SeekFrom::Start(behind)).expect("files can be written here");
    file.write_all(&[&second, &directory, &record, &locator, &last].map(|part| part.as_slice()).concat())
        .expect("files can be written here");
}
