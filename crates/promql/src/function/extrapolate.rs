//! `rate`, `increase`, `delta`: how much a series changed over a range, carried on to the range's
//! ends when its samples come close to them.

use stoa_model::TimestampMs;

use super::range::Seen;
use super::start::Taken;
use crate::annotation::{Note, Operation};
use crate::error::QueryError;
use crate::eval::{Column, Point};
use crate::histogram::{Combined, Histogram, Incompatible, ResetHint};
use crate::number::{count, seconds};

type Result = std::result::Result<Option<Point>, QueryError>;

/// Samples within this many average intervals of an end are taken to reach it.
const NEAR_INTERVALS: f64 = 1.1;

pub(crate) fn rate(seen: &Seen<'_>) -> Result {
    change(seen, true, true)
}

pub(crate) fn increase(seen: &Seen<'_>) -> Result {
    change(seen, true, false)
}

pub(crate) fn delta(seen: &Seen<'_>) -> Result {
    change(seen, false, false)
}

fn change(seen: &Seen<'_>, counter: bool, per_second: bool) -> Result {
    let window = seen.window;
    if let Some(extension) = seen.extension {
        return super::extended::change(seen, extension, counter, per_second);
    }
    if seen.is_mixed() {
        return Ok(None);
    }
    let is_float = window.histograms.is_empty();
    let times = if is_float { window.times } else { window.histogram_times };
    let Some((first, last)) = times.first().zip(times.last()) else { return Ok(None) };
    // A counter that began within the range was zero then, so one sample is enough.
    let began = window.starts.taken(*first).start_after(window.start).filter(|_| counter);
    if times.len() < 2 && began.is_none() {
        return Ok(None);
    }
    let stretch = match began {
        Some(began) => Stretch::since(began, (*first, *last), times.len(), window.end),
        None => Stretch::between((*first, *last), times.len(), window.start, window.end),
    };
    let divisor = if per_second { seen.range_seconds } else { 1.0 };
    if is_float {
        let first = window.values.first().copied().unwrap_or(0.0);
        let change = float_window_change(seen, counter);
        return Ok(Some(Point::Float(match began {
            Some(_) => (change + first) * (stretch.factor(false, first, change) / divisor),
            None => change * (stretch.factor(counter && change > 0.0, first, change) / divisor),
        })));
    }
    let Some(first) = window.histograms.first() else { return Ok(None) };
    let change = if times.len() < 2 { None } else { histogram_change(seen, counter) };
    let (change, factor) = match (change, began) {
        (None, _) if times.len() > 1 => return Ok(None),
        (None, None) => return Ok(None),
        (None, Some(_)) => (Histogram::clone(first), stretch.factor(false, 0.0, 0.0)),
        (Some(change), Some(_)) => {
            let Some(change) = combined(seen, change.plus(first), Operation::Addition) else {
                return Ok(None);
            };
            (change, stretch.factor(false, 0.0, 0.0))
        }
        (Some(change), None) => {
            let grows = counter && change.count > 0.0;
            let factor = stretch.factor(grows, first.count, change.count);
            (change, factor)
        }
    };
    Ok(Some(Point::Histogram(change.times(factor / divisor).into())))
}

/// What came of two histograms; none, with a note, when they do not go together.
fn combined(
    seen: &Seen<'_>,
    result: std::result::Result<(Histogram, Combined), Incompatible>,
    operation: Operation,
) -> Option<Histogram> {
    match result {
        Ok((histogram, combined)) => {
            if combined.bounds_reconciled {
                (seen.note)(Note::BoundsReconciled(operation));
            }
            Some(histogram)
        }
        Err(Incompatible) => {
            (seen.note)(Note::MixedExponentialCustom { metric: seen.metric });
            None
        }
    }
}

/// How far the samples of a window reach, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stretch {
    sampled: f64,
    /// How far before the first one they are carried on.
    to_start: f64,
    /// How far after the last one.
    to_end: f64,
}

impl Stretch {
    /// Of at least two samples of a window.
    pub(crate) fn of(times: &[TimestampMs], start: TimestampMs, end: TimestampMs) -> Option<Self> {
        let [first, .., last] = times else { return None };
        Some(Self::between((*first, *last), times.len(), start, end))
    }

    /// The same of so many samples, at least two, the first and the last of them at these times.
    pub(crate) fn between(
        (first, last): (TimestampMs, TimestampMs),
        samples: usize,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Self {
        let sampled = seconds(last - first);
        let interval = sampled / count(samples.saturating_sub(1));
        let near = interval * NEAR_INTERVALS;
        let carried = |distance: f64| if distance >= near { interval / 2.0 } else { distance };
        let to_start = carried(seconds(first - start));
        Self { sampled, to_start, to_end: carried(seconds(end - last)) }
    }

    /// Of samples of a counter that began with zero within the range.
    fn since(
        began: TimestampMs,
        (first, last): (TimestampMs, TimestampMs),
        samples: usize,
        end: TimestampMs,
    ) -> Self {
        // How far to carry a single sample on is not known.
        let to_end = match samples {
            0 | 1 => 0.0,
            _ => Self::between((first, last), samples, first, end).to_end,
        };
        Self { sampled: seconds(last - began), to_start: 0.0, to_end }
    }

    /// By how much a change is more when it is carried on to the window's ends. One that `grows`
    /// as a counter does began at zero or after: `first` is its first value.
    pub(crate) fn factor(&self, grows: bool, first: f64, change: f64) -> f64 {
        let mut to_start = self.to_start;
        if grows && first >= 0.0 {
            to_start = to_start.min(self.sampled * (first / change));
        }
        (self.sampled + to_start + self.to_end) / self.sampled
    }
}

/// The samples of a window, by their numbers, and how far they reach.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `None` when there are fewer than two.
    pub(crate) stretch: Option<Stretch>,
}

