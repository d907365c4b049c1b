//! How much is to be read, by indexes alone.

use stoa_model::TimestampMs;

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Chunks; each is decoded whole.
    pub chunks: u64,
    /// Bytes of these as they are kept; of samples that are in no chunk yet, 16 each.
    pub bytes: u64,
    /// Samples, or rollups of a tier, in the time asked for; estimated where a chunk reaches beyond.
    pub samples: u64,
}

impl Weight {
    pub(crate) fn add(&mut self, more: Self) {
        self.chunks = self.chunks.saturating_add(more.chunks);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.samples = self.samples.saturating_add(more.samples);
    }

    /// A chunk of so many ticks from `first` to `last`, of which `start` to `end` is wanted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate of no more than the ticks"
    )]
    pub(crate) fn chunk(
        bytes: u64,
        ticks: u64,
        (first, last): (TimestampMs, TimestampMs),
        (start, end): (TimestampMs, TimestampMs),
    ) -> Self {
        let within = last.min(end).saturating_sub(first.max(start)).max(0) as f64;
        let whole = last.saturating_sub(first).max(0) as f64;
        let share = if whole > 0.0 { (within / whole).min(1.0) } else { 1.0 };
        Self { chunks: 1, bytes, samples: (ticks as f64 * share).ceil() as u64 }
    }
}
