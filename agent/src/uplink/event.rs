//! What can happen to the uplink, and what it wants done.

use std::sync::Arc;

use bytes::Bytes;
use stoa_model::TimestampMs;
use stoa_proto::delivery::{DropReason, DropRecord, Epoch, Leg, Mark};
use stoa_proto::message::{Hello, Push, PushReply, Welcome};
use stoa_proto::tick::Tick;

/// Milliseconds by a clock that nobody sets, from any beginning: only how far two instants are apart
/// means something. Not a [`TimestampMs`].
pub type SteadyMs = i64;

/// The agent's two clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What every wait runs by.
    pub steady_ms: SteadyMs,
    /// What the host's clock says, which may be set at any time and by any amount: told to the
    /// collector, and waited for by nothing.
    pub wall_ms: TimestampMs,
}

/// A Push call of the session; there is at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Ticks as they are read.
    Live,
    /// Ticks out of the spool.
    Backlog,
    /// Drop records.
    Critical,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The sampler has read.
    Tick(Arc<Tick>),
    /// The collector answered the Hello; `fresh` is an epoch never used before.
    Welcomed {
        /// The answer.
        welcome: Welcome,
        /// Random.
        fresh: Epoch,
    },
    /// Something came in on a Push call.
    Reply {
        /// Which.
        call: Call,
        /// What.
        reply: PushReply,
    },
    /// A Pong came.
    Pong,
    /// A newer session of this identity has taken over.
    Fenced {
        /// The collector's words.
        reason: String,
    },
    /// The dial failed, or the session or one of its calls ended; the next dial may do better.
    Ended {
        /// Why.
        reason: String,
    },
    /// The dial was judged: the next one will be judged alike until something has changed.
    Refused {
        /// Why.
        reason: String,
        /// What must change.
        until: Until,
    },
    /// The spool has done what it was asked.
    Spool(SpoolDone),
    /// Time has passed.
    Timer,
    /// The process ends: save what is in memory.
    Stop,
}

/// What must change before a dial that was refused can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A person must act: a revoked host, another collector's CA, a wrong port.
    Mended,
    /// A certificate is out of its time: a clock that is set right may be enough.
    ClockSet,
}

/// What to do, in order. A [`Self::Spool`] is done, and its outcome handed in, before what
/// follows it.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect, and send this on a new control session.
    Dial(Hello),
    /// Send on a call; open it when it is not.
    Push {
        /// Which.
        call: Call,
        /// What.
        push: Push,
    },
    /// Send a Ping.
    Ping {
        /// Age of the oldest tick not acknowledged, milliseconds.
        queue_age_ms: u64,
        /// Samples waiting.
        queue_samples: u64,
    },
    /// Close the session and all its calls; nothing of them is to be handed in any more.
    HangUp {
        /// For the log.
        reason: String,
    },
    /// Work for the spool.
    Spool(SpoolJob),
}

/// Which of the spool's lanes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Ticks.
    Backlog,
    /// Drop records.
    Critical,
}

/// What the spool is asked.
#[derive(Clone, Debug)]
pub enum SpoolJob {
    /// Make ticks durable. Answered by [`SpoolDone::Appended`].
    Append {
        /// Their leg.
        leg: Leg,
        /// The first one's number; they are consecutive.
        seq_first: u64,
        /// The ticks.
        ticks: Vec<Arc<Tick>>,
    },
    /// Make drop records durable. Answered by [`SpoolDone::DropsAppended`].
    AppendDrops(Vec<DropRecord>),
    /// Keep an acknowledged tick for a while. Not answered.
    Keep {
        /// Its leg.
        leg: Leg,
        /// Its number.
        seq: u64,
        /// The tick.
        tick: Arc<Tick>,
    },
    /// The collector says what it has: start over from there. Answered by [`SpoolDone::Surveyed`].
    Survey {
        /// What it has.
        marks: Vec<Mark>,
        /// The live leg.
        live: Leg,
        /// The first tick of the live leg that is in memory, or would be the next.
        live_from: u64,
    },
    /// The next record to send. Answered by [`SpoolDone::Next`].
    Next {
        /// From which lane.
        lane: Lane,
        /// A leg to pass over: the live one, whose ticks are in memory.
        except: Option<Leg>,
    },
    /// The collector has this much of a leg. Answered by [`SpoolDone::Acknowledged`].
    Acknowledge {
        /// Which.
        leg: Leg,
        /// Through here.
        seq: u64,
    },
}

/// What the spool has done.
#[derive(Clone, Debug)]
pub enum SpoolDone {
    /// Ticks are durable, or could not be made so.
    Appended {
        /// Their leg.
        leg: Leg,
        /// The last tick that is durable; none is when absent.
        through: Option<u64>,
        /// What had to go to make room.
        dropped: Vec<DropRecord>,
    },
    /// Drop records are durable, or could not be made so.
    DropsAppended {
        /// How many.
        records: usize,
        /// Whether they are.
        durable: bool,
    },
    /// What is to be sent, after the collector's marks.
    Surveyed {
        /// Samples found to be on the collector that were not acknowledged before.
        acknowledged: u64,
        /// Samples acknowledged once that the collector no longer has, to be sent again.
        returned: u64,
        /// Whether ticks of the live leg from before memory are to be sent.
        live_leg_waits: bool,
        /// What was dropped since.
        dropped: Vec<DropRecord>,
    },
    /// The next record, if there is one.
    Next {
        /// From which lane.
        lane: Lane,
        /// The record.
        record: Option<Record>,
        /// What could not be read, or was too old.
        dropped: Vec<DropRecord>,
    },
    /// Records are done with.
    Acknowledged {
        /// Samples of records that wait no more.
        samples: u64,
    },
}

/// Who does the [`SpoolJob`]s: a [`crate::spool::Spool`], or one that is watched.
pub trait SpoolWorker: Send + 'static {
    /// Does one; called on a thread that may block, one at a time and in order.
    fn work(&mut self, job: SpoolJob, now: TimestampMs) -> Option<SpoolDone>;

    /// Ends in good order.
    fn end(self);
}

/// A record out of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its leg.
    pub leg: Leg,
    /// The first frame's number.
    pub seq_first: u64,
    /// The last frame's number.
    pub seq_last: u64,
    /// Samples in it.
    pub samples: u32,
    /// What it holds.
    pub body: RecordBody,
}

/// What a [`Record`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// A payload that starts with a key frame.
    Ticks(Bytes),
    /// Drop records.
    Drops(Vec<DropRecord>),
}

/// A drop record for a range of ticks.
pub(crate) fn drop_record(
    leg: Leg,
    seqs: (u64, u64),
    samples: u64,
    times: (TimestampMs, TimestampMs),
    reason: DropReason,
) -> DropRecord {
    let ((seq_first, seq_last), (t_first, t_last)) = (seqs, times);
    DropRecord { leg, seq_first, seq_last, samples, t_first, t_last, reason }
}
