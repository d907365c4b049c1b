//! The bytes on disk, as docs/formats/wal.md has them.

use std::path::Path;
use std::sync::Arc;

use stoa_wal::disk::SimDisk;
use stoa_wal::{Disk as _, Entry, Position, Reader, Wal, WalOptions};

const SEGMENT_1: &str = "
    53544f4157414c00 0100 0000 0100000000000000 0000000000000000 c2312de8
    d7a4 07 05000000 00000000 4cbb719a a6fc4eb3 68656c6c6f
    d7a4 08 00000000 18000000 00000000 18aa28cf
    d7a4 09 03000000 00000000 1ef230f1 0a507f26 010203
";
const SEGMENT_2: &str = "
    53544f4157414c00 0100 0100 0200000000000000 6100000000000000 968080aa
    d7a4 ff 01000000 00000000 935f3ca9 f612a6bd 78
";

#[test]
fn the_bytes_on_disk_are_pinned() {
    let disk = Arc::new(SimDisk::new(0));
    let mut wal =
        Wal::open(Arc::<SimDisk>::clone(&disk), Path::new("/w"), WalOptions::default()).unwrap();
    wal.append(7, b"hello").unwrap();
    wal.append(8, b"").unwrap();
    wal.sync().unwrap();
    wal.append(9, &[1, 2, 3]).unwrap();
    assert_eq!(wal.cut().unwrap(), 2);
    wal.append(255, b"x").unwrap();
    wal.sync().unwrap();
    let check = |name: &str, expected: &str| {
        let bytes = disk.read(&Path::new("/w").join(name)).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected.split_whitespace().collect::<String>(), "{name}");
    };
    check("0000000000000001.wal", SEGMENT_1);
    check("0000000000000002.wal", SEGMENT_2);
}

#[test]
fn pinned_bytes_are_read() {
    let disk = Arc::new(SimDisk::new(0));
    disk.create_dir_all(Path::new("/w")).unwrap();
    for (name, hex) in [("0000000000000001.wal", SEGMENT_1), ("0000000000000002.wal", SEGMENT_2)] {
        let hex: String = hex.split_whitespace().collect();
        let digits: Vec<u8> =
            hex.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        disk.create(&Path::new("/w").join(name)).unwrap().write_all(&bytes).unwrap();
    }
    let record = |segment, offset, kind, payload: &[u8]| Entry::Record {
        position: Position { segment, offset },
        kind,
        payload: payload.to_vec(),
    };
    let expected = [
        record(1, 32, 7, b"hello"),
        record(1, 56, 8, b""),
        record(1, 75, 9, &[1, 2, 3]),
        record(2, 32, 255, b"x"),
    ];
    let entries: Vec<Entry> = Reader::open(disk, Path::new("/w"), 0).unwrap().collect();
    assert_eq!(entries, expected);
}
