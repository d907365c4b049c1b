use std::path::{Path, PathBuf};

use stoa_tsdb::{Cost, Db};
use stoa_wal::Disk as _;
use stoa_wal::disk::{SimDisk, SimSnapshot};

use crate::{DIR, MINUTE_MS, START, Samples, all, files, fill, open};

/// Three blocks, windows in a file of the head, a checkpoint, a log with a tail.
fn image(disk: &SimDisk) -> Samples {
    let (db, _) = open(disk);
    fill(&db, START, 200);
    db.maintain(START + 3 * MINUTE_MS).unwrap();
    fill(&db, START + 200_000, 30);
    db.sync().unwrap();
    all(&db)
}

struct Image {
    disk: SimDisk,
    snapshot: SimSnapshot,
    samples: Samples,
    files: Vec<PathBuf>,
}

impl Image {
    fn new() -> Self {
        let disk = SimDisk::new(11);
        let samples = image(&disk);
        disk.crash();
        let files = files(&disk, Path::new(DIR));
        Self { snapshot: disk.snapshot(), disk, samples, files }
    }

    /// Opens after a change to a file: it opens, answers nothing wrong, says when something is
    /// missing, takes new samples, and opens again.
    fn check(&self, path: &Path, what: &str, change: impl FnOnce(&mut Vec<u8>)) -> usize {
        let case = format!("{what} in {}", path.display());
        self.disk.restore(&self.snapshot);
        self.disk.corrupt(path, change).unwrap();
        let (db, recovery) = open(&self.disk);
        let lost = self.compare(&db, &case);
        db.maintain(START + 3 * MINUTE_MS).unwrap();
        let stats = db.stats();
        let said = recovery.damaged + stats.chunks_damaged + stats.blocks_quarantined;
        // A last segment that ends early looks like one whose end was never written.
        let is_tail = self.files.last().is_some_and(|last| last == path) && what.starts_with("cut");
        assert!(
            lost == 0 || said > 0 || recovery.torn > 0 || is_tail,
            "{case}: {lost} missing, not a word"
        );
        fill(&db, START + 230_000, 3);
        db.sync().unwrap();
        assert_eq!(self.compare(&db, &case), lost, "{case}");
        db.close().unwrap();
        let (db, _) = open(&self.disk);
        assert!(self.compare(&db, &case) <= lost, "{case}");
        assert!(all(&db).contains_key(&("m0{g=\"0\"}".to_owned(), START + 232_000)), "{case}");
        lost
    }

    /// How many samples are missing; none may be another.
    fn compare(&self, db: &Db, case: &str) -> usize {
        let found = all(db);
        for (key, v) in &found {
            let is_new = key.1 >= START + 230_000;
            assert!(is_new || self.samples.get(key) == Some(v), "{case}: {key:?} is {v}");
        }
        self.samples.keys().filter(|key| !found.contains_key(*key)).count()
    }
}

#[test]
fn no_bit_flip_is_fatal_or_believed() {
    let image = Image::new();
    let names: Vec<_> = image.files.iter().map(|path| path.display().to_string()).collect();
    for part in ["meta", "index", "spare", "/blocks/", "/head/", "checkpoint-", "/wal/"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part} in {names:?}");
    }
    let mut cases = 0u64;
    for path in &image.files {
        let mut seed = 0x9e37_79b9u64;
        for n in 0..20u64 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(n | 1);
            let place = seed >> 20;
            let lost = image.check(path, &format!("bit {place}"), |bytes| {
                if !bytes.is_empty() {
                    let bit = place % (bytes.len() as u64 * 8);
                    bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
                }
            });
            // Of the log one record, of a file of the head one chunk, of a block one chunk of those that
            // share timestamps.
            let name = path.to_string_lossy();
            let most = match &*name {
                name if name.contains("/blocks/") && !name.ends_with("chunks") => 0,
                name if name.contains("/blocks/") => 240,
                name if name.contains("/head/") => 16,
                _ => 960,
            };
            assert!(lost <= most, "bit {place} in {}: {lost} lost", path.display());
            cases += 1;
        }
    }
    assert!(cases >= 150, "{cases}");
}

