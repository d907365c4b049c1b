//! Points of OTLP as samples, by the rules of Prometheus's OTLP endpoint.
//!
//! - A metric's name gets its unit and kind ([`Strategy`]); `job` is `service.namespace/service.name`,
//!   `instance` is `service.instance.id`. Where labels meet, `job` and `instance` stand over what a
//!   scope adds, that over the point's own attributes, and these over promoted ones of the resource.
//! - Numbers become samples. A histogram becomes `_bucket`, `_count` and, where it is said, `_sum`, or
//!   one native histogram with custom buckets; an exponential one becomes a native histogram; a
//!   summary its quantiles, `_sum` and `_count`. A point that says its series ended becomes stale
//!   markers.
//! - What else is known of a resource becomes `target_info`, 1 from its earliest point to its latest,
//!   every 2.5 minutes, so that a query finds it anywhere between.
//! - Exemplars of sums and histograms are those of the series, or of the bucket, that their value counts
//!   in: `trace_id`, `span_id`, and their attributes under their own names where all of it has no more
//!   than 128 characters.
//! - Points that count from the one before are added up, where that is asked for
//!   ([`Translator::adding`]), and refused otherwise, as are those that do not say from when. What the
//!   sink wants to know of when counting began ([`Sink::has_starts`]) it is told.
//!
//! [`Translator`] is a [`Visitor`] of [`super::read`]; a [`Sink`] takes what it makes, one sample at a
//! time. Bounds beside those of the message: [`SAMPLES_MAX`], [`LABEL_BYTES_MAX`], [`INFO_SAMPLES_MAX`].

mod out;

use std::borrow::Cow;
use std::collections::BTreeSet;

use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs, stale_nan};

use self::out::Out;
use super::labels::{LabelSet, OfResource, Pair, of_scope};
use super::{
    AttributesFault, DeltaFault, Exemplar, Kind, Measure, Metric, Point, Resource, ScaleError,
    Scope, Strategy, Temporality, Total, Visitor,
};

/// Most samples handed over for one message; points with many buckets or quantiles are many samples.
pub const SAMPLES_MAX: usize = 1 << 20;

/// Most bytes of labels handed over for one message: a histogram's labels stand with each of its
/// buckets, so that a small message can say very much.
pub const LABEL_BYTES_MAX: usize = 1 << 30;

/// Most samples of `target_info` of one message. Beyond, a resource has one, at its latest point.
pub const INFO_SAMPLES_MAX: i64 = 1 << 16;

/// Longest name and unit of a metric; each of its points may have a copy.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of a name that a refusal shows; each point may have one.
const SHOWN_BYTES_MAX: usize = 100;

/// Half of what a query looks back.
const INFO_EVERY_MS: i64 = 150_000;

/// How things are named. The fields are Prometheus's own settings, and so are the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What becomes of names.
    pub translation_strategy: Strategy,
    /// Attributes of resources that every series of theirs has as labels.
    pub promote_resource_attributes: BTreeSet<String>,
    /// All of them do.
    pub promote_all_resource_attributes: bool,
    /// But these.
    pub ignore_resource_attributes: BTreeSet<String>,
    /// `target_info` also has what `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// Series have their scope's name, version, schema and attributes as labels `otel_scope_…`.
    pub promote_scope_metadata: bool,
    /// Histograms with listed bounds become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Labels that would begin with one underscore begin with `key_`.
    pub label_name_underscore_sanitization: bool,
    /// Several underscores in a row within a label's name stay.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            translation_strategy: Strategy::default(),
            promote_resource_attributes: BTreeSet::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: BTreeSet::new(),
            keep_identifying_resource_attributes: false,
            promote_scope_metadata: false,
            convert_histograms_to_nhcb: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

/// Labels of a series: sorted by name, each once, none empty.
pub type SampleLabels<'a> = &'a [(&'a str, &'a str)];

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleExemplar<'a> {
    /// Sorted by name, each once, none empty.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// When; of an exemplar that does not say so, when its point is.
    pub t_ms: TimestampMs,
    /// What was measured.
    pub value: f64,
}

