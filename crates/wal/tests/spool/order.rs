//! Pushing, reading, acknowledging, and what a restart finds.

use std::path::Path;
use std::sync::Arc;

use stoa_wal::disk::{Fault, RealDisk, SimDisk};
use stoa_wal::queue::{Item, Recovery, Stamp};
use stoa_wal::{Disk, Queue, QueueOptions};

const METRICS: u8 = 1;
const LOGS: u8 = 2;

fn open(disk: &SimDisk) -> (Queue, Recovery) {
    Queue::open(Arc::new(disk.clone()), Path::new("/spool"), QueueOptions::default()).unwrap()
}

fn stamp(epoch: u8, seq: u64) -> Stamp {
    let t_ms = i64::try_from(seq).unwrap() * 1000;
    Stamp {
        epoch: [epoch; 16],
        seq_first: seq,
        seq_last: seq,
        samples: 10,
        t_first_ms: t_ms,
        t_last_ms: t_ms + 999,
    }
}

fn push(queue: &mut Queue, stream: u8, epoch: u8, seq: u64) {
    let payload = format!("{epoch}/{seq}");
    let outcome = queue.push(stream, stamp(epoch, seq), payload.as_bytes());
    assert!(outcome.dropped.is_empty() && outcome.error.is_none(), "{outcome:?}");
    assert!(queue.totals().balance());
}

fn waiting(queue: &mut Queue, stream: u8) -> Vec<String> {
    let (mut number, mut found) = (0, Vec::new());
    while let Some(item) = queue.peek_from(stream, number).unwrap() {
        let Item::Record(record) = item else { panic!("{item:?}") };
        number = record.number + 1;
        found.push(String::from_utf8(record.payload).unwrap());
    }
    found
}

#[test]
fn streams_and_epochs_are_acknowledged_apart() {
    let disk = SimDisk::new(1);
    let (mut queue, recovery) = open(&disk);
    assert!(recovery.clean() && recovery.streams.is_empty());
    for (stream, epoch, seq) in
        [(METRICS, 1, 1), (METRICS, 1, 2), (METRICS, 2, 1), (METRICS, 2, 2), (LOGS, 1, 1)]
    {
        push(&mut queue, stream, epoch, seq);
    }
    // The live epoch first, the backlog beside it.
    assert_eq!(queue.ack_through(METRICS, [2; 16], 1).records, 1);
    assert_eq!(waiting(&mut queue, METRICS), ["1/1", "1/2", "2/2"]);
    assert_eq!(queue.ack_through(METRICS, [1; 16], 2).samples, 20);
    assert_eq!(queue.ack_through(METRICS, [1; 16], 1).records, 0, "never backwards");
    assert_eq!(waiting(&mut queue, METRICS), ["2/2"]);
    assert_eq!(waiting(&mut queue, LOGS), ["1/1"]);
    assert_eq!(queue.oldest_waiting_ms(METRICS), Some(2000));
    let totals = queue.totals();
    assert!(totals.balance());
    assert_eq!((totals.pushed.records, totals.acked.records, totals.in_spool.records), (5, 3, 2));
}

#[test]
fn a_clean_close_loses_nothing_and_says_so() {
    let disk = SimDisk::new(1);
    let (mut queue, _) = open(&disk);
    for seq in 1..=4 {
        push(&mut queue, METRICS, 1, seq);
    }
    queue.ack_through(METRICS, [1; 16], 2);
    assert!(queue.close().error.is_none());
    disk.crash();
    let (mut queue, recovery) = open(&disk);
    assert!(recovery.clean(), "{recovery:?}");
    assert_eq!(recovery.streams[0].last, Some(stamp(1, 4)));
    assert_eq!(waiting(&mut queue, METRICS), ["1/3", "1/4"]);
    let totals = queue.totals();
    assert!(totals.balance());
    assert_eq!((totals.recovered.records, totals.kept.records), (4, 2));
}

#[test]
fn a_crash_is_told_with_the_last_record_that_is_left() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (mut queue, _) = open(&disk);
        push(&mut queue, METRICS, 1, 1);
        assert!(queue.sync().error.is_none());
        push(&mut queue, METRICS, 1, 2);
        drop(queue);
        disk.crash();
        let (mut queue, recovery) = open(&disk);
        assert!(!recovery.clean());
        let found = waiting(&mut queue, METRICS);
        assert_eq!(recovery.streams[0].last.unwrap().seq_last, found.len() as u64, "seed {seed}");
        lost += 2 - found.len();
        drop(queue);
        assert!(!open(&disk).1.clean(), "a run that was not closed, even when nothing was pushed");
    }
    assert!((20..80).contains(&lost), "{lost} of 100 lost");
}

