use stoa_model::Labels;
use stoa_proto::frame::FamilyText;
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