#[test]
fn no_truncation_zeroed_page_or_swapped_file_is_fatal_or_believed() {
    let image = Image::new();
    for (at, path) in image.files.iter().enumerate() {
        for part in [0, 1, 3] {
            image.check(path, &format!("cut to {part}/4"), |b| b.truncate(b.len() * part / 4));
        }
        image.check(path, "cut by a byte", |b| b.truncate(b.len().saturating_sub(1)));
        image.check(path, "one byte more", |bytes| bytes.push(0));
        image.check(path, "zeros", |bytes| {
            let (from, to) = (bytes.len() / 3, bytes.len() * 2 / 3);
            bytes[from..to].fill(0);
        });
        // The file of that name of another block or segment.
        let twin = image.files.iter().skip(at + 1).find(|other| {
            other.file_name() == path.file_name() || other.extension() == path.extension()
        });
        if let Some(twin) = twin {
            image.disk.restore(&image.snapshot);
            let other = stoa_wal::Disk::read(&image.disk, twin).unwrap();
            image.check(path, "another file", |bytes| *bytes = other);
        }
    }
}

#[test]
fn a_file_that_is_missing_costs_what_it_held() {
    let image = Image::new();
    for path in &image.files {
        image.disk.restore(&image.snapshot);
        stoa_wal::Disk::remove_file(&image.disk, path).unwrap();
        let (db, recovery) = open(&image.disk);
        let lost = image.compare(&db, "missing");
        // A log without its last segment cannot know that there was one.
        let is_log = path.to_string_lossy().contains("/wal/");
        assert!(lost == 0 || is_log || recovery.damaged > 0, "{}", path.display());
        fill(&db, START + 230_000, 3);
        db.close().unwrap();
    }
}

#[test]
fn after_rot_in_the_log_marks_stay_behind_until_they_are_set_again() {
    let disk = SimDisk::new(13);
    let (db, _) = open(&disk);
    let a = crate::series(&db, 1, "__name__=a");
    let mark_of = |db: &Db| {
        let value = db.mark(b"g\x01").map(|value| i64::from_le_bytes(value.try_into().unwrap()));
        value.map(|t| (t - START) / 1000)
    };
    for second in 0..10 {
        crate::append(&db, 1, START + second * 1000, &[(a, 1.0)]);
        db.sync().unwrap();
    }
    drop(db);
    let segment = files(&disk, &Path::new(DIR).join("wal")).pop().unwrap();
    // The mark's value is in each batch's record: find that of the sixth.
    let needle = (START + 5000).to_le_bytes();
    let flip = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(8).position(|window| window == needle).unwrap();
        bytes[at] ^= 1;
    };
    disk.corrupt(&segment, flip).unwrap();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, recovery.marks_held_back), (1, true));
    assert_eq!(recovery.quarantined.len(), 1);
    assert_eq!((all(&db).len(), mark_of(&db)), (9, Some(4)), "one record is lost");
    // Resent from the mark on: one sample is new, the others are known.
    let stored: u64 = (5..10)
        .map(|second| crate::append(&db, 1, START + second * 1000, &[(a_of(&db), 1.0)]).stored)
        .sum();
    assert_eq!((stored, all(&db).len(), mark_of(&db)), (1, 10, Some(9)));
    db.close().unwrap();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, recovery.marks_held_back), (1, false));
    assert_eq!((all(&db).len(), mark_of(&db)), (10, Some(9)));
}

fn a_of(db: &Db) -> stoa_tsdb::SeriesRef {
    crate::series(db, 1, "__name__=a")
}

#[test]
fn a_damaged_chunk_of_the_head_costs_itself_is_set_aside_and_met_once() {
    let image = Image::new();
    let is_head = |path: &&PathBuf| path.to_string_lossy().contains("/head/");
    let path = image.files.iter().find(is_head).unwrap();
    image.disk.restore(&image.snapshot);
    // Behind the file's header and the first chunk's checksum.
    image.disk.corrupt(path, |bytes| bytes[16 + 4] ^= 1).unwrap();
    let (db, recovery) = open(&image.disk);
    assert_eq!((recovery.damaged, recovery.chunks_damaged), (1, 1), "{:?}", recovery.damage);
    assert_eq!(recovery.quarantined.len(), 1);
    let aside = stoa_wal::Disk::read(&image.disk, &recovery.quarantined[0]).unwrap();
    assert!(aside.len() > 4, "{aside:?}");
    let lost = image.compare(&db, "one chunk");
    assert!((8..=16).contains(&lost), "{lost}");
    assert!(db.maintain(START + 3 * MINUTE_MS).unwrap().checkpointed);
    db.close().unwrap();
    let (db, recovery) = open(&image.disk);
    assert_eq!((recovery.damaged, image.compare(&db, "once")), (0, lost));
    // A file that goes bad while it is in use: the query says so.
    let path = files(&image.disk, &Path::new(DIR).join("head")).pop().unwrap();
    image.disk.corrupt(&path, |bytes| bytes[16 + 4] ^= 1).unwrap();
    assert!(image.compare(&db, "later") > lost);
    assert_eq!(db.stats().chunks_damaged, 1);
}

