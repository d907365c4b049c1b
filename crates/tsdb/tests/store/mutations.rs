//! Blocks changed behind everybody's back: bits, pages, lengths, files of others, copies. Each change
//! is found by the check, costs at most what it touches, and never keeps the database from opening.
//! `STOA_MUTATIONS` says how many; the seed of a failure is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::Matcher;
use stoa_tsdb::{Db, Options, fsck};
use stoa_wal::Disk as _;
use stoa_wal::disk::{SimDisk, SimSnapshot};

use crate::histograms::{all_histograms, histogram, put};
use crate::{DIR, MINUTE_MS, START, Samples, all, files, fill, open_with, options, series};

/// A page of a file system.
const PAGE_BYTES: usize = 512;

struct Image {
    disk: SimDisk,
    snapshot: SimSnapshot,
    samples: Samples,
    /// With what was deleted.
    undeleted: Samples,
    files: Vec<PathBuf>,
}

fn merging() -> Options {
    Options { compaction_ms: vec![4 * MINUTE_MS], ..options() }
}

/// Floats, and the sums of histograms under names of their own.
fn everything(db: &Db) -> Samples {
    let histograms = all_histograms(db).into_iter();
    let histograms =
        histograms.map(|(name, t, h)| ((format!("histogram {name}"), t), h.sum.to_bits()));
    all(db).into_iter().chain(histograms).collect()
}

/// Fresh blocks and merged ones, one with tombstones, a checkpoint, a log.
fn image() -> Image {
    let disk = SimDisk::new(5);
    let (db, _) = open_with(&disk, merging());
    fill(&db, START, 500);
    let refs = ["h0", "h1"].map(|name| series(&db, 1, &format!("__name__={name}")));
    for second in 0..500i64 {
        let given = histogram(second, 3 + second / 40);
        let other = histogram(second / 9, 5);
        put(&db, START + second * 1000, &[], &[(refs[0], given), (refs[1], other)]).unwrap();
    }
    db.maintain(START + 8 * MINUTE_MS).unwrap();
    db.compact(START + 8 * MINUTE_MS).unwrap();
    db.sync().unwrap();
    let undeleted = everything(&db);
    let matchers = [Matcher::equal("__name__", "m1")];
    db.delete_series(&matchers, START + 30_000, START + 50_000, START).unwrap();
    let samples = everything(&db);
    assert!(samples.len() < undeleted.len());
    db.close().unwrap();
    // What removals left is gone with the next start.
    drop(open_with(&disk, merging()));
    let files: Vec<_> = files(&disk, &Path::new(DIR).join("blocks"));
    let has = |name: &str| files.iter().filter(|path| path.ends_with(name)).count();
    assert!(has("meta") == 4 && has("tombstones") == 1, "{files:?}");
    Image { snapshot: disk.snapshot(), disk, samples, undeleted, files }
}

fn dice(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n << 32 | n);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(seed: u64, n: u64, end: usize) -> usize {
    usize::try_from(dice(seed, n) % (end.max(1) as u64)).unwrap()
}

impl Image {
    /// Changes one file; says which and how.
    fn mutate(&self, seed: u64) -> (PathBuf, String, bool) {
        let path = self.files[below(seed, 1, self.files.len())].clone();
        let before = self.disk.read(&path).unwrap();
        let kind = dice(seed, 2) % 8;
        let mut what = String::new();
        let twins: Vec<&PathBuf> = self
            .files
            .iter()
            .filter(|other| other.file_name() == path.file_name() && **other != path)
            .collect();
        let twin = (!twins.is_empty()).then(|| twins[below(seed, 3, twins.len())].clone());
        let other = twin.map(|twin| self.disk.read(&twin).unwrap());
        let change = |bytes: &mut Vec<u8>| {
            let at = below(seed, 4, bytes.len());
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let end = (page + PAGE_BYTES).min(bytes.len());
            match (kind, other) {
                (0..=2, _) => bytes[at] ^= 1 << below(seed, 5, 8),
                (3, _) => bytes[page..end].fill(0),
                (4, _) => bytes.truncate(at),
                (5, Some(other)) => *bytes = other,
                (6, _) => {
                    let page = bytes[page..end].to_vec();
                    bytes.extend(page);
                }
                _ => {
                    // A page written to another's place.
                    let from = below(seed, 6, bytes.len()) / PAGE_BYTES * PAGE_BYTES;
                    let source = bytes[from..(from + PAGE_BYTES).min(bytes.len())].to_vec();
                    for (to, byte) in bytes[page..].iter_mut().zip(source) {
                        *to = byte;
                    }
                }
            }
            what = format!("kind {kind} at {at} of {}", bytes.len());
        };
        self.disk.corrupt(&path, change).unwrap();
        let is_changed = self.disk.read(&path).unwrap() != before;
        (path, what, is_changed)
    }

