//! Samples in memory and on disk: head, chunks, blocks, index, retention.
//!
//! A **series** is a set of labels within a **group**, the series of one sender that share their
//! timestamps. Samples come as **batches** of a group: rows of one timestamp each, with **marks**,
//! small facts that are kept exactly with them. A batch goes to the **log** and to the **head**,
//! where each series has an open column; full columns are sealed into **chunks**, which wait in files of
//! the head; chunks whose time is over go to an immutable **block** with an **index** of its own. A query reads head and blocks as one.
//! What is too old to be kept sample by sample is kept in **tiers**, as **rollups** of a minute or an hour.
//!
//! This crate knows neither what time it is, nor async, nor what a series means: the clock is an
//! argument, calls block, and every file is reached through [`stoa_wal::Disk`]. Formats are written
//! down in `docs/formats`.
//!
//! Start at [`Db`].

mod batch;
mod block;
mod bulk;
mod bytes;
mod checkpoint;
pub mod chunk;
mod compact;
mod damage;
mod db;
mod error;
mod follow;
mod fsck;
mod head;
mod head_file;
mod hints;
mod log;
mod matching;
mod options;
mod quarantine;
mod record;
mod recovery;
mod retention;
mod select;
mod snapshot;
mod tier;
mod weight;

pub use batch::{
    Appended, BATCH_HISTOGRAM_BYTES_MAX, BATCH_SAMPLES_MAX, Batch, GroupId, HISTOGRAM_NUMBERS_MAX,
    HistogramSample, MARK_KEY_BYTES_MAX, MARK_VALUE_BYTES_MAX, MARKS_MAX, Mark, Row,
    SERIES_LABEL_BYTES_MAX, SeriesRef,
};
pub use bulk::{Bulk, BulkCounts, BulkError, BulkSeries, BulkWritten, NoRoom};
pub use damage::{Cost, Damage, Missing};
pub use db::{
    BlockFigures, Compaction, Db, Deleted, Deletion, Listing, Maintenance, Near, Reader,
    Resolution, Revision, RollupSeries, Rollups, Stats, Stretch, Survey, Surveyed, TierStats,
    Where, Whole,
};
pub use error::{AppendError, DbError, SelectError};
pub use follow::{Cursor, Followed, FollowedSeries, Follower, FollowerFigures};
pub use fsck::{Report as FsckReport, fsck};
pub use options::Options;
pub use recovery::Recovery;
pub use select::{HistogramData, SeriesData};
pub use tier::Tier;
pub use weight::Weight;
