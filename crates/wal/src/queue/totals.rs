//! Who has what was produced: the books of a queue.

use super::{Dropped, Stamp};

/// A number of records, and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Records.
    pub records: u64,
    /// Samples, by their stamps.
    pub samples: u64,
    /// Bytes of payload. Of a record that cannot be read they are not known, and 0.
    pub bytes: u64,
}

/// The books since the queue was opened. At every moment
/// `recovered + pushed = acked + dropped + in_spool`, in records, samples and bytes;
/// [`Totals::balance`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Found when the queue was opened: acknowledged, waiting, or found to be lost.
    pub recovered: Count,
    /// Given to [`Queue::push`](super::Queue::push), those it refused included.
    pub pushed: Count,
    /// Acknowledged, less those that a rewind took back.
    pub acked: Count,
    /// Lost, each told as a [`Dropped`].
    pub dropped: Count,
    /// Waiting to be acknowledged.
    pub in_spool: Count,
    /// Acknowledged and still kept: a part of `acked`, or of what was acknowledged before.
    pub kept: Count,
}

impl Count {
    pub(super) fn of(stamp: &Stamp, bytes: u64) -> Self {
        Self { records: 1, samples: stamp.samples, bytes }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        // Wrapping: the books balance whatever a damaged stamp says.
        self.samples = self.samples.wrapping_add(other.samples);
        self.bytes += other.bytes;
    }

    pub(super) fn sub(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.samples = self.samples.wrapping_sub(other.samples);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl Totals {
    /// Whether nothing is unaccounted for.
    pub fn balance(&self) -> bool {
        let (mut come, mut gone) = (self.recovered, self.acked);
        come.add(self.pushed);
        gone.add(self.dropped);
        gone.add(self.in_spool);
        come == gone
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.recovered.add(other.recovered);
        self.pushed.add(other.pushed);
        self.acked.add(other.acked);
        self.dropped.add(other.dropped);
        self.in_spool.add(other.in_spool);
        self.kept.add(other.kept);
    }
}

impl Dropped {
    /// What it takes from the books.
    pub fn count(&self) -> Count {
        Count { records: self.records, samples: self.samples, bytes: self.bytes }
    }
}
