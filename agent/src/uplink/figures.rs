//! What the uplink has done since the process began, in samples.

use stoa_proto::delivery::DropReason;

/// Samples by reason.
pub type ByReason = [u64; DropReason::ALL.len()];

/// Adds to one reason.
pub(crate) fn add(counts: &mut ByReason, reason: DropReason, samples: u64) {
    let at = DropReason::ALL.iter().position(|one| *one == reason);
    if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
        *count += samples;
    }
}

/// Takes samples off a gauge. What it does not hold is counted instead of wrapping around: the
/// other side, or a damaged disk, has acknowledged more than there was.
pub(crate) fn take(gauge: &mut u64, samples: u64, miscounted: &mut u64) {
    let held = samples.min(*gauge);
    *gauge -= held;
    *miscounted = miscounted.saturating_add(samples - held);
}

/// Counters and gauges;
/// `produced + recovered + returned = acknowledged + dropped + in_memory + in_spool`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkFigures {
    /// Samples handed in.
    pub produced: u64,
    /// Samples found in the spool at the start, of earlier processes.
    pub recovered: u64,
    /// Samples acknowledged once that the collector no longer has: they wait again.
    pub returned: u64,
    /// Samples the collector has taken over: stored, or counted by it as lost.
    pub acknowledged: u64,
    /// Of the acknowledged, what the collector did not store, in the order of [`DropReason::ALL`].
    pub lost: ByReason,
    /// Samples dropped here, in the order of [`DropReason::ALL`].
    pub dropped: ByReason,
    /// Samples waiting in memory only.
    pub in_memory: u64,
    /// Samples waiting in the spool.
    pub in_spool: u64,
    /// Sessions that got a welcome.
    pub sessions: u64,
    /// Sessions that ended, for whatever reason.
    pub hang_ups: u64,
    /// Legs begun because a backlog had to be overtaken.
    pub legs: u64,
    /// Times the collector could not read a frame.
    pub resyncs: u64,
    /// Times a newer session of this identity took over: another host uses this certificate.
    pub fenced: u64,
    /// Times the collector had less than it once acknowledged.
    pub collector_rollbacks: u64,
    /// Drop records not kept for want of room, and so not told.
    pub untold_drops: u64,
    /// Samples that were to leave memory or the spool and were not counted there: 0, or a bug.
    pub miscounted: u64,
    /// Payload bytes sent.
    pub sent_bytes: u64,
    /// Samples sent, those sent again included.
    pub sent_samples: u64,
}

impl UplinkFigures {
    /// Samples that are neither accounted for nor waiting, or accounted for twice: 0, or a bug.
    #[must_use]
    pub fn imbalance(&self) -> i128 {
        let came = [self.produced, self.recovered, self.returned].map(i128::from);
        let dropped: u64 = self.dropped.iter().sum();
        let there = [self.acknowledged, dropped, self.in_memory, self.in_spool];
        came.iter().sum::<i128>() - there.into_iter().map(i128::from).sum::<i128>()
    }
}
