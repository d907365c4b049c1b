//! Reads that fail: a bad sector costs the chunks that lie in it, what cannot be opened today is not
//! thrown away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stoa_tsdb::{Batch, Db, GroupId, Options, Recovery, Row};
use stoa_wal::disk::SimDisk;
use stoa_wal::{Disk, DiskFile, DiskRead};

use crate::{DIR, MINUTE_MS, START, Samples, all, append, files, fill, options, series};

/// A disk of which some bytes cannot be read and some files cannot be opened.
#[derive(Clone, Debug)]
pub(crate) struct BadDisk {
    pub(crate) disk: SimDisk,
    bad: Arc<Mutex<Bad>>,
}

#[derive(Debug, Default)]
struct Bad {
    /// A part of a path, and the bytes from and to.
    sectors: Vec<(String, u64, u64)>,
    /// Parts of paths.
    closed: Vec<String>,
    /// So far.
    reads: u64,
    /// The next read of a path with this in it says so and waits until the other end is gone.
    gate: Option<(&'static str, Sender<()>, Receiver<()>)>,
}

#[derive(Debug)]
struct BadRead {
    path: String,
    file: Box<dyn DiskRead>,
    bad: Arc<Mutex<Bad>>,
}

impl DiskRead for BadRead {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut bad = self.bad.lock().unwrap();
        bad.reads += 1;
        let end = offset + buf.len() as u64;
        let is_bad = |(part, from, to): &(String, u64, u64)| {
            self.path.contains(part.as_str()) && offset < *to && end > *from
        };
        if bad.sectors.iter().any(is_bad) {
            return Err(io::Error::other("simulated: bad sector"));
        }
        let gate = bad.gate.take_if(|(part, ..)| self.path.contains(*part));
        drop(bad);
        if let Some((_, reached, opened)) = gate {
            drop(reached);
            assert!(opened.recv().is_err());
        }
        self.file.read_exact_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

impl Disk for BadDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>> {
        let name = path.display().to_string();
        if self.bad.lock().unwrap().closed.iter().any(|part| name.contains(part.as_str())) {
            return Err(io::Error::other("simulated: too many open files"));
        }
        let file = self.disk.open(path)?;
        Ok(Box::new(BadRead { path: name, file, bad: Arc::clone(&self.bad) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}

impl BadDisk {
    pub(crate) fn new() -> Self {
        Self { disk: SimDisk::new(17), bad: Arc::default() }
    }

    /// Does some work on a thread of its own, and something else while it waits for its first read of a
    /// path with `part` in it.
    pub(crate) fn meanwhile(
        &self,
        part: &'static str,
        work: impl FnOnce() + Send,
        meanwhile: impl FnOnce(),
    ) {
        let (reached_tx, reached) = channel::<()>();
        let (open, opened) = channel::<()>();
        self.bad.lock().unwrap().gate = Some((part, reached_tx, opened));
        std::thread::scope(|scope| {
            // Dropped by a panic too.
            let open = open;
            scope.spawn(work);
            // Hung up on by the read that waits.
            assert!(reached.recv_timeout(Duration::from_secs(30)).is_err());
            assert!(self.bad.lock().unwrap().gate.is_none(), "nothing was read");
            meanwhile();
            drop(open);
        });
    }

    pub(crate) fn open_db(&self, options: Options) -> (Db, Recovery) {
        Db::open(Arc::new(self.clone()), Path::new(DIR), options, START).unwrap()
    }

    pub(crate) fn spoil(&self, part: &str, from: u64, to: u64) {
        self.bad.lock().unwrap().sectors.push((part.to_owned(), from, to));
    }

    pub(crate) fn close(&self, part: &str) {
        self.bad.lock().unwrap().closed.push(part.to_owned());
    }

    pub(crate) fn heal(&self) {
        *self.bad.lock().unwrap() = Bad::default();
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<PathBuf> {
        files(&self.disk, &Path::new(DIR).join(dir))
    }
}

/// Long blocks, and a checkpoint with each maintenance.
fn long_blocks() -> Options {
    Options { block_ms: 60 * MINUTE_MS, log_bytes_max: 0, ..options() }
}

fn missing(expected: &Samples, db: &Db) -> usize {
    let found = all(db);
    assert!(found.iter().all(|(key, v)| expected.get(key) == Some(v)));
    expected.len() - found.len()
}

#[test]
fn a_bad_sector_of_the_head_costs_its_chunks_and_blocks_are_cut_all_the_same() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(long_blocks());
    fill(&db, START, 100);
    db.maintain(START).unwrap();
    db.sync().unwrap();
    let expected = all(&db);
    // The checksum of the first chunk of the file.
    disk.spoil("/head/", 16, 18);
    drop(db);
    let image = disk.disk.snapshot();
    // Met by a start: the chunk is left out, its window and the file are not.
    let (db, recovery) = disk.open_db(long_blocks());
    assert_eq!((recovery.chunks_damaged, recovery.damaged), (1, 1), "{:?}", recovery.damage);
    let lost = missing(&expected, &db);
    assert!((8..=16).contains(&lost), "{lost}");
    drop(db);
    // Met by the cut of a block.
    disk.heal();
    disk.disk.restore(&image);
    let (db, _) = disk.open_db(long_blocks());
    disk.spoil("/head/", 16, 18);
    assert_eq!(db.maintain(START + 70 * MINUTE_MS).unwrap().blocks_written, 1);
    assert_eq!((missing(&expected, &db), db.stats().chunks_damaged), (lost, 1));
    // The disk may give it another day.
    let aside = disk.names("quarantine");
    assert!(aside.iter().any(|path| path.to_string_lossy().contains("head-")), "{aside:?}");
    assert!(disk.names("head").is_empty());
    // A file that ends early is damaged at once.
    disk.heal();
    disk.disk.restore(&image);
    let (db, _) = disk.open_db(long_blocks());
    let file = disk.names("head").pop().unwrap();
    disk.disk.corrupt(&file, |bytes| bytes.truncate(bytes.len() - 1)).unwrap();
    assert_eq!(db.maintain(START + 70 * MINUTE_MS).unwrap().blocks_written, 1);
    assert_eq!(db.stats().chunks_damaged, 1);
}

#[test]
fn a_bad_sector_of_a_block_costs_its_chunks_and_the_merge_is_done_once() {
    let disk = BadDisk::new();
    let options = Options { compaction_ms: vec![3 * MINUTE_MS], ..options() };
    let (db, _) = disk.open_db(options.clone());
    fill(&db, START, 6 * 60);
    db.maintain(START + 6 * MINUTE_MS).unwrap();
    let expected = all(&db);
    db.close().unwrap();
    let (db, _) = disk.open_db(options);
    let mut chunks = disk.names("blocks").into_iter().filter(|path| path.ends_with("chunks"));
    let inner = chunks.nth(2).unwrap();
    let bytes = disk.disk.open(&inner).unwrap().size().unwrap();
    // Of the last series.
    disk.spoil(&inner.display().to_string(), bytes - 2, bytes);
    let done = db.compact(START + 30 * MINUTE_MS).unwrap();
    assert!(done.merges >= 1 && done.chunks_damaged == 1, "{done:?}");
    let lost = missing(&expected, &db);
    assert!((1..=60).contains(&lost), "{lost}");
    let again = db.compact(START + 60 * MINUTE_MS).unwrap();
    assert_eq!((again.merges, missing(&expected, &db)), (0, lost));
    let aside = disk.names("quarantine");
    assert!(aside.iter().any(|path| path.ends_with("chunks")), "{aside:?}");
}

#[test]
fn what_a_checkpoint_names_survives_a_start_that_cannot_read_it() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(long_blocks());
    fill(&db, START, 100);
    db.maintain(START).unwrap();
    let expected = all(&db);
    db.close().unwrap();
    let head = disk.names("head");
    assert!(!head.is_empty());
    disk.close("/checkpoint-");
    let (db, recovery) = disk.open_db(long_blocks());
    assert!(recovery.damaged > 0 && missing(&expected, &db) > 0);
    // What is taken by such a start is there after it.
    let a = series(&db, 9, "__name__=a");
    append(&db, 9, START + 200_000, &[(a, 1.0)]);
    db.close().unwrap();
    disk.heal();
    assert_eq!(disk.names("head"), head);
    let (db, recovery) = disk.open_db(long_blocks());
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    assert_eq!(all(&db).len(), expected.len() + 1);
    db.close().unwrap();
    // A maintenance after such a start keeps both aside.
    disk.close("/checkpoint-");
    let (db, _) = disk.open_db(long_blocks());
    disk.heal();
    assert!(db.maintain(START).unwrap().checkpointed);
    let aside: Vec<String> =
        disk.names("quarantine").iter().map(|path| path.display().to_string()).collect();
    for part in ["-head-", "-checkpoint-"] {
        assert!(aside.iter().any(|path| path.contains(part)), "{part} in {aside:?}");
    }
    db.close().unwrap();
    let (_, recovery) = disk.open_db(long_blocks());
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
}

#[test]
fn what_is_sent_again_is_looked_up_window_by_window() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(long_blocks());
    let refs: Vec<_> = (0..100).map(|n| series(&db, 5, &format!("__name__=m,n={n}"))).collect();
    let row = |second: i64| Row {
        t_ms: START + second * 1000,
        samples: refs.iter().map(|series| (*series, 1.0 / (second + 3) as f64)).collect(),
    };
    let batch = |seconds: std::ops::Range<i64>| Batch {
        group: GroupId(5),
        rows: seconds.map(row).collect(),
        marks: vec![],
    };
    assert_eq!(db.append(&batch(0..100)).unwrap().stored, 10_000);
    db.maintain(START).unwrap();
    let expected = all(&db);
    disk.heal();
    // All known, but for a row that was never sent and one of other values.
    let mut again = batch(0..64);
    again.rows.push(Row { t_ms: START + 500, samples: vec![(refs[7], 1.0)] });
    again.rows[3].samples[0].1 = -1.0;
    let appended = db.append(&again).unwrap();
    assert_eq!((appended.stored, appended.duplicate, appended.conflicting), (1, 6399, 1));
    // Windows of 16 ticks, the first shorter.
    let reads = disk.bad.lock().unwrap().reads;
    assert!((4..=6).contains(&reads), "{reads}");
    // Also by a start, of the log.
    db.close().unwrap();
    disk.heal();
    let (db, recovery) = disk.open_db(long_blocks());
    assert_eq!((recovery.damaged, all(&db).len()), (0, expected.len() + 1));
}

#[test]
fn a_bad_sector_of_a_block_costs_a_query_the_chunks_that_lie_in_it() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(long_blocks());
    fill(&db, START, 3000);
    assert_eq!(db.maintain(START + 70 * MINUTE_MS).unwrap().blocks_written, 1);
    let expected = all(&db);
    let chunks = disk.names("blocks").into_iter().find(|path| path.ends_with("chunks")).unwrap();
    let bytes = disk.disk.open(&chunks).unwrap().size().unwrap();
    // The end of the last chunk of the last series, which has several.
    disk.spoil(&chunks.display().to_string(), bytes - 2, bytes);
    let lost = missing(&expected, &db);
    assert!((1..=1024).contains(&lost), "{lost}");
    assert_eq!(db.stats().chunks_damaged, 1);
    // A disk that gives nothing is not asked for every chunk.
    disk.spoil("chunks", 0, bytes);
    let before = disk.bad.lock().unwrap().reads;
    assert!(missing(&expected, &db) > expected.len() / 2);
    let reads = disk.bad.lock().unwrap().reads - before;
    assert!(reads < 400, "{reads}");
}

#[test]
fn what_is_sent_again_is_read_from_a_slow_disk_while_others_append() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(long_blocks());
    fill(&db, START, 100);
    db.maintain(START).unwrap();
    let (reached_tx, reached) = channel::<()>();
    let (open, opened) = channel::<()>();
    disk.bad.lock().unwrap().gate = Some(("/head/", reached_tx, opened));
    let other = series(&db, 7, "__name__=other");
    std::thread::scope(|scope| {
        // Dropped by a panic too: then the gate opens and all threads end.
        let open = open;
        let again = scope.spawn(|| {
            let a = series(&db, 0, "__name__=m0,g=0");
            append(&db, 0, START + 3000, &[(a, 7.0)])
        });
        // Hung up on by the read that waits.
        assert!(reached.recv_timeout(Duration::from_secs(30)).is_err());
        assert!(disk.bad.lock().unwrap().gate.is_none(), "nothing was read");
        let (done, is_done) = channel();
        let db = &db;
        scope.spawn(move || done.send(append(db, 7, START + 101_000, &[(other, 1.0)]).stored));
        assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok(1));
        drop(open);
        assert_eq!(again.join().unwrap().duplicate, 1);
    });
}

