//! Bad input, bad clocks and two of one name: the sender hears of it and goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use stoa_model::{Labels, MetricKind};
use stoa_proto::frame::{Encoder, FamilyText};
use stoa_proto::tick::{FamilyInfo, Series, Tick};
use stoa_tsdb::SeriesRef;

use super::*;
use crate::ingest::dictionary::Catalog;

const NOW: TimestampMs = 1_700_000_000_000;
const LIVE: CallId = 10;

#[derive(Default)]
struct Names(RefCell<BTreeMap<Labels, u32>>);

impl Catalog for Names {
    fn resolve(&self, _group: GroupId, labels: &Labels) -> Option<SeriesRef> {
        let mut names = self.0.borrow_mut();
        let next = u32::try_from(names.len()).unwrap();
        Some(SeriesRef(*names.entry(labels.clone()).or_insert(next)))
    }

    fn describe(&self, _family: &FamilyText) {}
}

/// One agent and its collector, whose store takes everything at once.
struct Door {
    ingest: AgentIngest,
    names: Names,
    encoder: Encoder,
    seq: u64,
    stored: u64,
}

fn epoch(n: u8) -> Epoch {
    Epoch([n; 16])
}

fn hello(n: u8) -> Hello {
    Hello {
        wire_version: 1,
        agent_version: "0".into(),
        boot_id: vec![n; 16],
        epoch: epoch(n),
        now_ms: NOW,
    }
}

fn leg(n: u8) -> Leg {
    Leg { epoch: epoch(n), stream: Stream::Metrics, number: 0 }
}

fn tick(t: TimestampMs, ids: std::ops::Range<u32>, label: &str) -> Tick {
    let family = FamilyInfo {
        name: "m".into(),
        help: String::new(),
        unit: String::new(),
        kind: MetricKind::Gauge,
    };
    let family = Arc::new(family);
    let samples = ids.map(|id| {
        let pairs = [("__name__", "m".to_owned()), (label, id.to_string())];
        let labels = Labels::from_pairs(pairs).unwrap();
        (Arc::new(Series { id, family: Arc::clone(&family), labels }), f64::from(id))
    });
    Tick { t, samples: samples.collect() }
}

impl Door {
    fn open(series_max: usize) -> Self {
        let host = HostId::parse("pve1").unwrap();
        let mut door = Self {
            ingest: AgentIngest::new(host, series_max, &[]),
            names: Names::default(),
            encoder: Encoder::new().unwrap(),
            seq: 0,
            stored: 0,
        };
        door.ingest.hello(1, &hello(1), NOW);
        assert_eq!(door.push(Push::Begin { session: 1, leg: leg(1), backlog: false }), []);
        door
    }

    /// Hands in a frame and gives what is answered once all is durable.
    fn push(&mut self, push: Push) -> Vec<PushReply> {
        let mut todo = VecDeque::from(self.ingest.push(LIVE, push, &self.names, NOW));
        let mut replies = Vec::new();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Reply { reply, .. } => replies.push(reply),
                Action::Append(batch) => {
                    let stored: usize = batch.rows.iter().map(|row| row.samples.len()).sum();
                    for row in &batch.rows {
                        let mut series: Vec<_> = row.samples.iter().map(|(s, _)| *s).collect();
                        series.sort_unstable();
                        series.dedup();
                        assert_eq!(series.len(), row.samples.len(), "a series twice in a row");
                    }
                    self.stored += stored as u64;
                    let outcome = Outcome::Durable { stored: stored as u64, known: 0, refused: 0 };
                    todo.extend(self.ingest.appended(outcome));
                }
                _ => {}
            }
        }
        replies
    }

    /// Reads a frame of one tick and says what it tells of the host's presence.
    fn live(&mut self, t: TimestampMs) -> Option<TimestampMs> {
        let data = self.data(&tick(t, 0..1, "a"));
        self.ingest.push(LIVE, Push::Data(data), &self.names, NOW);
        self.ingest.live_under_way()
    }

    fn data(&mut self, tick: &Tick) -> Data {
        self.seq += 1;
        Data {
            seq: self.seq,
            ticks: 1,
            samples: u32::try_from(tick.samples.len()).unwrap(),
            key: self.seq == 1,
            payload: self.encoder.encode(&[tick]).unwrap(),
        }
    }

    fn send(&mut self, tick: &Tick) -> Vec<PushReply> {
        let data = self.data(tick);
        self.push(Push::Data(data))
    }
}

/// The reasons and samples lost of an acknowledgement.
fn losses(replies: &[PushReply]) -> Vec<(&'static str, u64)> {
    match replies {
        [PushReply::Durable { losses, .. }] => {
            losses.iter().map(|loss| (loss.reason.as_str(), loss.samples)).collect()
        }
        other => panic!("not one acknowledgement: {other:?}"),
    }
}

