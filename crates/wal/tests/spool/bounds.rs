//! What goes when there is no more room, and that it is told.

use std::path::Path;
use std::sync::Arc;

use stoa_wal::disk::{Fault, SimDisk};
use stoa_wal::queue::{DropReason, Dropped, Stamp};
use stoa_wal::{Queue, QueueOptions};

const CRITICAL: u8 = 0;
const METRICS: u8 = 1;
const LOGS: u8 = 2;
const BYTES_MAX: u64 = 32_000;

fn open(disk: &SimDisk) -> Queue {
    let options = QueueOptions {
        bytes_max: BYTES_MAX,
        segment_bytes_max: 2000,
        record_bytes_max: 1000,
        records_max: 200,
        free_bytes_min: 1000,
        evict: vec![LOGS, METRICS],
    };
    Queue::open(Arc::new(disk.clone()), Path::new("/spool"), options).unwrap().0
}

fn push(queue: &mut Queue, stream: u8, seq: u64, bytes: usize) -> Vec<Dropped> {
    let t_ms = i64::try_from(seq).unwrap();
    let stamp = Stamp {
        epoch: [7; 16],
        seq_first: seq,
        seq_last: seq,
        samples: seq,
        t_first_ms: t_ms,
        t_last_ms: t_ms,
    };
    let dropped = queue.push(stream, stamp, &vec![0; bytes]).dropped;
    assert!(queue.totals().balance(), "{:?}", queue.totals());
    assert!(queue.bytes() <= BYTES_MAX, "{} bytes", queue.bytes());
    dropped
}

fn fill(queue: &mut Queue, stream: u8, seqs: std::ops::RangeInclusive<u64>) -> Vec<Dropped> {
    seqs.flat_map(|seq| push(queue, stream, seq, 500)).collect()
}

#[test]
fn acknowledged_records_go_first_then_logs_then_metrics_never_critical_ones() {
    let disk = SimDisk::new(1);
    let mut queue = open(&disk);
    assert!(fill(&mut queue, CRITICAL, 1..=6).is_empty());
    assert!(fill(&mut queue, METRICS, 1..=20).is_empty());
    assert!(fill(&mut queue, LOGS, 1..=20).is_empty());
    // Behind a backlog of six: the hole in the middle must not be missed by anybody.
    queue.ack_through(METRICS, [7; 16], 15);
    assert!(fill(&mut queue, METRICS, 21..=32).is_empty());
    assert!(queue.totals().kept.records < 15, "acknowledged ones went");
    let dropped = fill(&mut queue, METRICS, 33..=90);
    assert!(!dropped.is_empty());
    assert_eq!(dropped[0].stream, LOGS);
    assert_eq!((dropped[0].seq_first, dropped[0].reason), (1, DropReason::Full));
    let first_metrics = dropped.iter().position(|dropped| dropped.stream == METRICS).unwrap();
    assert!(dropped[first_metrics..].iter().all(|dropped| dropped.stream == METRICS));
    assert_eq!(queue.stream_totals(LOGS).in_spool.records, 0);
    let dropped = fill(&mut queue, CRITICAL, 7..=100);
    assert!(queue.stream_totals(METRICS).in_spool.records == 0);
    assert!(dropped.iter().any(|dropped| dropped.stream == CRITICAL));
    let newest = dropped.last().unwrap();
    assert_eq!((newest.stream, newest.seq_first), (CRITICAL, 100), "the new one is refused");
    assert_eq!(queue.bytes(), disk.used_bytes());
}

#[test]
fn of_the_acknowledged_the_oldest_go_first_whatever_their_stream() {
    let disk = SimDisk::new(1);
    let mut queue = open(&disk);
    assert!(fill(&mut queue, METRICS, 101..=120).is_empty());
    assert!(fill(&mut queue, LOGS, 1..=20).is_empty());
    queue.ack_through(METRICS, [7; 16], 120);
    queue.ack_through(LOGS, [7; 16], 20);
    assert!(fill(&mut queue, CRITICAL, 1..=20).is_empty());
    assert_eq!(queue.stream_totals(METRICS).kept.records, 20);
    assert!(queue.stream_totals(LOGS).kept.records < 20);
}

