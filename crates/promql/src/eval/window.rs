//! Range vectors: each series' samples once, and windows that slide over them.
//!
//! The window at time `t` holds the samples of `(t - range, t]`. `anchored` adds the last sample
//! before, `smoothed` one on each side.

use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};

use super::selector::{Reach, Shifted, advance};
use super::tally::{Counts, WindowCounts};
use super::{Evaluator, Steps, Wanted};
use crate::error::QueryError;
use crate::function::extended::interpolated;
use crate::function::extrapolate::{Frame, Stretch};
use crate::function::start::Starts;
use crate::histogram::{Histogram, ResetHint};
use crate::parse::ast::{Expr, ExprKind, Extension, Matrix, Subquery};
use crate::plan::Event;
use crate::storage::SAMPLE_BYTES;
use crate::value::MatrixSeries;

/// The step of a subquery that names none: Prometheus takes its evaluation interval, a minute
/// unless configured.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// The samples of several series and how windows lie over them.
#[derive(Debug)]
pub(crate) struct RangeVector {
    pub(crate) series: Vec<RangeSeries>,
    pub(crate) range_ms: i64,
    pub(crate) extension: Option<Extension>,
    shifted: Shifted,
    lookback_ms: i64,
    /// What a subquery is of.
    inner: Counts,
}

/// The samples of one series, none of them stale markers. Times ascend.
#[derive(Clone, Debug)]
pub(crate) struct RangeSeries {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    pub(crate) times: Arc<[TimestampMs]>,
    pub(crate) values: Arc<Vec<f64>>,
    pub(crate) histogram_times: Vec<TimestampMs>,
    pub(crate) histograms: Vec<Arc<Histogram>>,
    pub(crate) starts: Starts,
}

/// The samples a range function sees at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [TimestampMs],
    pub(crate) values: &'a [f64],
    pub(crate) histogram_times: &'a [TimestampMs],
    pub(crate) histograms: &'a [Arc<Histogram>],
    /// The start timestamps of the whole series.
    pub(crate) starts: &'a Starts,
    /// Whether a float is smaller than the one before it.
    pub(crate) falls: bool,
    /// Start of the range, exclusive.
    pub(crate) start: TimestampMs,
    /// End of the range, inclusive.
    pub(crate) end: TimestampMs,
    /// The step's own time.
    pub(crate) at: TimestampMs,
}

impl<'a> Window<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histogram_times.is_empty()
    }

    /// Times and values.
    pub(crate) fn floats(&self) -> impl DoubleEndedIterator<Item = (TimestampMs, f64)> + use<'a> {
        self.times.iter().copied().zip(self.values.iter().copied())
    }

    pub(crate) fn float(&self, at: usize) -> Option<(TimestampMs, f64)> {
        Some((*self.times.get(at)?, *self.values.get(at)?))
    }
}

/// What was made of the timestamps of one series, for the next ones that share them.
#[derive(Debug, Default)]
pub(crate) struct Shared<T> {
    made: Option<(Arc<[TimestampMs]>, T)>,
}

impl<T> Shared<T> {
    /// What `make` makes of these timestamps.
    pub(crate) fn of(&mut self, times: &Arc<[TimestampMs]>, make: impl FnOnce() -> T) -> &T {
        let made = self.made.take().filter(|(known, _)| Arc::ptr_eq(known, times));
        &self.made.insert(made.unwrap_or_else(|| (Arc::clone(times), make()))).1
    }
}

/// The position of a window, which only moves forward.
#[derive(Default)]
struct Slider {
    from: usize,
    to: usize,
    histograms_from: usize,
    histograms_to: usize,
    /// For each float, how many up to it are smaller than the one before.
    falls: Vec<u32>,
}