#[test]
fn a_label_bomb_costs_its_own_series_and_nothing_else() {
    let mut door = Door::open(100);
    let replies = door.send(&tick(NOW, 0..130, "n"));
    assert_eq!(losses(&replies), [("limit", 30)]);
    assert_eq!(losses(&door.send(&tick(NOW + 1, 0..100, "n"))), []);
    assert_eq!(losses(&door.send(&tick(NOW + 2, 100..105, "n"))), [("limit", 5)]);
    let long = "x".repeat(2000);
    assert_eq!(losses(&door.send(&tick(NOW + 3, 500..502, &long))), [("limit", 2)]);
    assert_eq!(door.stored, 200);
    assert_eq!(door.ingest.figures().stored, 200);
}

#[test]
fn reserved_labels_make_no_series_stand_twice_in_a_row() {
    let mut door = Door::open(100);
    // Both become the same series: an empty value is an absent label.
    let mut twice = tick(NOW, 0..2, "n");
    twice.samples[1].0 = Arc::new(Series {
        id: 1,
        family: Arc::clone(&twice.samples[1].0.family),
        labels: twice.samples[0].0.labels.clone(),
    });
    assert_eq!(losses(&door.send(&twice)), [("limit", 1)]);
}

#[test]
fn a_clock_far_ahead_is_quarantined_and_the_sender_goes_on() {
    let mut door = Door::open(100);
    let ahead = NOW + FUTURE_MAX_MS + 1;
    assert_eq!(losses(&door.send(&tick(ahead, 0..3, "n"))), [("quarantined", 3)]);
    assert_eq!(losses(&door.send(&tick(NOW + FUTURE_MAX_MS, 0..3, "n"))), []);
    assert_eq!(door.stored, 3);
}

#[test]
fn a_clock_in_doubt_ends_the_call_and_loses_nothing() {
    for odd in [Odd::Collector, Odd::Unknown] {
        let mut door = Door::open(100);
        assert_eq!(losses(&door.send(&tick(NOW, 0..3, "n"))), []);
        door.ingest.clocks_judged(odd);
        let ahead = door.data(&tick(NOW + FUTURE_MAX_MS + 1, 0..3, "n"));
        let replies = door.push(Push::Data(ahead));
        let [PushReply::Refused { retry_after_ms: CLOCK_RETRY_AFTER_MS, .. }] = &replies[..] else {
            panic!("{odd:?}: {replies:?}");
        };
        let figures = door.ingest.figures();
        assert_eq!((figures.clock_refused_calls, figures.refused_calls), (1, 0));
        assert_eq!(figures.lost.iter().sum::<u64>(), 0);
        // What the clock has nothing against is stored, and the tick is once the clock is right:
        // under its old number.
        door.push(Push::Begin { session: 1, leg: leg(1), backlog: false });
        door.encoder = Encoder::new().unwrap();
        let mut again = door.data(&tick(NOW + FUTURE_MAX_MS, 0..3, "n"));
        (again.seq, again.key) = (2, true);
        assert_eq!(losses(&door.push(Push::Data(again))), []);
        assert_eq!((door.stored, door.ingest.figures().repeated), (6, 0));
    }
}

#[test]
fn a_damaged_frame_is_asked_for_again_and_given_up_when_fresh_ones_are_no_better() {
    let mut door = Door::open(100);
    door.send(&tick(NOW, 0..3, "n"));
    let mut damaged = door.data(&tick(NOW + 1, 0..3, "n"));
    damaged.payload = vec![0xff; 40].into();
    let replies = door.push(Push::Data(damaged.clone()));
    assert!(matches!(replies[..], [PushReply::Resync { begin: 0, seq: 2, .. }]), "{replies:?}");
    // What was on its way is not answered; it comes again.
    let stray = door.data(&tick(NOW + 2, 0..3, "n"));
    assert_eq!(door.push(Push::Data(stray)), []);
    damaged.key = true;
    assert_eq!(losses(&door.push(Push::Data(damaged))), [("unreadable", 3)]);
    door.encoder = Encoder::new().unwrap();
    door.seq = 2;
    let mut fresh = door.data(&tick(NOW + 2, 0..3, "n"));
    fresh.key = true;
    assert_eq!(losses(&door.push(Push::Data(fresh))), []);
    assert_eq!((door.stored, door.ingest.figures().resyncs), (6, 1));
}

#[test]
fn a_frame_that_comes_again_is_acknowledged_and_not_stored() {
    let mut door = Door::open(100);
    let data = door.data(&tick(NOW, 0..3, "n"));
    let first = door.push(Push::Data(data.clone()));
    assert_eq!(door.push(Push::Data(data)), first);
    assert_eq!((door.stored, door.ingest.figures().repeated), (3, 3));
}

