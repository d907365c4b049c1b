//! Answering from rollups: functions of a range that know all they need of them, and samples made of
//! them for everything else.
//!
//! A range is moved to the ends of windows: it ends with the last window that ends within it, so that
//! nothing after it is seen, and is as many windows long as it comes nearest to, at least one. An end that
//! lies where there are samples, or shorter windows, is moved no further than these ask for. Where it lies
//! on windows already nothing moves, and the value is that of the samples but for the order in which a sum
//! was added up.

use stoa_model::{METRIC_NAME, MatchOp, Matcher, Rollup, RollupFold, TimestampMs, stale_nan};

use super::call::doubt_of_counter;
use super::selector::hints;
use super::{Column, Evaluator, Row, Steps};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::features::Feature;
use crate::function::extrapolate::Stretch;
use crate::number::{index, seconds};
use crate::parse::ast::{Call, ExprKind, Matrix};
use crate::storage::{Coarser, Hints, RolledUp, RolledUpSeries, SAMPLE_BYTES, Series, Use};

/// Positions in a list.
type Span = std::ops::Range<usize>;

/// Functions of a range that rollups know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Rate,
    Increase,
    Delta,
    Avg,
    Sum,
    Count,
    Min,
    Max,
    First,
    Last,
    Present,
    TimeOfFirst,
    TimeOfLast,
}

/// A range on the ends of windows, in place of one of another length.
#[derive(Clone, Copy, Debug)]
struct Moved {
    start: TimestampMs,
    end: TimestampMs,
    /// The length asked for by the length it has.
    share: f64,
}

impl Known {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "avg_over_time" => Self::Avg,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "present_over_time" | "absent_over_time" => Self::Present,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            _ => return None,
        })
    }

    /// The value over all of a range's rollups told as one.
    fn value(self, all: &Rollup, range: Moved) -> Option<f64> {
        if all.count == 0 {
            return None;
        }
        let count = all.count as f64;
        Some(match self {
            Self::Rate | Self::Increase | Self::Delta => return self.change(all, range),
            Self::Avg => all.sum / count,
            Self::Sum => all.sum * range.share,
            Self::Count => count * range.share,
            Self::Min => all.min,
            Self::Max => all.max,
            Self::First => all.first,
            Self::Last => all.last,
            Self::Present => 1.0,
            Self::TimeOfFirst => seconds(all.first_t),
            Self::TimeOfLast => seconds(all.last_t),
        })
    }

    /// Whether a range nearly the same does.
    fn may_be_near(self) -> bool {
        !matches!(self, Self::First | Self::Last | Self::TimeOfFirst | Self::TimeOfLast)
    }

    fn change(self, all: &Rollup, range: Moved) -> Option<f64> {
        let samples = usize::try_from(all.count).ok().filter(|samples| *samples > 1)?;
        let counter = self != Self::Delta;
        let change = all.last - all.first + if counter { all.lost } else { 0.0 };
        let ends = (all.first_t, all.last_t);
        let stretch = Stretch::between(ends, samples, range.start, range.end);
        let change = change * stretch.factor(counter && change > 0.0, all.first, change);
        Some(match self {
            Self::Rate => change / seconds(range.end - range.start),
            _ => change * range.share,
        })
    }
}

impl RolledUp {
    /// The windows a range is to lie on.
    fn window_at(&self, start: TimestampMs, end: TimestampMs) -> i64 {
        let reaches = |coarser: &&Coarser| coarser.start_ms < end && coarser.end_ms > start;
        let windows = self.coarser.iter().filter(reaches).map(|coarser| coarser.window_ms);
        windows.chain([self.window_ms]).max().unwrap_or(1).max(1)
    }

    fn moved(&self, end: TimestampMs, range_ms: i64) -> Moved {
        let asked = end.saturating_sub(range_ms);
        let window = self.window_at(asked, end);
        let end_window = self.window_at(end.saturating_sub(1), end);
        let end = end.div_euclid(end_window).saturating_mul(end_window);
        let nearest =
            |ms: i64| ms.saturating_add(window / 2).div_euclid(window).saturating_mul(window);
        let length = if end_window == window {
            nearest(range_ms)
        } else {
            end.saturating_sub(nearest(asked))
        };
        let length = length.max(end_window);
        let share = if length == range_ms { 1.0 } else { seconds(range_ms) / seconds(length) };
        Moved { start: end.saturating_sub(length), end, share }
    }
}

/// A call of a range of samples with a function that rollups know.
fn known_call(call: &Call) -> Option<(Known, &Matrix)> {
    let ([arg], Some(known)) = (call.args.as_slice(), Known::of(call.function.name)) else {
        return None;
    };
    match &arg.unwrapped().kind {
        ExprKind::Matrix(matrix) if matrix.selector.extension.is_none() => Some((known, matrix)),
        _ => None,
    }
}

