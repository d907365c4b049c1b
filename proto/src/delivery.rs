//! Who sent what, how far it got, and what was lost: the nouns of delivery.
//!
//! A stream of one process (an **epoch**) is cut into **legs**: within a leg, frames are numbered
//! from 1 and always travel in that order, so one number says what is durable. A new leg begins
//! when live ticks must overtake a backlog.

use std::fmt;

/// A process start: random, so that a host set back to a snapshot cannot repeat one. The agent
/// draws 96 bits, see [`Epoch::from_random`]; to the collector it is 16 opaque bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub [u8; 16]);

impl Epoch {
    /// An epoch out of 12 random bytes. The last 4 are zero: in the spool they are the leg's
    /// number.
    #[must_use]
    pub fn from_random(random: [u8; 12]) -> Self {
        let mut bytes = [0; 16];
        for (byte, drawn) in bytes.iter_mut().zip(random) {
            *byte = drawn;
        }
        Self(bytes)
    }
}

impl fmt::Display for Epoch {
    /// The first 8 of 32 hexadecimal digits: enough to tell epochs apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// What a frame carries; each stream is numbered, acknowledged and bounded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// Drop records, heartbeats, alert facts.
    Critical = 1,
    /// Samples.
    Metrics = 2,
    /// Log lines.
    Logs = 3,
}

/// The identity of a leg within its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leg {
    /// The process that produced it.
    pub epoch: Epoch,
    /// What it carries.
    pub stream: Stream,
    /// Counts the legs of the epoch's stream, from 0.
    pub number: u32,
}

/// Legs the collector remembers of one agent, all streams together. What an agent keeps of a leg
/// forgotten there it would send again with each session; see [`LEGS_KEPT`].
pub const LEGS_REMEMBERED: usize = 256;

/// Legs of which an agent keeps, and sends again, what was acknowledged: its newest ones. Half of
/// [`LEGS_REMEMBERED`], as the collector counts the legs of drop records too, and forgets in the order
/// in which legs advanced, the agent in that in which they began.
pub const LEGS_KEPT: usize = LEGS_REMEMBERED / 2;

/// Sequence numbers are below this: a frame a nanosecond for three centuries. What is beyond is a
/// mistake, and arithmetic on what is below cannot overflow.
pub const SEQ_END: u64 = 1 << 63;

/// How far a leg is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which leg.
    pub leg: Leg,
    /// Every frame up to and including this one.
    pub seq: u64,
}

/// Why samples were not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The spool was full: thinned.
    SpoolThinned,
    /// The spool was full: the oldest went.
    SpoolBytes,
    /// Waited in the spool longer than its age bound.
    SpoolAge,
    /// The spool could not be written.
    SpoolFailed,
    /// Damaged on disk.
    SpoolDamaged,
    /// The collector could not read the frame, even with a fresh codec.
    Unreadable,
    /// Over a limit of the collector's.
    Limit,
    /// Further in the future than the collector allows.
    Quarantined,
    /// The store refused: another value at an instant already stored, or too old.
    Refused,
    /// The agent's process ended without saving what it had in memory; how much is not known.
    Crashed,
}

impl DropReason {
    /// Every reason, for tables of counters.
    pub const ALL: [Self; 10] = [
        Self::SpoolThinned,
        Self::SpoolBytes,
        Self::SpoolAge,
        Self::SpoolFailed,
        Self::SpoolDamaged,
        Self::Unreadable,
        Self::Limit,
        Self::Quarantined,
        Self::Refused,
        Self::Crashed,
    ];

    /// The word in a `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpoolThinned => "spool_thinned",
            Self::SpoolBytes => "spool_bytes",
            Self::SpoolAge => "spool_age",
            Self::SpoolFailed => "spool_failed",
            Self::SpoolDamaged => "spool_damaged",
            Self::Unreadable => "unreadable",
            Self::Limit => "limit",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
        }
    }
}

/// What a sender dropped on purpose: drawn as a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRecord {
    /// The leg it was taken from.
    pub leg: Leg,
    /// The first frame's number.
    pub seq_first: u64,
    /// The last frame's number.
    pub seq_last: u64,
    /// Samples in them.
    pub samples: u64,
    /// The first tick's instant, milliseconds.
    pub t_first: i64,
    /// The last tick's instant, milliseconds.
    pub t_last: i64,
    /// Why.
    pub reason: DropReason,
}

/// Samples of acknowledged frames that are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub samples: u64,
    /// What a person needs to find the cause; short.
    pub detail: String,
}
