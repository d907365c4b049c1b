//! Compares what came with what was expected.

use stoa_model::{Labels, TimestampMs};

use super::command::{Eval, Expected};
use super::series::{HistogramItem, Item, Sequence};
use crate::histogram::Histogram;
use crate::number::{almost_equal, format_float};
use crate::value::{Answer, Value, VectorSample};

/// Relative error allowed in values.
const EPSILON: f64 = 1e-6;

impl Eval {
    pub(super) fn expects_failure(&self) -> bool {
        !self.fail.is_empty()
    }

    /// Whether an error was expected to read so, by every line that expects one.
    pub(super) fn check_error(&self, message: &str) -> Result<(), String> {
        if self.fail.is_empty() {
            return Err(format!("failed: {message}"));
        }
        if self.fail.iter().all(|expected| expected.matches(message)) {
            return Ok(());
        }
        Err(format!("failed with another message: {message}"))
    }

    pub(super) fn check_annotations(&self, answer: &Answer) -> Result<(), String> {
        check_messages("warning", &self.warn, self.no_warn, &answer.warnings)?;
        check_messages("info", &self.info, self.no_info, &answer.infos)
    }

    /// An instant query's value.
    pub(super) fn check_value(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::Scalar { v, .. } => match self.scalar {
                Some(expected) if almost_equal(expected, *v, EPSILON) => Ok(()),
                Some(expected) => {
                    Err(format!("expected {}, got {}", format_float(expected), format_float(*v)))
                }
                None => Err(format!("got the scalar {}", format_float(*v))),
            },
            Value::String { s, .. } => match &self.text {
                Some(expected) if expected == s => Ok(()),
                expected => Err(format!("expected {expected:?}, got {s:?}")),
            },
            Value::Vector(samples) => self.check_vector(samples),
            Value::Matrix(series) if series.is_empty() && self.series.is_empty() => Ok(()),
            Value::Matrix(_) => Err("got a range vector".into()),
        }
    }

    fn expected(&self, labels: &Labels) -> Option<(usize, &Sequence)> {
        let at = self.series.iter().rposition(|(expected, _)| expected == labels)?;
        self.series.get(at).map(|(_, items)| (at, items))
    }

    fn check_vector(&self, samples: &[VectorSample]) -> Result<(), String> {
        if let Some(expected) = self.scalar {
            return Err(format!("expected the scalar {}, got a vector", format_float(expected)));
        }
        for (place, sample) in samples.iter().enumerate() {
            let Some((at, items)) = self.expected(&sample.labels) else {
                return Err(format!("unexpected series {} {}", sample.labels, shown(sample)));
            };
            if self.ordered && at != place {
                return Err(format!("{} is number {}, not {}", sample.labels, place + 1, at + 1));
            }
            let histogram = sample.histogram.as_deref();
            let float = histogram.is_none().then_some(sample.v);
            check_item(items.first(), float, histogram)
                .map_err(|message| format!("{}: {message}", sample.labels))?;
        }
        let missing = self
            .series
            .iter()
            .find(|(labels, _)| !samples.iter().any(|sample| sample.labels == *labels));
        match missing {
            Some((labels, _)) => Err(format!("missing series {labels}")),
            None => Ok(()),
        }
    }

    /// A range query's value, or a range vector.
    pub(super) fn check_matrix(
        &self,
        value: &Value,
        start: TimestampMs,
        end: TimestampMs,
        step: i64,
    ) -> Result<(), String> {
        let Value::Matrix(all) = value else { return Err("expected a range vector".into()) };
        if !all.is_sorted_by(|a, b| a.labels <= b.labels) {
            return Err("series are not sorted by labels".into());
        }
        for series in all {
            let Some((_, items)) = self.expected(&series.labels) else {
                return Err(format!("unexpected series {} {:?}", series.labels, series.points));
            };
            let mut seen = 0;
            for (at, item) in (0..).zip(items) {
                let t = start + at * step;
                let float = series.points.iter().find(|(time, _)| *time == t).map(|(_, v)| *v);
                let histogram = series
                    .histograms
                    .iter()
                    .find(|(time, _)| *time == t)
                    .map(|(_, histogram)| histogram.as_ref());
                seen += usize::from(float.is_some()) + usize::from(histogram.is_some());
                if t > end && !matches!(item, Item::Gap) {
                    return Err(format!("{}: more points expected than steps", series.labels));
                }
                check_item(Some(item), float, histogram)
                    .map_err(|message| format!("{} at {t} ms: {message}", series.labels))?;
            }
            if seen != series.points.len() + series.histograms.len() {
                return Err(format!("{}: unexpected points in {:?}", series.labels, series.points));
            }
        }
        let missing = self
            .series
            .iter()
            .find(|(labels, _)| !all.iter().any(|series| series.labels == *labels));
        match missing {
            Some((labels, _)) => Err(format!("missing series {labels}")),
            None => Ok(()),
        }
    }
}

