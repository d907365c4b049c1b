//! The ingest of one agent as a state machine: `event + now → actions`, no socket, no store, no
//! clock.
//!
//! Constraints
//! - A frame's samples and its leg's mark are in one batch, and a frame is acknowledged only when
//!   that batch is durable. At most one batch of an agent is under way, so a batch that fails never
//!   leaves a hole behind one that does not.
//! - A frame is dropped as repeated exactly when its number is at or below what its leg has
//!   accepted; what is accepted is what is durable, plus what is queued and under way.
//! - Only calls of the newest session are served.
//!
//! - A leg is on one call at a time: frames dropped as repeated on one call must not be lost with
//!   another.
//!
//! Bounds: [`CALLS_MAX`], [`QUEUE_SAMPLES_MAX`] and [`QUEUE_FRAMES_MAX`] (the driver asks
//! [`AgentIngest::has_room`] before it reads on), [`APPEND_SAMPLES_MAX`], and those of the codec and
//! the [`super::dictionary`].

use std::collections::{BTreeMap, HashMap, VecDeque};

use stoa_model::{HostId, TimestampMs};
use stoa_proto::delivery::{DropReason, DropRecord, Epoch, Leg, Loss, Mark, Stream};
use stoa_proto::frame::{Additions, DecodedTick, Decoder, Effort, FrameError};
use stoa_proto::message::{Data, Hello, Push, PushReply, Welcome};
use stoa_tsdb::{Batch, GroupId, Mark as StoredMark, Row};

use super::clocks::Odd;
use super::dictionary::{Budget, Catalog, Context, Dictionary};
use super::event::{Action, CallId, SessionId};
use super::figures::{IngestFigures, count};
use super::legs::Legs;

/// Push calls of one agent, at most: live, backlog and critical, and as many that are ending.
pub const CALLS_MAX: usize = 8;

/// Samples of one agent decoded and not yet durable, at which no more is read from it.
pub const QUEUE_SAMPLES_MAX: u64 = 1 << 17;

/// Frames of one agent read and not yet durable, at which no more is read from it: those that bring
/// no sample, repeated or all lost, count here. More than an agent has on its way.
pub const QUEUE_FRAMES_MAX: usize = 512;

/// Samples of one batch, at most, but for a single frame that has more: keeps live ticks from
/// waiting behind a backlog.
pub const APPEND_SAMPLES_MAX: u64 = 1 << 15;

/// A sample further ahead of the collector's clock than this is not stored, milliseconds: it is
/// quarantined, or, when it is not the sender's clock that is wrong, the call is refused.
pub const FUTURE_MAX_MS: i64 = 300_000;

/// Two processes of one identity that both spoke within this time are both alive, milliseconds.
const ALIVE_MS: i64 = 10_000;

/// Epochs remembered as superseded; one that comes back is alive beside its successor.
const SUPERSEDED_MAX: usize = 8;

/// The wait asked for when the store does not take a batch, milliseconds.
const RETRY_AFTER_MS: u32 = 1_000;

/// The wait asked for while the collector's clock is in doubt, milliseconds.
const CLOCK_RETRY_AFTER_MS: u32 = 10_000;

/// The longest text sent about a loss, in bytes.
const DETAIL_BYTES_MAX: usize = 200;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Durable {
        /// Samples that are new.
        stored: u64,
        /// Samples that were there with the same value.
        known: u64,
        /// Samples not stored: another value is there, or too old.
        refused: u64,
    },
    /// It will never be taken as it is; others may.
    Impossible {
        /// Why.
        reason: String,
    },
    /// It was not taken; later it may be.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The machine: everything the collector knows of one agent's telemetry.
pub struct AgentIngest {
    host: HostId,
    group: GroupId,
    legs: Legs,
    /// Legs with frames queued or under way, and how far they go.
    accepted: HashMap<Leg, u64>,
    current: Option<Current>,
    superseded: VecDeque<Epoch>,
    calls: BTreeMap<CallId, Call>,
    under_way: Option<UnderWay>,
    queued_samples: u64,
    budget: Budget,
    /// Whose fault a sample too far ahead is.
    odd: Odd,
    figures: IngestFigures,
    actions: Vec<Action>,
}

/// Why a call is refused.
enum Refusal {
    /// The sender broke the protocol.
    Protocol(String),
    /// It cannot be said yet that the sender's clock is wrong and the collector's is not.
    Clock(String),
}

struct Current {
    session: SessionId,
    epoch: Epoch,
    boot_id: Vec<u8>,
    heard_at: TimestampMs,
}