impl RangeVector {
    /// Calls `f` with the window at each step over one series; empty windows are left out.
    pub(crate) fn each_window<E>(
        &self,
        series: &RangeSeries,
        steps: &Steps,
        mut f: impl FnMut(usize, Window<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut slider = Slider { falls: falls(&series.values), ..Slider::default() };
        for (step, t) in steps.times().enumerate() {
            let window = self.window(series, &mut slider, t);
            if !window.is_empty() {
                f(step, window)?;
            }
        }
        Ok(())
    }

    /// The window at each step, over series of these timestamps; without `anchored` or `smoothed`.
    pub(crate) fn frames(&self, times: &[TimestampMs], steps: &Steps) -> Vec<Frame> {
        let (mut from, mut to) = (0, 0);
        let frame = |t| {
            let end = self.shifted.apply(t);
            let start = end.saturating_sub(self.range_ms);
            from = advance(times, from, start);
            to = advance(times, to.max(from), end);
            let window = times.get(from..to).unwrap_or_default();
            Frame { from, to, stretch: Stretch::of(window, start, end) }
        };
        steps.times().map(frame).collect()
    }

    /// What the windows over these times hold at all steps; `weight` says how many samples are between
    /// two positions.
    pub(crate) fn counts(
        &self,
        times: &[TimestampMs],
        weight: impl Fn(usize, usize) -> usize,
        steps: &Steps,
        by_step: bool,
    ) -> WindowCounts {
        let (mut from, mut to) = (0, 0);
        let window = |t| {
            let (_, _, low, high) = self.ends(t);
            from = advance(times, from, low);
            to = advance(times, to.max(from), high);
            (from, to)
        };
        WindowCounts::of(steps.times().map(window), weight, by_step)
    }

    /// The same of the histograms of a series.
    pub(crate) fn histogram_counts(
        &self,
        series: &RangeSeries,
        steps: &Steps,
        by_step: bool,
    ) -> WindowCounts {
        let mut sum = 0;
        let mut sums = vec![0];
        sums.extend(series.histograms.iter().map(|histogram| {
            sum += histogram.samples();
            sum
        }));
        let up_to = |at: usize| sums.get(at).copied().unwrap_or(sum);
        let weight = |from, to| up_to(to) - up_to(from);
        self.counts(&series.histogram_times, weight, steps, by_step)
    }

    /// Where the window at a step begins and ends, and where the samples do that are seen with it.
    fn ends(&self, t: TimestampMs) -> (TimestampMs, TimestampMs, TimestampMs, TimestampMs) {
        let end = self.shifted.apply(t);
        let start = end.saturating_sub(self.range_ms);
        let (before, after) = match self.extension {
            None => (0, 0),
            Some(Extension::Anchored) => (self.lookback_ms, 0),
            Some(Extension::Smoothed) => (self.lookback_ms, self.lookback_ms),
        };
        (start, end, start.saturating_sub(before), end.saturating_add(after))
    }

    fn window<'a>(
        &self,
        series: &'a RangeSeries,
        slider: &mut Slider,
        t: TimestampMs,
    ) -> Window<'a> {
        let (start, end, low, high) = self.ends(t);
        slider.from = advance(&series.times, slider.from, low);
        slider.to = advance(&series.times, slider.to.max(slider.from), high);
        slider.histograms_from = advance(&series.histogram_times, slider.histograms_from, low);
        slider.histograms_to = advance(
            &series.histogram_times,
            slider.histograms_to.max(slider.histograms_from),
            high,
        );
        let floats = slider.from..slider.to;
        let falls_up_to = |at: Option<usize>| at.and_then(|at| slider.falls.get(at));
        let falls = slider.from < slider.to
            && falls_up_to(Some(slider.from)) != falls_up_to(slider.to.checked_sub(1));
        let histograms = slider.histograms_from..slider.histograms_to;
        Window {
            times: series.times.get(floats.clone()).unwrap_or(&[]),
            values: series.values.get(floats).unwrap_or(&[]),
            histogram_times: series.histogram_times.get(histograms.clone()).unwrap_or(&[]),
            histograms: series.histograms.get(histograms).unwrap_or(&[]),
            starts: &series.starts,
            falls,
            start,
            end,
            at: t,
        }
    }
}

fn falls(values: &[f64]) -> Vec<u32> {
    let mut falls = Vec::with_capacity(values.len());
    let (mut count, mut before) = (0, f64::NEG_INFINITY);
    for v in values {
        count += u32::from(*v < before);
        before = *v;
        falls.push(count);
    }
    falls
}

