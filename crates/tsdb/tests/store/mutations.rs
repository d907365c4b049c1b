//! Files changed behind everybody's back: bits, pages, lengths, files of others, copies; of blocks, of
//! the log, of its checkpoint, of the head. Each change is found by the check, costs at most what it
//! touches, and never keeps the database from opening. `STOA_MUTATIONS` says how many, two threads
//! do them, and a failure names its seed: `STOA_SEED` repeats one.
//!
//! What no reader can know is counted apart: a newest segment of the log cut between two records is
//! what a crash leaves that came before the rest was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::Matcher;
use stoa_tsdb::{Db, Options, fsck};
use stoa_wal::Disk;
use stoa_wal::disk::{SimDisk, SimSnapshot};

use crate::histograms::{all_histograms, histogram, put};
use crate::{DIR, MINUTE_MS, START, files, fill, open_with, options, series};

/// What is zeroed, repeated or written elsewhere at once.
const PAGE_BYTES: usize = 512;
const THREADS: usize = 2;
const KINDS: [&str; 9] =
    ["bit", "bit", "bit", "zeros", "cut", "another's", "longer", "page", "copied"];

/// The samples of each series, in order.
type Found = Vec<(String, Vec<i64>, Vec<u64>)>;

fn found(db: &Db) -> Found {
    let series = db.select(&[], i64::MIN, i64::MAX, 1000, 1_000_000).unwrap();
    let one = |series: stoa_tsdb::SeriesData| {
        let bits = series.values.iter().map(|v| v.to_bits()).collect();
        assert!(series.timestamps.is_sorted_by(|a, b| a < b), "twice in {}", series.labels);
        (series.labels.to_string(), series.timestamps.to_vec(), bits)
    };
    let mut found: Found = series.into_iter().map(one).collect();
    // The sums of histograms, under names of their own.
    for (labels, t, histogram) in all_histograms(db) {
        let name = format!("histogram {labels}");
        if found.last().is_none_or(|(last, ..)| *last != name) {
            found.push((name, Vec::new(), Vec::new()));
        }
        if let Some((_, times, bits)) = found.last_mut() {
            times.push(t);
            bits.push(histogram.sum.to_bits());
        }
    }
    found.sort();
    found
}

/// How many samples `some` has that `whole` has not, by instant; what both have is equal.
fn beyond(some: &Found, whole: &Found, case: &str) -> usize {
    if some == whole {
        return 0;
    }
    let mut beyond = 0;
    for (labels, times, bits) in some {
        let at = whole.binary_search_by_key(&labels, |(labels, ..)| labels);
        let Ok(at) = at else {
            beyond += times.len();
            continue;
        };
        let (_, whole_times, whole_bits) = &whole[at];
        for (t, v) in times.iter().zip(bits) {
            match whole_times.binary_search(t) {
                Ok(at) => assert_eq!(whole_bits[at], *v, "{case}: {labels} at {t}"),
                Err(_) => beyond += 1,
            }
        }
    }
    beyond
}

struct Image {
    disk: SimDisk,
    snapshot: SimSnapshot,
    samples: Found,
    /// With what was deleted.
    undeleted: Found,
    files: Vec<PathBuf>,
}

/// What one change came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cases: u64,
    found: u64,
    /// Told as what a crash leaves.
    torn: u64,
    unknowable: u64,
    /// Bytes nobody refers to.
    unneeded: u64,
    lost_most: usize,
}

type Tallies = BTreeMap<(&'static str, &'static str), Tally>;

pub(crate) fn merging() -> Options {
    Options { compaction_ms: vec![4 * MINUTE_MS], ..options() }
}

/// Fresh blocks and merged ones, one with tombstones, a checkpoint, files of the head, a log of
/// several segments.
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
    fill_durably(&db, START + 500_000, 70);
    db.maintain(START + 8 * MINUTE_MS).unwrap();
    db.sync().unwrap();
    let undeleted = found(&db);
    let matchers = [Matcher::equal("__name__", "m1")];
    db.delete_series(&matchers, START + 30_000, START + 50_000, START).unwrap();
    let samples = found(&db);
    assert_ne!(samples, undeleted);
    db.close().unwrap();
    // What removals left is gone with the next start.
    let (db, _) = open_with(&disk, merging());
    fill_durably(&db, START + 570_000, 5);
    drop(db);
    let (db, _) = open_with(&disk, merging());
    fill_durably(&db, START + 575_000, 5);
    let (now, then) = (found(&db), undeleted);
    drop(db);
    let undeleted = join(&then, &now);
    let files: Vec<_> = files(&disk, Path::new(DIR));
    let has = |name: &str| files.iter().filter(|path| path.ends_with(name)).count();
    assert!(has("meta") == 4 && has("tombstones") == 1 && has("tombstones-2") == 1, "{files:?}");
    let of = |part| files.iter().filter(|path| part_of(path) == part).count();
    assert!(of("log") >= 3 && of("checkpoint") == 1 && of("head") > 0, "{files:?}");
    Image { snapshot: disk.snapshot(), disk, samples: now, undeleted, files }
}