#[test]
fn a_block_that_cannot_be_read_today_is_there_tomorrow() {
    let disk = BadDisk::new();
    let options = Options { compaction_ms: vec![3 * MINUTE_MS], ..options() };
    let (db, _) = disk.open_db(options.clone());
    fill(&db, START, 6 * 60);
    db.maintain(START + 6 * MINUTE_MS).unwrap();
    db.compact(START + 6 * MINUTE_MS).unwrap();
    let expected = all(&db);
    db.close().unwrap();
    let before = disk.names("blocks");
    for part in
        ["/blocks/", "/meta", "/index", "/chunks", before[0].parent().unwrap().to_str().unwrap()]
    {
        disk.close(part);
        let (db, recovery) = disk.open_db(options.clone());
        assert_eq!(recovery.damaged, 0, "{part}: {:?}", recovery.damage);
        assert!(!recovery.unread.is_empty(), "{part}");
        assert_eq!(db.stats().blocks_unread, recovery.unread.len() as u64);
        let found = all(&db);
        assert!(expected.keys().any(|key| !found.contains_key(key)), "{part}");
        // What is deleted now must not come back with it.
        let matchers = [stoa_model::Matcher::equal("__name__", "m1")];
        db.delete_series(&matchers, START, START + 1000, START).unwrap_err();
        // Of these some can be read no better.
        drop(db.maintain(START + 6 * MINUTE_MS));
        // Blocks written meanwhile have numbers of their own.
        fill(&db, START + 3_600_000, 60);
        drop(db.maintain(START + 3_600_000 + 3 * MINUTE_MS));
        disk.heal();
        db.maintain(START + 3_600_000 + 3 * MINUTE_MS).unwrap();
        assert_eq!(db.stats().blocks_unread, 0, "{part}");
        let found = all(&db);
        assert!(expected.iter().all(|(key, v)| found.get(key) == Some(v)), "{part}");
        assert!(!disk.disk.exists(&Path::new(DIR).join("quarantine")).unwrap(), "{part}");
        db.close().unwrap();
    }
    // A merged block and the ones it was merged from: only one of them counts, whichever was found first.
    let (db, _) = disk.open_db(options.clone());
    let expected = all(&db);
    db.close().unwrap();
    let parents = disk.disk.snapshot();
    let (db, _) = disk.open_db(options.clone());
    assert!(db.compact(START + 48 * 60 * MINUTE_MS).unwrap().merges > 0);
    db.close().unwrap();
    let merged: Vec<_> = disk.names("blocks").into_iter().filter(|p| !before.contains(p)).collect();
    let bytes: Vec<_> = merged.iter().map(|path| disk.disk.read(path).unwrap()).collect();
    disk.disk.restore(&parents);
    for (path, bytes) in merged.iter().zip(&bytes) {
        disk.disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.disk.replace(path, bytes).unwrap();
    }
    let both = disk.disk.snapshot();
    for late in [&merged[0], &before[0]] {
        disk.disk.restore(&both);
        disk.close(late.parent().unwrap().to_str().unwrap());
        let (db, recovery) = disk.open_db(options.clone());
        assert_eq!((recovery.damaged, recovery.unread.len()), (0, 1));
        disk.heal();
        db.maintain(START + 3_600_000 + 3 * MINUTE_MS).unwrap();
        assert_eq!(all(&db), expected);
        let stats = db.stats();
        assert_eq!(stats.block_samples + stats.head_samples, expected.len() as u64);
    }
}

