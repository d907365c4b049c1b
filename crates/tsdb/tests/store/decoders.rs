//! Nonsense behind checksums that hold: what a bug of an earlier version, or somebody who means it, could
//! leave on the disk. Records of log and checkpoint, every section of an index, meta, spare, tombstones
//! and chunks are changed and given new checksums; then the database is opened, asked, checked and merged.
//! It never panics, never takes long and never takes memory for what a number says. `STOA_DECODES` says how
//! many, and a failure names its seed: `STOA_SEED` repeats one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoa_model::{Matcher, Rollup, RollupFold, stale_nan};
use stoa_tsdb::chunk::{
    Codec, Effort, decode_histograms, decode_rollups, decode_times, decode_values,
    encode_histograms, encode_rollups, encode_times, encode_values_as,
};
use stoa_tsdb::fsck;
use stoa_wal::disk::{SimDisk, SimSnapshot};
use stoa_wal::{Disk, Entry, Reader, Wal, WalOptions};

use crate::formats::{copy_in, golden_dir};
use crate::histograms::{all_histograms, histogram};
use crate::mutations::{below, dice, merging};
use crate::{DIR, MINUTE_MS, START, files, fill, open_with};

/// No case takes as long on any machine, unless it does not end.
const LONGEST: Duration = Duration::from_secs(20);
/// Address space one case may add, with what threads of other tests reserve.
const MOST_KIB: u64 = 1 << 20;
/// Chunks tried for each database.
const CHUNKS_PER_CASE: u64 = 40;

