//! All series of one metric name, with what an exporter says about it.

use crate::Labels;

/// What a metric measures, as Prometheus's text format names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum MetricKind {
    /// Only ever grows, until its process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// Not said.
    #[default]
    Untyped,
}

impl MetricKind {
    /// The word in a `# TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// One reading within a [`Family`].
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The labels without the metric's name; a histogram's or summary's series carry
    /// their full name (`x_bucket`, `x_sum`) as `__name__` here.
    pub labels: Labels,
    /// What was read.
    pub value: f64,
}

/// All readings of one metric name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The metric's name.
    pub name: String,
    /// What it means, one sentence.
    pub help: String,
    /// What it measures.
    pub kind: MetricKind,
    /// The readings, one per label set.
    pub metrics: Vec<Metric>,
}

impl Family {
    /// A family without readings.
    #[must_use]
    pub fn new(name: impl Into<String>, help: impl Into<String>, kind: MetricKind) -> Self {
        Self { name: name.into(), help: help.into(), kind, metrics: Vec::new() }
    }

    /// Adds a reading.
    pub fn push(&mut self, labels: Labels, value: f64) {
        self.metrics.push(Metric { labels, value });
    }
}