#[test]
fn a_spare_that_cannot_be_read_today_is_no_damage() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(options());
    fill(&db, START, 90);
    db.maintain(START + 2 * MINUTE_MS).unwrap();
    let expected = all(&db);
    db.close().unwrap();
    let image = disk.disk.snapshot();
    // What is damaged beside it, and from where on the spare cannot be read: not opened, not its front,
    // not its end.
    let spares = disk.names("blocks").into_iter().filter(|path| path.ends_with("spare"));
    let end = spares.map(|path| disk.disk.open(&path).unwrap().size().unwrap()).min().unwrap();
    let faults: [&dyn Fn(&BadDisk); 3] =
        [&|disk| disk.close("/spare"), &|disk| disk.spoil("/spare", 0, 1), &|disk| {
            disk.spoil("/spare", end - 1, u64::MAX)
        }];
    for beside in ["", "meta", "index"] {
        for (nth, fault) in faults.iter().enumerate() {
            let case = format!("{beside}, {nth}");
            disk.disk.restore(&image);
            let is_beside = |path: &&PathBuf| path.file_name().is_some_and(|name| name == beside);
            for path in disk.names("blocks").iter().filter(is_beside) {
                disk.disk.corrupt(path, |bytes| bytes.fill(7)).unwrap();
            }
            fault(&disk);
            let (db, recovery) = disk.open_db(options());
            let is_whole = beside.is_empty() || (beside, nth) == ("meta", 2);
            assert_eq!(recovery.damaged > 0, (beside, nth) == ("meta", 2), "{case}");
            assert_eq!(all(&db) == expected, is_whole, "{case}");
            db.maintain(START + 2 * MINUTE_MS).unwrap();
            let stats = db.stats();
            assert_eq!(stats.blocks_quarantined, 0, "{case}");
            // It is there tomorrow, without a start.
            disk.heal();
            db.maintain(START + 2 * MINUTE_MS).unwrap();
            assert_eq!(all(&db), expected, "{case}");
            assert_eq!(db.stats().blocks_quarantined, 0, "{case}");
            if beside == "index" {
                // Of what a query met by then.
                db.maintain(START + 2 * MINUTE_MS).unwrap();
                assert_eq!(db.stats().block_files_mended, 2, "{case}");
            }
        }
    }
}

