//! The messages of Prometheus remote write, versions 1 and 2, after decompression.
//!
//! Sources: `prompb/remote.proto` and `prompb/types.proto` for version 1,
//! `prompb/io/prometheus/write/v2/types.proto` for version 2, both of prometheus/prometheus.
//!
//! [`read`] walks a message without copying it and hands each series to a [`Visitor`]. Fields may
//! come in any order and unknown ones are skipped, as protobuf asks. Bounds: [`SAMPLES_MAX`],
//! [`HISTOGRAM_NUMBERS_MAX`], [`SYMBOLS_MAX`], [`LABELS_MAX`]; what is kept while reading is a list of one series' labels and
//! samples and, in version 2, of the places of the symbols.
//!
//! ```
//! use stoa_exchange::remote_write::{self, Series, Metadata, Version, Visitor};
//!
//! struct Names(Vec<String>);
//! impl Visitor for Names {
//!     fn series(&mut self, series: &Series<'_>) {
//!         if let Ok(labels) = series.labels {
//!             self.0.extend(labels.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()));
//!         }
//!     }
//!     fn metadata(&mut self, _metadata: &Metadata<'_>) {}
//! }
//!
//! let mut writer = remote_write::Writer::new(Version::Two);
//! writer.series(&[("__name__", "up")], &[(1000, 1.0)]);
//! let mut names = Names(Vec::new());
//! remote_write::read(Version::Two, &writer.finish(), &mut names)?;
//! assert_eq!(names.0, ["__name__"]);
//! # Ok::<(), remote_write::ReadError>(())
//! ```

mod histogram;
mod v1;
mod v2;
mod write;

use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs};

pub use crate::wire::Malformed;
pub(crate) use write::histogram_message;
pub use write::{Writer, WrittenExemplar};

use crate::wire::{Fields, Value};

/// Most samples of one message; Prometheus sends 2000 at a time, vmagent 10,000.
pub const SAMPLES_MAX: usize = 1 << 19;

/// Most spans, bounds and buckets of all native histograms of one message, and 28 for each of these.
pub const HISTOGRAM_NUMBERS_MAX: usize = 1 << 22;

/// Most symbols of one message of version 2.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// Most labels of one series; one with more is handed over as [`LabelsFault::TooMany`].
pub const LABELS_MAX: usize = 64;

/// Labels of an exemplar, at most: a trace's number and that of its span mostly.
pub const EXEMPLAR_LABELS_MAX: usize = 16;

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// Takes what a message holds, in its order.
pub trait Visitor {
    /// A series.
    fn series(&mut self, series: &Series<'_>);
    /// What is said about a metric. In version 2 it follows the series it stands in.
    fn metadata(&mut self, metadata: &Metadata<'_>);
}

/// A label's name and value, as sent: UTF-8 is not checked yet.
pub type RawLabel<'a> = (&'a [u8], &'a [u8]);

/// One series of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<'a> {
    /// The labels in the sender's order.
    pub labels: Result<&'a [RawLabel<'a>], LabelsFault>,
    /// Times in milliseconds and values, in the sender's order.
    pub samples: &'a [(TimestampMs, f64)],
    /// Times in milliseconds and native histograms, in the sender's order; whether they are valid is
    /// not checked yet.
    pub histograms: &'a [(TimestampMs, Histogram)],
    /// From when on each of the samples counts, in milliseconds, 0 where it is not said. Empty in version 1.
    pub sample_starts: &'a [TimestampMs],
    /// The same of the histograms.
    pub histogram_starts: &'a [TimestampMs],
    /// Exemplars, in the sender's order.
    pub exemplars: &'a [Exemplar<'a>],
}

/// An example of what a series counts, as sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// What names it, mostly a trace.
    pub labels: Result<Vec<RawLabel<'a>>, LabelsFault>,
    /// What was measured.
    pub value: f64,
    /// When, in milliseconds.
    pub t_ms: TimestampMs,
}

/// What is said about a metric, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// The metric family's name; in version 2 the name of a series of it.
    pub name: &'a [u8],
    /// What it measures; what Stoa has no word for is `Untyped` or its nearest kin.
    pub kind: MetricKind,
    /// What it means.
    pub help: &'a [u8],
    /// Its unit.
    pub unit: &'a [u8],
}

