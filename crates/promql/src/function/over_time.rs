//! `*_over_time`: one number about all samples of a window.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::range::Seen;
use crate::annotation::{Note, Operation};
use crate::error::QueryError;
use crate::eval::Point;
use crate::histogram::running::Running;
use crate::histogram::{Histogram, Incompatible, ResetHint};
use crate::number::{self, Kahan, Mean, finite_sum, seconds};

type Result = std::result::Result<Option<Point>, QueryError>;

#[expect(clippy::unnecessary_wraps, reason = "range functions may fail, these do not")]
fn float(v: f64) -> Result {
    Ok(Some(Point::Float(v)))
}

const NOTHING: Result = Ok(None);

pub(crate) fn avg(seen: &Seen<'_>) -> Result {
    if seen.is_mixed() {
        return NOTHING;
    }
    if seen.window.values.is_empty() {
        return Ok(histograms(seen, mean_histogram));
    }
    if let Some(sum) = finite_sum(seen.window.values) {
        let count = number::count(seen.window.values.len());
        return float(sum.sum / count + sum.compensation / count);
    }
    let mut mean = Mean::default();
    for v in seen.window.values {
        mean.add(*v);
    }
    float(mean.mean())
}

pub(crate) fn sum(seen: &Seen<'_>) -> Result {
    if seen.is_mixed() {
        return NOTHING;
    }
    if seen.window.values.is_empty() {
        return Ok(histograms(seen, sum_histogram));
    }
    if let Some(sum) = finite_sum(seen.window.values) {
        return float(sum.sum + sum.compensation);
    }
    let sum = seen.window.values.iter().fold(Kahan::default(), |sum, v| sum.add(*v));
    float(sum.total())
}

/// A result and whether custom bounds were reconciled on the way.
type Reduced = std::result::Result<(Histogram, bool), Incompatible>;

fn histograms(seen: &Seen<'_>, reduce: fn(&[Arc<Histogram>]) -> Reduced) -> Option<Point> {
    let all = seen.window.histograms;
    match reduce(all) {
        Ok((histogram, reconciled)) => {
            let any = |hint| all.iter().any(|histogram| histogram.reset_hint == hint);
            if any(ResetHint::Reset) && any(ResetHint::NotReset) {
                (seen.note)(Note::ResetCollision(Operation::Aggregation));
            }
            if reconciled {
                (seen.note)(Note::BoundsReconciled(Operation::Aggregation));
            }
            Some(Point::Histogram(histogram.compact().into()))
        }
        Err(Incompatible) => {
            (seen.note)(Note::MixedExponentialCustom { metric: seen.metric });
            None
        }
    }
}

fn sum_histogram(all: &[Arc<Histogram>]) -> Reduced {
    running(all, false)
}

fn mean_histogram(all: &[Arc<Histogram>]) -> Reduced {
    running(all, true)
}

fn running(all: &[Arc<Histogram>], average: bool) -> Reduced {
    let Some((first, rest)) = all.split_first() else { return Ok((Histogram::default(), false)) };
    let mut running = Running::of(first, average);
    let mut reconciled = false;
    for histogram in rest {
        reconciled |= running.add(histogram)?.bounds_reconciled;
    }
    Ok((running.finish(), reconciled))
}

pub(crate) fn count(seen: &Seen<'_>) -> Result {
    float(number::count(seen.window.times.len() + seen.window.histograms.len()))
}

pub(crate) fn present(_: &Seen<'_>) -> Result {
    float(1.0)
}

pub(crate) fn first(seen: &Seen<'_>) -> Result {
    let window = seen.window;
    let float = window.float(0);
    let histogram = window.histogram_times.first().zip(window.histograms.first());
    Ok(match (float, histogram) {
        (Some((t, v)), Some((other, _))) if t < *other => Some(Point::Float(v)),
        (_, Some((_, histogram))) => Some(Point::Histogram(Arc::clone(histogram))),
        (Some((_, v)), None) => Some(Point::Float(v)),
        (None, None) => None,
    })
}

