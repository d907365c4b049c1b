//! OTLP metrics: `ExportMetricsServiceRequest` after decompression, as protobuf and as JSON.
//!
//! Sources: `collector/metrics/v1/metrics_service.proto`, `metrics/v1/metrics.proto` and
//! `common/v1/common.proto` of open-telemetry/opentelemetry-proto; OTLP's JSON is proto3's, with keys
//! in camelCase only.
//!
//! [`read`] walks a message and hands what is in it to a [`Visitor`]: a resource, the scopes in it,
//! their metrics, the points of each; always in that order, however the sender ordered its fields. A
//! level is gone through twice for that, once for what is said of it and once for what it holds;
//! nothing of a message is kept but one point, and text is borrowed where it stands as it is meant.
//! Unknown fields are skipped. Bounds: [`POINTS_MAX`], [`NUMBERS_MAX`], [`ATTRIBUTES_MAX`],
//! [`TEXT_BYTES_MAX`], [`NESTING_MAX`], [`EXEMPLARS_MAX`].
//!
//! What is read more kindly than the protocol asks, for senders that need it: protobuf text that is
//! no UTF-8 has U+FFFD in place of what is wrong; in JSON a number may have a fraction of zero or an
//! exponent where it is an integer (`1.7e+18`, as Perl writes it), and a number or boolean may stand
//! where text is due.
//!
//! [`Translator`] is a visitor that makes samples of points, by Prometheus's rules; [`Deltas`] adds up
//! those that count from the point before. [`Writer`] is one that writes what it is handed as protobuf.
//!
//! Minima, maxima and the metadata of metrics are skipped. [`Writer`] writes no exemplars.
//!
//! ```
//! use stoa_exchange::otlp::{self, Form, Measure, Metric, Point, Resource, Scope, Visitor};
//!
//! struct Sum(f64);
//! impl Visitor for Sum {
//!     fn resource(&mut self, _resource: &Resource<'_>) {}
//!     fn scope(&mut self, _scope: &Scope<'_>) {}
//!     fn metric(&mut self, _metric: &Metric<'_>) {}
//!     fn point(&mut self, point: &Point<'_>) {
//!         if let Measure::Double(value) = point.measure {
//!             self.0 += value;
//!         }
//!     }
//! }
//!
//! let message = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [
//!     {"name": "load", "gauge": {"dataPoints": [{"asDouble": 0.25}, {"asDouble": 0.5}]}}
//! ]}]}]}"#;
//! let mut sum = Sum(0.0);
//! otlp::read(Form::Json, message.as_bytes(), &mut sum)?;
//! assert_eq!(sum.0, 0.75);
//! # Ok::<(), otlp::ReadError>(())
//! ```

mod answer;
mod attribute;
mod delta;
mod exemplar;
mod histogram;
mod json;
mod labels;
mod name;
mod point;
mod protobuf;
mod total;
mod translate;
mod write;

use std::borrow::Cow;

pub use crate::wire::Malformed;
pub use answer::{partial_success, response, retry_delay, status};
pub use delta::{
    DELTA_BYTES_MAX, DeltaCounts, DeltaFault, DeltaLimits, Deltas, STREAM_NUMBERS_MAX,
};
pub use exemplar::{EXEMPLAR_CHARS_MAX, EXEMPLARS_MAX, Exemplar};
pub use histogram::ScaleError;
pub use name::Strategy;
pub use total::{BUCKETS_MAX, ExplicitTotal, ExponentialTotal, Total};
pub use translate::{
    Accumulate, INFO_SAMPLES_MAX, LABEL_BYTES_MAX, NAME_BYTES_MAX, Options, Refused, SAMPLES_MAX,
    SampleExemplar, SampleLabels, Sink, Translator,
};
pub use write::Writer;

/// Most points of one message.
pub const POINTS_MAX: usize = 1 << 19;

/// Most bounds, bucket counts and quantiles of one message, and 28 for each histogram.
pub const NUMBERS_MAX: usize = 1 << 22;

/// Most attributes of a resource, a scope or a point.
pub const ATTRIBUTES_MAX: usize = 128;