fn shown(sample: &VectorSample) -> String {
    match &sample.histogram {
        Some(histogram) => histogram.to_string(),
        None => format_float(sample.v),
    }
}

fn check_messages(
    what: &str,
    expected: &[Expected],
    none: bool,
    got: &[String],
) -> Result<(), String> {
    if none && !got.is_empty() {
        return Err(format!("expected no {what}, got {got:?}"));
    }
    if expected.iter().any(|expected| !got.iter().any(|text| expected.matches(text))) {
        return Err(format!("an expected {what} is not among {got:?}"));
    }
    if !expected.is_empty()
        && let Some(other) =
            got.iter().find(|text| !expected.iter().any(|expected| expected.matches(text)))
    {
        return Err(format!("unexpected {what} {other:?}"));
    }
    Ok(())
}

fn check_item(
    expected: Option<&Item>,
    float: Option<f64>,
    histogram: Option<&Histogram>,
) -> Result<(), String> {
    match (expected, float, histogram) {
        (None | Some(Item::Gap), None, None) => Ok(()),
        (Some(Item::Float(expected)), Some(got), None) => {
            if almost_equal(*expected, got, EPSILON) {
                Ok(())
            } else {
                Err(format!("expected {}, got {}", format_float(*expected), format_float(got)))
            }
        }
        (Some(Item::Histogram(expected)), None, Some(got)) => check_histogram(expected, got),
        (expected, float, histogram) => {
            let expected = match expected {
                None | Some(Item::Gap) => "nothing".into(),
                Some(Item::Float(v)) => format_float(*v),
                Some(Item::Histogram(item)) => item.histogram.to_string(),
            };
            let got = match (float, histogram) {
                (Some(v), _) => format_float(v),
                (None, Some(histogram)) => histogram.to_string(),
                (None, None) => "nothing".into(),
            };
            Err(format!("expected {expected}, got {got}"))
        }
    }
}

fn check_histogram(item: &HistogramItem, got: &Histogram) -> Result<(), String> {
    let expected = Histogram::clone(&item.histogram).compact();
    let got = got.clone().compact();
    let near = |a: f64, b: f64| almost_equal(a, b, EPSILON);
    let buckets = |a: &[(i32, f64)], b: &[(i32, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.0 == y.0 && near(x.1, y.1))
    };
    let equal = expected.schema == got.schema
        && near(expected.count, got.count)
        && near(expected.sum, got.sum)
        && expected.zero_threshold.total_cmp(&got.zero_threshold).is_eq()
        && near(expected.zero_count, got.zero_count)
        && expected.custom_bounds == got.custom_bounds
        && buckets(&expected.positive, &got.positive)
        && buckets(&expected.negative, &got.negative)
        && (!item.has_hint || expected.reset_hint == got.reset_hint);
    if equal { Ok(()) } else { Err(format!("expected {expected:?}, got {got:?}")) }
}