impl Evaluator<'_> {
    /// Whether a call of a range is likely to be answered by rollups.
    pub(super) fn is_rolled_up(&self, call: &Call, steps: &Steps) -> Result<bool, QueryError> {
        let Some((known, matrix)) = known_call(call) else { return Ok(false) };
        Ok(self.reads_alone(&self.known_hints(known, matrix, steps)?.1))
    }

    /// How long the range of a call is, and what for.
    fn known_hints(
        &self,
        known: Known,
        matrix: &Matrix,
        steps: &Steps,
    ) -> Result<(i64, Hints), QueryError> {
        let shifted = self.resolve(&matrix.selector.shift)?;
        let range_ms = self.length(&matrix.range)?;
        let made = Use::Range { range_ms, may_be_near: known.may_be_near() };
        Ok((range_ms, hints(made, shifted, steps)))
    }

    /// A call of a function that rollups know, if storage has rollups that do. `None`: of the samples.
    pub(super) fn rolled_up_call(
        &self,
        call: &Call,
        steps: &Steps,
    ) -> Result<Option<Vec<Row>>, QueryError> {
        let Some((known, matrix)) = known_call(call) else { return Ok(None) };
        self.check_cancelled()?;
        let shifted = self.resolve(&matrix.selector.shift)?;
        let (range_ms, hints) = self.known_hints(known, matrix, steps)?;
        let from = hints.first_ms.saturating_sub(range_ms).saturating_add(1);
        let matchers = &matrix.selector.matchers;
        self.place.set(call.args.first().map_or(self.place.get(), |arg| arg.unwrapped().span));
        self.tell_wanted((from, hints.last_ms), &hints);
        let select = self.select(matchers, from, hints.last_ms);
        let Some(rolled_up) = self.storage.select_rollups(&select, &hints)? else {
            return Ok(None);
        };
        // Rollups know nothing of histograms, nor of when a counter began.
        let knows_starts = self.features.has(Feature::StartTimestamps)
            && !self.storage.select_starts(&select)?.is_empty();
        if knows_starts || !self.storage.select_histograms(&select)?.is_empty() {
            return Ok(None);
        }
        if !self.reads_alone(&hints) {
            self.pass_read(matchers, (from, hints.last_ms));
        }
        let span = call.args.first().map_or(self.place.get(), |arg| arg.span);
        self.place.set(span);
        self.tell(matchers, &rolled_up, &hints);
        let bytes = |series: &RolledUpSeries| {
            SAMPLE_BYTES * series.timestamps.len() + size_of::<Rollup>() * series.rollups.len()
        };
        self.tally.load(rolled_up.samples);
        self.tally.hold_bytes(rolled_up.series.iter().map(bytes).sum())?;
        self.check_size(rolled_up.series.len(), steps)?;
        let ranges: Vec<Moved> =
            steps.times().map(|t| rolled_up.moved(shifted.apply(t), range_ms)).collect();
        let keeps_name = matches!(known, Known::First | Known::Last);
        let mut rows = Vec::with_capacity(rolled_up.series.len());
        let mut made = 0usize;
        for series in &rolled_up.series {
            self.check_cancelled()?;
            let mut column = Column::empty(steps.count);
            let mut read = 0;
            for (step, range) in ranges.iter().enumerate() {
                let (value, all, up_to) = series.value_over(known, *range);
                self.visit(1 + all)?;
                self.tally.peek(all.saturating_add(made))?;
                self.tally.count_at(step, all, all.min(up_to.saturating_sub(read)));
                read = read.max(up_to);
                if let Some(value) = value {
                    column.set_float(step, value);
                }
            }
            if column.is_empty() {
                continue;
            }
            made += column.samples();
            if matches!(known, Known::Rate | Known::Increase)
                && let Some(doubt) = doubt_of_counter(&series.labels)
            {
                self.note(&doubt, span);
            }
            rows.push(Row { labels: series.labels.clone(), drop_name: !keeps_name, column });
        }
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Some(rows))
    }

    /// Rollups as samples: for the newest at each step the first and the last of each, for everything
    /// else the last.
    pub(super) fn as_samples(
        &self,
        matchers: &[Matcher],
        rolled_up: RolledUp,
        hints: &Hints,
    ) -> Vec<Series> {
        self.tell(matchers, &rolled_up, hints);
        let lookback = self.limits.lookback_ms;
        let held = rolled_up.coarser.iter().filter(|coarser| coarser.window_ms > lookback);
        let held: Vec<Coarser> = held.copied().collect();
        let series = rolled_up.series.into_iter().map(|series| {
            if series.rollups.is_empty() {
                let RolledUpSeries { labels, timestamps, values, .. } = series;
                return Series { labels, timestamps, values };
            }
            let mut samples = match hints.made {
                Use::Newest => newest_samples(&series, &held, lookback),
                Use::Samples | Use::Range { .. } => {
                    let each = series.rollups.iter();
                    each.map(|r| (r.last_t, if r.count == 0 { stale_nan() } else { r.last }))
                        .collect()
                }
            };
            samples.extend(series.timestamps.iter().copied().zip(series.values));
            // Two sorted runs.
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, _)| *t);
            let (timestamps, values): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
            Series { labels: series.labels, timestamps: timestamps.into(), values }
        });
        series.collect()
    }

    /// Tells what was answered from rollups because the samples are gone.
    fn tell(&self, matchers: &[Matcher], rolled_up: &RolledUp, hints: &Hints) {
        let is_name = |m: &&Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal;
        let metric = matchers.iter().find(is_name).map_or("", |matcher| matcher.value());
        let range_ms = match hints.made {
            Use::Range { range_ms, .. } => range_ms,
            Use::Newest => self.limits.lookback_ms,
            Use::Samples => 0,
        };
        let asked = (hints.first_ms.saturating_sub(range_ms), hints.last_ms);
        for coarser in &rolled_up.coarser {
            let start_ms = coarser.start_ms.max(asked.0);
            let end_ms = coarser.end_ms.min(asked.1);
            let lies_in = |r: &Rollup| start_ms < r.last_t && r.first_t <= end_ms;
            let is_used = rolled_up.series.iter().any(|series| series.rollups.iter().any(lies_in));
            if start_ms < end_ms && is_used {
                let coarser = Coarser { start_ms, end_ms, ..*coarser };
                let samples_kept_ms = rolled_up.samples_kept_ms;
                let note = Note::RolledUp { metric, coarser, samples_kept_ms };
                self.note(&note, self.place.get());
            }
        }
    }
}