#[test]
fn a_block_that_turns_out_damaged_when_it_can_be_read_is_missed_from_then_on() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(options());
    fill(&db, START, 90);
    db.maintain(START + 2 * MINUTE_MS).unwrap();
    db.close().unwrap();
    let mut metas = disk.names("blocks").into_iter().filter(|path| path.ends_with("meta"));
    let block = metas.next_back().unwrap().parent().unwrap().to_owned();
    disk.close(block.to_str().unwrap());
    let (db, _) = disk.open_db(options());
    let missing = |from| {
        let found = db.missing(from, from);
        found.iter().find(|missing| missing.path == block).map(|missing| missing.times)
    };
    assert_eq!(missing(START), Some((i64::MIN, i64::MAX)), "nobody knows what it has");
    for file in ["meta", "spare"] {
        disk.disk.corrupt(&block.join(file), |bytes| bytes.fill(7)).unwrap();
    }
    disk.heal();
    db.maintain(START + 2 * MINUTE_MS).unwrap();
    assert_eq!((db.stats().blocks_unread, db.stats().blocks_quarantined), (0, 1));
    assert_eq!(missing(START), Some((i64::MIN, START + 2 * MINUTE_MS)));
    assert_eq!(missing(START + 3 * MINUTE_MS), None);
    assert_eq!(db.take_damage().0.len(), 1);
}