    fn check(&self, seed: u64) -> bool {
        self.disk.restore(&self.snapshot);
        let (path, what, is_changed) = self.mutate(seed);
        let case = format!("seed {seed}: {what} in {}", path.display());
        let disk: Arc<dyn stoa_wal::Disk> = Arc::new(self.disk.clone());
        let report = fsck(&disk, Path::new(DIR), None).unwrap();
        assert_eq!(!report.damage.is_empty(), is_changed, "{case}: {:?}", report.damage);
        // Half of them are repaired first.
        let is_repaired = dice(seed, 7).is_multiple_of(2);
        if is_repaired {
            fsck(&disk, Path::new(DIR), Some(START)).unwrap();
            let again = fsck(&disk, Path::new(DIR), None).unwrap();
            assert_eq!(again.damage, [], "{case}");
        }
        let (db, recovery) = open_with(&self.disk, merging());
        let found = everything(&db);
        for (key, v) in &found {
            assert_eq!(self.undeleted.get(key), Some(v), "{case}: {key:?}");
        }
        // What was deleted comes back only if the tombstones, or the block they lie in, are hit.
        let is_tombstones = path.ends_with("tombstones");
        let back = found.keys().filter(|key| !self.samples.contains_key(*key)).count();
        assert!(back == 0 || is_tombstones, "{case}: {back} are back");
        let lost = self.samples.keys().filter(|key| !found.contains_key(*key)).count();
        if path.ends_with("tombstones") {
            assert_eq!(lost, 0, "{case}");
        } else if path.ends_with("chunks") && dice(seed, 2) % 8 < 3 {
            // A bit costs its chunk; one of timestamps costs those who share it.
            assert!(lost <= 4 * 240, "{case}: {lost} lost");
        }
        if lost > 0 && !is_repaired {
            db.maintain(START + 8 * MINUTE_MS).unwrap();
            let stats = db.stats();
            let told = recovery.damaged + stats.chunks_damaged + stats.blocks_quarantined;
            assert!(told > 0, "{case}: {lost} lost, not a word");
        }
        // It takes samples, merges what is left, and opens again.
        fill(&db, START + 600_000, 2);
        drop(db.compact(START + 60 * MINUTE_MS));
        let merged = everything(&db);
        assert!(found.keys().all(|key| merged.contains_key(key)), "{case}");
        db.close().unwrap();
        let (db, _) = open_with(&self.disk, merging());
        assert_eq!(everything(&db), merged, "{case}");
        is_changed
    }
}

#[test]
fn every_change_to_a_block_is_found_and_costs_what_it_touches() {
    let image = image();
    let disk: Arc<dyn stoa_wal::Disk> = Arc::new(image.disk.clone());
    let report = fsck(&disk, Path::new(DIR), None).unwrap();
    assert_eq!(report.damage, []);
    assert!(report.blocks == 4 && report.chunks > 20 && report.records > 5, "{report:?}");
    let count = std::env::var("STOA_MUTATIONS").map_or(300, |n| n.parse().unwrap());
    let changed = (0..count).filter(|seed| image.check(*seed)).count();
    assert!(changed as u64 > count * 8 / 10, "{changed} of {count}");
}

#[test]
fn a_block_that_is_there_twice_counts_once() {
    let image = image();
    for path in image.files.iter().filter(|path| path.ends_with("meta")) {
        image.disk.restore(&image.snapshot);
        let block = path.parent().unwrap();
        let copy = block.with_file_name("01HF7ZZZZZ00000000000000ZZ");
        image.disk.create_dir_all(&copy).unwrap();
        for file in image.files.iter().filter(|file| file.starts_with(block)) {
            let bytes = image.disk.read(file).unwrap();
            image.disk.replace(&copy.join(file.file_name().unwrap()), &bytes).unwrap();
        }
        let (db, recovery) = open_with(&image.disk, merging());
        assert_eq!(recovery.damaged, 0);
        assert_eq!(everything(&db), image.samples);
        let stored = db.stats().block_samples + db.stats().head_samples;
        assert_eq!(stored, image.undeleted.len() as u64);
    }
}

#[test]
fn damage_in_log_and_checkpoint_is_found_and_looking_changes_nothing() {
    let image = image();
    for part in ["checkpoint-", "wal"] {
        image.disk.restore(&image.snapshot);
        let all_files = files(&image.disk, Path::new(DIR));
        let path = all_files.iter().rfind(|path| {
            path.to_string_lossy().contains(part) && image.disk.read(path).unwrap().len() > 200
        });
        let Some(path) = path else { panic!("no {part}: {all_files:?}") };
        image.disk.corrupt(path, |bytes| bytes[100] ^= 4).unwrap();
        let read = |disk: &SimDisk| -> Vec<_> {
            files(disk, Path::new(DIR)).iter().map(|path| disk.read(path).unwrap()).collect()
        };
        let before = read(&image.disk);
        let disk: Arc<dyn stoa_wal::Disk> = Arc::new(image.disk.clone());
        let report = fsck(&disk, Path::new(DIR), None).unwrap();
        let found = report.damage.iter().any(|damage| damage.path == *path);
        assert!(found || report.torn > 0, "{part}: {report:?}");
        assert!(read(&image.disk) == before, "{part}: looking changed something");
    }
}