/// Live records go first and are acknowledged while a backlog waits before them.
#[test]
fn acknowledged_records_behind_a_backlog_leave_no_gap_that_a_restart_would_miss() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut queue = open(&disk);
        let push_epoch = |queue: &mut Queue, epoch: u8, seq: u64| {
            let stamp = Stamp {
                epoch: [epoch; 16],
                seq_first: seq,
                seq_last: seq,
                samples: 1,
                t_first_ms: 0,
                t_last_ms: 0,
            };
            let outcome = queue.push(CRITICAL, stamp, &[0; 500]);
            assert!(outcome.dropped.is_empty(), "{outcome:?}");
        };
        for seq in 1..=10 {
            push_epoch(&mut queue, 1, seq);
        }
        let mut kept = 0;
        let mut removals = 0;
        for seq in 1.. {
            push_epoch(&mut queue, 2, seq);
            let still_kept = queue.totals().kept.records;
            removals += u64::from(still_kept < kept);
            if removals > seed % 4 {
                break;
            }
            queue.ack_through(CRITICAL, [2; 16], seq);
            assert!(queue.sync().error.is_none());
            kept = queue.totals().kept.records;
        }
        drop(queue);
        disk.crash();
        for _ in 0..2 {
            let options = QueueOptions::default();
            let disk = Arc::new(disk.clone());
            let (queue, recovery) = Queue::open(disk, Path::new("/spool"), options).unwrap();
            assert!(recovery.dropped.is_empty(), "seed {seed}: {:?}", recovery.dropped);
            let waiting = recovery.streams[0].in_spool.records;
            assert!((10..=11).contains(&waiting), "seed {seed}: {waiting} wait");
            assert!(queue.totals().balance());
            assert!(queue.close().error.is_none());
        }
    }
}

#[test]
fn bounds_are_kept_one_by_one() {
    let check = |disk: &SimDisk, bytes: usize, expected: &[(u64, DropReason)]| {
        let mut queue = open(disk);
        let mut dropped = Vec::new();
        for seq in 1..=4 {
            dropped.extend(push(&mut queue, CRITICAL, seq, bytes));
        }
        let found: Vec<_> = dropped.iter().map(|one| (one.seq_first, one.reason)).collect();
        assert_eq!(found, expected);
    };
    check(&SimDisk::new(1), 1000, &[]);
    let too_long = [1, 2, 3, 4].map(|seq| (seq, DropReason::TooLong));
    check(&SimDisk::new(1), 1001, &too_long);
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(3500));
    check(&disk, 1000, &[(3, DropReason::NoSpace), (4, DropReason::NoSpace)]);
}

#[test]
fn records_are_bounded_whatever_their_size() {
    let disk = SimDisk::new(1);
    let mut queue = open(&disk);
    let mut dropped = 0;
    for seq in 1..=500 {
        dropped += push(&mut queue, METRICS, seq, 0).iter().map(|one| one.records).sum::<u64>();
        assert!(queue.totals().in_spool.records <= 200);
    }
    assert_eq!(dropped + queue.totals().in_spool.records, 500);
}

#[test]
fn a_full_disk_recovers_by_itself() {
    let disk = SimDisk::new(1);
    let mut queue = open(&disk);
    disk.set_capacity(Some(0));
    assert_eq!(push(&mut queue, METRICS, 1, 10).len(), 1);
    disk.set_capacity(None);
    assert!(push(&mut queue, METRICS, 2, 10).is_empty());
    assert!(queue.sync().error.is_none());
}

#[test]
fn one_failed_write_costs_nothing_and_a_failed_sync_what_was_not_synced() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
        let disk = SimDisk::new(1);
        let mut queue = open(&disk);
        assert!(push(&mut queue, METRICS, 1, 10).is_empty());
        disk.fail_at(0, fault);
        assert!(push(&mut queue, METRICS, 2, 10).is_empty(), "written into a new segment");
        assert!(queue.sync().error.is_none());
        assert!(push(&mut queue, METRICS, 3, 10).is_empty());
        disk.fail_at(0, fault);
        let outcome = queue.sync();
        assert!(outcome.error.is_some());
        let found: Vec<_> =
            outcome.dropped.iter().map(|one| (one.seq_first, one.seq_last, one.reason)).collect();
        assert_eq!(found, [(3, 3, DropReason::WriteFailed)]);
        assert!(push(&mut queue, METRICS, 4, 10).is_empty());
        assert!(queue.totals().balance());
        assert!(queue.close().error.is_none());
        let (queue, recovery) =
            Queue::open(Arc::new(disk.clone()), Path::new("/spool"), QueueOptions::default())
                .unwrap();
        assert!(recovery.clean() && recovery.dropped.is_empty(), "told once: {recovery:?}");
        assert_eq!(queue.totals().in_spool.records, 3);
    }
}