/// The most address space since the process began: what was asked for counts, touched or not.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Numbers drawn one after the other from a seed.
struct Draw(u64, u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.1 += 1;
        below(self.0, self.1, end)
    }

    fn word(&mut self) -> u64 {
        self.1 += 1;
        dice(self.0, self.1)
    }

    /// Changes a few places; the length stays where it has to.
    fn change(&mut self, bytes: &mut Vec<u8>, keeps_length: bool) {
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let most = (bytes.len() - at).min(1 + self.below(12));
            match self.below(if keeps_length { 4 } else { 8 }) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                // The longest varints.
                2 => bytes[at..at + most].fill(0xff),
                3 => {
                    let from = self.below(bytes.len() - most + 1);
                    bytes.copy_within(from..from + most, at);
                }
                4 => bytes.truncate(at),
                5 => drop(bytes.drain(at..at + most)),
                6 => {
                    let word = self.word();
                    bytes.splice(at..at, word.to_le_bytes());
                }
                _ => {
                    let part = bytes[at..at + most].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn bound_crc(sequence: u64, offset: u64, bytes: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes).to_le_bytes()
}

struct World {
    disk: SimDisk,
    snapshot: SimSnapshot,
    files: Vec<PathBuf>,
}

impl World {
    fn new() -> Self {
        let disk = SimDisk::new(3);
        copy_in(&disk, &golden_dir("v6"), Path::new(DIR));
        let files = files(&disk, Path::new(DIR));
        Self { snapshot: disk.snapshot(), disk, files }
    }

    /// A file of a name, of one block or another.
    fn file(&self, draw: &mut Draw, name: &str) -> PathBuf {
        let named: Vec<_> = self.files.iter().filter(|path| path.ends_with(name)).collect();
        named[draw.below(named.len())].clone()
    }

    fn sequence(&self, path: &Path) -> u64 {
        u64_at(&self.disk.read(&path.with_file_name("meta")).unwrap(), 12)
    }

    /// Records of the log or the checkpoint, some of them changed.
    fn records(&self, draw: &mut Draw, dir: &Path, first: u64) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut records: Vec<(u8, Vec<u8>)> = Reader::open(Arc::clone(&disk), dir, 0)
            .unwrap()
            .filter_map(|entry| match entry {
                Entry::Record { kind, payload, .. } => Some((kind, payload)),
                Entry::Damage { .. } => None,
            })
            .collect();
        for _ in 0..=draw.below(2) {
            let at = draw.below(records.len());
            draw.change(&mut records[at].1, false);
            if draw.below(8) == 0 {
                let kinds = [1, 2, 3, 6, 16, 17, 18, 19, 20, 21, 22];
                records[at].0 = kinds[draw.below(kinds.len())];
            }
        }
        disk.remove_dir_all(dir).unwrap();
        disk.create_dir_all(dir).unwrap();
        if first > 1 {
            disk.create(&dir.join(format!("{:016x}.wal", first - 1))).unwrap();
        }
        let mut wal = Wal::open(disk, dir, WalOptions::default()).unwrap();
        for (kind, payload) in records {
            wal.append(kind, &payload).unwrap();
        }
        wal.sync().unwrap();
    }

    fn index(&self, draw: &mut Draw) {
        let path = self.file(draw, "index");
        let sequence = self.sequence(&path);
        self.disk
            .corrupt(&path, |bytes| {
                let sections = if bytes[8] == 2 { 6 } else { 5 };
                let footer = bytes.len() - (sections * 20 + 28);
                let entry = footer + draw.below(sections) * 20;
                let (from, len) = (u64_at(bytes, entry), u64_at(bytes, entry + 8));
                let range = usize::try_from(from).unwrap()..usize::try_from(from + len).unwrap();
                let mut section = bytes[range.clone()].to_vec();
                draw.change(&mut section, true);
                bytes[entry + 16..entry + 20].copy_from_slice(&bound_crc(sequence, from, &section));
                bytes[range].copy_from_slice(&section);
                if draw.below(6) == 0 {
                    // One of the counts.
                    let at = footer + sections * 20 + draw.below(16);
                    bytes[at] ^= 1 << draw.below(8);
                }
                let end = footer + sections * 20 + 16;
                let crc = bound_crc(sequence, footer as u64, &bytes[footer..end]);
                bytes[end..end + 4].copy_from_slice(&crc);
            })
            .unwrap();
    }

    fn meta(&self, draw: &mut Draw) {
        let path = self.file(draw, "meta");
        self.disk
            .corrupt(&path, |bytes| {
                let mut body = bytes[10..bytes.len() - 4].to_vec();
                draw.change(&mut body, false);
                bytes.truncate(10);
                bytes.extend(body);
                let crc = crc32c::crc32c(bytes).to_le_bytes();
                bytes.extend(crc);
            })
            .unwrap();
        if draw.below(2) == 0 {
            self.disk.remove_file(&path.with_file_name("spare")).unwrap();
        }
    }

    /// A spare that is needed.
    fn spare(&self, draw: &mut Draw) {
        let path = self.file(draw, "spare");
        let sequence = self.sequence(&path);
        self.disk.remove_file(&path.with_file_name("index")).unwrap();
        self.disk
            .corrupt(&path, |bytes| {
                let at = 40 + u32_at(bytes, 16) as usize;
                let mut parts = bytes[at..].to_vec();
                draw.change(&mut parts, false);
                bytes.truncate(at);
                bytes[24..32].copy_from_slice(&(parts.len() as u64).to_le_bytes());
                bytes[32..36].copy_from_slice(&bound_crc(sequence, at as u64, &parts));
                let crc = bound_crc(sequence, 0, &bytes[..36]);
                bytes[36..40].copy_from_slice(&crc);
                bytes.extend(parts);
            })
            .unwrap();
    }

    fn tombstones(&self, draw: &mut Draw) {
        let name = ["tombstones", "tombstones-2"][draw.below(2)];
        let path = self.file(draw, name);
        let sequence = self.sequence(&path);
        self.disk
            .corrupt(&path, |bytes| {
                let records = (bytes.len() - 36) / 24;
                let at = 36 + draw.below(records) * 24;
                let mut body = bytes[at..at + 20].to_vec();
                draw.change(&mut body, true);
                bytes[at..at + 20].copy_from_slice(&body);
                bytes[at + 20..at + 24].copy_from_slice(&bound_crc(sequence, at as u64, &body));
                bytes[24] ^= u8::from(draw.below(4) == 0);
                let crc = bound_crc(sequence, 0, &bytes[..32]);
                bytes[32..36].copy_from_slice(&crc);
            })
            .unwrap();
    }

    /// Changes something, opens the database and does with it what there is to do.
    fn check(&self, seed: u64) -> &'static str {
        self.disk.restore(&self.snapshot);
        let mut draw = Draw(seed, 0);
        let dir = Path::new(DIR);
        let checkpoint =
            self.files.iter().find(|path| path.to_string_lossy().contains("checkpoint-"));
        let what = ["log", "checkpoint", "index", "meta", "spare", "tombstones"][draw.below(6)];
        match what {
            "log" => self.records(&mut draw, &dir.join("wal"), 0x0c),
            "checkpoint" => self.records(&mut draw, checkpoint.unwrap().parent().unwrap(), 1),
            "index" => self.index(&mut draw),
            "meta" => self.meta(&mut draw),
            "spare" => self.spare(&mut draw),
            _ => self.tombstones(&mut draw),
        }
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        drop(fsck(&disk, dir, None).unwrap());
        if draw.below(4) == 0 {
            // What cannot be repaired is an error, and no panic.
            drop(fsck(&disk, dir, Some((START, &merging()))));
        }
        let (db, _) = open_with(&self.disk, merging());
        // A number of ticks beyond all bounds is not answered.
        drop(db.select(&[], i64::MIN, i64::MAX, 10_000, 10_000_000));
        drop(db.label_values("host", &[], i64::MIN, i64::MAX, 100));
        drop(all_histograms(&db));
        fill(&db, START + 60 * MINUTE_MS, 2);
        drop(db.maintain(START + 61 * MINUTE_MS));
        drop(db.delete_series(&[Matcher::equal("g", "1")], START, i64::MAX, START));
        drop(db.compact(START + 300 * MINUTE_MS));
        drop(db.clean_tombstones(START + 300 * MINUTE_MS));
        drop(db.close());
        let (db, _) = open_with(&self.disk, merging());
        drop(db.select(&[], i64::MIN, i64::MAX, 10_000, 10_000_000));
        what
    }
}