#[test]
fn a_segment_of_the_log_that_cannot_be_opened_today_is_kept() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(options());
    let a = series(&db, 1, "__name__=a");
    append(&db, 1, START, &[(a, 1.0)]);
    db.close().unwrap();
    let segment = disk.names("wal").pop().unwrap();
    let bytes = disk.disk.read(&segment).unwrap();
    disk.close(&segment.display().to_string());
    let (db, recovery) = disk.open_db(options());
    assert_eq!((recovery.damaged, recovery.marks_held_back), (1, true), "{:?}", recovery.damage);
    assert!(all(&db).is_empty());
    assert_ne!(series(&db, 1, "__name__=b"), a, "a reference it gave is not given again");
    // A start that finds it again has all.
    drop(db);
    disk.heal();
    let (db, recovery) = disk.open_db(options());
    assert_eq!((recovery.damaged, all(&db).len()), (0, 1), "{:?}", recovery.damage);
    drop(db);
    // The log is cut there: what it holds may be wanted yet.
    disk.close(&segment.display().to_string());
    let (db, _) = disk.open_db(options());
    assert!(db.maintain(START + MINUTE_MS).unwrap().checkpointed);
    assert!(!disk.disk.exists(&segment).unwrap());
    let aside = disk.names("quarantine");
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(disk.disk.read(&aside[0]).unwrap(), bytes);
    drop(db);
    let (_db, recovery) = disk.open_db(options());
    assert_eq!((recovery.damaged, recovery.marks_held_back), (0, false), "{:?}", recovery.damage);
}

#[test]
fn a_bad_sector_within_damage_of_the_log_costs_what_is_kept_of_it_no_more() {
    let disk = BadDisk::new();
    let (db, _) = disk.open_db(options());
    for group in 0..300u64 {
        let name = format!("__name__=a,text={}", "x".repeat(500));
        append(&db, group, START, &[(series(&db, group, &name), 1.0)]);
        db.sync().unwrap();
    }
    db.close().unwrap();
    let segment = disk.names("wal").pop().unwrap();
    // Headers are gone as well: one long place.
    disk.disk.corrupt(&segment, |bytes| bytes[8192..100_000].fill(7)).unwrap();
    disk.spoil("/wal/", 16_384, 16_385);
    let (_db, recovery) = disk.open_db(options());
    let kept = recovery.quarantined.iter().map(|path| disk.disk.read(path).unwrap());
    let sevens = |bytes: &Vec<u8>| bytes.iter().filter(|byte| **byte == 7).count();
    let most = kept.map(|bytes| sevens(&bytes)).max();
    assert!(most.is_some_and(|most| (80_000..100_000).contains(&most)), "{most:?}");
}