/// As a collector does, which acknowledges nothing that is not durable.
fn fill_durably(db: &Db, from: i64, seconds: i64) {
    for second in 0..seconds {
        fill(db, from + second * 1000, 1);
        db.sync().unwrap();
    }
}

/// All of both.
fn join(a: &Found, b: &Found) -> Found {
    let mut joined: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
    for (labels, times, bits) in a.iter().chain(b) {
        joined
            .entry(labels.clone())
            .or_default()
            .extend(times.iter().copied().zip(bits.iter().copied()));
    }
    let one = |(labels, samples): (String, BTreeMap<i64, u64>)| {
        let (times, bits) = samples.into_iter().unzip();
        (labels, times, bits)
    };
    joined.into_iter().map(one).collect()
}

/// What of the database a file belongs to.
fn part_of(path: &Path) -> &'static str {
    let name = path.to_string_lossy();
    let last = path.file_name().unwrap().to_string_lossy();
    match &*last {
        _ if name.contains("/wal/") => "log",
        _ if name.contains("/checkpoint-") => "checkpoint",
        _ if name.contains("/head/") => "head",
        "meta" => "meta",
        "index" => "index",
        "chunks" => "chunks",
        "spare" => "spare",
        _ => "tombstones",
    }
}

pub(crate) fn dice(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n << 32 | n);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn below(seed: u64, n: u64, end: usize) -> usize {
    usize::try_from(dice(seed, n) % (end.max(1) as u64)).unwrap()
}

/// A file that was changed, and how.
struct Change {
    path: PathBuf,
    kind: &'static str,
    what: String,
    is_changed: bool,
}

impl Image {
    /// Changes one file.
    fn mutate(&self, seed: u64) -> Change {
        let path = self.files[below(seed, 1, self.files.len())].clone();
        let before = self.disk.read(&path).unwrap();
        let kind = below(seed, 2, KINDS.len());
        let mut what = String::new();
        let twins: Vec<&PathBuf> = self
            .files
            .iter()
            .filter(|other| part_of(other) == part_of(&path) && **other != path)
            .collect();
        let twin = (!twins.is_empty()).then(|| twins[below(seed, 3, twins.len())].clone());
        if kind == 8 {
            let is_changed = self.copy(&path);
            return Change { path, kind: KINDS[kind], what: "copied".to_owned(), is_changed };
        }
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
            what = format!("{} at {at} of {}", KINDS[kind], bytes.len());
        };
        self.disk.corrupt(&path, change).unwrap();
        let is_changed = self.disk.read(&path).unwrap() != before;
        Change { path, kind: KINDS[kind], what, is_changed }
    }

    /// A block that is there twice, a segment of the log under the next free number. False for what nobody
    /// would look at under another name.
    fn copy(&self, path: &Path) -> bool {
        let dir = path.parent().unwrap();
        match part_of(path) {
            "checkpoint" | "head" => false,
            "log" => {
                let newest = self.files.iter().rfind(|path| part_of(path) == "log").unwrap();
                let name = newest.file_stem().unwrap().to_string_lossy();
                let number = u64::from_str_radix(&name, 16).unwrap() + 1;
                let bytes = self.disk.read(path).unwrap();
                let to = dir.join(format!("{number:016x}.wal"));
                self.disk.replace(&to, &bytes).unwrap();
                true
            }
            _ => {
                let copy = dir.with_file_name("01HF7ZZZZZ00000000000000ZZ");
                self.disk.create_dir_all(&copy).unwrap();
                for file in self.files.iter().filter(|file| file.starts_with(dir)) {
                    let bytes = self.disk.read(file).unwrap();
                    self.disk.replace(&copy.join(file.file_name().unwrap()), &bytes).unwrap();
                }
                true
            }
        }
    }

    fn check(&self, seed: u64, tallies: &mut Tallies) {
        self.disk.restore(&self.snapshot);
        let change = self.mutate(seed);
        let (part, kind) = (part_of(&change.path), change.kind);
        let case = format!("seed {seed}: {} in {}", change.what, change.path.display());
        if !change.is_changed {
            return;
        }
        let tally = tallies.entry((part, kind)).or_default();
        tally.cases += 1;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let report = fsck(&disk, Path::new(DIR), None).unwrap();
        for damage in &report.damage {
            let what = &damage.what;
            assert!(!what.contains(['{', '"']) && !what.contains("Malformed"), "{case}: {what}");
            assert!(what.starts_with(|c: char| c.is_lowercase()), "{case}: {what}");
        }
        let is_found = !report.damage.is_empty();
        let is_torn = !is_found && report.torn > 0;
        let is_newest =
            self.files.iter().rfind(|path| part_of(path) == "log") == Some(&change.path);
        let may_be_unknowable = is_newest && matches!(kind, "cut" | "zeros" | "another's");
        tally.found += u64::from(is_found);
        tally.torn += u64::from(is_torn);
        // What was written to a file of the head after the last checkpoint is in the log as well.
        let is_unneeded = !is_found && part == "head" && !matches!(kind, "longer" | "cut");
        tally.unneeded += u64::from(is_unneeded);
        let is_unknowable = !is_found && !is_torn && !is_unneeded;
        tally.unknowable += u64::from(is_unknowable);
        assert!(!is_torn || part == "log", "{case}: taken for a crash");
        assert!(!is_unknowable || may_be_unknowable, "{case}: not found");
        // Half of them are repaired first.
        let is_repaired = dice(seed, 7).is_multiple_of(2);
        if is_repaired {
            fsck(&disk, Path::new(DIR), Some((START, &merging()))).unwrap();
            let again = fsck(&disk, Path::new(DIR), None).unwrap();
            assert_eq!(again.damage, [], "{case}");
        }
        let (db, recovery) = open_with(&self.disk, merging());
        let left = found(&db);
        // What was deleted does not come back.
        let back = beyond(&left, &self.samples, &case);
        assert_eq!(beyond(&left, &self.undeleted, &case), 0, "{case}");
        assert_eq!(back, 0, "{case}: are back");
        let lost = beyond(&self.samples, &left, &case);
        tally.lost_most = tally.lost_most.max(lost);
        let most = match (part, kind) {
            // Another file has all.
            ("tombstones" | "meta" | "index" | "spare", _) | (_, "copied") => 0,
            _ if is_unneeded => 0,
            // A bit costs its chunk; one of timestamps costs those who share it.
            ("chunks", "bit") => 4 * 240,
            ("head", "bit") => 16,
            _ => usize::MAX,
        };
        assert!(lost <= most, "{case}: {lost} lost");
        // A spare is looked into when it is needed, or by the check.
        let is_mended = matches!(part, "meta" | "index") && !matches!(kind, "copied" | "longer");
        if (lost > 0 || is_mended) && !is_repaired && is_found {
            db.maintain(START + 8 * MINUTE_MS).unwrap();
            let stats = db.stats();
            let told = recovery.damaged + stats.chunks_damaged + stats.blocks_quarantined;
            assert!(told + stats.block_files_mended > 0, "{case}: {lost} lost, not a word");
            assert!(found(&db) == left, "{case}");
        }
        // It takes samples, merges what is left, and opens again.
        fill(&db, START + 600_000, 2);
        drop(db.compact(START + 60 * MINUTE_MS));
        let merged = found(&db);
        assert_eq!(beyond(&left, &merged, &case), 0, "{case}");
        db.close().unwrap();
        let (db, _) = open_with(&self.disk, merging());
        assert_eq!(found(&db), merged, "{case}");
    }
}

