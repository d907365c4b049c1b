//! Any payloads as well-formed entries of a stream's log, so that the notes themselves are reached.
//! Property: the spool opens, its books balance, everything can be read or is told, and what is pushed after is
//! there; the next opening tells of nothing twice.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stoa_wal::disk::SimDisk;
use stoa_wal::queue::{Item, Stamp};
use stoa_wal::{Queue, QueueOptions, Wal, WalOptions};

const STREAM: u8 = 1;

fuzz_target!(|entries: Vec<(u8, Vec<u8>)>| {
    let (disk, dir) = (Arc::new(SimDisk::new(0)), Path::new("/s"));
    let mut wal = Wal::open(disk.clone(), &dir.join("stream-01"), WalOptions::default()).unwrap();
    for (kind, payload) in &entries {
        wal.append(kind % 6, payload).unwrap();
    }
    wal.sync().unwrap();
    drop(wal);

    let (mut queue, _) = Queue::open(disk.clone(), dir, QueueOptions::default()).unwrap();
    assert!(queue.totals().balance(), "{:?}", queue.totals());
    let stamp = Stamp {
        epoch: [0xEE; 16],
        seq_first: 1,
        seq_last: 1,
        samples: 1,
        t_first_ms: 0,
        t_last_ms: 0,
    };
    let outcome = queue.push(STREAM, stamp, b"after");
    assert!(outcome.dropped.is_empty() && outcome.error.is_none());
    let (mut number, mut waiting) = (0, 0);
    while let Some(item) = queue.peek_from(STREAM, number).unwrap() {
        let Item::Record(record) = item else { continue };
        waiting += 1;
        number = record.number + 1;
    }
    assert_eq!(waiting, queue.totals().in_spool.records);
    assert!(queue.totals().balance());
    assert!(queue.close().error.is_none());
    let (queue, recovery) = Queue::open(disk, dir, QueueOptions::default()).unwrap();
    assert!(recovery.clean() && recovery.dropped.is_empty(), "{recovery:?}");
    assert!(queue.totals().balance());
});
