//! Warnings and infos: what a person should know about a result, in Prometheus's words.
//!
//! Equal ones are told once, however many series and steps cause them. The text ends with the place
//! of the expression they are about.

use std::collections::BTreeMap;

use stoa_model::TimestampMs;

use crate::number::{format_general, quote};
use crate::parse::ast::Span;
use crate::parse::line_and_column;
use crate::storage::Coarser;

/// What an annotation says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note<'a> {
    InvalidQuantile(f64),
    InvalidRatio { got: f64, used: f64 },
    BadBucketLabel { metric: &'a str, label: &'a str },
    MixedFloatsHistograms { metric: &'a str },
    MixedFloatsHistogramsInAggregation,
    MixedClassicNative { metric: &'a str },
    NotCounter { metric: &'a str },
    NotGauge { metric: &'a str },
    MixedExponentialCustom { metric: &'a str },
    IncompatibleBucketLayout { op: &'a str },
    ResetCollision(Operation),
    PossibleNonCounter { metric: &'a str },
    PossibleNonCounterType { metric: &'a str, kind: &'a str },
    IncompatibleTypes { left: &'a str, op: &'a str, right: &'a str },
    HistogramIgnored { aggregation: &'a str },
    HistogramIgnoredInRange { metric: &'a str },
    QuantileNanResult { metric: &'a str },
    QuantileNanSkew { metric: &'a str },
    FractionNans { metric: &'a str },
    BoundsReconciled(Operation),
    OverlappingStarts { metric: &'a str },
    ForcedMonotonicity { metric: &'a str, at: TimestampMs, fix: MonotonicFix },
    RolledUp { metric: &'a str, coarser: Coarser, samples_kept_ms: i64 },
}

/// The operation that combined histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// Where the buckets of a classic histogram had to be corrected to ascend, and by how much at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MonotonicFix {
    pub(crate) lowest_bound: f64,
    pub(crate) highest_bound: f64,
    pub(crate) largest_drop: f64,
}

/// All annotations of a query so far.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    /// By text without place.
    notes: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    span: Span,
    info: bool,
    fixes: Option<Fixes>,
}

#[derive(Debug)]
struct Fixes {
    first: TimestampMs,
    last: TimestampMs,
    samples: usize,
    fix: MonotonicFix,
}

impl Annotations {
    pub(crate) fn add(&mut self, note: &Note<'_>, span: Span) {
        let (info, text) = note.text();
        let prefix = if info { "PromQL info: " } else { "PromQL warning: " };
        let entry = self.notes.entry(format!("{prefix}{text}")).or_insert(Entry {
            span,
            info,
            fixes: None,
        });
        if let Note::ForcedMonotonicity { at, fix, .. } = note {
            let fixes =
                entry.fixes.get_or_insert(Fixes { first: *at, last: *at, samples: 0, fix: *fix });
            fixes.first = fixes.first.min(*at);
            fixes.last = fixes.last.max(*at);
            fixes.samples += 1;
            fixes.fix.lowest_bound = fixes.fix.lowest_bound.min(fix.lowest_bound);
            fixes.fix.highest_bound = fixes.fix.highest_bound.max(fix.highest_bound);
            fixes.fix.largest_drop = fixes.fix.largest_drop.max(fix.largest_drop);
        }
    }

    /// Warnings and infos, as the API shows them for `query`.
    pub(crate) fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for (text, entry) in &self.notes {
            let mut text = text.clone();
            if let Some(fixes) = &entry.fixes {
                text.push_str(&fixes.text());
            }
            let place = line_and_column(query, entry.span.start);
            let list = if entry.info { &mut infos } else { &mut warnings };
            list.push(format!("{text} ({place})"));
        }
        (warnings, infos)
    }
}

impl Fixes {
    fn text(&self) -> String {
        format!(
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            format_general(self.fix.lowest_bound),
            format_general(self.fix.highest_bound),
            two_digits(self.fix.largest_drop),
            self.samples,
            rfc3339(self.first),
            rfc3339(self.last),
        )
    }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    let rounded = format!("{v:.1e}").parse().unwrap_or(v);
    let text = format_general(rounded);
    if rounded.abs() >= 100.0 && !text.contains('e') {
        let scientific = format!("{rounded:e}");
        if let Some((mantissa, exponent)) = scientific.split_once('e') {
            return format!("{mantissa}e+{exponent:0>2}");
        }
    }
    text
}

fn rfc3339(t: TimestampMs) -> String {
    let date = crate::function::date::Date::of_seconds(t.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year, date.month, date.day, date.hour, date.minute, date.second
    )
}

/// A length of time in the largest unit that it is a multiple of.
fn length(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let unit = units.iter().find(|(unit, _)| ms % unit == 0);
    unit.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric)) }
}

impl Note<'_> {
    /// Whether it is an info, and its text.
    fn text(&self) -> (bool, String) {
        match self {
            Self::InvalidQuantile(q) => (
                false,
                format!("quantile value should be between 0 and 1, got {}", format_general(*q)),
            ),
            Self::InvalidRatio { got, used } => (
                false,
                format!(
                    "ratio value should be between -1 and 1, got {}, capping to {}",
                    format_general(*got),
                    format_general(*used)
                ),
            ),
            Self::BadBucketLabel { metric, label } => (
                false,
                format!(
                    "bucket label \"le\" is missing or has a malformed value of {}{}",
                    quote(label),
                    for_metric(metric)
                ),
            ),
            Self::MixedFloatsHistograms { metric } => (
                false,
                format!(
                    "encountered a mix of histograms and floats for metric name {}",
                    quote(metric)
                ),
            ),
            Self::MixedFloatsHistogramsInAggregation => {
                (false, "encountered a mix of histograms and floats for aggregation".into())
            }
            Self::MixedClassicNative { metric } => (
                false,
                format!(
                    "vector contains a mix of classic and native histograms{}",
                    for_metric(metric)
                ),
            ),
            Self::NotCounter { metric } => {
                (false, format!("this native histogram metric is not a counter: {}", quote(metric)))
            }
            Self::NotGauge { metric } => {
                (false, format!("this native histogram metric is not a gauge: {}", quote(metric)))
            }
            Self::MixedExponentialCustom { metric } => (
                false,
                format!(
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                    quote(metric)
                ),
            ),
            Self::IncompatibleBucketLayout { op } => {
                (false, format!("incompatible bucket layout encountered for binary operator {op}"))
            }
            Self::ResetCollision(operation) => (
                false,
                format!("conflicting counter resets during histogram {}", operation.as_str()),
            ),
            Self::OverlappingStarts { metric } => (
                false,
                format!(
                    "overlapping start timestamps encountered for metric name {}",
                    quote(metric)
                ),
            ),
            Self::PossibleNonCounter { metric } => (
                true,
                format!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                    quote(metric)
                ),
            ),
            Self::PossibleNonCounterType { metric, kind } => (
                true,
                format!(
                    "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
                    quote(kind),
                    quote(metric)
                ),
            ),
            Self::IncompatibleTypes { left, op, right } => (
                true,
                format!(
                    "incompatible sample types encountered for binary operator {}: {left} {op} {right}",
                    quote(op)
                ),
            ),
            Self::HistogramIgnored { aggregation } => {
                (true, format!("ignored histogram in {aggregation} aggregation"))
            }
            Self::HistogramIgnoredInRange { metric } => (
                true,
                format!(
                    "ignored histograms in a range containing both floats and histograms for metric name {}",
                    quote(metric)
                ),
            ),
            Self::QuantileNanResult { metric } => (
                true,
                format!(
                    "input to histogram_quantile has NaN observations, result is NaN{}",
                    for_metric(metric)
                ),
            ),
            Self::QuantileNanSkew { metric } => (
                true,
                format!(
                    "input to histogram_quantile has NaN observations, result is skewed higher{}",
                    for_metric(metric)
                ),
            ),
            Self::FractionNans { metric } => (
                true,
                format!(
                    "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                    for_metric(metric)
                ),
            ),
            Self::BoundsReconciled(operation) => (
                true,
                format!("mismatched custom buckets were reconciled during {}", operation.as_str()),
            ),
            Self::RolledUp { metric, coarser, samples_kept_ms } => (
                true,
                format!(
                    "metric {}: answered from {} aggregates from {} to {}: raw samples are kept {}",
                    quote(metric),
                    length(coarser.window_ms),
                    rfc3339(coarser.start_ms),
                    rfc3339(coarser.end_ms),
                    length(*samples_kept_ms),
                ),
            ),
            Self::ForcedMonotonicity { metric, .. } => (
                true,
                format!(
                    "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                    for_metric(metric)
                ),
            ),
        }
    }
}