/// Why a series' labels cannot be read; the rest of the message can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsFault {
    /// More than [`LABELS_MAX`].
    #[error("more than {LABELS_MAX} labels")]
    TooMany,
    /// A reference to a symbol that is not there.
    #[error("label reference {reference} points beyond the {symbols} symbols")]
    NoSymbol {
        /// As sent.
        reference: u64,
        /// How many there are.
        symbols: usize,
    },
    /// A name without a value.
    #[error("an odd number of label references")]
    Odd,
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not protobuf, or ends too early.
    #[error("not a message of the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// More than [`SAMPLES_MAX`] samples, histograms and exemplars together.
    #[error("more than {SAMPLES_MAX} samples in one message: send fewer at a time")]
    TooManySamples,
    /// More than [`HISTOGRAM_NUMBERS_MAX`] spans, bounds and buckets.
    #[error("more than {HISTOGRAM_NUMBERS_MAX} buckets in one message: send fewer at a time")]
    TooManyBuckets,
    /// More than [`SYMBOLS_MAX`] symbols.
    #[error("more than {SYMBOLS_MAX} symbols in one message: send fewer series at a time")]
    TooManySymbols,
}

/// Reads a message and hands what is in it to `visitor`.
///
/// # Errors
/// [`ReadError`]; what was before the fault has been handed over by then.
pub fn read(version: Version, message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    match version {
        Version::One => v1::read(message, visitor),
        Version::Two => v2::read(message, visitor),
    }
}

/// What a histogram takes itself, as so many of its numbers.
const HISTOGRAM_NUMBERS: usize = 28;

/// Samples, histograms and exemplars of a message so far.
#[derive(Debug, Default)]
struct Budget {
    samples: usize,
    /// Of histograms.
    numbers: usize,
}

impl Budget {
    fn take(&mut self) -> Result<(), ReadError> {
        self.samples += 1;
        if self.samples > SAMPLES_MAX { Err(ReadError::TooManySamples) } else { Ok(()) }
    }

    fn take_histogram(&mut self) -> Result<(), ReadError> {
        self.numbers += HISTOGRAM_NUMBERS;
        self.take()
    }

    fn take_number(&mut self) -> Result<(), ReadError> {
        self.numbers += 1;
        if self.numbers > HISTOGRAM_NUMBERS_MAX { Err(ReadError::TooManyBuckets) } else { Ok(()) }
    }
}

/// Value and time of an `Exemplar`, which both versions write alike but for its labels, which are handed
/// to `label`: field 2 and field 3.
fn exemplar<'a>(
    message: &'a [u8],
    mut label: impl FnMut(Value<'a>) -> Result<(), ReadError>,
) -> Result<(f64, TimestampMs), ReadError> {
    let mut fields = Fields(message);
    let (mut measured, mut t) = (0.0, 0_u64);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => label(value)?,
            2 => measured = value.double(field)?,
            3 => t = value.number(field)?,
            _ => {}
        }
    }
    Ok((measured, t.cast_signed()))
}

/// `MetricType` of both versions' `.proto` files, which agree in their numbers.
fn kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        // Info and state sets are gauges of 0 and 1.
        2 | 6 | 7 => MetricKind::Gauge,
        3 | 4 => MetricKind::Histogram,
        5 => MetricKind::Summary,
        _ => MetricKind::Untyped,
    }
}

/// A `Sample`, which both versions write alike: value 1, timestamp 2; and, in later messages of version 2,
/// 3, from when on it counts.
#[inline]
fn sample(message: &[u8]) -> Result<((TimestampMs, f64), TimestampMs), Malformed> {
    let mut fields = Fields(message);
    let (mut t, mut v, mut start) = (0_u64, 0.0, 0_u64);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => v = value.double(field)?,
            2 => t = value.number(field)?,
            3 => start = value.number(field)?,
            _ => {}
        }
    }
    Ok(((t.cast_signed(), v), start.cast_signed()))
}