/// Takes what points become.
pub trait Sink {
    /// A point begins: what is handed over until the next call of this or of [`Sink::info`] is of it.
    fn point(&mut self) {}
    /// Whether [`Sink::starts`] is of use here.
    fn has_starts(&self) -> bool {
        false
    }
    /// The next sample or histogram counts from then on. Said only of what begins with nothing: sums,
    /// histograms, and sums and counts of summaries.
    fn starts(&mut self, _start_ms: TimestampMs) {}
    /// What is handed over next is `target_info`, and of no point.
    fn info(&mut self) {}
    /// A sample.
    fn sample(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, value: f64);
    /// A native histogram; whether it is valid is not checked yet.
    fn histogram(&mut self, labels: SampleLabels<'_>, t_ms: TimestampMs, histogram: Histogram);
    /// What is said about a metric: its name, kind, help and unit.
    fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str);
    /// Whether samples of this series are taken; where not, the point that is to become one is refused,
    /// which is this sink's to say. Asked of points that count from the one before, ahead of adding them.
    fn place(&mut self, _labels: SampleLabels<'_>) -> bool {
        true
    }
    /// Exemplars of a series, in order of time.
    fn exemplars(&mut self, series: SampleLabels<'_>, exemplars: &[SampleExemplar<'_>]);
    /// So many exemplars that are of no series here.
    fn exemplars_left_out(&mut self, count: u64);
    /// A point that became nothing.
    fn refused(&mut self, why: &Refused);
}

/// Why a point became nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its attributes, or those of its resource or scope, are beyond the bounds.
    #[error("{0}")]
    Attributes(AttributesFault),
    /// Its metric has no name, or none of which anything is left.
    #[error("{0:?} is no name of a metric")]
    MetricName(String),
    /// Its metric's name or unit is longer than [`NAME_BYTES_MAX`].
    #[error("the name or unit of {0:?} is longer than {NAME_BYTES_MAX} bytes")]
    LongName(String),
    /// An attribute of it, its resource or its scope has no name, or none of which anything is left.
    #[error("{0:?} is no name of a label")]
    LabelName(String),
    /// It counts from the point before and cannot be added to it.
    #[error("a delta of {metric:?}: {why}")]
    Delta {
        /// The metric's name, as sent, or how it begins.
        metric: String,
        /// Why.
        why: DeltaFault,
    },
    /// It does not say from when on it counts, or from the point before and that is not added up.
    #[error("the temporality of {metric:?} is not cumulative")]
    NotCumulative {
        /// The metric's name, as sent, or how it begins.
        metric: String,
    },
    /// A histogram that cannot be a native one.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// It has no value.
    #[error("a point of {metric:?} has no value")]
    Absent {
        /// The metric's name, as sent.
        metric: String,
    },
    /// The message says more than [`SAMPLES_MAX`] or [`LABEL_BYTES_MAX`]; none of the point's samples
    /// have been handed over.
    #[error(
        "more than {SAMPLES_MAX} samples, or {LABEL_BYTES_MAX} bytes of labels: send less at a time"
    )]
    TooLarge,
}

/// Adds up points that count from the point before: see [`super::Deltas::add`], whose streams are told
/// apart by the name and labels of their series, as bytes.
pub trait Accumulate {
    /// What the point's stream has come to with it. `grows` says that it is of a monotonic sum.
    ///
    /// # Errors
    /// [`DeltaFault`].
    fn add(
        &mut self,
        series: &[u8],
        point: &Point<'_>,
        grows: bool,
    ) -> Result<Option<Total>, DeltaFault>;

    /// From when on that stream counts, as [`super::Deltas::begun_ns`] says; 0 where it is not known.
    fn begun_ns(&mut self, _series: &[u8]) -> u64 {
        0
    }
}

/// How a name begins, where it is long.
pub(super) fn shown(name: &str) -> String {
    name.get(..name.floor_char_boundary(SHOWN_BYTES_MAX)).unwrap_or_default().to_owned()
}

/// Makes samples of the points it is handed.
pub struct Translator<'s> {
    options: &'s Options,
    out: Out<'s>,
    resource: Result<OfResource, Refused>,
    scope: Result<Vec<(String, String)>, Refused>,
    /// The metric's name here and as it was sent.
    metric: Result<(String, String), Refused>,
    deltas: Option<&'s mut dyn Accumulate>,
    /// The metric's points are to be added up.
    adds_up: bool,
    /// It is a sum that only grows.
    grows: bool,
    /// It is of a kind whose exemplars are taken.
    has_exemplars: bool,
    /// The name of a stream.
    stream: Vec<u8>,
    /// When the first and the last point of the resource are.
    times: Option<(TimestampMs, TimestampMs)>,
    info_left: i64,
}

impl std::fmt::Debug for Translator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Translator").field("metric", &self.metric).finish_non_exhaustive()
    }
}

