//! Files changed behind everybody's back: bits, pages, lengths, files of others, copies; of blocks, of
//! the log, of its checkpoint, of the head, of tiers. Each change is found by the check, costs at most what it
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

use stoa_model::{MatchOp, Matcher, Rollup};
use stoa_tsdb::{Db, Options, Resolution, Tier, fsck};
use stoa_wal::Disk;
use stoa_wal::disk::{SimDisk, SimSnapshot};

use crate::histograms::{all_histograms, histogram, put};
use crate::tiers::HOUR_MS;
use crate::{DIR, MINUTE_MS, START, append, files, fill, open_with, options, series};

/// Where there are samples of which minutes are left, and hours alone; whole hours.
const MINUTES: i64 = START / HOUR_MS * HOUR_MS - 2 * HOUR_MS;
const ONLY_HOURS: i64 = MINUTES - 3 * HOUR_MS;

/// What is zeroed, repeated or written elsewhere at once; less of a file that has no more.
const PAGE_BYTES: usize = 512;
const SMALL_PAGE_BYTES: usize = 16;
/// Tries of the long suite, and how many of them are to change a file.
const LONG_TRIES: u64 = 112_000;
const LONG_CHANGED: u64 = 100_000;
/// The most samples a block has: four minutes of ten series.
const BLOCK_SAMPLES: usize = 10 * 240;
/// Those a block of hours was made of: twelve minutes of four series.
const OLD_SAMPLES: usize = 4 * 72;
/// Those a segment of the log has of one group: five seconds of four series.
const SEGMENT_SAMPLES: usize = 4 * 5;
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

/// The windows of series of which nothing else is left, by tier and series.
type Windows = BTreeMap<(Tier, String), Vec<Rollup>>;

fn windows(db: &Db) -> Windows {
    let old = [Matcher::new("__name__", MatchOp::Regex, "old.*").unwrap()];
    let mut windows = Windows::new();
    for tier in Tier::ALL {
        let range = (ONLY_HOURS, MINUTES + HOUR_MS);
        let read = db.select_rollups(&old, range, Resolution::Window(tier), 99, 1_000_000);
        for series in read.unwrap().unwrap_or_default().series {
            windows.insert((tier, series.labels.to_string()), series.rollups);
        }
    }
    windows
}

