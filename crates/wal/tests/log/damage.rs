//! Rot: flipped bits, zeroed, cut, copied and swapped bytes. Whatever happens to the files, the log
//! opens, no record is read that was not written there, what is lost is what was hit, and it is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_wal::disk::SimDisk;
use stoa_wal::{DamageReason, Disk as _, Entry, Position, Reader, Wal, WalOptions};

const DIR: &str = "/w";
const MUTATIONS: u64 = 20_000;

#[derive(Clone)]
struct Written {
    position: Position,
    end: u64,
    payload: Vec<u8>,
}

fn path(segment: u64) -> PathBuf {
    Path::new(DIR).join(format!("{segment:016x}.wal"))
}

fn open(disk: &SimDisk) -> Wal {
    let options = WalOptions { segment_bytes_max: 1500, record_bytes_max: 1 << 20 };
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

/// Two runs of a process, several segments, all synced.
fn written_log(disk: &SimDisk) -> Vec<Written> {
    let mut log = Vec::new();
    for run in 0..2_usize {
        let mut wal = open(disk);
        for n in 0..30_usize {
            // Markers in payloads, and payloads that look like records.
            let mut payload = vec![0xD7; (n * 37 + run * 11) % 160];
            payload
                .extend(log.last().map(|last: &Written| last.payload.clone()).unwrap_or_default());
            payload.truncate(200);
            payload.extend_from_slice(&[0xD7, 0xA4, u8::try_from(n).unwrap()]);
            let position = wal.append(3, &payload).unwrap();
            log.push(Written { position, end: wal.position().offset, payload });
            if n % 4 == 0 {
                wal.sync().unwrap();
            }
        }
        wal.sync().unwrap();
    }
    log
}

/// Seeded chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap().checked_rem(n).unwrap_or(0)
    }
}

/// Damages one or two segments; returns the byte ranges that were hit.
fn mutate(disk: &SimDisk, dice: &mut Dice, segments: &[u64]) -> Vec<(u64, std::ops::Range<usize>)> {
    let segment = segments[dice.below(segments.len())];
    let other = segments[dice.below(segments.len())];
    let old = disk.read(&path(segment)).unwrap();
    let others = disk.read(&path(other)).unwrap();
    let from = dice.below(old.len());
    let to = from + 1 + dice.below((old.len() - from).min(64));
    let mut hit = vec![(segment, from..to)];
    let mut new = old.clone();
    match dice.below(9) {
        0..=2 => {
            new[from] ^= 1 << dice.below(8);
            hit = vec![(segment, from..from + 1)];
        }
        3 => new[from..to].fill(0),
        4 => {
            new.truncate(from);
            hit = vec![(segment, from..old.len())];
        }
        5 => {
            // A misdirected write: bytes of this or another segment.
            let at = dice.below(others.len());
            let len = (to - from).min(others.len() - at);
            new[from..from + len].copy_from_slice(&others[at..at + len]);
        }
        6 => {
            disk.corrupt(&path(other), |bytes| bytes.clone_from(&old)).unwrap();
            hit = vec![(segment, 0..old.len()), (other, 0..others.len())];
            new = others;
        }
        7 => {
            new.extend((0..to - from).map(|_| u8::try_from(dice.below(256)).unwrap()));
            hit = Vec::new();
        }
        _ => {
            new.drain(from..to);
            hit = vec![(segment, from..old.len())];
        }
    }
    disk.corrupt(&path(segment), |bytes| *bytes = new).unwrap();
    hit
}

fn check(disk: &SimDisk, log: &[Written], hit: &[(u64, std::ops::Range<usize>)], seed: u64) {
    let (mut read, mut damage) = (Vec::new(), Vec::new());
    for entry in Reader::open(Arc::new(disk.clone()), Path::new(DIR), 0).unwrap() {
        match entry {
            Entry::Record { position, kind, payload } => read.push((position, kind, payload)),
            Entry::Damage { .. } => damage.push(entry),
        }
    }
    assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0), "seed {seed}: out of order");
    for (position, kind, payload) in &read {
        let same = |w: &Written| w.position == *position && w.payload == *payload && *kind == 3;
        assert!(log.iter().any(same), "seed {seed}: invented a record at {position}");
    }
    for record in log {
        let found = read.iter().any(|(position, ..)| *position == record.position);
        let was_hit = hit.iter().any(|(segment, range)| {
            *segment == record.position.segment
                && (range.start as u64) < record.end
                && range.end as u64 > record.position.offset
        });
        assert!(found || was_hit, "seed {seed}: lost {} that was not hit", record.position);
        // The end of the newest segment is known to nobody else.
        let newest = log.last().unwrap().position.segment;
        let cut_at_end = record.position.segment == newest
            && hit.iter().any(|(_, range)| range.end as u64 >= log.last().unwrap().end);
        assert!(
            found || !damage.is_empty() || cut_at_end,
            "seed {seed}: {} was lost in silence",
            record.position
        );
    }
}

