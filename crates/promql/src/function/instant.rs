//! `irate`, `idelta` look at the last two samples; `resets`, `changes` at each and the one before.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::range::Seen;
use super::start::Taken;
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
    let taken = |t| window.starts.taken(t);
    let restarted = counter && taken(last_time).is_reset_after(taken(before_time));
    match (before, last) {
        (Point::Float(before), Point::Float(last)) => {
            let change = if counter && (restarted || last < before) { last } else { last - before };
            Ok(Some(Point::Float(if counter { change / seconds(interval) } else { change })))
        }
        (Point::Histogram(before), Point::Histogram(last)) => {
            let Some(change) = histogram_change(seen, &before, &last, counter, restarted) else {
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
    restarted: bool,
) -> Option<Histogram> {
    let gauges = [before, last].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
    if counter && gauges.contains(&true) {
        (seen.note)(Note::NotCounter { metric: seen.metric });
    }
    if !counter && gauges.contains(&false) {
        (seen.note)(Note::NotGauge { metric: seen.metric });
    }
    let mut change = last.clone();
    if !counter || !(restarted || last.is_reset_after(before)) {
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

/// Where counting begins: `anchored` leaves out what lies before the newest sample that is not in the
/// range. None when none is in the range.
fn from(
    seen: &Seen<'_>,
    times: impl Fn(usize) -> Option<TimestampMs>,
    count: usize,
) -> Option<usize> {
    if seen.extension != Some(Extension::Anchored) {
        return Some(0);
    }
    let is_before = |at: &usize| times(*at).is_some_and(|t| t <= seen.window.start);
    let before = (0..count).take_while(is_before).count();
    (before < count).then(|| before.saturating_sub(1))
}

/// How many neighbours in a window satisfy a condition.
fn count_pairs(
    seen: &Seen<'_>,
    floats: impl Fn((Taken, f64), (Taken, f64)) -> bool,
    histograms: impl Fn((Taken, &Histogram), (Taken, &Histogram)) -> bool,
) -> Option<Point> {
    let window = seen.window;
    let taken = |t| window.starts.taken(t);
    let pairs = if window.histograms.is_empty() {
        let first = from(seen, |at| window.times.get(at).copied(), window.times.len())?;
        let (times, values) = (window.times.get(first..)?, window.values.get(first..)?);
        let holds = |pair: &(&[TimestampMs], &[f64])| match *pair {
            ([s, t], [before, after]) => floats((taken(*s), *before), (taken(*t), *after)),
            _ => false,
        };
        (!values.is_empty())
            .then(|| times.windows(2).zip(values.windows(2)).filter(holds).count())?
    } else {
        let all = samples(seen);
        let first = from(seen, |at| all.get(at).map(|(t, _)| *t), all.len())?;
        let holds = |pair: &&[(TimestampMs, Point)]| match *pair {
            [(s, Point::Float(before)), (t, Point::Float(after))] => {
                floats((taken(*s), *before), (taken(*t), *after))
            }
            [(s, Point::Histogram(before)), (t, Point::Histogram(after))] => {
                histograms((taken(*s), before), (taken(*t), after))
            }
            _ => true,
        };
        all.get(first..)?.windows(2).filter(holds).count()
    };
    Some(Point::Float(count(pairs)))
}

#[expect(clippy::unnecessary_wraps, reason = "range functions may fail, this one does not")]
pub(crate) fn resets(seen: &Seen<'_>) -> Result {
    Ok(count_pairs(
        seen,
        |(before_taken, before), (taken, after)| {
            after < before || taken.is_reset_after(before_taken)
        },
        |(before_taken, before), (taken, after)| {
            taken.is_reset_after(before_taken)
                || after.changed_flavor_since(before)
                || after.is_reset_after(before)
        },
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
        |(_, before), (_, after)| after != before && !(after.is_nan() && before.is_nan()),
        |(_, before), (_, after)| !after.same_as(before),
    ))
}
