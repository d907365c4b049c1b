//! The bytes on disk, kept in `tests/golden`: what is written is what was written (the newest), and
//! what was ever written still opens (all of them). After a change that is meant, `STOA_BLESS=1` writes them anew, and the
//! version number of the format that changed must go up.

use std::path::{Path, PathBuf};

use stoa_model::histogram::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, Span};
use stoa_model::{Matcher, stale_nan};
use stoa_tsdb::{Db, Options};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

use crate::histograms::{self, all_histograms, histogram};
use crate::{DIR, MINUTE_MS, START, all, append, files, open, series};

/// Every codec, two lanes, a late sample, a checkpoint with what is left, and a log after it.
fn write(disk: &SimDisk) {
    let (db, _) = open(disk);
    let names = ["const", "line", "steps", "tenths", "doubles", "ends"];
    let refs: Vec<_> =
        names.iter().map(|n| series(&db, 1, &format!("__name__={n},host=pve1"))).collect();
    for second in 0..70i64 {
        let s = second as f64;
        let last = if second % 9 == 8 { stale_nan() } else { 1.0 };
        let values = [7.0, 2.0 * s, (s / 10.0).floor(), s % 7.0 / 10.0, 1.0 / (s + 3.0), last];
        let mut samples: Vec<_> = refs.iter().copied().zip(values).collect();
        samples.truncate(if second % 3 == 2 { 5 } else { 6 });
        append(&db, 1, START + second * 1000, &samples);
    }
    let other = series(&db, 2, "__name__=const,host=lxc2");
    append(&db, 2, START + 500, &[(other, -0.0)]);
    append(&db, 1, START + 30_500, &[(refs[1], 0.5)]);
    db.maintain(START + MINUTE_MS).unwrap();
    append(&db, 1, START + 70_000, &[(refs[0], 7.0), (refs[1], 140.0)]);
    db.sync().unwrap();
}

/// v1: blocks of version 1. v2: blocks of version 2, and one merged from two, with tombstones. v3: a
/// head of version 2. v4: native histograms, in a block whose index is of version 2, in the head and in
/// the log. v5: tombstones of version 2. v6: blocks with a spare.
const VERSIONS: [&str; 6] = ["v1", "v2", "v3", "v4", "v5", "v6"];

pub(crate) fn golden_dir(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// A block merged from two, of which a part was deleted, beside what [`write`] makes.
fn write_merged(disk: &SimDisk) {
    write(disk);
    let options = Options { compaction_ms: vec![4 * MINUTE_MS], ..crate::options() };
    let (db, _) = crate::open_with(disk, options);
    for minute in 5..7 {
        crate::fill(&db, START + minute * MINUTE_MS, 60);
    }
    db.maintain(START + 9 * MINUTE_MS).unwrap();
    assert_eq!(db.compact(START + 9 * MINUTE_MS).unwrap().merges, 1);
    let (start, end) = (START + 310_000, START + 312_000);
    let deleted = db.delete_series(&[Matcher::equal("g", "1")], start, end, START).unwrap();
    assert_eq!(deleted.series, 4);
    db.close().unwrap();
}

/// Beside what [`write_merged`] makes, windows that wait for their block in a file of the head, open
/// columns, live and late.
fn write_waiting(disk: &SimDisk) {
    write_merged(disk);
    let (db, _) = crate::open_with(disk, Options { log_bytes_max: 0, ..crate::options() });
    let refs = ["a", "b", "c"].map(|n| series(&db, 3, &format!("__name__={n},host=vm3")));
    let start = START + 9 * MINUTE_MS;
    for second in 0..20i64 {
        let mut samples = vec![(refs[0], 1.5), (refs[1], second as f64), (refs[2], 0.1)];
        samples.truncate(if second % 4 == 3 { 2 } else { 3 });
        append(&db, 3, start + second * 1000, &samples);
    }
    append(&db, 3, start + 1, &[(refs[0], 2.0)]);
    assert!(db.maintain(start).unwrap().checkpointed);
    append(&db, 3, start + 20_000, &[(refs[0], 1.5)]);
    db.close().unwrap();
}

/// Beside what [`write_waiting`] makes, histograms in all places there are.
fn write_histograms(disk: &SimDisk) {
    write_waiting(disk);
    let (db, _) = crate::open_with(disk, Options { log_bytes_max: 0, ..crate::options() });
    let (a, b) = (series(&db, 1, "__name__=a,kind=h"), series(&db, 1, "__name__=b,kind=h"));
    let start = START + 12 * MINUTE_MS;
    let put = |second: i64| {
        let given = match second % 10 {
            8 => Histogram::stale(),
            9 => Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                zero_threshold: 0.0,
                positive_spans: vec![Span { offset: 0, length: 2 }],
                custom_values: vec![0.5, 1.0],
                counts: Counts::Float(BucketCounts {
                    count: 1.5,
                    positive: vec![1.0, 0.5],
                    ..BucketCounts::default()
                }),
                ..histogram(1, 0)
            },
            n => histogram(second, 2 + n / 4),
        };
        let floats = if second % 2 == 0 { vec![(b, 1.0)] } else { vec![] };
        let mut histograms = vec![(a, given.clone())];
        histograms.extend((second % 2 == 1).then_some((b, given)));
        histograms::put(&db, start + second * 1000, &floats, &histograms).unwrap();
    };
    (0..100).for_each(put);
    assert!(db.maintain(start + MINUTE_MS).unwrap().checkpointed);
    (100..104).for_each(put);
    db.close().unwrap();
}