/// Most bytes of an attribute's name and of its value as text.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most levels of arrays and maps within an attribute's value; a level of JSON is parsed by each above it.
pub const NESTING_MAX: usize = 8;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/x-protobuf`, and what gRPC carries.
    Protobuf,
    /// `application/json`.
    Json,
}

/// Takes what a message holds. What is handed over belongs to what was handed over last of the level
/// above: a point to the last metric, a metric to the last scope, a scope to the last resource.
pub trait Visitor {
    /// What is measured.
    fn resource(&mut self, resource: &Resource<'_>);
    /// What measures it.
    fn scope(&mut self, scope: &Scope<'_>);
    /// A metric; one without points comes too, one without data does not.
    fn metric(&mut self, metric: &Metric<'_>);
    /// A point.
    fn point(&mut self, point: &Point<'_>);
}

/// One attribute. A value that is no text is written as text: numbers and booleans as JSON has them,
/// bytes in base64, arrays and maps as JSON with keys in order, none at all as nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its name.
    pub key: Cow<'a, str>,
    /// Its value as text.
    pub value: Cow<'a, str>,
}

/// Attributes in the sender's order, or why they cannot be kept.
pub type Attributes<'a> = Result<&'a [Attribute<'a>], AttributesFault>;

/// Why attributes cannot be kept; the rest of the message can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesFault {
    /// More than [`ATTRIBUTES_MAX`].
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    TooMany,
    /// A name or value of more than [`TEXT_BYTES_MAX`].
    #[error("an attribute of more than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// A value of more than [`NESTING_MAX`] levels.
    #[error("an attribute of more than {NESTING_MAX} levels")]
    TooDeep,
}

/// A `Resource`: a service, a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// What it is known by, without `left_out`.
    pub attributes: Attributes<'a>,
    /// The names of attributes that cannot be kept, and why: most say nothing by which its series are
    /// told apart.
    pub left_out: &'a [(Cow<'a, str>, AttributesFault)],
}

/// An `InstrumentationScope`: the library that measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Of the `ScopeMetrics`: which conventions its names follow.
    pub schema_url: &'a str,
    /// What else is said of it.
    pub attributes: Attributes<'a>,
}

/// A metric without its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it means.
    pub description: &'a str,
    /// Its unit, as UCUM has it or as the sender likes.
    pub unit: &'a str,
    /// What its points are.
    pub kind: Kind,
    /// What its points count from; [`Temporality::Unspecified`] for gauges and summaries.
    pub temporality: Temporality,
    /// Of a sum, whether it only grows.
    pub monotonic: bool,
}

/// What the points of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers that stand for themselves.
    Gauge,
    /// Numbers that add up.
    Sum,
    /// Histograms with bounds that are listed.
    Histogram,
    /// Histograms with bounds that are computed.
    ExponentialHistogram,
    /// Quantiles that the sender computed.
    Summary,
}

/// What a point counts from (`AggregationTemporality`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Not said.
    #[default]
    Unspecified,
    /// From the point before.
    Delta,
    /// From the start of the series.
    Cumulative,
}

impl Temporality {
    fn of(number: u64) -> Self {
        match number {
            1 => Self::Delta,
            2 => Self::Cumulative,
            _ => Self::Unspecified,
        }
    }
}

/// A point of any kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<'a> {
    /// What tells its series from others of its metric.
    pub attributes: Attributes<'a>,
    /// From when on it counts, in nanoseconds since 1970; 0 where it is not said.
    pub start_ns: u64,
    /// Of when it is, in nanoseconds since 1970.
    pub time_ns: u64,
    /// `NoRecordedValue`: the series has ended, whatever the measure says.
    pub ended: bool,
    /// What was measured.
    pub measure: Measure<'a>,
    /// Examples of what it counts, in the sender's order.
    pub exemplars: &'a [Exemplar<'a>],
    /// How many more there are, beyond [`EXEMPLARS_MAX`].
    pub exemplars_left_out: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure<'a> {
    /// Nothing is said where a number is due.
    Absent,
    /// `asInt`.
    Integer(i64),
    /// `asDouble`.
    Double(f64),
    /// A histogram with bounds that are listed.
    Histogram(Explicit<'a>),
    /// A histogram with bounds that are computed.
    Exponential(Exponential<'a>),
    /// A summary.
    Summary(Summary<'a>),
}

/// `HistogramDataPoint`, as sent: nothing says yet that its parts agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explicit<'a> {
    /// How many observations.
    pub count: u64,
    /// Their sum, where it is said.
    pub sum: Option<f64>,
    /// Upper bounds, +Inf left out.
    pub bounds: &'a [f64],
    /// Observations of each bucket, not cumulative: one more than bounds, or none at all.
    pub counts: &'a [u64],
}

/// `ExponentialHistogramDataPoint`, as sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential<'a> {
    /// Bounds grow by 2^(2^-scale) from bucket to bucket.
    pub scale: i32,
    /// How many observations.
    pub count: u64,
    /// Their sum, where it is said.
    pub sum: Option<f64>,
    /// How many no further from zero than the threshold.
    pub zero_count: u64,
    /// That threshold; 0 where it is not said.
    pub zero_threshold: f64,
    /// Above zero.
    pub positive: Buckets<'a>,
    /// Below zero.
    pub negative: Buckets<'a>,
}

/// Buckets that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets<'a> {
    /// The index of the first: bucket 0 begins above 1.
    pub offset: i32,
    /// Observations of each.
    pub counts: &'a [u64],
}

/// `SummaryDataPoint`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary<'a> {
    /// How many observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantiles and their values.
    pub quantiles: &'a [(f64, f64)],
}

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not protobuf, or ends too early.
    #[error("not a message of the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A known key has a value of another kind than it must have.
    #[error("{key:?} is not {expected}")]
    Unexpected {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// More than [`POINTS_MAX`] points.
    #[error("more than {POINTS_MAX} points in one message: send fewer at a time")]
    TooManyPoints,
    /// More than [`NUMBERS_MAX`] bounds, bucket counts and quantiles.
    #[error("more than {NUMBERS_MAX} buckets in one message: send fewer at a time")]
    TooManyNumbers,
}

/// Reads a message and hands what is in it to `visitor`.
///
/// # Errors
/// [`ReadError`]; what was before the fault has been handed over by then.
pub fn read(form: Form, message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    match form {
        Form::Protobuf => protobuf::read(message, visitor),
        Form::Json => json::read(message, visitor),
    }
}