struct Call {
    backlog: bool,
    begins: u32,
    leg: Option<Leg>,
    /// `None` until a key frame comes.
    decoder: Option<Decoder>,
    dictionary: Dictionary,
    /// A key frame has been asked for.
    resyncing: bool,
    queue: VecDeque<Unit>,
}

/// A frame as far as it can be read without the store's catalog.
pub struct Read {
    call: CallId,
    what: What,
}

enum What {
    /// What is no data.
    Other(Push),
    Ticks(Ticks),
    Refused(Refusal),
}

struct Ticks {
    leg: Leg,
    begin: u32,
    seq_first: u64,
    seq: u64,
    samples: u32,
    key: bool,
    decoded: Result<Option<Vec<DecodedTick>>, FrameError>,
}

impl Read {
    /// Whether series or families are defined, for which [`AgentIngest::take`] asks the catalog.
    #[must_use]
    pub fn defines(&self) -> bool {
        let What::Ticks(Ticks { decoded: Ok(Some(ticks)), .. }) = &self.what else { return false };
        ticks.iter().any(|tick| tick.additions != Additions::default())
    }
}

/// A frame that has been taken.
struct Unit {
    begin: u32,
    /// Whether it came on a call that carries what is read now.
    live: bool,
    mark: Mark,
    rows: Vec<Row>,
    samples: u64,
    losses: Vec<Loss>,
    drops: Vec<DropRecord>,
}

struct UnderWay {
    /// The legs once the batch is durable.
    legs: Legs,
    /// Those of the batch.
    marks: Vec<StoredMark>,
    /// Whether the batch has samples.
    has_rows: bool,
    /// The newest instant in it that came live.
    live: Option<TimestampMs>,
    samples: u64,
    acks: Vec<Ack>,
}

struct Ack {
    call: CallId,
    begin: u32,
    seq: u64,
    losses: Vec<Loss>,
    drops: Vec<DropRecord>,
}

impl AgentIngest {
    /// The machine of one agent. `marks` are the store's whose keys begin with
    /// [`super::legs::key_prefix`], read while no batch of this agent was under way.
    #[must_use]
    pub fn new(host: HostId, series_max: usize, marks: &[StoredMark]) -> Self {
        Self {
            group: group_of(&host),
            legs: Legs::load(&host, marks),
            host,
            accepted: HashMap::new(),
            current: None,
            superseded: VecDeque::new(),
            calls: BTreeMap::new(),
            under_way: None,
            queued_samples: 0,
            budget: Budget::new(series_max),
            odd: Odd::default(),
            figures: IngestFigures::default(),
            actions: Vec::new(),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn figures(&self) -> &IngestFigures {
        &self.figures
    }

    /// Whether a session is open, and when it was last heard of.
    #[must_use]
    pub fn heard_at(&self) -> Option<TimestampMs> {
        self.current.as_ref().map(|current| current.heard_at)
    }

    /// Whether more frames may be read from the agent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let frames: usize = self.calls.values().map(|call| call.queue.len()).sum();
        self.queued_samples < QUEUE_SAMPLES_MAX && frames < QUEUE_FRAMES_MAX
    }

    /// The newest instant of the batch under way that came on a call of live ticks, as the sender's
    /// clock has it: once the batch is durable it says that the host is there. What comes out of a
    /// backlog does not, however new, and a tick that comes live does, however slow the clock.
    #[must_use]
    pub fn live_under_way(&self) -> Option<TimestampMs> {
        self.under_way.as_ref().and_then(|under_way| under_way.live)
    }

    /// A process introduces itself on a new control session; it takes over from any other.
    pub fn hello(&mut self, session: SessionId, hello: &Hello, now: TimestampMs) -> Vec<Action> {
        let mut conflict = self.superseded.contains(&hello.epoch);
        if let Some(old) = self.current.take() {
            let same = old.epoch == hello.epoch;
            let alive = now.saturating_sub(old.heard_at) < ALIVE_MS;
            conflict |= !same && alive && old.boot_id != hello.boot_id;
            if !same {
                self.superseded.retain(|epoch| *epoch != old.epoch && *epoch != hello.epoch);
                self.superseded.push_back(old.epoch);
                if self.superseded.len() > SUPERSEDED_MAX {
                    self.superseded.pop_front();
                }
            }
            let reason = if same {
                "a newer session of the same process has begun".to_owned()
            } else {
                format!("process {} has taken over as {}", hello.epoch, self.host)
            };
            self.actions.push(Action::Fence { session: old.session, reason });
            self.end_calls();
        }
        self.figures.sessions += 1;
        self.figures.identity_conflicts += u64::from(conflict);
        self.current = Some(Current {
            session,
            epoch: hello.epoch,
            boot_id: hello.boot_id.clone(),
            heard_at: now,
        });
        let marks = self.legs.marks();
        let welcome = Welcome { session, marks, now_ms: now, inventory: None };
        self.actions.push(Action::Welcome { session, welcome });
        self.take_actions()
    }

    /// Something came in on a session; `false` when it has been fenced.
    pub fn heard(&mut self, session: SessionId, now: TimestampMs) -> bool {
        match &mut self.current {
            Some(current) if current.session == session => {
                current.heard_at = now;
                true
            }
            _ => false,
        }
    }

    /// Whether a session is the newest, and open.
    #[must_use]
    pub fn is_current(&self, session: SessionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.session == session)
    }

