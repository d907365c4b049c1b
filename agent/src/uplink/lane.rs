//! One lane of the spool on its way: reads records ahead, sends them in order, learns what is
//! acknowledged.

use std::collections::VecDeque;

use stoa_proto::delivery::Leg;
use stoa_proto::message::{Data, Push};

use super::event::{Action, Call, Lane, Record, RecordBody, SpoolJob};

/// Records of one lane that are sent and not acknowledged, at most: what the backlog may put
/// between two live ticks on a slow link.
pub(super) const BACKLOG_IN_FLIGHT_MAX: usize = 4;

/// The state of a lane within a session.
pub(super) struct Sender {
    call: Call,
    lane: Lane,
    session: u64,
    /// The leg of the last Begin.
    leg: Option<Leg>,
    begins: u32,
    /// Sent and not acknowledged: begin, leg, last number.
    in_flight: VecDeque<(u32, Leg, u64)>,
    /// A record has been asked for.
    reading: bool,
    /// The spool had no more when last asked.
    exhausted: bool,
}

/// What an acknowledgement leads to.
pub(super) struct LaneAck {
    /// Legs and how far they are done.
    pub(super) done: Vec<(Leg, u64)>,
    /// What to do next.
    pub(super) actions: Vec<Action>,
}

impl Sender {
    pub(super) fn new(call: Call, lane: Lane, session: u64) -> Self {
        Self {
            call,
            lane,
            session,
            leg: None,
            begins: 0,
            in_flight: VecDeque::new(),
            reading: false,
            exhausted: false,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Asks for the next record if there is room for it.
    pub(super) fn read_on(&mut self, except: Option<Leg>) -> Option<Action> {
        if self.reading || self.exhausted || self.in_flight.len() >= BACKLOG_IN_FLIGHT_MAX {
            return None;
        }
        self.reading = true;
        Some(Action::Spool(SpoolJob::Next { lane: self.lane, except }))
    }

    /// The spool has got more.
    pub(super) fn more(&mut self, except: Option<Leg>) -> Option<Action> {
        self.exhausted = false;
        self.read_on(except)
    }

    /// Takes a record that was read.
    pub(super) fn read(&mut self, record: Option<Record>, except: Option<Leg>) -> Vec<Action> {
        self.reading = false;
        let Some(record) = record else {
            self.exhausted = true;
            return Vec::new();
        };
        let mut actions = Vec::new();
        if self.leg != Some(record.leg) {
            self.leg = Some(record.leg);
            self.begins += 1;
            let backlog = self.lane == Lane::Backlog;
            let push = Push::Begin { session: self.session, leg: record.leg, backlog };
            actions.push(Action::Push { call: self.call, push });
        }
        let begin = self.begins.saturating_sub(1);
        self.in_flight.push_back((begin, record.leg, record.seq_last));
        let push = match record.body {
            RecordBody::Ticks(payload) => Push::Data(Data {
                seq: record.seq_last,
                ticks: u32::try_from(record.seq_last - record.seq_first + 1).unwrap_or(1),
                samples: record.samples,
                key: true,
                payload,
            }),
            RecordBody::Drops(records) => Push::Drops { seq: record.seq_last, records },
        };
        actions.push(Action::Push { call: self.call, push });
        actions.extend(self.read_on(except));
        actions
    }

    /// Takes an acknowledgement.
    pub(super) fn acknowledged(&mut self, begin: u32, seq: u64, except: Option<Leg>) -> LaneAck {
        let mut done = Vec::new();
        while let Some((_, leg, last)) = self
            .in_flight
            .pop_front_if(|(of, _, last)| *of < begin || (*of == begin && *last <= seq))
        {
            done.push((leg, last));
        }
        LaneAck { done, actions: self.read_on(except).into_iter().collect() }
    }
}