#[test]
fn whoever_breaks_the_protocol_is_told_and_his_call_ends() {
    let data = |seq, ticks| {
        Push::Data(Data { seq, ticks, samples: 0, key: true, payload: bytes::Bytes::new() })
    };
    let critical = Leg { stream: Stream::Critical, ..leg(1) };
    let begin = |session, leg| Push::Begin { session, leg, backlog: false };
    for frames in [
        vec![begin(9, leg(1))],
        vec![data(0, 1)],
        vec![data(2, 3)],
        vec![begin(1, critical), data(1, 1)],
        vec![Push::Drops { seq: 1, records: Vec::new() }],
    ] {
        let mut door = Door::open(100);
        let mut replies = Vec::new();
        for frame in frames.clone() {
            replies = door.push(frame);
        }
        assert!(matches!(replies[..], [PushReply::Refused { .. }]), "{frames:?}: {replies:?}");
        assert_eq!(door.ingest.figures().refused_calls, 1);
        assert_eq!(
            losses(&{
                door.push(begin(1, leg(1)));
                door.send(&tick(NOW, 0..1, "n"))
            }),
            []
        );
    }
}

#[test]
fn a_store_that_takes_nothing_leaves_no_hole() {
    let mut door = Door::open(100);
    let data = door.data(&tick(NOW, 0..3, "n"));
    let actions = door.ingest.push(LIVE, Push::Data(data.clone()), &door.names, NOW);
    assert!(matches!(actions[..], [Action::Append(_)]));
    let next = door.data(&tick(NOW + 1, 0..3, "n"));
    assert_eq!(door.ingest.push(LIVE, Push::Data(next), &door.names, NOW), []);
    let actions = door.ingest.appended(Outcome::Failed { reason: "full".into() });
    assert!(
        matches!(
            actions[..],
            [Action::Reply { reply: PushReply::Refused { .. }, .. }, Action::End { call: LIVE }]
        ),
        "{actions:?}"
    );
    door.push(Push::Begin { session: 1, leg: leg(1), backlog: false });
    assert_eq!(losses(&door.push(Push::Data(data))), []);
    assert_eq!((door.stored, door.ingest.figures().repeated), (3, 0));
}

#[test]
fn the_newest_of_two_processes_wins_and_a_clone_is_noticed() {
    let host = HostId::parse("pve1").unwrap();
    /// Sessions of (process, boot, heard after), and the conflicts they make.
    fn check(ingest: &mut AgentIngest, sessions: &[(u8, u8, TimestampMs)], expected: u64) {
        let mut now = NOW;
        for (session, &(process, boot, after)) in (1..).zip(sessions) {
            now += after;
            let hello = Hello { boot_id: vec![boot; 16], ..hello(process) };
            let actions = ingest.hello(session, &hello, now);
            let fenced = actions.iter().any(|action| {
                matches!(action, Action::Fence { session: old, .. } if *old == session - 1)
            });
            assert_eq!(fenced, session > 1, "{sessions:?}");
            assert!(ingest.heard(session, now));
            assert!(session == 1 || !ingest.heard(session - 1, now), "{sessions:?}");
        }
        assert_eq!(ingest.figures().identity_conflicts, expected, "{sessions:?}");
    }
    for (sessions, expected) in [
        // The same process comes back; a process is restarted; a host is restarted.
        (&[(1, 1, 0), (1, 1, 5)][..], 0),
        (&[(1, 1, 0), (2, 1, 5)], 0),
        (&[(1, 1, 0), (2, 2, ALIVE_MS)], 0),
        // Another machine while the first one speaks; one that comes back after its successor.
        (&[(1, 1, 0), (2, 2, 5)], 1),
        (&[(1, 1, 0), (2, 1, 50_000), (1, 1, 50_000)], 1),
    ] {
        let mut ingest = AgentIngest::new(host.clone(), 100, &[]);
        check(&mut ingest, sessions, expected);
    }
}

#[test]
fn a_slow_clocks_live_tick_is_live_and_a_backlogs_is_not() {
    let day_ms = 86_400_000;
    assert_eq!(Door::open(10).live(NOW), Some(NOW));
    assert_eq!(Door::open(10).live(NOW - day_ms), Some(NOW - day_ms));
    assert_eq!(Door::open(10).live(NOW + day_ms), None, "nothing of it is stored");
    let mut backlog = Door::open(10);
    backlog.push(Push::Begin { session: 1, leg: leg(1), backlog: true });
    assert_eq!(backlog.live(NOW), None);
}
