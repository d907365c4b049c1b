//! What ingest has done with an agent's samples.

use stoa_proto::delivery::DropReason;

/// Samples by reason, in the order of [`DropReason::ALL`].
pub type ByReason = [u64; DropReason::ALL.len()];

/// Counters of one agent, since the collector began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestFigures {
    /// Sessions begun.
    pub sessions: u64,
    /// Times two processes held this identity at once.
    pub identity_conflicts: u64,
    /// Frames read.
    pub frames: u64,
    /// Payload bytes of frames.
    pub payload_bytes: u64,
    /// Samples stored.
    pub stored: u64,
    /// Samples the store had already, from a leg that was forgotten.
    pub known: u64,
    /// Samples of frames that came again, dropped by their number.
    pub repeated: u64,
    /// Samples not stored, by reason.
    pub lost: ByReason,
    /// Samples agents dropped on their side, as they told, by reason.
    pub told: ByReason,
    /// Frames that had to be asked for again.
    pub resyncs: u64,
    /// Sessions and calls ended for breaking the protocol.
    pub refused_calls: u64,
    /// Calls ended because the collector's clock is in doubt; their senders keep what they have.
    pub clock_refused_calls: u64,
    /// Batches the store did not take.
    pub failed_appends: u64,
}

impl IngestFigures {
    /// Samples not stored because they were too far ahead.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        let counts = DropReason::ALL.iter().zip(self.lost);
        counts.filter(|(reason, _)| **reason == DropReason::Quarantined).map(|(_, lost)| lost).sum()
    }

    /// Adds another agent's.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.identity_conflicts += other.identity_conflicts;
        self.frames += other.frames;
        self.payload_bytes += other.payload_bytes;
        self.stored += other.stored;
        self.known += other.known;
        self.repeated += other.repeated;
        for (sum, more) in self.lost.iter_mut().zip(other.lost) {
            *sum += more;
        }
        for (sum, more) in self.told.iter_mut().zip(other.told) {
            *sum += more;
        }
        self.resyncs += other.resyncs;
        self.refused_calls += other.refused_calls;
        self.clock_refused_calls += other.clock_refused_calls;
        self.failed_appends += other.failed_appends;
    }
}

/// Adds to one reason.
pub(super) fn count(counts: &mut ByReason, reason: DropReason, samples: u64) {
    let at = DropReason::ALL.iter().position(|one| *one == reason);
    if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
        *count += samples;
    }
}