pub(crate) fn last(seen: &Seen<'_>) -> Result {
    let window = seen.window;
    let float = window.floats().next_back();
    let histogram = window.histogram_times.last().zip(window.histograms.last());
    Ok(match (float, histogram) {
        (Some((t, v)), Some((other, _))) if t > *other => Some(Point::Float(v)),
        (_, Some((_, histogram))) => Some(Point::Histogram(Arc::clone(histogram))),
        (Some((_, v)), None) => Some(Point::Float(v)),
        (None, None) => None,
    })
}

/// The sample that wins against all before it.
fn winner(seen: &Seen<'_>, wins: fn(f64, f64) -> bool) -> Option<(TimestampMs, f64)> {
    let best = seen
        .window
        .floats()
        .reduce(|best, next| if wins(next.1, best.1) || best.1.is_nan() { next } else { best });
    if best.is_some() {
        seen.note_ignored_histograms();
    }
    best
}

pub(crate) fn min(seen: &Seen<'_>) -> Result {
    Ok(winner(seen, |next, best| next < best).map(|(_, v)| Point::Float(v)))
}

pub(crate) fn max(seen: &Seen<'_>) -> Result {
    Ok(winner(seen, |next, best| next > best).map(|(_, v)| Point::Float(v)))
}

pub(crate) fn time_of_min(seen: &Seen<'_>) -> Result {
    Ok(winner(seen, |next, best| next <= best).map(|(t, _)| Point::Float(seconds(t))))
}

pub(crate) fn time_of_max(seen: &Seen<'_>) -> Result {
    Ok(winner(seen, |next, best| next >= best).map(|(t, _)| Point::Float(seconds(t))))
}

pub(crate) fn time_of_first(seen: &Seen<'_>) -> Result {
    let times = [seen.window.times.first(), seen.window.histogram_times.first()];
    Ok(times.into_iter().flatten().min().map(|t| Point::Float(seconds(*t))))
}

pub(crate) fn time_of_last(seen: &Seen<'_>) -> Result {
    let times = [seen.window.times.last(), seen.window.histogram_times.last()];
    Ok(times.into_iter().flatten().max().map(|t| Point::Float(seconds(*t))))
}

fn variance(seen: &Seen<'_>) -> Option<f64> {
    if seen.window.values.is_empty() {
        return None;
    }
    seen.note_ignored_histograms();
    let mut count = 0.0;
    let (mut mean, mut squares) = (Kahan::default(), Kahan::default());
    for v in seen.window.values {
        count += 1.0;
        let delta = v - (mean.sum + mean.compensation);
        mean = mean.add(delta / count);
        squares = squares.add(delta * (v - (mean.sum + mean.compensation)));
    }
    Some((squares.sum + squares.compensation) / count)
}

pub(crate) fn stdvar(seen: &Seen<'_>) -> Result {
    Ok(variance(seen).map(Point::Float))
}

pub(crate) fn stddev(seen: &Seen<'_>) -> Result {
    Ok(variance(seen).map(|v| Point::Float(v.sqrt())))
}

pub(crate) fn quantile(seen: &Seen<'_>) -> Result {
    if seen.window.values.is_empty() {
        return NOTHING;
    }
    let q = seen.scalar(0);
    if !(0.0..=1.0).contains(&q) {
        (seen.note)(Note::InvalidQuantile(q));
    }
    seen.note_ignored_histograms();
    float(crate::eval::quantile(q, &mut seen.window.values.to_vec()))
}

pub(crate) fn mad(seen: &Seen<'_>) -> Result {
    if seen.window.values.is_empty() {
        return NOTHING;
    }
    seen.note_ignored_histograms();
    if seen.window.values.iter().any(|v| v.is_nan()) {
        return float(f64::NAN);
    }
    let mut values = seen.window.values.to_vec();
    let median = crate::eval::quantile(0.5, &mut values);
    for v in &mut values {
        *v = (*v - median).abs();
    }
    float(crate::eval::quantile(0.5, &mut values))
}
