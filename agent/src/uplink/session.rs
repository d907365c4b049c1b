//! The uplink as a state machine: `event + moment → actions`, no socket, no file, no clock.
//!
//! Constraints
//! - A tick is in memory, or durable in the spool, or acknowledged, or dropped and counted.
//! - Within a leg, ticks leave in order, on one call of one session at a time. When ticks of the
//!   live leg must first come out of the spool, a new leg begins and overtakes them.
//! - Nothing but an acknowledgement or a welcome's mark takes a tick off our hands.
//!
//! Bounds: [`MEMORY_TICKS_MAX`], [`super::lane::BACKLOG_IN_FLIGHT_MAX`], the spool's own.
//!
//! Operation: down → dialing → surveying (the spool compares with the collector's marks) → up.
//! Once a dial has failed, or when no acknowledgement comes for [`SPILL_AFTER_MS`], ticks go to the
//! spool, at most every [`SPILL_EVERY_MS`] (docs/decisions/0007); after [`STALL_MS`] without one the
//! session is given up. How long it waits between dials: docs/decisions/0006. The driver hands in
//! every event with the moment, does the actions in order, and calls [`Uplink::deadline`] to know
//! when to hand in a timer event.
//!
//! Clocks: every wait runs by the steady clock, which nobody sets. The host's clock is only told to
//! the collector: it may leap by hours, either way, and neither a dial nor a spill moves.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stoa_proto::delivery::{DropReason, DropRecord, Epoch, Leg, Stream};
use stoa_proto::frame::Encoder;
use stoa_proto::message::{Data, Hello, Push, PushReply, WIRE_VERSION, Welcome};
use stoa_proto::tick::Tick;

use super::event::{
    Action, Call, Event, Lane, Moment, SpoolDone, SpoolJob, SteadyMs, Until, drop_record,
};
use super::figures::{UplinkFigures, add, take};
use super::lane::{LaneAck, Sender};

/// Ticks kept in memory, at most: a minute at one a second; then the oldest go to the spool, or,
/// when the disk refuses, are dropped.
pub const MEMORY_TICKS_MAX: usize = 64;

/// In a session without an acknowledgement for this long, ticks go to the spool, milliseconds.
pub const SPILL_AFTER_MS: i64 = 5_000;

/// Ticks that go to the spool wait at most this long, milliseconds: what a crash costs while the
/// collector is away; and the disk is asked to sync no more often.
pub const SPILL_EVERY_MS: i64 = 1_000;

/// Without an acknowledgement for this long, a session is given up, milliseconds.
pub const STALL_MS: i64 = 30_000;

/// A dial or a welcome that takes longer is given up, milliseconds.
pub const GREETING_MS: i64 = 10_000;

/// How often a session is pinged, milliseconds.
pub const PING_MS: i64 = 5_000;

/// A session from which nothing comes for this long is given up, milliseconds.
pub const SILENCE_MS: i64 = 15_000;

/// After a dial that nobody answered the next one waits this long, at random, milliseconds. It does
/// not grow: a collector that comes back is to be found within a second (docs/decisions/0006).
pub const RETRY_MS: RangeInclusive<i64> = 250..=750;

/// After a session in which nothing was acknowledged the next dial waits up to this long,
/// milliseconds; after each further one up to twice as long.
const FRUITLESS_FIRST_MS: i64 = 500;

/// The longest of these waits, milliseconds.
const FRUITLESS_MAX_MS: i64 = 30_000;

/// Who was fenced waits this long, milliseconds: two hosts with one identity must not take turns.
const FENCED_RETRY_MS: i64 = 60_000;

/// Who was refused waits this long, at random, milliseconds: only a person can change that.
pub const REFUSED_RETRY_MS: RangeInclusive<i64> = 240_000..=360_000;

/// Who was refused for a certificate out of its time waits this long, at random, milliseconds: a
/// machine without a battery for its clock learns the time within minutes of its start.
const CLOCK_RETRY_MS: RangeInclusive<i64> = 45_000..=75_000;

/// What the uplink is told once.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Random, never used before.
    pub epoch: Epoch,
    /// The kernel's boot id; empty when unknown.
    pub boot_id: Vec<u8>,
    /// For the collector's host list.
    pub agent_version: String,
    /// For the spread of retries.
    pub seed: u64,
    /// Samples found in the spool.
    pub recovered: u64,
}

