//! What can go wrong, cut by what a caller can do about it.

use std::io;
use std::path::PathBuf;

use stoa_wal::WalError;

use crate::{GroupId, NoRoom, SeriesRef};

/// Why a database could not be opened, made durable, or looked after.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A directory or file could not be made, listed or read. Nothing was changed.
    #[error("cannot open the database at {}", path.display())]
    Open {
        /// What.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The log could not be opened.
    #[error("cannot open the log of the database")]
    OpenLog(#[source] WalError),
    /// The disk is full. Nothing taken so far is lost; the same call works again once there is room.
    #[error("the disk is full")]
    DiskFull(#[source] WalError),
    /// The log has failed for good: what was not durable before may be lost, nothing is taken any
    /// more, queries go on. Only a restart helps.
    #[error("the log has failed and takes nothing any more")]
    Stopped(#[source] WalError),
    /// The head could not be written down; the log is kept instead. Tried again by the next
    /// maintenance.
    #[error("cannot write the checkpoint {}", path.display())]
    Checkpoint {
        /// Its directory.
        path: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Sealed chunks could not be written to a file of the head; they stay in memory and in the log.
    /// Tried again by the next maintenance.
    #[error("cannot write sealed chunks to {}", path.display())]
    HeadFile {
        /// The directory of these files.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A block could not be written; its samples stay in the head. Tried again by the next
    /// maintenance.
    #[error("cannot write the block {}", path.display())]
    Block {
        /// Its directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A copy of the database could not be made.
    #[error("cannot copy the database to {}", path.display())]
    Snapshot {
        /// Where to.
        path: PathBuf,
        /// What the disk said; that something of that name is there already, for one.
        source: io::Error,
    },
    /// A block of history was not written, as the disk would have less room than it must keep.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Something no longer needed could not be removed. Tried again by the next maintenance.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why a series or a batch was not taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The head holds all the series it may.
    #[error("there are {max} series already")]
    TooManySeries {
        /// [`Options::series_max`](crate::Options::series_max).
        max: usize,
    },
    /// The labels of one series are too long.
    #[error("labels of {bytes} bytes are too long")]
    LabelsTooLong {
        /// Of names, values, and eight for each label.
        bytes: usize,
        /// [`SERIES_LABEL_BYTES_MAX`](crate::SERIES_LABEL_BYTES_MAX).
        max: usize,
    },
    /// The labels of all series take as many bytes as they may.
    #[error("label names and values take {max} bytes already")]
    TooManyLabelBytes {
        /// [`Options::label_bytes_max`](crate::Options::label_bytes_max).
        max: usize,
    },
    /// The series was removed because it had no samples for long, or never was: resolve it again.
    #[error("series reference {} is not known", series.0)]
    UnknownSeries {
        /// The reference given.
        series: SeriesRef,
    },
    /// The series was resolved for another group.
    #[error("series reference {} does not belong to group {}", series.0, group.0)]
    OtherGroup {
        /// The reference given.
        series: SeriesRef,
        /// The group given.
        group: GroupId,
    },
    /// The batch has to be split.
    #[error("the batch holds {given} samples, over the limit of {max}")]
    TooManySamples {
        /// In the batch.
        given: usize,
        /// [`BATCH_SAMPLES_MAX`](crate::BATCH_SAMPLES_MAX).
        max: usize,
    },
    /// The batch has to be split.
    #[error("the batch's histograms take {given} bytes, over the limit of {max}")]
    HistogramBytes {
        /// What they take.
        given: usize,
        /// [`BATCH_HISTOGRAM_BYTES_MAX`](crate::BATCH_HISTOGRAM_BYTES_MAX).
        max: usize,
    },
    /// A histogram that is none ([`Histogram::validate`](stoa_model::histogram::Histogram::validate)),
    /// or of more than [`HISTOGRAM_NUMBERS_MAX`](crate::HISTOGRAM_NUMBERS_MAX) numbers.
    #[error("a histogram of series reference {} is not valid or too large", series.0)]
    Histogram {
        /// Whose.
        series: SeriesRef,
    },
    /// A mark's key or value is too long.
    #[error("a mark of {key_bytes} and {value_bytes} bytes is too long")]
    MarkTooLong {
        /// Of its key.
        key_bytes: usize,
        /// Of its value.
        value_bytes: usize,
    },
    /// There are as many marks as are held.
    #[error("there are {max} marks already")]
    TooManyMarks {
        /// [`MARKS_MAX`](crate::MARKS_MAX).
        max: usize,
    },
    /// The batch is too long for the log: it has to be split.
    #[error("the batch is too long for the log")]
    TooLong(#[source] WalError),
    /// The disk is full; the same batch is taken once there is room.
    #[error("the disk is full")]
    DiskFull(#[source] WalError),
    /// The log has failed for good; only a restart helps.
    #[error("the log has failed and takes nothing any more")]
    Stopped(#[source] WalError),
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// More series match than the caller takes.
    #[error("more than {max} series match")]
    TooManySeries {
        /// The caller's limit.
        max: usize,
    },
    /// More samples match than the caller takes.
    #[error("more than {max} samples match")]
    TooManySamples {
        /// The caller's limit.
        max: usize,
    },
    /// More bytes would be held than the caller takes.
    #[error("more than {max} bytes would be held")]
    TooManyBytes {
        /// The caller's limit.
        max: usize,
    },
    /// The caller does not want it any more.
    #[error("the reading was stopped")]
    Stopped,
}
