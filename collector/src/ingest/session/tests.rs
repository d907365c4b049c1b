use std::sync::Arc;

use stoa_model::{Labels, MetricKind};
use stoa_proto::frame::{Encoder, FamilyText};
use stoa_proto::tick::{FamilyInfo, Series, Tick};
use stoa_tsdb::SeriesRef;

use super::*;

struct NoCatalog;

impl Catalog for NoCatalog {
    fn resolve(&self, _group: GroupId, _labels: &Labels) -> Option<SeriesRef> {
        None
    }

    fn describe(&self, _family: &FamilyText) {}
}

const SESSION: SessionId = 1;

fn leg(stream: Stream) -> Leg {
    Leg { epoch: Epoch([1; 16]), stream, number: 0 }
}

/// A machine with one session.
fn machine() -> AgentIngest {
    let mut machine = AgentIngest::new(HostId::parse("pve1").unwrap(), 100, &[]);
    let hello = Hello {
        wire_version: 1,
        agent_version: String::new(),
        boot_id: Vec::new(),
        epoch: Epoch([1; 16]),
        now_ms: 0,
    };
    machine.hello(SESSION, &hello, 0);
    machine
}

fn begin(leg: Leg) -> Push {
    Push::Begin { session: SESSION, leg, backlog: false }
}

#[test]
fn a_leg_is_on_one_call_at_a_time() {
    let mut machine = machine();
    assert_eq!(machine.push(1, begin(leg(Stream::Metrics)), &NoCatalog, 0), []);
    // The same call may begin it again, another one may not, but for another leg.
    assert_eq!(machine.push(1, begin(leg(Stream::Metrics)), &NoCatalog, 0), []);
    assert_eq!(machine.push(2, begin(leg(Stream::Critical)), &NoCatalog, 0), []);
    let refused = machine.push(3, begin(leg(Stream::Metrics)), &NoCatalog, 0);
    let refusal = |action: &Action| {
        matches!(action, Action::Reply { call: 3, reply: PushReply::Refused { reason, .. } }
            if reason.contains("another call"))
    };
    assert!(refused.iter().any(refusal), "{refused:?}");
    assert!(refused.contains(&Action::End { call: 3 }));
    machine.call_ended(1);
    assert_eq!(machine.push(4, begin(leg(Stream::Metrics)), &NoCatalog, 0), []);
}

#[test]
fn frames_without_samples_wait_within_a_bound_too() {
    let mut machine = machine();
    let critical = leg(Stream::Critical);
    machine.push(1, begin(critical), &NoCatalog, 0);
    let mut seq = 0;
    // The first goes under way and stays there: the disk is slow.
    while machine.has_room() {
        seq += 1;
        assert!(seq < 10_000, "the queue has no bound");
        machine.push(1, Push::Drops { seq, records: Vec::new() }, &NoCatalog, 0);
    }
    assert_eq!(seq, QUEUE_FRAMES_MAX as u64 + 1);
    let durable = Outcome::Durable { stored: 0, known: 0, refused: 0 };
    machine.appended(durable.clone());
    assert!(machine.has_room());
    let last = machine.appended(durable);
    let reply = PushReply::Durable { begin: 0, seq, losses: Vec::new() };
    assert_eq!(last, [Action::Reply { call: 1, reply }]);
}

#[test]
fn a_frame_that_takes_more_than_is_allowed_is_asked_for_as_a_key_frame() {
    let family = FamilyInfo {
        name: "m".to_owned(),
        help: String::new(),
        unit: String::new(),
        kind: MetricKind::Gauge,
    };
    let family = Arc::new(family);
    let series = |id: u32| {
        let labels = Labels::from_pairs_last_wins([("__name__", "m"), ("n", &id.to_string())]);
        Arc::new(Series { id, family: Arc::clone(&family), labels })
    };
    let samples: Vec<_> = (0..100).map(|id| (series(id), 1.0)).collect();
    let ticks: Vec<Tick> =
        (1..=100).map(|t| Tick { t: t * 1000, samples: samples.clone() }).collect();
    let mut encoder = Encoder::new().unwrap();
    let first = encoder.encode(&[&ticks[0]]).unwrap();
    let rest = encoder.encode(&ticks[1..].iter().collect::<Vec<_>>()).unwrap();
    // It says of itself that it is small, and unpacks to much.
    let data = |seq, ticks, key, payload| Push::Data(Data { seq, ticks, samples: 1, key, payload });
    for (effort, is_read) in [
        (Effort::ALL, true),
        (Effort { raw_bytes: Effort::ALL.raw_bytes, slots: 99 * 100 }, true),
        (Effort { raw_bytes: Effort::ALL.raw_bytes, slots: 98 * 100 }, false),
        (Effort { raw_bytes: 50, slots: Effort::ALL.slots }, false),
    ] {
        let mut machine = machine();
        machine.push(1, begin(leg(Stream::Metrics)), &NoCatalog, 0);
        machine.push(1, data(1, 1, true, first.clone()), &NoCatalog, 0);
        let read = machine.read(1, data(100, 99, false, rest.clone()), effort, 0);
        let actions = machine.take(read, &NoCatalog, 0);
        let is_resync = |action: &Action| {
            matches!(action, Action::Reply { reply: PushReply::Resync { seq: 2, .. }, .. })
        };
        assert_eq!(!actions.iter().any(is_resync), is_read, "{effort:?}: {actions:?}");
        assert_eq!(machine.figures().resyncs, u64::from(!is_read));
    }
}
