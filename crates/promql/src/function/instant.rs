//! `irate`, `idelta` look at the last two samples; `resets`, `changes` at each and the one before.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::range::Seen;
use crate::annotation::{Note, Operation};
use crate::error::QueryError;
use crate::eval::Point;
use crate::histogram::{Histogram, Incompatible, ResetHint};
use crate::number::{count, seconds};
use crate::parse::ast::Extension;

type Result = std::result::Result<Option<Point>, QueryError>;

pub(crate) fn irate(seen: &Seen<'_>) -> Result {
    last_change(seen, true)
}

pub(crate) fn idelta(seen: &Seen<'_>) -> Result {
    last_change(seen, false)
}

/// Samples of both kinds in order of time.
fn samples(seen: &Seen<'_>) -> Vec<(TimestampMs, Point)> {
    let window = seen.window;
    let floats = window.floats().map(|(t, v)| (t, Point::Float(v)));
    let histograms = window
        .histogram_times
        .iter()
        .zip(window.histograms)
        .map(|(t, histogram)| (*t, Point::Histogram(Arc::clone(histogram))));
    let mut all: Vec<(TimestampMs, Point)> = floats.chain(histograms).collect();
    if !window.histograms.is_empty() {
        all.sort_by_key(|(t, _)| *t);
    }
    all
}

fn last_change(seen: &Seen<'_>, counter: bool) -> Result {
    let window = seen.window;
    let last_two: [(TimestampMs, Point); 2] = if window.histograms.is_empty() {
        let mut newest = window.floats().rev();
        match (newest.next(), newest.next()) {
            (Some((t, v)), Some((before, u))) => [(before, Point::Float(u)), (t, Point::Float(v))],
            _ => return Ok(None),
        }
    } else {
        let mut all = samples(seen);
        match (all.pop(), all.pop()) {
            (Some(last), Some(before)) => [before, last],
            _ => return Ok(None),
        }
    };
    let [(before_time, before), (last_time, last)] = last_two;
    let interval = last_time - before_time;
    if interval == 0 {
        return Ok(None);
    }
    match (before, last) {
        (Point::Float(before), Point::Float(last)) => {
            let change = if counter && last < before { last } else { last - before };
            Ok(Some(Point::Float(if counter { change / seconds(interval) } else { change })))
        }
        (Point::Histogram(before), Point::Histogram(last)) => {
            let Some(change) = histogram_change(seen, &before, &last, counter) else {
                return Ok(None);
            };
            let change = if counter { change.divided_by(seconds(interval)) } else { change };
            Ok(Some(Point::Histogram(change.into())))
        }
        _ => {
            (seen.note)(Note::MixedFloatsHistograms { metric: seen.metric });
            Ok(None)
        }
    }
}

fn histogram_change(
    seen: &Seen<'_>,
    before: &Histogram,
    last: &Histogram,
    counter: bool,
) -> Option<Histogram> {
    let gauges = [before, last].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
    if counter && gauges.contains(&true) {
        (seen.note)(Note::NotCounter { metric: seen.metric });
    }
    if !counter && gauges.contains(&false) {
        (seen.note)(Note::NotGauge { metric: seen.metric });
    }
    let mut change = last.clone();
    if !counter || !last.is_reset_after(before) {
        match last.minus(before) {
            Ok((difference, combined)) => {
                if combined.bounds_reconciled {
                    (seen.note)(Note::BoundsReconciled(Operation::Subtraction));
                }
                change = difference;
            }
            Err(Incompatible) => {
                (seen.note)(Note::MixedExponentialCustom { metric: seen.metric });
                return None;
            }
        }
    }
    change.reset_hint = ResetHint::Gauge;
    Some(change.compact())
}

/// How many neighbours in a window satisfy a condition.
fn count_pairs(
    seen: &Seen<'_>,
    floats: fn(f64, f64) -> bool,
    histograms: fn(&Histogram, &Histogram) -> bool,
) -> Option<Point> {
    let window = seen.window;
    if window.histograms.is_empty() {
        let mut values = window.values;
        if seen.extension == Some(Extension::Anchored) {
            let last = window.times.len().checked_sub(1)?;
            if window.times.get(last).is_some_and(|t| *t <= window.start) {
                return None;
            }
            let inner = window.times.get(..last)?;
            let first = inner.partition_point(|t| *t <= window.start).saturating_sub(1);
            values = values.get(first..)?;
        }
        let pairs = values.windows(2).filter(|pair| match pair {
            [before, after] => floats(*before, *after),
            _ => false,
        });
        return (!values.is_empty()).then(|| Point::Float(count(pairs.count())));
    }
    let all = samples(seen);
    let pairs = all.windows(2).filter(|pair| match pair {
        [(_, Point::Float(before)), (_, Point::Float(after))] => floats(*before, *after),
        [(_, Point::Histogram(before)), (_, Point::Histogram(after))] => histograms(before, after),
        _ => true,
    });
    Some(Point::Float(count(pairs.count())))
}

#[expect(clippy::unnecessary_wraps, reason = "range functions may fail, this one does not")]
pub(crate) fn resets(seen: &Seen<'_>) -> Result {
    Ok(count_pairs(
        seen,
        |before, after| after < before,
        |before, after| after.changed_flavor_since(before) || after.is_reset_after(before),
    ))
}

#[expect(
    clippy::float_cmp,
    clippy::unnecessary_wraps,
    reason = "any change counts; range functions may fail, this one does not"
)]
pub(crate) fn changes(seen: &Seen<'_>) -> Result {
    Ok(count_pairs(
        seen,
        |before, after| after != before && !(after.is_nan() && before.is_nan()),
        |before, after| !after.same_as(before),
    ))
}