#[test]
fn damage_costs_what_it_hit_and_is_told() {
    let disk = SimDisk::new(1);
    let log = written_log(&disk);
    let segments = open(&disk).segments();
    assert!(segments.len() > 8);
    let whole = disk.snapshot();
    for seed in 0..MUTATIONS {
        disk.restore(&whole);
        let mut dice = Dice(seed);
        let hit = mutate(&disk, &mut dice, &segments[..segments.len() - 1]);
        check(&disk, &log, &hit, seed);
        if seed % 10 == 0 {
            let mut wal = open(&disk);
            let position = wal.append(9, b"after").unwrap();
            wal.sync().unwrap();
            let last = Reader::open(Arc::new(disk.clone()), Path::new(DIR), 0).unwrap().last();
            let expected = Entry::Record { position, kind: 9, payload: b"after".to_vec() };
            assert_eq!(last, Some(expected), "seed {seed}");
        }
    }
}

#[test]
fn damage_is_placed_and_named() {
    let check = |change: &dyn Fn(&SimDisk, &Written),
                 expected: Option<(u64, DamageReason, bool)>| {
        let disk = SimDisk::new(1);
        let log = written_log(&disk);
        let victim = &log[2];
        assert_eq!(victim.position.segment, 1);
        change(&disk, victim);
        let reader = Reader::open(Arc::new(disk.clone()), Path::new(DIR), 0).unwrap();
        let found = reader.into_iter().find_map(|entry| match entry {
            Entry::Damage { offset, reason, synced, .. } => Some((offset, reason, synced)),
            Entry::Record { .. } => None,
        });
        assert_eq!(found, expected);
    };
    let at = |w: &Written| usize::try_from(w.position.offset).unwrap();
    let disk = SimDisk::new(1);
    let offset = written_log(&disk)[2].position.offset;
    check(&|_, _| (), None);
    check(
        &|disk, w| disk.corrupt(&path(1), |bytes| bytes[at(w)] ^= 1).unwrap(),
        Some((offset, DamageReason::Record, true)),
    );
    check(
        &|disk, w| disk.corrupt(&path(1), |bytes| bytes[at(w) + 25] ^= 1).unwrap(),
        Some((offset, DamageReason::Payload, true)),
    );
    check(
        &|disk, w| disk.corrupt(&path(1), |bytes| bytes.truncate(at(w))).unwrap(),
        Some((offset, DamageReason::Truncated, true)),
    );
    check(
        &|disk, _| disk.corrupt(&path(1), |bytes| bytes[9] ^= 1).unwrap(),
        Some((0, DamageReason::SegmentHeader, true)),
    );
    check(
        &|disk, _| {
            let two = disk.read(&path(2)).unwrap();
            disk.corrupt(&path(1), |bytes| *bytes = two).unwrap();
        },
        Some((0, DamageReason::Misplaced(2), true)),
    );
}

/// Unsynced bytes that a crash tore are not taken for rot.
#[test]
fn a_torn_tail_is_not_rot() {
    let mut torn = 0;
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let mut wal = open(&disk);
        wal.append(0, &[1; 300]).unwrap();
        wal.sync().unwrap();
        for _ in 0..3 {
            wal.append(0, &[2; 300]).unwrap();
        }
        wal.flush().unwrap();
        disk.crash();
        drop(open(&disk));
        for entry in Reader::open(Arc::new(disk.clone()), Path::new(DIR), 0).unwrap() {
            if let Entry::Damage { synced, .. } = entry {
                assert!(!synced, "seed {seed}: {entry:?}");
                torn += 1;
            }
        }
    }
    assert!(torn > 50, "only {torn} torn tails");
}