impl<'s> Translator<'s> {
    /// One for one message.
    #[must_use]
    pub fn new(options: &'s Options, sink: &'s mut dyn Sink) -> Self {
        Self {
            options,
            out: Out {
                sink,
                samples_left: SAMPLES_MAX,
                bytes_left: LABEL_BYTES_MAX,
                placed: None,
                start_ms: None,
            },
            resource: Ok(OfResource::default()),
            scope: Ok(Vec::new()),
            metric: Err(Refused::MetricName(String::new())),
            deltas: None,
            adds_up: false,
            grows: false,
            has_exemplars: false,
            stream: Vec::new(),
            times: None,
            info_left: INFO_SAMPLES_MAX,
        }
    }

    /// Points that count from the point before are added up by `deltas`.
    #[must_use]
    pub fn adding(mut self, deltas: Option<&'s mut dyn Accumulate>) -> Self {
        self.deltas = deltas;
        self
    }

    /// Hands over what is left to say. To be called also where reading ended with an error and what
    /// came before it is kept.
    pub fn finish(mut self) {
        self.end_resource();
    }

    fn end_resource(&mut self) {
        let (Some((first, last)), Ok(resource)) = (self.times.take(), &self.resource) else {
            return;
        };
        if resource.info.is_empty() {
            return;
        }
        let labels: Vec<_> = resource
            .info
            .iter()
            .map(|(name, value)| (Cow::from(name.as_str()), Cow::from(value.as_str())))
            .collect();
        self.out.sink.info();
        let between = (last - first + INFO_EVERY_MS - 1) / INFO_EVERY_MS;
        let between = if between < self.info_left { between } else { 0 };
        self.info_left -= between + 1;
        for n in 0..between {
            let t_ms = first + n * INFO_EVERY_MS;
            // Beyond the bound there is no point to refuse for it.
            let _too_large = self.out.sample(&labels, "target_info", None, t_ms, 1.0);
        }
        let _too_large = self.out.sample(&labels, "target_info", None, last, 1.0);
    }

    /// Whether there is a place for it; where there is none, the sink has said so.
    fn take(&mut self, point: &Point<'_>) -> Result<bool, Refused> {
        let (name, sent) = self.metric.as_ref().map_err(Clone::clone)?;
        let resource = self.resource.as_ref().map_err(Clone::clone)?;
        let scope = self.scope.as_ref().map_err(Clone::clone)?;
        let attributes = point.attributes.map_err(Refused::Attributes)?;
        let labels = LabelSet::of_point(self.options, resource, scope, attributes)?;
        let t_ms = milliseconds(point.time_ns);
        let native = self.options.convert_histograms_to_nhcb;
        let made = Made { labels: &labels, name, sent, t_ms, ended: point.ended, native };
        let mut start_ns = point.start_ns;
        let total = match &mut self.deltas {
            Some(deltas) if self.adds_up && !point.ended => {
                // What is refused for its series shall take no room among the streams.
                if !self.out.places(|out| made.hand_over(out, point.measure, false))? {
                    return Ok(false);
                }
                name_stream(&mut self.stream, name, &labels);
                let why = |why| Refused::Delta { metric: sent.clone(), why };
                let total = deltas.add(&self.stream, point, self.grows).map_err(why)?;
                if self.out.sink.has_starts() {
                    start_ns = deltas.begun_ns(&self.stream);
                }
                total
            }
            _ => None,
        };
        let measure = total.as_ref().map_or(point.measure, Total::measure);
        let counts = self.has_exemplars || matches!(measure, Measure::Summary(_));
        let has_start = counts && !point.ended && start_ns > 0 && self.out.sink.has_starts();
        self.out.start_ms = has_start.then(|| milliseconds(start_ns));
        let handed_over = made.hand_over(&mut self.out, measure, total.is_some());
        self.out.start_ms = None;
        handed_over?;
        if self.has_exemplars && !point.exemplars.is_empty() {
            made.exemplify(&mut self.out, measure, point.exemplars);
        }
        let (first, last) = self.times.unwrap_or((t_ms, t_ms));
        self.times = Some((first.min(t_ms), last.max(t_ms)));
        Ok(true)
    }
}

fn milliseconds(time_ns: u64) -> TimestampMs {
    i64::try_from(time_ns / 1_000_000).unwrap_or(i64::MAX)
}

/// A point on its way to the sink.
struct Made<'a> {
    labels: &'a [Pair<'a>],
    /// The metric's name here and as it was sent.
    name: &'a str,
    sent: &'a str,
    t_ms: TimestampMs,
    ended: bool,
    /// Listed bounds become custom buckets.
    native: bool,
}