/// Ends the other threads when one fails.
struct EndAll<'a>(&'a AtomicU64);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(u64::MAX / 2, Relaxed);
        }
    }
}

#[test]
fn every_change_to_a_file_is_found_and_costs_what_it_touches() {
    let only = std::env::var("STOA_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("STOA_MUTATIONS").map_or(300, |n| n.parse().unwrap());
    let next = AtomicU64::new(only.unwrap_or(0));
    let end = only.map_or(count, |seed| seed + 1);
    let tallies: Vec<Tallies> = std::thread::scope(|scope| {
        let work = || {
            let _end_all = EndAll(&next);
            let image = image();
            let disk: Arc<dyn Disk> = Arc::new(image.disk.clone());
            let report = fsck(&disk, Path::new(DIR), None).unwrap();
            assert_eq!(report.damage, []);
            assert!(report.blocks == 4 && report.chunks > 20 && report.records > 5, "{report:?}");
            let mut tallies = Tallies::new();
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= end {
                    return tallies;
                }
                image.check(seed, &mut tallies);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Tallies::new();
    for (key, tally) in tallies.iter().flatten() {
        let sum = all.entry(*key).or_default();
        sum.cases += tally.cases;
        sum.found += tally.found;
        sum.torn += tally.torn;
        sum.unknowable += tally.unknowable;
        sum.unneeded += tally.unneeded;
        sum.lost_most = sum.lost_most.max(tally.lost_most);
    }
    for ((part, kind), tally) in &all {
        println!("mutations: {part:10} {kind:9} {tally:?}");
    }
    let cases: u64 = all.values().map(|tally| tally.cases).sum();
    println!("mutations: {cases} files changed of {count} tries");
    assert!(only.is_some() || cases > count * 7 / 10, "{cases} of {count}");
}

#[test]
fn a_block_that_is_there_twice_counts_once() {
    let image = image();
    for path in image.files.iter().filter(|path| path.ends_with("meta")) {
        image.disk.restore(&image.snapshot);
        assert!(image.copy(path));
        let (db, recovery) = open_with(&image.disk, merging());
        assert_eq!((recovery.damaged, recovery.quarantined.len()), (1, 1));
        assert_eq!(found(&db), image.samples);
        let stored = db.stats().block_samples + db.stats().head_samples;
        assert_eq!(stored, image.undeleted.iter().map(|(_, times, _)| times.len() as u64).sum());
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
        let disk: Arc<dyn Disk> = Arc::new(image.disk.clone());
        let report = fsck(&disk, Path::new(DIR), None).unwrap();
        let found = report.damage.iter().any(|damage| damage.path == *path);
        assert!(found || report.torn > 0, "{part}: {report:?}");
        assert!(read(&image.disk) == before, "{part}: looking changed something");
    }
}
