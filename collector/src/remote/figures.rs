//! What has been passed on to one target.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use serde::Serialize;
use stoa_model::TimestampMs;

use crate::store::Store;

/// No batch waits.
const NOTHING: TimestampMs = i64::MIN;

/// What has been passed on to one target since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetFigures {
    /// Its name.
    pub target: String,
    /// Samples it took, native histograms among them, as in all of these.
    pub samples_sent: u64,
    /// Samples it refused for good; dropped.
    pub samples_rejected: u64,
    /// Samples that `write_relabel_configs` leaves out.
    pub samples_filtered: u64,
    /// Samples that its protocol has no form for.
    pub samples_unfit: u64,
    /// Samples of histograms and summaries that went as gauges, since a part of their point was missing.
    pub samples_apart: u64,
    /// Samples dropped from the log before their turn came.
    pub samples_lost: u64,
    /// Samples whose series the store no longer knew; left out.
    pub samples_orphaned: u64,
    /// Samples of requests that had to be sent again.
    pub samples_retried: u64,
    /// Requests it took.
    pub requests_accepted: u64,
    /// Requests it refused for good.
    pub requests_rejected: u64,
    /// Requests it took with an answer that could not be read.
    pub answers_unread: u64,
    /// Requests that failed and were or are sent again.
    pub requests_failed: u64,
    /// Damaged places of the log that were passed over.
    pub log_damaged: u64,
    /// Compressed bytes of requests it took.
    pub sent_bytes: u64,
    /// Bytes of the log it has not got yet.
    pub pending_bytes: u64,
    /// How old the newest of the samples being sent are, in milliseconds; 0 when it has everything.
    pub lag_ms: u64,
    /// The newest timestamp it took, in milliseconds; 0 before the first.
    pub newest_sent_ms: TimestampMs,
    /// Whether requests fail now.
    pub failing: bool,
    /// How often passing on to it broke, and was begun again.
    pub restarts: u64,
}

/// The same while it changes.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) samples_sent: AtomicU64,
    pub(super) samples_rejected: AtomicU64,
    pub(super) samples_filtered: AtomicU64,
    pub(super) samples_unfit: AtomicU64,
    pub(super) samples_apart: AtomicU64,
    pub(super) samples_orphaned: AtomicU64,
    pub(super) samples_retried: AtomicU64,
    pub(super) requests_accepted: AtomicU64,
    pub(super) requests_rejected: AtomicU64,
    pub(super) requests_failed: AtomicU64,
    pub(super) answers_unread: AtomicU64,
    pub(super) log_damaged: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) failing: AtomicBool,
    pub(super) restarts: AtomicU64,
    newest_sent_ms: AtomicI64,
    waiting_ms: AtomicI64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            samples_sent: AtomicU64::default(),
            samples_rejected: AtomicU64::default(),
            samples_filtered: AtomicU64::default(),
            samples_unfit: AtomicU64::default(),
            samples_apart: AtomicU64::default(),
            samples_orphaned: AtomicU64::default(),
            samples_retried: AtomicU64::default(),
            requests_accepted: AtomicU64::default(),
            requests_rejected: AtomicU64::default(),
            requests_failed: AtomicU64::default(),
            answers_unread: AtomicU64::default(),
            log_damaged: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
            failing: AtomicBool::default(),
            restarts: AtomicU64::default(),
            newest_sent_ms: AtomicI64::default(),
            waiting_ms: AtomicI64::new(NOTHING),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

impl Counters {
    /// A batch waits whose newest sample is of a time.
    pub(super) fn waits(&self, newest_ms: Option<TimestampMs>) {
        self.waiting_ms.store(newest_ms.unwrap_or(NOTHING), Relaxed);
    }

    /// The batch that waited is delivered.
    pub(super) fn delivered(&self, newest_ms: Option<TimestampMs>) {
        self.waiting_ms.store(NOTHING, Relaxed);
        self.newest_sent_ms.fetch_max(newest_ms.unwrap_or(0), Relaxed);
    }

    /// The figures as of now. Looks into the store: for every few seconds.
    pub(super) fn read(&self, target: &str, store: &Store, now_ms: TimestampMs) -> TargetFigures {
        let follower = store.follower(target);
        let waiting_ms = self.waiting_ms.load(Relaxed);
        let lag_ms = if waiting_ms == NOTHING { 0 } else { now_ms.saturating_sub(waiting_ms) };
        TargetFigures {
            target: target.to_owned(),
            samples_sent: self.samples_sent.load(Relaxed),
            samples_rejected: self.samples_rejected.load(Relaxed),
            samples_lost: follower.as_ref().map_or(0, |follower| follower.samples_lost),
            samples_filtered: self.samples_filtered.load(Relaxed),
            samples_unfit: self.samples_unfit.load(Relaxed),
            samples_apart: self.samples_apart.load(Relaxed),
            samples_orphaned: self.samples_orphaned.load(Relaxed),
            samples_retried: self.samples_retried.load(Relaxed),
            requests_accepted: self.requests_accepted.load(Relaxed),
            requests_rejected: self.requests_rejected.load(Relaxed),
            requests_failed: self.requests_failed.load(Relaxed),
            answers_unread: self.answers_unread.load(Relaxed),
            log_damaged: self.log_damaged.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            pending_bytes: follower.as_ref().map_or(0, |follower| follower.pending_bytes),
            lag_ms: u64::try_from(lag_ms).unwrap_or(0),
            newest_sent_ms: self.newest_sent_ms.load(Relaxed),
            failing: self.failing.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
        }
    }
}
