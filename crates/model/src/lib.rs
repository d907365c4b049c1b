//! The nouns everything in Stoa shares.
//!
//! A **series** is a set of [`Labels`] and the [`Sample`]s recorded under it; a **family** is all
//! series of one metric name with its help and kind, as an exporter would expose it; a [`Matcher`]
//! picks series by one label; a [`Histogram`] is a native histogram as one reading; a [`Rollup`] is a
//! window of samples in a few numbers; an [`Inventory`] is what a host is made of. This crate is pure:
//! it knows no file, no clock, no async, no wire.

pub mod family;
pub mod hex;
pub mod histogram;
pub mod host;
pub mod inventory;
pub mod join_token;
pub mod labels;
pub mod matcher;
pub mod pattern;
pub mod rollup;
pub mod sample;
pub mod time;

pub use family::{Family, Metric, MetricKind};
pub use hex::Hex;
pub use histogram::{BucketCounts, Counts, Histogram, HistogramError, ResetHint, Span};
pub use host::HostId;
pub use inventory::Inventory;
pub use join_token::{JoinToken, JoinTokenError};
pub use labels::{Label, Labels, LabelsError, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use pattern::{Pattern, PatternBudget, PatternError};
pub use rollup::{Rollup, RollupFold};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use time::{TimestampMs, civil, rfc3339};
