//! Any bytes as records of the store's log and of its checkpoint, in frames that hold. Property: the
//! database opens without them or with what they say, without panic; what it answers then it answers again
//! after another start.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stoa_tsdb::{Db, Options};
use stoa_wal::disk::SimDisk;
use stoa_wal::{Disk, Wal, WalOptions};

const KINDS: [u8; 11] = [1, 2, 3, 6, 16, 17, 18, 19, 20, 21, 22];

fn write(disk: &Arc<dyn Disk>, dir: &str, records: &[(u8, Vec<u8>)]) {
    let mut wal = Wal::open(Arc::clone(disk), Path::new(dir), WalOptions::default()).unwrap();
    for (kind, payload) in records {
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        drop(wal.append(kind, payload));
    }
    wal.sync().unwrap();
}

fuzz_target!(|input: (Vec<(u8, Vec<u8>)>, Vec<(u8, Vec<u8>)>)| {
    let (checkpoint, log) = input;
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    if !checkpoint.is_empty() {
        write(&disk, "/db/checkpoint-0000000000000001", &checkpoint);
    }
    write(&disk, "/db/wal", &log);
    let read = || {
        let opened = Db::open(Arc::clone(&disk), Path::new("/db"), Options::default(), 0);
        let (db, _) = opened.ok()?;
        let found = db.select(&[], i64::MIN, i64::MAX, 1000, 100_000).ok();
        let bits = |v: &f64| v.to_bits();
        found.map(|all| {
            let one = |one: &stoa_tsdb::SeriesData| {
                let values: Vec<u64> = one.values.iter().map(bits).collect();
                (one.labels.clone(), one.timestamps.to_vec(), values)
            };
            all.iter().map(one).collect::<Vec<_>>()
        })
    };
    let first = read();
    assert_eq!(read(), first);
});