    /// A session's stream has ended.
    pub fn session_ended(&mut self, session: SessionId) -> Vec<Action> {
        if self.is_current(session) {
            self.current = None;
            self.end_calls();
        }
        self.take_actions()
    }

    /// A stream of the agent's was ended for a message that nobody can read; it may come again.
    pub fn misspoke(&mut self) {
        self.figures.refused_calls += 1;
    }

    /// A call's stream has ended. What it brought and is not durable comes again.
    pub fn call_ended(&mut self, call: CallId) -> Vec<Action> {
        self.remove_call(call);
        self.take_actions()
    }

    /// Whose fault it is when a sample is too far ahead, from now on.
    pub fn clocks_judged(&mut self, odd: Odd) {
        self.odd = odd;
    }

    /// A frame came in on a call.
    pub fn push(
        &mut self,
        id: CallId,
        push: Push,
        catalog: &dyn Catalog,
        now: TimestampMs,
    ) -> Vec<Action> {
        let read = self.read(id, push, Effort::ALL, now);
        self.take(read, catalog, now)
    }

    /// Reads a frame as far as no catalog is needed; what comes of it goes to [`Self::take`] before
    /// anything else is told to the machine. A frame that takes more than `effort` is asked for again
    /// as a key frame, like one that cannot be read.
    pub fn read(&mut self, id: CallId, push: Push, effort: Effort, now: TimestampMs) -> Read {
        let what = match push {
            Push::Data(data) => match self.decode(id, &data, effort, now) {
                Ok(ticks) => What::Ticks(ticks),
                Err(refusal) => What::Refused(refusal),
            },
            other => What::Other(other),
        };
        Read { call: id, what }
    }

    /// What [`Self::read`] gave is taken: acknowledged once it is durable, or refused.
    pub fn take(&mut self, read: Read, catalog: &dyn Catalog, now: TimestampMs) -> Vec<Action> {
        let id = read.call;
        let result = match read.what {
            What::Other(Push::Begin { session, leg, backlog }) => {
                self.begin(id, session, leg, backlog, now).map_err(Refusal::Protocol)
            }
            What::Other(Push::Drops { seq, records }) => {
                self.drops(id, seq, records).map_err(Refusal::Protocol)
            }
            What::Other(Push::Data(_)) => Ok(()),
            What::Ticks(ticks) => self.data(id, ticks, catalog, now),
            What::Refused(refusal) => Err(refusal),
        };
        match result {
            Ok(()) => {}
            Err(Refusal::Protocol(reason)) => {
                self.figures.refused_calls += 1;
                self.refuse(id, reason, RETRY_AFTER_MS);
            }
            Err(Refusal::Clock(reason)) => {
                self.figures.clock_refused_calls += 1;
                self.refuse(id, reason, CLOCK_RETRY_AFTER_MS);
            }
        }
        self.pump();
        self.take_actions()
    }

