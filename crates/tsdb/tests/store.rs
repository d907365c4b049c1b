//! The database through its handle: what it takes, keeps, forgets and survives.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong is to fail it"
)]

#[path = "store/at_once.rs"]
mod at_once;
#[path = "store/compaction.rs"]
mod compaction;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/decoders.rs"]
mod decoders;
#[path = "store/disk.rs"]
mod disk;
#[path = "store/formats.rs"]
mod formats;
#[path = "store/histograms.rs"]
mod histograms;
#[path = "store/labels.rs"]
mod labels;
#[path = "store/lifecycle.rs"]
mod lifecycle;
#[path = "store/matching.rs"]
mod matching;
#[path = "store/mutations.rs"]
mod mutations;
#[path = "store/retention.rs"]
mod retention;
#[path = "store/sealed.rs"]
mod sealed;
#[path = "store/sectors.rs"]
mod sectors;
#[path = "store/survey.rs"]
mod survey;
#[path = "store/tiers.rs"]
mod tiers;
#[path = "store/unread.rs"]
mod unread;
#[path = "store/window.rs"]
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::Labels;
use stoa_tsdb::{
    AppendError, Appended, Batch, Db, GroupId, Mark, Options, Recovery, Row, SeriesRef,
};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

const MINUTE_MS: i64 = 60_000;
/// A round minute.
const START: i64 = 1_700_000_040_000;
const DIR: &str = "/db";

fn options() -> Options {
    Options {
        block_ms: MINUTE_MS,
        grace_ms: 0,
        out_of_order_ms: 60 * MINUTE_MS,
        head_chunk_samples: 16,
        ..Options::default()
    }
}

fn open_with(disk: &SimDisk, options: Options) -> (Db, Recovery) {
    Db::open(Arc::new(disk.clone()), Path::new(DIR), options, START).unwrap()
}

fn open(disk: &SimDisk) -> (Db, Recovery) {
    open_with(disk, options())
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').map(|pair| pair.split_once('=').unwrap());
    Labels::from_pairs(pairs).unwrap()
}

fn series(db: &Db, group: u64, text: &str) -> SeriesRef {
    db.resolve(GroupId(group), &labels(text)).unwrap()
}

fn append(db: &Db, group: u64, t_ms: i64, samples: &[(SeriesRef, f64)]) -> Appended {
    try_append(db, group, t_ms, samples).unwrap()
}

fn try_append(
    db: &Db,
    group: u64,
    t_ms: i64,
    samples: &[(SeriesRef, f64)],
) -> Result<Appended, AppendError> {
    let rows = vec![Row { t_ms, samples: samples.to_vec() }];
    let mark = Mark { key: vec![b'g', group.to_le_bytes()[0]], value: t_ms.to_le_bytes().to_vec() };
    db.append(&Batch { group: GroupId(group), rows, marks: vec![mark] })
}

/// Two groups of four series, a sample a second for so many seconds.
fn fill(db: &Db, from: i64, seconds: i64) {
    for group in 0..2u64 {
        let resolve = || -> Vec<SeriesRef> {
            (0..4).map(|n| series(db, group, &format!("__name__=m{n},g={group}"))).collect()
        };
        let mut refs = resolve();
        for second in 0..seconds {
            let t = from + second * 1000;
            let values = [7.0, (t / 1000) as f64, (t % 7919) as f64 / 10.0, 1.0 / (t % 97) as f64];
            let samples = |refs: &[SeriesRef]| refs.iter().copied().zip(values).collect::<Vec<_>>();
            // Maintenance beside this may have removed series that have no sample yet.
            while let Err(error) = try_append(db, group, t, &samples(&refs)) {
                assert!(matches!(error, AppendError::UnknownSeries { .. }), "{error}");
                refs = resolve();
            }
        }
    }
}

type Samples = BTreeMap<(String, i64), u64>;

fn all(db: &Db) -> Samples {
    let mut samples = Samples::new();
    for series in db.select(&[], i64::MIN, i64::MAX, 1000, 1_000_000).unwrap() {
        for (t, v) in series.timestamps.iter().zip(&series.values) {
            let twice = samples.insert((series.labels.to_string(), *t), v.to_bits());
            assert_eq!(twice, None);
        }
    }
    samples
}

/// Every file below a directory.
fn files(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in disk.list(dir).unwrap() {
        let path = dir.join(name);
        if disk.open(&path).is_ok() {
            found.push(path);
        } else {
            found.extend(files(disk, &path));
        }
    }
    found
}
