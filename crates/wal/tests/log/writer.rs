//! What the writing end promises, case by case.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use stoa_wal::disk::{Fault, RealDisk, SimDisk};
use stoa_wal::{DamageReason, Disk, Entry, Position, Reader, Wal, WalError, WalOptions};

const DIR: &str = "/w";

fn open(disk: &SimDisk) -> Wal {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), WalOptions::default()).unwrap()
}

fn payloads(disk: &SimDisk, from_segment: u64) -> Vec<String> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = Reader::open(disk, Path::new(DIR), from_segment).unwrap();
    reader
        .map(|entry| match entry {
            Entry::Record { payload, .. } => String::from_utf8(payload).unwrap(),
            Entry::Damage { segment, reason, .. } => format!("{segment} {reason:?}"),
        })
        .collect()
}

#[test]
fn every_open_starts_a_new_segment() {
    let disk = SimDisk::new(1);
    for segment in 1..=3 {
        let mut wal = open(&disk);
        let position = wal.append(0, segment.to_string().as_bytes()).unwrap();
        assert_eq!(position, Position { segment, offset: 32 });
        wal.sync().unwrap();
        assert_eq!(wal.segments(), (1..=segment).collect::<Vec<_>>());
    }
    assert_eq!(payloads(&disk, 0), ["1", "2", "3"]);
    assert_eq!(payloads(&disk, 2), ["2", "3"]);
}

#[test]
fn segments_end_at_their_bound_and_go_when_told() {
    let disk = SimDisk::new(1);
    let options = WalOptions { segment_bytes_max: 100, record_bytes_max: 200 };
    let mut wal = Wal::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    for n in 0..4 {
        wal.append(0, format!("{n:30}").as_bytes()).unwrap();
    }
    wal.append(0, &[b'x'; 200]).unwrap();
    assert_eq!(wal.segments(), [1, 2, 3, 4, 5], "one record fits in each, or is alone in it");
    wal.sync().unwrap();
    assert_eq!(wal.bytes(), disk.used_bytes());
    assert!(matches!(
        wal.append(0, &[0; 201]),
        Err(WalError::Record { bytes: 201, bytes_max: 200 })
    ));
    wal.remove_before(4).unwrap();
    assert_eq!(wal.segments(), [4, 5]);
    wal.remove_before(100).unwrap();
    assert_eq!(wal.segments(), [5], "never the current one");
    assert_eq!(wal.bytes(), disk.used_bytes());
    wal.append(0, b"on").unwrap();
}

#[test]
fn a_failure_stops_the_log_for_good_and_is_named_ever_after() {
    for (fault, op) in
        [(Fault::Eio, 0), (Fault::Enospc, 0), (Fault::ShortWrite, 0), (Fault::Eio, 1)]
    {
        let disk = SimDisk::new(1);
        let mut wal = open(&disk);
        wal.append(0, b"kept").unwrap();
        let synced = wal.sync().unwrap();
        wal.append(0, b"lost").unwrap();
        disk.fail_at(op, fault);
        let first = wal.sync().unwrap_err();
        assert!(!matches!(first, WalError::Poisoned { .. }), "{first}");
        for error in [
            wal.append(0, b"x").unwrap_err(),
            wal.flush().unwrap_err(),
            wal.sync().unwrap_err(),
            wal.cut().unwrap_err(),
            wal.remove_before(9).unwrap_err(),
        ] {
            assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
            assert_eq!(error.source().unwrap().to_string(), first.to_string());
        }
        assert_eq!(wal.synced(), synced);
        open(&disk).append(0, b"x").unwrap();
        let left = payloads(&disk, 0);
        assert_eq!(left, ["kept"], "{fault:?} at {op}: what was not durable is gone");
    }
}

#[test]
fn what_a_killed_process_flushed_is_durable_once_opened() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut wal = open(&disk);
        wal.append(0, b"flushed").unwrap();
        wal.flush().unwrap();
        drop(wal);
        drop(open(&disk));
        disk.crash();
        assert_eq!(payloads(&disk, 0), ["flushed"], "seed {seed}");
    }
}

#[test]
fn a_failed_removal_is_tried_again() {
    let disk = SimDisk::new(1);
    let mut wal = open(&disk);
    wal.cut().unwrap();
    wal.cut().unwrap();
    disk.fail_at(1, Fault::Eio);
    assert!(matches!(wal.remove_before(3), Err(WalError::Remove { .. })));
    assert_eq!(wal.segments(), [2, 3]);
    wal.remove_before(3).unwrap();
    assert_eq!(wal.segments(), [3]);
}