#[test]
fn what_another_file_of_a_block_has_is_written_anew() {
    let image = Image::new();
    let of_blocks = image.files.iter().filter(|path| path.to_string_lossy().contains("/blocks/"));
    let wanted = of_blocks.filter(|path| !path.ends_with("chunks"));
    let mut cases = 0;
    for path in wanted {
        for damage in ["missing", "cut", "bit"] {
            let case = format!("{damage} {}", path.display());
            image.disk.restore(&image.snapshot);
            let before = stoa_wal::Disk::read(&image.disk, path).unwrap();
            match damage {
                "missing" => stoa_wal::Disk::remove_file(&image.disk, path).unwrap(),
                "cut" => image.disk.corrupt(path, |bytes| bytes.truncate(9)).unwrap(),
                _ => image.disk.corrupt(path, |bytes| bytes[20] ^= 1).unwrap(),
            }
            let (db, recovery) = open(&image.disk);
            let is_seen_at_once = damage == "missing" || !path.ends_with("index");
            assert_eq!(recovery.damaged > 0, is_seen_at_once, "{case}: {recovery:?}");
            assert_eq!(image.compare(&db, &case), 0, "{case}");
            let done = db.maintain(START + 3 * MINUTE_MS).unwrap();
            assert_eq!((done.blocks_quarantined, db.stats().block_files_mended), (0, 1), "{case}");
            assert!(stoa_wal::Disk::read(&image.disk, path).unwrap() == before, "{case}");
            let kept: Vec<_> = files(&image.disk, Path::new(DIR))
                .into_iter()
                .filter(|path| path.to_string_lossy().contains("/quarantine/"))
                .collect();
            let name = format!("-{}", path.file_name().unwrap().display());
            let is_kept = kept.iter().any(|path| path.to_string_lossy().ends_with(&name));
            assert_eq!(is_kept, damage != "missing", "{case}: {kept:?}");
            assert_eq!(image.compare(&db, &case), 0, "{case}");
            db.close().unwrap();
            let (db, recovery) = open(&image.disk);
            assert_eq!((recovery.damaged, image.compare(&db, &case)), (0, 0), "{case}");
            cases += 1;
        }
    }
    assert_eq!(cases, 3 * 3 * 3);
}

#[test]
fn a_file_of_the_head_that_grew_is_told_and_what_is_too_much_kept_aside() {
    let image = Image::new();
    let is_head = |path: &&PathBuf| path.to_string_lossy().contains("/head/");
    let path = image.files.iter().find(is_head).unwrap();
    image.disk.restore(&image.snapshot);
    image.disk.corrupt(path, |bytes| bytes.extend(b"too much")).unwrap();
    let disk: std::sync::Arc<dyn stoa_wal::Disk> = std::sync::Arc::new(image.disk.clone());
    let report = stoa_tsdb::fsck(&disk, Path::new(DIR), None).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let (db, recovery) = open(&image.disk);
    assert_eq!((recovery.damaged, recovery.chunks_damaged), (1, 0), "{:?}", recovery.damage);
    let aside = stoa_wal::Disk::read(&image.disk, &recovery.quarantined[0]).unwrap();
    assert_eq!(aside, b"too much");
    assert_eq!(image.compare(&db, "longer"), 0);
    assert!(db.maintain(START + 3 * MINUTE_MS).unwrap().checkpointed);
    db.close().unwrap();
    let (db, recovery) = open(&image.disk);
    assert_eq!((recovery.damaged, image.compare(&db, "once")), (0, 0));
}

/// Spoils the middle of files of the block that was cut first.
fn spoil(image: &Image, names: &[&str]) -> PathBuf {
    let is_wanted = |path: &&PathBuf| {
        path.to_string_lossy().contains("/blocks/")
            && names.iter().any(|name| path.file_name().is_some_and(|file| file == *name))
    };
    let first = image.files.iter().find(is_wanted).unwrap().parent().unwrap().to_owned();
    for path in image.files.iter().filter(|path| path.starts_with(&first)).filter(is_wanted) {
        image.disk.corrupt(path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1)).unwrap();
    }
    first
}

