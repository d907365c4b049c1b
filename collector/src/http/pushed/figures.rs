//! What has been received, to be printed as series.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Refusal;
use crate::push::Tally;

/// What has been received since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushFigures {
    /// Requests of which all was taken.
    pub accepted: u64,
    /// Requests of which something was refused for good and the rest stored.
    pub partial: u64,
    /// Requests that could not be read: 400, 413, 415; by OTLP also logs and traces, which are not taken.
    pub unreadable: u64,
    /// Requests told to come again.
    pub deferred: u64,
    /// Compressed bytes received.
    pub bytes: u64,
    /// Samples of answered requests, by what became of them; requests that were deferred are not
    /// counted, they come again.
    pub samples: SampleFigures,
    /// Native histograms refused.
    pub histograms_refused: u64,
    /// Points refused for what they are, before samples were made of them; only OTLP has such.
    pub points_refused: u64,
    /// Exemplars kept, those that were there already included.
    pub exemplars_written: u64,
    /// Zeroes stored where series begin to count, beside the samples.
    pub starts: u64,
    /// Exemplars not kept.
    pub exemplars_ignored: u64,
    /// Senders known now.
    pub senders: u64,
    /// Series of them known now.
    pub series: u64,
}

/// Samples received, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleFigures {
    /// Stored.
    pub stored: u64,
    /// There already.
    pub duplicate: u64,
    /// Another value is there at that time.
    pub conflicting: u64,
    /// Older than is still accepted.
    pub too_old: u64,
    /// Too far in the future.
    pub ahead: u64,
    /// Of series whose labels break the rules.
    pub labels: u64,
    /// Of series over a limit.
    pub limit: u64,
}

#[derive(Debug, Default)]
pub(in crate::http) struct Counters {
    accepted: AtomicU64,
    partial: AtomicU64,
    unreadable: AtomicU64,
    deferred: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    duplicate: AtomicU64,
    conflicting: AtomicU64,
    too_old: AtomicU64,
    ahead: AtomicU64,
    labels: AtomicU64,
    limit: AtomicU64,
    histograms: AtomicU64,
    points: AtomicU64,
    exemplars_written: AtomicU64,
    starts: AtomicU64,
    exemplars_ignored: AtomicU64,
}

impl Counters {
    pub(in crate::http) fn received(&self, bytes: usize) {
        add(&self.bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(in crate::http) fn answered(&self, told: &Result<Tally, Refusal>) {
        match told {
            Ok(tally) => self.told(tally),
            Err(refusal) => self.refused(refusal),
        }
    }

    pub(in crate::http) fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Later(_) => add(&self.deferred, 1),
            Refusal::Unknown(_) | Refusal::TooLarge(_) | Refusal::Bad(_) | Refusal::Unframed(_) => {
                add(&self.unreadable, 1)
            }
        }
    }

    fn told(&self, tally: &Tally) {
        let requests = if tally.complaint().is_some() { &self.partial } else { &self.accepted };
        add(requests, 1);
        add(&self.stored, tally.done.stored);
        add(&self.duplicate, tally.done.duplicate);
        add(&self.conflicting, tally.done.conflicting);
        add(&self.too_old, tally.done.too_old);
        add(&self.ahead, tally.ahead);
        add(&self.labels, tally.labels);
        add(&self.limit, tally.limit);
        add(&self.histograms, tally.histograms);
        add(&self.points, tally.points);
        add(&self.exemplars_written, tally.exemplars_written);
        add(&self.starts, tally.starts);
        add(&self.exemplars_ignored, tally.exemplars_ignored);
    }

    /// The figures, without those that are not counted here (senders and series).
    pub(in crate::http) fn read(&self) -> PushFigures {
        PushFigures {
            accepted: get(&self.accepted),
            partial: get(&self.partial),
            unreadable: get(&self.unreadable),
            deferred: get(&self.deferred),
            bytes: get(&self.bytes),
            samples: SampleFigures {
                stored: get(&self.stored),
                duplicate: get(&self.duplicate),
                conflicting: get(&self.conflicting),
                too_old: get(&self.too_old),
                ahead: get(&self.ahead),
                labels: get(&self.labels),
                limit: get(&self.limit),
            },
            histograms_refused: get(&self.histograms),
            points_refused: get(&self.points),
            exemplars_written: get(&self.exemplars_written),
            starts: get(&self.starts),
            exemplars_ignored: get(&self.exemplars_ignored),
            ..PushFigures::default()
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