impl RolledUpSeries {
    /// The value over a range, of how many rollups and samples it is, and how many there are up to its
    /// end.
    fn value_over(&self, known: Known, range: Moved) -> (Option<f64>, usize, usize) {
        let from = self.rollups.partition_point(|rollup| rollup.last_t <= range.start);
        let to = self.rollups.partition_point(|rollup| rollup.last_t <= range.end);
        let rollups = from..to.max(from);
        let from = self.timestamps.partition_point(|t| *t <= range.start);
        let to = self.timestamps.partition_point(|t| *t <= range.end);
        let samples = from..to.max(from);
        let (all, up_to) = (rollups.len() + samples.len(), rollups.end + samples.end);
        (self.folded(rollups, samples).and_then(|fold| known.value(&fold, range)), all, up_to)
    }

    fn folded(&self, rollups: Span, samples: Span) -> Option<Rollup> {
        let rollups = self.rollups.get(rollups)?;
        let times = self.timestamps.get(samples.clone())?;
        let mut samples = times.iter().zip(self.values.get(samples)?).peekable();
        let mut fold = RollupFold::default();
        for rollup in rollups {
            while let Some((t, v)) = samples.next_if(|(t, _)| **t < rollup.first_t) {
                fold.push(&Rollup::of(*t, *v));
            }
            fold.push(rollup);
        }
        samples.for_each(|(t, v)| fold.push(&Rollup::of(*t, *v)));
        fold.finish()
    }
}

/// The first and last sample of each rollup, and a stale marker where one is known. Of windows longer than
/// a sample stands for its series, the last is repeated until the next, for a window at most.
fn newest_samples(
    series: &RolledUpSeries,
    held: &[Coarser],
    lookback: i64,
) -> Vec<(TimestampMs, f64)> {
    let mut samples = Vec::with_capacity(series.rollups.len());
    for (at, rollup) in series.rollups.iter().enumerate() {
        if rollup.count == 0 {
            samples.push((rollup.last_t, stale_nan()));
            continue;
        }
        if rollup.first_t < rollup.last_t {
            samples.push((rollup.first_t, rollup.first));
        }
        let coarser = held.iter().find(|c| c.start_ms < rollup.last_t && rollup.last_t <= c.end_ms);
        if let Some(coarser) = coarser {
            hold(&mut samples, (rollup.first_t, rollup.first), rollup.last_t, lookback);
            samples.push((rollup.last_t, rollup.last));
            let next = series.rollups.get(at + 1).map_or(TimestampMs::MAX, |next| next.first_t);
            let sample = series.timestamps.partition_point(|t| *t <= rollup.last_t);
            let next = series.timestamps.get(sample).map_or(next, |sample| next.min(*sample));
            let end = rollup.last_t.saturating_add(coarser.window_ms).min(next);
            if !rollup.is_ended {
                hold(&mut samples, (rollup.last_t, rollup.last), end, lookback);
            }
        } else {
            samples.push((rollup.last_t, rollup.last));
        }
        if rollup.is_ended {
            samples.push((rollup.last_t.saturating_add(1), stale_nan()));
        }
    }
    samples
}

/// Repeats a sample so that it stands for its series until `end`.
fn hold(
    samples: &mut Vec<(TimestampMs, f64)>,
    (t, v): (TimestampMs, f64),
    end: TimestampMs,
    lookback: i64,
) {
    let step = lookback.max(1);
    let times = (1..).map(|n: i64| t.saturating_add(n.saturating_mul(step)));
    let most = index(end.saturating_sub(t) / step);
    samples.extend(times.take(most).take_while(|at| *at < end).map(|at| (at, v)));
}
