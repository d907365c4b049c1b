//! What the store has done since the start, to be printed as series.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Stored;

/// Upper bounds of the commit latency buckets, in milliseconds; one more bucket has no bound.
pub const COMMIT_BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 250, 1000];

/// What the store has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Samples stored, duplicate, conflicting and too old, of all batches answered.
    pub samples: Stored,
    /// Samples not taken because the disk was full; their senders keep them.
    pub disk_full_samples: u64,
    /// Samples of batches that were refused as a whole.
    pub refused_samples: u64,
    /// Samples not taken because the store has failed or is closed.
    pub unavailable_samples: u64,
    /// New series not taken because of the limit over all hosts.
    pub refused_series: u64,
    /// Syncs that made something durable.
    pub commits: u64,
    /// Commits by how long after the first batch's arrival they were done, not cumulative; the last
    /// is beyond the last of [`COMMIT_BUCKETS_MS`].
    pub commit_latency: [u64; COMMIT_BUCKETS_MS.len() + 1],
    /// The sum of those latencies, in microseconds.
    pub commit_latency_us_sum: u64,
    /// Samples in the queue and under commit now.
    pub queue_samples: u64,
    /// The most that may be.
    pub queue_samples_max: u64,
    /// Maintenance runs that failed; the next run tries again.
    pub maintenance_failures: u64,
    /// Metric descriptions not kept for want of room.
    pub refused_descriptions: u64,
    /// Exemplars kept now.
    pub exemplars: u64,
    /// Series they are of.
    pub exemplar_series: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    stored: AtomicU64,
    duplicate: AtomicU64,
    conflicting: AtomicU64,
    too_old: AtomicU64,
    pub(super) disk_full_samples: AtomicU64,
    pub(super) refused_samples: AtomicU64,
    pub(super) unavailable_samples: AtomicU64,
    pub(super) refused_series: AtomicU64,
    commits: AtomicU64,
    commit_latency: [AtomicU64; COMMIT_BUCKETS_MS.len() + 1],
    commit_latency_us_sum: AtomicU64,
    pub(super) maintenance_failures: AtomicU64,
}

impl Counters {
    pub(super) fn stored(&self, done: Stored) {
        add(&self.stored, done.stored);
        add(&self.duplicate, done.duplicate);
        add(&self.conflicting, done.conflicting);
        add(&self.too_old, done.too_old);
    }

    pub(super) fn committed(&self, latency: Duration) {
        add(&self.commits, 1);
        add(&self.commit_latency_us_sum, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let beyond = COMMIT_BUCKETS_MS.len();
        let within = |&bound: &u64| latency <= Duration::from_millis(bound);
        let bucket = COMMIT_BUCKETS_MS.iter().position(within).unwrap_or(beyond);
        if let Some(count) = self.commit_latency.get(bucket) {
            add(count, 1);
        }
    }

    /// The figures, without those that are not counted here (queue and descriptions).
    pub(super) fn read(&self) -> StoreFigures {
        StoreFigures {
            samples: Stored {
                stored: get(&self.stored),
                duplicate: get(&self.duplicate),
                conflicting: get(&self.conflicting),
                too_old: get(&self.too_old),
            },
            disk_full_samples: get(&self.disk_full_samples),
            refused_samples: get(&self.refused_samples),
            unavailable_samples: get(&self.unavailable_samples),
            refused_series: get(&self.refused_series),
            commits: get(&self.commits),
            commit_latency: self.commit_latency.each_ref().map(get),
            commit_latency_us_sum: get(&self.commit_latency_us_sum),
            maintenance_failures: get(&self.maintenance_failures),
            ..StoreFigures::default()
        }
    }
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_one_bucket() {
        let counters = Counters::default();
        for micros in [0, 1000, 1001, 50_000, 1_000_000, 1_000_001] {
            counters.committed(Duration::from_micros(micros));
        }
        let figures = counters.read();
        assert_eq!(figures.commit_latency, [2, 1, 0, 0, 0, 1, 0, 0, 1, 1]);
        assert_eq!((figures.commits, figures.commit_latency_us_sum), (6, 2_052_002));
    }
}
