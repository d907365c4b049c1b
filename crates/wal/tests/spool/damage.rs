//! Rot in the files of a spool: it opens, every record is delivered as it was pushed or told as lost
//! once, and damaged files are put aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_wal::disk::SimDisk;
use stoa_wal::queue::{Item, Recovery, Stamp};
use stoa_wal::{Disk as _, Queue, QueueOptions};

const DIR: &str = "/spool";
const STREAM: u8 = 1;
const RECORDS: u64 = 40;
const MUTATIONS: u64 = 4000;

fn open(disk: &SimDisk) -> (Queue, Recovery) {
    let options = QueueOptions { segment_bytes_max: 1000, ..QueueOptions::default() };
    Queue::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    vec![seq.to_le_bytes()[0]; usize::try_from(seq * 13 % 150).unwrap()]
}

fn push_all(disk: &SimDisk) {
    let (mut queue, _) = open(disk);
    for seq in 1..=RECORDS {
        let stamp = Stamp {
            epoch: [1; 16],
            seq_first: seq,
            seq_last: seq,
            samples: 5,
            t_first_ms: 0,
            t_last_ms: 1,
        };
        assert!(queue.push(STREAM, stamp, &payload(seq)).dropped.is_empty());
    }
    assert!(queue.close().error.is_none());
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("stream-01");
    disk.list(&dir).unwrap().iter().map(|name| dir.join(name)).collect()
}

/// Reads everything that waits; returns the sequence numbers and what was told on the way.
fn drain(queue: &mut Queue) -> (Vec<u64>, u64) {
    let (mut seqs, mut told, mut number) = (Vec::new(), 0, 0);
    while let Some(item) = queue.peek_from(STREAM, number).unwrap() {
        match item {
            Item::Record(record) => {
                assert_eq!(record.payload, payload(record.stamp.seq_first));
                number = record.number + 1;
                seqs.push(record.stamp.seq_first);
            }
            Item::Dropped(dropped) => told += dropped.records,
        }
    }
    assert!(seqs.is_sorted());
    assert!(queue.totals().balance());
    (seqs, told)
}

/// Seeded chance.
fn next(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap().checked_rem(below).unwrap_or(0)
}

#[test]
fn rot_is_told_once_and_never_fatal() {
    let disk = SimDisk::new(1);
    push_all(&disk);
    let (whole, paths) = (disk.snapshot(), segments(&disk));
    let mut lost_in_all = 0;
    for mutation in 0..MUTATIONS {
        disk.restore(&whole);
        let mut seed = mutation;
        let at = next(&mut seed, paths.len());
        let other = disk.read(&paths[next(&mut seed, paths.len())]).unwrap();
        let how = next(&mut seed, 6);
        disk.corrupt(&paths[at], |bytes| {
            let from = next(&mut seed, bytes.len());
            match how {
                0..=2 => bytes[from] ^= 1 << next(&mut seed, 8),
                3 => bytes.truncate(from),
                4 => bytes[from..].iter_mut().take(64).for_each(|byte| *byte = 0),
                _ => *bytes = other,
            }
        })
        .unwrap();
        let (mut queue, recovery) = open(&disk);
        let (seqs, told) = drain(&mut queue);
        assert_eq!(told, 0, "mutation {mutation}: found when opening");
        let lost = RECORDS - seqs.len() as u64;
        assert!(how > 2 || lost <= 1, "mutation {mutation}: one bit cost {lost} records");
        lost_in_all += lost;
        // Of what is missing at either end of the log only the damage itself can tell.
        let inner = match (seqs.first(), seqs.last()) {
            (Some(first), Some(last)) => 1 + last - first - seqs.len() as u64,
            _ => 0,
        };
        let known: u64 = recovery.dropped.iter().map(|dropped| dropped.records).sum();
        assert!(known >= inner && known <= lost, "mutation {mutation}: {known} of {lost}");
        let stream = &recovery.streams[0];
        assert!(
            lost == 0 || known > 0 || stream.rotten_bytes > 0 || !stream.clean,
            "mutation {mutation}: {lost} lost in silence"
        );
        let samples: u64 = recovery.dropped.iter().map(|dropped| dropped.samples).sum();
        assert_eq!(samples, known * 5);
        if mutation % 4 == 0 {
            assert!(queue.close().error.is_none());
            let (mut queue, recovery) = open(&disk);
            assert!(recovery.dropped.is_empty(), "mutation {mutation}: told twice");
            assert_eq!(drain(&mut queue).0, seqs);
            queue.ack_through(STREAM, [1; 16], RECORDS);
            let outcome = queue.forget_acked_before(i64::MAX);
            assert!(outcome.dropped.is_empty() && outcome.error.is_none(), "{outcome:?}");
        }
    }
    assert!(lost_in_all > MUTATIONS / 4, "the damage must hit something");
}

#[test]
fn rot_under_a_running_queue_is_told_by_reading() {
    let disk = SimDisk::new(1);
    push_all(&disk);
    let (mut queue, _) = open(&disk);
    disk.corrupt(&segments(&disk)[1], |bytes| bytes[300] ^= 1).unwrap();
    let (seqs, told) = drain(&mut queue);
    assert_eq!((seqs.len() as u64, told), (RECORDS - 1, 1));
    assert_eq!(queue.totals().dropped.records, 1);
    assert!(queue.close().error.is_none());
    let (mut queue, recovery) = open(&disk);
    assert!(recovery.dropped.is_empty(), "told twice: {recovery:?}");
    assert_eq!(drain(&mut queue).0, seqs);
}

#[test]
fn a_damaged_file_is_put_aside_when_its_records_are_delivered() {
    let disk = SimDisk::new(1);
    push_all(&disk);
    disk.corrupt(&segments(&disk)[0], |bytes| bytes[60] ^= 1).unwrap();
    let damaged = disk.read(&segments(&disk)[0]).unwrap();
    let (mut queue, recovery) = open(&disk);
    assert!(recovery.streams[0].rotten_bytes > 0);
    assert_eq!(queue.quarantined(), 0, "it still holds good records");
    queue.ack_through(STREAM, [1; 16], RECORDS);
    assert!(queue.forget_acked_before(i64::MAX).error.is_none());
    assert_eq!(queue.quarantined(), 1);
    let aside = Path::new(DIR).join("quarantine/01-0000000000000001.wal");
    assert_eq!(disk.read(&aside).unwrap(), damaged);
    assert_eq!(queue.bytes(), disk.used_bytes());
}
