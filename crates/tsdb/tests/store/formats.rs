//! The bytes on disk, kept in `tests/golden/v1`: what is written is what was written, and what was
//! written still opens. After a change that is meant, `STOA_BLESS=1` writes them anew, and the
//! version number of the format that changed must go up.

use std::path::{Path, PathBuf};

use stoa_model::stale_nan;
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

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

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

#[test]
fn what_is_written_is_what_was_written() {
    let disk = SimDisk::new(1);
    write(&disk);
    let bless = std::env::var_os("STOA_BLESS").is_some();
    let mut names = Vec::new();
    for path in files(&disk, Path::new(DIR)) {
        let name = path.strip_prefix(DIR).unwrap();
        let golden = golden_dir().join(name);
        let bytes = disk.read(&path).unwrap();
        if bless {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &bytes).unwrap();
        }
        let expected = std::fs::read(&golden).unwrap_or_default();
        assert_eq!(bytes, expected, "{}", name.display());
        names.push(name.to_owned());
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn what_was_written_still_opens() {
    let fresh = SimDisk::new(1);
    write(&fresh);
    let expected = all(&open(&fresh).0);
    let disk = SimDisk::new(2);
    for path in files(&fresh, Path::new(DIR)) {
        let golden = std::fs::read(golden_dir().join(path.strip_prefix(DIR).unwrap()));
        // Opening the fresh one began a segment that holds nothing.
        let Ok(golden) = golden else { continue };
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.replace(&path, &golden).unwrap();
    }
    let (db, recovery) = open(&disk);
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    assert_eq!((recovery.blocks, recovery.marks, recovery.series), (1, 2, 7));
    assert_eq!(all(&db), expected);
    assert_eq!(db.mark(b"g\x01"), Some((START + 70_000).to_le_bytes().to_vec()));
}