/// The machine.
pub struct Uplink {
    config: UplinkConfig,
    rng: StdRng,
    leg: Leg,
    next_seq: u64,
    /// Ascending in seq without gaps, all of the live leg.
    memory: VecDeque<Held>,
    /// What was in memory when the leg before the live one ended, until the spool has answered.
    closing: VecDeque<Held>,
    link: Link,
    /// No more dials.
    stopped: bool,
    /// Sessions that have ended since the last acknowledgement.
    fruitless: u32,
    /// Whether the last dial failed: then ticks go to the spool at once.
    away: bool,
    /// When ticks were last handed to the spool.
    spilled_at: SteadyMs,
    /// When something was last acknowledged, a session was last welcomed, or memory ceased to be
    /// empty: a session's patience runs from then.
    progress_at: SteadyMs,
    /// The same without welcomes: a collector that lets us in and takes nothing is no reason to
    /// keep ticks in memory only.
    acknowledged_at: SteadyMs,
    /// The collector told us to wait until then.
    not_before: SteadyMs,
    /// Whether the disk refused lately; then the next try waits for more ticks.
    spool_refused: bool,
    figures: UplinkFigures,
    actions: Vec<Action>,
}

/// A tick in memory.
struct Held {
    seq: u64,
    tick: Arc<Tick>,
    since: SteadyMs,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In memory only.
    Memory,
    /// On its way to the spool.
    Spilling,
    /// Durable in the spool as well.
    Spool,
}

enum Link {
    Down { retry_at: SteadyMs },
    Greeting { since: SteadyMs },
    Surveying { welcome: Welcome },
    Up(Box<Up>),
}

struct Up {
    session: u64,
    encoder: Option<Encoder>,
    /// The last tick sent on the live call.
    sent: u64,
    begins: u32,
    backlog: Sender,
    critical: Sender,
    heard_at: SteadyMs,
    pinged_at: SteadyMs,
}