#[test]
fn missing_segments_are_told() {
    let disk = SimDisk::new(1);
    let mut wal = open(&disk);
    for segment in ["1", "2", "3"] {
        wal.append(0, segment.as_bytes()).unwrap();
        wal.cut().unwrap();
    }
    disk.remove_file(Path::new("/w/0000000000000002.wal")).unwrap();
    let missing = format!("2 {:?}", DamageReason::Missing);
    assert_eq!(payloads(&disk, 0), ["1", &missing, "3"]);
    assert_eq!(payloads(&disk, 2), [&missing, "3"]);
    assert_eq!(payloads(&disk, 3), ["3"]);
    assert_eq!(payloads(&disk, 9), [format!("9 {:?}", DamageReason::Missing)]);
}

#[test]
fn foreign_files_are_left_alone() {
    let disk = SimDisk::new(1);
    open(&disk).append(0, b"").unwrap();
    for name in ["ffffffffffffffff.wal", "notes.txt", "0000000000000001.wal.bak"] {
        disk.replace(&Path::new(DIR).join(name), b"not ours").unwrap();
    }
    assert_eq!(open(&disk).segments(), [1, 2]);
    assert!(payloads(&disk, 0).is_empty());
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 5);
}

#[test]
fn the_real_disk_does_the_same() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a/b");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut expected = Vec::new();
    for _ in 0..2 {
        let options = WalOptions { segment_bytes_max: 1 << 20, ..WalOptions::default() };
        let mut wal = Wal::open(Arc::clone(&disk), &dir, options).unwrap();
        for n in 0..20_u8 {
            let payload = vec![n; 100_000];
            let position = wal.append(n, &payload).unwrap();
            expected.push(Entry::Record { position, kind: n, payload });
        }
        wal.sync().unwrap();
    }
    let read: Vec<Entry> = Reader::open(Arc::clone(&disk), &dir, 0).unwrap().collect();
    assert!(read == expected);
    let last = expected.last().cloned().unwrap();
    let mut wal = Wal::open(Arc::clone(&disk), &dir, WalOptions::default()).unwrap();
    wal.remove_before(4).unwrap();
    let read: Vec<Entry> = Reader::open(disk, &dir, 0).unwrap().collect();
    assert!(read.len() < expected.len() && read.contains(&last));
}

#[test]
fn a_log_that_is_being_written_is_read_on_from_any_place_up_to_what_is_durable() {
    let disk = SimDisk::new(1);
    let options = WalOptions { segment_bytes_max: 120, record_bytes_max: 200 };
    let mut wal = Wal::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let mut from = wal.synced();
    let mut read = Vec::new();
    let mut positions = Vec::new();
    for n in 0..40 {
        wal.append(0, format!("{n:20}").as_bytes()).unwrap();
        wal.flush().unwrap();
        if n % 3 == 0 {
            wal.sync().unwrap();
        }
        if n % 7 == 0 {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let mut reader = Reader::between(disk, Path::new(DIR), from, wal.synced()).unwrap();
            for entry in reader.by_ref() {
                let Entry::Record { position, payload, .. } = entry else { panic!("{entry:?}") };
                positions.push(position);
                read.push(String::from_utf8(payload).unwrap().trim().parse::<u32>().unwrap());
            }
            assert_eq!(reader.reached(), wal.synced());
            from = reader.reached();
        }
    }
    assert_eq!(read, (0..34).collect::<Vec<_>>(), "33 was synced last before 35 was read");
    let end = wal.sync().unwrap();
    for (n, position) in positions.iter().enumerate() {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let reader = Reader::between(disk, Path::new(DIR), *position, end).unwrap();
        assert_eq!(reader.count(), 40 - n, "from {position}");
    }
    let back = Reader::between(Arc::new(disk.clone()), Path::new(DIR), end, from).unwrap();
    assert_eq!(back.count(), 0);
    wal.remove_before(end.segment).unwrap();
    let mut gone = Reader::between(Arc::new(disk), Path::new(DIR), from, end).unwrap();
    let missing = DamageReason::Missing;
    assert!(matches!(gone.next(), Some(Entry::Damage { reason, .. }) if reason == missing));
}
