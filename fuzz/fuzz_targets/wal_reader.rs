//! Any bytes as segments of a log. Property: reading ends, the bytes of records and damage of a segment add up
//! to no more than the file, in order and without overlap, and the log opens and takes a record after it.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stoa_wal::disk::SimDisk;
use stoa_wal::{DamageReason, Disk as _, Entry, Reader, Wal, WalOptions};

const FRAME_BYTES: u64 = 19;

fuzz_target!(|segments: Vec<Vec<u8>>| {
    let (disk, dir) = (Arc::new(SimDisk::new(0)), Path::new("/w"));
    disk.create_dir_all(dir).unwrap();
    for (number, bytes) in (1..).zip(segments.iter().take(3)) {
        let name = format!("{number:016x}.wal");
        disk.create(&dir.join(name)).unwrap().write_all(bytes).unwrap();
    }
    let (mut at, mut segment_at) = (0, 0);
    for entry in Reader::open(disk.clone(), dir, 0).unwrap() {
        let (segment, start, end) = match &entry {
            Entry::Record { position, payload, .. } => {
                let end = position.offset + FRAME_BYTES + payload.len() as u64;
                (position.segment, position.offset, end)
            }
            Entry::Damage { segment, offset, bytes, .. } => (*segment, *offset, offset + bytes),
        };
        if segment != segment_at {
            (segment_at, at) = (segment, 0);
        }
        assert!(start >= at, "{entry:?} overlaps what ends at {at}");
        let size = usize::try_from(segment - 1).ok().and_then(|at| segments.get(at)).unwrap().len();
        let known = matches!(
            entry,
            Entry::Damage { reason: DamageReason::Truncated | DamageReason::Missing, .. }
        );
        assert!(known || end <= size as u64, "{entry:?} is longer than {size}");
        at = end;
    }
    let mut wal = Wal::open(disk.clone(), dir, WalOptions::default()).unwrap();
    let position = wal.append(1, b"after").unwrap();
    wal.sync().unwrap();
    let last = Reader::open(disk, dir, 0).unwrap().last();
    assert_eq!(last, Some(Entry::Record { position, kind: 1, payload: b"after".to_vec() }));
});
