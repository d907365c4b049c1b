//! `anchored` and `smoothed`: a range whose ends have values of their own, the nearest sample before
//! (`anchored`) or what lies on the line between the samples around (`smoothed`). Nothing is carried on.
//!
//! A counter that was reset between two samples is taken to have begun at zero there. Histograms are
//! drawn and added up whole; those of exponential and of custom buckets do not go together, which is
//! noted, as is a range that holds floats too.

use stoa_model::TimestampMs;

use super::range::{Noted, Seen};
use crate::annotation::{Note, Operation};
use crate::error::QueryError;
use crate::eval::{Point, Window};
use crate::histogram::{Combined, Histogram, Incompatible, ResetHint};
use crate::number::real;
use crate::parse::ast::Extension;

type Result = std::result::Result<Option<Point>, QueryError>;

/// The change over a range, by the kind of its samples.
#[expect(clippy::unnecessary_wraps, reason = "range functions may fail, this one does not")]
pub(super) fn change(
    seen: &Seen<'_>,
    extension: Extension,
    counter: bool,
    per_second: bool,
) -> Result {
    if seen.is_mixed() {
        return Ok(None);
    }
    if seen.window.histograms.is_empty() {
        let Some(samples) = seen.window.extended(extension, counter) else { return Ok(None) };
        let values: Vec<f64> = samples.into_iter().map(|(_, v)| v).collect();
        let mut change = super::extrapolate::float_change(&values, counter);
        if per_second {
            change /= seen.range_seconds;
        }
        return Ok(Some(Point::Float(change)));
    }
    let change = Ends::of(&seen.window, extension).and_then(|ends| ends.change(seen, counter));
    Ok(change.map(|change| {
        let mut change = if per_second { change.divided_by(seen.range_seconds) } else { change };
        change.reset_hint = ResetHint::Gauge;
        Point::Histogram(change.compact().into())
    }))
}

/// The value at `t` on the line through two samples; a counter that was reset between them starts
/// at 0.
pub(crate) fn interpolated(
    before: (TimestampMs, f64),
    after: (TimestampMs, f64),
    t: TimestampMs,
    counter: bool,
) -> f64 {
    let from = if counter && after.1 < before.1 { 0.0 } else { before.1 };
    from + (after.1 - from) * real(t - before.0) / real(after.0 - before.0)
}

/// The same for histograms.
///
/// # Errors
/// [`Incompatible`] when one has custom bounds and the other has not.
pub(crate) fn interpolated_histograms(
    before: (TimestampMs, &Histogram),
    after: (TimestampMs, &Histogram),
    t: TimestampMs,
    counter: bool,
    note: Noted<'_>,
) -> std::result::Result<Histogram, Incompatible> {
    if t == before.0 || t == after.0 {
        return Ok(if t == before.0 { before.1.clone() } else { after.1.clone() });
    }
    let share = real(t - before.0) / real(after.0 - before.0);
    if counter && after.1.is_reset_after(before.1) {
        return Ok(after.1.clone().times(share));
    }
    let difference = told(after.1.minus(before.1)?, Operation::Subtraction, note);
    Ok(told(difference.times(share).plus(before.1)?, Operation::Addition, note))
}

/// What came of two histograms, with a note when their bounds differed.
fn told(
    (histogram, combined): (Histogram, Combined),
    operation: Operation,
    note: Noted<'_>,
) -> Histogram {
    if combined.bounds_reconciled {
        note(Note::BoundsReconciled(operation));
    }
    histogram
}

/// Which histograms of a window make up its ends.
struct Ends<'a> {
    window: &'a Window<'a>,
    smoothed: bool,
    first: usize,
    last: usize,
}

impl<'a> Ends<'a> {
    /// `None` when no sample lies within the range or, smoothed, within it or before.
    fn of(window: &'a Window<'a>, extension: Extension) -> Option<Self> {
        let smoothed = extension == Extension::Smoothed;
        let last = window.histogram_times.len().checked_sub(1)?;
        let inner = window.histogram_times.get(..last)?;
        let first = inner.partition_point(|t| *t <= window.start).saturating_sub(1);
        let last = if smoothed { inner.partition_point(|t| *t < window.end) } else { last };
        let time = |at: usize| window.histogram_times.get(at).copied();
        if time(last)? <= window.start || (smoothed && time(first)? > window.end) {
            return None;
        }
        Some(Self { window, smoothed, first, last })
    }