#[test]
fn a_rewind_sends_again_what_is_kept() {
    let disk = SimDisk::new(1);
    let (mut queue, _) = open(&disk);
    for seq in 1..=5 {
        push(&mut queue, METRICS, 1, seq);
    }
    queue.ack_through(METRICS, [1; 16], 5);
    assert_eq!(queue.rewind(METRICS, [1; 16], Some(3)).records, 2);
    assert_eq!(waiting(&mut queue, METRICS), ["1/4", "1/5"]);
    assert!(queue.close().error.is_none());
    let (mut queue, _) = open(&disk);
    assert_eq!(waiting(&mut queue, METRICS), ["1/4", "1/5"], "and across a restart");
    assert_eq!(queue.rewind(METRICS, [1; 16], None).records, 3);
    assert_eq!(waiting(&mut queue, METRICS).len(), 5);
    assert!(queue.totals().balance());
}

#[test]
fn a_record_acknowledged_before_it_is_pushed_is_kept_only() {
    let disk = SimDisk::new(1);
    let (mut queue, _) = open(&disk);
    queue.ack_through(METRICS, [1; 16], 1);
    push(&mut queue, METRICS, 1, 1);
    push(&mut queue, METRICS, 1, 2);
    assert_eq!(waiting(&mut queue, METRICS), ["1/2"]);
    assert_eq!(queue.rewind(METRICS, [1; 16], None).records, 1);
    assert_eq!(waiting(&mut queue, METRICS), ["1/1", "1/2"]);
}

#[test]
fn what_is_acknowledged_outlives_the_segment_that_noted_it() {
    let disk = SimDisk::new(1);
    let options = QueueOptions { segment_bytes_max: 600, ..QueueOptions::default() };
    let (mut queue, _) = Queue::open(Arc::new(disk.clone()), Path::new("/spool"), options).unwrap();
    queue.ack_through(METRICS, [1; 16], 50);
    push(&mut queue, METRICS, 1, 1);
    assert!(queue.sync().error.is_none());
    for seq in 2..=50 {
        push(&mut queue, METRICS, 1, seq);
    }
    assert!(queue.forget_acked_before(i64::MAX).error.is_none());
    assert!(queue.totals().kept.records < 6);
    assert!(queue.close().error.is_none());
    assert!(waiting(&mut open(&disk).0, METRICS).is_empty());
}

#[test]
fn an_acknowledgement_whose_sync_failed_is_written_again() {
    let disk = SimDisk::new(1);
    let (mut queue, _) = open(&disk);
    push(&mut queue, METRICS, 1, 1);
    assert!(queue.sync().error.is_none());
    queue.ack_through(METRICS, [1; 16], 1);
    disk.fail_at(1, Fault::Eio);
    assert!(queue.sync().error.is_some());
    assert!(queue.sync().error.is_none());
    drop(queue);
    disk.crash();
    assert!(waiting(&mut open(&disk).0, METRICS).is_empty());
}

#[test]
fn acknowledged_records_are_forgotten_by_age_and_whole_segments() {
    let disk = SimDisk::new(1);
    let options = QueueOptions { segment_bytes_max: 600, ..QueueOptions::default() };
    let (mut queue, _) = Queue::open(Arc::new(disk.clone()), Path::new("/spool"), options).unwrap();
    for seq in 1..=50 {
        push(&mut queue, METRICS, 1, seq);
    }
    queue.ack_through(METRICS, [1; 16], 30);
    let all = queue.bytes();
    assert!(queue.forget_acked_before(20_000).dropped.is_empty());
    let kept = queue.totals().kept.records;
    assert!((11..=20).contains(&kept), "{kept} kept");
    assert!(queue.forget_acked_before(i64::MAX).dropped.is_empty());
    assert!(queue.totals().kept.records < 6);
    assert!(queue.bytes() < all);
    assert_eq!(waiting(&mut queue, METRICS).len(), 20);
    assert_eq!(queue.bytes(), disk.used_bytes());
    assert!(queue.totals().balance());
}

#[test]
fn the_real_disk_does_the_same() {
    let tmp = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options =
        QueueOptions { segment_bytes_max: 1000, free_bytes_min: 0, ..QueueOptions::default() };
    let (mut queue, _) = Queue::open(Arc::clone(&disk), tmp.path(), options.clone()).unwrap();
    for seq in 1..=100 {
        push(&mut queue, METRICS, 1, seq);
    }
    queue.ack_through(METRICS, [1; 16], 40);
    assert!(queue.close().error.is_none());
    let (mut queue, recovery) = Queue::open(disk, tmp.path(), options).unwrap();
    assert!(recovery.clean());
    assert_eq!(waiting(&mut queue, METRICS).len(), 60);
}
