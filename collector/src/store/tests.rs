use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stoa_model::{Labels, Matcher};
use stoa_promql::storage::{Select, Storage as _};
use stoa_tsdb::{Batch, GroupId, Mark, Row, SeriesRef};
use stoa_wal::Disk as _;
use stoa_wal::disk::{Fault, SimDisk};

use super::{Store, StoreError, StoreState, Stored};
use crate::config::{Config, StorageConfig};

const GROUP: GroupId = GroupId(7);

fn config(free_bytes_min: u64) -> StorageConfig {
    StorageConfig {
        retention: Duration::from_secs(86_400),
        retention_1m: Duration::ZERO,
        retention_1h: Duration::ZERO,
        out_of_order: Duration::from_secs(3600),
        free_bytes_min,
        series_max: 3,
        ..Config::defaults().unwrap().storage
    }
}

fn open(disk: &SimDisk) -> Store {
    open_with(disk, 0)
}

fn open_with(disk: &SimDisk, free_bytes_min: u64) -> Store {
    let disk = Arc::new(disk.clone());
    Store::open(disk, Path::new("/data"), &config(free_bytes_min), Arc::new(|| 10_000_000))
        .unwrap()
        .0
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)]).unwrap()
}

fn batch(series: SeriesRef, samples: &[(i64, f64)]) -> Batch {
    let rows = samples.iter().map(|&(t_ms, v)| Row { t_ms, samples: vec![(series, v)] });
    Batch { group: GROUP, rows: rows.collect(), marks: Vec::new() }
}

/// All samples of a series, as a query sees them.
fn stored(store: &Store, name: &str) -> Vec<(i64, f64)> {
    let select = Select {
        matchers: &[Matcher::equal("__name__", name)],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        series_max: 10,
        samples_max: 100_000,
    };
    let found = store.view().select(&select).unwrap();
    let samples =
        found.iter().flat_map(|s| s.timestamps.iter().copied().zip(s.values.iter().copied()));
    samples.collect()
}

#[tokio::test]
async fn what_is_answered_survives_a_power_cut() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    let mark = Mark { key: b"agent/1".to_vec(), value: b"42".to_vec() };
    let with_mark = Batch { marks: vec![mark.clone()], ..batch(up, &[(1000, 1.0), (2000, 2.0)]) };
    let done = store.append(with_mark).await.unwrap();
    assert_eq!(done, Stored { stored: 2, ..Stored::default() });
    disk.crash();
    let again = open(&disk);
    assert_eq!(stored(&again, "up"), [(1000, 1.0), (2000, 2.0)]);
    assert_eq!(again.marks(b"agent/"), [mark]);
}

#[tokio::test]
async fn every_sample_is_accounted_for() {
    let store = open(&SimDisk::new(2));
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    store.append(batch(up, &[(10_000_000, 1.0)])).await.unwrap();
    let samples = [(10_000_000, 1.0), (10_000_000, 2.0), (1000, 1.0), (10_001_000, 1.0)];
    let done = store.append(batch(up, &samples)).await.unwrap();
    assert_eq!(done, Stored { stored: 1, duplicate: 1, conflicting: 1, too_old: 1 });
    let figures = store.figures();
    assert_eq!(figures.samples, Stored { stored: 2, ..done });
    assert_eq!((figures.queue_samples, figures.commits), (0, 2));
}

#[tokio::test]
async fn many_batches_share_a_sync() {
    let store = open(&SimDisk::new(3));
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    let mut pending = Vec::new();
    for t in 0..500 {
        pending.push(store.submit(batch(up, &[(t, 1.0)])).await.unwrap());
    }
    for one in pending {
        assert_eq!(one.stored().await.unwrap().stored, 1);
    }
    let figures = store.figures();
    assert!(figures.commits <= 50, "{} syncs for 500 batches", figures.commits);
    assert_eq!(figures.commit_latency.iter().sum::<u64>(), figures.commits);
    assert_eq!(stored(&store, "up").len(), 500);
}

#[tokio::test]
async fn a_bad_batch_harms_no_other() {
    let store = open(&SimDisk::new(4));
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    let bad = store.append(batch(SeriesRef(999), &[(1, 1.0), (2, 1.0)])).await;
    assert!(matches!(bad, Err(StoreError::Append(_))), "{bad:?}");
    assert_eq!(store.append(batch(up, &[(1, 1.0)])).await.unwrap().stored, 1);
    for name in ["two", "three"] {
        store.resolve(GROUP, &labels(name)).unwrap();
    }
    assert!(matches!(store.resolve(GROUP, &labels("four")), Err(StoreError::Append(_))));
    let figures = store.figures();
    assert_eq!((figures.refused_samples, figures.refused_series), (2, 1));
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let disk = SimDisk::new(5);
    let store = open_with(&disk, 1 << 20);
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    store.append(batch(up, &[(1, 1.0)])).await.unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    let full = loop {
        // until the store looks again
        if let Err(error) = store.append(batch(up, &[(1, 1.0)])).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(full, StoreError::DiskFull { .. }), "{full}");
    assert!(matches!(store.state(), StoreState::DiskFull { .. }));
    assert_eq!(stored(&store, "up"), [(1, 1.0)]);
    assert!(store.figures().disk_full_samples > 0);
    disk.set_capacity(None);
    while store.append(batch(up, &[(2, 1.0)])).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.state(), StoreState::Open);
    assert_eq!(stored(&store, "up").len(), 2);
}