    /// The batch under way is durable, or not.
    pub fn appended(&mut self, outcome: Outcome) -> Vec<Action> {
        if let Some(mut done) = self.under_way.take() {
            match outcome {
                Outcome::Durable { stored, known, refused } => {
                    self.queued_samples -= done.samples;
                    self.figures.stored += stored;
                    self.figures.known += known;
                    if refused > 0 {
                        done.lose(refused, "another value is stored there, or too old");
                    }
                    self.legs = done.legs;
                    self.forget_accepted();
                    self.acknowledge(done.acks);
                }
                Outcome::Impossible { reason } if done.has_rows => {
                    // The rows are lost, and counted; the marks must go on.
                    self.figures.failed_appends += 1;
                    done.lose(done.samples, &reason);
                    done.has_rows = false;
                    done.live = None;
                    let marks = done.marks.clone();
                    let batch = Batch { group: self.group, rows: Vec::new(), marks };
                    self.actions.push(Action::Append(batch));
                    self.under_way = Some(done);
                }
                Outcome::Impossible { reason } | Outcome::Failed { reason } => {
                    self.figures.failed_appends += 1;
                    self.queued_samples -= done.samples;
                    for id in self.calls.keys().copied().collect::<Vec<_>>() {
                        self.refuse(id, reason.clone(), RETRY_AFTER_MS);
                    }
                    self.accepted.clear();
                }
            }
        }
        self.pump();
        self.take_actions()
    }

    fn begin(
        &mut self,
        id: CallId,
        session: SessionId,
        leg: Leg,
        backlog: bool,
        now: TimestampMs,
    ) -> Result<(), String> {
        if !self.heard(session, now) {
            return Err("the session has ended".to_owned());
        }
        if !self.calls.contains_key(&id) && self.calls.len() >= CALLS_MAX {
            return Err(format!("over {CALLS_MAX} calls of one agent"));
        }
        if self.calls.iter().any(|(other, call)| *other != id && call.leg == Some(leg)) {
            return Err("the leg is on another call".to_owned());
        }
        let call = self.calls.entry(id).or_insert_with(|| Call {
            backlog,
            begins: 0,
            leg: None,
            decoder: None,
            dictionary: Dictionary::default(),
            resyncing: false,
            queue: VecDeque::new(),
        });
        call.begins += 1;
        call.leg = Some(leg);
        call.backlog = backlog;
        call.decoder = None;
        call.resyncing = false;
        Ok(())
    }

    /// Decodes a frame's ticks, once all that can be said without them is fine.
    fn decode(
        &mut self,
        id: CallId,
        data: &Data,
        effort: Effort,
        now: TimestampMs,
    ) -> Result<Ticks, Refusal> {
        let Some(call) = self.calls.get_mut(&id) else {
            return Err("data without a begin".into());
        };
        let leg = call.leg.filter(|leg| leg.stream == Stream::Metrics);
        let leg = leg.ok_or("samples on a stream that carries none")?;
        let seq_first = data.seq.checked_sub(u64::from(data.ticks) - 1).filter(|first| *first > 0);
        let seq_first = seq_first.ok_or("a frame numbered below 1")?;
        let begin = call.begins.saturating_sub(1);
        let decoded = decode(call, data, effort);
        self.figures.frames += 1;
        self.figures.payload_bytes += data.payload.len() as u64;
        self.budget.purge(self.calls.values().map(|call| &call.dictionary), now);
        let (seq, samples, key) = (data.seq, data.samples, data.key);
        Ok(Ticks { leg, begin, seq_first, seq, samples, key, decoded })
    }

    fn data(
        &mut self,
        id: CallId,
        ticks: Ticks,
        catalog: &dyn Catalog,
        now: TimestampMs,
    ) -> Result<(), Refusal> {
        let Ticks { leg, begin, seq_first, seq: seq_last, samples, key, decoded } = ticks;
        let base = self.accepted_of(leg);
        // Ended since it was read: what it brought comes again on another.
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let mut unit = Unit {
            begin,
            live: !call.backlog,
            mark: Mark { leg, seq: seq_last },
            rows: Vec::new(),
            samples: 0,
            losses: Vec::new(),
            drops: Vec::new(),
        };
        match decoded {
            Ok(Some(ticks)) => {
                let context = Context {
                    host: &self.host,
                    group: self.group,
                    catalog,
                    now,
                    describe: !call.backlog,
                };
                for (seq, tick) in (seq_first..).zip(ticks) {
                    call.dictionary.add(&tick.additions, &mut self.budget, &context);
                    if seq <= base {
                        self.figures.repeated += tick.rows.len() as u64;
                        continue;
                    }
                    take_tick(&mut unit, &tick, &mut call.dictionary, self.odd, now)?;
                }
            }
            // A key frame has been asked for; what comes before it comes again behind it.
            Ok(None) => return Ok(()),
            Err(error) => {
                call.decoder = None;
                let reason = error.to_string();
                if !key {
                    self.figures.resyncs += 1;
                    call.resyncing = true;
                    let reply = PushReply::Resync { begin, seq: seq_first, reason };
                    self.actions.push(Action::Reply { call: id, reply });
                    return Ok(());
                }
                if seq_last > base {
                    let samples = u64::from(samples);
                    unit.losses.push(loss(DropReason::Unreadable, samples, &reason));
                }
            }
        }
        self.queued_samples += unit.samples;
        call.queue.push_back(unit);
        let accepted = self.accepted.entry(leg).or_insert(0);
        *accepted = seq_last.max(*accepted);
        Ok(())
    }

