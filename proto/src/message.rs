//! What the two sessions say to each other, as they mean it.

use bytes::Bytes;
use stoa_model::Inventory;

use crate::delivery::{DropRecord, Epoch, Leg, Loss, Mark};

/// The wire format this build speaks.
pub const WIRE_VERSION: u32 = 1;

/// An agent process introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest wire format it speaks.
    pub wire_version: u32,
    /// Its version, for people.
    pub agent_version: String,
    /// The kernel's boot id; empty when unknown.
    pub boot_id: Vec<u8>,
    /// The process.
    pub epoch: Epoch,
    /// Its clock, milliseconds.
    pub now_ms: i64,
}

/// The collector lets a session begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Names the session on Push calls.
    pub session: u64,
    /// What is durable, every leg the collector remembers.
    pub marks: Vec<Mark>,
    /// The collector's clock, milliseconds.
    pub now_ms: i64,
    /// What it has of the host's inventory; `None` when it takes no inventories.
    pub inventory: Option<Digest>,
}

/// Names what a document says; empty is of none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub Bytes);

/// The longest digest, in bytes.
pub const DIGEST_BYTES_MAX: usize = 32;

/// A host's inventory as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryTold {
    /// From the [`Welcome`].
    pub session: u64,
    /// Of the document.
    pub digest: Digest,
    /// What the host is made of.
    pub document: Inventory,
}

/// What an agent sends on a Push call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A leg starts.
    Begin {
        /// From the [`Welcome`].
        session: u64,
        /// Which leg.
        leg: Leg,
        /// Whether it is sent beside the live ticks.
        backlog: bool,
    },
    /// Ticks of the leg.
    Data(Data),
    /// What was dropped; on critical legs.
    Drops {
        /// Number within the leg.
        seq: u64,
        /// The records.
        records: Vec<DropRecord>,
    },
}

/// Ticks as they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The last tick's number within the leg, from 1.
    pub seq: u64,
    /// How many ticks, ending with `seq`; at least 1.
    pub ticks: u32,
    /// Samples in all of them.
    pub samples: u32,
    /// Whether the codec starts afresh.
    pub key: bool,
    /// What [`crate::frame`] reads.
    pub payload: Bytes,
}

/// What the collector answers on a Push call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushReply {
    /// Frames are on disk, or counted as dropped.
    Durable {
        /// Which Begin of the call, from 0.
        begin: u32,
        /// Every frame up to here.
        seq: u64,
        /// What of them is not stored.
        losses: Vec<Loss>,
    },
    /// A frame could not be read: once more from `seq`, with a key frame.
    Resync {
        /// Which Begin of the call, from 0.
        begin: u32,
        /// Where to start.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The call ends.
    Refused {
        /// Why.
        reason: String,
        /// Wait at least this long, milliseconds.
        retry_after_ms: u32,
    },
}