#[tokio::test]
async fn a_disk_that_fills_in_the_middle_loses_nothing_acknowledged() {
    let disk = SimDisk::new(6);
    let store = open(&disk);
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 4096));
    let mut acknowledged = Vec::new();
    let mut t = 0;
    let refused = loop {
        t += 1;
        let many: Vec<(i64, f64)> =
            (0..40).map(|i| (t * 40 + i64::from(i), f64::from(i))).collect();
        let append = store.append(batch(up, &many));
        match tokio::time::timeout(Duration::from_millis(1500), append).await {
            Ok(Ok(_)) => acknowledged.extend(many),
            Ok(Err(error)) => break Some(error),
            Err(_still_waiting) => break None,
        }
        assert!(t < 10_000, "the disk never filled");
    };
    if let Some(error) = refused {
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    }
    assert!(!acknowledged.is_empty());
    disk.set_capacity(None);
    while store.append(batch(up, &[(t * 1000, 0.5)])).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    disk.crash();
    let found = stored(&open(&disk), "up");
    assert!(acknowledged.iter().all(|sample| found.contains(sample)));
}

#[tokio::test]
async fn a_failed_sync_ends_the_writer_for_good() {
    let disk = SimDisk::new(7);
    let store = open(&disk);
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    store.append(batch(up, &[(1, 1.0)])).await.unwrap();
    // the batch's write, then the sync
    disk.fail_at(1, Fault::Eio);
    let failed = store.append(batch(up, &[(2, 1.0)])).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
    assert!(matches!(store.state(), StoreState::Failed(_)));
    assert!(!store.failed().await.is_empty(), "whoever waits for the end is told why");
    let later = store.append(batch(up, &[(3, 1.0)])).await;
    assert!(matches!(later, Err(StoreError::Failed { .. })), "{later:?}");
    assert!(stored(&store, "up").contains(&(1, 1.0)), "queries go on");
    assert_eq!(store.figures().unavailable_samples, 2);
    assert!(store.close().await.is_err());
    disk.crash();
    assert!(stored(&open(&disk), "up").contains(&(1, 1.0)));
}

#[tokio::test]
async fn closing_answers_everyone_and_takes_nothing_after() {
    let disk = SimDisk::new(8);
    let store = open(&disk);
    let up = store.resolve(GROUP, &labels("up")).unwrap();
    let mut pending = Vec::new();
    for t in 0..100 {
        pending.push(store.submit(batch(up, &[(t, 1.0)])).await.unwrap());
    }
    let (closed, again) = tokio::join!(store.close(), store.close());
    assert!(closed.is_ok() && again.is_ok());
    for one in pending {
        one.stored().await.unwrap();
    }
    let late = store.append(batch(up, &[(1000, 1.0)])).await;
    assert!(matches!(late, Err(StoreError::Closed)), "{late:?}");
    assert_eq!(store.state(), StoreState::Closed);
    disk.crash();
    assert_eq!(stored(&open(&disk), "up").len(), 100);
}

#[test]
fn a_snapshot_that_was_cut_off_is_gone_after_a_start() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    store.snapshot("whole").unwrap();
    drop(store);
    let snapshots = Path::new("/data/snapshots");
    disk.create_dir_all(&snapshots.join("cut.tmp/blocks")).unwrap();
    disk.replace(&snapshots.join("cut.tmp/blocks/chunks"), &[1; 99]).unwrap();
    let (_store, recovery) = Store::open(
        Arc::new(disk.clone()),
        Path::new("/data"),
        &config(0),
        Arc::new(|| 10_000_000),
    )
    .unwrap();
    assert_eq!(recovery.unfinished_removed, 1);
    assert_eq!(disk.list(snapshots).unwrap(), ["whole"]);
}

#[test]
fn labels_take_no_more_than_they_may() {
    let disk = Arc::new(SimDisk::new(1));
    let config = StorageConfig { label_bytes_max: 100, ..config(0) };
    let dir = Path::new("/data");
    let (store, _) = Store::open(disk, dir, &config, Arc::new(|| 10_000_000)).unwrap();
    store.resolve(GROUP, &labels("short")).unwrap();
    let refused = store.resolve(GROUP, &labels(&"x".repeat(200))).unwrap_err();
    let why = stoa_daemon::error_chain(&refused);
    assert!(why.contains("label"), "{why}");
}