    fn drops(&mut self, id: CallId, seq: u64, records: Vec<DropRecord>) -> Result<(), String> {
        let call = self.calls.get_mut(&id).ok_or("drop records without a begin")?;
        let leg = call.leg.filter(|leg| leg.stream == Stream::Critical);
        let leg = leg.ok_or("drop records on a stream that carries none")?;
        let begin = call.begins.saturating_sub(1);
        let durable = self.legs.seq(leg);
        let accepted = self.accepted.entry(leg).or_insert(durable);
        let fresh = seq > *accepted;
        *accepted = seq.max(*accepted);
        call.queue.push_back(Unit {
            begin,
            live: !call.backlog,
            mark: Mark { leg, seq },
            rows: Vec::new(),
            samples: 0,
            losses: Vec::new(),
            drops: if fresh { records } else { Vec::new() },
        });
        Ok(())
    }

    fn accepted_of(&self, leg: Leg) -> u64 {
        self.accepted.get(&leg).copied().unwrap_or(0).max(self.legs.seq(leg))
    }

    /// Starts the next batch, live frames first, and acknowledges what needs none.
    fn pump(&mut self) {
        while self.under_way.is_none() {
            if self.calls.values().all(|call| call.queue.is_empty()) {
                return;
            }
            let mut legs = self.legs.clone();
            let mut rows = Vec::new();
            let mut under_way = UnderWay {
                legs: Legs::default(),
                marks: Vec::new(),
                has_rows: false,
                live: None,
                samples: 0,
                acks: Vec::new(),
            };
            let mut ends: BTreeMap<Leg, u64> = BTreeMap::new();
            let mut order: Vec<CallId> = self.calls.keys().copied().collect();
            order.sort_by_key(|id| self.calls.get(id).is_some_and(|call| call.backlog));
            for id in order {
                let Some(call) = self.calls.get_mut(&id) else { continue };
                while let Some(unit) = call.queue.pop_front_if(|unit| {
                    under_way.samples == 0 || under_way.samples + unit.samples <= APPEND_SAMPLES_MAX
                }) {
                    let end = ends.entry(unit.mark.leg).or_insert(0);
                    *end = unit.mark.seq.max(*end);
                    under_way.take(id, unit, &mut rows);
                }
            }
            if under_way.acks.is_empty() {
                return;
            }
            for (leg, seq) in ends {
                if seq > legs.seq(leg) {
                    under_way.marks.push(legs.advance(&self.host, Mark { leg, seq }));
                }
            }
            if under_way.marks.is_empty() {
                self.acknowledge(under_way.acks);
                continue;
            }
            under_way.legs = legs;
            under_way.has_rows = !rows.is_empty();
            let batch = Batch { group: self.group, rows, marks: under_way.marks.clone() };
            self.actions.push(Action::Append(batch));
            self.under_way = Some(under_way);
        }
    }

    fn acknowledge(&mut self, acks: Vec<Ack>) {
        for ack in acks {
            for loss in &ack.losses {
                count(&mut self.figures.lost, loss.reason, loss.samples);
            }
            for record in &ack.drops {
                count(&mut self.figures.told, record.reason, record.samples);
            }
            if self.calls.contains_key(&ack.call) {
                let Ack { call, begin, seq, losses, .. } = ack;
                let reply = PushReply::Durable { begin, seq, losses };
                self.actions.push(Action::Reply { call, reply });
            }
        }
    }

    fn forget_accepted(&mut self) {
        let legs = &self.legs;
        self.accepted.retain(|leg, seq| *seq > legs.seq(*leg));
    }

    fn refuse(&mut self, call: CallId, reason: String, retry_after_ms: u32) {
        let reply = PushReply::Refused { reason, retry_after_ms };
        self.actions.push(Action::Reply { call, reply });
        self.actions.push(Action::End { call });
        self.remove_call(call);
    }

