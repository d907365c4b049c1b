//! What is appended: rows of samples of one group, with marks, as one unit.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::{Counts, Histogram};

/// A group: the series that share timestamps, such as those of one agent or one scrape target. The
/// number is the caller's, stable over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// A series of the running process, from [`Db::resolve`](crate::Db::resolve). Never reused for
/// another series while the database is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u32);

/// The most samples of one batch; larger ones are refused.
pub const BATCH_SAMPLES_MAX: usize = 1 << 19;
/// The most bytes the native histograms of one batch take ([`HistogramSample::bytes`]), so that they
/// fit a record of the log whatever they are; larger batches are refused.
pub const BATCH_HISTOGRAM_BYTES_MAX: usize = 8 << 20;
/// The most numbers of one histogram that is stored: spans, bounds and buckets together.
pub const HISTOGRAM_NUMBERS_MAX: usize = 4096;
/// The most bytes of one series' labels: names, values, and eight for each label.
pub const SERIES_LABEL_BYTES_MAX: usize = 256 << 10;
/// The most bytes of a mark's key.
pub const MARK_KEY_BYTES_MAX: usize = 1024;
/// The most bytes of a mark's value.
pub const MARK_VALUE_BYTES_MAX: usize = 4096;
/// The most marks held; a caller that makes more must remove those of senders long gone.
pub const MARKS_MAX: usize = 1 << 20;

/// Readings of one group at one instant.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Row {
    /// When, for all of them.
    pub t_ms: TimestampMs,
    /// What, per series; a series at most once.
    pub samples: Vec<(SeriesRef, f64)>,
}

/// A native histogram of a series at one instant, appended beside a batch's floats.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// When.
    pub t_ms: TimestampMs,
    /// Whose; of the batch's group. The series may have floats at other instants.
    pub series: SeriesRef,
    /// What; valid ([`Histogram::validate`]) and of up to [`HISTOGRAM_NUMBERS_MAX`] numbers.
    pub histogram: Arc<Histogram>,
}

/// What a histogram takes beside its numbers, as so many of them: its fields, its place, and what the
/// allocator adds.
pub(crate) const HISTOGRAM_CELLS: usize = 32;

impl HistogramSample {
    /// Its spans, bounds and buckets.
    #[must_use]
    pub fn numbers(&self) -> usize {
        histogram_cells(&self.histogram)
    }

    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        histogram_weight(&self.histogram) * 8
    }

    /// Whether the store takes it: it is a histogram, and not too large.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        self.numbers() <= HISTOGRAM_NUMBERS_MAX && self.histogram.validate().is_ok()
    }
}

/// Spans, bounds and buckets of a histogram.
pub(crate) fn histogram_cells(histogram: &Histogram) -> usize {
    let buckets = match &histogram.counts {
        Counts::Integer(counts) => counts.positive.len() + counts.negative.len(),
        Counts::Float(counts) => counts.positive.len() + counts.negative.len(),
    };
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    spans + histogram.custom_values.len() + buckets
}

/// What it takes in memory, as so many numbers of 8 bytes.
pub(crate) fn histogram_weight(histogram: &Histogram) -> usize {
    histogram_cells(histogram) + HISTOGRAM_CELLS
}

/// A small fact kept exactly with the samples of its batch: after any crash either both are there or
/// neither is. A later value replaces an earlier one under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose; up to [`MARK_KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// What; up to [`MARK_VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
}

/// What is stored whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The group all series of the rows belong to.
    pub group: GroupId,
    /// Readings, best in order of time; late ones are taken within the out-of-order window.
    pub rows: Vec<Row>,
    /// Facts to keep with them.
    pub marks: Vec<Mark>,
}

/// What became of a batch's samples; the four add up to those given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// New in the head.
    pub stored: u64,
    /// Already there with the same bits: no harm, no effect.
    pub duplicate: u64,
    /// Another value is already there at that instant; the first one stays.
    pub conflicting: u64,
    /// Before the out-of-order window; not stored.
    pub too_old: u64,
}

impl Appended {
    /// All samples given.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stored + self.duplicate + self.conflicting + self.too_old
    }
}