#[test]
fn what_the_start_meets_is_counted_and_said_with_its_place() {
    let image = Image::new();
    let in_part =
        |part: &str| image.files.iter().find(|path| path.to_string_lossy().contains(part)).unwrap();
    image.disk.restore(&image.snapshot);
    // What was synced is known by what was synced after it.
    let (db, _) = open(&image.disk);
    for second in 230..240 {
        fill(&db, START + second * 1000, 1);
        db.sync().unwrap();
    }
    drop(db);
    let log = files(&image.disk, &Path::new(DIR).join("wal")).pop().unwrap();
    let flip = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    image.disk.corrupt(&log, flip).unwrap();
    image.disk.corrupt(in_part("/head/"), |bytes| bytes[16 + 4] ^= 1).unwrap();
    let block = spoil(&image, &["meta", "spare"]);
    let (db, recovery) = open(&image.disk);
    let stats = db.stats();
    assert_eq!((stats.chunks_damaged, stats.blocks_quarantined, stats.log_damaged), (1, 1, 1));
    let found = |path: &Path| recovery.damage.iter().find(|one| one.path == path).unwrap();
    let of_block = found(&block);
    assert_eq!(of_block.cost, Cost::Block);
    assert!(of_block.kept.as_ref().is_some_and(|kept| image.disk.exists(kept).unwrap()));
    let of_head = found(in_part("/head/"));
    assert!(matches!(of_head.cost, Cost::Samples { most: 1..=16, times: Some(_) }), "{of_head}");
    let of_log = found(&log);
    assert!(matches!(of_log.cost, Cost::Records { after: Some(_) }), "{of_log}");
    // What came after may be whole.
    assert_eq!(db.missing(START + 10 * MINUTE_MS, i64::MAX), []);
    assert_eq!(db.missing(START, START).len(), 1, "the block, of which only the end is known");
    assert_eq!(db.take_damage(), (Vec::new(), 0), "the start has told");
}

#[test]
fn a_block_with_a_damaged_index_is_said_to_be_missing_and_told_once() {
    let image = Image::new();
    image.disk.restore(&image.snapshot);
    let block = spoil(&image, &["index", "spare"]);
    let (db, _) = open(&image.disk);
    assert_eq!(image.compare(&db, "index"), 480);
    let missing = db.missing(START, START + 59_000);
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].times, (START, START + 59_000));
    assert_eq!(db.missing(START + MINUTE_MS, i64::MAX), []);
    db.maintain(START + 3 * MINUTE_MS).unwrap();
    let (told, unlisted) = db.take_damage();
    assert_eq!((told.len(), unlisted), (1, 0), "{told:?}");
    assert_eq!(told[0].path, block.join("index"));
    let times = Some((START, START + 59_000));
    assert_eq!(told[0].cost, Cost::Samples { most: 480, times });
    assert!(image.disk.exists(told[0].kept.as_ref().unwrap()).unwrap());
    image.compare(&db, "index");
    assert_eq!(db.take_damage(), (Vec::new(), 0));
    assert_eq!(db.missing(START, START).len(), 1, "it is gone, and answers lack it still");
}

#[test]
fn a_damaged_chunk_is_told_once_and_answers_of_its_time_say_so() {
    let image = Image::new();
    image.disk.restore(&image.snapshot);
    let chunks = image.files.iter().find(|path| path.ends_with("chunks")).unwrap();
    image.disk.corrupt(chunks, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let (db, _) = open(&image.disk);
    assert_eq!(db.missing(i64::MIN, i64::MAX), []);
    let lost = image.compare(&db, "chunk") as u64;
    assert!(lost > 0);
    let (told, _) = db.take_damage();
    assert_eq!((told.len(), &told[0].path), (1, chunks));
    assert!(matches!(told[0].cost, Cost::Samples { most, .. } if most == lost), "{}", told[0]);
    let [missing] = &*db.missing(i64::MIN, i64::MAX) else { panic!("not one file") };
    let (first, last) = missing.times;
    assert!(START <= first && last < START + MINUTE_MS, "{missing:?}");
    assert_eq!(db.missing(i64::MIN, first - 1), []);
    image.compare(&db, "chunk");
    assert_eq!(db.take_damage(), (Vec::new(), 0));
}