impl Evaluator<'_> {
    /// The samples a range vector expression covers over all steps.
    pub(crate) fn eval_range(&self, expr: &Expr, steps: &Steps) -> Result<RangeVector, QueryError> {
        let expr = expr.unwrapped();
        self.caller.told(Event::Begun(expr.span.into()));
        self.place.set(expr.span);
        let ranges = match &expr.kind {
            ExprKind::Matrix(matrix) => self.matrix_selector(matrix, steps)?,
            ExprKind::Subquery(subquery) => self.subquery(subquery, steps)?,
            _ => {
                let message = "BUG: an instant vector was evaluated as a range";
                return Err(QueryError::Execution(message.into()));
            }
        };
        self.caller.told(Event::Ended(expr.span.into(), ranges.series.len()));
        Ok(ranges)
    }

    /// The stretch of time a range selector wants at these steps.
    pub(super) fn matrix_reach(&self, matrix: &Matrix, steps: &Steps) -> Result<Reach, QueryError> {
        let shifted = self.resolve(&matrix.selector.shift)?;
        let range_ms = self.length(&matrix.range)?;
        let extension = matrix.selector.extension;
        let lookback_ms = self.limits.lookback_ms;
        let mut from = shifted.apply(steps.start).saturating_sub(range_ms).saturating_add(1);
        let mut to = shifted.apply(steps.last());
        if extension.is_some() {
            from = from.saturating_sub(lookback_ms);
        }
        if extension == Some(Extension::Smoothed) {
            to = to.saturating_add(lookback_ms);
        }
        Ok((from, to))
    }

    fn matrix_selector(&self, matrix: &Matrix, steps: &Steps) -> Result<RangeVector, QueryError> {
        let shifted = self.resolve(&matrix.selector.shift)?;
        let range_ms = self.length(&matrix.range)?;
        let reach = self.matrix_reach(matrix, steps)?;
        let series = self.select_samples(&matrix.selector.matchers, reach)?;
        let (extension, lookback_ms) = (matrix.selector.extension, self.limits.lookback_ms);
        let inner = Counts::default();
        Ok(RangeVector { series, range_ms, extension, shifted, lookback_ms, inner })
    }

    /// The steps of a subquery, where it looks from and how far back.
    pub(super) fn subquery_steps(
        &self,
        subquery: &Subquery,
        steps: &Steps,
    ) -> Result<(Steps, Shifted, i64), QueryError> {
        let shifted = self.resolve(&subquery.shift)?;
        let range_ms = self.length(&subquery.range)?;
        let step = match &subquery.step {
            Some(duration) => self.length(duration)?,
            None => SUBQUERY_STEP_MS,
        };
        // The first multiple of the step within the first window.
        let low = shifted.apply(steps.start).saturating_sub(range_ms);
        let mut start = step.saturating_mul(low / step);
        if start <= low {
            start = start.saturating_add(step);
        }
        Ok((Steps::new(start, shifted.apply(steps.last()), step), shifted, range_ms))
    }

    fn subquery(&self, subquery: &Subquery, steps: &Steps) -> Result<RangeVector, QueryError> {
        let (inner, shifted, range_ms) = self.subquery_steps(subquery, steps)?;
        // At most steps there is no sample to count, but they are gone through.
        self.tally.peek(inner.count)?;
        self.check_size(1, &inner)?;
        let evaluate = || {
            if inner.count == 0 {
                return Ok(Vec::new());
            }
            self.wanting(Wanted::Buckets, || self.eval_vector(&subquery.expr, &inner))
        };
        let (rows, counts) = self.tally.apart(evaluate);
        let rows = rows?;
        // The samples are written down once more, with their times.
        let bytes = |row: &super::Row| SAMPLE_BYTES.saturating_mul(row.column.samples());
        self.tally.hold_bytes(rows.iter().map(bytes).sum())?;
        let series = rows
            .into_iter()
            .map(|row| {
                let (floats, histograms) = row.column.into_samples(&inner);
                let (times, values): (Vec<TimestampMs>, _) = floats.into_iter().unzip();
                let (histogram_times, histograms) =
                    histograms.into_iter().map(|(t, h)| (t, without_hint(h))).unzip();
                RangeSeries {
                    labels: row.labels,
                    drop_name: row.drop_name,
                    times: times.into(),
                    values: Arc::new(values),
                    histogram_times,
                    histograms,
                    starts: Starts::default(),
                }
            })
            .collect();
        let lookback_ms = self.limits.lookback_ms;
        let extension = None;
        Ok(RangeVector { series, range_ms, extension, shifted, lookback_ms, inner: counts })
    }

    /// The samples of an instant query for a range vector.
    pub(crate) fn raw_ranges(
        &self,
        expr: &Expr,
        steps: &Steps,
    ) -> Result<Vec<MatrixSeries>, QueryError> {
        let ranges = self.eval_range(expr, steps)?;
        let (mut out, mut made) = (Vec::new(), 0usize);
        let is_subquery = matches!(expr.kind, ExprKind::Subquery(_));
        if is_subquery {
            self.tally.count_at_each(steps.count, &ranges.inner);
        }
        for series in &ranges.series {
            self.check_cancelled()?;
            if !is_subquery {
                let count = |from, to| to - from;
                let by_step = self.tally.is_by_step();
                for counts in [
                    ranges.counts(&series.times, count, steps, by_step),
                    ranges.histogram_counts(series, steps, by_step),
                ] {
                    made += counts.most();
                    self.tally.peek(made)?;
                    self.tally.count_windows(&counts);
                }
            }
            ranges.each_window(series, steps, |_, window| {
                let points = match ranges.extension {
                    None => window.floats().collect(),
                    Some(extension) if !window.histograms.is_empty() => {
                        return Err(QueryError::execution(format!(
                            "{} modifier is not supported with histograms",
                            extension.as_str()
                        )));
                    }
                    Some(extension) => window.extended(extension, false).unwrap_or_default(),
                };
                let histograms = window
                    .histogram_times
                    .iter()
                    .copied()
                    .zip(window.histograms.iter().map(Arc::clone))
                    .collect::<Vec<_>>();
                if !points.is_empty() || !histograms.is_empty() {
                    let labels = if series.drop_name {
                        series.labels.retain(|label| !super::metadata_label(&label.name))
                    } else {
                        series.labels.clone()
                    };
                    out.push(MatrixSeries { labels, points, histograms });
                }
                Ok(())
            })?;
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

/// A subquery may leave out samples or repeat them, so it knows nothing of resets.
fn without_hint(histogram: Arc<Histogram>) -> Arc<Histogram> {
    match histogram.reset_hint {
        ResetHint::Unknown | ResetHint::Gauge => histogram,
        ResetHint::Reset | ResetHint::NotReset => {
            Arc::new(Histogram { reset_hint: ResetHint::Unknown, ..Histogram::clone(&histogram) })
        }
    }
}

impl Window<'_> {
    /// The samples within the range with one at each of its ends: the nearest one before
    /// (`anchored`) or the value on the line between those around (`smoothed`). None when no sample
    /// lies within or, smoothed, before.
    pub(crate) fn extended(
        &self,
        extension: Extension,
        counter: bool,
    ) -> Option<Vec<(TimestampMs, f64)>> {
        let smoothed = extension == Extension::Smoothed;
        let last_index = self.times.len().checked_sub(1)?;
        let inner = self.times.get(..last_index)?;
        let first = inner.partition_point(|t| *t <= self.start).saturating_sub(1);
        let last = if smoothed { inner.partition_point(|t| *t < self.end) } else { last_index };
        let (last_time, last_value) = self.float(last)?;
        let (first_time, first_value) = self.float(first)?;
        if last_time <= self.start || (smoothed && first_time > self.end) {
            return None;
        }
        let left = match self.float(first + 1) {
            Some(next) if smoothed && first_time < self.start => {
                interpolated((first_time, first_value), next, self.start, counter)
            }
            _ => first_value,
        };
        let right = match last.checked_sub(1).and_then(|at| self.float(at)) {
            Some(before) if smoothed && last_time > self.end => {
                interpolated(before, (last_time, last_value), self.end, counter)
            }
            _ => last_value,
        };
        let mut out = vec![(self.start, left)];
        out.extend(self.floats().filter(|(t, _)| *t > self.start && *t < self.end));
        out.push((self.end, right));
        Some(out)
    }
}
