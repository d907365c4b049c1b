//! All that evaluation asks of the world: the samples of some series, or the rollups of these.

mod hints;

use std::sync::Arc;

use stoa_model::{Labels, Matcher, Rollup, TimestampMs, stale_nan};

pub use self::hints::{Hints, Use};

use crate::histogram::Histogram;

/// What a query needs of the stored series.
#[derive(Clone, Debug)]
pub struct Select<'a> {
    /// All must hold.
    pub matchers: &'a [Matcher],
    /// First timestamp wanted, inclusive.
    pub start_ms: TimestampMs,
    /// Last timestamp wanted, inclusive.
    pub end_ms: TimestampMs,
    /// Most series the caller will take; storage refuses rather than cuts.
    pub series_max: usize,
    /// Most samples of [`SAMPLE_BYTES`] the caller will take over all series; storage refuses rather
    /// than cuts.
    pub samples_max: usize,
}

/// What a sample takes at most: a time and a value. Series that were read at the same times share these.
pub const SAMPLE_BYTES: usize = 16;

/// One stored series within the range asked for. Both columns have one length; timestamps ascend
/// strictly. Stale markers are among the values.
#[derive(Clone, Debug)]
pub struct Series {
    /// The series' labels.
    pub labels: Labels,
    /// When. Series that were read at the same times may share them.
    pub timestamps: Arc<[TimestampMs]>,
    /// What.
    pub values: Vec<f64>,
}

/// One stored series of native histograms within the range asked for. Timestamps ascend strictly
/// and are none of those of the floats under the same labels.
#[derive(Clone, Debug)]
pub struct HistogramSeries {
    /// The series' labels.
    pub labels: Labels,
    /// When and what.
    pub samples: Vec<(TimestampMs, Arc<Histogram>)>,
}

impl HistogramSeries {
    /// Says that a series has histograms, and gives none of them: for who rehearses.
    #[must_use]
    pub fn mark(labels: Labels, t: TimestampMs) -> Self {
        let ended = Histogram { sum: stale_nan(), ..Histogram::default() };
        Self { labels, samples: vec![(t, Arc::new(ended))] }
    }
}

/// When the counting of one stored series began, for the samples of the range asked for that say so:
/// pairs of a sample's time and its start timestamp, in order of the samples' times. Samples left out do
/// not know.
#[derive(Clone, Debug)]
pub struct StartSeries {
    /// The series' labels.
    pub labels: Labels,
    /// When a sample was taken, and since when it has been counted.
    pub starts: Vec<(TimestampMs, TimestampMs)>,
}

/// Series as rollups of some windows, or as samples where they are there and as rollups elsewhere.
#[derive(Clone, Debug)]
pub struct RolledUp {
    /// In any order.
    pub series: Vec<RolledUpSeries>,
    /// The window all rollups fit into, milliseconds; 1 when samples were asked for.
    pub window_ms: i64,
    /// Where they are of longer windows than that, because nothing finer is left. What is answered from
    /// these the answer tells.
    pub coarser: Vec<Coarser>,
    /// How long samples are kept, milliseconds: told with it.
    pub samples_kept_ms: i64,
    /// What was read to make them, in samples.
    pub samples: usize,
}

/// One stored series: samples and rollups, each in order of time and all apart from each other.
#[derive(Clone, Debug)]
pub struct RolledUpSeries {
    /// The series' labels.
    pub labels: Labels,
    /// When there were samples, if they were read as such; timestamps ascend strictly.
    pub timestamps: Arc<[TimestampMs]>,
    /// These, as many.
    pub values: Vec<f64>,
    /// A rollup of a window `end - window < t ≤ end`, where `end` is a multiple of the window.
    pub rollups: Vec<Rollup>,
}

/// A stretch of time, `start_ms < t ≤ end_ms`, with windows of a length of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coarser {
    /// The length of a window, milliseconds.
    pub window_ms: i64,
    /// Where it begins, excluded.
    pub start_ms: TimestampMs,
    /// Where it ends, included.
    pub end_ms: TimestampMs,
}

/// Why storage could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// More series match than the caller takes.
    #[error("the query selects more than {max} series")]
    TooManySeries {
        /// The limit.
        max: usize,
    },
    /// More samples match than the caller takes.
    #[error("the query loads more than {max} samples")]
    TooManySamples {
        /// The limit.
        max: usize,
    },
    /// Nobody wants the answer any more.
    #[error("the query was cancelled while it read")]
    Stopped,
    /// Reading failed.
    #[error("read from storage")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where series come from. Called once per selector of a query, for its whole time range.
pub trait Storage: Sync {
    /// The series all matchers hold for that have a sample in the range, in any order.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError>;

    /// The same series, but of each its newest sample will do, with or without some before it: for a
    /// question about one time. `None`: all are to be asked for. A storage that finds that no quicker
    /// leaves this as it is.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        let _all = select;
        Ok(None)
    }

    /// The same for native histograms. A storage that keeps none leaves this as it is.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let _none = select;
        Ok(Vec::new())
    }

    /// The start timestamps of samples of the same series, be they floats or histograms. A storage that
    /// keeps none leaves this as it is.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        let _none = select;
        Ok(Vec::new())
    }

    /// The windows of rollups that are kept, milliseconds: what [`Hints::window_ms`] finds one of these
    /// sound for is likely to be answered by [`Self::select_rollups`].
    fn windows_ms(&self) -> &[i64] {
        &[]
    }

    /// The same series as rollups, if that is less to read and sound by [`Hints::window_ms`], or if
    /// some of the samples are gone and only rollups are left. `None`: the samples are to be asked
    /// for. A storage that keeps no rollups leaves this as it is.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        let _none = (select, hints);
        Ok(None)
    }
}