    fn end_calls(&mut self) {
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            self.actions.push(Action::End { call });
            self.remove_call(call);
        }
    }

    /// What a call had queued was accepted and will not become durable: it comes again, so the
    /// accepted numbers go back to what is durable or still on its way.
    fn remove_call(&mut self, id: CallId) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.queued_samples -= call.queue.iter().map(|unit| unit.samples).sum::<u64>();
        if call.queue.is_empty() {
            return;
        }
        self.accepted.clear();
        let queued = self.calls.values().flat_map(|call| &call.queue).map(|unit| unit.mark);
        let under_way = self.under_way.iter().flat_map(|under_way| under_way.legs.marks());
        for mark in queued.chain(under_way) {
            let accepted = self.accepted.entry(mark.leg).or_insert(0);
            *accepted = mark.seq.max(*accepted);
        }
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Protocol(reason.to_owned())
    }
}

impl UnderWay {
    /// Samples of the batch are not stored; the last acknowledgement says so.
    fn lose(&mut self, samples: u64, detail: &str) {
        if let Some(ack) = self.acks.last_mut() {
            ack.losses.push(loss(DropReason::Refused, samples, detail));
        }
    }

    fn take(&mut self, call: CallId, unit: Unit, rows: &mut Vec<Row>) {
        self.samples += unit.samples;
        if unit.live {
            self.live = self.live.max(unit.rows.iter().map(|row| row.t_ms).max());
        }
        rows.extend(unit.rows);
        match self.acks.last_mut() {
            Some(ack) if ack.call == call && ack.begin == unit.begin => {
                ack.seq = unit.mark.seq.max(ack.seq);
                ack.losses.extend(unit.losses);
                ack.drops.extend(unit.drops);
            }
            _ => self.acks.push(Ack {
                call,
                begin: unit.begin,
                seq: unit.mark.seq,
                losses: unit.losses,
                drops: unit.drops,
            }),
        }
    }
}

/// The ticks of a frame; `None` when a key frame is awaited and this is none.
fn decode(
    call: &mut Call,
    data: &Data,
    effort: Effort,
) -> Result<Option<Vec<DecodedTick>>, FrameError> {
    if data.key {
        call.decoder = Some(Decoder::new()?);
        call.dictionary = Dictionary::default();
        call.resyncing = false;
    }
    let Some(decoder) = &mut call.decoder else {
        return if call.resyncing {
            Ok(None)
        } else {
            Err(FrameError::Malformed("not a key frame where one is due"))
        };
    };
    let ticks = decoder.decode_within(&data.payload, effort)?;
    if u32::try_from(ticks.len()) != Ok(data.ticks) {
        return Err(FrameError::Malformed("not as many ticks as said"));
    }
    Ok(Some(ticks))
}

/// One tick's rows join a unit, or its losses.
fn take_tick(
    unit: &mut Unit,
    tick: &DecodedTick,
    dictionary: &mut Dictionary,
    odd: Odd,
    now: TimestampMs,
) -> Result<(), Refusal> {
    let ahead_ms = tick.t.saturating_sub(now);
    if ahead_ms > FUTURE_MAX_MS {
        let detail = format!("{} s ahead of the collector's clock", ahead_ms / 1000);
        let doubt = match odd {
            Odd::Sender => {
                let samples = tick.rows.len() as u64;
                lose(&mut unit.losses, loss(DropReason::Quarantined, samples, &detail));
                return Ok(());
            }
            Odd::Collector => "which is behind most senders', set it right",
            Odd::Unknown => "which has just begun and asks others first",
        };
        return Err(Refusal::Clock(format!("{detail}, {doubt}")));
    }
    let (samples, left_out) = dictionary.samples(&tick.rows);
    if left_out > 0 {
        let detail = dictionary.refusal.as_deref().unwrap_or("a series stands twice");
        lose(&mut unit.losses, loss(DropReason::Limit, left_out, detail));
    }
    unit.samples += samples.len() as u64;
    unit.rows.push(Row { t_ms: tick.t, samples });
    Ok(())
}

/// Adds a loss; one for the same reason as the last before it joins that.
fn lose(losses: &mut Vec<Loss>, loss: Loss) {
    match losses.last_mut() {
        Some(last) if last.reason == loss.reason => last.samples += loss.samples,
        _ => losses.push(loss),
    }
}

fn loss(reason: DropReason, samples: u64, detail: &str) -> Loss {
    let end = detail.floor_char_boundary(DETAIL_BYTES_MAX);
    Loss { reason, samples, detail: detail.get(..end).unwrap_or_default().to_owned() }
}

/// FNV-1a of the host's name: the same after any restart, without a table to keep.
#[must_use]
pub fn group_of(host: &HostId) -> GroupId {
    let hash = host.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    GroupId(hash)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod bad_input;
