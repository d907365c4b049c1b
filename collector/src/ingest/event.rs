//! What the ingest of one agent wants done.

use stoa_proto::message::{PushReply, Welcome};
use stoa_tsdb::Batch;

/// A Push call, numbered by the driver.
pub type CallId = u64;

/// A control session, numbered by the driver; what a Begin names.
pub type SessionId = u64;

/// What to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Let a session begin.
    Welcome {
        /// Which.
        session: SessionId,
        /// What to answer.
        welcome: Welcome,
    },
    /// End a session, telling it why.
    Fence {
        /// Which.
        session: SessionId,
        /// For the agent's log.
        reason: String,
    },
    /// Answer on a call.
    Reply {
        /// Which.
        call: CallId,
        /// What.
        reply: PushReply,
    },
    /// End a call, after what was answered.
    End {
        /// Which.
        call: CallId,
    },
    /// Append to the store; hand the outcome to [`super::session::AgentIngest::appended`]. There is
    /// at most one at a time.
    Append(Batch),
}