struct Image {
    disk: SimDisk,
    snapshot: SimSnapshot,
    samples: Found,
    windows: Windows,
    /// With what was deleted.
    undeleted: Found,
    /// Samples no block has.
    in_head: usize,
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

/// The same with tiers: samples go after an hour, minutes after three.
fn tiered() -> Options {
    Options {
        retention_ms: HOUR_MS,
        minute_retention_ms: 3 * HOUR_MS,
        hour_retention_ms: 100 * HOUR_MS,
        ..merging()
    }
}

/// Twelve minutes of four series, rolled up.
fn fill_old(db: &Db, from: i64) {
    for t in (from + 10_000..=from + 12 * MINUTE_MS).step_by(10_000) {
        let of =
            |n: u8| (series(db, 3, &format!("__name__=old{n}")), f64::from(n) + (t % 7) as f64);
        append(db, 3, t, &[of(0), of(1), of(2), of(3)]);
    }
    db.maintain(from + 2 * HOUR_MS).unwrap();
    db.compact(from + 2 * HOUR_MS).unwrap();
}

/// Fresh blocks and merged ones, one with tombstones, a checkpoint, files of the head, a log of
/// several segments; of samples that are gone minutes and hours, some of them deleted, and hours alone.
fn image() -> Image {
    let disk = SimDisk::new(5);
    let (db, _) = open_with(&disk, tiered());
    fill_old(&db, ONLY_HOURS);
    fill_old(&db, MINUTES);
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
    let of_old = [Matcher::equal("__name__", "old1")];
    let deleted = (MINUTES + 3 * MINUTE_MS, MINUTES + 5 * MINUTE_MS);
    db.delete_series(&of_old, deleted.0, deleted.1, START).unwrap();
    db.close().unwrap();
    // What removals left is gone with the next start.
    let (db, _) = open_with(&disk, tiered());
    fill_durably(&db, START + 570_000, 5);
    drop(db);
    let (db, _) = open_with(&disk, tiered());
    fill_durably(&db, START + 575_000, 5);
    let (now, then) = (found(&db), undeleted);
    let in_head = usize::try_from(db.stats().head_samples).unwrap();
    let windows = windows(&db);
    assert!(windows.values().all(|windows| !windows.is_empty()), "{windows:?}");
    drop(db);
    let undeleted = join(&then, &now);
    let files: Vec<_> = files(&disk, Path::new(DIR));
    let of = |part| files.iter().filter(|path| part_of(path) == part).count();
    assert!(of("meta") == 4 && of("tombstones") == 2 && of("spare") == 4, "{files:?}");
    assert!(of("log") >= 3 && of("checkpoint") == 1 && of("head") > 0, "{files:?}");
    let marks = [of("sealed"), of("stale"), of("tier tombstones"), of("tier spare")];
    assert!(of("tier meta") >= 6 && marks.iter().all(|count| *count >= 2), "{files:?}");
    Image { snapshot: disk.snapshot(), disk, samples: now, windows, undeleted, in_head, files }
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
    let is_tier = name.contains("/tiers/");
    match &*last {
        _ if name.contains("/wal/") => "log",
        _ if name.contains("/checkpoint-") => "checkpoint",
        _ if name.contains("/head/") => "head",
        "stale" => "stale",
        "sealed" => "sealed",
        "meta" if is_tier => "tier meta",
        "index" if is_tier => "tier index",
        "chunks" if is_tier => "tier chunks",
        "spare" if is_tier => "tier spare",
        _ if is_tier => "tier tombstones",
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
            if bytes.is_empty() {
                bytes.extend(dice(seed, 4).to_le_bytes());
            }
            let page_bytes = if bytes.len() > PAGE_BYTES { PAGE_BYTES } else { SMALL_PAGE_BYTES };
            let at = below(seed, 4, bytes.len());
            let page = at / page_bytes * page_bytes;
            let end = (page + page_bytes).min(bytes.len());
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
                    let from = below(seed, 6, bytes.len()) / page_bytes * page_bytes;
                    let source = bytes[from..(from + page_bytes).min(bytes.len())].to_vec();
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

    /// How many samples of a series' windows are lost, of one tier at most; those that are left are what they
    /// were, as fine or not.
    fn lost_of_windows(&self, db: &Db, case: &str) -> usize {
        let left = windows(db);
        let mut lost = Tier::ALL.map(|_| 0);
        for ((tier, labels), whole) in &self.windows {
            let known =
                Tier::ALL.into_iter().filter_map(|tier| self.windows.get(&(tier, labels.clone())));
            let known: Vec<&Rollup> = known.flatten().collect();
            let found = left.get(&(*tier, labels.clone())).map_or([].as_slice(), Vec::as_slice);
            for window in found {
                // Or what is left of one.
                let is_part = |whole: &&&Rollup| {
                    whole.first_t <= window.first_t
                        && window.last_t <= whole.last_t
                        && window.count < whole.count
                        && whole.min <= window.min
                        && window.max <= whole.max
                };
                let is_known = known.contains(&window) || known.iter().any(|one| is_part(&one));
                assert!(is_known, "{case}: {labels}: {window:?}");
            }
            let count = |windows: &[Rollup]| windows.iter().map(|r| r.count).sum::<u64>();
            lost[*tier as usize] += count(whole).saturating_sub(count(found));
        }
        let unknown = left.keys().find(|key| !self.windows.contains_key(*key));
        assert_eq!(unknown, None, "{case}");
        usize::try_from(lost.into_iter().max().unwrap()).unwrap()
    }

    /// What a change may cost at most, in samples.
    fn most(&self, part: &str, kind: &str) -> usize {
        match (part, kind) {
            // Nothing of it is gone, or another file has all.
            (_, "copied" | "longer") => 0,
            ("meta" | "index" | "spare" | "tombstones", _) => 0,
            ("tier meta" | "tier index" | "tier spare" | "tier tombstones", _) => 0,
            ("stale" | "sealed", _) => 0,
            // A bit costs its chunk; one of timestamps costs those who share it.
            ("chunks", "bit") => 4 * 240,
            ("chunks", _) => BLOCK_SAMPLES,
            ("tier chunks", _) => OLD_SAMPLES,
            ("head", "bit") => 16,
            // Its record; of definitions what the segment has of these series.
            ("log", "bit") => SEGMENT_SAMPLES,
            ("head" | "log" | "checkpoint", _) => self.in_head,
            _ => panic!("{part}"),
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
        let is_in_log = part == "head" && !matches!(kind, "longer" | "cut");
        // That there is a mark is all that counts of one, and one that is damaged says it of all of its block;
        // a block of a tier that is there twice is one, and goes with it.
        let is_mark = matches!(part, "stale" | "sealed");
        let is_twin = part.starts_with("tier ") && kind == "copied";
        let is_unneeded = !is_found && (is_in_log || is_mark || is_twin);
        tally.unneeded += u64::from(is_unneeded);
        let is_unknowable = !is_found && !is_torn && !is_unneeded;
        tally.unknowable += u64::from(is_unknowable);
        assert!(!is_torn || part == "log", "{case}: taken for a crash");
        assert!(!is_unknowable || may_be_unknowable, "{case}: not found");
        // Half of them are repaired first.
        let is_repaired = dice(seed, 7).is_multiple_of(2);
        if is_repaired {
            fsck(&disk, Path::new(DIR), Some((START, &tiered()))).unwrap();
            let again = fsck(&disk, Path::new(DIR), None).unwrap();
            assert_eq!(again.damage, [], "{case}");
        }
        let (db, recovery) = open_with(&self.disk, tiered());
        let left = found(&db);
        // What was deleted does not come back.
        let back = beyond(&left, &self.samples, &case);
        assert_eq!(beyond(&left, &self.undeleted, &case), 0, "{case}");
        assert_eq!(back, 0, "{case}: are back");
        let lost = beyond(&self.samples, &left, &case) + self.lost_of_windows(&db, &case);
        tally.lost_most = tally.lost_most.max(lost);
        let most = if is_unneeded { 0 } else { self.most(part, kind) };
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
        let (db, _) = open_with(&self.disk, tiered());
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
            assert!(report.blocks == 11 && report.chunks > 20 && report.records > 5, "{report:?}");
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
    let least = if count >= LONG_TRIES { LONG_CHANGED } else { count * 7 / 10 };
    assert!(only.is_some() || cases >= least, "{cases} of {count}");
}

#[test]
fn a_block_that_is_there_twice_counts_once() {
    let image = image();
    for path in image.files.iter().filter(|path| part_of(path) == "meta") {
        image.disk.restore(&image.snapshot);
        assert!(image.copy(path));
        let (db, recovery) = open_with(&image.disk, tiered());
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