/// One of the three functions, over series of floats only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extrapolation {
    counter: bool,
    per_second: bool,
}

impl Extrapolation {
    /// The one of that name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (counter, per_second) = match name {
            "rate" => (true, true),
            "increase" => (true, false),
            "delta" => (false, false),
            _ => return None,
        };
        Some(Self { counter, per_second })
    }

    /// Fills a column with the value at each step, of a series with these values whose timestamps
    /// have these frames. `visit` is told how many values are looked at, and may end it.
    pub(crate) fn fill<E>(
        self,
        values: &[f64],
        frames: &[Frame],
        range_seconds: f64,
        column: &mut Column,
        mut visit: impl FnMut(usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let resets = self.counter && falls(values);
        for (step, frame) in frames.iter().enumerate() {
            let Some(stretch) = &frame.stretch else { continue };
            let Some(values) = values.get(frame.from..frame.to) else { continue };
            let [first, .., last] = values else { continue };
            let change = if resets {
                visit(values.len())?;
                float_change(values, true)
            } else {
                last - first
            };
            let mut factor = stretch.factor(self.counter && change > 0.0, *first, change);
            if self.per_second {
                factor /= range_seconds;
            }
            column.set_float(step, change * factor);
        }
        Ok(())
    }
}

/// Whether a value is smaller than the one before it.
fn falls(values: &[f64]) -> bool {
    // In pieces, each of which is looked at without a branch.
    let after = values.get(1..).unwrap_or_default();
    let mut pieces = values.chunks(512).zip(after.chunks(512));
    pieces.any(|(before, after)| {
        before.iter().zip(after).fold(false, |falls, (before, after)| falls | (after < before))
    })
}

/// Last less first, and all that was lost in resets.
pub(super) fn float_change(values: &[f64], counter: bool) -> f64 {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return 0.0 };
    let mut change = last - first;
    if counter {
        for pair in values.windows(2) {
            if let [before, after] = pair
                && after < before
            {
                change += before;
            }
        }
    }
    change
}

/// The same of a window, where start timestamps tell of resets too.
fn float_window_change(seen: &Seen<'_>, counter: bool) -> f64 {
    let window = seen.window;
    if !counter || window.starts.is_empty() {
        return float_change(window.values, counter && window.falls);
    }
    let (Some(first), Some(last)) = (window.values.first(), window.values.last()) else {
        return 0.0;
    };
    let mut change = last - first;
    let mut overlaps = false;
    let samples: Vec<(Taken, f64)> =
        window.floats().map(|(t, v)| (window.starts.taken(t), v)).collect();
    for pair in samples.windows(2) {
        let [(before, lost), (now, v)] = pair else { continue };
        overlaps |= now.overlaps(*before);
        if v < lost || now.is_reset_after(*before) {
            change += lost;
        }
    }
    if overlaps {
        (seen.note)(Note::OverlappingStarts { metric: seen.metric });
    }
    change
}

/// The same for histograms; none, with a note, when they do not go together.
fn histogram_change(seen: &Seen<'_>, counter: bool) -> Option<Histogram> {
    let all = seen.window.histograms;
    let incompatible = || {
        (seen.note)(Note::MixedExponentialCustom { metric: seen.metric });
    };
    let taken = |at: usize| {
        let t = seen.window.histogram_times.get(at).copied().unwrap_or_default();
        seen.window.starts.taken(t)
    };
    let (first, last) = (all.first()?, all.last()?);
    let is_gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        (seen.note)(Note::NotCounter { metric: seen.metric });
    }
    let mut base = Histogram::clone(first);
    if counter
        && let Some(second) = all.get(1)
        && (taken(1).is_reset_after(taken(0)) || second.is_reset_after(first))
    {
        // The first sample belongs to a counter that is gone, whatever its layout.
        base = Histogram {
            schema: second.schema,
            custom_bounds: second.custom_bounds.clone(),
            ..Histogram::default()
        };
    }
    if last.has_custom_bounds() != base.has_custom_bounds() {
        incompatible();
        return None;
    }
    let mut schema = last.schema.min(base.schema);
    if counter {
        for histogram in all.get(1..all.len() - 1).unwrap_or(&[]) {
            if is_gauge(histogram) {
                (seen.note)(Note::NotCounter { metric: seen.metric });
            }
            schema = schema.min(histogram.schema);
            if histogram.has_custom_bounds() != base.has_custom_bounds() {
                incompatible();
                return None;
            }
        }
    }
    let start = Histogram::clone(last).at_schema(schema);
    let mut change = combined(seen, start.minus(&base), Operation::Subtraction)?;
    if counter {
        let mut overlaps = false;
        let mut previous = &base;
        for (at, histogram) in all.iter().enumerate().skip(1) {
            let (before, now) = (taken(at - 1), taken(at));
            overlaps |= now.overlaps(before);
            if now.is_reset_after(before) || histogram.is_reset_after(previous) {
                change = combined(seen, change.plus(previous), Operation::Addition)?;
            }
            previous = histogram;
        }
        if overlaps {
            (seen.note)(Note::OverlappingStarts { metric: seen.metric });
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        (seen.note)(Note::NotGauge { metric: seen.metric });
    }
    change.reset_hint = ResetHint::Gauge;
    Some(change.compact())
}