impl Made<'_> {
    /// As samples. `is_total` says that it is what a stream has come to.
    fn hand_over(
        &self,
        out: &mut Out<'_>,
        measure: Measure<'_>,
        is_total: bool,
    ) -> Result<(), Refused> {
        let Self { labels, name, t_ms, ended, .. } = *self;
        let value = |value: f64| if ended { stale_nan() } else { value };
        match measure {
            Measure::Absent if !ended => {
                return Err(Refused::Absent { metric: self.sent.to_owned() });
            }
            Measure::Absent => out.sample(labels, name, None, t_ms, stale_nan())?,
            Measure::Integer(number) => {
                out.sample(labels, name, None, t_ms, value(number as f64))?;
            }
            Measure::Double(number) => out.sample(labels, name, None, t_ms, value(number))?,
            Measure::Histogram(histogram) if self.native => {
                let native = if ended { Histogram::stale() } else { histogram.custom() };
                let native = summed(native, is_total && histogram.sum.is_none());
                out.histogram(labels, name, t_ms, native)?;
            }
            Measure::Histogram(histogram) => out.explicit(labels, name, t_ms, histogram, value)?,
            Measure::Exponential(histogram) => {
                let native = if ended { Histogram::stale() } else { histogram.native()? };
                let native = summed(native, is_total && histogram.sum.is_none());
                out.histogram(labels, name, t_ms, native)?;
            }
            Measure::Summary(summary) => out.summary(labels, name, t_ms, summary, value)?,
        }
        Ok(())
    }

    /// Its exemplars.
    fn exemplify(&self, out: &mut Out<'_>, measure: Measure<'_>, exemplars: &[Exemplar<'_>]) {
        let Self { labels, name, t_ms, .. } = *self;
        match measure {
            Measure::Histogram(histogram) if !self.native => {
                out.exemplars_of_buckets(labels, name, t_ms, histogram, exemplars);
            }
            _ => out.exemplars(labels, name, None, t_ms, exemplars.iter().collect()),
        }
    }
}

/// A histogram whose sum is not known: a total was of something before, so that 0 would be a fall.
fn summed(mut native: Histogram, unknown: bool) -> Histogram {
    if unknown {
        native.sum = f64::NAN;
    }
    native
}

/// The name of a stream of deltas: that of its series, each part after its length.
fn name_stream(out: &mut Vec<u8>, name: &str, labels: &[Pair<'_>]) {
    out.clear();
    let labels = labels.iter().flat_map(|(name, value)| [&**name, &**value]);
    for text in [name].into_iter().chain(labels) {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

impl Visitor for Translator<'_> {
    fn resource(&mut self, resource: &Resource<'_>) {
        self.end_resource();
        self.resource = OfResource::new(self.options, resource);
    }

    fn scope(&mut self, scope: &Scope<'_>) {
        self.scope = of_scope(self.options, scope);
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        let strategy = self.options.translation_strategy;
        let kind = match metric.kind {
            Kind::Gauge => MetricKind::Gauge,
            Kind::Sum if metric.monotonic => MetricKind::Counter,
            Kind::Sum => MetricKind::Gauge,
            Kind::Histogram | Kind::ExponentialHistogram => MetricKind::Histogram,
            Kind::Summary => MetricKind::Summary,
        };
        let counts = !matches!(metric.kind, Kind::Gauge | Kind::Summary);
        self.adds_up = counts && metric.temporality == Temporality::Delta;
        self.grows = metric.kind == Kind::Sum && metric.monotonic;
        self.has_exemplars = counts;
        let is_taken = !counts
            || metric.temporality == Temporality::Cumulative
            || self.adds_up && self.deltas.is_some();
        self.metric = if metric.name.len().max(metric.unit.len()) > NAME_BYTES_MAX {
            Err(Refused::LongName(shown(metric.name)))
        } else if !is_taken {
            Err(Refused::NotCumulative { metric: shown(metric.name) })
        } else if let Some(name) = strategy.metric_name(metric) {
            let unit = strategy.unit_name(metric.unit);
            self.out.sink.metadata(&name, kind, metric.description, &unit);
            Ok((name, shown(metric.name)))
        } else {
            Err(Refused::MetricName(shown(metric.name)))
        };
    }

    fn point(&mut self, point: &Point<'_>) {
        self.out.sink.point();
        let taken = self.take(point);
        if let Err(why) = &taken {
            self.out.sink.refused(why);
        }
        let has_place = self.has_exemplars && taken == Ok(true);
        let without = if has_place { 0 } else { point.exemplars.len() as u64 };
        if without + point.exemplars_left_out > 0 {
            self.out.sink.exemplars_left_out(without + point.exemplars_left_out);
        }
    }
}
