//! Random work, crashes and faults against a model: what was synced is read back exactly, in order,
//! and nothing else is ever read that was not appended there.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stoa_wal::disk::{Fault, SimDisk};
use stoa_wal::{Entry, Position, Reader, Wal, WalError, WalOptions};

const DIR: &str = "/data/wal";

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Flush,
    Sync,
    Cut,
    RemoveOldest,
    /// Power off now, and again at this operation of the recovery.
    Crash(Option<u64>),
    /// The process is killed; the disk is not.
    Kill,
    Fault(u64, Fault),
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![
        Just(Fault::Eio),
        Just(Fault::Enospc),
        Just(Fault::ShortWrite),
        Just(Fault::Halt)
    ];
    prop_oneof![
        12 => (0_usize..900).prop_map(Op::Append),
        2 => Just(Op::Flush),
        4 => Just(Op::Sync),
        1 => Just(Op::Cut),
        1 => Just(Op::RemoveOldest),
        2 => prop::option::of(0_u64..8).prop_map(Op::Crash),
        1 => Just(Op::Kill),
        2 => (0_u64..6, fault).prop_map(|(n, fault)| Op::Fault(n, fault)),
    ]
}

struct Run {
    disk: SimDisk,
    wal: Option<Wal>,
    /// Everything appended that could still be read, in order.
    appended: Vec<(Position, u8, Vec<u8>)>,
    synced: Position,
    /// Segments before this one were removed.
    removed_before: u64,
    counter: u8,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            disk: SimDisk::new(seed),
            wal: None,
            appended: Vec::new(),
            synced: Position::default(),
            removed_before: 0,
            counter: 0,
        };
        run.reopen();
        run
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        let result = match op {
            Op::Append(bytes) => {
                self.counter = self.counter.wrapping_add(1);
                let (kind, payload) = (self.counter, vec![self.counter; *bytes]);
                let position = self.wal().append(kind, &payload);
                position.map(|position| self.appended.push((position, kind, payload)))
            }
            Op::Flush => self.wal().flush(),
            Op::Sync => self.wal().sync().map(|_| ()),
            Op::Cut => self.wal().cut().map(|_| ()),
            Op::RemoveOldest => {
                let before = self.wal().segments().get(1).copied().unwrap_or(0);
                self.removed_before = self.removed_before.max(before);
                self.wal().remove_before(before)
            }
            Op::Crash(again_at) => {
                self.wal = None;
                self.disk.crash();
                if let Some(n) = again_at {
                    self.disk.fail_at(*n, Fault::Halt);
                }
                self.reopen();
                Ok(())
            }
            Op::Kill => {
                self.wal = None;
                self.reopen();
                Ok(())
            }
            Op::Fault(n, fault) => {
                // One at a time: of bytes that could neither be synced nor cut off, nobody can
                // say whether they are on the disk.
                self.disk.clear_faults();
                self.disk.fail_at(*n, *fault);
                Ok(())
            }
        };
        if let Some(wal) = &self.wal {
            self.synced = self.synced.max(wal.synced());
        }
        if result.is_err() {
            let again = self.wal().sync();
            let removal = matches!(result, Err(WalError::Remove { .. }));
            assert!(removal || matches!(again, Err(WalError::Poisoned { .. })), "{again:?}");
            match again {
                Ok(synced) => self.synced = self.synced.max(synced),
                Err(_) => {
                    self.wal = None;
                    self.reopen();
                }
            }
        }
    }

    /// Opens the log, whatever it takes, and compares it with the model.
    fn reopen(&mut self) {
        let options = WalOptions { segment_bytes_max: 4000, record_bytes_max: 1000 };
        loop {
            let disk = Arc::new(self.disk.clone());
            match Wal::open(disk, Path::new(DIR), options) {
                Ok(wal) => {
                    self.wal = Some(wal);
                    break;
                }
                Err(_) if self.disk.halted() => self.disk.crash(),
                Err(_) => {}
            }
        }
        let mut read = Vec::new();
        let disk = Arc::new(self.disk.clone());
        for entry in Reader::open(disk, Path::new(DIR), self.removed_before).unwrap() {
            match entry {
                Entry::Record { position, kind, payload } => read.push((position, kind, payload)),
                Entry::Damage { synced, .. } => assert!(!synced, "{entry:?}"),
            }
        }
        let must: Vec<_> = self
            .appended
            .iter()
            .filter(|(at, ..)| *at < self.synced && at.segment >= self.removed_before)
            .collect();
        assert!(must.iter().all(|record| read.contains(record)), "a synced record is gone");
        assert!(read.iter().all(|record| self.appended.contains(record)), "an invented record");
        assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order");
        self.synced = self.wal().synced();
        self.appended = read;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn synced_records_are_read_back_and_nothing_is_invented(
        seed: u64,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut run = Run::new(seed);
        for op in &ops {
            run.apply(op);
        }
        run.apply(&Op::Crash(None));
    }
}

/// The same work with the machine stopping at each disk operation in turn, and again at each of the
/// recovery.
#[test]
fn every_crash_point_of_a_fixed_run_recovers() {
    let work = [
        Op::Append(700),
        Op::Sync,
        Op::Append(10),
        Op::Append(800),
        Op::Sync,
        Op::Cut,
        Op::Append(900),
        Op::Flush,
        Op::RemoveOldest,
        Op::Append(5),
        Op::Sync,
    ];
    let mut points = 0;
    for seed in 0..14 {
        for fault in [Fault::Halt, Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            for at in 0.. {
                let mut run = Run::new(seed);
                let first = run.disk.ops();
                run.disk.fail_at(at, fault);
                for op in &work {
                    run.apply(op);
                }
                let done = run.disk.ops() - first < at;
                run.apply(&Op::Crash(Some(at % 7)));
                run.apply(&Op::Crash(None));
                points += 1;
                if done {
                    break;
                }
            }
        }
    }
    assert!(points > 800, "only {points} crash points");
}
