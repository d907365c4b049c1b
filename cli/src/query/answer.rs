//! The collector's answer, as Prometheus's JSON has it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::histogram::Histogram;

/// The labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
pub(super) struct Body {
    pub(super) data: Data,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
}

/// A series at one time: a number or a histogram.
#[derive(Deserialize)]
pub(super) struct Instant {
    pub(super) metric: Labels,
    pub(super) value: Option<(f64, String)>,
    pub(super) histogram: Option<(f64, Histogram)>,
}

/// A series over time: numbers, histograms, or first the one and then the other.
#[derive(Deserialize)]
pub(super) struct Range {
    pub(super) metric: Labels,
    #[serde(default)]
    pub(super) values: Vec<(f64, String)>,
    #[serde(default)]
    pub(super) histograms: Vec<(f64, Histogram)>,
}

/// What a series has at one time.
pub(super) enum Sample<'a> {
    Number(&'a str),
    Histogram(&'a Histogram),
}

impl Instant {
    /// Its time and what it has then; `None` where the answer has neither.
    pub(super) fn sample(&self) -> Option<(i64, Sample<'_>)> {
        match (&self.value, &self.histogram) {
            (Some((t, value)), _) => Some((millis(*t), Sample::Number(value))),
            (None, Some((t, histogram))) => Some((millis(*t), Sample::Histogram(histogram))),
            (None, None) => None,
        }
    }
}

impl Range {
    /// All it has, in order of time.
    pub(super) fn samples(&self) -> Vec<(i64, Sample<'_>)> {
        let numbers = self.values.iter().map(|(t, value)| (millis(*t), Sample::Number(value)));
        let histograms =
            self.histograms.iter().map(|(t, found)| (millis(*t), Sample::Histogram(found)));
        let mut all: Vec<_> = numbers.chain(histograms).collect();
        all.sort_by_key(|(t, _)| *t);
        all
    }

    /// Its numbers.
    pub(super) fn points(&self) -> Vec<(i64, f64)> {
        self.values.iter().map(|(t, value)| (millis(*t), number(value))).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time the collector printed fits; as saturates"
)]
pub(super) fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

pub(super) fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}
