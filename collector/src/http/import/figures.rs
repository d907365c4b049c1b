//! What imports have come to since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::prometheus::ErrorKind;
use crate::import::ImportSummary;

/// What imports over HTTP have come to since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportFigures {
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Requests told to come again because another import ran.
    pub failed_busy: u64,
    /// Requests that were wrong, or cut off.
    pub failed_request: u64,
    /// Requests the store could not take.
    pub failed_store: u64,
    /// Samples stored.
    pub stored: u64,
    /// Samples left out: their instant was there twice.
    pub duplicate: u64,
    /// Samples left out: older than the retention keeps.
    pub too_old: u64,
    /// Samples left out: in the future.
    pub too_new: u64,
    /// Samples left out: their labels pass the limits.
    pub over_limits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    failed_busy: AtomicU64,
    failed_request: AtomicU64,
    failed_store: AtomicU64,
    stored: AtomicU64,
    duplicate: AtomicU64,
    too_old: AtomicU64,
    too_new: AtomicU64,
    over_limits: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn began(&self) {
        add(&self.requests, 1);
    }

    pub(super) fn busy(&self) {
        add(&self.failed_busy, 1);
    }

    pub(super) fn failed(&self, kind: ErrorKind) {
        let wrong = kind == ErrorKind::BadData;
        add(if wrong { &self.failed_request } else { &self.failed_store }, 1);
    }

    pub(super) fn done(&self, summary: &ImportSummary) {
        add(&self.stored, summary.samples);
        add(&self.duplicate, summary.duplicate);
        add(&self.too_old, summary.too_old);
        add(&self.too_new, summary.too_new);
        add(&self.over_limits, summary.over_limits);
    }

    pub(super) fn read(&self) -> ImportFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ImportFigures {
            requests: read(&self.requests),
            failed_busy: read(&self.failed_busy),
            failed_request: read(&self.failed_request),
            failed_store: read(&self.failed_store),
            stored: read(&self.stored),
            duplicate: read(&self.duplicate),
            too_old: read(&self.too_old),
            too_new: read(&self.too_new),
            over_limits: read(&self.over_limits),
        }
    }
}