#[test]
fn what_is_written_is_what_was_written() {
    let disk = SimDisk::new(1);
    write_histograms(&disk);
    let bless = std::env::var_os("STOA_BLESS").is_some();
    let mut names = Vec::new();
    for path in files(&disk, Path::new(DIR)) {
        let name = path.strip_prefix(DIR).unwrap();
        let golden = golden_dir("v6").join(name);
        let bytes = disk.read(&path).unwrap();
        if bless {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &bytes).unwrap();
        }
        let expected = std::fs::read(&golden).unwrap_or_default();
        assert_eq!(bytes, expected, "{}", name.display());
        names.push(name.to_owned());
    }
    assert!(names.iter().any(|name| name.starts_with("head")), "{names:?}");
    assert_eq!(names.len(), 25, "{names:?}");
}

#[test]
fn what_was_written_still_opens() {
    let with_histograms = write_histograms;
    let writes =
        [write, write_merged, write_waiting, with_histograms, with_histograms, with_histograms];
    for (version, write) in VERSIONS.into_iter().zip(writes) {
        let fresh = SimDisk::new(1);
        write(&fresh);
        let all = |db: &Db| (all(db), all_histograms(db));
        let expected = all(&open(&fresh).0);
        assert_eq!(expected.1.is_empty(), !matches!(version, "v4" | "v5" | "v6"));
        let disk = SimDisk::new(2);
        copy_in(&disk, &golden_dir(version), Path::new(DIR));
        let (db, recovery) = open(&disk);
        assert_eq!(recovery.damaged, 0, "{version}: {:?}", recovery.damage);
        assert_eq!(all(&db), expected, "{version}");
        if version == "v1" {
            assert_eq!((recovery.blocks, recovery.marks, recovery.series), (1, 2, 7));
            assert_eq!(db.mark(b"g\x01"), Some((START + 70_000).to_le_bytes().to_vec()));
        }
        // Old blocks are merged as new ones are.
        let later = START + 60 * 24 * 60 * MINUTE_MS;
        drop(db);
        let compaction_ms = vec![4 * MINUTE_MS];
        let (db, _) = crate::open_with(&disk, Options { compaction_ms, ..crate::options() });
        assert!(db.compact(later).unwrap().merges > 0, "{version}");
        assert_eq!(all(&db), expected, "{version}");
    }
}

pub(crate) fn copy_in(disk: &SimDisk, from: &Path, to: &Path) {
    disk.create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_in(disk, &path, &to);
        } else {
            disk.replace(&to, &std::fs::read(&path).unwrap()).unwrap();
        }
    }
}