/// Windows of a minute, one in eight with nothing but the end of the series.
fn rollups(draw: &mut Draw, count: usize) -> Vec<Rollup> {
    let window = |_| {
        let mut fold = RollupFold::default();
        let is_ended = draw.below(8) == 0;
        for n in 0..1 + draw.below(4) as i64 {
            let v =
                [7.0, draw.below(1000) as f64 / 10.0, f64::from_bits(draw.word())][draw.below(3)];
            let v = if is_ended { stale_nan() } else { v };
            fold.push(&Rollup::of(n * 15_000 - 59_999 + draw.below(14_000) as i64, v));
        }
        fold.finish().unwrap()
    };
    (0..count).map(window).collect()
}

/// A chunk of any codec gives back what it was made of; with some bytes changed it is an error, or exactly as
/// many entries.
fn check_chunk(seed: u64) {
    let mut draw = Draw(seed, 0);
    let count = 1 + draw.below(300);
    let mut chunk = Vec::new();
    match draw.below(12) {
        10 | 11 => {
            let windows = rollups(&mut draw, count.min(100));
            encode_rollups(&windows, &mut chunk);
            let mut back = Vec::new();
            decode_rollups(&chunk, windows.len(), &mut back).unwrap();
            assert_eq!(back, windows);
        }
        0 => {
            let mut t = START;
            let step = |draw: &mut Draw| [1000, 1000, 1000, 999, 60_000][draw.below(5)];
            let times: Vec<i64> = (0..count)
                .map(|_| {
                    t += step(&mut draw);
                    t
                })
                .collect();
            encode_times(&times, &mut chunk);
            let mut back = Vec::new();
            decode_times(&chunk, count, &mut back).unwrap();
            assert_eq!(back, times);
        }
        1 => {
            let histograms: Vec<_> = (0..count as i64 % 40 + 1).map(|n| histogram(n, 4)).collect();
            let given: Vec<_> = histograms.iter().collect();
            encode_histograms(&given, Effort::Compacted, &mut chunk).unwrap();
            let mut back = Vec::new();
            decode_histograms(&chunk, given.len(), &mut back).unwrap();
            assert_eq!(back, histograms);
        }
        shape => {
            let codec = Codec::ALL[draw.below(Codec::ALL.len())];
            let mut last = 0.0;
            let values: Vec<f64> = (0..count)
                .map(|n| {
                    last += (draw.below(100) / 40) as f64;
                    [7.0, last, last / 10.0, 1.0 / (n + 1) as f64][shape % 4]
                })
                .collect();
            if !encode_values_as(codec, &values, &mut chunk) {
                encode_values_as(Codec::Raw, &values, &mut chunk);
            }
            let mut back = Vec::new();
            decode_values(&chunk, count, &mut back).unwrap();
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(&values));
        }
    }
    draw.change(&mut chunk, false);
    let asked = [count, count, count + 1, 1, 65_535, 65_536, usize::MAX >> 3][draw.below(7)];
    let mut values = Vec::new();
    let whole = decode_values(&chunk, asked, &mut values).is_ok();
    assert!(values.len() <= asked && (!whole || values.len() == asked));
    let mut times = Vec::new();
    assert!(decode_times(&chunk, asked, &mut times).is_err() || times.len() == asked);
    let mut histograms = Vec::new();
    let whole = decode_histograms(&chunk, asked, &mut histograms).is_ok();
    assert!(histograms.len() <= asked && (!whole || histograms.len() == asked));
    let mut rollups = Vec::new();
    let whole = decode_rollups(&chunk, asked, &mut rollups).is_ok();
    assert!(!whole || rollups.len() == asked);
}

/// Says which seed it was.
struct Told(u64);

#[expect(clippy::print_stdout, reason = "says how to see a failure again")]
impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("decoders: STOA_SEED={}", self.0);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is part of it")]
fn nonsense_behind_checksums_that_hold_is_survived() {
    let only = std::env::var("STOA_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("STOA_DECODES").map_or(150, |n| n.parse().unwrap());
    let from = only.unwrap_or(0);
    let world = World::new();
    let mut tried = std::collections::BTreeMap::new();
    let mut longest = Duration::ZERO;
    for seed in from..only.map_or(count, |seed| seed + 1) {
        let _told = Told(seed);
        let (began, before) = (Instant::now(), peak_kib());
        (0..CHUNKS_PER_CASE).for_each(|n| check_chunk(seed * CHUNKS_PER_CASE + n));
        *tried.entry(world.check(seed)).or_insert(0u64) += 1;
        let grown = peak_kib().saturating_sub(before);
        assert!(grown < MOST_KIB, "{grown} KiB more at once");
        longest = longest.max(began.elapsed());
        assert!(longest < LONGEST, "{longest:?}");
    }
    println!("decoders: {tried:?} databases, {CHUNKS_PER_CASE} chunks each, longest {longest:.2?}");
}
