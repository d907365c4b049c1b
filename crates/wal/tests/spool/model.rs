//! Random work, crashes and faults against a model of who has each record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stoa_wal::disk::{Fault, SimDisk};
use stoa_wal::queue::{DropReason, Dropped, Item, Outcome, Stamp};
use stoa_wal::{Queue, QueueOptions};

const STREAMS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Push(u8, usize),
    Sync,
    Ack(u8, u64),
    Rewind(u8, u64),
    Forget,
    /// Power off now, and again at this operation of the recovery.
    Crash(Option<u64>),
    /// The process is killed; the disk is not.
    Kill,
    /// Closed in good order, opened again.
    Close,
    Fault(u64, Fault),
    Capacity(Option<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![
        Just(Fault::Eio),
        Just(Fault::Enospc),
        Just(Fault::ShortWrite),
        Just(Fault::Halt)
    ];
    prop_oneof![
        24 => (0..STREAMS, 0_usize..700).prop_map(|(stream, bytes)| Op::Push(stream, bytes)),
        5 => Just(Op::Sync),
        6 => (0..STREAMS, 0_u64..8).prop_map(|(stream, back)| Op::Ack(stream, back)),
        1 => (0..STREAMS, 0_u64..20).prop_map(|(stream, back)| Op::Rewind(stream, back)),
        1 => Just(Op::Forget),
        2 => prop::option::of(0_u64..20).prop_map(Op::Crash),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
        2 => (0_u64..8, fault).prop_map(|(n, fault)| Op::Fault(n, fault)),
        1 => prop::option::of(2000_u64..20_000).prop_map(Op::Capacity),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Acked,
    Dropped(DropReason),
    /// Not there after a crash, and never synced.
    Vanished,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    payload: Vec<u8>,
    fate: Fate,
    synced: bool,
    ack_synced: bool,
    /// Waits again, which a crash may undo: then the other side asks once more.
    rewound: bool,
}

/// Stream, life, first sequence number: the order of pushing.
type Key = (u8, u8, u64);

struct Run {
    disk: SimDisk,
    queue: Option<Queue>,
    known: BTreeMap<Key, Known>,
    life: u8,
    next_seq: u64,
    /// A fault was planned: the disk may bring back what it failed to remove.
    faulty: bool,
}

fn options() -> QueueOptions {
    QueueOptions {
        bytes_max: 16_000,
        segment_bytes_max: 1000,
        record_bytes_max: 600,
        records_max: 100,
        free_bytes_min: 100,
        evict: vec![2, 1],
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            disk: SimDisk::new(seed),
            queue: None,
            known: BTreeMap::new(),
            life: 0,
            next_seq: 0,
            faulty: false,
        };
        run.reopen(true);
        run
    }

    fn queue(&mut self) -> &mut Queue {
        self.queue.as_mut().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Push(stream, bytes) => self.push(*stream, *bytes),
            Op::Sync => {
                let outcome = self.queue().sync();
                let done = outcome.error.is_none();
                self.told(&outcome);
                if done {
                    for known in self.known.values_mut() {
                        known.synced |= known.fate == Fate::Waiting || known.fate == Fate::Acked;
                        known.ack_synced = known.fate == Fate::Acked;
                        known.rewound = false;
                    }
                }
            }
            Op::Ack(stream, back) => {
                let (life, seq) = (self.life, self.next_seq.saturating_sub(*back));
                let count = self.queue().ack_through(*stream, [life; 16], seq);
                let mut acked = 0;
                for ((at, of, _), known) in &mut self.known {
                    let below = at == stream && *of == life && known.stamp.seq_last <= seq;
                    if below && known.fate == Fate::Waiting {
                        known.fate = Fate::Acked;
                        acked += 1;
                    }
                }
                assert_eq!(count.records, acked);
            }
            Op::Rewind(stream, back) => {
                let (life, seq) = (self.life, self.next_seq.saturating_sub(*back));
                let count = self.queue().rewind(*stream, [life; 16], Some(seq));
                let waiting = self.waiting();
                let mut again = 0;
                for (key, known) in &mut self.known {
                    if waiting.contains(key) && known.fate == Fate::Acked {
                        assert!(key.0 == *stream && key.1 == life && known.stamp.seq_last > seq);
                        known.fate = Fate::Waiting;
                        known.rewound = true;
                        known.ack_synced = false;
                        again += 1;
                    }
                }
                assert_eq!(count.records, again);
            }
            Op::Forget => {
                let outcome = self.queue().forget_acked_before(i64::MAX);
                self.told(&outcome);
            }
            Op::Crash(again_at) => {
                self.queue = None;
                self.disk.crash();
                if let Some(n) = again_at {
                    self.disk.fail_at(*n, Fault::Halt);
                    self.faulty = true;
                }
                self.reopen(false);
            }
            Op::Kill => {
                self.queue = None;
                self.reopen(false);
            }
            Op::Close => {
                let outcome = self.queue.take().unwrap().close();
                let clean = outcome.error.is_none();
                self.told(&outcome);
                self.reopen(clean);
            }
            Op::Fault(n, fault) => {
                // One thing at a time: a disk that fails to sync and is full besides cannot keep
                // what it shows, and nobody can know.
                self.disk.clear_faults();
                self.disk.set_capacity(None);
                self.disk.fail_at(*n, *fault);
                self.faulty = true;
            }
            Op::Capacity(bytes) => {
                self.disk.clear_faults();
                self.disk.set_capacity(*bytes);
                self.faulty = true;
            }
        }
        if self.disk.halted() {
            self.queue = None;
            self.disk.crash();
            self.reopen(false);
        }
        self.compare();
    }

    fn push(&mut self, stream: u8, bytes: usize) {
        let seq_first = self.next_seq;
        self.next_seq += 1 + seq_first % 3;
        let stamp = Stamp {
            epoch: [self.life; 16],
            seq_first,
            seq_last: self.next_seq - 1,
            samples: bytes as u64,
            t_first_ms: i64::try_from(seq_first).unwrap(),
            t_last_ms: i64::try_from(self.next_seq).unwrap(),
        };
        let payload = vec![seq_first.to_le_bytes()[0]; bytes];
        let known = Known {
            stamp,
            payload: payload.clone(),
            fate: Fate::Waiting,
            synced: false,
            ack_synced: false,
            rewound: false,
        };
        self.known.insert((stream, self.life, seq_first), known);
        let outcome = self.queue().push(stream, stamp, &payload);
        self.told(&outcome);
        // Pushed after it was acknowledged: kept for a rewind only.
        let key = (stream, self.life, seq_first);
        let stored = self.known[&key].fate == Fate::Waiting;
        if stored && !self.disk.halted() && !self.waiting().contains(&key) {
            self.known.get_mut(&key).unwrap().fate = Fate::Acked;
        }
    }

    fn told(&mut self, outcome: &Outcome) {
        if self.disk.halted() {
            // The machine is off: nobody hears it.
            return;
        }
        for dropped in &outcome.dropped {
            let mut told = (0, 0, 0);
            for known in covered(&mut self.known, dropped) {
                if known.fate == Fate::Waiting {
                    known.fate = Fate::Dropped(dropped.reason);
                    told.0 += 1;
                    told.1 += known.stamp.samples;
                    told.2 += known.payload.len() as u64;
                }
            }
            assert_eq!(told, (dropped.records, dropped.samples, dropped.bytes), "{dropped:?}");
        }
    }

    /// Everything that waits, as the queue gives it, each checked to be as it was pushed.
    fn waiting(&mut self) -> Vec<Key> {
        let mut keys = Vec::new();
        for stream in 0..STREAMS {
            let mut number = 0;
            while let Some(item) = self.queue().peek_from(stream, number).unwrap() {
                let Item::Record(record) = item else { panic!("{item:?}") };
                let key = (stream, record.stamp.epoch[0], record.stamp.seq_first);
                let known = self.known.get(&key).expect("an invented record");
                assert_eq!((known.stamp, &known.payload), (record.stamp, &record.payload));
                number = record.number + 1;
                keys.push(key);
            }
        }
        assert!(keys.is_sorted(), "out of order: {keys:?}");
        keys
    }

    fn compare(&mut self) {
        let waiting = self.waiting();
        let expected: Vec<Key> = self
            .known
            .iter()
            .filter(|(_, known)| known.fate == Fate::Waiting)
            .map(|(key, _)| *key)
            .collect();
        assert_eq!(waiting, expected);
        let totals = self.queue().totals();
        assert!(totals.balance(), "{totals:?}");
        assert_eq!(totals.in_spool.records, waiting.len() as u64);
        let samples: u64 = waiting.iter().map(|key| self.known[key].stamp.samples).sum();
        assert_eq!(totals.in_spool.samples, samples);
        assert!(self.queue().bytes() <= options().bytes_max + 1000);
    }

    fn reopen(&mut self, closed: bool) {
        let recovery = loop {
            let disk = Arc::new(self.disk.clone());
            match Queue::open(disk, Path::new("/data/spool"), options()) {
                Ok((queue, recovery)) if !self.disk.halted() => {
                    self.queue = Some(queue);
                    break recovery;
                }
                _ if self.disk.halted() => self.disk.crash(),
                _ => {}
            }
        };
        if closed && !self.faulty {
            assert!(recovery.clean() && recovery.dropped.is_empty(), "{recovery:?}");
        }
        let waiting = self.waiting();
        for dropped in &recovery.dropped {
            let stream = dropped.stream;
            for known in covered(&mut self.known, dropped) {
                let key = (stream, known.stamp.epoch[0], known.stamp.seq_first);
                let gone = known.fate != Fate::Waiting || !known.synced || waiting.contains(&key);
                assert!(gone, "synced and lost: {known:?} by {dropped:?}");
            }
        }
        for (key, known) in &mut self.known {
            if waiting.contains(key) {
                let fine = match known.fate {
                    Fate::Waiting => true,
                    Fate::Acked => !known.ack_synced,
                    Fate::Dropped(DropReason::Full) => self.faulty,
                    Fate::Dropped(_) | Fate::Vanished => false,
                };
                assert!(fine, "back again: {known:?}");
                known.fate = Fate::Waiting;
                known.synced = true;
                known.rewound = false;
            } else if known.fate == Fate::Waiting && known.rewound {
                (known.fate, known.ack_synced) = (Fate::Acked, true);
            } else if known.fate == Fate::Waiting {
                assert!(!known.synced, "synced and gone: {known:?}");
                known.fate = Fate::Vanished;
            }
        }
        self.life += 1;
        self.next_seq = 0;
    }
}

fn covered<'a>(
    known: &'a mut BTreeMap<Key, Known>,
    dropped: &'a Dropped,
) -> impl Iterator<Item = &'a mut Known> {
    known
        .iter_mut()
        .filter(|((stream, ..), known)| {
            *stream == dropped.stream
                && known.stamp.epoch == dropped.epoch
                && known.stamp.seq_first >= dropped.seq_first
                && known.stamp.seq_last <= dropped.seq_last
        })
        .map(|(_, known)| known)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_waits_or_is_stored_or_told(
        seed: u64,
        ops in prop::collection::vec(op(), 1..70),
    ) {
        let mut run = Run::new(seed);
        for op in &ops {
            run.apply(op);
        }
        run.apply(&Op::Crash(None));
    }

    #[test]
    fn without_faults_a_closed_queue_has_everything(
        seed: u64,
        ops in prop::collection::vec(op(), 1..70),
    ) {
        let mut run = Run::new(seed);
        for op in ops.iter().filter(|op| !matches!(op, Op::Fault(..) | Op::Capacity(_))) {
            let op = if matches!(op, Op::Crash(_) | Op::Kill) { &Op::Close } else { op };
            run.apply(op);
        }
        run.apply(&Op::Close);
    }
}