impl Uplink {
    /// A machine that wants to dial at once; `now` is by the steady clock.
    #[must_use]
    pub fn new(config: UplinkConfig, now: SteadyMs) -> Self {
        let leg = Leg { epoch: config.epoch, stream: Stream::Metrics, number: 0 };
        let rng = StdRng::seed_from_u64(config.seed);
        let figures = UplinkFigures {
            recovered: config.recovered,
            in_spool: config.recovered,
            ..UplinkFigures::default()
        };
        Self {
            config,
            rng,
            leg,
            next_seq: 1,
            memory: VecDeque::new(),
            closing: VecDeque::new(),
            link: Link::Down { retry_at: now },
            stopped: false,
            fruitless: 0,
            away: false,
            spilled_at: now - SPILL_EVERY_MS,
            progress_at: now,
            acknowledged_at: now,
            not_before: now,
            spool_refused: false,
            figures,
            actions: Vec::new(),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn figures(&self) -> &UplinkFigures {
        &self.figures
    }

    /// Whether a session is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether nothing waits to be acknowledged, in memory or in the spool.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.memory.is_empty() && self.figures.in_spool == 0
    }

    /// When [`Event::Timer`] is next of use, by the steady clock; `i64::MAX` is never.
    #[must_use]
    pub fn deadline(&self) -> SteadyMs {
        let link = match &self.link {
            Link::Down { retry_at } => *retry_at,
            Link::Greeting { since } => since + GREETING_MS,
            Link::Surveying { .. } => i64::MAX,
            Link::Up(up) => {
                let stall =
                    if self.waits_for_ack() { self.progress_at + STALL_MS } else { i64::MAX };
                (up.pinged_at + PING_MS).min(up.heard_at + SILENCE_MS).min(stall)
            }
        };
        match self.memory.iter().find(|held| held.place == Place::Memory) {
            Some(held) if !self.spool_refused => link.min(self.spill_at(held)),
            _ => link,
        }
    }

    /// Takes an event; what it returns is to be done in order.
    pub fn handle(&mut self, event: Event, at: Moment) -> Vec<Action> {
        let now = at.steady_ms;
        match event {
            Event::Tick(tick) => self.take_tick(tick, now),
            Event::Welcomed { welcome, fresh } => self.welcomed(welcome, fresh, now),
            Event::Reply { call, reply } => self.replied(call, reply, now),
            Event::Pong => self.heard(now),
            Event::Fenced { reason } => {
                self.figures.fenced += 1;
                self.not_before = now + FENCED_RETRY_MS;
                self.hang_up(&format!("fenced: {reason}"), now);
            }
            Event::Ended { reason } => self.hang_up(&reason, now),
            Event::Refused { reason, until } => {
                let wait = match until {
                    Until::Mended => REFUSED_RETRY_MS,
                    Until::ClockSet => CLOCK_RETRY_MS,
                };
                self.not_before = now + self.rng.random_range(wait);
                self.hang_up(&reason, now);
            }
            Event::Spool(done) => self.spooled(done, now),
            Event::Timer => {}
            Event::Stop => {
                self.stopped = true;
                self.spill(now);
                self.hang_up("stopping", now);
            }
        }
        self.on_time(at);
        std::mem::take(&mut self.actions)
    }

    fn take_tick(&mut self, tick: Arc<Tick>, now: SteadyMs) {
        if tick.samples.is_empty() {
            return;
        }
        let samples = tick.samples.len() as u64;
        self.figures.produced += samples;
        self.figures.in_memory += samples;
        if self.memory.is_empty() {
            self.progress_at = now;
            self.acknowledged_at = now;
        }
        self.memory.push_back(Held { seq: self.next_seq, tick, since: now, place: Place::Memory });
        self.next_seq += 1;
        self.spool_refused = false;
        self.send_live();
        self.bound_memory(now);
    }

    /// Sends what is in memory and has not been sent in this session.
    fn send_live(&mut self) {
        let Link::Up(up) = &mut self.link else { return };
        for held in &self.memory {
            if held.seq <= up.sent {
                continue;
            }
            let key = up.encoder.is_none();
            let encoded = match up.encoder.take() {
                Some(encoder) => Ok(encoder),
                None => Encoder::new(),
            }
            .and_then(|mut encoder| Ok((encoder.encode(&[&held.tick])?, encoder)));
            // A tick that cannot be encoded travels as a payload nobody can read: the collector
            // counts it as lost, in its place.
            let payload = match encoded {
                Ok((payload, encoder)) => {
                    up.encoder = Some(encoder);
                    payload
                }
                Err(_) => bytes::Bytes::new(),
            };
            up.sent = held.seq;
            self.figures.sent_bytes += payload.len() as u64;
            self.figures.sent_samples += held.tick.samples.len() as u64;
            let data = Data {
                seq: held.seq,
                ticks: 1,
                samples: count(held.tick.samples.len()),
                key,
                payload,
            };
            self.actions.push(Action::Push { call: Call::Live, push: Push::Data(data) });
        }
    }

    /// Over the bound, spilled ticks leave memory, and others are spilled, or dropped when the
    /// disk refuses.
    fn bound_memory(&mut self, now: SteadyMs) {
        if self.memory.len() <= MEMORY_TICKS_MAX {
            return;
        }
        if self.is_up() {
            self.hang_up("the collector acknowledges too slowly", now);
        }
        self.spill(now);
        if self.memory.iter().any(|held| held.place == Place::Spilling) {
            return;
        }
        let mut records = Vec::new();
        while self.memory.len() > MEMORY_TICKS_MAX {
            let Some(held) = self.memory.pop_front() else { break };
            records.push(self.drop_held(&held, DropReason::SpoolFailed));
        }
        self.tell_drops(records);
    }

    fn drop_held(&mut self, held: &Held, reason: DropReason) -> DropRecord {
        let samples = held.tick.samples.len() as u64;
        take(&mut self.figures.in_memory, samples, &mut self.figures.miscounted);
        add(&mut self.figures.dropped, reason, samples);
        drop_record(self.leg, (held.seq, held.seq), samples, (held.tick.t, held.tick.t), reason)
    }

    /// Hands the ticks that are only in memory to the spool.
    fn spill(&mut self, now: SteadyMs) {
        let mut seq_first = 0;
        let mut ticks = Vec::new();
        for held in self.memory.iter_mut().filter(|held| held.place == Place::Memory) {
            if ticks.is_empty() {
                seq_first = held.seq;
            }
            held.place = Place::Spilling;
            ticks.push(Arc::clone(&held.tick));
        }
        if !ticks.is_empty() {
            self.spilled_at = now;
            let job = SpoolJob::Append { leg: self.leg, seq_first, ticks };
            self.actions.push(Action::Spool(job));
        }
    }

    /// When a tick that is only in memory is to be spilled.
    fn spill_at(&self, first: &Held) -> SteadyMs {
        let next = first.since.max(self.spilled_at + SPILL_EVERY_MS);
        if self.away { next } else { next.max(self.acknowledged_at + SPILL_AFTER_MS) }
    }

    fn welcomed(&mut self, welcome: Welcome, fresh: Epoch, now: SteadyMs) {
        if !matches!(self.link, Link::Greeting { .. }) {
            return;
        }
        self.figures.sessions += 1;
        self.away = false;
        let mark = self.mark_in(&welcome);
        if mark >= self.next_seq {
            // This process was set back with its memory: the numbers it would give next are taken.
            self.config.epoch = fresh;
            self.leg = Leg { epoch: fresh, stream: Stream::Metrics, number: 0 };
            self.next_seq = 1;
            for held in &mut self.memory {
                held.seq = self.next_seq;
                self.next_seq += 1;
            }
        } else {
            self.acknowledge_memory(mark);
        }
        let job = SpoolJob::Survey {
            marks: welcome.marks.clone(),
            live: self.leg,
            live_from: self.memory.front().map_or(self.next_seq, |held| held.seq),
        };
        self.actions.push(Action::Spool(job));
        self.link = Link::Surveying { welcome };
        self.progress_at = now;
    }

    fn mark_in(&self, welcome: &Welcome) -> u64 {
        let mark = welcome.marks.iter().find(|mark| mark.leg == self.leg);
        mark.map_or(0, |mark| mark.seq)
    }

    /// The collector has the live leg through `seq`.
    fn acknowledge_memory(&mut self, seq: u64) {
        let mut spooled = false;
        while let Some(held) = self.memory.pop_front_if(|held| held.seq <= seq) {
            let samples = held.tick.samples.len() as u64;
            if held.place == Place::Spool {
                spooled = true;
                continue;
            }
            take(&mut self.figures.in_memory, samples, &mut self.figures.miscounted);
            self.figures.acknowledged += samples;
            let job = SpoolJob::Keep { leg: self.leg, seq: held.seq, tick: held.tick };
            self.actions.push(Action::Spool(job));
        }
        if spooled {
            self.actions.push(Action::Spool(SpoolJob::Acknowledge { leg: self.leg, seq }));
        }
    }

    fn surveyed(&mut self, live_leg_waits: bool, now: SteadyMs) {
        let Link::Surveying { welcome } =
            std::mem::replace(&mut self.link, Link::Down { retry_at: now })
        else {
            return;
        };
        if live_leg_waits {
            // Ticks before those in memory come out of the spool: let the live ones overtake.
            self.spill(now);
            self.begin_leg();
        }
        let mut up = Box::new(Up {
            session: welcome.session,
            encoder: None,
            sent: 0,
            begins: 1,
            backlog: Sender::new(Call::Backlog, Lane::Backlog, welcome.session),
            critical: Sender::new(Call::Critical, Lane::Critical, welcome.session),
            heard_at: now,
            pinged_at: now,
        });
        let push = Push::Begin { session: up.session, leg: self.leg, backlog: false };
        self.actions.push(Action::Push { call: Call::Live, push });
        let except = Some(self.leg);
        self.actions.extend(up.backlog.read_on(except));
        self.actions.extend(up.critical.read_on(None));
        self.link = Link::Up(up);
        self.send_live();
    }

    /// What is in memory has been handed to the spool under the old leg.
    fn begin_leg(&mut self) {
        self.closing.extend(self.memory.drain(..));
        self.leg.number += 1;
        self.next_seq = 1;
        self.figures.legs += 1;
    }

    fn replied(&mut self, call: Call, reply: PushReply, now: SteadyMs) {
        self.heard(now);
        let Link::Up(up) = &mut self.link else { return };
        let (begin, seq) = match reply {
            PushReply::Refused { reason, retry_after_ms } => {
                self.not_before = now + i64::from(retry_after_ms);
                return self.hang_up(&format!("refused: {reason}"), now);
            }
            PushReply::Durable { begin, seq, losses } => {
                for loss in &losses {
                    add(&mut self.figures.lost, loss.reason, loss.samples);
                }
                (begin, seq)
            }
            PushReply::Resync { begin, seq, reason } => {
                self.figures.resyncs += 1;
                if call != Call::Live || begin + 1 != up.begins {
                    return self.hang_up(&format!("cannot be read: {reason}"), now);
                }
                up.encoder = None;
                up.sent = seq.saturating_sub(1).min(up.sent);
                return self.send_live();
            }
        };
        self.progress_at = now;
        self.acknowledged_at = now;
        self.fruitless = 0;
        match call {
            Call::Live if begin + 1 == up.begins && seq <= up.sent => self.acknowledge_memory(seq),
            Call::Live => self.hang_up("acknowledged what was not sent", now),
            Call::Backlog => {
                let except = Some(self.leg);
                let LaneAck { done, actions } = up.backlog.acknowledged(begin, seq, except);
                self.lane_done(done);
                self.actions.extend(actions);
            }
            Call::Critical => {
                let LaneAck { done, actions } = up.critical.acknowledged(begin, seq, None);
                self.lane_done(done);
                self.actions.extend(actions);
            }
        }
    }

    fn lane_done(&mut self, done: Vec<(Leg, u64)>) {
        for (leg, seq) in done {
            self.actions.push(Action::Spool(SpoolJob::Acknowledge { leg, seq }));
        }
    }

    fn spooled(&mut self, done: SpoolDone, now: SteadyMs) {
        match done {
            SpoolDone::Appended { leg, through, dropped } => {
                self.appended(leg, through);
                self.dropped_in_spool(dropped);
            }
            SpoolDone::DropsAppended { records, durable } => {
                if !durable {
                    self.figures.untold_drops += records as u64;
                }
                if let Link::Up(up) = &mut self.link {
                    self.actions.extend(up.critical.more(None));
                }
            }
            SpoolDone::Surveyed { acknowledged, returned, live_leg_waits, dropped } => {
                self.leave_spool(acknowledged);
                self.figures.acknowledged += acknowledged;
                self.figures.in_spool += returned;
                self.figures.returned += returned;
                if returned > 0 {
                    self.figures.collector_rollbacks += 1;
                }
                self.dropped_in_spool(dropped);
                self.surveyed(live_leg_waits, now);
            }
            SpoolDone::Next { lane, record, dropped } => {
                self.dropped_in_spool(dropped);
                let except = Some(self.leg);
                let idle = !self.waits_for_ack();
                if let Link::Up(up) = &mut self.link {
                    let (sender, except) = match lane {
                        Lane::Backlog => (&mut up.backlog, except),
                        Lane::Critical => (&mut up.critical, None),
                    };
                    if let Some(record) = &record {
                        self.figures.sent_samples += u64::from(record.samples);
                        if idle {
                            self.progress_at = now;
                        }
                    }
                    self.actions.extend(sender.read(record, except));
                }
            }
            SpoolDone::Acknowledged { samples } => {
                self.leave_spool(samples);
                self.figures.acknowledged += samples;
            }
        }
    }

    fn leave_spool(&mut self, samples: u64) {
        take(&mut self.figures.in_spool, samples, &mut self.figures.miscounted);
    }

    /// Ticks handed to the spool are durable there, or not.
    fn appended(&mut self, leg: Leg, through: Option<u64>) {
        let up = self.is_up();
        let live = leg == self.leg;
        self.spool_refused = false;
        let list = if live { &mut self.memory } else { &mut self.closing };
        let mut records = Vec::new();
        let mut kept = VecDeque::with_capacity(list.len());
        for mut held in list.drain(..) {
            if held.place == Place::Spilling {
                let samples = held.tick.samples.len() as u64;
                if through.is_some_and(|through| held.seq <= through) {
                    take(&mut self.figures.in_memory, samples, &mut self.figures.miscounted);
                    self.figures.in_spool += samples;
                    held.place = Place::Spool;
                } else if live {
                    held.place = Place::Memory;
                    self.spool_refused = true;
                } else {
                    take(&mut self.figures.in_memory, samples, &mut self.figures.miscounted);
                    add(&mut self.figures.dropped, DropReason::SpoolFailed, samples);
                    let (seqs, times) = ((held.seq, held.seq), (held.tick.t, held.tick.t));
                    records.push(drop_record(leg, seqs, samples, times, DropReason::SpoolFailed));
                }
            }
            if live && (up || held.place != Place::Spool) {
                kept.push_back(held);
            }
        }
        if live {
            self.memory = kept;
        }
        self.tell_drops(records);
    }

    fn dropped_in_spool(&mut self, dropped: Vec<DropRecord>) {
        for record in &dropped {
            self.leave_spool(record.samples);
            add(&mut self.figures.dropped, record.reason, record.samples);
        }
        self.tell_drops(dropped);
    }

    fn tell_drops(&mut self, records: Vec<DropRecord>) {
        if !records.is_empty() {
            self.actions.push(Action::Spool(SpoolJob::AppendDrops(records)));
        }
    }

    fn hang_up(&mut self, reason: &str, now: SteadyMs) {
        if let Link::Down { retry_at } = &mut self.link {
            if self.stopped {
                *retry_at = i64::MAX;
            }
            return;
        }
        self.figures.hang_ups += 1;
        self.actions.push(Action::HangUp { reason: reason.to_owned() });
        let wait = if matches!(self.link, Link::Greeting { .. }) {
            self.away = true;
            self.rng.random_range(RETRY_MS)
        } else {
            let before = self.fruitless;
            self.fruitless = before.saturating_add(1);
            let most = FRUITLESS_FIRST_MS.saturating_mul(1 << before.min(16));
            if before == 0 { 0 } else { self.rng.random_range(0..=most.min(FRUITLESS_MAX_MS)) }
        };
        let retry_at = if self.stopped { i64::MAX } else { (now + wait).max(self.not_before) };
        self.link = Link::Down { retry_at };
        // What is durable in the spool comes from there now.
        self.memory.retain(|held| held.place != Place::Spool);
    }

    fn heard(&mut self, now: SteadyMs) {
        if let Link::Up(up) = &mut self.link {
            up.heard_at = now;
        }
    }

    fn waits_for_ack(&self) -> bool {
        match &self.link {
            Link::Up(up) => {
                !self.memory.is_empty() || up.backlog.is_waiting() || up.critical.is_waiting()
            }
            _ => false,
        }
    }

    /// Does what is due.
    fn on_time(&mut self, at: Moment) {
        let now = at.steady_ms;
        let stalled = self.waits_for_ack() && self.progress_at + STALL_MS <= now;
        match &mut self.link {
            Link::Down { retry_at } if *retry_at <= now => {
                self.link = Link::Greeting { since: now };
                self.actions.push(Action::Dial(Hello {
                    wire_version: WIRE_VERSION,
                    agent_version: self.config.agent_version.clone(),
                    boot_id: self.config.boot_id.clone(),
                    epoch: self.config.epoch,
                    now_ms: at.wall_ms,
                }));
            }
            Link::Greeting { since } if *since + GREETING_MS <= now => {
                self.hang_up("no welcome came in time", now);
            }
            Link::Up(up) if up.heard_at + SILENCE_MS <= now => {
                self.hang_up("the collector is silent", now);
            }
            Link::Up(_) if stalled => {
                self.hang_up("nothing is acknowledged", now);
            }
            Link::Up(up) if up.pinged_at + PING_MS <= now => {
                up.pinged_at = now;
                let age = self.memory.front().map_or(0, |held| now - held.since);
                self.actions.push(Action::Ping {
                    queue_age_ms: u64::try_from(age).unwrap_or(0),
                    queue_samples: self.figures.in_memory + self.figures.in_spool,
                });
            }
            Link::Down { .. } | Link::Greeting { .. } | Link::Surveying { .. } | Link::Up(_) => {}
        }
        let due = self.memory.iter().find(|held| held.place == Place::Memory);
        if let Some(held) = due
            && !self.spool_refused
            && !matches!(self.link, Link::Surveying { .. })
            && self.spill_at(held) <= now
        {
            self.spill(now);
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