    fn sample(&self, at: usize) -> Option<(TimestampMs, &'a Histogram)> {
        let t = self.window.histogram_times.get(at)?;
        Some((*t, self.window.histograms.get(at)?.as_ref()))
    }

    fn left(
        &self,
        counter: bool,
        note: Noted<'_>,
    ) -> std::result::Result<Option<Histogram>, Incompatible> {
        let Some(first) = self.sample(self.first) else { return Ok(None) };
        match self.sample(self.first + 1) {
            Some(next) if self.smoothed && first.0 < self.window.start => {
                interpolated_histograms(first, next, self.window.start, counter, note).map(Some)
            }
            _ => Ok(Some(first.1.clone())),
        }
    }

    fn right(
        &self,
        counter: bool,
        note: Noted<'_>,
    ) -> std::result::Result<Option<Histogram>, Incompatible> {
        let Some(last) = self.sample(self.last) else { return Ok(None) };
        match self.last.checked_sub(1).and_then(|at| self.sample(at)) {
            Some(before) if self.smoothed && last.0 > self.window.end => {
                interpolated_histograms(before, last, self.window.end, counter, note).map(Some)
            }
            _ => Ok(Some(last.1.clone())),
        }
    }

    fn change(&self, seen: &Seen<'_>, counter: bool) -> Option<Histogram> {
        let metric = seen.metric;
        let all = self.window.histograms.get(self.first..=self.last)?;
        let custom = all.first()?.has_custom_bounds();
        for histogram in all {
            if histogram.has_custom_bounds() != custom {
                (seen.note)(Note::MixedExponentialCustom { metric });
                return None;
            }
            if counter && histogram.reset_hint == ResetHint::Gauge {
                (seen.note)(Note::NotCounter { metric });
            }
        }
        self.difference(seen, counter).unwrap_or_else(|Incompatible| {
            (seen.note)(Note::MixedExponentialCustom { metric });
            None
        })
    }

    fn difference(
        &self,
        seen: &Seen<'_>,
        counter: bool,
    ) -> std::result::Result<Option<Histogram>, Incompatible> {
        let note = seen.note;
        let (Some(left), Some(right)) = (self.left(counter, note)?, self.right(counter, note)?)
        else {
            return Ok(None);
        };
        let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
        let both_gauges = is_gauge(&left) && is_gauge(&right);
        if !counter && !both_gauges {
            note(Note::NotGauge { metric: seen.metric });
        }
        let mut change = told(right.minus(&left)?, Operation::Subtraction, note);
        if counter && let Some(lost) = self.lost(&left, &right, note)? {
            change = told(change.plus(&lost)?, Operation::Addition, note);
        }
        Ok(Some(change))
    }

    /// What was counted before resets within the range. The last sample is looked at as the right end
    /// only, which is that sample or has its hint.
    fn lost(
        &self,
        left: &Histogram,
        right: &Histogram,
        note: Noted<'_>,
    ) -> std::result::Result<Option<Histogram>, Incompatible> {
        let (mut first, mut before) = (self.first + 1, left);
        if let (true, Some((t, anchor)), Some((_, next))) =
            (self.smoothed, self.sample(self.first), self.sample(self.first + 1))
            && t < self.window.start
            && next.is_reset_after(anchor)
        {
            // The left end was drawn across this reset already.
            (first, before) = (first + 1, next);
        }
        if first > self.last {
            return Ok(None);
        }
        let inner = (first..self.last).filter_map(|at| Some(self.sample(at)?.1));
        let mut lost: Option<Histogram> = None;
        for histogram in inner.chain([right]) {
            if histogram.is_reset_after(before) {
                lost = Some(match lost {
                    None => before.clone(),
                    Some(lost) => told(lost.plus(before)?, Operation::Addition, note),
                });
            }
            before = histogram;
        }
        Ok(lost)
    }
}
